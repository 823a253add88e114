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
}
_ORIGINAL = ("original", "standard")


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
    member: pd.DataFrame  # (n, groups of all attributes) bool, columns (attribute, group)
    unlabelled: int  # units left out for want of a label

    def statistics(self, weights):
        """Every metric in every arm and group, (B, groups), keyed by arm and metric."""
        member = self.member.to_numpy()
        return {
            (arm, metric): function(columns, weights=weights, member=member)
            for arm, columns in self.arms.items()
            for metric, function in PERFORMANCE[self.kind].items()
        }

    def missing(self, attribute):
        """Units that do not enter the analysis of `attribute`."""
        return self.unlabelled + int((~self.member[attribute].any(axis=1)).sum())

    def cases(self):
        """Patients by group: those of the rarer label, or those with a value in every arm."""
        first = np.unique(self.patient, return_index=True)[1]
        member = self.member.to_numpy()[first]
        arms = list(self.arms.values())
        if self.kind == "classify":
            counts = [self._carriers(arms[0]["label"] == label) @ member for label in (0, 1)]
            return pd.Series(np.min(counts, axis=0), self.member.columns)
        valued = [self._carriers(np.isfinite(arm[column])) for arm in arms for column in _COLUMNS[self.kind]]
        return pd.Series(np.min(valued, axis=0) @ member, self.member.columns)

    def _carriers(self, rows):
        """Which patients have one of the `rows`, as 0 and 1."""
        return (np.bincount(self.patient, rows) > 0).astype(int)


def _performance(task, draws):
    """Rows of the performance table."""
    for (arm, metric), values in draws.items():
        columns = task.arms[arm]
        valued = np.isfinite(columns[metric]) if metric in columns else True
        for k, (attribute, group) in enumerate(task.member):
            rows = valued & task.member.iloc[:, k].to_numpy()
            yield {
                **{"task": task.name, "source": arm[0], "strategy": arm[1]},
                **{"attribute": attribute, "group": group, "metric": metric},
                **interval(values[:, k]),
                "n": int(rows.sum()),
                "patients": np.unique(task.patient[rows]).size,
                "positives": (columns["label"][rows] == 1).sum() if task.kind == "classify" else np.nan,
                "missing": task.missing(attribute),
            }


def _fairness(task, draws, attribute, min_cases, combine):
    """Rows of the fairness table for one attribute."""
    cases = task.cases()[attribute]
    kept = cases[cases >= min_cases]
    columns = [task.member.columns.get_loc((attribute, group)) for group in kept.index]
    compared = {
        "n_smallest": kept.min(),
        "groups": ", ".join(kept.index),
        "left_out": _left_out(cases.drop(kept.index), len(kept)),
        "missing": task.missing(attribute),
    }
    for metric, function in FAIRNESS[task.kind].items():
        bias = {
            arm: function({name: draws[arm, name][:, columns] for name in PERFORMANCE[task.kind]}, combine=combine)
            for arm in task.arms
        }
        for (source, strategy), values in bias.items():
            original = bias.get(_ORIGINAL) if (source, strategy) != _ORIGINAL else None
            standard = bias.get((source, "standard")) if strategy != "standard" else None
            yield {
                **{"task": task.name, "source": source, "strategy": strategy},
                **{"attribute": attribute, "metric": metric},
                **interval(values),
                **_shift(values, original),
                **_shift(values, standard, "shift_standard", ("value", "low", "high", "p")),
                **compared,
                "B": int(np.isfinite(values[1:]).sum()),
            }


def _shift(values, reference, name="shift", keep=("value", "percent", "low", "high", "se", "p")):
    """Columns of the shift from `reference`, NaN where there is none."""
    against = shift(values, np.full_like(values, np.nan) if reference is None else reference)
    return {name if part == "value" else f"{name}_{part}": against[part] for part in keep}


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
        raise ValueError(f"thresholds: no threshold for task '{name}'")
    _check_values(name, rows, kind)
    frames = _aligned(name, rows)
    first = next(iter(frames.values()))
    labelled = first["label"].notna() if kind == "classify" else first["unit"].notna()
    if not labelled.any():
        raise ValueError(f"task '{name}': no unit has a label")
    patient_id = first["patient_id"][labelled]
    patient = pd.factorize(patient_id, sort=True)[0]
    arms = {arm: {"patient": patient} for arm in frames}
    for arm, frame in frames.items():
        arms[arm] |= {column: frame.loc[labelled, column].to_numpy(float) for column in _COLUMNS[kind]}
        if kind == "classify":
            arms[arm]["decision"] = arms[arm]["score"] >= thresholds[name]
    return _Task(name, kind, arms, patient, _member(name, patient_id, traits), int((~labelled).sum()))


def _aligned(name, rows):
    """Rows by arm, all in the order of patient and unit; every arm must hold the same units."""
    arms = {
        arm: frame.sort_values(["patient_id", "unit"], ignore_index=True)
        for arm, frame in rows.groupby(["source", "strategy"])
    }
    units = set(rows["unit"])
    for (source, strategy), frame in arms.items():
        where = f"task '{name}', source '{source}', strategy '{strategy}'"
        if frame["unit"].duplicated().any():
            raise ValueError(
                f"{where}: more than one row for unit {frame['unit'][frame['unit'].duplicated()].iloc[0]!r}"
            )
        if lacking := sorted(units - set(frame["unit"])):
            raise ValueError(f"{where}: {len(lacking)} units of other sources are missing: {_some(lacking)}")
        first = next(iter(arms.values()))
        for column in ["patient_id", *({"label"} & set(rows))]:
            differs = (frame[column] != first[column]) & (frame[column].notna() | first[column].notna())
            if differs.any():
                raise ValueError(
                    f"{where}: unit {frame['unit'][differs].iloc[0]!r} has another {column} than elsewhere"
                )
    return arms


def _member(name, patient_id, traits):
    """Membership of the units in the groups of every attribute, and in "all"."""
    if unknown := sorted(set(patient_id) - set(traits.index)):
        raise ValueError(f"task '{name}': patients absent from the cohort: {_some(unknown)}")
    member = {("all", "all"): np.ones(len(patient_id), bool)}
    for attribute, values in traits.items():
        names = sorted(values.dropna().unique(), key=str)
        rows = membership(group=values.loc[patient_id], names=names)
        member |= {(attribute, str(group)): rows[:, k] for k, group in enumerate(names)}
    return pd.DataFrame(member)


def _check_values(name, rows, kind):
    _require(rows, _COLUMNS[kind], f"task '{name}'")
    for column in [column for column in _COLUMNS[kind] if column in _VALID]:
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
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
