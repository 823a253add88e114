"""What predictions must look like: read into tasks, or refused in one sentence that names the rows."""

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

COLUMNS = {"classify": ["label", "score"], "segment": ["dice"], "image": ["psnr", "ssim"]}
CLASS = ": "  # between the name of a task of several classes and that of a class
SUM = 0.01  # by which the scores of all classes may miss 1
ARM = ["source", "strategy", "reader"]
_NUMBER = r"-?[\d.]+(?:e[+-]?\d+)?"
_RANGE = re.compile(rf"(?:up to |{_NUMBER} to )({_NUMBER})|above {_NUMBER}")  # a group of numbers, by its upper end
_KEYS = ["unit", "patient_id", "source", "strategy"]
_VALID = {
    "label": ("0, 1 or NaN", lambda v: v.isna() | v.isin([0, 1])),
    "score": ("0 to 1", lambda v: v.between(0, 1)),
    "decision": ("0 or 1", lambda v: v.isin([0, 1])),
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
    fold : numpy.ndarray, shape (n,), optional
        Fold whose models saw the unit; None where there are no folds.
    classes : dict of str to Task
        Of a task of several classes (kind "classes"), by class: the task of telling it from the rest. Labels and
        decisions are then the number of the class.
    ordinal : bool
        Whether these classes are in order.
    """

    name: str
    kind: str
    arms: dict
    patient: np.ndarray
    groups: dict
    unlabelled: int
    fold: np.ndarray | None = None
    classes: dict = field(default_factory=dict)
    ordinal: bool = False

    @property
    def label(self):
        """Labels of the units, (n,)."""
        return next(iter(self.arms.values()))["label"].to_numpy(float)


def traits_of(cohort, attributes):
    """Attributes by patient, None where missing; ``sex*age_group`` are the intersections of both.

    Examples
    --------
    >>> people = pd.DataFrame({"patient_id": [1, 2], "sex": ["f", None], "age_group": ["old", "old"]})
    >>> traits_of(people, ["age_group", "sex*age_group"])["sex*age_group"].tolist()
    ['f, old', None]
    """
    parts = list(dict.fromkeys(part for attribute in attributes for part in attribute.split("*")))
    if "all" in attributes:
        raise ValueError("attribute 'all' is the name of everyone; give the column another name")
    _require(cohort, ["patient_id", *parts], "cohort")
    for part, varies in (cohort.groupby("patient_id")[parts].nunique(dropna=False) > 1).items():
        if varies.any():
            raise ValueError(f"cohort: patient {varies.idxmax()!r} has more than one {part}, expected one")
    traits = cohort.drop_duplicates("patient_id").set_index("patient_id")[parts].astype(object)
    joint = {}
    for attribute in attributes:
        some = traits[attribute.split("*")]
        first, *others = (some[part].map(str) for part in some)
        text = first.str.cat(others, sep=", ").astype(object)
        joint[attribute] = text.where(some.notna().all(axis=1), None)
    return pd.DataFrame(joint, dtype=object)


def numbers_of(cohort, attributes):
    """Numbers of attributes that are kept whole, by patient; in the cohort they are in ``<attribute>_value``."""
    columns = [f"{attribute}_value" for attribute in attributes]
    _require(cohort, ["patient_id", *columns], "cohort")
    patients = cohort.drop_duplicates("patient_id").set_index("patient_id")
    return patients[columns].astype(float).set_axis(list(attributes), axis=1)


def tasks_of(predictions, quality):
    """Rows by task, sorted by name; image quality is the last."""
    folds = ["fold"] if "fold" in predictions else []
    _require(predictions, ["task", "kind", *_KEYS], "predictions", complete=["task", *_KEYS, *folds])
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
    columns = _columns(name, rows, kind)
    frames = _aligned(name, rows)
    first = next(iter(frames.values()))
    labelled = first["label" if kind == "classify" else "unit"].notna()
    if not labelled.any():
        raise ValueError(f"task '{name}': no unit has a label")
    patient = first["patient_id"][labelled].to_numpy()
    if unknown := sorted(set(patient) - set(traits.index)):
        raise ValueError(f"task '{name}': patients absent from the cohort: {_some(unknown)}")
    arms = {arm: frame.loc[labelled, columns].reset_index(drop=True) for arm, frame in frames.items()}
    for column in COLUMNS["image"] if kind == "image" else ():
        # Left out of all arms is what one has infinite or missing, such as PSNR where an image equals its original.
        finite = np.all([np.isfinite(frame[column]) for frame in arms.values()], axis=0)
        arms = {arm: frame.assign(**{column: frame[column].where(finite)}) for arm, frame in arms.items()}
    groups = {attribute: traits[attribute].loc[patient].to_numpy(object) for attribute in traits}
    groups = {"all": np.full(patient.size, "all", object), **groups}
    fold = first["fold"][labelled].to_numpy() if kind == "classify" and "fold" in first else None
    return Task(name, kind, arms, patient, groups, int((~labelled).sum()), fold)


def in_order(names):
    """Names of groups in the order of figures and tables: by name, but ranges of numbers from low to high.

    Examples
    --------
    >>> in_order(["above 30", "18.5 to 30", "up to 18.5"]), in_order(["White", "Asian"])
    (['up to 18.5', '18.5 to 30', 'above 30'], ['Asian', 'White'])
    """
    places = {}
    for name in names:
        parts = [(_RANGE.fullmatch(part), part) for part in name.split(", ")]
        places[name] = [(float(match[1] or "inf"), "") if match else (0.0, part) for match, part in parts]
    return sorted(names, key=places.get)


def joined(tasks, predictions, ordinal):
    """Tasks of several classes, made of those that tell each of their classes from the rest.

    Parameters
    ----------
    tasks : dict of Task
        By name.
    predictions : pandas.DataFrame
        With a column ``class`` where there are such tasks; classes are in the order of its rows.
    ordinal : sequence of str
        Tasks whose classes are in order.

    Returns
    -------
    dict of Task
        By name, such as ``dx`` of ``dx: nv`` and ``dx: mel``.

    Raises
    ------
    ValueError
        Naming the task, and the unit whose labels, decisions or scores do not fit one class.
    """
    by_name, known = {}, predictions[["task", "class"]].dropna() if "class" in predictions else predictions[:0]
    for task, name in known.reindex(columns=["task", "class"]).drop_duplicates().itertuples(index=False):
        whole = task.removesuffix(f"{CLASS}{name}")
        if whole == task or whole in tasks:
            expected = f"expected '<task>{CLASS}{name}', and no other task of that name"
            raise ValueError(f"predictions: task '{task}' is said to be of class '{name}'; {expected}")
        by_name.setdefault(whole, {})[name] = tasks[task]
    if unknown := sorted(set(ordinal) - set(by_name)):
        raise ValueError(
            f"ordinal: '{unknown[0]}' is no task of several classes; there is {', '.join(by_name) or 'none'}"
        )
    return {name: _whole(name, classes, name in ordinal) for name, classes in by_name.items()}


def _whole(name, classes, ordinal):
    """One task of several classes."""
    first = next(iter(classes.values()))
    if len(classes) < 2 or any(one.patient.size != first.patient.size for one in classes.values()):
        raise ValueError(f"task '{name}': every class needs the same units, and there must be two classes or more")
    arms = {}
    for arm in first.arms:
        if any(arm not in one.arms for one in classes.values()):
            raise ValueError(f"task '{name}', {_named(arm)}: not every class has rows")
        columns = {
            column: np.stack([one.arms[arm][column] for one in classes.values()], axis=1)
            for column in ("label", "score", "decision")
        }
        for column, (least, most) in {"label": (1, 1), "decision": (1, 1), "score": (1 - SUM, 1 + SUM)}.items():
            total = columns[column].sum(axis=1)
            if wrong := np.flatnonzero((total < least - 1e-9) | (total > most + 1e-9)).tolist():
                where = f"task '{name}', {_named(arm)}, a unit of patient {first.patient[wrong[0]]!r}"
                raise ValueError(f"{where}: {column}s of the classes sum to {total[wrong[0]]:g}, expected 1")
        scores = dict(zip(classes, columns["score"].T, strict=True))
        number = {column: columns[column].argmax(axis=1) for column in ("label", "decision")}
        arms[arm] = pd.DataFrame(number | {f"score{CLASS}{key}": value for key, value in scores.items()})
    return Task(name, "classes", arms, first.patient, first.groups, first.unlabelled, first.fold, classes, ordinal)


def _aligned(name, rows):
    """Rows by arm, all in the order of units; every arm must hold the same units."""
    arms = {arm: frame.reset_index(drop=True) for arm, frame in rows.sort_values("unit").groupby(ARM)}
    units, first = set(rows["unit"]), next(iter(arms.values()))
    for arm, frame in arms.items():
        where = f"task '{name}', {_named(arm)}"
        twice = frame["unit"].duplicated()
        if twice.any():
            raise ValueError(f"{where}: more than one row for unit {frame['unit'][twice].iloc[0]!r}")
        if lacking := sorted(units - set(frame["unit"])):
            raise ValueError(f"{where}: {len(lacking)} units of other sources are missing: {_some(lacking)}")
        for column in frame.columns.intersection(["patient_id", "label", "fold"]):
            differs = (frame[column] != first[column]) & (frame[column].notna() | first[column].notna())
            if differs.any():
                unit = frame["unit"][differs].iloc[0]
                raise ValueError(f"{where}: {column} of unit {unit!r} is not that of the other sources")
    return arms


def _columns(name, rows, kind):
    """Names of the columns of this kind, which are there and in range; a class among several has decisions as well."""
    columns = COLUMNS[kind] + ["decision"] * bool("class" in rows and rows["class"].notna().all())
    _require(rows, columns, f"task '{name}'")
    for column in columns:
        expected, valid = _VALID[column]
        wrong = ~valid(rows[column].astype(float))
        if wrong.any():
            row = rows[wrong].iloc[0]
            where = f"task '{name}', {_named(row[ARM])}, unit {row['unit']!r}"
            raise ValueError(f"{where}: {column} is {row[column]}, expected {expected}")
    return columns


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
