"""Chapter 05: from the stored predictions of a study, or from anyone's scores, to performance and fairness tables.

The statistics are in `reconfair.fairness`, which knows nothing of studies and files.
"""

from difflib import get_close_matches
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import diagnosis, store, tables
from reconfair.fairness import assess
from reconfair.fairness.threshold import balanced_threshold
from reconfair.params import Study

COLUMNS = ("patient", "unit", "task", "source", "strategy", "split", "label", "score", "dice")
DEFAULTS = {"patient": None, "source": "original", "strategy": "standard", "split": "test"}
MANY = 20  # values of an attribute that may be groups


def judge(study: Study, mitigated: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Assess the test split unless that is fresh, and read the tables ``performance`` and ``fairness``.

    Parameters
    ----------
    study : Study
    mitigated : bool
        With the fine-tuned reconstructors beside the standard ones.
    """
    product = store.flow(study)["mitigation" if mitigated else "fairness"]
    folder = store.make(product, partial(_write, study, mitigated))
    return tables.read("performance", folder), tables.read("fairness", folder)


def sources(study: Study, mitigated: bool = False) -> list[str]:
    """Folders of everything that was looked at: original, noisy, reconstructions, fine-tuned ones."""
    tuned = [store.variant(model, strategy) for model, strategy in study.mitigated] if mitigated else []
    return ["original", "noisy", *study.reconstruction.models, *tuned]


def collect(study: Study, name: str, mitigated: bool = False) -> pd.DataFrame:
    """Rows of ``predictions`` or ``quality`` of every source that has them; an original has no quality to rate."""
    flow, made_with = store.flow(study), "predictions" if name == "predictions" else "reconstructed"
    keys = [f"{source}/{made_with}" for source in sources(study, mitigated)]
    keys = ["noisy" if key == "noisy/reconstructed" else key for key in keys]
    return tables.read(name, *(flow[key].folder for key in keys if key in flow))


def inferred(study: Study, inference: str) -> pd.DataFrame:
    """Table ``fairness`` of the standard models by another inference, for comparison; nothing is stored."""
    settings = study.fairness.model_copy(update={"inference": inference})
    return _assessed(study.model_copy(update={"fairness": settings}))[1]


def bias_on_originals(fairness: pd.DataFrame) -> pd.DataFrame:
    """Median disparity on originals by measure and attribute, over tasks (the paper's table 1)."""
    rows = main_measure(fairness)
    table = rows[rows.source == "original"].pivot_table("value", "metric", "attribute", "median", sort=False)
    return table.round(3)


def shift_by_model(fairness: pd.DataFrame) -> pd.DataFrame:
    """Median and median absolute shift in percent by reconstructor, over tasks and attributes (the paper's table 2)."""
    rows = main_measure(fairness)
    rows = rows[~rows.source.isin(["original", "noisy"]) & (rows.strategy == "standard")]
    medians = {"median": lambda shift: shift.median(), "absolute_median": lambda shift: shift.abs().median()}
    return rows.groupby("source", sort=False).shift_percent.agg(comparisons="count", **medians).T.round(2)


def by_attribute(fairness: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """Disparity of every task by source (the slides' tables), marked by direction and significance of the shift.

    ``++`` and ``--``: adjusted p < 0.05; ``+`` and ``-``: p < 0.1; ``~``: the standard error exceeds the shift.
    """
    rows = fairness[(fairness.attribute == attribute) & (fairness.strategy == "standard") & (fairness.task != "image")]
    rows = rows[rows.metric.isin(["eodd", "eop", "ser", "delta_dice"]) & rows.value.notna()]
    grew = rows["shift"] > 0
    signs = [np.where(grew, "++", "--"), np.where(grew, "+", "-")]
    mark = np.select([rows.p_adjusted < 0.05, rows.p_adjusted < 0.1], signs, "")
    unsure = np.where(rows.shift_se > rows["shift"].abs(), "~", "")
    parts = zip(rows.value, mark, unsure, strict=True)
    cells = rows.assign(cell=[f"{value:.3f} {sign}{doubt}".strip() for value, sign, doubt in parts])
    return cells.pivot_table("cell", "task", ["source", "metric"], "first", fill_value="", sort=False)


def main_measure(fairness: pd.DataFrame) -> pd.DataFrame:
    """The paper's measure of each task: EODD for classification, SER for segmentation."""
    return fairness[fairness.metric.isin(["eodd", "ser"])]


def moved(performance: pd.DataFrame) -> pd.DataFrame:
    """What mitigation did to the best and the worst group of every gap in AUROC, Dice and PSNR.

    Returns
    -------
    DataFrame
        By task, metric, attribute, source and strategy: the two groups as the standard model has them, their
        ``gap``, its change, and theirs; ``levelled_down`` where the gap fell though the worst group did not rise.
    """
    rows = performance[(performance.attribute != "all") & performance.metric.isin(["auroc", "dice", "psnr"])]
    keys, found = ["task", "metric", "attribute", "source"], []
    for key, part in rows[rows.value.notna()].groupby(keys, sort=False):
        values = part.pivot_table("value", "group", "strategy", sort=False)
        for strategy in values.columns.drop("standard", errors="ignore"):
            standard, change = values.standard, values[strategy] - values.standard
            worst, best = standard.idxmin(), standard.idxmax()
            gap = standard[best] - standard[worst]
            row = {"worst": worst, "best": best, "gap": gap, "gap_change": np.ptp(values[strategy]) - gap}
            row |= {"worst_change": change[worst], "best_change": change[best]}
            down = row["gap_change"] < 0 and row["worst_change"] <= 0
            found.append(dict(zip(keys, key, strict=True)) | {"strategy": strategy, **row, "levelled_down": down})
    columns = [*keys, "strategy", "worst", "best", "gap", "gap_change", "worst_change", "best_change", "levelled_down"]
    return pd.DataFrame(found, columns=columns).set_index([*keys, "strategy"]).round(3)


def sentences(row, names=str.upper) -> list[str]:
    """What one row of ``fairness`` says in words, and what it does not.

    Examples
    --------
    >>> row = pd.Series({"metric": "eodd", "value": 0.19, "expected": 0.18, "p_disparity": 0.4, "shift": np.nan,
    ...                  "left_out": "Other (3)"})
    >>> for sentence in sentences(row):
    ...     print(sentence)
    EODD 0.19; with no disparity, groups of these sizes would show 0.18 on average (p = 0.4).
    Not compared: Other (3). This says nothing about them.
    """
    said = []
    if np.isfinite(row.value):
        none = f"; with no disparity, groups of these sizes would show {row.expected:.2f} on average"
        none += f" (p = {row.p_disparity:.2g})"
        said.append(f"{names(row.metric)} {row.value:.2f}{none if np.isfinite(row.expected) else ''}.")
    if np.isfinite(row["shift"]) and np.isnan(row.detectable):
        interval = f"({row.shift_low:+.3f} to {row.shift_high:+.3f}), p = {row.p:.2g}"
        said.append(
            f"Shift against the original {row['shift']:+.3f} {interval} by the bootstrap, which finds too little."
        )
    elif np.isfinite(row["shift"]):
        said.append(
            f"Exchanging original and source within patients gives a shift as large as {row['shift']:+.3f} in "
            f"{100 * row.p:.2g} % of draws; with 80 % power this cohort finds shifts from {row.detectable:.3f}."
        )
        within = f"The largest change of any gap between groups is below {row.margin:.3f} (95 % bound)"
        unlike = "this is within the margin." if row.equivalent else "too few patients to claim that nothing changed."
        said.append(f"{within}; {unlike}")
        if np.isfinite(row.p_interaction):
            differs = "The change differs between groups" if row.p_interaction < 0.05 else "No sign of unequal change"
            said.append(f"{differs} (interaction test, p = {row.p_interaction:.2g}).")
    if row.left_out:
        said.append(f"Not compared: {row.left_out}. This says nothing about them.")
    return said


def _write(study: Study, mitigated: bool, part: Path) -> None:
    for name, table in zip(("performance", "fairness"), _assessed(study, mitigated), strict=True):
        tables.write(table, name, part)


def _assessed(study: Study, mitigated: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    predictions, quality = (collect(study, name, mitigated) for name in ("predictions", "quality"))
    assessed = assess(
        predictions[predictions.split == "test"],
        tables.read("cohort", store.flow(study)["cohort"].folder),
        quality=quality[quality.split == "test"],
        attributes=study.attributes(),
        thresholds=diagnosis.thresholds(study),
        **study.fairness.model_dump(exclude={"attributes"}),
    )
    return tuple(_ordered(table, study) for table in assessed)


def _ordered(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows in the order of tasks, then original, noisy, reconstructors, each followed by its strategies."""
    order = {word: at for at, word in enumerate([*study.tasks, "image", "original", "noisy"])}
    order |= {model: len(order) + at for at, model in enumerate(study.reconstruction.models)}
    order |= {"standard": 0} | {strategy: 1 + at for at, strategy in enumerate(study.mitigation.strategies)}
    return table.sort_values(["task", "source", "strategy"], key=lambda words: words.map(order), kind="stable")


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
            raise ValueError(f"column '{column}' is missing; {_near(column, table)}")
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
        raise ValueError(f"no such file; {_near(path.name, [other.name for other in path.parent.glob('*.*')])}")
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
            raise ValueError(f"'{column}' is no attribute of this table; {_near(column, recorded)}")
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
        raise ValueError(f"threshold of '{task}': no such task with scores; {_near(task, tasks)}")
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
        lines.append(f"{row.task}, {store.variant(row.source, row.strategy)}: {value}{at}")
    for _, row in main_measure(fairness).iterrows():
        lines.append(f"{row.task}, {row.attribute}, {store.variant(row.source, row.strategy)}:")
        lines += [f"  {sentence}" for sentence in sentences(row)]
    return lines


def _refuse(table: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    """Name the first row that is wrong, what it says, and what was expected."""
    if wrong.any():
        row = wrong.idxmax()
        said = "empty" if pd.isna(table[column][row]) else f"'{table[column][row]}'"
        raise ValueError(f"row {row}: {column} is {said}, expected {expected}")


def _near(word: str, names) -> str:
    near = get_close_matches(word, list(names), 1, 0.5)
    return f"did you mean '{near[0]}'?" if near else f"there is {', '.join(names) or 'none'}"
