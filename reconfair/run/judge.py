"""``reconfair judge``: anyone's scores, from one table to performance, fairness and sentences."""

from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import tables
from reconfair.fairness import assess
from reconfair.fairness.threshold import balanced_threshold
from reconfair.judge import main_measure, sentences
from reconfair.params import Source
from reconfair.words import nearest

COLUMNS = ("patient", "unit", "task", "source", "strategy", "split", "label", "score", "dice")
DEFAULTS = {"patient": None, "source": "original", "strategy": "standard", "split": "test"}
MANY = 20  # values of an attribute that may be groups


def judge_file(
    path: Path, *, attributes=(), thresholds=None, inference="randomisation", min_cases=20, out: Path | None = None
) -> list[str]:
    """Judge anyone's scores, one table with their attributes, and write ``performance`` and ``fairness``.

    Parameters
    ----------
    path : Path
        CSV or Parquet, a row per decision: ``patient``, ``label`` and ``score``, or ``dice``; optional are
        ``task, unit, source, strategy, split``; every other column is an attribute.
    attributes : sequence of str
        Columns to compare, or ``sex*race``; empty: all.
    thresholds : dict of float, optional
        By task. Any other is balanced on the originals of split ``val``; only rows of ``test`` are judged.
    inference, min_cases
        As `fairness.assess` has them.
    out : Path, optional
        Folder for the tables, as Parquet and CSV; left out: beside the file, named for it.

    Returns
    -------
    list of str
        What was found, in sentences.

    Raises
    ------
    ValueError
        Naming the file, and the row (counted from 1) or column that is not as expected.
    """
    path = Path(path)
    try:
        rows, attributes = _with_attributes(read_scores(path), attributes)
        cut = {} if inference == "as_published" else _thresholds(rows, thresholds or {})
        judged = rows[rows.split == "test"]
        if judged.empty:
            raise ValueError("no row is to be judged, expected some of split 'test', or no column 'split'")
        how = {"attributes": attributes, "thresholds": cut, "inference": inference, "min_cases": min_cases}
        found = dict(zip(("performance", "fairness"), assess(judged, judged, **how), strict=True))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    out = Path(out or path.with_name(f"{path.stem}_judged"))
    out.mkdir(parents=True, exist_ok=True)
    for name, table in found.items():
        tables.write(table, name, out)
        table.to_csv(out / f"{name}.csv", index=False)
    lines = [f"judged: {len(judged)} rows of {judged.patient_id.nunique()} patients; tables: {out}"]
    if inference == "as_published":
        lines.append("thresholds: chosen on the rows that are judged, for each source anew, as in the published code")
    return lines + _told(cut, **found)


def read_scores(path: Path) -> pd.DataFrame:
    """Read a table of scores as rows of ``predictions``, with the attributes beside them; see `judge_file`."""
    table = _opened(path)
    needed = ["patient", *(["label", "score"] if "score" in table or "dice" not in table else [])]
    for column in needed:
        if column not in table:
            raise ValueError(f"column '{column}' is missing; {nearest(column, table)}")
    for column, default in (DEFAULTS | {"task": path.stem}).items():
        table[column] = table.get(column, default)
        _refuse(table, column, table[column].isna(), "a name")
        table[column] = table[column].astype(str)
    for column in ("label", "score", "dice"):
        table[column] = _numbers(table, column)
    scored = table.score.notna().groupby(table.task).transform("any")
    _refuse(table, "score", scored & table.score.isna(), "a number from 0 to 1, as in other rows of this task")
    _refuse(table, "split", ~table.split.isin(["train", "val", "test"]), "train, val or test")
    several = table.groupby("patient").split.nunique() > 1
    if several.any():
        raise ValueError(f"patient '{several.idxmax()}' is in more than one split, expected one")
    table = table.assign(kind=np.where(scored, "classify", "segment"), unit=_units(table))
    return table.rename(columns={"patient": "patient_id"})


def _opened(path: Path) -> pd.DataFrame:
    """The table as it stands, rows counted from 1."""
    if not path.is_file():
        raise ValueError(f"no such file; {nearest(path.name, [other.name for other in path.parent.glob('*.*')])}")
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError("expected a file that ends in .csv or .parquet")
    csv = {"dtype": str, "encoding": "utf-8-sig", "skipinitialspace": True}  # text keeps 007 apart from 7
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, **csv)
    return table.set_axis(range(1, len(table) + 1))


def _numbers(table: pd.DataFrame, column: str) -> pd.Series:
    """A column as numbers, missing where it is empty or absent."""
    given = table[column] if column in table else pd.Series(np.nan, table.index)
    numbers = pd.to_numeric(given, errors="coerce").astype(float)
    right, expected = numbers.between(0, 1), "a number from 0 to 1"
    if column == "label":
        right, expected = numbers.isin([0, 1]), "0, 1 or empty"
    _refuse(table, column, given.notna() & ~right, expected)
    return numbers


def _units(table: pd.DataFrame) -> pd.Series:
    """What was decided: as given, else the patient; rows of one source alone need not be told apart."""
    if "unit" in table:
        _refuse(table, "unit", table.unit.isna(), "the name of an image")
        return table.unit.astype(str)
    repeated = table.duplicated(["patient", "task", "source", "strategy"])
    if len(table[["source", "strategy"]].drop_duplicates()) > 1:
        _refuse(table, "patient", repeated, "once for each task and source, or a column 'unit' that names the image")
    return table.index.to_series().astype(str) if repeated.any() else table.patient


def _with_attributes(rows: pd.DataFrame, attributes) -> tuple[pd.DataFrame, list[str]]:
    """Rows with the groups of every attribute as text, and the attributes to compare."""
    recorded = [column for column in rows if column not in (*COLUMNS, "patient_id", "kind")]
    attributes = list(attributes or recorded)
    if not attributes:
        raise ValueError(f"no attribute to compare, expected a column such as 'sex' beside {', '.join(COLUMNS)}")
    for column in "*".join(attributes).split("*"):
        if column not in recorded:
            raise ValueError(f"'{column}' is no attribute of this table; {nearest(column, recorded)}")
        if rows[column].nunique() > MANY:
            few = f"expected groups, {MANY} at most; cut it into groups, or name what to compare with --attributes"
            raise ValueError(f"column '{column}' has {rows[column].nunique()} different values, {few}")
        rows = rows.assign(**{column: rows[column].astype(object).map(str, na_action="ignore")})
    return rows, attributes


def _thresholds(rows: pd.DataFrame, given: dict[str, float]) -> dict[str, float]:
    """By task, as given, or balanced on the validation originals, which are not judged."""
    found, val = {}, rows[(rows.split == "val") & (rows.source == "original")]
    tasks = rows.task[rows.kind == "classify"].unique()
    for task in given.keys() - set(tasks):
        raise ValueError(f"threshold of '{task}': no such task with scores; {nearest(task, tasks)}")
    for task in tasks:
        own = val[val.task == task]
        if task not in given and not {0, 1} <= set(own.label):
            where = "rows of both labels with split 'val' and source 'original'"
            raise ValueError(f"no threshold for task '{task}': give --threshold {task}=0.5, or {where} to choose it on")
        found[task] = given[task] if task in given else balanced_threshold(score=own.score, label=own.label)
    return found


def _told(cut: dict[str, float], performance: pd.DataFrame, fairness: pd.DataFrame) -> list[str]:
    """Performance of everyone, then what each row of the main measure says."""
    lines = []
    for row in performance[(performance.attribute == "all") & performance.metric.isin(["auroc", "dice"])].itertuples():
        value = f"{row.metric.upper()} {row.value:.3f} ({row.low:.3f} to {row.high:.3f})"
        at = f"; threshold {cut[row.task]:.3f}" if row.task in cut else ""
        lines.append(f"{row.task}, {Source(row.source, row.strategy)}: {value}{at}")
    for _, row in main_measure(fairness).iterrows():
        lines.append(f"{row.task}, {row.attribute}, {Source(row.source, row.strategy)}:")
        lines += [f"  {sentence}" for sentence in sentences(row)]
    return lines


def _refuse(table: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    """Name the first row that is wrong, what it says, and what was expected."""
    if wrong.any():
        row = wrong.idxmax()
        said = "empty" if pd.isna(table[column][row]) else f"'{table[column][row]}'"
        raise ValueError(f"row {row}: {column} is {said}, expected {expected}")
