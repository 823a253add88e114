"""How many patients of each group does a claim need? Answered by simulating studies and judging them.

A design says what is expected of each group: TPR, FPR, prevalence, how many decisions two sources
disagree on, images a patient, and how alike those are. It is stated (`design`) or measured on a study's
predictions (`measured`). `plan` draws studies of growing size from it and judges them with the
product's own limits, so that a plan holds for the analysis that will be done.
"""

import numpy as np
import pandas as pd
from scipy import stats

from . import gaps
from .cells import Groups
from .checks import task_of, tasks_of, traits_of
from .threshold import decisions

AIMS = ("kept", "shift", "unequal")
COLUMNS = ("tpr", "fpr", "prevalence", "discordance", "images", "clustering")
SIZES = (25, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200, 4800, 6400)


def design(groups, *, tpr=0.8, fpr=0.2, prevalence=0.2, discordance=0.05, images=1.0, clustering=0.3):
    """State what is expected of each group.

    Parameters
    ----------
    groups : sequence of str
    tpr, fpr, prevalence : float or dict of float
        The same for all groups, or by group, within (0, 1).
    discordance : float or dict of float
        Share of decisions that differ between the two sources though no rate changes, in [0, 1).
    images : float or dict of float
        Mean images a patient, at least 1.
    clustering : float or dict of float
        Intra-class correlation of decisions within a patient, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        By group.

    Raises
    ------
    ValueError
        Naming the group and the number that is out of range.

    Examples
    --------
    >>> design(["f", "m"], tpr={"f": 0.75, "m": 0.85}).loc["f", ["tpr", "fpr"]].tolist()
    [0.75, 0.2]
    """
    given = {"tpr": tpr, "fpr": fpr, "prevalence": prevalence, "discordance": discordance, "images": images}
    given["clustering"] = clustering
    groups = list(groups)
    for key, value in given.items():
        if isinstance(value, dict) and set(value) != set(groups):
            raise ValueError(f"{key}: {', '.join(value)} are given, and the groups are {', '.join(groups)}")
    table = pd.DataFrame({name: pd.Series(value, list(groups), dtype=float) for name, value in given.items()})
    return _checked(table[list(COLUMNS)])


def measured(predictions, cohort, *, task, attribute, thresholds, source, clustering=0.3):
    """Measure a design on a study: rates of the originals, and how often a source decides otherwise.

    Parameters
    ----------
    predictions, cohort : pandas.DataFrame
        As in `reconfair.fairness.assess`.
    task, attribute, source : str
    thresholds : dict
    clustering : float

    Returns
    -------
    pandas.DataFrame
        By group; rates are moved half a case away from 0 and 1. The discordance is that of both labels together, as
        far as decisions can turn both ways alike at these rates.
    """
    tasks = tasks_of(predictions, None)
    if task not in tasks:
        raise ValueError(f"task '{task}' is not in predictions; there is {', '.join(tasks)}")
    rows = task_of(task, tasks[task], traits_of(cohort, [attribute]))
    arms = {arm[0]: called for arm, called in decisions(rows, thresholds)[1].items() if arm[1:] == ("standard",) * 2}
    for name in ("original", source):
        if name not in arms:
            raise ValueError(f"task '{task}': source '{name}' is missing; there is {', '.join(arms)}")
    table = pd.DataFrame({"group": rows.groups[attribute], "patient": rows.patient, "label": rows.label})
    table = table.assign(before=arms["original"], differs=arms["original"] != arms[source]).dropna(subset="group")
    rates = {}
    for group, some in table.groupby("group"):
        rate = [(some.before[some.label == y].sum() + 0.5) / ((some.label == y).sum() + 1) for y in (1, 0)]
        rates[group] = [*rate, some.label.mean(), some.differs.mean(), len(some) / some.patient.nunique(), clustering]
    table = pd.DataFrame(rates, list(COLUMNS)).T
    return _checked(table.assign(discordance=table.discordance.clip(upper=_most(table))))


def plan(
    expected,
    *,
    aim="kept",
    size=0.05,
    power=0.8,
    tests=1,
    min_cases=20,
    patients=SIZES,
    studies=200,
    seed=0,
    watch=iter,
):
    """Power of a claim by the number of patients in each group.

    Parameters
    ----------
    expected : pandas.DataFrame
        A `design`.
    aim : {"kept", "shift", "unequal"}
        Show that no group's TPR fell by `size` or more, when no rate changes; or that EODD grew ("shift"), or
        that groups changed unequally, when TPR falls and FPR rises by `size` in the group that is served worst.
    size : float
        Margin, or change, in (0, 1).
    power : float
        Wanted share of studies in which the claim is made.
    tests : int
        How many tasks and sources the primary family holds; the limits of groups hold for all of them.
    min_cases : int
        As in `reconfair.fairness.assess`: a study in which a group has fewer patients of a label that is needed makes
        no claim.
    patients : sequence of int
        Patients of each group that are tried, ascending; the search stops at the first that is enough.
    studies, seed : int
        Simulated studies for each.
    watch : callable
        Takes the numbers of patients and yields them, such as ``tqdm.tqdm``, which shows the time left.

    Returns
    -------
    pandas.DataFrame
        By ``patients`` of each group: ``power`` and its Monte-Carlo ``error``, and whether it is ``enough``.

    Raises
    ------
    ValueError
        `aim` is none of these, or a rate cannot change by `size`.

    Examples
    --------
    >>> plan(design(["f", "m"], discordance=0.0), size=0.1, patients=[50, 800], studies=20)["enough"].tolist()
    [False, True]
    """
    if aim not in AIMS:
        raise ValueError(f"aim must be one of {', '.join(AIMS)}, not {aim!r}")
    for name, value in (("size", size), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value:g}, expected a number above 0 and below 1")
    if studies < 1:
        raise ValueError(f"studies is {studies}, expected 1 or more")
    if expected.index.has_duplicates:
        raise ValueError(f"groups are {', '.join(map(str, expected.index))}, expected different ones")
    worst = (expected["tpr"] - expected["fpr"]).to_numpy().argmin()
    lost = np.zeros((2, len(expected)))
    if aim != "kept":
        lost[:, worst] = -size, size
        rates = expected[["tpr", "fpr"]].to_numpy()[worst] + lost[:, worst]
        if rates.min() <= 0 or rates.max() >= 1:
            raise ValueError(f"size is {size}, expected a change that group '{expected.index[worst]}' can make")
    rows = []
    for n in watch(list(patients)):
        rng = np.random.default_rng([seed, n])
        share = np.mean([_claimed(_draw(rng, expected, n, lost), aim, size, tests, min_cases) for _ in range(studies)])
        error = np.sqrt(max(share * (1 - share), 1 / studies) / studies)
        rows.append({"patients": n, "power": share, "error": error, "enough": bool(share >= power)})
        if rows[-1]["enough"]:
            break
    return pd.DataFrame(rows)


def needed(table, power=0.8):
    """Patients of each group at which the wanted power is reached, interpolated; infinite if none is enough.

    Examples
    --------
    >>> needed(pd.DataFrame({"patients": [100, 200], "power": [0.7, 0.9], "enough": [False, True]}))
    150
    """
    if not table["enough"].any():
        return float("inf")
    return int(np.ceil(np.round(np.interp(power, np.maximum.accumulate(table["power"]), table["patients"]), 6)))


def advice(table, *, aim="kept", size=0.05, power=0.8):
    """The result of `plan` in one sentence.

    Examples
    --------
    >>> advice(pd.DataFrame({"patients": [100, 200], "power": [0.7, 0.9], "error": 0.03, "enough": [False, True]}))
    'About 150 patients of each group are needed to show that no TPR fell by 0.05 or more, with 80 % power.'
    """
    claims = {
        "kept": f"show that no TPR fell by {size:g} or more",
        "shift": f"show that EODD grew, if it grew by {size:g}",
        "unequal": f"show that groups changed unequally, if one group's rates became worse by {size:g}",
    }
    number = needed(table, power)
    if np.isinf(number):
        last = table.iloc[-1]
        start = f"More than {last.patients:.0f} patients of each group are needed to {claims[aim]}"
        return f"{start}: with so many the power is {100 * last.power:.0f} %."
    return f"About {number} patients of each group are needed to {claims[aim]}, with {100 * power:.0f} % power."


def _checked(table):
    """The design, if every number is in range."""
    inside = (table > 0) & (table < 1)
    inside["images"], inside["discordance"] = table["images"] >= 1, table["discordance"].between(0, 1, inclusive="left")
    if not inside.all(axis=None):
        group, column = inside.stack()[lambda good: ~good].index[0]
        expected = {"images": "1 or more", "discordance": "0 to below 1"}.get(column, "above 0 and below 1")
        raise ValueError(f"group '{group}': {column} is {table.loc[group, column]:g}, expected {expected}")
    beyond = table["discordance"] > _most(table) + 1e-9
    if beyond.any():
        group = beyond.idxmax()
        raise ValueError(
            f"group '{group}': discordance is {table.discordance[group]:g}, but with these rates at most "
            f"{_most(table)[group]:g} of the decisions can turn both ways alike"
        )
    return table


def _most(table):
    """Largest discordance by group at which as many decisions turn one way as the other, for each label."""
    rates = table[["tpr", "fpr"]]
    return 2 * np.minimum(rates, 1 - rates).min(axis=1)


def _draw(rng, expected, patients, change):
    """One study: label, patient, group, and decisions on the original and on the source."""
    group = np.repeat(np.arange(len(expected)), patients)
    images, prevalence, clustering, discordance = (
        expected[name].to_numpy()[group] for name in ("images", "prevalence", "clustering", "discordance")
    )
    patient = np.repeat(np.arange(group.size), 1 + rng.poisson(images - 1))

    def effect(mean):  # rates of patients around the mean of their group, constant within a patient
        spread = (1 - clustering) / clustering
        mean = np.clip(mean, 1e-6, 1 - 1e-6)
        return rng.beta(mean * spread, (1 - mean) * spread)[patient]

    label = (rng.random(patient.size) < rng.beta(2 * prevalence, 2 * (1 - prevalence))[patient]).astype(int)
    before, after = np.zeros((2, patient.size), bool)
    for k, (name, y) in enumerate((("tpr", 1), ("fpr", 0))):
        rate, turn = expected[name].to_numpy()[group], discordance / 2
        rows = label == y
        first = rng.random(patient.size) < effect(rate)
        gain, loss = turn + np.maximum(change[k][group], 0), turn + np.maximum(-change[k][group], 0)
        turned = np.where(first, effect(loss / rate), effect(gain / (1 - rate))) > rng.random(patient.size)
        before[rows], after[rows] = first[rows], (first ^ turned)[rows]
    return label, patient, group, before, after


def _claimed(study, aim, size, tests, min_cases):
    """Whether a study makes the claim."""
    label, patient, group, before, after = study
    groups = group.max() + 1
    for y in (1,) if aim == "kept" else (1, 0):
        if np.bincount(group[np.unique(patient[label == y])], minlength=groups).min() < min_cases:
            return False
    if len(np.unique(2 * group[patient] + label)) < 2 * groups:
        return False
    units = Groups(patient, group, list(range(groups)))
    changed = [units.rate_change(after, before, label == y) for y in (1, 0)]
    if aim == "kept":
        level = 0.95 ** (1 / (2 * groups * tests))
        return bool((changed[0].limits(stats.norm.ppf(level))[0] > -size).all())
    old, new = ([units.rate(called, label == y) for y in (1, 0)] for called in (before, after))
    residuals = [[one.residual for one in some] for some in (old, new)]
    residuals.append([b - a for a, b in zip(*residuals, strict=True)])
    correlations = [units.correlation(*pair) for pair in residuals]
    moved = gaps.shift([one.cells for one in old], [one.cells for one in new], changed, correlations)
    return bool(moved["shift_low"] > 0 if aim == "shift" else moved["p_unequal"] <= 0.05)
