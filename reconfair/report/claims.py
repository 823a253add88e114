"""What the tables allow to claim: a verdict on every comparison, what mitigation costs, and the report's sentences.

Everything that depends on an interval, a margin or a p-value is decided here.
"""

import numpy as np
import pandas as pd

from reconfair import noise, store, tables
from reconfair.params import Source
from reconfair.report.runs import RUN, Runs, reconstructed
from reconfair.words import ATTRIBUTES, VERDICTS, name

HEADLINES = {  # if everything is equivalent, if no change was detected, if some was; then the two directions
    "performance": (
        ("Equivalent", "No change detected; equivalence is not shown", "Changed in some comparisons"),
        ("worse", "better"),
    ),
    "bias": (
        ("Unchanged", "No shift detected; that there is none is not shown", "Shifted in some comparisons"),
        ("larger", "smaller"),
    ),
}


def compare(runs: Runs) -> pd.DataFrame:
    """Every comparison of a standard reconstruction with the original, and its ``verdict``.

    Performance is *equivalent* if the 95 % interval of the change lies within the margin, else *worse* or *better* if
    it lies on one side of 0. Bias is *worse* (it grew) or *better* if the adjusted p is below 0.05, else *equivalent*
    if no gap changed by more than the margin. The rest is *undecided*, or *not compared*.
    """
    rows = reconstructed(runs.at_level(runs.overall("auroc", "dice"))).query("task != 'average'")
    gap = rows.metric.map({"auroc": "auroc_gap", "dice": "delta_dice"})
    names = rows.dataset + "/" + rows.level
    margin = np.array([runs.margins[run][metric] for run, metric in zip(names, gap, strict=True)])
    within = (rows.change_low > -margin) & (rows.change_high < margin)
    cases = [rows.change_low.isna(), within, rows.change_high < 0, rows.change_low > 0]
    verdict = np.select(cases, ["not compared", "equivalent", "worse", "better"], "undecided")
    performance = rows.assign(question="performance", verdict=verdict)

    rows = runs.shifts()
    significant = rows.p_adjusted < 0.05
    cases = [rows["shift"].isna(), significant & (rows["shift"] > 0), significant, rows.equivalent == 1]
    verdict = np.select(cases, ["not compared", "worse", "better", "equivalent"], "undecided")
    columns = {"change": rows["shift"], "change_low": rows.shift_low, "change_high": rows.shift_high}
    bias = rows.assign(question="bias by " + rows.attribute.map(name), verdict=verdict, **columns)
    every = pd.concat([performance, bias], ignore_index=True).query("strategy == 'standard'")
    return every[[*RUN, "question", "task", "metric", "attribute", "source", "verdict", *columns]]


def verdict_counts(runs: Runs, by: list[str]) -> pd.DataFrame:
    """Count the comparisons that came to each verdict."""
    counts = compare(runs).groupby(by, sort=False).verdict.value_counts(sort=False).unstack(fill_value=0)
    return counts.reindex(columns=list(VERDICTS), fill_value=0)


def costs(runs: Runs) -> pd.DataFrame:
    """What each mitigated reconstructor changes against the standard one, in percent.

    Columns ``dataset, level, source, strategy``; ``psnr``; ``downstream``, the mean over tasks of the change of AUROC
    and Dice; ``bias``, the median change of the disparity, and in how many of ``comparisons`` it ``fell`` or ``grew``
    with p < 0.05, not adjusted.
    """
    arm = [*RUN, "source"]
    rows = reconstructed(runs.at_level(runs.overall("auroc", "dice", "psnr"))).query("task != 'average'")
    standard = rows[rows.strategy == "standard"].set_index([*arm, "task", "metric"]).value
    tuned = rows[rows.strategy != "standard"]
    before = standard.reindex(pd.MultiIndex.from_frame(tuned[[*arm, "task", "metric"]])).to_numpy()
    column = np.where(tuned.task == "image", "psnr", "downstream")
    tuned = tuned.assign(percent=100 * (tuned.value / before - 1), column=column)
    tuned = tuned[np.isfinite(tuned.percent)]
    table = tuned.pivot_table("percent", [*arm, "strategy"], "column", sort=False)
    gaps = runs.shifts().query("strategy != 'standard' and shift_standard.notna()")
    significant = gaps.shift_standard_p < 0.05
    gaps = gaps.assign(
        bias=100 * gaps.shift_standard / (gaps.value - gaps.shift_standard),
        fell=significant & (gaps.shift_standard < 0),
        grew=significant & (gaps.shift_standard > 0),
    ).groupby([*arm, "strategy"], sort=False)
    counted = gaps.agg(
        bias=("bias", "median"), fell=("fell", "sum"), grew=("grew", "sum"), comparisons=("bias", "size")
    )
    return table.reindex(columns=["psnr", "downstream"]).join(counted).reset_index()


def summary(runs: Runs) -> dict[str, str]:
    """Answer each question about one dataset in a few sentences; every number comes from the tables."""
    rows = compare(runs)
    performance, bias = rows[rows.question == "performance"], rows[rows.question != "performance"]
    answers = {"performance": _counted("performance", performance), "bias": _counted("bias", bias)}
    changed = performance.dropna(subset="change")
    if len(changed):
        answers["performance"] += f" The lowest change: {_change(changed.loc[changed.change.idxmin()])}."
    answers["for whom"] = _for_whom(runs, bias.query("verdict in ['worse', 'better']"))
    known = runs.shifts().query("strategy == 'standard' and detectable.notna()")
    answers["how sure"] = (
        f"With 80 % power a shift of {known.detectable.median():.3f} is detected (median over comparisons; from "
        f"{known.detectable.min():.3f} to {known.detectable.max():.3f}). Smaller shifts can go unnoticed. The smallest "
        f"group that was compared has {known.n_smallest.min():.0f} patients of its rarer label."
        if len(known)
        else "The smallest shift that could be detected is not known: there are too few patients, or this inference "
        "does not estimate it."
    )
    answers["mitigation"] = _mitigated(costs(runs))
    return answers


def missing(runs: Runs) -> list[str]:
    """Name what is missing of the paper's grid, a sentence each."""
    sentences, paper = list(runs.left_out), tables.published("performance")
    models, strategies = paper.source.unique()[1:], tables.published("strategies").strategy.unique()[1:]
    for label in dict.fromkeys(study.label for study in runs.studies):
        studies = [study for study in runs.studies if study.label == label]
        levels = {study.level for study in studies}
        lacks = {
            "noise levels": [level for level in _paper_levels(studies[0]) if level not in levels],
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


def _paper_levels(study) -> list[str]:
    """The paper's noise levels of this kind of noise."""
    return [] if study.noise.kind == "none" else [level.level for level in noise.ladder(study.noise)[1:]]


def _counted(question: str, rows: pd.DataFrame) -> str:
    """Headline and numbers of the verdicts on one question."""
    n, ((same, unseen, changed), (worse, better)) = rows.verdict.value_counts(), HEADLINES[question]
    n = n.reindex(list(VERDICTS), fill_value=0)
    headline = changed if n.worse + n.better else same if n.equivalent == n.sum() else unseen
    headline = "Not compared" if n["not compared"] == n.sum() else headline
    return (
        f"{headline}. Of {n.sum()} comparisons {n.equivalent} are equivalent (any change lies within the margin), "
        f"{n.worse} {worse}, {n.better} {better} and {n.undecided} undecided; {n['not compared']} had too few patients."
    )


def _for_whom(runs: Runs, shifted: pd.DataFrame) -> str:
    """The largest shifts of bias, and the group with the clearest loss."""
    largest = shifted.loc[shifted.change.abs().sort_values(ascending=False).index[:3]].iterrows()
    attributes = "; ".join(f"{name(row.attribute)}: {_change(row)}" for _, row in largest)
    answer = f"The largest shifts of bias: {attributes}." if attributes else "No shift of bias is significant."
    groups = reconstructed(runs.at_level(runs.performance)).query("attribute != 'all' and strategy == 'standard'")
    groups = groups[groups.metric.isin(["auroc", "dice"]) & (groups.change_high < 0)]
    if len(groups):
        row = groups.loc[groups.change_high.idxmin()]
        answer += f" The group with the clearest loss, chosen from many: {row.group}, {_change(row)}."
    return answer


def _mitigated(rows: pd.DataFrame) -> str:
    """What mitigation changed, by strategy: rows of `costs`."""
    if rows.empty:
        return "Not tried."
    means = rows.groupby("strategy", sort=False).agg({"bias": "median", "downstream": "mean"})
    each = [f"{name(row.Index)} {row.bias:+.1f} % and {row.downstream:+.1f} %" for row in means.itertuples()]
    n = rows[["comparisons", "fell", "grew"]].sum()
    return (
        f"Change of bias (median) and of performance (mean) against the standard models: {'; '.join(each)}. In "
        f"{n.comparisons:.0f} comparisons bias fell {n.fell:.0f} times and grew {n.grew:.0f} times with p < 0.05; "
        f"chance alone would give about {0.05 * n.comparisons:.0f} such results."
    )


def _change(row) -> str:
    """Metric, task and source of a change, and the change with its interval."""
    where = f"{name(row.metric)} of {row.task} with {name(row.source)}, {row.level}"
    return f"{where}: {row.change:+.3f} ({row.change_low:+.3f} to {row.change_high:+.3f})"
