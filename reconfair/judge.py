"""Chapter 05: from the stored predictions of a study to the tables ``performance`` and ``fairness``.

The statistics are in `reconfair.fairness`, which knows nothing of studies and files.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import data, diagnosis, noise, recon, store, tables
from reconfair.fairness import assess
from reconfair.params import NOISY, ORIGINAL, Reader, Source, Study
from reconfair.store import PACKAGE, Product, Work

ASIDE = ("simulation", "planning", "sensitivity", "decision")  # statistics that enter no table
STATISTICS = [f"reconfair.fairness.{path.stem}" for path in sorted((PACKAGE / "fairness").glob("*.py"))]
STATISTICS = [name.removesuffix(".__init__") for name in STATISTICS if not name.endswith(ASIDE)]


def predictions(study: Study) -> list[Product]:
    """Predictions on every source that no strategy has changed."""
    return [diagnosis.product(study, source) for source in study.sources]


def qualities(study: Study) -> list[Product]:
    """Products that rate the images of these sources; originals are not rated."""
    models = [recon.product(study, Source(model)) for model in study.models]
    return [noise.product(study), *models] if NOISY in study.sources else []


def product(study: Study) -> Product:
    """The tables of originals, noisy images and standard reconstructions."""
    return judged(study, "05", "standard", predictions(study), qualities(study))


def judged(study: Study, chapter: str, name: str, read: list[Product], rated: list[Product]) -> Product:
    """The tables of some predictions and qualities, which are those of chapters 05, 06 and later ones."""
    readers = [diagnosis.weights(study, Reader(network)) for network in study.networks]
    return Product(
        chapter=chapter,
        run=study.name,
        folder=store.outputs() / study.name / "judged" / name,
        name="judged",
        write=partial(_write, study, read, rated),
        parameters=study.fairness.model_dump(mode="json") | {"attributes": study.attributes()},
        code=(__name__, *STATISTICS),
        needs=(data.product(study), *readers, *read, *rated),
        work=partial(_work, study, len(read)),
        command=study.command,
    )


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    return [product(study)]


def judge(study: Study, made: Product | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Assess the test split unless that is fresh, and read the tables ``performance`` and ``fairness``.

    Parameters
    ----------
    study : Study
    made : Product, optional
        Which tables; by default those of `product`.
    """
    folder = store.make(made or product(study))
    return tables.read("performance", folder), tables.read("fairness", folder)


def collect(name: str, products: Iterable[Product]) -> pd.DataFrame:
    """Rows of ``predictions`` or ``quality`` of some products, one below the other."""
    return tables.read(name, *map(store.ready, products))


def inferred(study: Study, inference: str) -> pd.DataFrame:
    """Table ``fairness`` of the standard models by another inference, for comparison; nothing is stored."""
    settings = study.fairness.model_copy(update={"inference": inference})
    return _assessed(study.model_copy(update={"fairness": settings}), predictions(study), qualities(study))[1]


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


def _work(study: Study, sources: int) -> Work:
    """Decisions to draw anew."""
    drawn = data.sizes(study)["eval"] * len(study.tasks) * study.fairness.resamples / 1e6
    return Work(f"judge {study.fairness.inference}", drawn * sources, 0.1)


def _write(study: Study, read: list[Product], rated: list[Product], folder: Path) -> None:
    for name, table in zip(("performance", "fairness"), _assessed(study, read, rated), strict=True):
        tables.write(table, name, folder)


def _assessed(study: Study, read: list[Product], rated: list[Product]) -> tuple[pd.DataFrame, pd.DataFrame]:
    answers, quality = collect("predictions", read), collect("quality", rated) if rated else None
    assessed = assess(
        answers[answers.split == "test"],
        data.load(study).table,
        quality=None if quality is None else quality[quality.split == "test"],
        attributes=study.attributes(),
        thresholds=diagnosis.thresholds(study),
        **study.fairness.model_dump(exclude={"attributes"}),
    )
    return tuple(ordered(table, study) for table in assessed)


def ordered(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows in the order of tasks, then original, noisy, reconstructors, each followed by its strategies."""
    order = {word: at for at, word in enumerate([*study.tasks, "image", ORIGINAL.model, NOISY.model, *study.models])}
    strategies = dict.fromkeys(source.strategy for source in study.mitigated)
    order |= {strategy: at for at, strategy in enumerate(["standard", *strategies])}
    return table.sort_values(["task", "source", "strategy"], key=lambda words: words.map(order), kind="stable")
