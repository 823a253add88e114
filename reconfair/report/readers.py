"""Exhibits of chapter 07: readers trained by strategies, beside the published values of their source documents."""

import numpy as np
import pandas as pd

from reconfair import fair_diagnosis, figures, tables
from reconfair.report.exhibits import exhibit
from reconfair.words import name, number

QUESTION = "Can the reader be made fairer?"
NOT_TRAINED = "No fairer readers were trained."
SHOWN = ("auroc", "accuracy", "eodd_worst_case", "auroc_gap", "fate_eo", "fate_auc")
SHOWN += ("dice_median", "fairness_gap", "ser_median", "hausdorff_mm_median", "hausdorff_px_median")


def measures(runs) -> pd.DataFrame | None:
    """Table ``measures`` of the study that is reported; None where it has no readers, or they are not made."""
    if runs.study is None or runs.study.readers is None:
        return None
    path = fair_diagnosis.product(runs.study).folder
    return tables.read("measures", path) if (path / "measures.parquet").exists() else None


@exhibit(QUESTION)
def readers(runs):
    """Measures of every reader on originals, with 95 % intervals (Lee et al., MELBA 2025; FairREAD).

    Changes from the baseline, on the same patients, are in square brackets. FATE is left out where the baseline's
    disparity is not above what is expected if groups did not differ. A crop is an upper bound: it needs the true mask.
    """
    table = measures(runs)
    if table is None:
        return NOT_TRAINED
    rows = table[(table.source == "original") & table.metric.isin(SHOWN)]
    overall = (rows.group == "all") & rows.attribute.isin(["all", *rows.attribute[rows.metric == "auroc"]])
    rows = rows[overall | rows.metric.isin(["fairness_gap", "ser_median"])]
    cells = []
    for row in rows.itertuples():
        change = f" [{number(row.change, sign=True)}]" if np.isfinite(row.change) else ""
        cell = f"{number(row.value)} ({number(row.low)} to {number(row.high)}){change}"
        cells.append(cell if np.isfinite(row.value) else "")
    about = rows.attribute.where(rows.group == "all", rows.attribute + ": " + rows.group)
    rows = rows.assign(cell=cells, about=about.map(name), metric=rows.metric.map(name), reader=rows.reader.map(name))
    return rows.pivot_table("cell", ["task", "about", "metric"], "reader", "first", fill_value="", sort=False)


@exhibit(QUESTION)
def readers_against_gap(runs):
    """Gap against performance of every reader on originals; crosses: values that Lee et al. published (ethnicity).

    Classifiers: worst-case EODD over joint groups, and AUROC. Segmenters: gap of median Dice, and median Dice. The best
    place is at the lower right; stars have thresholds by group. Bars: 95 % intervals.
    """
    table = measures(runs)
    if table is None:
        return NOT_TRAINED
    here, rows = table[table.source == "original"], []
    for gap, value in (("eodd_worst_case", "auroc"), ("fairness_gap", "dice_median")):
        performance = here[(here.metric == value) & (here.group == "all")].set_index(["task", "reader"]).value
        for row in here[here.metric == gap].drop_duplicates(["task", "reader"]).itertuples():
            place = {"panel": row.task, "reader": row.reader, "performance": performance[row.task, row.reader]}
            rows.append(place | {"gap": row.value, "gap_low": row.low, "gap_high": row.high})
    rows = pd.DataFrame(rows)
    segments = [task for task, kind in runs.study.tasks.items() if kind == "segment" and task in set(rows.panel)]
    theirs = published_gaps().assign(panel=segments[0]) if segments else None
    return figures.readers(rows, "gap", theirs)


def published_gaps() -> pd.DataFrame:
    """Gap and Dice of the White and Black patients together, as Lee et al. published them for full images."""
    strategies = tables.published("cmr_strategies").query("source == 'full' and level == 'internal'")
    strategies = strategies[(strategies.task == "overall") & (strategies.attribute == "ethnicity")]
    gaps = strategies[(strategies.metric == "fairness_gap") & ~strategies.cited.str.contains("S9")]
    groups = tables.published("cmr_groups").query("source == 'full' and level == 'internal' and task == 'overall'")
    dice = groups[groups.metric == "dice_median"].groupby("strategy").value.mean()
    rows = gaps.rename(columns={"strategy": "reader", "value": "gap"})[["reader", "gap"]]
    return rows.assign(performance=rows.reader.map(dice)).dropna().drop_duplicates("reader")


@exhibit(QUESTION)
def readers_doses(runs):
    """Share of the gradient that the rarest joint group got in training, relative to plain training."""
    if runs.study is None or runs.study.readers is None:
        return NOT_TRAINED
    from reconfair.diagnosis import strategies

    doses = strategies.doses(runs.study)
    if doses.empty:
        return NOT_TRAINED
    doses = doses.assign(reader=doses.reader.map(name))
    return doses.pivot_table("minority_share", "network", "reader", sort=False).round(2)
