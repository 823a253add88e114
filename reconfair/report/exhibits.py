"""Exhibits: functions from `Runs` to a figure, a table, or a sentence that says why there is neither.

The docstring of an exhibit is printed with it: its caption, then a note for the reader.
"""

from functools import cache, wraps

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from reconfair import data, diagnosis, figures, judge, noise, recon, synthesis, tables
from reconfair.judge import STANDARD
from reconfair.params import NOISY, Source
from reconfair.report.claims import compare, costs
from reconfair.report.runs import RUN, own_thresholds, reconstructed
from reconfair.words import VERDICTS, mathtext, name, number, p_value

EVERY = {}  # by name: the question that it answers, and the function
MAIN = ["auroc", "dice", "psnr", "ssim", "lpips", "lite0_distance"]
NOT_TRIED = "No mitigation was tried."
NO_NUMBERS = "No attribute is kept whole."
NO_SYNTHESIS = "No synthetic images were made."
ORIGINALS = "Originals alone were judged."
PUBLISHED = "published"  # in place of the measure, where the paper pools EODD and SER
NO_THRESHOLDS = "Thresholds by group were not tried, or it is not known which groups got one."
SHIFT = ["shift", "shift_low", "shift_high"]
TUNED = "Does mitigation help, and what does it cost?"


def exhibit(question: str):
    """Register a function as part of the answer to a question; it draws once for each `Runs`."""

    def register(draw):
        @cache
        @wraps(draw)
        def once(runs):
            content = draw(runs)
            plt.close("all")
            return content

        EVERY[draw.__name__] = question, once
        return once

    return register


@exhibit("What was done?")
def framework(runs):
    """What feeds what (the paper's figure 1).

    The diagnosis never changes: where two columns of a table differ, the images differed.
    """
    study = runs.study
    strategies = dict.fromkeys(source.strategy for source in study.mitigated)
    return figures.framework(study.models, strategies, study.attributes())


@exhibit("What was done?")
def cohort(runs):
    """Patients by sex, age and race (the paper's tables 5 and 6)."""
    study = runs.study
    patients = data.load(study).table.drop_duplicates("patient_id")
    keys = [key for key in ("sex", "age_group", "race") if patients[key].notna().any()]
    theirs = tables.published("cohorts").query("dataset == @study.dataset.name").assign(by="published")
    both = pd.concat([patients.assign(by="ours", patients=1), theirs])[["by", *keys, "patients"]]
    counts = both.fillna("unknown").pivot_table("patients", ["by", *keys[:2]], keys[2:] or None, "sum", fill_value=0)
    return counts.assign(all=counts.sum(axis=1)) if keys[2:] else counts


@exhibit("What was done?")
def examples(runs):
    """Test images whose noisy versions are poor, middling and good by PSNR, and their reconstructions.

    Without noisy images, the first reconstruction orders them.
    Chosen by rank, not by eye. Three images show what to expect; they prove nothing. With folds, they are those of
    fold 1.
    """
    study = runs.study.folds[0]
    if not study.models:
        return ORIGINALS
    files = {model: recon.product(study, Source(model)).folder / "reconstructed.npy" for model in study.models}
    if not all(path.exists() for path in files.values()):
        return "The images of this run are no longer there; its tables are."
    images = data.load(study)
    rows = data.rows(images.table, "eval")
    first = diagnosis.images_of(study, study.sources[1])
    rated = tables.read("quality", first.folder).set_index("image_id").psnr
    psnr = rated.reindex(images.table.image_id.iloc[rows]).where(images.table.split.iloc[rows].to_numpy() == "test")
    at = psnr.to_numpy().argsort()[[int(share * psnr.count()) for share in (0.1, 0.5, 0.9)]]  # missing ones come last
    sources = {"original": images.images[rows[at]]}
    sources |= {"noisy": noise.load(study)[rows[at]]} if NOISY in study.sources else {}
    sources |= {model: np.load(path, mmap_mode="r")[at] for model, path in files.items()}
    titles = [mathtext(name(source)) for source in sources]
    labels = [f"{study.sources[1]}: {value:.1f} dB" for value in psnr.iloc[at]]
    return figures.montage(list(zip(*sources.values(), strict=True)), titles, labels)


@exhibit("Does the diagnosis survive?")
def verdicts(runs):
    """Verdict on every comparison of a reconstruction with the original.

    Worse (bias: grew) and better (bias: fell): the 95 % interval of the change excludes 0. Kept: the change is within
    the margin. Unequal: the groups changed unequally, and whether that widened the gap cannot be told. Not shown does
    not mean unchanged. Not judged: too few patients, or an inference without verdicts.
    """
    one = runs.study is not None and runs.at_level(runs.performance).dataset.nunique() == 1
    verdicts = compare(runs).groupby(["question"] if one else [*RUN, "question"], sort=False).verdict
    counts = verdicts.value_counts(sort=False).unstack(fill_value=0)
    return figures.verdicts(counts.reindex(columns=list(VERDICTS), fill_value=0))


@exhibit("Does the diagnosis survive?")
def against_noise(runs):
    """Image quality and diagnosis against noise (after the paper's figures 2, 10 and 18).

    Diagnosis in percent of its value on originals, SSIM in percent of the best value shown, PSNR in decibels below the
    best value shown. Bars: 95 % intervals. Where a line is flatter than that of SSIM, the image suffered more than the
    diagnosis. Decibels are logarithms, so a percentage of them would mean nothing.
    """
    rows = runs.overall("psnr", "ssim", "auroc", "dice").query(STANDARD)
    if (rows.source == "original").all():
        return ORIGINALS
    for column in ("value", "published"):
        original = rows[column].where(rows.source == "original")
        reference, best = (each.groupby([rows.task, rows.metric]).transform("max") for each in (original, rows[column]))
        rows = rows.assign(**{f"{column}_of": reference.fillna(best) / 100})
    shares = {"share": "value", "share_low": "low", "share_high": "high", "share_published": "published"}
    for share, column in shares.items():
        of = rows["published_of" if column == "published" else "value_of"]
        rows = rows.assign(**{share: (rows[column] / of).where(rows.metric != "psnr", rows[column] - 100 * of)})
    images_first = rows[rows.source != "original"].sort_values("task", key=lambda task: task != "image", kind="stable")
    return figures.against_noise(images_first)


@exhibit("Does the diagnosis survive?")
def performance(runs):
    """Performance by noise level, task and source, with 95 % intervals (the paper's tables 7 and 8)."""
    return _intervals(runs.overall(*MAIN).query(STANDARD), ["level", "task", "metric"], ["source"])


@exhibit("Does the diagnosis survive?")
def against_baseline(runs):
    """Change of performance and shift of bias against how well a task is solved on originals (slides).

    If difficult tasks suffer most, the dots lie further from 0 on the left. The panels on bias leave out segmentation,
    because SER has another scale.
    """
    solved = runs.overall("auroc", "dice").query("source == 'original'").drop_duplicates(["dataset", "task"])
    asked = "metric in ['auroc', 'dice', 'eodd'] and question != 'performance of groups' and change.notna()"
    rows = compare(runs).query(asked)
    if rows.empty:
        return "No change is known."
    rows = rows.drop(columns="value").assign(x=rows.task.map(solved.set_index("task").value))
    return figures.against_baseline(rows)


def _group_changes(tuned: bool = False):
    """Register the figure of each group's paired change, of standard models alone or of all."""

    def changes(runs):
        rows = runs.at_level(runs.performance).query("task != 'image'")
        rows = reconstructed(judge.changes(rows, runs.studies[0].fairness.primary))
        rows = rows if tuned else rows.query(STANDARD)
        if tuned and rows.strategy.nunique() <= 1:
            return NOT_TRIED
        return figures.changes(rows)

    changes.__name__ = "group_changes" + "_by_strategy" * tuned
    changes.__doc__ = f"""Change of each group against the original{", for every strategy" * tuned}: the first result.

    Bars: 95 % limits that hold for all groups, tasks and sources of an attribute at once. Filled: the limits exclude
    0. Grey: the change is kept within the margin, which is shaded. Hollow: not shown. Only groups with enough cases are
    drawn."""
    return exhibit(TUNED if tuned else "Is bias shifted, and for whom?")(changes)


group_changes = _group_changes()


@exhibit("Is bias shifted, and for whom?")
def shift_histogram(runs):
    """Bias shifts of all tasks and reconstructors in percent of the bias on originals (the paper's figure 3).

    EODD and SER have panels of their own. A source that calls everybody or nobody positive has no percentage.
    """
    return figures.shift_histogram(runs.shifts().query(STANDARD))


def _shifts(metric: str, cited: str, question="Is bias shifted, and for whom?", tuned: bool = False):
    """Register the figure of one measure's shifts, of standard models alone or of all."""

    def shifts(runs):
        rows = runs.shifts(metric).assign(published=lambda rows: rows.published_shift)
        rows = rows if tuned else rows.query(STANDARD)
        if runs.shifts().empty:
            return ORIGINALS
        if rows.empty:
            return f"No task of this study is measured by {name(metric)}."
        if tuned and rows.strategy.nunique() == 1:
            return NOT_TRIED
        return figures.shifts(rows, metric)

    strategies = ", of every strategy," if tuned else ""
    shifts.__name__ = f"shift_{metric}" + ("_by_strategy" if tuned else "")
    shifts.__doc__ = f"""Shift of {name(metric)}{strategies} against the original, task by task ({cited}).

    Right of 0 the disparity is larger. Filled: it grew or fell. Pale: the groups changed unequally. Grey: no gap
    changed by more than the margin, which is shaded. Hollow: not shown. Bars: 95 % intervals. Crosses: values of
    the slides. A shift of SER is relative: 0.1 is a ratio larger by a tenth."""
    return exhibit(question)(shifts)


shift_eodd = _shifts("eodd", "the paper's figures 4, 5 and 16")
shift_ser = _shifts("ser", "the paper's figure 5")
shift_eop = _shifts("eop", "the paper's figures 14, 15 and 17")
shift_delta_dice = _shifts("delta_dice", "the paper's figure 15")


@exhibit("Is bias shifted, and for whom?")
def bias_on_originals(runs):
    """Median disparity on originals, over tasks (the paper's table 1; published: medians of the slides' tables).

    In brackets: the average disparity of groups of these sizes if they did not differ.
    """
    rows = runs.at_level(runs.fairness).query("source == 'original' and metric in ['eodd', 'eop', 'ser', 'delta_dice']")
    medians = rows.groupby(["metric", "attribute"], sort=False)[["value", "expected", "published"]].median()
    medians = medians.dropna(how="all").reset_index()
    return _wide(medians, "{value:.3f} ({expected:.3f})", "{published:.3f}", ["metric"], ["attribute"])


@exhibit("Is bias shifted, and for whom?")
def by_attribute(runs):
    """Disparity of every task by source (slides), with the verdict on its shift.

    grew, fell: the interval of the shift excludes 0. unequal: the groups changed unequally. no change: no gap changed
    by more than the margin. Without a word: not shown. The slides mark by colour, which our copy lacks.
    """
    rows, attributes = runs.at_level(runs.fairness).query("source != 'noisy'"), {}
    for attribute in dict.fromkeys(rows.attribute):
        theirs = rows[(rows.attribute == attribute) & rows.published.notna()]
        theirs = theirs.assign(cell=theirs.published.map("{:.3f}".format))
        theirs = theirs.pivot(index="task", columns=["source", "metric"], values="cell")
        both = {"ours": judge.by_attribute(rows, attribute)} | ({"slides": theirs} if len(theirs) else {})
        both = pd.concat(both, names=["by", "task"]).swaplevel()
        attributes[name(attribute)] = both.loc[list(dict.fromkeys(both.index.get_level_values("task")))]
    return pd.concat(attributes, names=["attribute"]).fillna("").rename(columns=name)


@exhibit("Is bias shifted, and for whom?")
def slopes(runs):
    """Change of a rate along an attribute that is kept whole, for one standard deviation of it, and its shift.

    In brackets: 95 % limits of each slope alone. A slope has no verdict. A straight line is a summary: a rate that is
    lowest in the middle has a slope near 0.
    """
    rows = runs.at_level(runs.fairness).query(STANDARD)
    rows = rows[rows.metric.str.endswith("_slope") & rows.value.notna()]
    if rows.empty:
        return NO_NUMBERS
    moved = [f"; shift {number(shift, 3, True)} ({judge.limits(*ends)})" for shift, *ends in rows[SHIFT].to_numpy()]
    rows = rows.assign(moved=np.where(rows["shift"].notna(), moved, ""), per=rows.note.str.split(";").str[0])
    return _wide(rows, "{value:+.3f} ({low:+.3f} to {high:+.3f}){moved}", "", ["task", "metric", "per"], ["source"])


@exhibit("Is bias shifted, and for whom?")
def shift_by_model(runs):
    """Bias shift in percent by reconstructor: median over tasks and attributes, and median size (the paper's table 2).

    In brackets: the quartiles. The published values are over both datasets of the paper at their middle noise levels,
    and over EODD and SER, which we keep apart.
    """
    rows = runs.shifts().query(STANDARD)
    if rows.empty:
        return ORIGINALS
    size = rows.assign(shift_percent=rows.shift_percent.abs(), statistic="absolute median")
    rows = pd.concat([rows.assign(statistic="median"), size])
    keys = ["dataset"] * (runs.study is None) + ["metric", "statistic"]
    return _quartiles(rows, "shift_percent", keys, ["source"], "paper: table 2", dataset="paper", metric=PUBLISHED)


@exhibit("Is bias shifted, and for whom?")
def psnr_gaps(runs):
    """Largest difference in mean PSNR between groups in percent of the mean, and its p (slides)."""
    gaps = runs.at_level(runs.fairness).query(f"metric == 'psnr_gap' and {STANDARD} and value.notna()")
    if gaps.empty:
        return "No two groups have enough patients to be compared."
    mean = runs.at_level(runs.overall("psnr")).query(STANDARD).set_index("source").value
    gaps = gaps.assign(percent=100 * gaps.value / gaps.source.map(mean))
    gaps = gaps.assign(p=[f" ({p_value(p)})" if np.isfinite(p) else "" for p in gaps.p])
    wanted = ["PSNR gap", "p of PSNR gap"]
    theirs = tables.published("summaries").query("dataset == @runs.study.dataset.name and statistic in @wanted")
    theirs = theirs.pivot(index=["attribute", "source"], columns="statistic", values="value").reindex(columns=wanted)
    gaps = gaps.join(theirs, ["attribute", "source"]).assign(published=lambda rows: rows["PSNR gap"])
    return _wide(gaps, "{percent:.2f}{p}", "{PSNR gap:g} (p = {p of PSNR gap:g})", ["attribute"], ["source"])


@exhibit("How sure are we?")
def absolute_shift(runs):
    """Size of the bias shift in either direction (slides): dots are tasks, bars their mean.

    Noise alone makes every size larger than 0, so a bar shows no shift by itself.
    """
    rows = runs.shifts().query(f"{STANDARD} and shift.notna()")
    return figures.amounts(rows.assign(amount=rows["shift"].abs()), "absolute shift")


@exhibit("How sure are we?")
def interval_lengths(runs):
    """Length of the 95 % interval of the disparity by source and strategy: dots are tasks, bars their mean.

    The slides show standard errors. A source or strategy that makes results less certain has higher bars.
    """
    rows = judge.main_measure(runs.at_level(runs.fairness)).query("low.notna() and high.notna()")
    return figures.amounts(rows.assign(amount=rows.high - rows.low), "length of the interval")


@exhibit("How sure are we?")
def supported(runs):
    """What this cohort supports, over tasks and reconstructors.

    n_smallest: patients of the rarer label in the smallest compared group; bound: least and largest 95 % bound of the
    change of any gap; margin: the change that would not matter; no_change: in how many comparisons the bound is below
    it. SER: relative changes.
    """
    rows = runs.shifts().query(STANDARD)
    if rows.empty:
        return ORIGINALS
    lines = {}
    for key, some in rows.groupby(["attribute", "metric"], sort=False):
        bound = f"{number(some.bound.min())} to {number(some.bound.max())}" if some.bound.notna().any() else ""
        smallest = f"{some.n_smallest.min():.0f}" if some.n_smallest.notna().any() else ""
        lines[tuple(map(name, key))] = {
            "n_smallest": smallest,
            "bound": bound,
            "margin": number(some.margin.max()),
            "no_change": f"{some.no_change.sum():.0f} of {len(some)}",
            "left_out": "; ".join(dict.fromkeys(filter(None, some.left_out))) or "none",
            "missing": some.missing.max(),
        }
    return pd.DataFrame(lines).T.rename_axis(index=["attribute", "metric"])


group_changes_by_strategy = _group_changes(tuned=True)
shift_eodd_by_strategy = _shifts("eodd", "the paper's figures 4 and 5", TUNED, tuned=True)
shift_ser_by_strategy = _shifts("ser", "the paper's figure 5", TUNED, tuned=True)


@exhibit(TUNED)
def shift_by_strategy(runs):
    """Bias shift against originals in percent, by strategy: the median over tasks (the paper's table 3).

    Each reconstructor stands by itself, since not all had every strategy. In brackets: the quartiles. The published
    values are over both datasets of the paper, all its reconstructors, and EODD and SER.
    """
    if runs.shifts().empty:
        return ORIGINALS
    keys = ["dataset"] * (runs.study is None) + ["metric", "source", "strategy"]
    pooled = {"dataset": "paper", "metric": PUBLISHED, "source": "all"}
    return _quartiles(runs.shifts(), "shift_percent", keys, ["attribute"], "paper: table 3", **pooled)


@exhibit(TUNED)
def cost(runs):
    """Change by each strategy against the standard model of the same reconstructor (the paper's figure 13).

    Up: a better diagnosis. Right: a better image in the left panel, more bias in the right panel.
    """
    return figures.costs(rows) if len(rows := costs(runs)) else NOT_TRIED


@exhibit(TUNED)
def tradeoffs(runs):
    """Change of PSNR, performance and bias against the standard model of the same reconstructor, percent (table 4).

    Performance and bias: AUROC and EODD, or Dice and SER. Medians over noise levels, in brackets the quartiles if there
    are several. The published values are means over reconstructors at the paper's middle noise level.
    """
    rows = costs(runs).rename(columns={"psnr": "PSNR", "downstream": "performance"})
    if rows.empty:
        return NOT_TRIED
    rows = rows.melt(["dataset", "source", "strategy", "metric"], ["PSNR", "performance", "bias"], "statistic")
    keys = ["dataset", "source", "strategy", "metric"]
    table = _quartiles(rows, "value", keys, ["statistic"], "paper: table 4", source="all", metric=PUBLISHED)
    named = {*rows.dataset, *(study.dataset.name for study in runs.studies)}
    return table[table.index.get_level_values("dataset").isin(named)]


@exhibit(TUNED)
def group_thresholds(runs):
    """Groups that got a threshold of their own, by reconstructor and task: what the strategy `thresholds` moved.

    A joint group with too few validation cases takes the threshold of a single attribute, else that of all. Where all
    patients keep the threshold of all, the strategy is not applied.
    """
    counts = own_thresholds(runs.study)
    if not counts:
        return NO_THRESHOLDS
    table = pd.DataFrame(counts).T.rename(index=name).rename_axis("source")
    return table.map(lambda moved: f"{moved:.0f}" if moved else "not applied")


@exhibit(TUNED)
def strategies(runs):
    """Performance by strategy at this noise level, with 95 % intervals (slides)."""
    rows = runs.at_level(runs.overall(*MAIN)).query("source not in ['original', 'noisy']")
    return _intervals(rows, ["task", "metric"], ["source", "strategy"]) if rows.strategy.nunique() > 1 else NOT_TRIED


def _intervals(rows: pd.DataFrame, index: list[str], columns: list[str]) -> pd.DataFrame:
    """Values with intervals."""
    rows = rows.assign(digits=np.where(rows.metric == "psnr", 2, 3))
    ours = "{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return _wide(rows, ours, "{published:g}", index, columns)


def _quartiles(rows: pd.DataFrame, column: str, index: list[str], columns: list[str], cited: str, **pooled: str):
    """Medians with quartiles, and those that the paper printed; `pooled` says what stands for keys that it pools."""
    keys = index + columns
    ours = rows[rows[column].notna()].groupby(keys, sort=False)[column].quantile([0.25, 0.5, 0.75]).unstack()
    quartiles = [[number(each, 1, True) for each in row] for row in ours.itertuples(index=False)]
    cells = [value if low == high else f"{value} ({low} to {high})" for low, value, high in quartiles]
    theirs = tables.published("summaries").query("cited == @cited").assign(**pooled)
    for key in ("strategy", "source"):  # those that we have
        theirs = theirs[theirs[key].isin([*rows[key], pooled.get(key)])] if key in index + columns else theirs
    theirs = theirs.set_index(keys).value.map("{:+g}".format)
    both = pd.concat([pd.Series(cells, ours.index, dtype=object), theirs]).rename("cell").reset_index()
    both[keys] = both[keys].map(name)
    return both.pivot_table("cell", index, columns, "first", fill_value="", sort=False)


def _wide(rows: pd.DataFrame, ours: str, theirs: str, index: list[str], columns: list[str]) -> pd.DataFrame:
    """Cells of text, ``index`` down and ``columns`` across; published values have a line below ours."""
    known = rows[rows.published.notna()].assign(by="published")
    both = pd.concat([rows.assign(by="ours"), known]).sort_index(kind="stable")
    form = both.by.map({"ours": ours, "published": theirs})
    cells = [text.format(**row) for text, row in zip(form, both.to_dict("records"), strict=True)]
    both = both.assign(cell=[cell.replace(" (nan)", "").replace(" (nan to nan)", "") for cell in cells])
    both[index + columns] = both[index + columns].map(name)
    return both.pivot_table("cell", index + ["by"] * len(known[:1]), columns, "first", fill_value="", sort=False)


@exhibit("Do synthetic patients help?")
def synthetic_images(runs):
    """Synthetic images by generator: how near they are to real ones, and whether they are copies.

    fd_own: mean over groups of the Fréchet distance in features of our own; fd_floor: the same between real images;
    fd_imagenet: in features of a network trained with ImageNet. fd_variance: its variance over groups. cell_auroc:
    AUROC with which cells are told apart. nearest_ratio: distance to the nearest training image over that between
    patients. lesion_law_error: in SDs of the truth, phantoms only.
    """
    study = runs.study
    if study.synthesis is None:
        return NO_SYNTHESIS
    rows = judge.collect("synthesis", [synthesis.product(study)]).query("classifier == '' and metric != 'samples'")
    rows = rows[rows.attribute.isin([study.cells[0], "all"]) | (rows.metric == "lesion_law_error")]
    return rows.pivot_table("value", "generator", "metric", "mean", sort=False).round(3).rename(index=name)


@exhibit("Do synthetic patients help?")
def synthetic_training(runs):
    """Classifiers on real test patients, trained with real images alone (standard) or with synthetic ones as well.

    For the first attribute of the cells. In brackets: 95 % intervals by patient, given the trained networks.
    """
    study = runs.study
    if study.synthesis is None:
        return NO_SYNTHESIS
    rows = judge.collect("synthesis", [synthesis.product(study)]).query("classifier != '' and group == 'all'")
    rows = rows[rows.attribute.isin([study.cells[0], "all"])]
    if rows.empty:
        return "No two groups have enough patients to be compared."
    cells = rows.assign(cell=[f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" for row in rows.itertuples()])
    return cells.pivot_table("cell", ["classifier", "generator"], "metric", "first", sort=False).rename(index=name)
