"""What the tables allow to claim: a verdict on every comparison, what mitigation costs, and the report's sentences.

Verdicts are those of `fairness.assess`: they come from intervals and margins, never from the silence of a p-value.
Only groups that are compared are named.
"""

import datetime

import numpy as np
import pandas as pd

import reconfair
from reconfair import judge, noise, store, tables, two_stages
from reconfair.data.phantom import Phantom
from reconfair.judge import STANDARD
from reconfair.params import Source, Study
from reconfair.report.runs import RUN, Runs, reconstructed
from reconfair.words import ATTRIBUTES, MEANINGS, VERDICTS, name, number

# If every change is kept within its margin, if none is shown, if some is.
HEADLINES = {
    "performance": ("Kept", "No change is shown, nor that there is none", "Changed in some comparisons"),
    "groups": ("Kept in every group", "No change is shown, nor that there is none", "Changed in some groups"),
    "bias": ("No change that matters", "No shift is shown, nor that there is none", "Changed in some comparisons"),
}
EVERYONE = ("auroc", "tpr", "fpr", "dice")  # what is asked about all patients
ALIKE = {"grew": "worse", "fell": "better", "no change": "kept", "changed": "unequal"}  # verdicts of one colour
CLAIMED = ["better", "unequal", "worse"]
SCORE = {"auroc": "eodd", "dice": "ser"}  # measures of one kind of task: of performance, and of bias


def compare(runs: Runs) -> pd.DataFrame:
    """Every comparison of a standard reconstruction with the original, and its ``verdict``.

    Questions are the ``performance`` of everyone (AUROC, TPR, FPR, Dice), the ``performance of groups`` (the primary
    measures of the groups that are compared, with limits that hold for all at once), and the bias by each attribute.
    Verdicts are those of the tables, in the words of `reconfair.words.VERDICTS`: bias that grew is ``worse``, bias that
    fell ``better``, and where no gap changed by more than the margin it is ``kept``. ``harm`` is the least change
    for the worse that the limits allow, in units of the margin, so that measures can be ordered by it.
    """
    rows = runs.at_level(runs.performance).query(STANDARD)
    everyone = rows[(rows.attribute == "all") & rows.metric.isin(EVERYONE) & (rows.task != "average")]
    primary = runs.studies[0].fairness.primary
    some = [everyone.assign(question="performance")]
    some.append(judge.changes(rows[rows.task != "image"], primary).assign(question="performance of groups"))
    bias = runs.shifts().query(STANDARD)
    bias = bias.assign(question="bias by " + bias.attribute.map(name), group="", note=bias.note.fillna(""))
    columns = {"shift": "change", "shift_low": "change_low", "shift_high": "change_high"}
    bias = bias.drop(columns="change", errors="ignore").rename(columns=columns)
    every = pd.concat([reconstructed(pd.concat(some)), bias])
    flipped = every.metric.isin(["fpr", "eodd", "ser"])  # more is worse
    harm = np.where(flipped, every.change_low, -every.change_high) / every.margin
    every = every.assign(verdict=every.verdict.replace(ALIKE), harm=harm)
    keys = [*RUN, "question", "task", "metric", "attribute", "group", "source", "reader", "verdict"]
    numbers = ["value", "change", "change_low", "change_high", "bound", "margin", "harm", "n_smallest", "left_out"]
    kept = [*keys, *numbers, "n", "patients", "positives", "missing", "note", "kept"]
    return every.reindex(columns=kept).reset_index(drop=True)


def costs(runs: Runs) -> pd.DataFrame:
    """What each mitigated reconstructor changes against the standard one of the same kind, in percent.

    Returns
    -------
    DataFrame
        By ``dataset, level, source, strategy, reader`` and ``metric``, EODD or SER: ``psnr``, and the same in
        ``decibels``; ``downstream``, the mean over tasks of the change of AUROC (of Dice, beside SER); ``bias``, the
        median change of EODD (or SER), without arms that call everybody or nobody positive; in how many of
        ``comparisons`` it ``fell``, ``grew``, or showed ``no_change`` that matters, by the verdicts of the table.
    """
    arm = [*RUN, "source", "reader"]
    rows = reconstructed(runs.at_level(runs.overall("auroc", "dice", "psnr"))).query("task != 'average'")
    standard = rows[rows.strategy == "standard"].set_index([*arm, "task", "metric"]).value
    tuned = rows[rows.strategy != "standard"]
    before = standard.reindex(pd.MultiIndex.from_frame(tuned[[*arm, "task", "metric"]])).to_numpy()
    tuned = tuned.assign(percent=100 * (tuned.value / before - 1), gain=tuned.value - before)
    tuned = tuned[np.isfinite(tuned.percent)]
    images = tuned[tuned.task == "image"].groupby([*arm, "strategy"], sort=False)
    images = images.agg(psnr=("percent", "mean"), decibels=("gain", "mean"))
    read = tuned[tuned.task != "image"].assign(metric=lambda rows: rows.metric.map(SCORE))
    read = read.groupby([*arm, "strategy", "metric"], sort=False).percent.mean().rename("downstream")
    gaps = runs.shifts().query("strategy != 'standard' and shift_standard.notna()")
    drawn = gaps.p_shift_standard.notna()  # there, the shift of SER is a difference and not a ratio
    whole = np.where((gaps.metric == "ser") & ~drawn, 1.0, gaps.value - gaps.shift_standard)
    percent = (100 * gaps.shift_standard / pd.Series(whole, gaps.index).replace(0, np.nan)).mask(_alike(runs, gaps))
    words = {"fell": "fell", "grew": "grew", "no_change": "no change"}
    gaps = gaps.assign(bias=percent, **{key: gaps.verdict_standard == word for key, word in words.items()})
    counted = gaps.groupby([*arm, "strategy", "metric"], sort=False).agg(
        bias=("bias", "median"), **{key: (key, "sum") for key in words}, comparisons=("metric", "size")
    )
    return counted.join(read, how="outer", sort=False).reset_index().join(images, [*arm, "strategy"])


def _alike(runs: Runs, rows: pd.DataFrame) -> pd.Series:
    """Whether an arm, or its standard counterpart, calls everybody or nobody positive."""
    keys = [key for key in judge.ARM if key in rows]
    alike = pd.MultiIndex.from_frame(judge.called_alike(runs.performance)[keys])
    both = [pd.MultiIndex.from_frame(each[keys]).isin(alike) for each in (rows, rows.assign(strategy="standard"))]
    return pd.Series(both[0] | both[1], rows.index)


def summary(runs: Runs) -> dict[str, str]:
    """Answer each question about one dataset in a few sentences; every number comes from the tables."""
    rows = compare(runs)
    groups = rows[rows.question == "performance of groups"]
    everyone, bias = rows[rows.question == "performance"], rows[rows.question.str.startswith("bias")]
    answers = {}
    if any(isinstance(study.dataset, Phantom) for study in runs.studies):
        answers["data"] = (
            "These images are simulated (a phantom). The numbers show how the method works. "
            "They prove nothing about patients."
        )
    answers["diagnosis"] = _diagnosis(runs)
    answers["performance"] = _counted("performance", everyone) + _listed("The clearest losses", everyone)
    answers["for whom"] = _counted("groups", groups) + _listed("The clearest losses", groups)
    if len(groups):
        answers["for whom"] += " The limits of all groups, tasks and sources hold together, attribute by attribute."
    answers["bias"] = _counted("bias", bias) + _listed("It grew", bias)
    if len(bias):
        answers["bias"] += _image_gaps(runs)
    answers["how sure"] = _how_sure(runs)
    answers["mitigation"] = _mitigated(costs(runs))
    if intervened := " ".join(filter(None, map(_intervened, runs.studies))):
        answers["both stages"] = intervened
    return answers


def _intervened(study: Study) -> str:
    """What the rule of chapter 09 chose for one run; of many choices, those whose gap fell most surely."""
    results = two_stages.made(study)
    if results is None or results.decisions.empty:
        return ""
    chosen = results.decisions.assign(text=two_stages.sentences(results))
    verdicts = {
        "better": "better on test",
        "not shown": "not shown to be better",
        "standard": "kept the standard system",
    }
    counts = [f"{(chosen.verdict == word).sum()} {text}" for word, text in verdicts.items()]
    surest = chosen.sort_values("gap_change_high", kind="stable").text.head(3)
    return f"{study.level}: of {len(chosen)} choices, {', '.join(counts)}. {' '.join(surest)} {_luck([study], 'gap')}"


def _luck(studies, metric: str) -> str:
    """How much of the variance of gaps, or of their shifts, is between trainings with other seeds."""
    every = [results.replicates for study in studies if (results := two_stages.made(study)) is not None]
    several = pd.concat([table[(table.seeds > 1) & (table.metric == metric)] for table in every]) if every else []
    if not len(several):
        return "Every network was trained once, so the luck of a training is in none of these limits."
    shares, what = several.share_seeds.dropna(), {"gap": "a gap", "added": "a shift of a gap"}[metric]
    trained = f"{several.seeds.max():.0f} trainings with other seeds"
    if shares.empty:
        return f"{trained} gave the same decisions."
    share = f"{number(100 * shares.median(), 0)} % of the variance of {what} (median)"
    return f"{share} lies between {trained}, the rest between patients."


def origin(runs: Runs) -> str:
    """Which runs a page is about, when and with which version it was made, and whether its data are simulated."""
    names = ", ".join(study.name for study in runs.studies)
    text = f"Made on {datetime.date.today()} with reconfair {reconfair.__version__} from {names}."
    return f"{text} {runs.simulated}".strip()


def measures(runs: Runs) -> list[str]:
    """What each measure of the tables means, a sentence each, with the change that is said not to matter."""
    rows = pd.concat([runs.at_level(runs.performance), runs.at_level(runs.fairness)])
    margins = rows.groupby("metric").margin.max()
    sentences = []
    for metric, meaning in MEANINGS.items():
        if metric in margins:
            text = f"{name(metric)}: {meaning}."
            margin, unit = margins[metric], " dB" * metric.startswith("psnr")
            if metric == "ser" and np.isfinite(margin):
                text += f" Margin: {number(100 * margin, 0)} % of the ratio."
            elif np.isfinite(margin):
                text += f" Margin: {number(margin, 2)}{unit}."
            sentences.append(text)
    return sentences


def missing(runs: Runs) -> list[str]:
    """Name what is missing of the paper's grid, a sentence each."""
    sentences, paper = list(runs.left_out), tables.published("performance")
    models, strategies = paper.source.unique()[1:], tables.published("strategies").strategy.unique()[1:]
    for label in dict.fromkeys(study.label for study in runs.studies):
        studies = [study for study in runs.studies if study.label == label]
        known, first = {study.level for study in studies}, studies[0].noise
        levels = [level.level for level in noise.ladder(first)[1:]] if first.kind in noise.PUBLISHED else []
        lacks = {
            "noise levels": [level for level in levels if level not in known],
            "reconstructors": [m for m in models if any(m not in study.models for study in studies)],
            "attributes": [a for a in ATTRIBUTES if any(a not in study.attributes() for study in studies)],
            "mitigation": [
                f"{name(model)}, {name(strategy)}"
                for model in studies[0].models
                for strategy in strategies
                if any(Source(model, strategy) not in study.mitigated for study in studies)
            ],
        }
        sentences += [f"{label}, {kind}: {'; '.join(map(name, words))}." for kind, words in lacks.items() if words]
    if "lpips" not in set(runs.performance.metric):
        sentences.append("LPIPS: not measured, because its weights were missing.")
    if runs.study is None:
        known = {study.dataset.name for study in runs.studies}
        sentences += [f"{each}, of the paper: no finished run." for each in paper.dataset.unique() if each not in known]
        begun = [path.parent for path in sorted(store.outputs().glob("*/*/run.yaml"))]
        begun = [run for run in begun if not any(run.glob("judged/*/judged.product.json"))]
        sentences += [f"{run.parent.name}/{run.name}: begun, not finished." for run in begun]
    elif runs.study.report.runs == "this":
        sentences.append("Other noise levels of this dataset: not included (report.runs: this).")
    return sentences


def _diagnosis(runs: Runs) -> str:
    """Where a diagnosis is not shown to be better than chance, and where everybody is called alike."""
    rows = runs.at_level(runs.overall("auroc")).query(f"{STANDARD} and task != 'average'")
    areas = [f"AUROC {number(row.value)}, {number(row.low)} to {number(row.high)}" for row in rows.itertuples()]
    chance = rows.assign(auroc=areas)[rows.note.fillna("").str.contains("chance")]
    first = chance[chance.source == "original"]
    lines = [f"{row.task} ({row.auroc}, {row.level})" for row in first.itertuples()]
    text = "On originals every classification is better than chance: no interval of AUROC holds 0.5. " * bool(len(rows))
    if lines:
        text = f"On originals the diagnosis is not shown to be better than chance for {'; '.join(lines)}: "
        text += "no reconstruction can be judged by it. "
    known = pd.MultiIndex.from_frame(first[[*RUN, "task"]])
    later = chance[(chance.source != "original") & ~pd.MultiIndex.from_frame(chance[[*RUN, "task"]]).isin(known)]
    lines = [f"{row.task} with {name(row.source)} ({row.auroc}, {row.level})" for row in later.itertuples()]
    text += f"It is no longer shown to be better than chance for {'; '.join(lines)}. " if lines else ""
    alike = runs.at_level(judge.called_alike(runs.performance)).query(STANDARD)
    lines = [f"{row.task} with {name(row.source)}, {row.level}: {row.called}" for row in alike.itertuples()]
    if lines:
        text += f"Called positive by the frozen decision: {'; '.join(lines)}. There, rates and their gaps say nothing "
        text += "about groups, and no percentage of bias is given."
    return text.strip() or "There is no classification."


def _counted(question: str, rows: pd.DataFrame) -> str:
    """Headline and numbers of the verdicts on one question."""
    same, unseen, changed = HEADLINES[question]
    n = rows.verdict.value_counts().reindex(list(VERDICTS), fill_value=0)
    judged = n.sum() - n["not judged"]
    if rows.empty:
        return "There is nothing to compare: no reconstruction was judged, or no group has enough cases."
    if not judged:
        return f"Not judged: none of {n.sum()} comparisons has enough patients, or this inference gives no verdict."
    headline = changed if n[CLAIMED].sum() else same if n.kept == judged else unseen
    worse, better = ("grew", "fell") if question == "bias" else ("worse", "better")
    counts = [f"{n.worse} {worse}", f"{n.better} {better}"]
    counts += [f"{n.unequal} changed unequally (direction unknown)"] if question == "bias" else []
    counts += [f"{n.kept} kept within the margin", f"{n['not shown']} not shown"]
    return f"{headline}. Of {n.sum()} comparisons: {', '.join(counts)}; {n['not judged']} not judged."


def _listed(title: str, rows: pd.DataFrame) -> str:
    """The comparisons that are worse, those with the largest least harm first."""
    worse = rows[rows.verdict == "worse"].sort_values("harm", ascending=False, kind="stable")
    more = f" (and {len(worse) - 3} more)" if len(worse) > 3 else ""
    lines = "; ".join(_change(row) for row in worse.head(3).itertuples())
    return f" {title}: {lines}{more}." if lines else ""


def _change(row) -> str:
    """One comparison with its limits, its size and its margin."""
    where = f"{name(row.metric)} of {row.task} with {name(row.source)}, {row.level}"
    where = f"{row.group}, {where}" if row.group not in ("", "all") else where
    where = f"{name(row.attribute)}: {where}" if row.question.startswith("bias") else where
    ratio, digits, unit = (100, 1, " %") if row.metric == "ser" else (1, 3, "")
    change, low, high = (number(ratio * value, digits, True) for value in (row.change, row.change_low, row.change_high))
    cases = {"tpr": row.positives, "fpr": row.n - row.positives}.get(row.metric, row.patients)
    cases = row.n_smallest if row.question.startswith("bias") else cases
    n = f"n {cases:.0f}" + " in the smallest group" * row.question.startswith("bias")
    return f"{where}: {change}{unit} ({low} to {high}); {n}; margin {number(ratio * row.margin, digits)}{unit}"


def _image_gaps(runs: Runs) -> str:
    """Where gaps in image quality grew against the noisy images."""
    rows = runs.shifts("psnr_gap").query(f"{STANDARD} and verdict == 'grew'")
    rows = rows.sort_values("shift_low", ascending=False, kind="stable")
    lines = [
        f"{name(row.attribute)} with {name(row.source)}, {row.level}: {number(row.shift, 2, True)} dB "
        f"({number(row.shift_low, 2, True)} to {number(row.shift_high, 2, True)}; margin {number(row.margin, 2)} dB)"
        for row in rows.head(3).itertuples()
    ]
    return f" The gap in PSNR is larger than in the noisy images: {'; '.join(lines)}." if lines else ""


def _how_sure(runs: Runs) -> str:
    """Bounds beside margins, the smallest group, and who is left out or missing."""
    rows = runs.shifts().query(STANDARD)
    judged, lines, crossed = rows[rows.bound.notna()], [], f" {_luck(runs.studies, 'added')}"
    folds = max((study.dataset.folds or 0 for study in runs.studies), default=0)
    if folds:
        crossed = (
            f" Every patient was tested once, by models of one of {folds} folds that never saw that patient. Intervals "
            "are given these trained models: the noise of training is not in them."
        )
    for metric, some in judged.groupby("metric", sort=False):
        ratio, digits, unit = (100, 1, " %") if metric == "ser" else (1, 3, "")
        low, high, margin = (number(ratio * x, digits) for x in (some.bound.min(), some.bound.max(), some.margin.max()))
        lines.append(
            f"The 95 % bounds for the change of any gap of {name(metric)} reach from {low}{unit} to {high}{unit}; the "
            f"margin is {margin}{unit}. Smaller changes can go unnoticed."
        )
    if not lines:
        return "No bound can be given: there are too few patients, or this inference has none." + crossed
    lines.append(f"The smallest compared group has {judged.n_smallest.min():.0f} patients of the label that is rarer.")
    if (judged[judged.metric == "ser"].n_smallest < judge.SPARSE).any():
        lines.append(
            f"Where a group has fewer than {judge.SPARSE} patients, p of SER can be too small and the limits of its "
            "shift too short, if a few patients make most of the error."
        )
    left_out = [row for row in rows.itertuples() if row.left_out]
    left_out = dict.fromkeys(f"{name(row.attribute)}, {name(row.metric)}: {row.left_out}" for row in left_out)
    lines += [f"Not compared, with their patients of the rarer label: {' | '.join(left_out)}."] if left_out else []
    missing = rows.groupby("attribute", sort=False).missing.max()
    missing = [f"{name(attribute)} {count:.0f}" for attribute, count in missing.items() if count]
    lines += [f"Rows without label or attribute: {', '.join(missing)}."] if missing else []
    return " ".join(lines) + crossed


def _mitigated(rows: pd.DataFrame) -> str:
    """What mitigation changed, by reconstructor and strategy: rows of `costs`."""
    if rows.empty:
        return "Not tried."
    lines, idle = [], rows.strategy.str.startswith("thresholds@0")
    for (source, strategy, metric), some in rows[~idle].groupby(["source", "strategy", "metric"], sort=False):
        n = some[["fell", "grew", "no_change", "comparisons"]].sum()
        score = {bias: score for score, bias in SCORE.items()}[metric]
        lines.append(
            f"{name(source)}, {name(strategy)}: {name(metric)} fell in {n.fell:.0f} and grew in {n.grew:.0f} of "
            f"{n.comparisons:.0f} comparisons, without a change that matters in {n.no_change:.0f}; "
            f"{name(score)} {number(some.downstream.mean(), 1, True)} %"
        )
    text = f"Against the standard model of the same reconstructor. {'. '.join(lines)}." if lines else ""
    sources = ", ".join(map(name, dict.fromkeys(rows[idle].source)))
    text += f" Group thresholds were not applied ({sources}): no group has enough validation cases." if sources else ""
    return text.strip()
