"""Chapter 10: finished runs brought together from their tables, in sentences, figures and tables.

`runs` reads the tables, `claims` decides what they allow to say, `exhibits` makes figures and tables of them, and
`pages` writes HTML and LaTeX. Nothing is computed anew but medians, percentages and verdicts. A run's page is its
executed notebook as HTML.
"""

import os
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from filelock import FileLock

from reconfair import data, fair_diagnosis, judge, mitigation, store, synthesis, tables, two_stages
from reconfair.params import Study
from reconfair.report import exhibits, pages, readers, stages  # noqa: F401  the last two add their exhibits
from reconfair.report.claims import compare, costs, measures, missing, origin, summary
from reconfair.report.pages import show
from reconfair.report.runs import Runs, finished, gather
from reconfair.store import PACKAGE, Product
from reconfair.words import markdown

__all__ = ["Runs", "compare", "costs", "export", "gather", "index", "links", "measures", "missing", "origin", "show"]
__all__ += ["summary", "write"]

CHAPTER = "10_report"
ROOM = tuple(f"{__name__}.{path.stem}" for path in sorted((PACKAGE / "report").glob("[a-z]*.py")))
OVERVIEW = ("verdicts", "shift_by_model", "shift_by_strategy", "tradeoffs")  # exhibits over all runs


def product(study: Study, runs: Runs | None = None) -> Product:
    """Every exhibit of a run: tables as CSV and LaTeX, figures as PNG."""
    # Other levels of the dataset count by their stamps, for they are made by other params files.
    others = finished(study.label) if study.report.runs == "all" else []
    parameters = study.model_dump(mode="json", include={"report"}) | {"published": _published()}
    parameters["others"] = {made.run: made.read_stamp().get("fingerprint", "") for _, made in others}
    needs = [data.product(study), mitigation.judged(study)]
    needs += [fair_diagnosis.product(study)] if study.readers else []
    needs += [synthesis.product(study)] if study.synthesis else []
    needs += [two_stages.product(study)] if study.grid else []
    return Product(
        chapter=CHAPTER[:2],
        run=study.name,
        folder=store.outputs() / study.name / "exhibits",
        name="exhibits",
        write=partial(_write, study, runs),
        parameters=parameters,
        code=(__name__, *ROOM, "reconfair.figures", "reconfair.words", "reconfair.judge"),
        needs=tuple(needs),
        command=study.command,
    )


@cache
def _published() -> str:
    """Hash of the published tables."""
    return sha256(b"".join(path.read_bytes() for path in sorted(tables.PUBLISHED.glob("*.csv")))).hexdigest()


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    return [product(study)]


def write(runs: Runs) -> Path:
    """Write every exhibit of a run unless that is fresh; return the folder."""
    return store.make(product(runs.study, runs))


def export(study: Study) -> pd.DataFrame:
    """Write the tables of a run as Parquet and CSV into its ``export``; return their sizes."""
    folder = store.outputs() / study.name / "export"
    folder.mkdir(parents=True, exist_ok=True)
    mitigated = [mitigation.predictions(fold, source) for fold in study.folds for source in study.mitigated]
    read = judge.predictions(study) + mitigated
    every = {"predictions": judge.collect("predictions", read)}
    if rated := mitigation.qualities(study):
        every["quality"] = judge.collect("quality", rated)
    every |= dict(zip(("performance", "fairness"), judge.judge(study, mitigation.judged(study)), strict=True))
    every["cohort"] = data.load(study).table
    if study.grid:
        every |= two_stages.read(study)._asdict()
    if study.readers:
        every["measures"] = fair_diagnosis.measured(study)
    if study.synthesis:
        every["synthesis"] = judge.collect("synthesis", [synthesis.product(study)])
    for name, table in every.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
        tables.to_csv(table, folder / f"{name}.csv")
    return pd.DataFrame({name: {"rows": len(t), "columns": t.shape[1]} for name, t in every.items()}).T


def links(study: Study) -> dict[str, dict[str, str]]:
    """Where the page of a run leads: to the index of all runs, the executed chapters, and the tables as CSV."""
    folder = store.outputs() / study.name
    here = folder / "chapters"
    names = sorted(path.stem for path in here.glob("*.html") if path.stem != CHAPTER)
    tables_of = sorted((folder / "export").glob("*.csv"))
    return {
        "All runs": {"index": os.path.relpath(store.outputs() / "index.html", here)},
        "Chapters of this run": {name: f"{name}.html" for name in names},
        "The same as notebooks": {name: f"{name}.ipynb" for name in names},
        "Tables as CSV": {path.stem: os.path.relpath(path, here) for path in tables_of},
    }


def index() -> Path:
    """Write ``index.html`` over every finished run into the output root, with links to their pages."""
    import nbformat.v4 as v4

    path = store.outputs() / "index.html"
    with FileLock(path.with_name(".index.lock")):
        runs = gather()
        cells = [v4.new_markdown_cell(f"# All runs\n\n{markdown(origin(runs))}")]
        for label in dict.fromkeys(study.label for study in runs.studies):
            some = runs.of_dataset(label)
            files = {study.level: f"{study.name}/chapters/{CHAPTER}.html" for study in some.studies}
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
        page = pages.html_of(v4.new_notebook(cells=cells), "All runs", hide_code=True)
        draft.write_text(page, encoding="utf-8")
        draft.replace(path)
    return path


def _write(study: Study, runs: Runs | None, folder: Path) -> None:
    runs = runs or gather(study)
    for name, (_, exhibit) in exhibits.EVERY.items():
        content = pages.drawn(exhibit, runs)
        if isinstance(content, pd.DataFrame):
            tables.to_csv(content, folder / f"{name}.csv", index=True)
            latex = pages.latex_table(content, f"{pages.caption(exhibit)[0]} {runs.simulated}".strip())
            (folder / f"{name}.tex").write_text(latex, encoding="utf-8")
        if isinstance(content, bytes):
            (folder / f"{name}.png").write_bytes(content)
