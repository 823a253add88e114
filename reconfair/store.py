"""Where products live, whether they are fresh, and how they are made.

A product is a few files in one folder, beside a stamp ``<name>.product.json``. It is fresh when its stamp bears the
fingerprint of today's parameters, code and inputs, and its files have the stamped sizes. Files are written into a
hidden ``.part`` folder and moved into place when they are complete; the stamp comes last. So a killed run never leaves
anything that looks like a result.
"""

from __future__ import annotations

import ast
import gc
import json
import math
import os
import resource
import shutil
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property, lru_cache, wraps
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from joblib import cpu_count
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm
from xxhash import xxh3_128

from reconfair.params import ParamsError, root

PACKAGE = Path(__file__).parent
LAYOUT = 2  # of the output folder; what an earlier layout left is never taken for fresh
PATIENCE = 120  # seconds that a missing product may take to be made without being asked for
APART = 30  # how many times more work than another a product may be, to take its throughput
TIME = "%Y-%m-%dT%H:%M:%S"
STAMP = {"fingerprint": str, "parameters": dict, "files": dict, "sums": dict, "inputs": list, "scans": dict}
STAMP |= {"seconds": int | float, "work": dict, "peak_mb": int | float, "made": str}
STATEMENTS = ast.stmt | ast.excepthandler | ast.match_case  # only these hold statements, and so docstrings


def outputs() -> Path:
    """Root of all outputs: RECONFAIR_OUTPUTS, or beside the nearest ``params/`` upwards."""
    named = os.environ.get("RECONFAIR_OUTPUTS")
    return _resolved(named) if named else root() / "outputs"


@lru_cache
def _resolved(folder: str) -> Path:
    return Path(os.path.expanduser(folder)).resolve()


class Work(NamedTuple):
    """How much work a product is. Products of one kind take time in proportion to their amount."""

    kind: str
    amount: float  # 1e12 operations of a network, 1e6 pixels, and the like
    rate: float  # seconds per unit where nothing was measured yet
    memory: float = 300  # MB
    disk: float = 0.1  # MB
    gpu: bool = False  # whether a GPU would do it


@dataclass(frozen=True)
class Product:
    """Some files that are made together, and all that they depend on.

    Attributes
    ----------
    chapter : str
        Number of the notebook that makes it, such as ``03``.
    run : str
        The output folder that it belongs to: a dataset's, or that of one of its noise levels.
    folder : Path
        Where its files stand.
    name : str
        Names the stamp.
    write : callable
        Writes the files into the folder it is given. After a kill it gets the same folder again, with what it had left
        there, so that long work can go on.
    parameters : dict
        The parameters it depends on, JSON-ready.
    code : tuple of str
        The modules that compute it, by import name; a file of the user's own by its path.
    needs : tuple of Product
        The products it is made from.
    job : str
        A batch makes products of one job together, apart from the notebook; empty: the notebook makes it.
    work : callable, optional
        Returns its `Work`.
    command : str
        What to write in a terminal to make it.
    inputs : callable, optional
        Returns a signature of files outside the outputs that it was made from: of their dates and sizes, or, where its
        argument is True, of their contents.
    """

    chapter: str
    run: str = field(compare=False)
    folder: Path
    name: str
    write: Callable[[Path], None] = field(compare=False, repr=False)
    parameters: dict = field(default_factory=dict, compare=False)
    code: tuple[str, ...] = field(default=(), compare=False)
    needs: tuple[Product, ...] = field(default=(), compare=False, repr=False)
    job: str = field(default="", compare=False)
    work: Callable[[], Work] | None = field(default=None, compare=False, repr=False)
    command: str = field(default="", compare=False)
    inputs: Callable[[bool], str] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def scans(self) -> tuple[Product, ...]:
        """Those among all that it is made from, itself included, that were made from files outside the outputs."""
        among = [self] * bool(self.inputs) + [product for need in self.needs for product in need.scans]
        return tuple(dict.fromkeys(among))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of parameters, code and the fingerprints of what it needs."""
        texts = [json.dumps(self.parameters, sort_keys=True), *(_digest(source(module)) for module in self.code)]
        texts += [product.fingerprint for product in self.needs]
        return _digest("\n".join(texts))[:16]

    @property
    def key(self) -> str:
        """Name of the product within the outputs, such as ``lgg/x8/sources/unet/weights``."""
        return (self.folder / self.name).relative_to(outputs()).as_posix()

    @property
    def title(self) -> str:
        """Its key for a reader: without the run, and without what a folder says already, as in ``cohort/cohort``."""
        *folders, name = self.key.removeprefix(f"{self.run}/").split("/")
        return "/".join(folders if name in folders else [*folders, name])

    @cached_property
    def stamp(self) -> Path:
        return self.folder / f"{self.name}.product.json"

    @property
    def lock(self) -> Path:
        return self.folder / f".{self.name}.lock"

    @property
    def draft(self) -> Path:
        """Hidden folder in which the files grow; another fingerprint has another folder."""
        return self.folder / f".{self.name}.{self.fingerprint}.part"

    def read_stamp(self) -> dict:
        """Return the stamp's contents, empty where there is none or it is broken."""
        return _read_stamp(self.stamp)

    @property
    def fresh(self) -> bool:
        """Whether the stamp is today's, files and inputs have the stamped sizes and dates, and it was made from the
        scans that its cohort was made from.
        """
        stamp = self.read_stamp()
        return (
            stamp.get("layout") == LAYOUT
            and stamp.get("fingerprint") == self.fingerprint
            and all(_size(f"{self.folder}/{name}") == size for name, size in stamp.get("files", {}).items())
            and (self.inputs is None or (stamp.get("inputs") or [""])[0] == self.inputs(False))
            and all(stamp.get("scans", {}).get(key, known) == known for key, known in self._known_scans().items())
        )

    def _known_scans(self) -> dict[str, str]:
        """Signature of the contents of the scans that each of `scans` was made from, where it has a stamp of today."""
        stamps = {product.key: product.read_stamp() for product in self.scans if product != self}
        return {key: stamp["inputs"][1] for key, stamp in stamps.items() if stamp.get("inputs")}

    @property
    def damaged(self) -> list[Path]:
        """Files of today's stamp that have another checksum; each is read once in a process."""
        stamp = self.read_stamp()
        sums = stamp.get("sums", {}) if stamp.get("fingerprint") == self.fingerprint else {}
        return [self.folder / name for name, value in sums.items() if checksum(self.folder / name) != value]

    @property
    def usable(self) -> bool:
        """Whether it is fresh and undamaged, so that it may be read."""
        return self.fresh and not self.damaged

    def verify(self) -> bool:
        """Whether files and inputs are byte for byte those that were stamped; inputs are read anew."""
        contents = self.read_stamp().get("inputs", [])[1:]
        return not self.damaged and (self.inputs is None or contents == [self.inputs(True)])

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
        return "begun" if self.draft.is_dir() else "missing"

    def mark(self, files: Iterable[Path], seconds: float) -> None:
        """Write the stamp: from now on the files count as complete."""
        kind, amount, *_, gpu = self.work() if self.work else ("", 0.0, False)
        files, torch = sorted(files), sys.modules.get("torch")  # asked without importing it
        device = "cuda" if torch and torch.cuda.is_initialized() else "cpu"
        stamp = {
            "layout": LAYOUT,
            "fingerprint": self.fingerprint,
            "parameters": self.parameters,
            "files": {path.name: path.stat().st_size for path in files},
            "sums": {path.name: checksum(path) for path in files},
            "inputs": [self.inputs(False), self.inputs(True)] if self.inputs else [],
            "scans": self._known_scans(),
            "seconds": round(seconds, 2),
            "work": {"kind": kind, "amount": amount, "gpu": gpu and device == "cuda"},
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "device": device,
            "threads": torch.get_num_threads() if torch else 0,  # another number gives other last digits
            "made": time.strftime(TIME),
        }
        draft = self.stamp.with_suffix(".part")
        draft.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        draft.replace(self.stamp)


def once(build: Callable) -> Callable:
    """Decorate a function of a study that puts a product together: what many products need is put together once.

    It is put together anew where the outputs have moved or the dataset's metadata have changed.
    """

    @wraps(build)
    def product(study, *arguments, **named):
        place = os.environ.get("RECONFAIR_OUTPUTS"), os.getcwd()
        question = (build, place, study.dataset.signature, arguments, *named.items())
        if question not in study.memo:
            study.memo[question] = build(study, *arguments, **named)
        return study.memo[question]

    return product


def make(product: Product) -> Path:
    """Bring `product` up to date, however long that takes, and return its folder.

    Raises
    ------
    ParamsError
        Another run is writing this very product, what it needs is missing and takes long to make, or a folder stands
        where one of its files is to be.
    """
    lacking = missing(product)
    if not lacking:
        return product.folder
    ready(product, lacking[:-1])  # else the stamp would vouch for inputs that were not the ones read
    if product.usable:  # scans were written anew, and are the same
        return product.folder
    with locked(product):
        start = time.monotonic()
        for path in product.damaged:
            if path.is_dir():
                raise ParamsError(f"{path}: is a folder, a file was expected; move it away and start again")
        name_damaged(product)
        for other in product.folder.glob(f".{product.name}.*.part"):
            if other != product.draft:
                shutil.rmtree(other)
        product.draft.mkdir(exist_ok=True)
        product.write(product.draft)
        product.stamp.unlink(missing_ok=True)
        for scratch in product.draft.glob(".*"):  # first of all: nobody goes on from a folder that is half moved
            scratch.unlink()
        placed = [path.replace(product.folder / path.name) for path in product.draft.iterdir()]
        shutil.rmtree(product.draft)
        product.mark(placed, time.monotonic() - start)
    return product.folder


def name_damaged(product: Product, say=print) -> None:
    """Name the files of a product that are not as they were written, a line each."""
    for path in product.damaged:
        name = path.relative_to(outputs()) if path.is_relative_to(outputs()) else path
        say(f"{name}: is missing or was changed after it was written; it is made again")


def ready(product: Product, lacking: list[Product] | None = None) -> Path:
    """Return the folder of a product. What it lacks is made first, unless that takes more than `PATIENCE` in all.

    Parameters
    ----------
    product : Product
    lacking : list of Product, optional
        What is to be made, in the order of making; by default all that is `missing`.

    Raises
    ------
    ParamsError
        It is missing and takes long to make; the message says how long, and the command that makes it.
    """
    lacking = missing(product) if lacking is None else lacking
    if not lacking:
        return product.folder
    rates = throughputs()
    seconds = sum(estimate(need, rates)[0] for need in lacking)
    names = ", ".join(need.title for need in lacking)
    if seconds > PATIENCE:
        damaged = ", ".join(path.name for path in product.damaged)
        state = f"damaged ({damaged})" if damaged else product.state
        raise ParamsError(
            f"{product.run}/{product.title} is {state}. To make {names} takes about {clock(seconds)}. "
            f"Run: {product.command} --until {product.chapter}"
        )
    print(f"Making {names}: about {clock(seconds)}.", flush=True)
    for need in lacking:
        make(need)
    return product.folder


def missing(product: Product) -> list[Product]:
    """What must be made before `product` is fresh, it included, in the order of making.

    If scans have changed, that is their cohort and all that was made from it.
    """
    lacking, lacks = [], {}

    def visit(one: Product) -> bool:
        if one not in lacks:
            lacks[one] = any(visit(scans) for scans in one.scans if scans != one) or not one.usable
            if lacks[one]:
                for need in one.needs:
                    visit(need)
                lacking.append(one)
        return lacks[one]

    visit(product)
    return lacking


def estimate(product: Product, rates: dict[tuple[str, bool], list[tuple[float, float]]]) -> tuple[float, str]:
    """Seconds that it takes to make a product, and the basis of that estimate; `rates` are those of `throughputs`.

    The basis is ``measured`` where a finished product of the same kind and a similar amount of work was made on the
    same kind of device, else ``table`` or, for a GPU, ``H100`` (the room's own number).
    """
    if product.work is None:
        return 0.0, "table"
    work = product.work()
    distances = [(abs(math.log(amount / work.amount)), rate) for amount, rate in rates.get((work.kind, work.gpu), [])]
    nearest = min((distance for distance, _ in distances), default=math.inf)
    if nearest <= math.log(APART):
        return work.amount * median(rate for distance, rate in distances if distance < nearest + 0.1), "measured"
    return work.amount * work.rate, "H100" if work.gpu else "table"


def throughputs() -> dict[tuple[str, bool], list[tuple[float, float]]]:
    """Amount of work and seconds per unit of every finished product under the outputs, by kind and device."""
    rates: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for path in sorted(outputs().rglob("*.product.json")):
        stamp = _read_stamp(path)
        work = stamp.get("work", {})  # an earlier layout has none
        if stamp.get("layout") == LAYOUT and work["amount"] > 0:
            rate = stamp["seconds"] / work["amount"]
            rates.setdefault((work["kind"], work["gpu"]), []).append((work["amount"], rate))
    return rates


def earlier(run: str) -> list[Path]:
    """Stamps in the folder of a run that an earlier version left there; their files stay and are not used."""
    folders = os.walk(outputs() / run)
    stamps = [Path(folder, name) for folder, _, names in folders for name in names if name.endswith(".product.json")]
    return sorted(path for path in stamps if (stamp := _read_stamp(path)) and stamp.get("layout", 0) < LAYOUT)


@contextmanager
def locked(product: Product):
    """Hold the product's lock; the system frees it when the process ends, however it ends."""
    try:
        product.folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ParamsError(f"{product.folder}: a file stands where a folder is expected; move it away") from None
    try:
        with FileLock(product.lock, timeout=1):  # a question after its state holds a lock for a moment
            yield
    except Timeout:
        where = product.folder / product.name
        raise ParamsError(f"{where}: another run is writing this product; start again when it has ended") from None


def _read_stamp(path: Path) -> dict:
    """Contents of a stamp, empty where there is none or it is broken."""
    try:
        status = os.stat(path)
        return _parsed(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(2**15)  # those of a thousand runs
def _parsed(path: Path, *_status: int) -> dict:
    """Contents of a stamp, read once as long as its file stays the same; empty where another hand has changed it."""
    stamp = json.loads(path.read_text(encoding="utf-8"))
    layout = stamp.get("layout", 0) if isinstance(stamp, dict) else None
    if layout != LAYOUT:
        return {"layout": layout} if isinstance(layout, int) else {}
    return stamp if _is_whole(stamp) else {}


def _is_whole(stamp: dict) -> bool:
    """Whether a stamp has all that `Product.mark` writes, so that nobody who reads it needs to ask."""
    if not all(isinstance(stamp.get(key), kind) for key, kind in STAMP.items()):
        return False
    try:
        datetime.fromisoformat(stamp["made"])
    except ValueError:
        return False
    work, inputs = stamp["work"], stamp["inputs"]
    return (
        isinstance(work.get("kind"), str)
        and isinstance(work.get("amount"), int | float)
        and isinstance(work.get("gpu"), bool)
        and len(inputs) in (0, 2)
        and all(isinstance(text, str) for text in (*inputs, *stamp["sums"].values(), *stamp["scans"].values()))
        and stamp["sums"].keys() == stamp["files"].keys()
    )


def _size(path: str) -> int:
    """Size of a file, -1 where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def files_in(folder: str | Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Files in a folder and its folders, by name, also where a folder is a link; one to a folder above is left out."""
    real = os.path.realpath(folder)
    if real in above or not os.path.isdir(real):
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir():
                yield from files_in(entry.path, (*above, real))
            elif entry.is_file():
                yield Path(entry.path)


def checksum(path: str | Path) -> str:
    """Checksum of a file's content, read once as long as its size and date stay the same; empty where it is missing."""
    try:
        status = os.stat(path)
        return _checksum(Path(path), status.st_size, status.st_mtime_ns)
    except OSError:
        return ""


@cache
def _checksum(path: Path, size: int, date: int) -> str:
    digest = xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _held(lock: Path) -> bool:
    """Whether a living process holds a lock."""
    try:
        with FileLock(lock, timeout=0) if lock.exists() else nullcontext():
            return False
    except Timeout:
        return True
    except OSError:  # a folder that nobody may write to: nobody writes
        return False


def sparingly(least: float = 0) -> Callable:
    """Decorate a function that looks at many files: no more than a twentieth of the time goes into its looks.

    What it answers is kept for `least` seconds, or, where the look took more than half a second, for 20 times as long
    as it took. A change of the files is noticed after that.
    """

    def decorate(look: Callable) -> Callable:
        kept = {}

        @wraps(look)
        def answer(*question):
            begun = time.monotonic()
            if begun >= kept.get(question, (0.0, None))[0]:
                answer = look(*question)
                took = time.monotonic() - begun
                kept[question] = begun + took + (20 * took if took > 0.5 else least), answer
            return kept[question][1]

        answer.cache_clear = kept.clear
        return answer

    return decorate


@contextmanager
def uncollected():
    """Without garbage collection: of many new objects that stay, it would look through all others again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@cache
@uncollected()
def source(module: str) -> str:
    """Code of a module without comments and docstrings, so that prose can change freely.

    Parameters
    ----------
    module : str
        Import name of a module of this package, or the path of a file.
    """
    path = Path(module) if module.endswith(".py") else PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    path = path if path.is_file() else path.with_suffix("") / "__init__.py"
    statements = [tree := ast.parse(path.read_text(encoding="utf-8"))]
    while statements:
        node = statements.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        statements += [child for child in ast.iter_child_nodes(node) if isinstance(child, STATEMENTS)]
    return ast.dump(tree)


@lru_cache(4096)
def _digest(text: str) -> str:
    """Hash of a text; the code of a module is a large text that many products share."""
    return sha256(text.encode()).hexdigest()


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
        self.row_bytes = math.prod(shape[1:]) * self.dtype.itemsize
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

    Threads share large tables, and are as fast where NumPy or SciPy does the work. `workers` of them are used (0: one
    per core). No more than a few results wait for whoever takes them, so that memory stays bounded.
    """
    workers = max(1, min(workers or cpu_count(), len(items)))
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def results(pool):
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    if workers == 1:
        yield from progress(map(function, items), what, len(items))
    elif threads:
        with ThreadPoolExecutor(workers) as pool:
            yield from progress(results(pool), what, len(items))
    else:
        # Idle workers wait as long as joblib's own do: one that leaves while work arrives can stop the pool for good.
        started = {"initializer": end_with, "initargs": (os.getpid(),), "timeout": 300}
        pool = get_reusable_executor(workers, env=one_thread, **started)
        yield from progress(results(pool), what, len(items))


def end_with(parent: int) -> None:
    """Have this process end soon after its parent, however that ends."""

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def progress(items: Iterable, what: str, total: int | None = None) -> Iterable:
    """Show how far long work has come and the time left: a bar in Jupyter and in a terminal, nothing in a log.

    Under the runner the kernel has no terminal. It then leaves a line for the runner, which draws the bar.
    """
    total = len(items) if total is None else total
    line, start = os.environ.get("RECONFAIR_PROGRESS"), time.monotonic()
    watched = not line and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    written = -1.0
    try:
        for done, item in enumerate(tqdm(items, desc=what, total=total, leave=False, disable=not watched)):
            elapsed = time.monotonic() - start
            if line and elapsed - written > 0.2:
                Path(line).write_text(f"{what}|{done}|{total}|{elapsed:.1f}", encoding="utf-8")
                written = elapsed
            yield item
    finally:
        if line:
            Path(line).write_text("", encoding="utf-8")


def clock(seconds: float) -> str:
    """Time in the unit in which it is told.

    Examples
    --------
    >>> clock(48), clock(600), clock(9000)
    ('48 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
