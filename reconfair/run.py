"""Papermill over the notebooks of each params file; the command line ``reconfair``."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import importlib.metadata
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

import reconfair
from reconfair import batch, params, store
from reconfair.params import ParamsError, Study

JUDGE = """Judge anyone's scores: performance by group, disparity between groups, and its shift against the originals.

One row per decision, in these columns:
  patient   whom it is about; patients are drawn and exchanged as a whole
  task      what was asked, such as grade (left out: one task, named for the file)
  label     1, 0, or empty where unknown
  score     of a classifier, from 0 to 1; or
  dice      of a segmenter, from 0 to 1; empty where truth and answer are
  unit      the image, where a patient has several rows of one task and source
  source    what was read: original, or any other name, such as unet (left out: original)
  strategy  standard, or how the source was mitigated (left out: standard)
  split     test is judged; on originals of val the thresholds are balanced; train is ignored (left out: test)
Every other column is an attribute, such as sex: one group a value, the same in all rows of a patient."""
LIBRARIES = ("torch", "torchvision", "lightning", "numpy", "scipy", "pandas", "scikit-image")
_HELD = []  # the lock of this process's GPU


def main(argv: list[str] | None = None) -> int:
    """Entry point of the command line; returns the exit status."""
    parser = argparse.ArgumentParser("reconfair", description="What reconstruction does to a diagnosis, and to whom.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the notebooks of params files")
    check = commands.add_parser("check", help="validate params files, and run nothing")
    status = commands.add_parser("status", help="show what is done, stale, failed, missing")
    raw = argparse.RawDescriptionHelpFormatter
    judge = commands.add_parser("judge", help="judge anyone's scores", description=JUDGE, formatter_class=raw)
    pairs = commands.add_parser("pairs", help="compare each notebook with its script")
    for command in (run, check, status):
        command.add_argument("params", nargs="*" if command is status else "+", type=Path, metavar="PARAMS")
        command.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    run.add_argument("--only", metavar="05", help="run this chapter alone")
    run.add_argument("--part", metavar="unet", help="of that chapter, make a part alone and run no notebook")
    run.add_argument("--dry-run", action="store_true", help="say what would be made and what it costs; make nothing")
    inferences = ("randomisation", "bootstrap", "as_published")
    judge.add_argument("path", type=Path, metavar="FILE", help="CSV or Parquet")
    judge.add_argument("--attributes", default="", metavar="sex,race", help="columns to compare, or sex*race; all")
    judge.add_argument("--threshold", action="append", default=[], type=_cut, metavar="task=0.5")
    judge.add_argument("--inference", choices=inferences, default=inferences[0])
    judge.add_argument("--min-cases", type=int, default=20, help="patients of each label that a group needs: 20")
    judge.add_argument("--out", type=Path, metavar="FOLDER", help="for the tables: FILE_judged, beside the file")
    pairs.add_argument("--write", action="store_true", help="write the notebooks anew from the scripts")
    arguments = parser.parse_args(argv)
    commands = {"run": _run, "check": _check, "status": _status, "judge": _judge, "pairs": _pairs}
    try:
        return commands[arguments.command](arguments)
    except (ParamsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def load_all(paths: list[Path], overrides: list[str] = (), to_run: bool = False) -> dict[Path, Study]:
    """Read and check every params file before anything starts; all mistakes are reported together.

    With `to_run`, the scans must be there as well.
    """
    studies, mistakes = {}, []
    for path in paths:
        try:
            studies[path] = params.load(path, overrides)
            store.check_label(studies[path])
            if to_run:
                studies[path].dataset.find()
        except ParamsError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ParamsError("\n".join(mistakes))
    return studies


def run_study(study: Study, notebooks: list[str], say=print, part: str = "") -> list[dict]:
    """Run notebooks of one study in sequence, skipping what is fresh.

    Parameters
    ----------
    study : Study
    notebooks : list of str
        Names of the chapters, as from `chapters`.
    say : callable
        Takes one line of progress.
    part : str
        Of the one chapter named, make this alone; see `make_part`.

    Returns
    -------
    list of dict
        One row per notebook: ``notebook``, ``state`` (ran, fresh, failed), ``seconds``.
    """
    _write_resolved(study)
    rows = []
    for notebook in notebooks:
        begun = time.monotonic()
        if part:
            state = make_part(study, notebook, part, say)
        else:
            state = "fresh" if is_fresh(study, notebook) else execute(study, notebook, say)
        rows.append(
            {"run": study.name, "notebook": part or notebook, "state": state, "seconds": time.monotonic() - begun}
        )
        if state == "failed":
            break
    return rows


def chapters(only: str = "") -> list[str]:
    """Names of all notebooks, or of the one whose number is given."""
    found = [name for name in store.CHAPTERS if not only or name[:2] == only.zfill(2)]
    if not found:
        raise ParamsError(f"--only {only}: there is no such chapter; one of {', '.join(n[:2] for n in store.CHAPTERS)}")
    return found


def is_fresh(study: Study, notebook: str) -> bool:
    """Whether the executed copy of `notebook` and every product of its chapter are fresh."""
    products = store.flow(study).values()
    return all(product.fresh for product in products if product.chapter == notebook[:2])


def execute(study: Study, notebook: str, say=print) -> str:
    """Execute one notebook with its own sections; keep the copy, its HTML, and, if it failed, its error."""
    sys.modules.setdefault("rfc3987_syntax", None)  # optional for nbformat: 2 s to check addresses that nobody uses
    import papermill
    from jupyter_client import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    from reconfair import report

    class Forked(AsyncKernelManager):
        """A kernel that `warm` forks, where it serves."""

        def format_kernel_cmd(self, extra_arguments=None):
            server = ["-m", "reconfair.warm", os.environ["RECONFAIR_WARM"]]
            return [sys.executable, *server, "kernel", "-f", self.connection_file]

    product = store.flow(study)[f"notebooks/{notebook}"]
    copy = product.folder / f"{notebook}.ipynb"
    sections = study.model_dump(mode="json", include=set(store.CHAPTERS[notebook]))
    begun = time.monotonic()
    # Kernels that talk through files in a folder of their own never meet on a port.
    with store.locked(product), _Live(notebook, say), tempfile.TemporaryDirectory() as folder:
        sockets = Config({"KernelManager": {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}})
        product.stamp.unlink(missing_ok=True)
        try:
            papermill.execute_notebook(
                store.NOTEBOOKS / f"{notebook}.ipynb",
                copy,
                parameters=sections,
                kernel_name="python3",
                kernel_manager_class=Forked if "RECONFAIR_WARM" in os.environ else AsyncKernelManager,
                config=sockets,
                progress_bar=False,
            )
        except papermill.PapermillExecutionError as error:
            say(f"{notebook}: {error.ename}: {error.evalue}\n  failed in {copy}")
            return "failed"
        except DeadKernelError:
            say(f"{notebook}: its process died, most often for want of memory\n  failed in {copy}")
            return "failed"
        _forget_paths(copy)
        page = copy.with_suffix(".html")
        page.write_text(report.pages.html_of(copy, f"{study.name}, {notebook}", hide_code=notebook == report.CHAPTER))
        product.mark([copy, page], time.monotonic() - begun)
    if notebook == report.CHAPTER:
        report.index()
    return "ran"


def make_part(study: Study, notebook: str, part: str, say=print) -> str:
    """Make the products of a chapter that belong to one model or dataset; an error is left in the chapter's notebook.

    Parameters
    ----------
    study : Study
    notebook : str
        Chapter, such as ``03_reconstruction``.
    part : str
        Such as ``unet``, ``unet-reweight``, ``diagnosis/grade`` or ``cohort``; see `batch.part_of`.
    say : callable
        Takes one line of progress.

    Returns
    -------
    str
        ``ran``, ``fresh`` or ``failed``.
    """
    flow = store.flow(study)
    parts = {key: batch.part_of(study, key, flow[key]) for key in flow if flow[key].chapter == notebook[:2]}
    keys = [key for key in parts if parts[key] == part]
    if not keys:
        known = ", ".join(dict.fromkeys(filter(None, parts.values()))) or "none"
        raise ParamsError(f"--part {part}: chapter {notebook[:2]} has no such part; one of: {known}")
    if all(flow[key].fresh for key in keys):
        return "fresh"
    try:
        with _Live(f"{notebook}, {part}", say):
            for key in keys:
                make(study, key)
    except Exception as error:
        copy = _leave_error(flow[f"notebooks/{notebook}"], part, error)
        say(f"{notebook}, {part}: {type(error).__name__}: {error}\n  failed; see {copy}")
        return "failed"
    return "ran"


def make(study: Study, key: str) -> None:
    """Make a product by its name in `store.flow`, unless it is fresh, as its notebook would."""
    from reconfair import data, diagnosis, mitigation, recon

    folder, _, what = key.rpartition("/")
    model, strategy = {store.variant(*pair): pair for pair in study.mitigated}.get(folder, (folder, "standard"))
    if strategy != "standard":
        mitigation.mitigate(study, model, strategy)
    elif what == "cohort":
        data.prepare(study)
    elif folder == "diagnosis":
        diagnosis.train(study, next(network for network in study.networks if network.name == what))
    elif what == "predictions":
        diagnosis.predict(study, model)
    elif what == "reconstructed":
        recon.reconstruct(study, model)
    else:
        recon.train(study, model)


def _leave_error(product, part: str, error: Exception) -> Path:
    """Leave the chapter's notebook with an error that arose before it was run."""
    import nbformat

    copy = product.folder / f"{product.name}.ipynb"
    content = nbformat.read(store.NOTEBOOKS / copy.name, as_version=4)
    lines = traceback.format_exception(error)
    told = nbformat.v4.new_output("error", ename=type(error).__name__, evalue=str(error), traceback=lines)
    content.cells.insert(0, nbformat.v4.new_code_cell(f"# {part} was to be made before this notebook", outputs=[told]))
    copy.parent.mkdir(parents=True, exist_ok=True)
    product.stamp.unlink(missing_ok=True)
    nbformat.write(content, copy)
    return copy


def _forget_paths(notebook: Path) -> None:
    """Keep file names, not folders, in what papermill notes: a copy says nothing of the machine."""
    import nbformat

    content = nbformat.read(notebook, as_version=4)
    noted = content.metadata.papermill
    noted.input_path, noted.output_path = Path(noted.input_path).name, Path(noted.output_path).name
    nbformat.write(content, notebook)


def pair(script: Path) -> str:
    """Return the text of the notebook that belongs to a percent script: no outputs, numbered cells."""
    import jupytext
    import nbformat

    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
    notebook.metadata.pop("jupytext", None)
    return nbformat.writes(notebook) + "\n"


class _Live:
    """While a notebook runs, say which stage it is at, as the kernel reports it through a file."""

    def __init__(self, notebook: str, say):
        self.notebook, self.say, self.ended = notebook, say, threading.Event()

    def __enter__(self):
        self.file = Path(tempfile.mkstemp(prefix="reconfair-")[1])
        os.environ |= {"RECONFAIR_PROGRESS": str(self.file), "RECONFAIR_OUTPUTS": str(store.outputs())}
        self.say(f"{self.notebook} ...")
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()
        del os.environ["RECONFAIR_PROGRESS"]
        self.file.unlink()

    def _watch(self) -> None:
        last, terminal = "", sys.stderr.isatty()
        while not self.ended.wait(0.5):
            now = self.file.read_text()
            what = now if terminal else now.rpartition(" ")[0]
            if what != last and what:
                if terminal:
                    print(f"\r\033[K  {now}", end="", file=sys.stderr, flush=True)
                else:
                    self.say(f"  {what}")
                last = what
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _run(arguments) -> int:
    notebooks = chapters(arguments.only or "")
    if arguments.part and not arguments.only:
        raise ParamsError(f"--part {arguments.part}: name its chapter too, as in --only 03 --part unet")
    studies = load_all(arguments.params, arguments.overrides, to_run=not arguments.dry_run)
    if arguments.dry_run:
        from reconfair import estimate

        print(estimate.table(estimate.estimate(studies.values(), notebooks)))
        return 0
    _hold_gpu()
    rows = []
    for path, study in studies.items():
        print(f"{path}: {study.name}", flush=True)
        try:
            rows += run_study(study, notebooks, lambda line: print(line, flush=True), arguments.part)
        except (ParamsError, ValueError) as error:
            print(error, file=sys.stderr)
            rows.append({"run": study.name, "notebook": "", "state": "failed", "seconds": 0.0})
    print(f"\n{'run':<28}{'notebook':<20}{'state':<8}{'seconds':>8}")
    for row in rows:
        print(f"{row['run']:<28}{row['notebook']:<20}{row['state']:<8}{row['seconds']:>8.1f}")
    print(f"{'':<28}{'in all':<28}{sum(row['seconds'] for row in rows):>8.1f}")
    for study in studies.values():
        page = store.outputs() / study.name / "notebooks" / "10_report.html"
        if page.exists():
            print(f"report: {page}")
    return int(any(row["state"] == "failed" for row in rows))


def _hold_gpu() -> None:
    """Take one of the GPUs in RECONFAIR_GPUS that no other job holds, until this process ends."""
    gpus = [gpu for gpu in os.environ.get("RECONFAIR_GPUS", "").split(",") if gpu]
    while gpus and not _HELD:
        for slot, gpu in enumerate(gpus):  # one that is listed twice takes two jobs
            lock = FileLock(Path(tempfile.gettempdir()) / f"reconfair-{getpass.getuser()}-gpu-{slot}.lock", timeout=0)
            with contextlib.suppress(Timeout):
                _HELD.append(lock.acquire())
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
                return
        time.sleep(1)


def _check(arguments) -> int:
    for path, study in load_all(arguments.params, arguments.overrides).items():
        print(f"{path}: valid; writes {store.outputs() / study.name}")
    return 0


def _status(arguments) -> int:
    paths = arguments.params or sorted((store.PACKAGE.parent / "params").glob("*.yaml"))
    print(batch.grid(params.load(path, arguments.overrides) for path in paths))
    return 0


def _cut(text: str) -> tuple[str, float]:
    task, _, value = text.rpartition("=")
    try:
        return task, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected task=0.5, not '{text}'") from None


def _judge(arguments) -> int:
    from reconfair.judge import judge_file

    lines = judge_file(
        arguments.path,
        attributes=[name for name in arguments.attributes.split(",") if name],
        thresholds=dict(arguments.threshold),
        inference=arguments.inference,
        min_cases=arguments.min_cases,
        out=arguments.out,
    )
    print(*lines, sep="\n")
    return 0


def _pairs(arguments) -> int:
    scripts = sorted(store.NOTEBOOKS.glob("*.py"))
    apart = [script for script in scripts if _read(script.with_suffix(".ipynb")) != pair(script)]
    for script in apart if arguments.write else ():
        script.with_suffix(".ipynb").write_text(pair(script))
    for script in apart:
        print(f"{script.with_suffix('.ipynb').name}: {'written' if arguments.write else 'differs from its script'}")
    return int(bool(apart) and not arguments.write)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _write_resolved(study: Study) -> None:
    """Leave the whole study, defaults included, and the versions it runs with, beside its results."""
    versions = {"python": platform.python_version(), "reconfair": reconfair.__version__}
    versions |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    resolved = study.model_dump(mode="json") | {"versions": versions}
    folder = store.outputs() / study.name
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".study.{os.getpid()}"  # jobs of one run write it side by side
    draft.write_text(yaml.safe_dump(resolved, sort_keys=False))
    draft.replace(folder / "study.yaml")


if __name__ == "__main__":
    sys.exit(main())
