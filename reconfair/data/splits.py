"""Groups and splits: what is derived from a cohort's own columns."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats.contingency import association, chi2_contingency
from statsmodels.stats.proportion import proportion_confint

from reconfair.fairness.checks import in_order
from reconfair.keyed import generator

MERGED = ("American Indian/Alaska Native", "Native Hawaiian/Pacific Islander")
GOLDEN = (np.sqrt(5) - 1) / 2


def names(parted: bool) -> tuple[str, ...]:
    """Names of the splits; radiographs part the training patients between reconstruction and diagnosis."""
    return ("train_recon", "train_diag", "val", "test") if parted else ("train", "val", "test")


def derive(table: pd.DataFrame, boundary: float | None = None) -> pd.DataFrame:
    """Add ``age_group`` and ``race_merged``; what is missing stays missing.

    Younger means at or below `boundary` in years, by default the median age over the patients of the
    whole dataset. Two groups too small to compare join Other in ``race_merged``, as in the paper's appendix.
    """
    boundary = table.groupby("patient_id").age.first().median() if boundary is None else boundary
    age_group = pd.Series(np.where(table.age <= boundary, "younger", "older"), table.index, dtype="str")
    return table.assign(
        age_group=age_group.where(table.age.notna()),
        race_merged=table.race.replace(dict.fromkeys(MERGED, "Other")),
    )


def by_class(table: pd.DataFrame, about) -> pd.DataFrame:
    """Replace the column of a task of several classes, which holds their numbers, by one column of 0 and 1 for each.

    Examples
    --------
    >>> from reconfair.params import About
    >>> about = About("mri", "image", {"dx": "classify"}, classes={"dx": ("nv", "mel", "bcc")})
    >>> by_class(pd.DataFrame({"dx": [1.0, 0.0, np.nan]}), about)["dx: mel"].tolist()
    [1.0, 0.0, nan]
    """
    for task, names in about.classes.items():
        number = table[task]
        columns = {f"{task}: {name}": (number == k).astype(float).where(number.notna()) for k, name in enumerate(names)}
        table = table.drop(columns=task).assign(**columns)
    return table


def assign(table: pd.DataFrame, shares: tuple[float, ...], seed: int, parted: bool) -> pd.DataFrame:
    """Add ``split``: by patient, seeded, stratified over the joint attribute group.

    Parameters
    ----------
    table : DataFrame
        With ``patient_id``, ``sex``, ``age_group`` and ``race``.
    shares : tuple of float
        Of train, val and test; adding up to 1.
    seed : int
        Another seed gives another split.
    parted : bool
        Whether 70 % of the training patients train the reconstruction and 30 % the diagnosis.
    """
    rank = _ranks(table, seed, "split")
    train, val, test = shares
    edges = np.cumsum([0.7 * train, 0.3 * train, val, test] if parted else [train, val, test])
    which = np.searchsorted(edges[:-1] * len(rank), rank)
    chosen = pd.Series(np.array(names(parted))[which], rank.index)
    return table.assign(split=table.patient_id.map(chosen))


def fold(table: pd.DataFrame, number: int, seed: int) -> pd.DataFrame:
    """Add ``fold``, from 1 to `number`: by patient, seeded, and stratified as `assign` does.

    Examples
    --------
    >>> rows = {"patient_id": list("abcdef"), "sex": list("ffmfmm"), "age_group": None, "race": None}
    >>> fold(pd.DataFrame(rows), 3, seed=0).fold.value_counts().sort_index().to_dict()
    {1: 2, 2: 2, 3: 2}
    """
    rank = _ranks(table, seed, "folds")
    return table.assign(fold=table.patient_id.map((rank * number / len(rank)).astype(int) + 1))


def within(table: pd.DataFrame, number: int, shares: tuple[float, ...], seed: int, parted: bool) -> pd.DataFrame:
    """A cohort as fold `number` sees it, in ``split``: its patients are tested; the others train and validate.

    Images that are never tested (``train`` in the whole cohort) are ``unused`` where their patients do not train.

    Parameters
    ----------
    table : DataFrame
        With ``fold``, and ``split`` (``test`` or ``train``).
    number : int
    shares : tuple of float
        As in `assign`; what train and val share is in this proportion.
    seed, parted
        As in `assign`.
    """
    train, val, _ = shares
    tested = table.fold == number
    others = table[~tested]
    if len(others):
        others = assign(others, (train / (train + val), val / (train + val), 0.0), seed, parted)
    split = pd.Series("test", table.index).where(tested, others.split)
    return table.assign(split=split.mask((table.split == "train") & ~split.str.startswith("train"), "unused"))


def _ranks(table: pd.DataFrame, seed: int, what: str) -> pd.Series:
    """Places of the patients, 0.5 to n - 0.5, such that any run of them has about the same share of every joint group.

    Patients are sorted by joint group, at random within it, and numbered; the fractional parts of
    the multiples of the golden ratio spread any run of numbers evenly over [0, 1), so each group is
    shared out in nearly the same proportions and the whole in exactly those.
    """
    patients = table.groupby("patient_id", sort=True)[["sex", "age_group", "race"]].first().astype(object)
    patients = patients.fillna("unknown")
    stratum = patients.sex + "/" + patients.age_group + "/" + patients.race
    rng = generator(seed, what)
    order = np.lexsort([rng.random(len(patients)), stratum])
    place = np.empty(len(patients))
    place[order] = (np.arange(len(patients)) * GOLDEN + rng.random()) % 1
    return pd.Series(place.argsort().argsort() + 0.5, patients.index)


def counts(table: pd.DataFrame, attributes) -> pd.DataFrame:
    """Patients by attribute, group and split; a missing attribute is counted as ``not recorded``."""
    patients = table.drop_duplicates("patient_id")[["patient_id", "split", *attributes]]
    long = patients.melt(["patient_id", "split"], list(attributes), "attribute", "group")
    long["group"] = long["group"].fillna("not recorded")
    counted = long.groupby(["attribute", "group", "split"], sort=False).size().rename("patients")
    everyone = long[["attribute", "group"]].drop_duplicates().merge(long[["split"]].drop_duplicates(), "cross")
    return everyone.merge(counted.reset_index(), "left").fillna({"patients": 0}).astype({"patients": int})


def losses(table: pd.DataFrame, skipped: pd.DataFrame, attributes) -> pd.DataFrame:
    """Images by attribute and group that were to be in the cohort, and how many of them could not be read.

    Parameters
    ----------
    table, skipped : DataFrame
        The cohort, and the images that are not in it.
    attributes : sequence of str
    """
    columns = ["image_id", *attributes]
    everything = pd.concat([table[columns].assign(lost=0), skipped[columns].assign(lost=1)], ignore_index=True)
    long = everything.melt(["image_id", "lost"], list(attributes), "attribute", "group")
    long["group"] = long["group"].fillna("not recorded")
    counted = long.groupby(["attribute", "group"], sort=False).lost.agg(images="size", skipped="sum").reset_index()
    return counted.assign(share=counted.skipped / counted.images)


def prevalence(table: pd.DataFrame, tasks, attributes, unit: str) -> pd.DataFrame:
    """Share of positive units by task and group, with the 95 % Wilson interval.

    Parameters
    ----------
    table : DataFrame
        A cohort.
    tasks, attributes : sequence of str
    unit : {"patient", "image"}
        What is counted.
    """
    labelled = table.groupby(f"{unit}_id", sort=False)[list({*tasks, *attributes})]
    units, counted = labelled.first(), [pd.DataFrame(columns=["task", "attribute", "group", "sum", "count"])]
    for task in tasks:  # a task may be called as any of our columns
        for attribute in attributes:
            known = units[[task, attribute]].dropna().set_axis(["sum", "group"], axis=1)
            groups = known.groupby("group", sort=False)["sum"].agg(["sum", "count"]).reset_index()
            counted.append(groups.assign(task=task, attribute=attribute))
    rates = pd.concat(counted[1:] or counted, ignore_index=True)[["task", "attribute", "group", "sum", "count"]]
    low, high = proportion_confint(rates["sum"], rates["count"], method="wilson")
    share = rates["sum"] / rates["count"]
    return rates.assign(share=share, low=np.minimum(low, share), high=np.maximum(high, share))  # but for rounding


def groups_of(table: pd.DataFrame, attribute: str) -> pd.Series:
    """Group of each row; of ``sex*race`` the intersections of both; missing where one of them is."""
    columns = [table[word] for word in attribute.split("*")]
    joined = columns[0].astype("str").str.cat([column.astype("str") for column in columns[1:]], sep=", ")
    return joined.where(table[attribute.split("*")].notna().all(axis=1))


def cases(table: pd.DataFrame, tasks, attributes) -> pd.DataFrame:
    """Patients by group: of each split, and of the test split by task those with label 1 and with label 0.

    Returns
    -------
    DataFrame
        ``attribute, group``, a column for each split and, of each task, ``<task> 1/0`` such as ``12/40``.
    """
    rows = []
    for attribute in attributes:
        groups = groups_of(table, attribute).fillna("not recorded")
        patients = table.groupby([groups, "split"]).patient_id.nunique().unstack(fill_value=0)
        for group in in_order(patients.index):
            test = table[(groups == group) & (table.split == "test")]
            number = {task: [test[test[task] == label].patient_id.nunique() for label in (1, 0)] for task in tasks}
            labels = {f"{task} 1/0": f"{one}/{nil}" for task, (one, nil) in number.items()}
            in_split = {
                split: patients.at[group, split] for split in names("train" not in patients) if split in patients
            }
            rows.append({"attribute": attribute, "group": group, **in_split, **labels})
    return pd.DataFrame(rows)


def too_few(table: pd.DataFrame, task: str, attribute: str, min_cases: int, split: str = "test") -> str:
    """Which groups have too few patients to be compared, in words; empty where all have enough.

    Parameters
    ----------
    table : DataFrame
        A cohort.
    task : str
        Of classification; empty: patients count whatever their labels.
    attribute : str
    min_cases : int
        Patients of each label that a group needs.
    split : str
    """
    rows = table[table.split == split].assign(group=groups_of(table, attribute)).dropna(subset="group")
    patients = {
        group: min(len(set(who.patient_id[who[task] == label])) for label in (0, 1))
        if task
        else who.patient_id.nunique()
        for group, who in rows.groupby("group")
    }
    few = [f"{group} ({n})" for group, n in patients.items() if n < min_cases]
    if not few:
        return ""
    needed = f"patients{' of each label' * bool(task)} in {split}"
    enough = len(patients) - len(few)
    rest = "nothing is left to compare" if enough < 2 else f"{enough} groups are compared"
    return f"left out are groups with fewer than {min_cases} {needed}: {'; '.join(few)}. {rest.capitalize()}"


def associations(patients: pd.DataFrame, columns) -> pd.DataFrame:
    """What goes together with what: Cramér's V of every two columns, the strongest first.

    Parameters
    ----------
    patients : DataFrame
        One row per patient.
    columns : sequence of str
        Of few values each, such as attributes, labels, site or view; missing values are left out.

    Returns
    -------
    DataFrame
        Rows ``one, other, v`` (0: independent, 1: each tells the other), ``expected``, about what V would be
        by chance among so many patients, ``p`` (chi-squared) and ``patients``.

    Examples
    --------
    >>> patients = pd.DataFrame({"sex": ["f", "f", "m", "m"] * 9, "view": ["AP", "AP", "PA", "PA"] * 9})
    >>> associations(patients, ["sex", "view"])[["one", "other", "v"]].round(6).values.tolist()
    [['sex', 'view', 1.0]]
    """
    rows = []
    for one, other in combinations(columns, 2):
        table = pd.crosstab(patients[one], patients[other])
        if min(table.shape) > 1:
            tested, n = chi2_contingency(table, correction=False), table.to_numpy().sum()
            chance = np.sqrt(tested.dof / n / (min(table.shape) - 1))
            v = association(table, method="cramer")
            rows.append({"one": one, "other": other, "v": v, "expected": chance, "p": tested.pvalue, "patients": n})
    return pd.DataFrame(rows, columns=["one", "other", "v", "expected", "p", "patients"]).sort_values(
        "v", ascending=False, ignore_index=True
    )


def examples(table: pd.DataFrame, attributes, each: int) -> dict[str, list[int]]:
    """Rows of the middle image of the first `each` patients of every joint group that has so many."""
    images = table.groupby("patient_id").image_id
    middle = table[images.cumcount() == images.transform("size") // 2].dropna(subset=list(attributes))
    groups = middle.groupby(list(attributes))
    return {", ".join(group): list(rows.index[:each]) for group, rows in groups if len(rows) >= each}
