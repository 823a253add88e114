"""Notebooks: executed by papermill with the sections of a study, and paired with their scripts."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
import threading
import time
from copy import deepcopy
from itertools import takewhile
from pathlib import Path

from tqdm import tqdm

from reconfair import __version__, report, store
from reconfair.params import Study
from reconfair.run import warm
from reconfair.run.products import CHAPTERS, FOLDER
from reconfair.store import Product

WHERE = r"Solutions are in the cells below each exercise\..*?without them\."  # in a copy for students this is not so
EXERCISE, SOLUTION = "exercise", "solution"  # tags of cells
INSTALL = """\
# Installs ReconFair on a machine that lacks it, such as a hosted one. Elsewhere this changes nothing.
import importlib.util
import os
import subprocess
import sys

if (os.cpu_count() or 1) < 4:  # on a small machine several threads wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if importlib.util.find_spec("reconfair") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "reconfair=={version}"], check=True)
    importlib.invalidate_caches()
"""


def execute(study: Study, copy: Product, say=print) -> str:
    """Execute one notebook with the sections of a study; keep the copy, its HTML and, if it failed, its error.

    Returns
    -------
    str
        ``ran`` or ``failed``.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # optional for nbformat: 2 s to check addresses that nobody uses
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    path = copy.folder / f"{copy.name}.ipynb"
    sections = {"base": ""} | study.sections(*CHAPTERS[copy.name])
    sections = {name: "none" if section is None else section for name, section in sections.items()}
    start = time.monotonic()
    # Kernels that talk through files in a folder of their own never meet on a port.
    with store.locked(copy), live(copy.name, say), warm.sockets() as folder:
        sockets = Config({"KernelManager": {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}})
        copy.stamp.unlink(missing_ok=True)
        try:
            papermill.execute_notebook(
                FOLDER / path.name,
                path,
                parameters=sections,
                kernel_name="python3",
                kernel_manager_class=_kernel(),
                config=sockets,
                skip_cells_with_tag=EXERCISE,  # a run shows results; answers are for whoever works through a notebook
                progress_bar=False,
            )
        except papermill.PapermillExecutionError as error:
            say(f"{copy.name}: {error.ename}: {error.evalue}\n  failed in {path}")
            return "failed"
        except DeadKernelError:
            say(f"{copy.name}: its process died, most often for want of memory\n  failed in {path}")
            return "failed"
        _forget_paths(path)
        page, is_report = path.with_suffix(".html"), copy.name == report.CHAPTER
        links = report.links(study) if is_report else None
        text = report.pages.html_of(path, f"{study.name}, {copy.name}", hide_code=is_report, links=links)
        page.write_text(text, encoding="utf-8")
        copy.mark([path, page], time.monotonic() - start)
        if is_report:
            report.index()
    return "ran"


def _kernel() -> type:
    """Class of the kernels that run notebooks: this very Python, whatever is installed as python3."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class Kernel(AsyncKernelManager):
        """A process of this Python; where `warm` serves, its fork."""

        server = os.environ.get("RECONFAIR_WARM", "")
        words = [*warm.COMMAND, server, "kernel"] if server else [sys.executable, "-m", "ipykernel_launcher"]
        kernel_spec = KernelSpec(argv=[*words, "-f", "{connection_file}"], language="python")

        async def shutdown_kernel(self, now=False, restart=False):
            """End the kernel and its worker processes at once; an interrupt would have each of them show where."""
            with contextlib.suppress(ProcessLookupError, RuntimeError):
                await self.signal_kernel(signal.SIGKILL)
            await super().shutdown_kernel(now=True, restart=restart)

    return Kernel


def leave_error(copy: Product, job: str, error: Exception) -> Path:
    """Leave the chapter's notebook with an error that arose before it was run."""
    import traceback

    import nbformat

    path = copy.folder / f"{copy.name}.ipynb"
    content = nbformat.read(FOLDER / path.name, as_version=4)
    lines = traceback.format_exception(error)
    output = nbformat.v4.new_output("error", ename=type(error).__name__, evalue=str(error), traceback=lines)
    content.cells.insert(0, nbformat.v4.new_code_cell(f"# {job} is made before this notebook", outputs=[output]))
    path.parent.mkdir(parents=True, exist_ok=True)
    copy.stamp.unlink(missing_ok=True)
    nbformat.write(content, path)
    return path


def pair(script: Path) -> str:
    """Return the text of the notebook that belongs to a percent script: no outputs, numbered cells."""
    import jupytext
    import nbformat

    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
    notebook.metadata.pop("jupytext", None)
    return nbformat.writes(notebook) + "\n"


def for_students(notebook):
    """Return a copy of a notebook without its solutions.

    Of a code cell tagged ``solution`` the comment at its start stays as a hint, and a place for the answer follows.

    Parameters
    ----------
    notebook : NotebookNode
    """
    emptied = deepcopy(notebook)
    for cell in emptied.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## Exercises"):
            cell.source = re.sub(WHERE, "Write your answers below each exercise.", cell.source, flags=re.DOTALL)
        if SOLUTION not in cell.metadata.get("tags", ()):
            continue
        cell.metadata.tags = [tag for tag in cell.metadata.tags if tag != SOLUTION]
        hint = list(takewhile(lambda line: line.startswith("#"), cell.source.splitlines()))
        is_code = cell.cell_type == "code"
        cell.source = "\n".join([*hint, "# Your code:", ""]) if is_code else "*Your answer:*"
    return emptied


def for_class(notebook, badges: str = ""):
    """Return a copy that also runs on a machine on which ReconFair is not installed yet.

    Under the title stand `badges`, Markdown that opens the notebook on such a machine, and a cell that installs the
    release from which the notebook was made. Where ReconFair is installed, the cell changes nothing.

    Parameters
    ----------
    notebook : NotebookNode
    badges : str
    """
    import nbformat

    code = INSTALL.format(version=__version__).rstrip()
    install = nbformat.v4.new_code_cell(code, id="install", metadata={"tags": ["install"]})
    links = [nbformat.v4.new_markdown_cell(badges, id="badges")] * bool(badges)
    return nbformat.from_dict({**notebook, "cells": [notebook.cells[0], *links, install, *notebook.cells[1:]]})


def launch(hosted: str, path: str) -> str:
    """Markdown of two badges that open a notebook of a repository on GitHub: ``owner/name`` or ``owner/name/branch``.

    Examples
    --------
    >>> print(launch("school/course", "student/01_data.ipynb").split("(")[-1])
    https://mybinder.org/v2/gh/school/course/main?labpath=student/01_data.ipynb)
    """
    owner, name, branch = (*hosted.split("/", 2), "main")[:3]
    colab = f"https://colab.research.google.com/github/{owner}/{name}/blob/{branch}/{path}"
    binder = f"https://mybinder.org/v2/gh/{owner}/{name}/{branch}?labpath={path}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})\n"
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


@contextlib.contextmanager
def live(name: str, say):
    """While a notebook runs, show how far its work has come, as the kernel reports it through a file.

    In a terminal a bar with the time left is shown; in a log, a line for each new step.
    """
    handle, path = tempfile.mkstemp(prefix="reconfair-")
    os.close(handle)
    file, ended = Path(path), threading.Event()

    def watch():
        step, bar, terminal = "", tqdm(disable=True), sys.stderr.isatty()
        while not ended.wait(0.5):
            now, done, total, *_ = (*file.read_text(encoding="utf-8").split("|"), "", "", "")
            if not total:  # between two steps, or just being written
                continue
            if now != step:
                bar.close()
                bar = tqdm(desc=f"  {now}", total=int(total), leave=False, disable=not terminal)
                if not terminal:
                    say(f"  {now}")
                step = now
            bar.update(int(done) - bar.n)
        bar.close()

    os.environ |= {"RECONFAIR_PROGRESS": path, "RECONFAIR_OUTPUTS": str(store.outputs())}
    say(f"{name} ...")
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        del os.environ["RECONFAIR_PROGRESS"]
        file.unlink(missing_ok=True)


def _forget_paths(notebook: Path) -> None:
    """Keep file names, not folders, in what papermill notes: a copy says nothing of the machine."""
    import nbformat

    content = nbformat.read(notebook, as_version=4)
    noted = content.metadata.papermill
    noted.input_path, noted.output_path = Path(noted.input_path).name, Path(noted.output_path).name
    nbformat.write(content, notebook)
