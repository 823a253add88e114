"""Chapter 10: finished runs brought together from their tables, in sentences, figures and tables.

`runs` reads the tables, `claims` decides what they allow to say, `exhibits` makes figures and tables of them, and
`pages` writes HTML and LaTeX. Nothing is computed anew but medians, percentages and verdicts. A run's page is its
executed notebook as HTML.
"""

from functools import partial
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from filelock import FileLock
from matplotlib.figure import Figure

from reconfair import judge, store, tables
from reconfair.report import exhibits, pages
from reconfair.report.claims import compare, costs, missing, summary
from reconfair.report.pages import show
from reconfair.report.runs import Runs, gather
from reconfair.words import markdown

__all__ = ["Runs", "compare", "costs", "export", "gather", "index", "missing", "show", "summary", "write"]

CHAPTER = "10_report"
OVERVIEW = ("verdicts", "shift_by_model", "shift_by_strategy", "tradeoffs")  # exhibits over all runs


def write(runs: Runs) -> Path:
    """Write every exhibit of a run unless that is fresh: tables as CSV and LaTeX, figures as PNG; return the folder."""
    return store.make(store.flow(runs.study)["report"], partial(_write, runs))


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


def index() -> Path:
    """Write ``index.html`` over every finished run into the output root, with links to their pages."""
    import nbformat.v4 as v4

    path = store.outputs() / "index.html"
    with FileLock(path.with_name(".index.lock")):
        runs, cells = gather(), [v4.new_markdown_cell("# All runs")]
        for label in dict.fromkeys(study.label for study in runs.studies):
            some = runs.of_dataset(label)
            files = {study.level: f"{study.name}/notebooks/{CHAPTER}.html" for study in some.studies}
            links = [f"[{level}]({quote(at)})" for level, at in files.items() if (store.outputs() / at).exists()]
            text = f"## {markdown(label)}: in a minute\n\n{markdown(summary(some))}"
            text += f"\n\nReports: {', '.join(links)}" * bool(links)
            cells.append(v4.new_markdown_cell(text, metadata={"tags": ["summary"]}))
        cells.append(v4.new_markdown_cell("## All runs together"))
        for name in OVERVIEW:
            each = pages.outputs(exhibits.EVERY[name][1], runs)
            each = [v4.new_output("display_data", data, metadata=metadata) for data, metadata in each]
            cells.append(v4.new_code_cell(name, outputs=each))
        cells.append(v4.new_markdown_cell(f"## What is missing\n\n{markdown(missing(runs))}"))
        draft = path.with_suffix(".part")
        draft.write_text(pages.html_of(v4.new_notebook(cells=cells), "All runs", hide_code=True))
        draft.replace(path)
    return path


def _write(runs: Runs, folder: Path) -> None:
    figures = store.outputs() / runs.study.name / "figures"
    figures.mkdir(exist_ok=True)
    for name, (_, exhibit) in exhibits.EVERY.items():
        content = exhibit(runs)
        if isinstance(content, pd.DataFrame):
            content.to_csv(folder / f"{name}.csv")
            (folder / f"{name}.tex").write_text(pages.latex_table(content, pages.caption(exhibit)[0]))
        if isinstance(content, Figure):
            content.savefig(figures / f"{CHAPTER[:2]}_{name}.png", bbox_inches="tight")
