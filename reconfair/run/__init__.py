"""The top floor: all products of a study, and the command line ``reconfair``."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import importlib.metadata
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

import reconfair
from reconfair import (
    data,
    diagnosis,
    fair_diagnosis,
    mitigation,
    noise,
    params,
    perceptual,
    recon,
    store,
    synthesis,
    two_stages,
)
from reconfair.fairness import INFERENCES
from reconfair.params import ParamsError, Study
from reconfair.run import batch, notebooks, warm
from reconfair.run.products import CHAPTERS, FOLDER, chapters, every_product, lacking, part_of, remarks
from reconfair.store import Product
from reconfair.words import nearest

JUDGE = """Judge anyone's scores: performance by group, disparity between groups, and its shift against the originals.

One row per decision, in these columns:
  patient   whom it is about; patients are drawn and exchanged as a whole
  task      what was asked, such as grade (left out: one task, named for the file)
  label     1, 0, or empty where unknown; of several classes, the name of the class
  score     of a classifier, from 0 to 1; of several classes score_<class> for each, which sum to 1; or
  dice      of a segmenter, from 0 to 1; empty where truth and answer are
  unit      the image, where a patient has several rows of one task and source
  source    what was read: original, or any other name, such as unet (left out: original)
  strategy  standard, or how the source was mitigated (left out: standard)
  reader    which network or person decided (left out: standard)
  split     test is judged; on originals of val the reader's threshold is balanced; train is ignored (left out: test)
  fold      which models made the row, where each patient was tested once by models trained on others: AUROC compares
            scores of one fold, and each fold has its threshold (left out: no folds)
  synthetic false, 0, no or empty; a row of an image that a generator drew is refused (left out: all are real)
  class     of our own predictions of several classes: the class that the row is about
  decision  of these, 1 if the unit is given to that class, else 0
Every other column is an attribute, such as sex: one group a value, the same in all rows of a patient."""
LIBRARIES = ("torch", "torchvision", "lightning", "numpy", "scipy", "pandas", "scikit-image")
SET = {
    "action": "append",
    "default": [],
    "metavar": "section.key=value",
    "dest": "overrides",
    "help": "change a key of the params file, such as noise.acceleration=16; may be given several times",
}
READY = (
    recon.given.check,
    perceptual.check,
    diagnosis.check_weights,
    synthesis.check_weights,
)  # of files that a run will need
_HELD = []  # the lock of this process's GPU


def main(argv: list[str] | None = None) -> int:
    """Entry point of the command line; returns the exit status."""
    parser = argparse.ArgumentParser("reconfair", description="What reconstruction does to a diagnosis, and to whom.")
    parser.add_argument("--version", action="version", version=f"reconfair {reconfair.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _studies_options(commands)
    _judge_options(commands)
    _plan_options(commands)
    rate = commands.add_parser("rate", help="compare pairs of synthetic images, for chapter 08")
    rate.add_argument("params", type=Path, metavar="PARAMS", help="params file of a study with synthesis")
    rate.add_argument("--set", **SET)
    rate.add_argument("--rater", default=getpass.getuser(), help="names the file of ratings; letters, digits, dashes")
    rate.add_argument("--no-browser", action="store_true", help="write the notebook, and do not open it")
    init = commands.add_parser("init", help="copy notebooks, params files and workflow into a new folder")
    init.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder, or an empty one")
    exercises = commands.add_parser("exercises", help="write the notebooks for a class: student/ and solutions/")
    exercises.add_argument("folder", type=Path, metavar="FOLDER", help="where to write them")
    hosted = "repository on GitHub that FOLDER will be, for badges that open the notebooks in Colab and Binder"
    exercises.add_argument("--hosted", default="", metavar="OWNER/NAME[/BRANCH]", help=hosted)
    pairs = commands.add_parser("pairs", help="compare each notebook with its script")
    pairs.add_argument("--write", action="store_true", help="write the notebooks anew from the scripts")
    arguments = parser.parse_args(argv)
    commands = {"run": _run, "check": _check, "status": _status, "judge": _judge, "plan": _plan}
    commands |= {"rate": _rate, "init": _init, "exercises": _exercises, "pairs": _pairs}
    try:
        return commands[arguments.command](arguments)
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it would show the kernel's traceback as well
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has seen enough, such as `head`
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, MemoryError) as error:
        print(sentence(error), file=sys.stderr)
        return 2


def _studies_options(commands) -> None:
    run = commands.add_parser("run", help="run the notebooks of params files")
    check = commands.add_parser("check", help="validate params files, and run nothing")
    status = commands.add_parser("status", help="show what is done, stale, failed, missing")
    for command in (run, check, status):
        which = "params files, such as params/demo.yaml" + "; left out: all in params/" * (command is status)
        command.add_argument("params", nargs="*" if command is status else "+", type=Path, metavar="PARAMS", help=which)
        command.add_argument("--set", **SET)
    status.add_argument("--verify", action="store_true", help="read every file and scan, and compare their checksums")
    run.add_argument("--only", metavar="05", help="run this chapter alone")
    run.add_argument("--until", metavar="05", help="run the chapters up to this one")
    run.add_argument("--part", metavar="unet", help="make this model of the chapter --only, and run no notebook")
    run.add_argument("--dry-run", action="store_true", help="say what would be made and what it costs; make nothing")
    run.add_argument("--gpus", metavar="1,8,64", help="with --dry-run: how long it takes with so many GPUs")


def _judge_options(commands) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    balanced = "threshold of a task, or of task/reader; left out: balanced on the reader's originals of val"
    judged = commands.add_parser("judge", help="judge anyone's scores", description=JUDGE, formatter_class=raw)
    judged.add_argument("path", type=Path, metavar="FILE", help="CSV, Excel or Parquet")
    judged.add_argument("--attributes", default="", metavar="sex,race", help="columns to compare, or sex*race; all")
    judged.add_argument("--threshold", action="append", default=[], type=_threshold, metavar="task=0.5", help=balanced)
    limits = f"how limits are computed; left out: {INFERENCES[0]}"
    judged.add_argument("--inference", choices=INFERENCES, default=INFERENCES[0], help=limits)
    judged.add_argument("--min-cases", type=int, default=20, help="patients of each label that a group needs: 20")
    judged.add_argument("--ordinal", default="", metavar="grade", help="tasks whose several classes are in order")
    judged.add_argument("--out", type=Path, metavar="FOLDER", help="for the tables: FILE_judged, beside the file")


def _plan_options(commands) -> None:
    plan = commands.add_parser("plan", help="how many patients of each group a claim needs")
    plan.add_argument("params", nargs="?", type=Path, metavar="PARAMS", help="a finished study to take the rates from")
    plan.add_argument("--task", default="", help="of that study; left out: its first classified task")
    plan.add_argument("--attribute", default="sex", help="of that study, whose groups are compared; left out: sex")
    plan.add_argument("--source", default="unet", help="compared with the originals")
    plan.add_argument("--groups", default="a,b", metavar="f,m", help="where no study is named")
    rates = {"tpr": "0.8", "fpr": "0.2", "prevalence": "0.2", "discordance": "0.05", "images": "1"}
    for name, usual in rates.items():
        plan.add_argument(
            f"--{name}", default=usual, metavar=usual, help=f"of all groups; or by group: f={usual},m={usual}"
        )
    plan.add_argument("--aim", choices=("kept", "shift", "unequal"), default="kept", help="what is to be shown")
    plan.add_argument("--size", type=float, default=0.05, help="margin of kept, or the change to be found: 0.05")
    plan.add_argument("--power", type=float, default=0.8, help="share of studies that show it: 0.8")
    plan.add_argument("--studies", type=int, default=200, help="simulated for each number of patients: 200")
    plan.set_defaults(overrides=[])


def sentence(error: Exception) -> str:
    """What an error says, without its number; of the system's errors, which file it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or store.outputs()}: {error.strerror}"
    return str(error)


def load_all(paths: list[Path], overrides: list[str] = (), checked: bool = False, **where: bool) -> dict[Path, Study]:
    """Read and check every params file before anything starts; all mistakes are reported together.

    Parameters
    ----------
    paths : list of Path
    overrides : list of str
        As ``section.key=value``.
    checked : bool
        The files are only read: a job of a batch was checked with the batch, and need not build every network.
    **where
        See `preflight`.

    Raises
    ------
    ParamsError
        One line per mistake.
    """
    studies, mistakes = _readable(paths, overrides)
    mistakes += [] if checked else preflight(studies, **where)
    if mistakes:
        raise ParamsError("\n".join(mistakes))
    return studies


def _readable(paths: list[Path], overrides: list[str]) -> tuple[dict[Path, Study], list[str]]:
    """The studies of params files by path, and a sentence for each file that is none."""
    studies, mistakes = {}, []
    for path in paths:
        try:
            studies[path] = params.load(path, overrides)
        except (ValueError, OSError) as error:
            mistakes.append(sentence(error))
    return studies, mistakes


def preflight(studies: dict[Path, Study], to_run: bool = False, here: bool = True) -> list[str]:
    """Everything that would stop these studies later, one sentence each; nothing is made.

    Parameters
    ----------
    studies : dict of Path to Study
        By params file.
    to_run : bool
        Whether scans and published weights must be there, and the outputs open for writing.
    here : bool
        Whether the work is done on this machine, which must then have the device that ``compute`` names.
    """
    mistakes = []
    for path, study in studies.items():
        rooms = (recon, diagnosis, mitigation, fair_diagnosis, synthesis, two_stages)
        checks = [_check_label, *([_check_scans, *READY] if to_run else [])]
        checks += [*(room.check for room in rooms), *([_check_device] if here else [])]
        for check in checks:
            try:
                mistakes += [f"{path}: {mistake}" for mistake in check(study)]
            except (ValueError, OSError) as error:
                mistakes.append(f"{path}: {sentence(error)}")
    if not mistakes:
        try:
            batch.jobs(studies)  # refuses studies that want one product made differently
            if to_run:
                _check_outputs()
        except (ValueError, OSError) as error:
            mistakes.append(sentence(error))
    return mistakes


def _check_label(study: Study) -> list[str]:
    data.check_label(study)
    return []


def _check_scans(study: Study) -> list[str]:
    if not data.product(study).fresh:  # else its table has been read
        data.preview(study)
    return []


def _check_device(study: Study) -> list[str]:
    if study.compute.device in ("auto", "cpu"):
        return []
    from reconfair import training

    return training.check(study.compute)


def _check_outputs() -> None:
    """Refuse an output folder that cannot be written, naming it."""
    folder = store.outputs()
    if folder.exists() and not folder.is_dir():
        raise ParamsError(f"RECONFAIR_OUTPUTS: {folder} is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def run_study(study: Study, names: list[str], say=print, part: str = "") -> list[dict]:
    """Run notebooks of one study in sequence, skipping what is fresh.

    Parameters
    ----------
    study : Study
    names : list of str
        Of the chapters, such as ``03_reconstruction``.
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
    rows, every = [], every_product(study)
    for name in names:
        start = time.monotonic()
        chapter = [product for product in every if product.chapter == name[:2]]
        if part:
            state = make_part(chapter, part, say)
        elif all(one.usable for one in dict.fromkeys(one for product in chapter for one in (*product.scans, product))):
            state = "fresh"
        else:
            for product in chapter:
                store.name_damaged(product, say)
            state = notebooks.execute(study, chapter[-1], say)
        rows.append({"run": study.name, "notebook": part or name, "state": state, "seconds": time.monotonic() - start})
        if state == "failed":
            break
    return rows


def chosen(study: Study, only: str = "", until: str = "") -> list[str]:
    """Names of the notebooks that a study runs: all, the one whose number is given, or those up to one."""
    names = chapters(study)
    only, until = (word[:2] if word in CHAPTERS else word and word.zfill(2) for word in (only, until))
    for option, number in (("--only", only), ("--until", until)):
        if number and number not in [name[:2] for name in names]:
            left = [name for name in CHAPTERS if name[:2] == number]
            sections = " and ".join(lacking(study, left[0]) if left else ()) or "a strategy that applies to its models"
            why = f"{left[0]} needs {sections}" if left else "this study has no such chapter"
            raise ParamsError(f"{option} {number}: {why}; valid here: {', '.join(name[:2] for name in names)}")
    if only:
        return [name for name in names if name[:2] == only]
    return [name for name in names if not until or name[:2] <= until]


def make_part(chapter: list[Product], part: str, say=print) -> str:
    """Make the products of a chapter that have a job of their own; an error is left in the chapter's notebook.

    Parameters
    ----------
    chapter : list of Product
        All of one chapter, the executed notebook last.
    part : str
        Such as ``unet``, ``unet-reweight``, ``readers/grade``, ``cohort`` or ``lgg/x8-seed-1/unet``.
    say : callable
        Takes one line of progress.

    Returns
    -------
    str
        ``ran``, ``fresh`` or ``failed``.
    """
    copy = chapter[-1]
    wanted = [product for product in chapter if part_of(product, copy.run) == part]
    if not wanted:
        jobs = dict.fromkeys(part_of(product, copy.run) for product in chapter if product.job)
        raise ParamsError(f"--part {part}: chapter {copy.chapter} has no such part; {nearest(part, jobs)}")
    if all(product.usable for product in wanted):
        return "fresh"
    try:
        with notebooks.live(f"{copy.name}, {part}", say):
            for product in wanted:
                store.make(product)
    except Exception as error:
        path = notebooks.leave_error(copy, part, error)
        say(f"{copy.name}, {part}: {type(error).__name__}: {error}\n  failed; see {path}")
        return "failed"
    return "ran"


def _run(arguments) -> int:
    if arguments.gpus and not arguments.dry_run:
        raise ParamsError("--gpus belongs to --dry-run; a batch is given its GPUs by --config gpus=0,1")
    if arguments.part and not arguments.only:
        raise ParamsError(f"--part {arguments.part}: name its chapter too, as in --only 03 --part unet")
    whole = not arguments.dry_run  # an estimate needs neither the scans nor the device
    checked = bool(arguments.part)
    studies = load_all(arguments.params, arguments.overrides, checked, to_run=whole, here=whole)
    if checked and whole and (mistakes := [mistake for study in studies.values() for mistake in _check_device(study)]):
        raise ParamsError("\n".join(mistakes))  # a node may lack the device that the sender has
    names = {path: chosen(study, arguments.only or "", arguments.until or "") for path, study in studies.items()}
    if arguments.dry_run:
        from reconfair.run import estimate

        every = estimate.costs([(study, names[path]) for path, study in studies.items()])
        print(estimate.table(every))
        if arguments.gpus:
            print("", estimate.what_if(every, _counts(arguments.gpus)), sep="\n")
        return 0
    _hold_gpu()
    _say_earlier(studies.values())
    rows = []
    with warm.served(not arguments.part and _several(studies, names) and not batch.gpus_here()):
        for path, study in studies.items():
            print(f"{path}: {study.name}", *noise.remarks(study), *remarks(study), sep="\n  ", flush=True)
            try:
                rows += run_study(study, names[path], lambda line: print(line, flush=True), arguments.part)
            except (ValueError, OSError) as error:
                print(sentence(error), file=sys.stderr)
                rows.append({"run": study.name, "notebook": "", "state": "failed", "seconds": 0.0})
    print(f"\n{'run':<28}{'notebook':<20}{'state':<8}{'seconds':>8}")
    for row in rows:
        print(f"{row['run']:<28}{row['notebook']:<20}{row['state']:<8}{row['seconds']:>8.1f}")
    print(f"{'':<28}{'in all':<28}{sum(row['seconds'] for row in rows):>8.1f}")
    for study in studies.values():
        page = store.outputs() / study.name / "chapters" / "10_report.html"
        if page.exists():
            print(f"report: {page}")
    return int(any(row["state"] == "failed" for row in rows))


def _several(studies: dict[Path, Study], names: dict[Path, list[str]]) -> bool:
    """Whether more than one notebook is to be run, so that it pays to import everything once for all."""
    with contextlib.suppress(ValueError, OSError):  # what cannot be read is said when its study runs
        copies = [copy for path, study in studies.items() for copy in every_product(study) if copy.name in names[path]]
        return sum(not copy.fresh for copy in copies) > 1
    return True


def _counts(text: str) -> list[int]:
    """Numbers of GPUs, such as 1,8,64."""
    if not re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", text):
        raise ParamsError(f"--gpus: expected numbers of GPUs such as 1,8,64, not '{text}'")
    return [int(number) for number in text.split(",")]


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
    mistakes = []
    for path, study in load_all(arguments.params, arguments.overrides).items():
        try:
            lines = data.preview(study)
            wrong = [mistake for check in READY for mistake in check(study)]
            lines += [] if wrong else recon.given.notes(study)
        except (ValueError, OSError) as error:
            lines, wrong = [], sentence(error).splitlines()
        mistakes += [f"{path}: {line}" for line in wrong]
        if lines:
            state = "not valid; see below" if wrong else f"valid; writes {store.outputs() / study.name}"
            print(f"{path}: {state}", *noise.remarks(study), *remarks(study), *lines, sep="\n  ")
    if mistakes:
        print(*mistakes, sep="\n", file=sys.stderr)
    return 2 if mistakes else 0


def _status(arguments) -> int:
    paths = arguments.params or sorted(params.project_file("params").glob("*.yaml"))
    by_path, mistakes = _readable(paths, arguments.overrides)
    studies = list(by_path.values())
    print(batch.grid(studies))
    print(*mistakes, sep="\n", end="\n" * bool(mistakes), file=sys.stderr)
    _say_earlier(studies)
    if not arguments.verify:
        return 2 * bool(mistakes)
    every = dict.fromkeys(product for study in studies for product in every_product(study))
    made = [product for product in every if product.read_stamp().get("fingerprint") == product.fingerprint]
    damaged = [product for product in made if not (product.fresh and product.verify())]
    lines = [", ".join([product.key, *(path.name for path in product.damaged)]) for product in damaged]
    print(f"{len(made)} products verified, {len(damaged)} damaged or made from other scans", *lines, sep="\n  ")
    return 2 if mistakes else int(bool(damaged))


def _say_earlier(studies: Iterable[Study]) -> None:
    """Say of each dataset's folder whether an earlier version of the package left results there."""
    for label in dict.fromkeys(study.label for study in studies):
        if stamps := store.earlier(label):
            folder = store.outputs() / label
            print(f"{folder} holds {len(stamps)} results of an earlier layout; they stay and are not used.", flush=True)


def _threshold(text: str) -> tuple[str, float]:
    task, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a threshold from 0 to 1, such as task=0.5, not '{text}'")
    return task, number


def _judge(arguments) -> int:
    from reconfair.run.judge import judge_file

    lines = judge_file(
        arguments.path,
        attributes=[name for name in arguments.attributes.split(",") if name],
        thresholds=dict(arguments.threshold),
        inference=arguments.inference,
        min_cases=arguments.min_cases,
        ordinal=[task for task in arguments.ordinal.split(",") if task],
        out=arguments.out,
    )
    print(*lines, sep="\n")
    return 0


def _plan(arguments) -> int:
    from reconfair.fairness import planning
    from reconfair.run import plan

    name, min_cases = f"plan-{arguments.aim}", 20
    if arguments.params:
        study = params.load(arguments.params)
        task = arguments.task or next(task for task, kind in study.tasks.items() if kind == "classify")
        min_cases = study.fairness.min_cases
        where = {"task": task, "attribute": arguments.attribute, "source": arguments.source}
        expected, name = plan.from_study(study, **where), f"{study.name}/{name}-{task}-{arguments.attribute}"
    else:
        rates = ("tpr", "fpr", "prevalence", "discordance", "images")
        given = {rate: plan.by_group(getattr(arguments, rate)) for rate in rates}
        expected = planning.design(arguments.groups.split(","), **given)
    how = {name: getattr(arguments, name) for name in ("aim", "size", "power", "studies")}
    print(*plan.report(expected, **how, min_cases=min_cases, name=name), sep="\n")
    return 0


def _rate(arguments) -> int:
    from reconfair.synthesis import rate

    study = params.load(arguments.params, arguments.overrides)
    if study.synthesis is None:
        raise ParamsError(f"{arguments.params}: rate needs a section synthesis; chapter 08 makes the images")
    if study.synthesis.preference == "none":
        raise ParamsError(
            f"{arguments.params}: synthesis.preference is none, so no pairs are made; expected csv or oracle"
        )
    rate.check_name(arguments.rater)  # before images are made
    rating = rate.start(study, arguments.rater)
    notebook = rate.notebook(study, arguments.rater, arguments.params, arguments.overrides)
    rated = f"{len(rating.rows)} of {len(rating.pairs)} pairs are rated"
    print(f"{rated}; the tool is in {notebook}, and choices are saved in {rating.path}", flush=True)
    if arguments.no_browser:
        return 0
    return subprocess.run([sys.executable, "-m", "jupyter", "lab", str(notebook)], check=False).returncode


def _init(arguments) -> int:
    """Copy what a reader edits; a folder that holds anything is refused."""
    folder = arguments.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParamsError(f"init {folder}: expected a new or an empty folder, and this one is not")
    unneeded = shutil.ignore_patterns(".*", "__pycache__")
    for name in ("notebooks", "params", "workflow"):
        shutil.copytree(params.shipped() / name, folder / name, ignore=unneeded)
    print(f"cd {shlex.quote(str(folder))}\nreconfair run params/demo.yaml")
    return 0


def _exercises(arguments) -> int:
    """Write each notebook that has solutions twice, with and without them; the originals are the one source."""
    import nbformat

    if arguments.hosted and not re.fullmatch(r"[\w.-]+/[\w.-]+(/[\w./-]+)?", arguments.hosted):
        raise ParamsError(
            f"--hosted {arguments.hosted}: expected OWNER/NAME or OWNER/NAME/BRANCH, such as school/course"
        )
    for path in sorted(FOLDER.glob("*.ipynb")):
        solved = nbformat.read(path, as_version=4)
        if any(notebooks.SOLUTION in cell.metadata.get("tags", ()) for cell in solved.cells):
            for name, notebook in (("student", notebooks.for_students(solved)), ("solutions", solved)):
                copy = arguments.folder / name / path.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                badges = notebooks.launch(arguments.hosted, f"{name}/{path.name}") if arguments.hosted else ""
                nbformat.write(notebooks.for_class(notebook, badges), copy)
            print(f"{path.stem}: {arguments.folder}/student, {arguments.folder}/solutions")
    if arguments.hosted:
        (arguments.folder / "requirements.txt").write_text(
            f"reconfair=={reconfair.__version__}\n", encoding="utf-8"
        )  # for Binder
    return 0


def _pairs(arguments) -> int:
    scripts = sorted(FOLDER.glob("*.py"))
    texts = {script.with_suffix(".ipynb"): notebooks.pair(script) for script in scripts}
    apart = {
        path: text for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in apart.items():
        if arguments.write:
            path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {'written' if arguments.write else 'differs from its script'}")
    return int(bool(apart) and not arguments.write)


def _write_resolved(study: Study) -> None:
    """Leave the whole study, defaults included, and the versions it runs with, beside its results."""
    versions = {"python": platform.python_version(), "reconfair": reconfair.__version__}
    versions |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    resolved = study.sections() | {"versions": versions}
    folder = store.outputs() / study.name
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".run.{os.getpid()}"  # jobs of one run write it side by side
    draft.write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")
    draft.replace(folder / "run.yaml")
