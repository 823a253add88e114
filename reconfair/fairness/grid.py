"""The grid of both stages: every strategy of the reconstruction read by every reader.

A cell of the grid is a pair of row and column. Rows are what was read: the original, the noisy image, and the
reconstructions of one model by strategy. Columns are readers. All cells are seen for the same patients, so one
resample of patients serves them all, and differences between cells are paired.

The interaction of two interventions is taken on the groups' rates, where it is linear:
``I(r, d) = [M(r, d) - M(0, d)] - [M(r, 0) - M(0, 0)]``, 0 the standard. Of a gap between groups it has no interval,
because a gap is a range and not linear; it is printed as a number. For a gap, a positive interaction means that the
two interventions are redundant, a negative one that they help each other.

References
----------
Romano, Wolf. Stepwise multiple testing as formalized data snooping. Econometrica 2005 (largest studentised statistic).
Chernozhukov, Chetverikov, Kato. Gaussian approximations and multiplier bootstrap for maxima. Annals of Statistics 2013.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from . import metrics
from .cells import t_level
from .checks import task_of, tasks_of, traits_of
from .resampling import cohorts
from .rows import Panel, gap_of, shift_of
from .threshold import decisions

STANDARD = ("standard", "standard")
# By kind: the performance, the gap, and the linear measures of the interaction.
MEASURED = {"classify": ("auroc", "eodd", ("tpr", "fpr")), "segment": ("dice", "ser", ("dice",))}
INTERVALS = ("performance", "worst_group", "gap", "change", "gap_change", "added")


class Grid(NamedTuple):
    """What `grid` returns; ``draws`` holds gap and performance in resamples, (1 + B, C), by task and attribute."""

    cells: pd.DataFrame
    effects: pd.DataFrame
    draws: dict


def grid(
    predictions,
    cohort,
    *,
    attributes=("sex",),
    thresholds,
    eodd="mean",
    min_cases=20,
    resamples=1000,
    seed=0,
    watch=iter,
):
    """Performance and gap of every cell, how they change, and the interaction of the two stages.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As of `assess`, of the original, of the noisy image and of one reconstructor; ``strategy`` is the row, and
        ``reader`` the column. The standard strategy and the standard reader must be among them.
    cohort, attributes, thresholds, eodd, min_cases, resamples, seed, watch
        As of `assess`.

    Returns
    -------
    cells : pandas.DataFrame
        By ``task, attribute, row, reader``, with 95 % limits ``_low, _high``: ``performance`` of everyone (AUROC or
        Dice) and its ``change`` from (standard, standard); ``worst_group``, the lowest performance of a compared
        group; ``gap`` (EODD or SER), what would be ``expected`` of equal groups, and its ``gap_change``, of SER
        relative; ``brought``, the reader's gap on originals, and ``added``, the shift of the gap from there;
        ``interaction`` of the gap; ``front``, the share of resamples in which no other cell has a smaller gap and
        no lower performance, or a higher performance and no larger gap.
    effects : pandas.DataFrame
        By ``task, attribute, group, metric, effect, row, reader``: "change" from (standard, standard) and
        "interaction" of the group's TPR and FPR, or of its Dice, its standard error ``se`` between patients, and limits
        ``low, high`` that hold for all groups, measures and cells of an effect at once.
    draws : dict
        By task and attribute, ``cells``, the list of rows and readers, and their ``gap`` and ``performance`` in the
        same resamples of patients, (1 + resamples, C), the estimate first; ``relative``, whether changes of the gap
        are relative.

    Raises
    ------
    ValueError
        If the standard cell is missing, if there are two reconstructors, or if `predictions` are not as described.
    """
    sources = set(predictions["source"]) - {"original", "noisy"}
    if len(sources) != 1:
        raise ValueError(f"grid: expected the predictions of one reconstructor, not of {len(sources)}")
    (model,), cells, effects, drawn = sources, [], [], {}
    traits = traits_of(cohort, attributes)
    for name, rows in tasks_of(predictions, None).items():
        task = task_of(name, rows, traits)
        if (model, *STANDARD) not in task.arms:
            raise ValueError(f"grid: task '{name}' has no predictions of the standard strategy by the standard reader")
        called = decisions(task, thresholds)[1]
        patient = np.unique(task.patient, return_inverse=True)[1]
        weights = cohorts(patient.max() + 1, resamples=resamples, rng=np.random.default_rng(seed))
        everyone = Panel(task, called, "all", patient)
        for attribute in watch(list(attributes)):
            panel = Panel(task, called, attribute, patient)
            kept = np.flatnonzero(panel.cases(MEASURED[task.kind][0]) >= max(min_cases, 2))
            if kept.size >= 2:
                rows, drawn[name, attribute] = _cells(everyone, panel, kept, model, weights, eodd)
                cells.append(rows)
                effects.append(_effects(panel, kept, model, resamples, seed))
    tables = (pd.concat(some, ignore_index=True) if some else pd.DataFrame() for some in (cells, effects))
    return Grid(*tables, drawn)


def choose(cells, tolerance=0.02, rule="upper_limit"):
    """Cell with the least upper limit of the gap among those that perform nearly as well as the best.

    The rule is written before anyone looks at test patients, and is applied to those of the validation split.

    Parameters
    ----------
    cells : pandas.DataFrame
        Rows of `grid` of one task and attribute.
    tolerance : float
        How much lower than the best cell's the performance may be.
    rule : {"upper_limit", "estimate"}
        What must be least: the upper limit of the gap, or the gap itself.

    Returns
    -------
    tuple of str
        Row and reader. Ties go to the standard cell, then to the first.
    """
    reconstructed = cells[~cells["row"].isin(["original", "noisy"])]
    near = reconstructed[reconstructed["performance"] >= reconstructed["performance"].max() - tolerance]
    gap = near[{"upper_limit": "gap_high", "estimate": "gap"}[rule]]
    least = near[gap <= gap.min() + 1e-12]
    names = list(zip(least["row"], least["reader"], strict=True))
    return STANDARD if STANDARD in names else names[0]


def verdict(cells, chosen, validated, rivals=(), margin=0.0):
    """What one look at test patients says of the cell that was chosen on validation.

    Parameters
    ----------
    cells : pandas.DataFrame
        Rows of `grid` of one task and attribute, test patients.
    chosen : tuple of str
        Row and reader, from `choose`.
    validated : pandas.DataFrame
        The same rows of validation patients.
    rivals : sequence of tuple of str
        Cells that a gain must beat: placebos, and thresholds by group alone.
    margin : float
        How much the gap must fall with certainty; of SER, relative.

    Returns
    -------
    dict
        ``row, reader``; ``gap``, ``gap_validation`` and their difference ``shrinkage``, how far the winner's gap
        falls back; ``gap_change`` with limits; ``best_rival`` and its ``rival_gap``; ``verdict``: "standard" where
        no intervention was chosen, "better" where the limits of the change lie below minus the margin and every rival
        has a larger gap, else "not shown".
    """
    on = {(cell.row, cell.reader): cell for cell in cells.itertuples()}
    before = {(cell.row, cell.reader): cell for cell in validated.itertuples()}
    cell, others = on[chosen], [on[rival] for rival in rivals if rival in on and rival != chosen]
    rival = min(others, key=lambda other: other.gap, default=None)
    better = cell.gap_change_high < -margin and (rival is None or cell.gap < rival.gap)
    return {
        "row": cell.row,
        "reader": cell.reader,
        "gap": cell.gap,
        "gap_validation": before[chosen].gap,
        "shrinkage": cell.gap - before[chosen].gap,
        **{name: getattr(cell, name) for name in ("gap_change", "gap_change_low", "gap_change_high", "change")},
        "best_rival": "" if rival is None else f"{rival.row}, {rival.reader}",
        "rival_gap": np.nan if rival is None else rival.gap,
        "verdict": "standard" if chosen == STANDARD else "better" if better else "not shown",
    }


def replicated(draws):
    """Cells over trainings with several seeds: the mean, its limits, and where the variance comes from.

    The bootstrap has two levels: seeds are drawn with replacement, and for each the same resample of patients.

    Parameters
    ----------
    draws : list of dict
        ``draws`` of the same grid, trained with each seed.

    Returns
    -------
    pandas.DataFrame
        By ``task, attribute, row, reader, metric`` ("gap", "performance"; "gap_change" from the standard cell, "added"
        to the reader's gap on originals, both relative for SER): ``value``, the mean over ``seeds``, with 95 % limits
        ``low, high``; ``sd_seeds`` between trainings, ``sd_patients`` of one training, and ``share_seeds`` of both
        variances that is between seeds.
    """
    rows, rng = [], np.random.default_rng(0)
    for key in set.intersection(*(set(each) for each in draws)):
        cells = draws[0][key]["cells"]
        of_seeds = [_measured(each[key]) for each in draws]
        for metric in of_seeds[0]:
            values = np.stack([measured[metric] for measured in of_seeds])  # (S, 1 + B, C)
            seeds, resamples = values.shape[0], values.shape[1] - 1
            chosen = rng.integers(seeds, size=(resamples, seeds))
            means = values[chosen, np.arange(1, resamples + 1)[:, None]].mean(axis=1)
            for c in np.flatnonzero(~np.isnan(values[:, 0]).any(axis=0)):
                about = dict(zip(("task", "attribute", "row", "reader"), (*key, *cells[c]), strict=True))
                low, high = np.nanquantile(means[:, c], (0.025, 0.975))
                patients = np.nanvar(values[:, 1:, c], axis=1, ddof=1).mean()
                between = values[:, 0, c].var(ddof=1) if seeds > 1 else np.nan
                about |= {"metric": metric, "value": values[:, 0, c].mean(), "low": low, "high": high}
                about |= {"seeds": seeds, "sd_seeds": between**0.5, "sd_patients": patients**0.5}
                rows.append(about | {"share_seeds": _share(between, patients)})
    return pd.DataFrame(rows).sort_values(["task", "attribute", "metric"], kind="stable", ignore_index=True)


def shared_out(effects):
    """Effects of the first training, with the share of their variance that is between trainings.

    Parameters
    ----------
    effects : list of pandas.DataFrame
        ``effects`` of the same grid, trained with each seed.

    Returns
    -------
    pandas.DataFrame
        Rows of the first, with ``seeds``, and ``share_seeds`` of the variances between seeds and between patients (NaN
        of one training).
    """
    keys = ["task", "attribute", "group", "metric", "effect", "row", "reader"]
    if effects[0].empty:
        return effects[0]
    every = pd.concat(effects).groupby(keys, sort=False)
    both = pd.DataFrame(
        {"seeds": every.size(), "between": every.value.var(ddof=1), "patients": every.se.apply(_square)}
    )
    both["share_seeds"] = [_share(*pair) for pair in zip(both.between, both.patients, strict=True)]
    return effects[0].join(both[["seeds", "share_seeds"]], on=keys)


def front(gap, performance):
    """Which cells no other one beats: a smaller gap at no lower performance, or a higher one at no larger gap.

    Parameters
    ----------
    gap, performance : numpy.ndarray, shape (..., C)

    Returns
    -------
    numpy.ndarray of bool, shape (..., C)

    Examples
    --------
    >>> front(np.array([0.1, 0.2, 0.3]), np.array([0.8, 0.9, 0.85]))
    array([ True,  True, False])
    """
    fairer = gap[..., None, :] - gap[..., :, None]  # of the other, minus own
    better = performance[..., None, :] - performance[..., :, None]
    return ~((fairer <= 0) & (better >= 0) & ((fairer < 0) | (better > 0))).any(axis=-1)


def _measured(drawn):
    """Gap, performance and changes of every cell in resamples of patients, (1 + B, C), the estimate first."""
    cells, gap = drawn["cells"], drawn["gap"]

    def change(other):
        at = [cells.index(before) if before in cells and before != cell else -1 for cell, before in other]
        before = np.where(np.array(at) < 0, np.nan, gap[:, at])
        return gap / before - 1 if drawn["relative"] else gap - before

    from_standard = change([(cell, STANDARD) for cell in cells])
    added = change([(cell, ("original", cell[1])) for cell in cells])
    return {"gap": gap, "performance": drawn["performance"], "gap_change": from_standard, "added": added}


def _square(errors):
    return float((errors**2).mean())


def _share(between, patients):
    """Share of both variances that is between trainings; NaN where nothing varies."""
    return between / (between + patients) if between + patients > 0 else np.nan


def _cells(everyone, panel, kept, model, weights, eodd):
    """One row for each cell of a task and attribute, and its gap and performance in resamples."""
    main, gap, _ = MEASURED[panel.task.kind]
    arms, origin, rows = list(panel.task.arms), (model, *STANDARD), []
    # In resamples of patients, the estimate first, (1 + B, A).
    drawn = panel.drawn([name for name in panel.measures if name != "auprc"], weights)
    drawn = {name: values[:, :, kept] for name, values in drawn.items()}
    gaps = metrics.FAIRNESS[panel.task.kind][gap](drawn, combine=eodd)
    performance, worst = everyone.drawn([main], weights)[main][:, :, 0], drawn[main].min(axis=2)
    reconstructed = [a for a, arm in enumerate(arms) if arm[0] == model]
    on_front = dict(
        zip(reconstructed, front(gaps[1:, reconstructed], performance[1:, reconstructed]).mean(axis=0), strict=True)
    )
    values = {arm: gap_of(panel, arm, gap, kept, eodd) for arm in arms}
    names = [(arm[1] if arm[0] == model else arm[0], arm[2]) for arm in arms]  # what was read, and by whom
    for a, arm in enumerate(arms):
        row = {"task": panel.task.name, "attribute": panel.attribute, "row": names[a][0], "reader": arm[2]}
        row |= {"performance_metric": main, "gap_metric": gap, "front": on_front.get(a, np.nan)}
        row |= _of_everyone("performance", everyone.measure(arm, main).cells)
        low, high = np.nanquantile(worst[1:, a], (0.025, 0.975))
        row |= {"worst_group": worst[0, a], "worst_group_low": low, "worst_group_high": high}
        here = values[arm]
        row |= {"gap": here["value"], "gap_low": here["low"], "gap_high": here["high"], "expected": here["expected"]}
        read = ("original", "standard", arm[2])
        row |= {"brought": values[read]["value"]} if read in values else {}
        row |= _of_everyone("change", everyone.change(arm, origin, main)) if arm != origin else {}
        for name, other in (("gap_change", origin), ("added", read)):
            moved = shift_of(panel, arm, other, gap, kept, eodd) if other in values and other != arm else {}
            row |= {number.replace("shift", name): moved[number] for number in moved if number.startswith("shift")}
        corners = [arm, (model, "standard", arm[2]), (model, arm[1], "standard"), origin]
        if arm[0] == model and all(corner in values for corner in corners):
            both, reader, strategy, neither = (values[corner]["value"] for corner in corners)
            row["interaction"] = both - reader - strategy + neither
        rows.append(row)
    limits = [f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high")]
    first = ["task", "attribute", "row", "reader", "performance_metric", "gap_metric"]
    table = pd.DataFrame(rows).reindex(columns=[*first, *limits, "expected", "brought", "interaction", "front"])
    return table, {"cells": names, "gap": gaps, "performance": performance, "relative": gap == "ser"}


def _effects(panel, kept, model, resamples, seed):
    """Changes and interactions of the groups' linear measures, with limits that hold for all of an effect at once."""
    origin, tables = (model, *STANDARD), []
    arms = [arm for arm in panel.task.arms if arm[0] == model]
    for effect in ("change", "interaction"):
        entries, estimates, residuals, floors = [], [], [], []
        for arm in arms:
            corners = _corners(effect, arm, origin)
            if not all(corner in panel.task.arms for corner, _ in corners) or arm == origin:
                continue
            for name in MEASURED[panel.task.kind][2]:
                measures = [(panel.measure(corner, name), sign) for corner, sign in corners]
                estimates.append(sum(sign * measure.cells.value for measure, sign in measures)[kept])
                residuals.append(sum(sign * measure.residual for measure, sign in measures))
                # Least variance of a difference of rates: one unit of a group that could have flipped either way.
                units = 1 / np.maximum(panel.units.sums(measures[0][0].share ** 2), 1e-12)[kept]
                floors.append(1 / units**2 if name in ("tpr", "fpr") else np.zeros(kept.size))
                entries += [(panel.names[g], name, effect, arm[1], arm[2]) for g in kept]
        if entries:
            floors = np.array(floors)
            low, high, se = _simultaneous(panel, kept, np.array(estimates), residuals, floors, resamples, seed)
            keys = pd.DataFrame(entries, columns=["group", "metric", "effect", "row", "reader"])
            tables.append(keys.assign(value=np.ravel(estimates), se=se.ravel(), low=low.ravel(), high=high.ravel()))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    keys = pd.DataFrame({"task": panel.task.name, "attribute": panel.attribute}, table.index)
    return pd.concat([keys, table], axis=1)


def _corners(effect, arm, origin):
    """Arms whose signed sum is the effect."""
    if effect == "change":
        return [(arm, 1), (origin, -1)]
    if "standard" in arm[1:]:
        return [(("", "", ""), 1)]  # no interaction: only one stage intervenes
    return [(arm, 1), ((arm[0], "standard", arm[2]), -1), ((arm[0], arm[1], "standard"), -1), (origin, 1)]


def _simultaneous(panel, kept, estimates, residuals, floors, resamples, seed):
    """Limits of all estimates by the largest studentised sum of residuals times normal draws; their errors; (E, K)."""
    count = np.array([panel.units.sums((residual != 0) * 1.0) for residual in residuals])[:, kept]
    n = panel.units.sums(np.ones(panel.units.group.size))[kept]
    scaled = np.stack(residuals, axis=1)  # (P, E)
    variance = np.stack([panel.units.sums(column**2)[kept] for column in scaled.T]) * n / np.maximum(n - 1, 1)
    se = np.sqrt(variance + floors)
    se = np.where(se > 1e-12, se, np.nan)  # all patients alike: no width is not certainty
    rng, largest = np.random.default_rng(seed), np.zeros(resamples)
    for g, k in enumerate(kept):
        inside = panel.units.group == k
        moved = rng.normal(size=(resamples, inside.sum())) @ scaled[inside] * np.sqrt(n[g] / max(n[g] - 1, 1))
        free = np.sqrt(floors[:, g]) * rng.normal(size=(resamples, len(residuals)))
        largest = np.fmax(largest, np.fmax.reduce(np.abs(moved + free) / se[:, g], axis=1))
    critical = max(np.quantile(largest, 0.95), stats.norm.ppf(0.975))
    # The normal draws know the variance, the data only estimate it from the patients that differ.
    factor = t_level(critical, np.maximum(np.minimum(count, n) - 1, 3)) / critical
    half = critical * factor * se
    return estimates - half, estimates + half, se


def _of_everyone(name, cells):
    """Value and 95 % limits of the one group of everyone."""
    low, high = cells.limits(stats.norm.ppf(0.975))
    return {name: cells.value[0], f"{name}_low": low[0], f"{name}_high": high[0]}
