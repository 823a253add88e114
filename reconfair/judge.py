"""Chapter 05: from the stored predictions of a study to its performance and fairness tables.

The statistics are in `reconfair.fairness`, which knows nothing of studies and files.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import diagnosis, store, tables
from reconfair.fairness import assess
from reconfair.params import Study


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
    """Rows of ``predictions`` or ``quality`` of every source; an original has no quality to rate."""
    flow, made = store.flow(study), {"original": "original/predictions", "noisy": "noisy"}
    keys = [source for source in sources(study, mitigated) if name == "predictions" or source != "original"]
    return tables.read(name, *(flow[made.get(key, f"{key}/model")].folder for key in keys))


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
        said.append(f"{names(row.metric)} {row.value:.2f}{none} (p = {row.p_disparity:.2g}).")
    if np.isfinite(row["shift"]):
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
