"""``reconfair judge``: anyone's scores, from one table to performance, fairness and sentences."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import store, tables
from reconfair.data.table import SEX
from reconfair.entries import MISSING, Sheet, fold, folded
from reconfair.fairness import assess
from reconfair.fairness.checks import CLASS, SUM
from reconfair.fairness.threshold import balanced_threshold
from reconfair.judge import called_alike, cases, change_sentence, changes, limits, main_measure, sentences
from reconfair.params import ATTRIBUTES
from reconfair.words import name, nearest, number

COLUMNS = ("patient", "unit", "task", "source", "strategy", "reader", "split", "fold", "label", "score", "dice")
COLUMNS += ("class", "decision")  # of our own predictions of several classes
DEFAULTS = {"source": "original", "strategy": "standard", "reader": "standard", "split": "test"}
REAL = ("", "0", "false", "no")  # what a column `synthetic` may say
LABELS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}  # what a table writes for no and yes
OURS = ("original", "standard", "train", "val", "test")
ARM = ["task", "source", "strategy", "reader"]  # what was read, and by whom
MANY = 20  # values of an attribute that may be groups


def judge_file(
    path: Path, *, attributes=(), thresholds=None, inference="closed_form", min_cases=20, ordinal=(), out=None
) -> list[str]:
    """Judge anyone's scores, one table with their attributes, and write ``performance`` and ``fairness``.

    Parameters
    ----------
    path : Path
        CSV or Parquet, a row per decision: ``patient``, ``label`` and ``score``, or ``dice``; optional are
        ``task, unit, source, strategy, split, fold``; every other column is an attribute. Of several classes a column
        ``score_<class>`` for each in the place of ``score``; ``label`` then names the class, and the class with the
        largest score is the decision.
    attributes : sequence of str
        Columns to compare, or ``sex*race``; empty: all.
    thresholds : dict of float, optional
        By task, or by ``task/reader``. Any other is balanced on the reader's own standard originals of split ``val``;
        only rows of ``test`` are judged.
    inference, min_cases
        As `fairness.assess` has them.
    ordinal : sequence of str
        Tasks whose several classes go from low to high in the order of their columns.
    out : Path, optional
        Folder for the tables, as Parquet and CSV; left out: beside the file, named for it.

    Returns
    -------
    list of str
        In sentences: performance of everyone; who is read worse, by how much, with limits, cases and margin; then
        gaps between groups and their shifts, who was left out, and how many rows were missing.

    Raises
    ------
    ValueError
        Naming the file, and the row (counted from 1) or column that is not as expected.
    """
    path = Path(path)
    if min_cases < 2:
        raise ValueError(f"min_cases must be 2 or more, not {min_cases}")
    try:
        rows, notes = read_scores(path)
        rows, attributes, filled = _with_attributes(rows, attributes)
        sources = rows.source.unique()
        if "original" not in sources:
            notes.append(
                f"no row has the source 'original' (there is: {', '.join(sources)}), so no change is judged; write "
                "'original' for the images that the others are compared with"
            )
        else:
            notes += _without_reference(rows[rows.split == "test"])
        notes += _orders(rows, ordinal)
        cut = {} if inference == "as_published" else _thresholds(rows, thresholds or {})
        judged = rows[rows.split == "test"]
        if judged.empty:
            raise ValueError("no row is to be judged, expected some of split 'test', or no column 'split'")
        how = {"inference": inference, "min_cases": min_cases, "ordinal": ordinal}
        how["watch"] = partial(store.progress, what="judging")
        performance, fairness = assess(judged, judged, attributes=attributes, thresholds=cut, **how)
    except ValueError as error:
        lines = [line.removeprefix(f"{path}, ").removeprefix(f"{path}: ") for line in str(error).splitlines()]
        raise ValueError("\n".join(f"{path.name}: {line}" for line in lines)) from None
    out = Path(out or path.with_name(f"{path.stem}_judged"))
    out.mkdir(parents=True, exist_ok=True)
    for kind, table in (("performance", performance), ("fairness", fairness)):
        tables.write(table, kind, out)
        tables.to_csv(table, out / f"{kind}.csv")
    lines = [f"judged: {len(judged)} rows of {judged.patient_id.nunique()} patients; tables: {out}"]
    lines += [*notes, *filled, *_without_dice(judged)]
    needed = max(min_cases, 2)  # as `fairness.assess` has it
    lines.append(f"inference: {inference}; a group is compared if it has {needed} patients of each label it needs")
    if inference == "as_published":
        lines.append("thresholds: chosen on the rows that are judged, for each source anew, as in the published code")
    return lines + _everyone(cut, performance) + _changes(performance) + _gaps(performance, fairness)


def read_scores(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a table of scores as rows of ``predictions``, with attributes beside them; see `judge_file`.

    Returns
    -------
    rows : DataFrame
    notes : list of str
        What was merged, counted as unknown, or taken from another file.
    """
    sheet = _open_scores(path)
    given = sheet.table.columns
    # Several classes have a column of scores each, such as score_mel, in the place of one column score.
    classes = [each[6:] for each in given if each.startswith("score_")]
    if "" in classes:
        raise ValueError("column 'score_' names no class; write its name behind, such as score_mel")
    if alone := [column for column in ("score", "dice") if column in given]:
        labels = folded(sheet.table["label"]) if "label" in given else pd.Series(dtype="str")
        if labels.isin([fold(key) for key in classes]).any():
            several = ", ".join(f"score_{key}" for key in classes)
            raise ValueError(f"column '{alone[0]}' stands beside those of several classes ({several}); leave it out")
        classes = []
    labelled = ["label", "score"] if "score" in given or "dice" not in given else []
    sheet.need(["patient", *(["label"] if classes else labelled)], COLUMNS)
    sheet.need(given)  # no name twice
    rows = pd.DataFrame({"patient_id": sheet.names("patient")})
    for column, default in (DEFAULTS | {"task": path.stem}).items():
        rows[column] = sheet.names(column, column) if column in given else default
        if column in DEFAULTS:  # our own words stand in any case
            rows[column] = rows[column].mask(folded(rows[column]).isin(OURS), folded(rows[column]))
    if "fold" in given:
        rows["fold"] = sheet.names("fold", "fold")
    if "split" in given:
        sheet.refuse("split", ~rows.split.isin(["train", "val", "test"]), "is no split; expected train, val or test")
    if classes:
        return _with_cohort(_by_class(sheet, rows, classes), path, sheet.notes)
    if "label" in given:
        number = pd.to_numeric(sheet.table["label"], errors="coerce")  # 1.0 and 1e0 are 1
        sheet.table["label"] = sheet.table["label"].mask(number.isin([0, 1]), number.map("{:.0f}".format))
    rows["label"] = sheet.coded("label", LABELS) if "label" in given else np.nan
    for column in ("score", "dice"):
        rows[column] = sheet.numbers(column, 0, 1) if column in given else np.nan
    scored = rows.score.notna().groupby(rows.task).transform("any")
    if "score" in given:
        sheet.refuse("score", scored & rows.score.isna(), "has no score, though other rows of this task have one")
        why = "is empty in all rows of this task; a task needs scores, or a column 'dice'"
        sheet.refuse("score", ~scored & ("dice" not in given) & (sheet.table["score"] == ""), why)
    rows["unit"] = _units(sheet, rows)
    for column in given.difference([*COLUMNS, "kind"], sort=False):
        rows[column] = sheet.groups(column)
    if {"class", "decision"} <= set(given):  # our own predictions of several classes
        rows = rows.assign(**{"class": sheet.groups("class"), "decision": sheet.numbers("decision", 0, 1)})
    sheet.check()
    rows["kind"] = np.where(scored, "classify", "segment")
    return _with_cohort(rows, path, sheet.notes)


def _open_scores(path: Path) -> Sheet:
    """Open a table of scores. Refuse columns named as in our own predictions where it does not hold the same."""
    if not path.is_file():
        raise ValueError(f"no such file; {nearest(path.name, [other.name for other in path.parent.glob('*.*')])}")
    sheet = Sheet.open(path)
    if "patient" not in sheet.table and "patient_id" in sheet.table:  # as our own predictions are written
        sheet.table = sheet.table.rename(columns={"patient_id": "patient"})
    nameless = [column for column in sheet.table if re.fullmatch(r"|Unnamed: \d+", column)]  # numbers of rows
    sheet.table = sheet.table.drop(columns=nameless)
    sheet.notes += [f"{len(nameless)} columns without a name are left out"] if nameless else []
    given = sheet.table.columns
    ours = {fold(column): column for column in (*COLUMNS, "patient_id", "class", "decision", "kind")}
    for column in given:
        if ours.get(fold(column), column) != column:
            sheet.mistakes.append(
                f"{sheet.path}: column '{column}' is written '{ours[fold(column)]}'; rename it so, or, if it is a "
                "trait, give it another name"
            )
    if {"patient", "patient_id"} <= set(given):
        both = "columns 'patient' and 'patient_id' both name the patient; leave out one of them"
        sheet.mistakes.append(f"{sheet.path}: {both}")
    alone = {"class", "decision"} & set(given)
    if len(alone) == 1:
        (column,) = alone
        (other,) = {"class", "decision"} - alone
        why = f"goes with '{other}', which is not there; rename it if it is a trait"
        sheet.mistakes.append(f"{sheet.path}: column '{column}' {why}")
    if "kind" in given:
        strange = ~folded(sheet.table["kind"]).isin(["classify", "segment"])
        sheet.refuse("kind", strange, "is neither classify nor segment; rename the column if it is a trait")
    for column in [each for each in given if fold(each) == "synthetic"]:
        why = "is not known to be a real image, and real images alone are judged; expected false, 0, no or empty"
        sheet.refuse(column, ~folded(sheet.table[column]).isin(REAL), why)
        sheet.table = sheet.table.drop(columns=column)  # it is no attribute
    return sheet


def _by_class(sheet: Sheet, rows: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Rows of ``predictions`` of tasks of several classes: one for each row and class."""
    columns = [f"score_{key}" for key in classes]
    if len(classes) < 2:
        raise ValueError(f"column '{columns[0]}' is alone; several classes need a column of scores each, two a 'score'")
    label = _class_of(sheet, classes)
    scores = pd.DataFrame({column: sheet.numbers(column) for column in columns})
    for column in columns:
        empty = scores[column].isna() & folded(sheet.table[column]).isin(MISSING)
        sheet.refuse(column, empty, "is empty; every class needs a score in every row")
    beyond, total = (scores < 0) | (scores > 1), scores.sum(axis=1, skipna=False)
    wrong = (total - 1).abs() > SUM
    if beyond.any(axis=None):  # the first of them stands for all, as percentages are wrong in every column
        rows_beyond = beyond.any(axis=1)
        column = beyond.columns[beyond[rows_beyond].iloc[0].to_numpy().argmax()]
        percent = "; divide percentages by 100" if (total.dropna() - 100).abs().le(100 * SUM).any() else ""
        sheet.refuse(column, rows_beyond, f"is no number from 0 to 1, as scores are{percent}")
    elif wrong.any():
        why = f"and the scores of the other classes sum to {total[wrong].iloc[0]:g}; expected 1"
        sheet.refuse(columns[0], wrong, why)
    rows["unit"] = _units(sheet, rows)
    for column in sheet.table.columns.difference([*COLUMNS, *columns, "kind"], sort=False):
        rows[column] = sheet.groups(column)
    sheet.check()
    # Of classes with the same score the first by name is the decision, whatever the order of the columns.
    by_name = sorted(range(len(classes)), key=lambda k: classes[k])
    first = np.array(by_name)[scores.to_numpy()[:, by_name].argmax(axis=1)]
    largest = scores.eq(scores.max(axis=1), axis=0).sum(axis=1)
    if (largest > 1).any():
        several = f"{(largest > 1).sum()} rows have several classes with the largest score"
        sheet.notes.append(f"{several}; the first by name is taken")
    tables = []
    for k, (key, column) in enumerate(zip(classes, columns, strict=True)):
        about = {"task": rows.task + f"{CLASS}{key}", "class": key, "score": scores[column], "dice": np.nan}
        labels = (label == key).astype(float).where(label.notna())
        tables.append(rows.assign(**about, label=labels, decision=1.0 * (first == k)))
        if not (label == key).any():
            sheet.notes.append(f"class '{key}': no row is of it, so that it cannot be judged")
    return pd.concat(tables, ignore_index=True).assign(kind="classify")


def _class_of(sheet: Sheet, classes: list[str]) -> pd.Series:
    """The class of each row; a class may be called ``none``, and 1.0 is the class 1. Missing where it is not known."""
    written = folded(sheet.table["label"])
    number = pd.to_numeric(written, errors="coerce")
    number = number.map("{:g}".format).where(number.notna())
    named = {fold(key): key for key in classes}
    label = written.map(named).fillna(number.map(named))
    unknown = label.isna() & ~written.isin(MISSING)
    if unknown.any():
        sheet.refuse("label", unknown, f"is no class; {nearest(sheet.table['label'][unknown].iloc[0], classes)}")
    if missing := int((label.isna() & ~unknown).sum()):
        sheet.notes.append(f"column 'label': {missing} rows count as unknown")
    return label


def _units(sheet: Sheet, rows: pd.DataFrame) -> pd.Series:
    """What was decided: as given, else the patient; rows of one source alone need not be told apart.

    A patient who is in two splits, or is tested in two folds, is refused.
    """
    several = rows.groupby(["patient_id", *(["fold"] if "fold" in rows else [])]).split.transform("nunique") > 1
    sheet.refuse("patient", several, "is in more than one split, expected one")
    if "fold" in rows:
        tested = rows.fold.where(rows.split == "test").groupby(rows.patient_id).transform("nunique") > 1
        sheet.refuse("patient", tested, "is tested in more than one fold, expected one")
    keys = [*ARM, *rows.columns.intersection(["fold"])]  # a patient is tested in one fold, and validates others
    if "unit" in sheet.table:
        units = sheet.names("unit", "unit")
        twice = rows.assign(unit=units).duplicated(["unit", *keys])
        others = rows.patient_id.groupby(units).transform("nunique") > 1
        sheet.refuse("unit", twice & ~others, "occurs twice for one task and source, expected once")
        why = "occurs in several patients for one task and source; put the patient into the name of the unit"
        sheet.refuse("unit", twice & others, why)
        return units
    repeated = rows.duplicated(["patient_id", *keys])
    if len(rows[ARM[1:]].drop_duplicates()) > 1:
        sheet.refuse("patient", repeated, "occurs twice for one task and source; a column 'unit' must name the image")
    if not repeated.any():
        return rows.patient_id
    people = rows.patient_id[repeated].nunique()
    note, same = f"{people} patients have several rows; without a column 'unit' each row counts as an image", ""
    if alike := int(sheet.table.duplicated().sum()):
        same = f", also the {alike} that repeat another row in every column"
    sheet.notes.append(note + same)
    return rows.index.to_series().astype(str)


def _with_cohort(rows: pd.DataFrame, path: Path, notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Take the attributes of our own predictions from ``cohort.csv`` beside them."""
    table_path = path.with_name("cohort.csv")
    if rows.columns.difference([*COLUMNS, "patient_id", "kind"]).size or not table_path.is_file():
        return rows, notes
    sheet = Sheet.open(table_path)
    sheet.need(["patient_id"])
    known = [column for column in ATTRIBUTES if column in sheet.table]
    people = {"patient_id": sheet.names("patient_id")} | {column: sheet.groups(column) for column in known}
    people = pd.DataFrame(people)
    sheet.check()
    for column in known:
        several = people.groupby("patient_id")[column].transform("nunique") > 1
        sheet.refuse(column, several, "is not the same in all rows of its patient, expected one")
    sheet.check()
    people = people.groupby("patient_id", as_index=False).first().dropna(axis=1, how="all")  # the first that is known
    lacking = rows.patient_id[~rows.patient_id.isin(people.patient_id)].nunique()
    if lacking == rows.patient_id.nunique():
        raise ValueError(f"no patient is in {table_path.name} beside it; write ids in one way, or move that file away")
    notes = [*notes, *sheet.notes, f"attributes: {', '.join(people.columns[1:])} from {table_path.name}"]
    notes += [f"{lacking} patients are not in {table_path.name}"] if lacking else []
    return rows.merge(people, "left", "patient_id"), notes


def _with_attributes(rows: pd.DataFrame, attributes) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Rows, the attributes to compare, and what was filled or merged in them.

    An attribute is a constant of a patient: an empty entry is taken from the patient's other rows. Of sex, words for
    the same group are one group where a table has several.
    """
    recorded = [column for column in rows if column not in (*COLUMNS, "patient_id", "kind")]
    attributes = list(attributes or recorded)
    if not attributes:
        raise ValueError(f"no attribute to compare, expected a column such as 'sex' beside {', '.join(COLUMNS)}")
    for joint in attributes:
        if len(set(joint.split("*"))) <= joint.count("*"):
            raise ValueError(f"'{joint}' names an attribute twice")
    for column in "*".join(attributes).split("*"):
        if column not in recorded:
            raise ValueError(f"'{column}' is no attribute of this table; {nearest(column, recorded, 'there is')}")
        if rows[column].isna().all():
            raise ValueError(f"column '{column}': no entry is known; leave it out, or name others with --attributes")
        if rows[column].nunique() > MANY:
            few = f"expected groups, {MANY} at most; cut it into groups, or name what to compare with --attributes"
            raise ValueError(f"column '{column}' has {rows[column].nunique()} different values, {few}")
    filled, notes = rows.copy(), []
    for column in dict.fromkeys("*".join(attributes).split("*")):
        words = folded(rows[column]).map(SEX)
        if fold(column) != "sex" and (words.isna() & rows[column].notna()).any():
            words = pd.Series(np.nan, rows.index)
        spelt = rows[column][words.notna()].unique()
        if words.nunique() < len(spelt):
            filled[column] = words.fillna(rows[column])
            notes.append(
                f"column '{column}': {', '.join(spelt)} are the groups {', '.join(sorted(set(words.dropna())))}"
            )
        known = filled.groupby("patient_id")[column].transform("first")
        if empty := int((filled[column].isna() & known.notna()).sum()):
            notes.append(f"column '{column}': {empty} empty entries are taken from other rows of the same patient")
        filled[column] = filled[column].fillna(known)
    return filled, attributes, notes


def _orders(rows: pd.DataFrame, ordinal) -> list[str]:
    """In which order the classes of ordinal tasks are taken: weighted kappa depends on it."""
    tasks = rows.task.str.rsplit(CLASS, n=1).str[0]
    named = rows[tasks.isin(ordinal) & rows["class"].notna()] if "class" in rows else rows[:0]
    order = named["class"].groupby(tasks[named.index], sort=False).unique() if len(named) else {}
    return [f"task '{task}': its classes from low to high are {', '.join(classes)}" for task, classes in order.items()]


def _without_reference(rows: pd.DataFrame) -> list[str]:
    """Which arms have no original by the same reader, so that nothing says how they changed."""
    arms, notes = rows[ARM].drop_duplicates(), []
    first = arms[(arms.source == "original") & (arms.strategy == "standard")]
    known = pd.MultiIndex.from_frame(first[["task", "reader"]])
    lacking = arms[~pd.MultiIndex.from_frame(arms[["task", "reader"]]).isin(known)]
    for arm in lacking.itertuples(index=False):
        notes.append(f"{_arm(*arm)}: no original of this task and reader, so no change of it is judged")
    return notes


def _without_dice(rows: pd.DataFrame) -> list[str]:
    """How many patients of a segmentation are left out, since an arm has no Dice of them."""
    rows = rows[rows.kind == "segment"]
    known = rows.groupby([*ARM, "patient_id"], sort=False).dice.count().gt(0)
    patients = known.groupby(["task", "patient_id"], sort=False).all().groupby("task", sort=False)
    table = pd.DataFrame({"all": patients.size(), "left": patients.size() - patients.sum()})
    why = "patients are left out of all sources, since one has no Dice of them"
    return [f"{row.Index}: {row.left:.0f} of {row[1]} {why}" for row in table.itertuples() if row.left]


def _thresholds(rows: pd.DataFrame, given: dict[str, float]) -> dict:
    """By task and reader, as given, or balanced on this reader's validation originals; with folds, so in each."""
    binary = rows[(rows.kind == "classify") & (rows["class"].isna() if "class" in rows else True)]
    tasks, pairs = binary.task.unique(), (binary.task + "/" + binary.reader).unique()
    for key in given.keys() - {*tasks, *pairs}:
        of_task = rows[(rows.task == key) | (rows.task.str.rsplit(CLASS, n=1).str[0] == key)]
        if len(of_task):
            largest = "of several classes the one with the largest score is the decision"
            why = "a task with Dice has no scores" if (of_task.kind == "segment").all() else largest
            raise ValueError(f"threshold of '{key}': {why}; leave out --threshold {key}")
        meant = nearest(key, [*tasks, *pairs]) if key else f"write --threshold {tasks[0] if len(tasks) else 'task'}=0.5"
        raise ValueError(f"threshold of '{key}': no such task with scores; {meant}")
    if "fold" in rows:
        return {fold: _balanced(inside, given, f" in fold {fold}") for fold, inside in binary.groupby("fold")}
    return _balanced(binary, given)


def _balanced(rows: pd.DataFrame, given: dict[str, float], within: str = "") -> dict[str, dict[str, float]]:
    """Thresholds of the tasks and readers that are tested, each by the reader's own scores."""
    cut, val = {}, rows[(rows.split == "val") & (rows.source == "original") & (rows.strategy == "standard")]
    tested = rows.loc[rows.split == "test", ["task", "reader"]].drop_duplicates()
    for task, reader in tested.itertuples(index=False):
        fixed = given.get(f"{task}/{reader}", given.get(task))
        mine = val[(val.task == task) & (val.reader == reader)]
        if fixed is None and not {0, 1} <= set(mine.label):
            several = tested.task.eq(task).sum() > 1
            whose, key = (f" of reader '{reader}'", f"{task}/{reader}") if several else ("", task)
            where = "rows of both labels with split 'val', source 'original' and strategy 'standard'"
            raise ValueError(
                f"no threshold for task '{task}'{whose}{within}: give --threshold {key}=0.5, or {where} to choose it on"
            )
        cut.setdefault(task, {})[reader] = (
            balanced_threshold(score=mine.score, label=mine.label) if fixed is None else fixed
        )
    return cut


def _everyone(cut: dict, performance: pd.DataFrame) -> list[str]:
    lines = ["", "How well is everyone read?"]
    everyone = performance[performance.attribute == "all"]
    for key, rows in everyone.groupby(ARM, sort=False):
        rows = rows[rows.metric.isin(["auroc", "accuracy", "kappa", "tpr", "fpr", "dice"])]
        values = []
        for row in rows.itertuples():
            value = f" {number(row.value)} ({limits(row.low, row.high, sign=False)})"
            values.append(name(row.metric) + (value if np.isfinite(row.value) else f": {row.note}"))
        chosen = cut.get(key[0], {}).get(key[3])  # with folds there are several
        at = "" if chosen is None else f"; threshold {chosen:.3f}"
        lines.append(f"  {_arm(*key)}: {'; '.join(values)}{at}")
        chance = rows[(rows.metric == "auroc") & rows.note.str.contains("chance")]
        lines += [f"    The classification is {note}." for note in chance.note]
    for row in called_alike(performance).itertuples():
        who = f"{_arm(row.task, row.source, row.strategy, row.reader)}: {row.called} is called positive"
        lines.append(f"  {who}, so rates and their gaps say nothing about groups.")
    moved = everyone[everyone.metric.isin(["tpr", "fpr", "dice"]) & everyone.change.notna()]
    lines += [f"  {_arm(*row[ARM])}, {change_sentence(row)}" for _, row in moved.iterrows()]
    return lines + _missing(performance, everyone)


def _missing(performance: pd.DataFrame, everyone: pd.DataFrame) -> list[str]:
    """Name the attributes that a tenth of the labelled rows lacks, and what follows."""
    lines, labelled, unlabelled = [], everyone.groupby("task").n.max(), everyone.groupby("task").missing.max()
    groups = performance[performance.attribute != "all"]
    for (task, attribute), missing in groups.groupby(["task", "attribute"], sort=False).missing.max().items():
        lacking = missing - unlabelled[task]
        if lacking >= 0.1 * labelled[task]:
            share = f"{lacking:.0f} of {labelled[task]:.0f} rows ({100 * lacking / labelled[task]:.0f} %)"
            lines.append(
                f"  {task}: {attribute} is missing in {share} with a label. The results by {attribute} are those of "
                "the others; reconfair.fairness.sensitivity.missing_attribute shows how far the gaps could differ."
            )
    return lines


def _changes(performance: pd.DataFrame) -> list[str]:
    rows = changes(performance, ("tpr", "fpr", "dice"))
    texts = [f"  {_arm(*row[ARM])}, {row.attribute} {change_sentence(row)}" for _, row in rows.iterrows()]
    worse = (rows.verdict == "worse").tolist()
    lines = ["", "Who is read worse than from the original?"]
    if rows.empty:
        lines.append("  There is nothing to compare: no original beside another source, or no group with enough cases.")
    elif not any(rows.verdict != "not judged"):
        lines.append("  This inference gives no verdict. These are the changes, with limits for each group alone:")
        worse = [True] * len(rows)
    elif not any(worse):
        lines.append("  No group is shown to be read worse.")
    else:
        lines.append("  The limits hold for all groups, tasks and sources of an attribute at once:")
    lines += [text for text, first in zip(texts, worse, strict=True) if first]
    if not all(worse):
        lines += ["", "All other changes of groups that are compared:"]
        lines += [text for text, first in zip(texts, worse, strict=True) if not first]
    return lines


def _gaps(performance: pd.DataFrame, fairness: pd.DataFrame) -> list[str]:
    lines = ["", "Are there gaps between groups, and did they change?"]
    alike = {tuple(row[ARM]): row.called for _, row in called_alike(performance).iterrows()}
    for _, row in main_measure(fairness).iterrows():
        lines.append(f"  {_arm(*row[ARM])}, {row.attribute}:")
        lines += [f"    {sentence}" for sentence in sentences(row)]
        called = alike.get(tuple(row[ARM]))
        if called and np.isfinite(row.value):
            lines.append(f"    These gaps are 0 because {called} is called positive, not because groups are equal.")
        if not np.isfinite(row["shift"]):  # of a reference; what changed from it is above
            same = (performance[[*ARM, "attribute"]] == row[[*ARM, "attribute"]]).all(axis=1)
            groups = performance[same & performance.metric.isin(["tpr", "fpr", "dice"])]
            lines += [f"    {_value(group)}" for group in groups.itertuples()]
    return lines


def _value(row) -> str:
    """A group's performance with limits and cases, or why there is none."""
    if not np.isfinite(row.value):
        return f"{row.group}: {name(row.metric)} {row.note}"
    text = f"{number(row.value)} ({limits(row.low, row.high, sign=False)}); {cases(row)}"
    text += f"; {row.note}" if row.note else ""
    if row.compared == 0 and np.isfinite(row.pooled):
        pooled = f"{number(row.pooled)} ({limits(row.pooled_low, row.pooled_high, sign=False)})"
        text += f"; {pooled} if the group borrows from the others (empirical Bayes)"
    return f"{row.group}: {name(row.metric)} {text}"


def _arm(task: str, source: str, strategy: str, reader: str) -> str:
    """Task, source, and, where they are not the standard ones, strategy and reader."""
    return ", ".join([task, source, *(word for word in (strategy, reader) if word != "standard")])
