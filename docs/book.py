"""Build the reading edition: the executed chapters, the pages of this folder and the reference, as a static site.

    python docs/book.py

The pages are gathered in ``outputs/book/source`` in the folders that they have in the project, so that links between
them hold, and built in ``outputs/book/html``. Nothing is executed and nothing is fetched. Needs the extra ``book``.
"""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import nbformat
import yaml

import reconfair
from reconfair import play
from reconfair.fairness import two_groups
from reconfair.report import pages

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "outputs" / "gallery"
GUIDES = ("your-scans", "your-predictions", "images-made-elsewhere", "your-model", "batch-and-cluster", "gpu")
LOOK_UP = ("which-metric", "play", "limits", "inference", "parameters", "tables", "results", "reliability", "glossary")
ABOUT = ("docs/references", "CHANGELOG", "CONTRIBUTING", "SECURITY")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
CSS = """
.cell_output .output { overflow-x: auto; }
.cell_output table { font-size: .8125rem; white-space: nowrap; border-collapse: collapse; border: 0; }
.cell_output th, .cell_output td { padding: .2rem .6rem; border: 0; border-bottom: 1px solid #8884; text-align: left; }
.table-wrapper { overflow-x: auto; }
mjx-container { overflow-x: auto; overflow-y: hidden; max-width: 100%; }
"""


def gather(source: Path) -> None:
    """Write everything that the site is built from into a folder, which is emptied first."""
    shutil.rmtree(source, ignore_errors=True)
    (source / "_static").mkdir(parents=True)
    mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations[0])
    shutil.copy(mathjax / "static" / "mathjax" / "tex-svg.js", source / "_static" / "mathjax.js")
    shutil.copy(ROOT / "docs" / "conf.py", source)
    (source / "_static" / "book.css").write_text(CSS, encoding="utf-8")
    shutil.copy(ROOT / "docs" / "eodd.js", source / "_static")
    (source / "_static" / "eodd-numbers.js").write_text(numbers_of_sliders(), encoding="utf-8")
    texts = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")]
    texts += [ROOT / "workflow" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for path in texts:
        gather_page(path, source)
    chapters = sorted((ROOT / "notebooks").glob("*.ipynb"))
    for path in chapters:
        copy = source / "notebooks" / path.name
        copy.parent.mkdir(exist_ok=True)
        nbformat.write(chapter(path), copy)
    reference(source / "reference")
    listed = {
        "Chapters": [f"notebooks/{path.stem}" for path in chapters],
        "How to": ["Overview <docs/index>", *[f"docs/{name}" for name in GUIDES], "workflow/README", "docs/teaching"],
        "Look up": [f"docs/{name}" for name in LOOK_UP] + ["reference/index"],
        "About": list(ABOUT),
    }
    start = source / "index.md"
    blocks = [f"```{{toctree}}\n:hidden:\n:caption: {title}\n" + "\n".join(names) for title, names in listed.items()]
    start.write_text(start.read_text(encoding="utf-8") + "\n" + "\n```\n\n".join(blocks) + "\n```\n", encoding="utf-8")


def numbers_of_sliders() -> str:
    """The numbers of every setting of the sliders of chapter 05, as a script that `docs/eodd.js` reads."""
    rows = []
    for setting in product(play.PATIENTS, play.DISPARITY, play.THRESHOLD):
        seen = two_groups.compare(**dict(zip(play.GAP, setting, strict=True)))
        row = [
            *seen["tpr"],
            seen["fpr"][0],
            *(seen[key] for key in ("eodd", "low", "high", "expected", "p")),
            *seen["sd"],
        ]
        rows.append([round(number, 4) for number in row])
    values = {name: values for name, (_, values, _) in play.GAP.items()}
    start = [value for _, _, value in play.GAP.values()]
    return f"const EODD = {json.dumps(values | {'start': start, 'rows': rows}, separators=(',', ':'))};\n"


def gather_page(path: Path, source: Path) -> None:
    """Copy a page, and the files that it links to; a link to a folder becomes plain text."""

    def link(match: re.Match) -> str:
        text, target, anchor = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        file = (path.parent / target).resolve()
        if not file.exists():
            raise FileNotFoundError(f"{path}: there is no {target}, to which it links")
        if file.is_dir():
            return text
        if file.suffix not in (".md", ".ipynb"):
            copy = source / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        if file == ROOT / "README.md":
            target = target.replace("README.md", "index.md")
        return f"[{text}]({target}{anchor or ''})"

    page = source / ("index.md" if path == ROOT / "README.md" else path.relative_to(ROOT))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(LINK.sub(link, path.read_text(encoding="utf-8")), encoding="utf-8")


def executed(path: Path) -> Path | None:
    """The copy of a notebook in the gallery: of the study at the middle noise level where several have one."""
    copies = sorted(GALLERY.glob(f"*/*/chapters/{path.name}"), key=lambda copy: copy.parts[-3] != "x8")
    return next(iter([*copies, *GALLERY.glob(path.name)]), None)


def chapter(path: Path) -> nbformat.NotebookNode:
    """A notebook for the site: its executed copy, or its text where there is none, below a note that says which."""
    copy = executed(path)
    notebook = nbformat.read(copy or path, as_version=4)
    notebook.metadata.pop("widgets", None)
    pages.describe_pictures(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "data" in output:  # a state of a widget is nothing without a kernel: its text stays
                shown = {*pages.SHOWN, "image/svg+xml"} & {*output.data}
                output.data = {kind: content for kind, content in output.data.items() if kind in shown}
        if pages.is_answer(cell):  # a click shows it
            cell.metadata.tags = [*cell.metadata.tags, "hide-cell"]
            if cell.cell_type == "markdown":
                cell.source = f"<details><summary>Answer</summary>\n\n{cell.source}\n\n</details>"
        texts = [output.metadata["image/png"]["alt"] for output in cell.get("outputs", ()) if has_picture(output)]
        if texts:
            cell.metadata["mystnb"] = {"image": {"alt": texts[0]}}
    first = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}\n\n```{{note}}\n{note(path, copy)}\n```\n{rest}"
    return notebook


def has_picture(output) -> bool:
    return "image/png" in output.get("data", {})


def note(path: Path, copy: Path | None) -> str:
    """Where the outputs of a chapter come from, and whether its text has changed since."""
    if copy is None:
        return f"This chapter is shown without results: `{GALLERY.relative_to(ROOT)}` has no executed copy of it."
    run = copy.parents[1] / "run.yaml"
    versions = yaml.safe_load(run.read_text(encoding="utf-8"))["versions"] if run.exists() else {}
    study = f"the study `{run.parent.relative_to(GALLERY)}`" if run.exists() else "`make gallery`"
    text = f"Executed by {study}" + (f" with version {versions['reconfair']}. " if versions else ". ")
    if sources(nbformat.read(path, as_version=4)) != sources(nbformat.read(copy, as_version=4)):
        text += "The text of the chapter has changed since. "
    return text + "The cohorts of these runs are simulated: their numbers say nothing about patients."


def sources(notebook) -> list[str]:
    """Text of the cells, without those in which parameters stand."""
    kept = [
        cell for cell in notebook.cells if not {"parameters", "injected-parameters"} & {*cell.metadata.get("tags", ())}
    ]
    return [cell.source for cell in kept]


def reference(folder: Path) -> list[str]:
    """Write a page for each room of the package; return the names of the modules."""
    folder.mkdir()
    found = pkgutil.walk_packages(reconfair.__path__, "reconfair.")
    modules = ["reconfair", *[module.name for module in found if not module.name.endswith("__main__")]]
    rooms = dict.fromkeys(name.split(".")[1] for name in modules[1:])
    for room in rooms:
        names = [name for name in modules if name.split(".")[1:2] == [room]]
        parts = [f"{name}\n{'-' * len(name)}\n\n.. automodule:: {name}\n   :members:\n" for name in names]
        title = f"reconfair.{room}"
        text = f"{title}\n{'=' * len(title)}\n\n" + "\n".join(parts)
        (folder / f"{room}.rst").write_text(text, encoding="utf-8")
    contents = "Reference\n=========\n\n.. automodule:: reconfair\n\n.. toctree::\n   :maxdepth: 1\n\n"
    contents += "".join(f"   {room}\n" for room in rooms)
    (folder / "index.rst").write_text(contents, encoding="utf-8")
    return modules


def build(folder: Path) -> Path:
    """Build the site in a folder, with every warning an error; return its first page."""
    gather(folder / "source")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-n",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "-d",
        str(folder / "doctrees"),
    ]
    shutil.rmtree(folder / "html", ignore_errors=True)
    subprocess.run([*command, str(folder / "source"), str(folder / "html")], check=True)
    return folder / "html" / "index.html"


if __name__ == "__main__":
    try:
        print(build(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "outputs" / "book"))
    except subprocess.CalledProcessError:
        sys.exit(1)
