"""Chapter 07: finished runs brought together from their tables, in sentences, exhibits and pages.

`found` reads the tables, `exhibits` makes figures and tables of them, `drawings` draws, and `pages` writes HTML and
LaTeX. Nothing is computed anew but medians, percentages and verdicts.
"""

from functools import partial
from pathlib import Path

import pandas as pd
from filelock import FileLock
from matplotlib.figure import Figure

from reconfair import figures, judge, noise, store, tables
from reconfair.report import exhibits, pages
from reconfair.report.found import VERDICTS, Found, compared, costs, gather, restored

__all__ = ["Found", "compared", "gather", "index", "missing", "page", "summary"]

OVERVIEW = ("verdicts", "shift_by_model", "shift_by_strategy", "tradeoffs")  # exhibits over all runs

WORDS = {  # if all is equivalent, if nothing was seen to change, if something was
    "performance": (("Equivalent", "No change seen, equivalence not shown", "Changed in places"), "worse", "better"),
    "bias": (("Unchanged", "No shift seen, absence not shown", "Shifted in places"), "grew", "fell"),
}


def summary(found: Found) -> dict[str, str]:
    """What was found on one dataset, some sentences to each question; every number comes from the tables."""
    rows, said = compared(found), {}
    kinds = {"performance": rows[rows.question == "performance"], "bias": rows[rows.question != "performance"]}
    for question, part in kinds.items():
        n, (words, worse, better) = part.verdict.value_counts().reindex(VERDICTS, fill_value=0), WORDS[question]
        nobody, same, moved = n["not compared"] == n.sum(), n.equivalent == n.sum(), n.worse + n.better > 0
        headline = "Not compared" if nobody else words[0 if same else 2 if moved else 1]
        said[question] = (
            f"{headline}. Of {n.sum()} comparisons {n.equivalent} equivalent (unchanged to within the margin), "
            f"{n.worse} {worse}, {n.better} {better}, {n.undecided} undecided, {n['not compared']} not compared for "
            "want of patients."
        )
    lost, shifted = kinds["performance"].dropna(subset="change"), kinds["bias"].query("verdict in ['worse', 'better']")
    if len(lost):
        said["performance"] += f" The lowest change: {_told(lost.loc[lost.change.idxmin()])}."
    largest = shifted.loc[shifted.change.abs().sort_values(ascending=False).index[:3]].iterrows()
    whom = "; ".join(f"{figures.name(row.attribute)}: {_told(row)}" for _, row in largest)
    said["for whom"] = (
        f"The largest shifts of bias: {whom}." if whom else "No shift of bias is beyond chance (adjusted p)."
    )
    groups = restored(found.here(found.performance)).query("attribute != 'all' and strategy == 'standard'")
    groups = groups[groups.metric.isin(["auroc", "dice"]) & (groups.change_high < 0)]
    if len(groups):
        worst = groups.loc[groups.change_high.idxmin()]
        said["for whom"] += f" The group that most surely lost, of many: {worst.group}, {_told(worst)}."
    seen = found.shifts().query("strategy == 'standard' and detectable.notna()")
    said["how sure"] = (
        f"Shifts from {seen.detectable.median():.3f} are found with 80 % power (median; {seen.detectable.min():.3f} "
        f"to {seen.detectable.max():.3f}), smaller ones pass unseen. The smallest group that was compared has "
        f"{seen.n_smallest.min():.0f} patients (of its rarer label)."
        if len(seen)
        else "What shift could have been found is not known: too few patients, or an inference that does not tell."
    )
    tuned = costs(found)
    if tuned.empty:
        return said | {"mitigation": "Not tried."}
    means = tuned.groupby("strategy", sort=False).agg({"bias": "median", "downstream": "mean"})
    each = [f"{figures.name(row.Index)} {row.bias:+.1f} % and {row.downstream:+.1f} %" for row in means.itertuples()]
    n = tuned[["comparisons", "fell", "grew"]].sum()
    said["mitigation"] = (
        f"Bias (median) and performance (mean) against the standard models: {'; '.join(each)}. In {n.comparisons:.0f} "
        f"comparisons bias fell {n.fell:.0f} times and grew {n.grew:.0f} times with p < 0.05; by chance alone about "
        f"{0.05 * n.comparisons:.0f} would be such."
    )
    return said


def missing(found: Found) -> list[str]:
    """What of the paper's grid is not there, a sentence each."""
    said, paper = list(found.left_out), tables.published("performance")
    models, strategies = paper.source.unique()[1:], tables.published("strategies").strategy.unique()[1:]
    for label in dict.fromkeys(study.label for study in found.studies):
        studies = [study for study in found.studies if study.label == label]
        every = {each.level for each in studies}
        lacks = {
            "noise levels": [n.level for n in noise.ladder(studies[0].noise)[1:] if n.level not in every],
            "reconstructors": [m for m in models if any(m not in each.reconstruction.models for each in studies)],
            "attributes": [a for a in exhibits.ATTRIBUTES if any(a not in each.attributes() for each in studies)],
            "mitigation of": [
                f"{figures.name(model)}, {figures.name(strategy)}"
                for model in studies[0].reconstruction.models
                for strategy in strategies
                if any((model, strategy) not in each.mitigated for each in studies)
            ],
        }
        said += [f"{label}, {what}: {'; '.join(map(figures.name, names))}." for what, names in lacks.items() if names]
    if "lpips" not in set(found.performance.metric):
        said.append("LPIPS: not measured, its weights were not there.")
    if found.study is None:
        known = {study.dataset.name for study in found.studies}
        said += [f"{name}, of the paper: no finished run." for name in paper.dataset.unique() if name not in known]
        begun = [path.parent for path in sorted(store.outputs().glob("*/*/study.yaml"))]
        begun = [run for run in begun if not (run / "mitigation/mitigation.product.json").exists()]
        said += [f"{run.parent.name}/{run.name}: begun, not finished." for run in begun]
    elif found.study.report.runs == "this":
        said.append("Other noise levels that may be finished: this report is of one (report.runs: this).")
    return said


def page(found: Found) -> Path:
    """Write a run's page, and its tables as CSV and LaTeX, unless they are fresh; and the index. Return the page."""
    folder = store.make(store.flow(found.study)["report"], partial(_write, found))
    index()
    return folder / "report.html"


def index() -> Path:
    """Write ``index.html`` over every finished run into the output root."""
    path = store.outputs() / "index.html"
    with FileLock(path.with_name(".index.lock")):
        found = gather()
        said, links = {}, {}
        for label in dict.fromkeys(study.label for study in found.studies):
            part = found.of(label)
            pages_of = {study.level: f"{study.name}/report/report.html" for study in part.studies}
            said[label] = summary(part)
            links[label] = {level: to for level, to in pages_of.items() if (store.outputs() / to).exists()}
        draws = {name: exhibits.EVERY[name][1] for name in OVERVIEW}
        shown = {"All runs together": {name: (draw, pages.picture(draw(found))) for name, draw in draws.items()}}
        text = pages.render("All runs", said, shown, missing(found), links)
        path.with_suffix(".part").write_text(text)
        path.with_suffix(".part").replace(path)
    return path


def export(study) -> pd.DataFrame:
    """Write the five tables of a run as Parquet and CSV into its ``tables``; return their sizes."""
    folder = store.outputs() / study.name / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    every = {name: judge.collect(study, name, mitigated=True) for name in ("quality", "predictions")}
    every |= dict(zip(("performance", "fairness"), judge.judge(study, mitigated=True), strict=True))
    every["cohort"] = tables.read("cohort", store.flow(study)["cohort"].folder)
    for name, table in every.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
        table.to_csv(folder / f"{name}.csv", index=False)
    return pd.DataFrame({name: {"rows": len(t), "columns": t.shape[1]} for name, t in every.items()}).T


def _write(found: Found, part: Path) -> None:
    answers, drawn = {}, store.outputs() / found.study.name / "figures"
    drawn.mkdir(exist_ok=True)
    for name, (question, draw) in exhibits.EVERY.items():
        shown = draw(found)
        if isinstance(shown, pd.DataFrame):
            shown.to_csv(part / f"{name}.csv")
            (part / f"{name}.tex").write_text(pages.latex(shown, draw.__doc__))
        answers.setdefault(question, {})[name] = draw, (picture := pages.picture(shown))
        if isinstance(shown, Figure):
            (drawn / f"07_{name}.png").write_bytes(picture)
    said = {found.study.name: summary(found)}
    (part / "report.html").write_text(pages.render(found.study.name, said, answers, missing(found)))


def _told(row) -> str:
    """Metric, task and source of a change, and the change with its interval."""
    where = f"{figures.name(row.metric)} of {row.task} with {figures.name(row.source)}, {row.level}"
    return f"{where}: {row.change:+.3f} ({row.change_low:+.3f} to {row.change_high:+.3f})"


def products(study):
    """What this chapter makes."""
    return []
