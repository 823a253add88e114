"""Chapter 05: from the stored predictions of a study to the tables ``performance`` and ``fairness``.

The statistics are in `reconfair.fairness`, which knows nothing of studies and files.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair import data, diagnosis, noise, perceptual, recon, store, tables
from reconfair.data import elsewhere
from reconfair.fairness import PRIMARY, assess
from reconfair.params import NOISY, ORIGINAL, Reader, Source, Study
from reconfair.store import PACKAGE, Product, Work
from reconfair.words import counted, name, number, p_value

ASIDE = ("simulation", "planning", "sensitivity", "decision", "fate", "medians")  # statistics that enter no table
STATISTICS = [f"reconfair.fairness.{path.stem}" for path in sorted((PACKAGE / "fairness").glob("*.py"))]
STATISTICS = [module.removesuffix(".__init__") for module in STATISTICS if not module.endswith(ASIDE)]
ARM = ("dataset", "level", "task", "source", "strategy", "reader")  # what identifies an arm; one run has no dataset
SPARSE = 30  # patients of a group; below, a few can make most of the error of Dice (benchmarks/calibration.py: H1, H4)
RARE = 400  # patients of a group; below, a large loss of one in 15 is too often missed (the same, G1 to G6)
STANDARD = "strategy == 'standard' and reader == 'standard'"


def predictions(study: Study) -> list[Product]:
    """Predictions on every source that no strategy has changed."""
    return [diagnosis.product(fold, source) for fold in study.folds for source in study.sources]


def qualities(study: Study) -> list[Product]:
    """Products that rate the images of these sources; originals are not rated."""
    models = [recon.product(fold, Source(model)) for fold in study.folds for model in study.models]
    return [noise.product(study), *models] if NOISY in study.sources else models


def rated(study: Study) -> pd.DataFrame:
    """Table ``quality`` of these sources; with ``lite0_distance``, where the params file asks for it."""
    asked = perceptual.products(study)
    return tables.read("quality", *map(store.make, asked)) if asked else collect("quality", qualities(study))


def product(study: Study) -> Product:
    """The tables of originals, noisy images and standard reconstructions."""
    return judged(study, "05", "standard", predictions(study), qualities(study))


def judged(
    study: Study, chapter: str, name: str, read: list[Product], rated: list[Product], readers=("standard",)
) -> Product:
    """The tables of some predictions and qualities, by `readers`; they are those of chapters 05, 06 and later ones."""
    arms = [(fold, reader) for fold in study.folds for reader in readers]
    made = [diagnosis.weights(fold, Reader(net, reader)) for fold, reader in arms for net in fold.networks_of(reader)]
    return Product(
        chapter=chapter,
        run=study.name,
        folder=store.outputs() / study.name / "judged" / name,
        name="judged",
        write=partial(_write, study, read, rated, readers),
        parameters=study.fairness.model_dump(mode="json") | {"attributes": study.attributes()},
        code=(__name__, *STATISTICS),
        needs=(data.product(study), *dict.fromkeys(made), *read, *rated),
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
    rows = main_measure(fairness).query(f"source == 'original' and {STANDARD}")
    return rows.pivot_table("value", "metric", "attribute", "median", sort=False).round(3)


def shift_by_model(fairness: pd.DataFrame) -> pd.DataFrame:
    """Median and median absolute shift in percent, over tasks and attributes (the paper's table 2).

    Columns are measure and reconstructor: percentages of EODD and of SER are not of one kind.
    """
    rows = main_measure(fairness).query(f"source not in ['original', 'noisy'] and {STANDARD}")
    rows = rows.assign(size=rows.shift_percent.abs()).groupby(["metric", "source"], sort=False)
    columns = {"comparisons": ("size", "count"), "median": ("shift_percent", "median")}
    return rows.agg(**columns, absolute_median=("size", "median")).T.round(2)


def by_attribute(fairness: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """Disparity of every task by source (the slides' tables), each with the verdict on its shift.

    Verdicts are those of `fairness.assess`: "grew", "fell", "unequal", "no change"; without a word, a shift is not
    shown.
    """
    rows = fairness[(fairness.attribute == attribute) & (fairness.task != "image")].query(STANDARD)
    rows = rows[rows.metric.isin(["eodd", "eop", "ser", "delta_dice"]) & rows.value.notna()]
    words = rows.verdict.where(~rows.verdict.isin(["not shown", "not judged"]), "")
    cells = rows.assign(cell=[f"{number(value)} {word}".strip() for value, word in zip(rows.value, words, strict=True)])
    return cells.pivot_table("cell", "task", ["source", "metric"], "first", fill_value="", sort=False)


def main_measure(fairness: pd.DataFrame) -> pd.DataFrame:
    """The paper's measure of each task: EODD for classification, SER for segmentation."""
    return fairness[fairness.metric.isin(["eodd", "ser"])]


def changes(performance: pd.DataFrame, metrics=PRIMARY) -> pd.DataFrame:
    """Paired change of every group that is compared: the first result of chapter 05.

    Parameters
    ----------
    performance : DataFrame
    metrics : sequence of str
        The primary measures of the study.

    Returns
    -------
    DataFrame
        Rows of ``performance`` with a column ``harm``: the least change for the worse that the simultaneous limits
        allow (negative where they allow a gain), the largest first.
    """
    rows = performance[(performance.attribute != "all") & (performance.compared == 1) & performance.change.notna()]
    rows = rows[rows.metric.isin(metrics)]
    rows = rows.assign(harm=np.where(rows.metric == "fpr", rows.change_low, -rows.change_high))
    return rows.sort_values("harm", ascending=False, kind="stable")


def called_alike(performance: pd.DataFrame) -> pd.DataFrame:
    """Arms that call everybody or nobody positive, so that their rates, and every gap of them, say nothing.

    Returns
    -------
    DataFrame
        Keys of the arm and ``called``: "everybody" or "nobody".
    """
    rows = performance[(performance.attribute == "all") & performance.metric.isin(["tpr", "fpr"])]
    both = rows.pivot_table("value", [key for key in ARM if key in rows], "metric").reindex(columns=["tpr", "fpr"])
    both["called"] = np.select([both.eq(1).all(axis=1), both.eq(0).all(axis=1)], ["everybody", "nobody"], "")
    return both.loc[both.called != "", "called"].reset_index()


def with_percentages(fairness: pd.DataFrame, performance: pd.DataFrame) -> pd.DataFrame:
    """Fairness without ``shift_percent`` of arms that call everybody or nobody positive: no gap is left there."""
    keys = [key for key in ARM if key in fairness]
    alike = pd.MultiIndex.from_frame(called_alike(performance)[keys])
    useless = pd.MultiIndex.from_frame(fairness[keys]).isin(alike) | ~np.isfinite(fairness.shift_percent)
    return fairness.assign(shift_percent=fairness.shift_percent.mask(useless))


def moved(performance: pd.DataFrame) -> pd.DataFrame:
    """What mitigation did to the best and the worst group of every gap in AUROC, Dice and PSNR.

    Returns
    -------
    DataFrame
        By task, metric, attribute, source, reader and strategy: the two groups as the standard model has them, of
        those that are compared, their ``gap``, its change, and theirs; ``levelled_down`` where the gap fell though the
        worst group did not rise.
    """
    rows = performance[(performance.compared == 1) & performance.metric.isin(["auroc", "dice", "psnr"])]
    keys, changed = ["task", "metric", "attribute", "source", "reader"], []
    for key, some in rows[rows.value.notna()].groupby(keys, sort=False):
        values = some.pivot_table("value", "group", "strategy", sort=False)
        for strategy in values.columns.drop("standard", errors="ignore") if "standard" in values else ():
            standard, change = values.standard, values[strategy] - values.standard
            worst, best = standard.idxmin(), standard.idxmax()
            gap = standard[best] - standard[worst]
            row = {"worst": worst, "best": best, "gap": gap, "gap_change": np.ptp(values[strategy]) - gap}
            row |= {"worst_change": change[worst], "best_change": change[best]}
            down = row["gap_change"] < 0 and row["worst_change"] <= 0
            changed.append(dict(zip(keys, key, strict=True)) | {"strategy": strategy, **row, "levelled_down": down})
    columns = [*keys, "strategy", "worst", "best", "gap", "gap_change", "worst_change", "best_change", "levelled_down"]
    return pd.DataFrame(changed, columns=columns).set_index([*keys, "strategy"]).round(3)


def change_sentence(row) -> str:
    """Say in words how one group, or everyone, is read against the reference: a row of ``performance``.

    Examples
    --------
    >>> row = {"group": "female", "metric": "tpr", "value": 0.59, "change": -0.12, "change_low": -0.21, "n": 90}
    >>> row |= {"change_high": -0.03, "change_bound": -0.2, "margin": 0.05, "kept": 0.0, "verdict": "worse"}
    >>> change_sentence(pd.Series(row | {"patients": 90, "positives": 54.0, "note": ""}))
    'female: true positive rate fell by 0.120 (0.030 to 0.210) to 0.590; 54 positives; margin 0.050.'
    """
    who, note = "everyone" if row.group == "all" else row.group, str(row.note)
    if not np.isfinite(row.change):
        return f"{who}: {name(row.metric)} {note or 'not judged'}."
    margin = number(row.margin)
    differed = next((each for each in note.split("; ") if each.endswith("differed")), "")
    if row.verdict in ("worse", "better", "changed"):
        sizes = sorted(abs(limit) for limit in (row.change_low, row.change_high))
        text = f"{'fell' if row.change < 0 else 'rose'} by {number(abs(row.change))} "
        text += f"({number(sizes[0])} to {number(sizes[1])}) to {number(row.value)}"
    elif differed:
        text = f"did not change, since {differed}; limits {limits(row.change_low, row.change_high)}"
    else:
        text = f"changed by {number(row.change, sign=True)} ({limits(row.change_low, row.change_high)})"
    small = row.verdict == "worse" and row.kept == 1
    excluded = f"a {'rise' if row.metric == 'fpr' else 'loss'} beyond the margin of {margin} is excluded "
    excluded += f"(one-sided 95 % bound {number(row.change_bound, sign=True)})"
    if row.metric == "dice" and row.patients < RARE:
        excluded += f"; a large loss of a few patients can be missed by fewer than {RARE}"
    ending = {
        "worse": excluded if small else f"margin {margin}",
        "kept": excluded,
        "not shown": f"margin {margin}; neither a change nor its absence is shown",
        "not judged": f"margin {margin}; not judged: {note or 'this inference gives no verdict'}",
    }
    return f"{who}: {name(row.metric)} {text}; {cases(row)}; {ending.get(row.verdict, f'margin {margin}')}."


def cases(row) -> str:
    """Write what a row of ``performance`` rests on: positives for TPR, negatives for FPR, else patients.

    Examples
    --------
    >>> row = {"metric": "tpr", "n": 2400, "positives": 1000.0, "patients": 60}
    >>> cases(pd.Series(row)), cases(pd.Series(row | {"metric": "dice"}))
    ('1000 positives in a group of 60 patients', '60 patients')
    """
    label = {"tpr": (row.positives, "positive"), "fpr": (row.n - row.positives, "negative")}.get(row.metric)
    patients = counted(row.patients, "patient")
    if label is None:
        return patients
    return counted(*label) + f" in a group of {patients}" * bool(row.n > row.patients)


def sentences(row, names=name) -> list[str]:
    """What one row of ``fairness`` says in words, and what it does not.

    Parameters
    ----------
    row : Series
    names : callable
        How words are written.

    Examples
    --------
    >>> row = {"metric": "eodd", "value": 0.19, "low": 0.0, "high": 0.26, "expected": 0.18, "p": 0.4, "missing": 2}
    >>> row |= {"shift": np.nan, "p_shift": np.nan, "left_out": "Other (3)", "note": "", "worst": "a", "best": "b"}
    >>> for sentence in sentences(pd.Series(row)):
    ...     print(sentence)
    EODD 0.190 (0.000 to 0.260); if groups did not differ, 0.180 would be expected (p = 0.40).
    Not compared, with their patients of the rarer label: Other (3). The gap says nothing about them.
    Rows without label or attribute: 2.
    """
    lines = []
    if np.isfinite(row.value):
        text = f"{names(row.metric)} {number(row.value)} ({limits(row.low, row.high, sign=False)})"
        if np.isfinite(row.expected):
            text += f"; if groups did not differ, {number(row.expected)} would be expected"
            text += f" ({p_value(row.p)})" * bool(np.isfinite(row.p))
        elif np.isfinite(row.low):
            text += "; a resampled gap is hardly ever 0, so these limits cannot show that groups differ"
            text += ", and here they lie above the gap itself" * bool(row.low > row.value)
        lines.append(f"{text}.")
        if row.worst and row.get("p_adjusted", 1.0) <= 0.05:
            ends = f"{row.worst} is served worst and {row.best} best"
            if row.metric in ("eodd", "eodd_worst"):  # its test asks whether rates differ, not who is served worse
                ends = f"TPR minus FPR is lowest for {row.worst} and highest for {row.best}"
            lines.append(f"The groups differ. In this sample {ends}.")
    if np.isfinite(row["shift"]):
        lines.append(_shift_sentence(row))
    if row.note:
        lines.append(f"Note: {row.note}.")
    if row.metric in ("ser", "delta_dice") and row.get("n_smallest", np.nan) < SPARSE:
        short = " and the limits of the shift are too short" * (row.metric == "ser")
        few = f"a group has fewer than {SPARSE} patients"
        lines.append(f"Note: {few}; if a few of them make most of the error, p is too small{short}.")
    if row.metric in ("ser", "delta_dice") and row.verdict == "no change" and row.get("n_smallest", np.nan) < RARE:
        lines.append(f"Note: a large loss of a few patients can be missed by a group of fewer than {RARE}.")
    if row.left_out:
        about = "" if row.metric in ("ser", "delta_dice") else " of the rarer label"
        lines.append(f"Not compared, with their patients{about}: {row.left_out}. The gap says nothing about them.")
    if row.missing > 0:
        lines.append(f"Rows without label or attribute: {row.missing:.0f}.")
    return lines


def _shift_sentence(row) -> str:
    """What the shift of a gap allows to say; the verdict is that of the table."""
    relative = row.metric == "ser" and not np.isfinite(row.p_shift)  # of the bootstraps, a difference of ratios
    unit, factor, digits = (" %", 100, 1) if relative else ("", 1, 3)

    def written(value, sign=False):
        return number(factor * value, digits, sign) + unit

    interval = f"({written(row.shift_low, True)} to {written(row.shift_high, True)})"
    reference = "noisy image" if row.task == "image" else "original"
    margin, moved = f"the margin is {written(row.margin)}", f"shift {written(row['shift'], True)} {interval}"
    if row.verdict in ("grew", "fell"):
        text = f"Against the {reference} the gap {row.verdict}: {moved}; {margin}"
        return text + (f", and no gap changed by more than {written(row.bound)}." if row.no_change == 1 else ".")
    if row.verdict == "unequal":
        unlike = f"The groups changed unequally ({p_value(row.p_unequal_adjusted)} after adjustment)"
        return f"{unlike}. Whether that widened the gap cannot be told: {moved}; {margin}."
    if row.verdict == "no change":
        within = f"No gap changed by more than {written(row.bound)} (95 % bound); {margin}"
        return f"{within}, so there is no change that matters: {moved}."
    if row.verdict == "not shown":
        only = f"this cohort supports only that no gap changed by more than {written(row.bound)}"
        return f"A change of the gap is not shown, nor its absence: {moved}; {only}, and {margin}."
    flat = ", which has no width because all resamples are alike; that is not certainty"
    flat = flat if row.shift_low == row.shift_high else ""
    p = f", {p_value(row.p_shift)}" if np.isfinite(row.p_shift) else ""
    return f"Against the {reference}: {moved}{flat}{p}; {margin}. This inference gives no verdict."


def limits(low: float, high: float, sign: bool = True) -> str:
    """Write the limits of an interval; an interval without width is no certainty."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "no limits are known"
    if low == high:
        return "no width: all resamples are alike, which is not certainty"
    return f"{number(low, sign=sign)} to {number(high, sign=sign)}"


def _work(study: Study, sources: int) -> Work:
    """Decisions to draw anew."""
    drawn = data.sizes(study)["eval"] * len(study.tasks) * study.fairness.resamples / 1e6
    return Work(f"judge {study.fairness.inference}", drawn * sources, 0.1)


def _write(study: Study, read: list[Product], rated: list[Product], readers, folder: Path) -> None:
    for kind, table in zip(("performance", "fairness"), _assessed(study, read, rated, readers), strict=True):
        tables.write(table, kind, folder)


def thresholds(study: Study, readers=("standard",)) -> dict:
    """Balanced threshold by task and reader, with folds by fold, as `fairness.assess` takes them."""
    if len(study.folds) > 1:
        return {fold.number: thresholds(fold, readers) for fold in study.folds}
    by_task = {}
    for reader in readers:
        for task, threshold in diagnosis.thresholds(study, reader).items():
            by_task.setdefault(task, {})[reader] = threshold
    return by_task


def _assessed(
    study: Study, read: list[Product], rated: list[Product], readers=("standard",)
) -> tuple[pd.DataFrame, ...]:
    answers, quality = collect("predictions", read), collect("quality", rated) if rated else None
    assessed = assess(
        shared(answers[answers.split == "test"], ["task", "unit"], study),
        data.load(study).table,
        quality=None if quality is None else shared(quality[quality.split == "test"], ["image_id"]),
        attributes=study.attributes(),
        thresholds=thresholds(study, readers),
        ordinal=study.ordinal,
        whole=[word for word in study.dataset.about.whole if word in study.attributes()],
        watch=partial(store.progress, what="judging"),
        **study.fairness.model_dump(exclude={"attributes"}),
    )
    return tuple(ordered(table, study) for table in assessed)


def shared(rows: pd.DataFrame, keys: list[str], study: Study | None = None) -> pd.DataFrame:
    """Rows of the units that every source has: of images made elsewhere, some may be missing.

    The score of a patient is the median over his images. Where a source of the `study` lacks some of them, it would be
    a median over others, so that he is left out.
    """
    if study is not None and study.dataset.about.unit == "patient" and len(lacking := partly_seen(study)):
        left = (rows.kind == "classify") & rows.patient_id.isin(lacking)
        if left.any():
            table = data.load(study).table.drop_duplicates("patient_id")
            table = table[table.patient_id.isin(rows.patient_id[left])]
            why = "since a source lacks some of their images"
            print(f"{len(table)} patients are left out, {why} ({elsewhere.by_group(study, table)})")
            rows = rows[~left]
    arms = rows.groupby([key for key in ("task", "source", "strategy", "reader") if key in rows]).ngroup()
    every = arms.groupby(rows.task).transform("nunique") if "task" in rows else arms.nunique()
    kept = arms.groupby([rows[key] for key in keys]).transform("nunique") == every
    if not kept.all():
        print(f"{(~kept).sum()} of {len(rows)} test rows are left out, since not every source has an image for them")
    return rows[kept]


def partly_seen(study: Study) -> set[str]:
    """Val and test patients of whom a source that was made elsewhere lacks an image."""
    return {patient for fold in study.folds for patient in _partly_seen(fold)}


def _partly_seen(study: Study) -> set[str]:
    *_, whole = diagnosis.looked_at(study, ORIGINAL)
    return set(whole.patient_id[~whole.image_id.isin(diagnosis.everywhere(study))])


def ordered(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows in the order of tasks, then original, noisy, reconstructors, each followed by its strategies."""
    tasks = dict.fromkeys(word for task in study.tasks for word in (task.partition(": ")[0], task))
    order = {word: at for at, word in enumerate([*tasks, "image", ORIGINAL.model, NOISY.model, *study.models])}
    strategies = dict.fromkeys(source.strategy for source in study.mitigated)
    order |= {strategy: at for at, strategy in enumerate(["standard", *strategies])}
    readers = [reader for reader in dict.fromkeys(table.reader) if reader not in order]
    order |= {reader: len(order) + at for at, reader in enumerate(readers)}
    keys = ["task", "source", "strategy", "reader"]
    return table.sort_values(keys, key=lambda words: words.map(order), kind="stable")
