"""Where products live, whether they are fresh, and how they are written.

A product is a few files in one folder, beside a stamp ``<name>.product.json``. It is fresh when
its stamp bears the fingerprint of today's parameters, code and inputs, and its files have the
stamped sizes. Files are written into a hidden ``.part`` folder and moved into place when whole;
the stamp comes last. What was killed half-way is therefore never taken for a result.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from reconfair.params import ParamsError, Study

PACKAGE = Path(__file__).parent
NOTEBOOKS = PACKAGE.parent / "notebooks"
PUBLISHED = PACKAGE / "published"
# The chapters, and the sections of a params file that each uses.
CHAPTERS = {
    "01_data": ("dataset", "noise", "diagnosis", "compute"),
    "02_noising": ("dataset", "noise", "compute"),
    "03_reconstruction": ("dataset", "noise", "reconstruction", "compute"),
    "04_diagnosis": ("dataset", "noise", "reconstruction", "diagnosis", "fairness", "compute"),
    "05_fairness": ("dataset", "noise", "reconstruction", "diagnosis", "fairness"),
    "06_mitigation": ("dataset", "noise", "reconstruction", "diagnosis", "fairness", "mitigation", "compute"),
    "10_report": ("dataset", "noise", "reconstruction", "diagnosis", "fairness", "mitigation", "report"),
}
REPORT = ["report", *(f"report/{part}" for part in ("runs", "claims", "exhibits", "pages"))]
STATISTICS = ("__init__", "checks", "counts", "metrics", "resampling", "scores", "threshold")


def outputs() -> Path:
    """Root of all outputs: RECONFAIR_OUTPUTS, or beside the nearest ``params/`` upwards."""
    if os.environ.get("RECONFAIR_OUTPUTS"):
        return Path(os.environ["RECONFAIR_OUTPUTS"]).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params").is_dir():
            return folder / "outputs"
    raise ParamsError(f"no folder 'params' at or above {here}; run inside the project or set RECONFAIR_OUTPUTS")


@dataclass(frozen=True)
class Product:
    """Some files that are made together, and all that they depend on.

    Attributes
    ----------
    chapter : str
        Notebook that makes it, such as ``03``.
    folder : Path
        Where its files stand.
    name : str
        Names the stamp.
    parameters : dict
        The parameters it depends on, JSON-ready.
    code : tuple of str
        The modules that compute it, as paths within the package without suffix.
    needs : tuple of Product
        The products it is made from.
    """

    chapter: str
    folder: Path
    name: str
    parameters: dict = field(default_factory=dict, compare=False)
    code: tuple[str, ...] = ()
    needs: tuple[Product, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of parameters, code and the fingerprints of what it needs."""
        parts = [json.dumps(self.parameters, sort_keys=True), *map(source, self.code)]
        parts += [product.fingerprint for product in self.needs]
        return sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def stamp(self) -> Path:
        return self.folder / f"{self.name}.product.json"

    @property
    def lock(self) -> Path:
        return self.folder / f".{self.name}.lock"

    @property
    def part(self) -> Path:
        """Hidden folder in which the files grow; another fingerprint has another folder."""
        return self.folder / f".{self.name}.{self.fingerprint}.part"

    def read_stamp(self) -> dict:
        """Return the stamp's contents, empty where there is none or it is broken."""
        try:
            return json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return {}

    @property
    def fresh(self) -> bool:
        stamp = self.read_stamp()
        return stamp.get("fingerprint") == self.fingerprint and all(
            (self.folder / name).is_file() and (self.folder / name).stat().st_size == size
            for name, size in stamp["files"].items()
        )

    @property
    def state(self) -> str:
        """One of ``done``, ``running``, ``failed`` (a notebook cut short), ``stale``, ``begun`` and ``missing``."""
        if self.fresh:
            return "done"
        if _held(self.lock):
            return "running"
        if self.stamp.exists():
            return "stale"
        if (self.folder / f"{self.name}.ipynb").exists():
            return "failed"
        return "begun" if self.part.is_dir() else "missing"

    def mark(self, files: Iterable[Path], seconds: float) -> None:
        """Write the stamp: from now on the files count as whole."""
        stamp = {
            "fingerprint": self.fingerprint,
            "parameters": self.parameters,
            "files": {path.name: path.stat().st_size for path in sorted(files)},
            "seconds": round(seconds, 2),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "device": _device(),
            "made": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        draft = self.stamp.with_suffix(".part")
        draft.write_text(json.dumps(stamp, indent=1))
        draft.replace(self.stamp)


def make(product: Product, write: Callable[[Path], None]) -> Path:
    """Bring `product` up to date and return its folder.

    Parameters
    ----------
    product : Product
        What is wanted. Where it is fresh, nothing is done.
    write : callable
        Writes the product's files into the folder it is given. After a kill it is given the same
        folder again, with what it had left there, so that long work can go on.

    Raises
    ------
    ParamsError
        Another run is writing this very product.
    """
    if product.fresh:
        return product.folder
    for need in product.needs:  # else the stamp would vouch for inputs that were not the ones read
        require(need)
    with locked(product):
        begun = time.monotonic()
        for other in product.folder.glob(f".{product.name}.*.part"):
            if other != product.part:
                shutil.rmtree(other)
        product.part.mkdir(exist_ok=True)
        write(product.part)
        product.stamp.unlink(missing_ok=True)
        for scratch in product.part.glob(".*"):  # first of all: nobody goes on from a folder that is half moved
            scratch.unlink()
        placed = [path.replace(product.folder / path.name) for path in product.part.iterdir()]
        shutil.rmtree(product.part)
        product.mark(placed, time.monotonic() - begun)
    return product.folder


def require(product: Product) -> None:
    """Refuse to go on from a product that is not fresh, naming the chapter that makes it."""
    if not product.fresh:
        where = f"{product.folder / product.name} is needed and {product.state}"
        raise ParamsError(f"{where}; run chapter {product.chapter} first")


@contextmanager
def locked(product: Product):
    """Hold the product's lock; the system frees it when the process ends, however it ends."""
    product.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(product.lock, timeout=1):  # a question after its state holds a lock for a moment
            yield
    except Timeout:
        where = product.folder / product.name
        raise ParamsError(f"{where}: another run is writing this product; start again when it has ended") from None


def _device() -> str:
    """Where this process has computed, asked without importing torch."""
    torch = sys.modules.get("torch")
    return "cuda" if torch and torch.cuda.is_initialized() else "cpu"


def _held(lock: Path) -> bool:
    """Whether a living process holds a lock."""
    try:
        with FileLock(lock, timeout=0) if lock.exists() else nullcontext():
            return False
    except Timeout:
        return True


@cache
def source(module: str) -> str:
    """Code of a module without comments and docstrings, so that prose can change freely."""
    path = PACKAGE / f"{module}.py"
    tree = ast.parse((path if path.is_file() else PACKAGE / module / "__init__.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def flow(study: Study) -> dict[str, Product]:
    """Every product of a study by name, in the order in which they are made.

    This is the whole data flow: which chapter makes what, where it lies, from which parameters,
    code and products.
    """
    data, level = outputs() / study.label, outputs() / study.name
    networks, models = study.networks, study.reconstruction.models
    products: dict[str, Product] = {}

    def add(key: str, chapter: str, folder: Path, parameters: dict, code: str, *needs: str) -> None:
        needed = tuple(products[need] for need in needs)
        products[key] = Product(chapter, folder, key.split("/")[-1], parameters, tuple(code.split()), needed)

    dataset, name = study.dataset, study.dataset.name
    drawn_with = "data/phantom keyed" if name.startswith("phantom") else "data/files keyed"
    settings = dataset.model_dump(mode="json", exclude={"root", "on_bad_image"})
    parameters = {"dataset": settings, "raw": dataset.signature}
    add("cohort", "01", data, parameters, f"data data/splits data/{name} {drawn_with}")

    noise = study.noise.model_dump(mode="json")
    degraded = data / study.noise.level / "noisy"  # replicates share it
    add("noisy", "02", degraded, noise, f"noise noise/{study.noise.kind} quality keyed", "cohort")

    sampled = {}  # by model, with what settings a trained one reconstructs
    for model in models:
        every, settings = (study.reconstruction.settings(model, sampling) for sampling in (True, False))
        sampled[model] = {key: every[key] for key in every.keys() - settings.keys()}
        code = f"training recon recon/{model} keyed" + (" recon/scorenet" if model == "sde" else "")
        add(f"{model}/model", "03", level / model, settings, code, "cohort", "noisy")
        add(f"{model}/reconstructed", "03", level / model, sampled[model], "quality", f"{model}/model", "noisy")

    for network in networks:
        settings = study.diagnosis.settings(network)
        code = f"training diagnosis diagnosis/{network.kind} fairness/threshold keyed"
        add(f"diagnosis/{network.name}", "04", data / "diagnosis" / network.name, settings, code, "cohort")
    frozen = [f"diagnosis/{network.name}" for network in networks]
    add("original/predictions", "04", data / "original", {}, "", "cohort", *frozen)
    add("noisy/predictions", "04", degraded, {}, "", "noisy", *frozen)
    for model in models:
        add(f"{model}/predictions", "04", level / model, {}, "", f"{model}/reconstructed", *frozen)

    fairness = study.fairness.model_dump(mode="json")
    statistics = "judge " + " ".join(f"fairness/{part}" for part in STATISTICS)
    rows = ["original/predictions", "noisy/predictions", *(f"{model}/predictions" for model in models)]
    add("fairness", "05", level / "fairness", fairness, statistics, *rows)

    for model, strategy in study.mitigated:
        key = variant(model, strategy)
        folder, parts = level / key, study.mitigation.parts(strategy)
        rows.append(f"{key}/predictions")
        if strategy == "thresholds":
            asked = {"attributes": study.attributes("mitigation"), "min_cases": study.fairness.min_cases}
            needs = (f"{model}/predictions", "cohort", *frozen)
            add(f"{key}/predictions", "06", folder, asked, "mitigation/thresholds", *needs)
            continue
        settings = study.mitigation.model_dump(mode="json", exclude={"strategies", "models", "lam"}) | {"parts": parts}
        code = "training mitigation mitigation/penalties keyed " + " ".join(f"mitigation/{part}" for part in parts)
        add(f"{key}/model", "06", folder, settings, code, f"{model}/model", *frozen)
        add(f"{key}/reconstructed", "06", folder, sampled[model], "quality", f"{key}/model", "noisy")
        add(f"{key}/predictions", "06", folder, {}, "", f"{key}/reconstructed", *frozen)
    add("mitigation", "06", level / "mitigation", fairness, statistics, *rows)

    # Levels of other studies count by their stamps, for they are made by other params files.
    others = finished(study) if study.report.runs == "all" else []
    published = sha256(b"".join(path.read_bytes() for path in sorted(PUBLISHED.glob("*.csv"))))
    gathered = {**study.model_dump(mode="json", include={"report"}), "published": published.hexdigest()}
    gathered |= {"others": {path.parts[-3]: path.read_text() for path in others if path.parts[-3] != study.level}}
    add("report", "10", level / "report", gathered, f"figures words judge {' '.join(REPORT)}", "cohort", "mitigation")

    return products | _copies(study, products)


def _copies(study: Study, products: dict[str, Product]) -> dict[str, Product]:
    """The executed notebooks: stale when their text, their sections or what they show has changed."""
    copies = {}
    for notebook, sections in CHAPTERS.items():
        told = {"text": sha256((NOTEBOOKS / f"{notebook}.ipynb").read_bytes()).hexdigest()}
        told |= study.model_dump(mode="json", include=set(sections) - {"compute"})
        shown = tuple(product for product in products.values() if product.chapter <= notebook[:2])
        folder = outputs() / study.name / "notebooks"
        code = ["figures", "words", *(f"fairness/{part}" for part in STATISTICS if "fairness" in sections)]
        code += {"04_diagnosis": ["diagnosis/curves"], "06_mitigation": REPORT}.get(notebook, [])
        copies[f"notebooks/{notebook}"] = Product(notebook[:2], folder, notebook, told, tuple(code), shown)
    return copies


def finished(study: Study | None = None) -> list[Path]:
    """Stamps of the runs that came to chapter 06, less replicates: all, or the noise levels of the study's dataset."""
    stamps = outputs().glob(f"{study.label if study else '*'}/*/mitigation/mitigation.product.json")
    return sorted(stamp for stamp in stamps if "-seed-" not in stamp.parts[-3])


def check_label(study: Study) -> None:
    """Refuse a dataset label under which other settings already stand, naming the key."""
    cohort = flow(study)["cohort"]
    made, wanted = cohort.read_stamp().get("parameters", {}).get("dataset", {}), cohort.parameters["dataset"]
    for key in wanted:
        if made and made.get(key) != wanted[key]:
            raise ParamsError(
                f"dataset.{key}: {cohort.folder} was made with {made.get(key)!r}, this study says {wanted[key]!r}; "
                "give this study another dataset.label, or remove that folder"
            )


class Growing:
    """An ``.npy`` file written from front to back; what a killed run left of it is kept.

    It is a plain stream, so that memory does not grow with it.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        Of the whole array.
    dtype : dtype
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype):
        self.path, self.dtype, self.shape = path, np.dtype(dtype), shape
        self.header = self._header(shape[0])
        self.row_bytes = prod(shape[1:]) * self.dtype.itemsize
        if not path.exists() or path.stat().st_size < len(self.header):
            path.write_bytes(self.header)

    def _header(self, rows: int) -> bytes:
        described = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {**described, "shape": (rows, *self.shape[1:])})
        return header.getvalue()

    @property
    def done(self) -> int:
        """Whole rows in the file."""
        return (self.path.stat().st_size - len(self.header)) // self.row_bytes

    def append(self, rows) -> None:
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, self.dtype).data)

    def read(self) -> np.ndarray:
        """Return what is in the file so far."""
        return np.fromfile(self.path, self.dtype, offset=len(self.header)).reshape(-1, *self.shape[1:])

    def cut(self, rows: int) -> None:
        """Keep the first `rows`."""
        os.truncate(self.path, len(self.header) + rows * self.row_bytes)

    def end(self) -> None:
        """Let the file be whole with the rows that it has, where they are fewer than was thought."""
        with self.path.open("r+b") as file:
            file.write(self._header(self.done))  # NumPy pads headers, so that the length stays


def resume(chunk: int, *files: Growing) -> int:
    """Cut files that grow together back to their common whole chunks; returns the rows they then have."""
    done = min(file.done for file in files) // chunk * chunk
    for file in files:
        file.cut(done)
    return done


def parallel(function: Callable, items: Sequence, what: str, workers: int = 0, threads: bool = False) -> Iterable:
    """Yield ``function(item)`` in order, with progress, computed by processes or by threads.

    Threads share large tables, and are as fast where NumPy or SciPy does the work. `workers` of them
    are used (0: one per core).
    """
    workers = max(1, min(workers or cpu_count(), len(items)))
    pool = Parallel(n_jobs=workers, return_as="generator", prefer="threads" if threads else None)
    return progress(pool(delayed(function)(item) for item in items), what, len(items))


def variant(source: str, strategy: str = "standard") -> str:
    """Name of a source's folder: ``unet``, or ``unet-reweight`` once fine-tuned."""
    return source if strategy == "standard" else f"{source}-{strategy}"


def report(text: str) -> None:
    """Tell the runner, if one listens, what is being done."""
    if os.environ.get("RECONFAIR_PROGRESS"):
        Path(os.environ["RECONFAIR_PROGRESS"]).write_text(text)


def progress(items: Iterable, what: str, total: int | None = None) -> Iterable:
    """Show how far long work has come: a bar, or, under the runner, a line of it."""
    total = len(items) if total is None else total
    quiet = "RECONFAIR_PROGRESS" in os.environ
    for done, item in enumerate(tqdm(items, desc=what, total=total, leave=False, disable=quiet)):
        report(f"{what} {done}/{total}")
        yield item
    report("")
