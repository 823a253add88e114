"""Who is served worse, and whether a source changes that: `assess` turns predictions into tables.

The room imports NumPy, SciPy and pandas only and nothing else of the package.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .metrics import FAIRNESS, PERFORMANCE, membership
from .resampling import bootstrap, interval, shift

__all__ = ["assess"]

_KEYS = ["unit", "patient_id", "source", "strategy"]
_COLUMNS = {"classify": ["label", "score"], "segment": ["dice"], "image": ["psnr", "ssim"]}
_VALID = {
    "label": ("0, 1 or NaN", lambda v: v.isna() | v.isin([0, 1])),
    "score": ("0 to 1", lambda v: v.between(0, 1)),
    "dice": ("0 to 1 or NaN", lambda v: v.isna() | v.between(0, 1)),
    "psnr": ("decibels or NaN", lambda v: v.isna() | (v > -np.inf)),
    "ssim": ("-1 to 1 or NaN", lambda v: v.isna() | v.between(-1, 1)),
}
_ORIGINAL = ("original", "standard")
_SHIFT = {
    "shift": "value",
    "shift_percent": "percent",
    "shift_low": "low",
    "shift_high": "high",
    "shift_se": "se",
    "p": "p",
}
_SHIFT_STANDARD = {
    "shift_standard": "value",
    "shift_standard_low": "low",
    "shift_standard_high": "high",
    "shift_standard_p": "p",
}


def assess(
    predictions,
    cohort,
    *,
    quality=None,
    attributes=("sex", "age_group", "race"),
    thresholds,
    eodd="mean",
    min_cases=20,
    resamples=1000,
    seed=0,
):
    """Performance by group, disparity between groups, and its shift against the originals.

    Inference is the paper's: a bootstrap of patients, the same resamples for every source of a
    task. Its limits for disparities are in `reconfair.fairness.resampling`; read them first.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per unit, task, source and strategy: ``unit, patient_id, task, kind`` ("classify"
        or "segment"), ``source, strategy`` ("standard" where nothing mitigates), ``label`` (0, 1,
        NaN unknown), ``score`` (0 to 1; classify), ``dice`` (0 to 1; segment; NaN where truth
        and prediction are empty).
    cohort : pandas.DataFrame
        One row per image with ``patient_id`` and the attributes, constants of a patient.
    quality : pandas.DataFrame, optional
        ``image_id, patient_id, source, strategy, psnr`` (dB), ``ssim``; becomes task "image".
    attributes : sequence of str
    thresholds : dict of float
        By task; a score at or above it is called positive.
    eodd : {"mean", "worst_case"}
    min_cases : int
        Patients of each label (segment, image: with a value in every source) without which a
        group is left out of comparisons.
    resamples, seed : int

    Returns
    -------
    performance : pandas.DataFrame
        By ``task, source, strategy, attribute, group`` ("all" for everyone) and ``metric``:
        ``value``, 95 % interval ``low, high``, ``se``; units ``n``, ``patients``, ``positives``,
        and units ``missing`` for want of label or attribute.
    fairness : pandas.DataFrame
        By ``task, source, strategy, attribute, metric``: ``value, low, high, se``; ``shift`` from
        the original, ``shift_percent`` of the original's value, ``shift_low, shift_high,
        shift_se, p``; ``shift_standard`` from the unmitigated strategy of the same source, with
        ``_low, _high, _p``; ``n_smallest`` patients of the rarer label in the smallest compared
        group; ``groups`` compared, those ``left_out`` with patients of their rarer label;
        ``missing``; ``B`` resamples that gave a value. NaN where there is nothing to compare.

    Raises
    ------
    ValueError
        Naming the row, patient, unit, column or task that is not as described.
    """
    traits = _traits(cohort, attributes)
    performance, fairness = [], []
    for name, rows in _tasks(predictions, quality).items():
        task = _task(name, rows, traits, thresholds)
        draws = bootstrap(task.statistics, patient=task.patient, resamples=resamples, seed=seed)
        performance += _performance(task, draws)
        for attribute in attributes:
            fairness += _fairness(task, draws, attribute, min_cases, eodd)
    return pd.DataFrame(performance), pd.DataFrame(fairness)


@dataclass(frozen=True)
class _Task:
    """Units of one task, in the same order in every arm (a source with a strategy)."""

    name: str
    kind: str
    arms: dict  # (source, strategy): {column: (n,) array}
    patient: np.ndarray  # (n,) codes from 0
    groups: list  # (attribute, group)
    member: np.ndarray  # (n, groups) bool
    unlabelled: int  # units left out for want of a label

    def statistics(self, weights):
        """Every metric in every arm and group, (B, groups), keyed by arm and metric."""
        return {
            (arm, metric): function(columns, weights=weights, member=self.member)
            for arm, columns in self.arms.items()
            for metric, function in PERFORMANCE[self.kind].items()
        }

    def columns_of(self, attribute):
        """Columns of the groups of an attribute."""
        return [k for k, group in enumerate(self.groups) if group[0] == attribute]

    def missing(self, attribute):
        """Units that do not enter the analysis of `attribute`."""
        return self.unlabelled + int((~self.member[:, self.columns_of(attribute)].any(axis=1)).sum())

    def cases(self):
        """Patients by group: those of the rarer label, or those with a value in every arm."""
        first = np.unique(self.patient, return_index=True)[1]
        arms = list(self.arms.values())
        if self.kind == "classify":
            carriers = [self._carriers(arms[0]["label"] == label) for label in (0, 1)]
        else:
            valued = [self._carriers(np.isfinite(arm[value])) for arm in arms for value in _COLUMNS[self.kind]]
            carriers = [np.min(valued, axis=0)]
        return np.min(carriers @ self.member[first].astype(int), axis=0)

    def _carriers(self, rows):
        """Which patients have one of the `rows`, as 0 and 1."""
        return (np.bincount(self.patient, rows) > 0).astype(int)


def _performance(task, draws):
    """Rows of the performance table."""
    missing = [task.missing(attribute) for attribute, _ in task.groups]
    for ((source, strategy), metric), values in draws.items():
        columns = task.arms[source, strategy]
        valued = np.isfinite(columns[metric]) if metric in columns else True
        for k, (attribute, group) in enumerate(task.groups):
            rows = valued & task.member[:, k]
            yield {
                "task": task.name,
                "source": source,
                "strategy": strategy,
                "attribute": attribute,
                "group": group,
                "metric": metric,
                **interval(values[:, k]),
                "n": int(rows.sum()),
                "patients": np.unique(task.patient[rows]).size,
                "positives": int((columns["label"][rows] == 1).sum()) if task.kind == "classify" else np.nan,
                "missing": missing[k],
            }


def _fairness(task, draws, attribute, min_cases, combine):
    """Rows of the fairness table for one attribute."""
    cases = {k: int(task.cases()[k]) for k in task.columns_of(attribute)}
    kept = [k for k, count in cases.items() if count >= min_cases]
    compared = {
        "n_smallest": min((cases[k] for k in kept), default=np.nan),
        "groups": ", ".join(task.groups[k][1] for k in kept),
        "left_out": _left_out({task.groups[k][1]: cases[k] for k in cases if k not in kept}, len(kept)),
        "missing": task.missing(attribute),
    }
    for metric, function in FAIRNESS[task.kind].items():
        bias = {
            arm: function({name: draws[arm, name][:, kept] for name in PERFORMANCE[task.kind]}, combine=combine)
            for arm in task.arms
        }
        for (source, strategy), values in bias.items():
            original = bias.get(_ORIGINAL) if (source, strategy) != _ORIGINAL else None
            standard = bias.get((source, "standard")) if strategy != "standard" else None
            yield {
                "task": task.name,
                "source": source,
                "strategy": strategy,
                "attribute": attribute,
                "metric": metric,
                **interval(values),
                **_shift(values, original, _SHIFT),
                **_shift(values, standard, _SHIFT_STANDARD),
                **compared,
                "B": int(np.isfinite(values[1:]).sum()),
            }


def _shift(values, reference, columns):
    """Columns of the shift from `reference`, NaN where there is none."""
    against = shift(values, np.full_like(values, np.nan) if reference is None else reference)
    return {column: against[part] for column, part in columns.items()}


def _left_out(cases, kept):
    """Groups that are not compared, with their cases, and why nothing is."""
    reason = "" if kept >= 2 else "fewer than two groups have enough cases: "
    return reason + ", ".join(f"{group} ({count})" for group, count in cases.items())


def _traits(cohort, attributes):
    """Attributes by patient, None where missing."""
    _require(cohort, ["patient_id", *attributes], "cohort")
    by_patient = cohort.groupby("patient_id")[list(attributes)]
    for attribute, varies in (by_patient.nunique(dropna=False) > 1).items():
        if varies.any():
            raise ValueError(f"cohort: patient {varies.idxmax()!r} has more than one {attribute}, expected one")
    traits = cohort.drop_duplicates("patient_id").set_index("patient_id")[list(attributes)].astype(object)
    return traits.where(traits.notna(), None)


def _tasks(predictions, quality):
    """Rows by task, sorted by name; image quality is the last."""
    _require(predictions, ["task", "kind", *_KEYS], "predictions", complete=["task", *_KEYS])
    tasks = dict(list(predictions.groupby("task")))
    if quality is not None:
        if "image" in tasks:
            raise ValueError("predictions: task 'image' is the name of image quality; expected another")
        images = quality.rename(columns={"image_id": "unit"}).assign(kind="image")
        _require(images, _KEYS, "quality", complete=_KEYS)
        tasks["image"] = images
    return tasks


def _task(name, rows, traits, thresholds):
    """Check the rows of a task and lay its arms side by side."""
    kind = rows["kind"].iloc[0]
    if kind not in PERFORMANCE or (rows["kind"] != kind).any():
        raise ValueError(f"task '{name}': kind must be one of {', '.join(PERFORMANCE)}, the same in all rows")
    if kind == "classify" and name not in thresholds:
        raise ValueError(f"thresholds: none for task '{name}'")
    _check_values(name, rows, kind)
    frames = _aligned(name, rows)
    first = next(iter(frames.values()))
    labelled = first["label" if kind == "classify" else "unit"].notna()
    if not labelled.any():
        raise ValueError(f"task '{name}': no unit has a label")
    patient_id = first["patient_id"][labelled]
    patient = pd.factorize(patient_id, sort=True)[0]
    arms = {}
    for arm, frame in frames.items():
        arms[arm] = {column: frame[column][labelled].to_numpy(float) for column in _COLUMNS[kind]}
        arms[arm]["patient"] = patient
        if kind == "classify":
            arms[arm]["decision"] = arms[arm]["score"] >= thresholds[name]
    groups, member = _member(name, patient_id, traits)
    return _Task(name, kind, arms, patient, groups, member, unlabelled=int((~labelled).sum()))


def _aligned(name, rows):
    """Rows by arm, all in the order of units; every arm must hold the same units."""
    by_arm = rows.sort_values("unit").groupby(["source", "strategy"])
    arms = {arm: frame.reset_index(drop=True) for arm, frame in by_arm}
    units, first = set(rows["unit"]), next(iter(arms.values()))
    for (source, strategy), frame in arms.items():
        where = f"task '{name}', source '{source}', strategy '{strategy}'"
        twice = frame["unit"].duplicated()
        if twice.any():
            raise ValueError(f"{where}: more than one row for unit {frame['unit'][twice].iloc[0]!r}")
        if lacking := sorted(units - set(frame["unit"])):
            raise ValueError(f"{where}: {len(lacking)} units of other sources are missing: {_some(lacking)}")
        for column in frame.columns.intersection(["patient_id", "label"]):
            differs = (frame[column] != first[column]) & (frame[column].notna() | first[column].notna())
            if differs.any():
                unit = frame["unit"][differs].iloc[0]
                raise ValueError(f"{where}: {column} of unit {unit!r} is not that of the other sources")
    return arms


def _member(name, patient_id, traits):
    """Groups of every attribute and the units in them; first the group of all units."""
    if unknown := sorted(set(patient_id) - set(traits.index)):
        raise ValueError(f"task '{name}': patients absent from the cohort: {_some(unknown)}")
    groups, member = [("all", "all")], [np.ones((len(patient_id), 1), bool)]
    for attribute, values in traits.items():
        names = sorted(values.dropna().unique(), key=str)
        groups += [(attribute, str(group)) for group in names]
        member.append(membership(group=values.loc[patient_id], names=names))
    return groups, np.hstack(member)


def _check_values(name, rows, kind):
    """The columns of this kind are there and in range."""
    _require(rows, _COLUMNS[kind], f"task '{name}'")
    for column in _COLUMNS[kind]:
        expected, valid = _VALID[column]
        wrong = ~valid(rows[column].astype(float))
        if wrong.any():
            row = rows[wrong].iloc[0]
            where = f"task '{name}', source '{row['source']}', strategy '{row['strategy']}', unit {row['unit']!r}"
            raise ValueError(f"{where}: {column} is {row[column]}, expected {expected}")


def _require(frame, columns, where, complete=()):
    """The columns are there, and those in `complete` have no missing value."""
    if absent := [column for column in columns if column not in frame]:
        raise ValueError(f"{where}: column '{absent[0]}' is missing")
    for column in complete:
        if frame[column].isna().any():
            raise ValueError(f"{where}: {column} is missing in row {frame.index[frame[column].isna()][0]}")


def _some(names):
    """The first few names."""
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
