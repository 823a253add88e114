"""The jobs of a batch: what each makes, which others it waits for, and how far all of them have come."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from shutil import which

from reconfair import store
from reconfair.params import ParamsError, Study
from reconfair.run import warm
from reconfair.run.products import CHAPTERS, chapters, every_product, part_of
from reconfair.store import Product, clock


@dataclass
class Job:
    """One process: a notebook of one configuration, or a part of its chapter made before it.

    Attributes
    ----------
    name : str
        Such as ``lgg/x8/03_reconstruction``, ``lgg/x8/03.unet``, or ``lgg/01.cohort`` for all levels.
    path : Path
        Params file of the configuration.
    study : Study
    notebook : str
        Chapter, such as ``03_reconstruction``.
    part : str
        What is made outside the notebook, such as ``unet``; empty for the notebook itself.
    products : dict of str to Product
        What it makes, by `Product.key`.
    """

    name: str
    path: Path
    study: Study
    notebook: str
    part: str = ""
    products: dict[str, Product] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        return all(product.fresh for product in self.products.values())

    @property
    def gpu(self) -> bool:
        """Whether networks are at work: all parts but the cohort, and the notebooks that show or use them."""
        trains = self.notebook[:2] in ("06", "07", "09") and bool(self.part)
        return self.notebook[:2] in ("03", "04", "08") or trains

    def command(self, threads: int, gpus: Iterable[str] = (), server: str = "") -> str:
        """Shell command that does it in so many threads; one that uses networks takes one of `gpus` that is free.

        `server` is the socket of `warm`, where there is one.
        """
        settings = [f"RECONFAIR_OUTPUTS={store.outputs()}", f"LOKY_MAX_CPU_COUNT={threads}"]
        settings += [f"RECONFAIR_GPUS={','.join(gpus)}"] if self.gpu and gpus else []
        runner = [*warm.COMMAND, server] if server else [sys.executable, "-m", "reconfair.run"]
        runner += ["run", str(self.path), "--only", self.notebook[:2]]
        return shlex.join(["env", *settings, *runner, *(["--part", self.part] if self.part else [])])


def gpus_here() -> list[str]:
    """Names of this machine's GPUs as CUDA has them, asked without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu]
    listed = which("nvidia-smi") and subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return [str(gpu) for gpu in range((listed or "").count("GPU "))]


def jobs(studies: dict[Path, Study]) -> dict[str, Job]:
    """Return the jobs of some configurations by name; what they share is the job of the first.

    Raises
    ------
    ParamsError
        Two params files write to one place, or want what they share made differently.
    """
    every, writers = {}, {}
    for path, study in studies.items():
        if writers.setdefault(study.name, path) != path:
            both = f"{writers[study.name]} and {path} both write {study.name}"
            raise ParamsError(f"{both}; give one of them another dataset.label")
        titles = {notebook[:2]: notebook for notebook in chapters(study)}
        for product in every_product(study):
            title = titles[product.chapter]
            name = f"{product.run}/{product.chapter}.{product.job}" if product.job else f"{product.run}/{title}"
            job = every.setdefault(name, Job(name, path, study, title, part_of(product, study.name)))
            if job.products.setdefault(product.key, product).fingerprint != product.fingerprint:
                both = f"{job.path} and {path} share {product.key}, but with other settings"
                raise ParamsError(f"{both}; give one of them another dataset.label")
    return every


def waits(every: dict[str, Job]) -> dict[str, list[str]]:
    """Return, by job, the jobs that have yet to make what it needs; a report of all runs waits for all of them."""
    made = {product: name for name, job in every.items() for product in job.products.values()}
    lacking = {product: name for product, name in made.items() if not product.fresh}
    judged = [product for product in lacking if product.name == "judged"]
    awaited = {}
    for name, job in every.items():
        needs = {need for product in job.products.values() for need in product.needs}
        if job.notebook == "10_report" and job.study.report.runs == "all":
            needs |= {product for product in judged if product.run.startswith(f"{job.study.label}/")}
        awaited[name] = sorted({lacking[need] for need in needs if need in lacking} - {name})
    return awaited


def write_flags(every: dict[str, Job], folder: Path) -> None:
    """Leave an empty file for each job of which all is fresh, and none for the others: the store's verdict."""
    for name, job in every.items():
        if job.fresh:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        else:
            (folder / name).unlink(missing_ok=True)


@store.uncollected()
def grid(studies: Iterable[Study]) -> str:
    """Show how far each configuration has come: a row each, a column for each chapter, time and largest process.

    On a network disk the program waits most of the time; then several threads ask. On other disks they would only be in
    each other's way. The second row tells which it is: the first one also reads the code that all fingerprints hold.
    """
    studies = list(studies)
    rows = [["run", *(notebook[:2] for notebook in CHAPTERS), "in all", "memory"], *map(_row, studies[:1])]
    begun, busy = time.monotonic(), time.thread_time()
    rows += map(_row, studies[1:2])
    waits = time.monotonic() - begun > 10 * (time.thread_time() - busy)  # a crowded machine alone waits less
    with ThreadPoolExecutor(16 if waits else 1) as pool:
        rows += pool.map(_row, studies[2:])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(study: Study) -> list[str]:
    """A row of the grid; where the disk cannot be read, it says so, and the others go on."""
    try:
        return [study.name, *_cells(study)]
    except OSError as error:
        return [study.name, *["unreadable"] * len(CHAPTERS), "", f"{error.filename}: {error.strerror}"]


def _cells(study: Study) -> list[str]:
    """State and time of each chapter, time in all, and memory of the largest process."""
    chapter_products = {notebook[:2]: [] for notebook in chapters(study)}
    for product in every_product(study):
        chapter_products[product.chapter].append(product)
    cells, seconds, peak = [], 0.0, 0
    for notebook in CHAPTERS:
        if notebook[:2] not in chapter_products:
            cells.append("-")
            continue
        chapter = chapter_products[notebook[:2]]
        states, took = {product.state for product in chapter}, seconds_of(chapter)
        # The first state that any product is in; begun where only some are done.
        state = next((state for state in ("running", "failed", "stale", "begun") if state in states), "begun")
        state = state if len(states) > 1 else states.pop()
        cells.append(f"{state} {clock(took)}" if took else state)
        seconds += took
        peak = max([peak, *(product.read_stamp().get("peak_mb", 0) for product in chapter)])
    return [*cells, clock(seconds), f"{peak / 1000:.1f} GB"]


def seconds_of(products: list[Product]) -> float:
    """Time that a chapter took, what its notebook made while it ran counted once."""
    stamps = [product.read_stamp() for product in products]
    ends = [datetime.fromisoformat(stamp["made"]).timestamp() if "made" in stamp else 0.0 for stamp in stamps]
    total = stamps[-1].get("seconds", 0)
    start, end = ends[-1] - total - 1, ends[-1]
    others = zip(stamps[:-1], ends[:-1], strict=True)
    return total + sum(stamp.get("seconds", 0) for stamp, ended in others if not start <= ended <= end)
