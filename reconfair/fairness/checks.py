"""What predictions must look like: read into tasks, or refused in one sentence that names the rows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

COLUMNS = {"classify": ["label", "score"], "segment": ["dice"], "image": ["psnr", "ssim"]}
ARM = ["source", "strategy", "reader"]
_KEYS = ["unit", "patient_id", "source", "strategy"]
_VALID = {
    "label": ("0, 1 or NaN", lambda v: v.isna() | v.isin([0, 1])),
    "score": ("0 to 1", lambda v: v.between(0, 1)),
    "dice": ("0 to 1 or NaN", lambda v: v.isna() | v.between(0, 1)),
    "psnr": ("decibels or NaN", lambda v: v.isna() | (v > -np.inf)),
    "ssim": ("-1 to 1 or NaN", lambda v: v.isna() | v.between(-1, 1)),
}


@dataclass(frozen=True)
class Task:
    """Units of one task, in the same order in every arm.

    Attributes
    ----------
    name, kind : str
    arms : dict of tuple to pandas.DataFrame
        By (source, strategy, reader): the columns of `COLUMNS`, n rows.
    patient : numpy.ndarray, shape (n,)
    groups : dict of str to numpy.ndarray of object, shape (n,)
        By attribute, the group of each unit, None where missing; ``all`` first.
    unlabelled : int
        Units left out for want of a label.
    """

    name: str
    kind: str
    arms: dict
    patient: np.ndarray
    groups: dict
    unlabelled: int

    @property
    def label(self):
        """Labels of the units, (n,)."""
        return next(iter(self.arms.values()))["label"].to_numpy(float)

    def missing(self, attribute):
        """Units that do not enter the analysis of `attribute`."""
        return self.unlabelled + sum(group is None for group in self.groups[attribute])


def traits_of(cohort, attributes):
    """Attributes by patient, None where missing; ``sex*age_group`` are the intersections of both.

    Examples
    --------
    >>> people = pd.DataFrame({"patient_id": [1, 2], "sex": ["f", None], "age_group": ["old", "old"]})
    >>> traits_of(people, ["age_group", "sex*age_group"])["sex*age_group"].tolist()
    ['f, old', None]
    """
    parts = list(dict.fromkeys(part for attribute in attributes for part in attribute.split("*")))
    _require(cohort, ["patient_id", *parts], "cohort")
    for part, varies in (cohort.groupby("patient_id")[parts].nunique(dropna=False) > 1).items():
        if varies.any():
            raise ValueError(f"cohort: patient {varies.idxmax()!r} has more than one {part}, expected one")
    traits = cohort.drop_duplicates("patient_id").set_index("patient_id")[parts].astype(object)
    return pd.DataFrame({attribute: _joined(traits[attribute.split("*")]) for attribute in attributes}, dtype=object)


def _joined(traits):
    """Values of each row side by side, None where one is missing."""
    columns = [traits[part].map(str) for part in traits]
    joined = columns[0].str.cat(columns[1:], sep=", ").astype(object)
    return joined.where(traits.notna().all(axis=1), None)


def tasks_of(predictions, quality):
    """Rows by task, sorted by name; image quality is the last."""
    _require(predictions, ["task", "kind", *_KEYS], "predictions", complete=["task", *_KEYS])
    tasks = dict(list(_with_reader(predictions, "predictions").groupby("task")))
    if quality is not None:
        if "image" in tasks:
            raise ValueError("predictions: task 'image' is the name of image quality; expected another")
        images = quality.rename(columns={"image_id": "unit"}).assign(kind="image")
        _require(images, _KEYS, "quality", complete=_KEYS)
        tasks["image"] = _with_reader(images, "quality")
    return tasks


def _with_reader(rows, where):
    """Rows with a column ``reader``, "standard" where there is none."""
    if "reader" not in rows:
        return rows.assign(reader="standard")
    _require(rows, ["reader"], where, complete=["reader"])
    return rows


def task_of(name, rows, traits):
    """Check the rows of a task and lay its arms side by side."""
    kind = rows["kind"].iloc[0]
    if kind not in COLUMNS or (rows["kind"] != kind).any():
        raise ValueError(f"task '{name}': kind must be one of {', '.join(COLUMNS)}, the same in all rows")
    _check_values(name, rows, kind)
    frames = _aligned(name, rows)
    first = next(iter(frames.values()))
    labelled = first["label" if kind == "classify" else "unit"].notna()
    if not labelled.any():
        raise ValueError(f"task '{name}': no unit has a label")
    patient = first["patient_id"][labelled].to_numpy()
    if unknown := sorted(set(patient) - set(traits.index)):
        raise ValueError(f"task '{name}': patients absent from the cohort: {_some(unknown)}")
    arms = {arm: frame.loc[labelled, COLUMNS[kind]].reset_index(drop=True) for arm, frame in frames.items()}
    arms = _of_the_same_images(arms) if kind == "image" else arms
    groups = {attribute: traits[attribute].loc[patient].to_numpy(object) for attribute in traits}
    groups = {"all": np.full(patient.size, "all", object), **groups}
    return Task(name, kind, arms, patient, groups, int((~labelled).sum()))


def _of_the_same_images(arms):
    """Leave out of every arm what one has infinite or missing, such as PSNR where an image equals its original."""
    for column in COLUMNS["image"]:
        finite = np.all([np.isfinite(frame[column]) for frame in arms.values()], axis=0)
        arms = {arm: frame.assign(**{column: frame[column].where(finite)}) for arm, frame in arms.items()}
    return arms


def _aligned(name, rows):
    """Rows by arm, all in the order of units; every arm must hold the same units."""
    by_arm = rows.sort_values("unit").groupby(ARM)
    arms = {arm: frame.reset_index(drop=True) for arm, frame in by_arm}
    units, first = set(rows["unit"]), next(iter(arms.values()))
    for arm, frame in arms.items():
        where = f"task '{name}', {_named(arm)}"
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


def _check_values(name, rows, kind):
    """The columns of this kind are there and in range."""
    _require(rows, COLUMNS[kind], f"task '{name}'")
    for column in COLUMNS[kind]:
        expected, valid = _VALID[column]
        wrong = ~valid(rows[column].astype(float))
        if wrong.any():
            row = rows[wrong].iloc[0]
            where = f"task '{name}', {_named(row[ARM])}, unit {row['unit']!r}"
            raise ValueError(f"{where}: {column} is {row[column]}, expected {expected}")


def _require(frame, columns, where, complete=()):
    """The columns are there, and those in `complete` have no missing value."""
    if absent := [column for column in columns if column not in frame]:
        raise ValueError(f"{where}: column '{absent[0]}' is missing")
    for column in complete:
        if frame[column].isna().any():
            raise ValueError(f"{where}: {column} is missing in row {frame.index[frame[column].isna()][0]}")


def _named(arm):
    """An arm in words."""
    source, strategy, reader = arm
    return f"source '{source}', strategy '{strategy}'" + (f", reader '{reader}'" if reader != "standard" else "")


def _some(names):
    """The first few names."""
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
