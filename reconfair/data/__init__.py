"""Chapter 01: cohorts. Who is in the study, with which images, labels and attributes.

A dataset is a file of this folder with one settings class, a `params.Dataset` with two methods: ``read_table()`` and
``read_image(row)``; and one line in `DATASETS`.
"""

import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from hashlib import blake2b, sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from xxhash import xxh3_128

from reconfair import entries, params, store, tables
from reconfair.data import files, splits
from reconfair.data.chexpert import CheXpert
from reconfair.data.lgg import LGG
from reconfair.data.nih import NIH
from reconfair.data.phantom import Phantom, look_at_groups, withhold
from reconfair.data.phantom_mri import PhantomMRI
from reconfair.data.phantom_xray import PhantomXray
from reconfair.data.sunnybrook import Sunnybrook
from reconfair.data.table import Table
from reconfair.data.ucsf_pdgm import UCSFPDGM
from reconfair.params import ParamsError, Study
from reconfair.store import Product, Work
from reconfair.words import first_few

DATASETS = {
    "phantom_mri": PhantomMRI,
    "phantom_xray": PhantomXray,
    "lgg": LGG,
    "nih": NIH,
    "chexpert": CheXpert,
    "ucsf_pdgm": UCSFPDGM,
    "sunnybrook": Sunnybrook,
    "table": Table,
}
params.DATASETS |= DATASETS
IMAGES = {"lgg": 3_929, "nih": 112_120, "chexpert": 191_027, "ucsf_pdgm": 65_000}  # about
CHUNK = 32  # images per piece of work: long enough to be worth sending to a process
EMPTY, KEPT, SKIPPED = range(3)  # what became of a row
# Columns that say who a patient is. They stay in cohort.parquet; what is made of a cohort holds pseudonyms.
IDENTIFYING = ("original_image_id", "original_patient_id", "path", "mask_path")
TRAITS = ("sex", "age_group", "race")  # attributes that every cohort has a column for
_listed: dict[str, int] = {}  # images that the table of a dataset names, by its settings: it takes long to read


class Cohort(NamedTuple):
    """A prepared dataset: rows of `table`, `images` and `masks` belong together.

    `images` is (n, size, size), of colour (n, 3, size, size), float16 within [0, 1]; `masks`, (n, size, size), of
    several regions (n, regions, size, size), is 0 or 1, or None where the dataset has none; both are memory-mapped.
    """

    table: pd.DataFrame
    images: np.ndarray
    masks: np.ndarray | None


@store.once
def product(study: Study) -> Product:
    """The cohort: table, images and masks."""
    dataset = study.dataset
    return Product(
        chapter="01",
        run=study.label,
        folder=store.outputs() / study.label / "cohort",
        name="cohort",
        write=partial(_write, study),
        parameters={"dataset": dataset.settings, "raw": dataset.signature},
        code=(__name__, f"{__name__}.splits", "reconfair.keyed", *_code(type(dataset))),
        job="cohort",
        work=partial(_work, study),
        command=study.command,
        inputs=partial(_inputs, study),
    )


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    return [product(study)]


def _inputs(study: Study, content: bool) -> str:
    """Signature of the files that the images of a cohort were read from: their dates and sizes, or their contents."""
    file = store.outputs() / study.label / "cohort" / "cohort.parquet"
    return _signature(file, 0, store.checksum) if content else _dates(file, files.changed(file), _date)


def _signature(cohort: Path, changed: int, question) -> str:
    """Hash of the names of the files that a table names, and of what `question` answers about each."""
    try:
        answers = asked(_scans(cohort, files.changed(cohort)), question)
    except (OSError, ValueError):
        return ""
    return xxh3_128(repr([(os.path.basename(path), answer) for path, answer in answers.items()]).encode()).hexdigest()


@lru_cache(4)  # all noise levels of a dataset ask for it
def _scans(cohort: Path, changed: int) -> pd.DataFrame:
    """The columns of a cohort's table that name files."""
    columns = pq.read_schema(cohort).names
    return pd.read_parquet(cohort, columns=[name for name in ("path", "mask_path") if name in columns])


_dates = store.sparingly()(_signature)


def _date(path: str) -> tuple[int, int] | None:
    """Size and date of a file, if it is there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns)


@cache
def _code(kind: type) -> list[str]:
    """Modules that make a cohort: that of its class and those that this one builds on."""
    modules = [base.__module__ for base in kind.__mro__ if issubclass(base, params.Dataset)]
    names = dict.fromkeys(name for name in modules if name != params.__name__)
    paths = [name if name.startswith("reconfair.") else sys.modules[name].__file__ for name in names]
    paths += [f"{__name__}.traits"] if {f"{__name__}.phantom", f"{__name__}.table"} & names.keys() else []
    return paths if f"{__name__}.phantom" in names else [*paths, f"{__name__}.files", "reconfair.entries"]


def _work(study: Study) -> Work:
    """Pixels to draw or to read."""
    dataset = study.dataset
    images = product(study).folder / "images.npy"  # just made, or of former settings: the number hardly differs
    number = len(np.load(images, mmap_mode="r")) if images.exists() else sizes(study)["all"]
    pixels, masks = number * np.prod(dataset.shape) / 1e6, "segment" in dataset.about.tasks.values()
    return Work(f"cohort {dataset.name}", pixels, 1.2, disk=(2 + masks) * pixels)


def sizes(study: Study) -> dict[str, float]:
    """Number of images by use: those of the cohort, or as many as are to be expected."""
    cohort, dataset = product(study), study.dataset
    if cohort.fresh:
        table = seen(tables.read("cohort", cohort.folder), study)
        return {use: len(rows(table, use)) for use in ("all", "recon", "diag", "eval")}
    mri, parted = dataset.about.modality == "mri", dataset.parted
    drawn = dataset.patients * (dataset.slices if mri else 2) if isinstance(dataset, Phantom) else 0
    number = drawn or _rows_of(dataset)
    train, val, test = dataset.split
    if dataset.folds:
        test = 1 / dataset.folds if study.number else 1
        train, val = (share / (train + val) * (1 - test) for share in (train, val))
    shares = {"all": 1, "recon": train * (0.7 if parted else 1), "diag": train * (0.3 if parted else 1)}
    shares["eval"] = val + test
    return {use: number * share for use, share in shares.items()}


def _rows_of(dataset: params.Dataset) -> int:
    """Number of images that a dataset lists; where its table cannot be read yet, of the whole set, or 10,000."""
    settings = dataset.model_dump_json()
    if settings not in _listed:
        try:
            _listed[settings] = len(dataset.read_table())
        except (ValueError, OSError):
            _listed[settings] = IMAGES.get(dataset.name, 10_000)
    return _listed[settings]


def prepare(study: Study) -> Cohort:
    """Make the cohort unless it is fresh, and load it."""
    check_label(study)
    store.make(product(study))
    cohort = load(study)
    # A cohort made for other tasks may lack a class of these.
    check(tables.read("cohort", product(study).folder), study)
    lost = skipped(study)
    if len(lost) and study.dataset.on_bad_image == "error":
        raise ValueError(
            f"{lost.reason[0]}: this cohort was made without {len(lost)} such images; set dataset.on_bad_image: skip, "
            f"or mend them and remove {product(study).folder}"
        )
    return cohort


def check_label(study: Study) -> None:
    """Refuse a dataset label under which other settings already stand, naming the key."""
    cohort = product(study)
    made, wanted = cohort.read_stamp().get("parameters", {}).get("dataset", {}), cohort.parameters["dataset"]
    for key in wanted:
        if isinstance(made, dict) and made and made.get(key) != wanted[key]:
            raise ParamsError(
                f"dataset.{key}: {cohort.folder} was made with {made.get(key)!r}, this study says {wanted[key]!r}; "
                "give this study another dataset.label, or remove that folder"
            )


def load(study: Study) -> Cohort:
    """Open the cohort of `study`; arrays are read when they are used. A cohort that is missing is made first."""
    folder = store.ready(product(study))
    masks, table = folder / "masks.npy", seen(tables.read("cohort", folder), study)
    return Cohort(
        table.drop(columns=table.columns.intersection(IDENTIFYING)),
        np.load(folder / "images.npy", mmap_mode="r"),
        np.load(masks, mmap_mode="r") if masks.exists() else None,
    )


def _sizes_of_folds(table: pd.DataFrame, study: Study) -> list[str]:
    """Patients by split of each fold, a line each; nothing where there are no folds."""
    lines = []
    for fold in study.folds if study.dataset.folds else ():
        patients = seen(table, fold).groupby("split").patient_id.nunique()
        counted = ", ".join(f"{split} {n}" for split, n in patients.items())
        lines.append(f"fold {fold.number} of {study.dataset.folds}, patients: {counted}")
    return lines


def seen(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The cohort's table as a study sees it: in a fold, with the ``split`` of that fold."""
    every = [f"split_{number}" for number in range(1, (study.dataset.folds or 0) + 1)]
    seen = table.drop(columns=every, errors="ignore")
    return seen.assign(split=table[f"split_{study.number}"]) if study.number else seen


def skipped(study: Study) -> pd.DataFrame:
    """Images that could not be read, with their groups and the reason; `splits.losses` counts them."""
    return pd.read_csv(store.ready(product(study)) / "skipped.csv", dtype="str")


def log(study: Study) -> pd.DataFrame:
    """What was decided while the cohort was made, and how many times: rows left out, entries merged, masks read."""
    return pd.read_csv(store.ready(product(study)) / "log.csv", keep_default_na=False)


def cohort_table(study: Study, checked: bool = True) -> pd.DataFrame:
    """One row per image: identity, split, attributes and labels; by default it is checked.

    Raises
    ------
    ValueError
        The cohort cannot carry the study: repeated images, an attribute that differs within a
        patient, an empty split, or a class with no case in one.
    """
    dataset = study.dataset
    read = dataset.read_table()
    _listed[dataset.model_dump_json()] = len(read)
    notes = read.attrs.pop("notes", [])  # what was merged or left out
    table = splits.by_class(splits.derive(read, dataset.age_boundary), dataset.about)
    if dataset.folds:
        evaluated = table.pop("evaluated") if "evaluated" in table else True
        table = splits.fold(table, dataset.folds, dataset.seed).assign(split=np.where(evaluated, "test", "train"))
        how = (dataset.split, dataset.seed, dataset.parted)
        numbers = range(1, dataset.folds + 1)  # kept in the table, since patients have other ids in a cohort of scans
        table = table.assign(**{f"split_{k}": splits.within(table, k, *how).split for k in numbers})
    else:
        table = splits.assign(table, dataset.split, dataset.seed, dataset.parted)
    if isinstance(dataset, Phantom):
        look_at_groups(dataset, table)
        table = withhold(dataset, table)
    if "evaluated" in table:
        table = table[table.evaluated | table.split.str.startswith("train")].drop(columns="evaluated")
    table = table.reset_index(drop=True)
    table.attrs["notes"] = notes
    if checked:
        check(table, study)
    return table


def check(table: pd.DataFrame, study: Study) -> None:
    """Refuse a cohort that cannot carry the study, in any of its folds, naming all that is wrong, a line each."""
    if mistakes := "\n".join(_faults_of(table, study)):
        raise ValueError(mistakes)


def _faults_of(table: pd.DataFrame, study: Study):
    """What is wrong with a cohort, in every fold."""
    tasks = [task for task, kind in study.tasks.items() if kind == "classify"]
    number, patients = study.dataset.folds, table.patient_id.nunique()
    if number and number > patients // 2:
        yield f"dataset.folds: {number} folds of {patients} patients; each must test 2 patients at least"
        return
    previous = set()
    for fold in study.folds:
        inside = seen(table, fold)
        for fault in faults(inside[inside.split != "unused"], tasks, study.dataset.about.attributes):
            if fault not in previous:
                yield fault + (f" (fold {fold.number} of dataset.folds: {number})" if number else "")
            previous.add(fault)


def faults(table: pd.DataFrame, tasks: list[str], attributes=()):
    """Yield a sentence for all that keeps a cohort from carrying these tasks.

    Examples
    --------
    >>> rows = {"image_id": ["a", "b"], "patient_id": ["p", "p"], "split": ["train", "test"]}
    >>> print(*faults(pd.DataFrame(rows), []), sep="\\n")
    patient 'p' is in two splits: train, test
    split 'val' is empty: 1 patients are too few
    """
    repeated = table.image_id[table.image_id.duplicated()]
    if len(repeated):
        yield f"image '{repeated.iloc[0]}' occurs more than once ({len(repeated)} repeated images)"
    for column in table.columns.intersection(["split", *dict.fromkeys((*TRAITS, *attributes))], sort=False):
        values = table[["patient_id", column]].drop_duplicates()
        several = values[values.patient_id.duplicated(keep=False)].groupby("patient_id")[column].unique()
        if len(several):
            kind = "splits" if column == "split" else f"groups of {column}"
            others = f" ({len(several) - 1} more patients like this)" if len(several) > 1 else ""
            yield f"patient '{several.index[0]}' is in two {kind}: {', '.join(map(str, several.iloc[0]))}{others}"
    there = set(table.split)
    for split in splits.names("train" not in there and not there.isdisjoint(["train_recon", "train_diag"])):
        inside = table[table.split == split]
        if inside.empty:
            yield f"split '{split}' is empty: {table.patient_id.nunique()} patients are too few"
            continue
        for task in tasks:
            absent = {0.0, 1.0} - set(inside[task].dropna())
            if absent:
                whole, several, name = task.partition(": ")
                lacking = f"'{name}'" if several and 1.0 in absent else int(min(absent))
                yield (
                    f"task '{whole if several else task}': no case of class {lacking} in split '{split}'; leave it out "
                    "of diagnosis.tasks, or give another dataset.split, dataset.seed or dataset.folds"
                )


def absent(table: pd.DataFrame) -> list[str]:
    """Image and mask files that a cohort table names and that are not there."""
    return [path for path, there in asked(table, os.path.isfile).items() if not there]


def _absence(missing: list[str]) -> str:
    """Say which files are not there, and which others are there instead."""
    instead = files.instead(missing)
    return f"{len(missing)} files are not there: {first_few(missing)}" + f"; {instead}" * bool(instead)


def asked(table: pd.DataFrame, question) -> dict:
    """Ask `question` about each image and mask file that a cohort table names; return the answers by path.

    A network disk answers many questions at once, so several threads ask.
    """
    named = [table[column].dropna() for column in ("path", "mask_path") if column in table]
    paths = [path for path in dict.fromkeys(path for column in named for path in column) if path]
    chunks = [paths[at : at + 1000] for at in range(0, len(paths), 1000)]
    with ThreadPoolExecutor(16) as pool:
        answers = [answer for some in pool.map(lambda chunk: list(map(question, chunk)), chunks) for answer in some]
    return dict(zip(paths, answers, strict=True))


def preview(study: Study) -> list[str]:
    """Say what a study will hold; the table is read, the pixels are not.

    Returns
    -------
    list of str
        Lines: patients and images; what was merged or left out; patients by group and split, with the test patients
        of each label; which comparisons `fairness.min_cases` leaves out; whether thresholds by group can be fitted.

    Raises
    ------
    ValueError
        A line for each mistake: entries that nothing explains, files that are not there, groups or classes that are
        missing from a split.
    """
    dataset, tasks = study.dataset, [task for task, kind in study.tasks.items() if kind == "classify"]
    with entries.collected() as mistakes:
        try:
            table = cohort_table(study, checked=False)
        except ValueError as error:
            if not mistakes:
                raise
            raise ValueError("\n".join([*mistakes, *str(error).splitlines()])) from None
    missing = absent(table)
    absence = _absence(missing)
    skipping = dataset.on_bad_image == "skip"
    if missing and not (skipping and (~table.path.isin(missing)).any()):
        mistakes.append(absence)
    if root := _bounds(dataset):
        answers = asked(table, partial(files.leads_out, root=root))
        out = [path for path, leads_out in answers.items() if leads_out]
        mistakes += [f"{len(out)} files are links that lead out of dataset.root: {first_few(out)}"] if out else []
    # What is wrong with entries is wrong with all that follows.
    mistakes += [] if mistakes else _faults_of(table, study)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    lines = [f"{table.patient_id.nunique()} patients, {len(table)} images", *table.attrs["notes"]]
    lines += [f"{absence}; they are left out (on_bad_image: skip)"] if missing else []
    lines += _sizes_of_folds(table, study)
    lines += splits.cases(table, tasks, study.attributes()).to_string(index=False).splitlines()
    for task, kind in study.tasks.items():
        for attribute in study.attributes():
            few = splits.too_few(table, task if kind == "classify" else "", attribute, study.fairness.min_cases)
            lines += [f"{task}, {attribute}: {few}"] if few else []
    if study.mitigation and any("thresholds" in strategy for strategy in study.mitigation.strategies):
        inside = {fold.number: seen(table, fold) for fold in study.folds}
        for task in tasks:
            for attribute in study.attributes("mitigation"):
                least = study.fairness.min_cases
                few = {fold: splits.too_few(rows, task, attribute, least, "val") for fold, rows in inside.items()}
                few = {fold: text for fold, text in few.items() if text}
                where = f" in fold {first_few(list(few))}" if study.dataset.folds else ""
                fit = f"lack cases{where}: {next(iter(few.values()))}" if few else "can be fitted"
                lines.append(f"{task}, {attribute}: thresholds by group {fit}")
    return lines


def there(images, rows=slice(None)) -> np.ndarray:
    """Which of some rows of images are there, as bool: of images made elsewhere, one that is missing is NaN."""
    return np.isfinite(images[(rows, *[0] * (images.ndim - 1))])


def listed(dataset) -> list[str]:
    """Columns of ``skipped.csv``, which lists images that could not be read."""
    return ["image_id", "patient_id", "split", *dict.fromkeys((*TRAITS, *dataset.about.attributes)), "path", "reason"]


def rows(table: pd.DataFrame, use: str) -> np.ndarray:
    """Row numbers for a use: ``all``, training of ``recon`` or ``diag``, ``val``, ``test``, or both as ``eval``."""
    wanted = {"recon": ("train", "train_recon"), "diag": ("train", "train_diag"), "eval": ("val", "test")}
    return np.flatnonzero(table.split.isin(wanted.get(use, (use,))) | (use == "all"))


def _write(study: Study, folder: Path) -> None:
    check_label(study)  # whoever asks for a cohort, that of another study is not replaced
    dataset, table = study.dataset, cohort_table(study)
    notes = Counter(dict.fromkeys(table.attrs.pop("notes"), 1))
    missing = absent(table) if dataset.on_bad_image == "error" else []
    if missing:
        raise ValueError(f"{_absence(missing)}; dataset.on_bad_image: skip would leave them out, and list them")
    arrays = [store.Growing(folder / "images.npy", (len(table), *dataset.shape), np.float16)]
    if "segment" in dataset.about.tasks.values():
        arrays.append(store.Growing(folder / "masks.npy", (len(table), *dataset.mask_shape), np.uint8))
    became = store.Growing(folder / ".became.npy", (len(table),), np.uint8)  # of each row; written after its image
    start = store.resume(CHUNK, became)
    for file in arrays:
        file.cut((became.read() == KEPT).sum())
    noted = folder / ".log.jsonl"  # a line for each chunk, so that what a killed run noted is kept
    lines = noted.read_text(encoding="utf-8").splitlines(keepends=True) if noted.exists() else []
    noted.write_text("".join(lines[: start // CHUNK]), encoding="utf-8")
    chunks = [table.iloc[at : at + CHUNK] for at in range(start, len(table), CHUNK)]
    attempts = store.parallel(partial(images_of, dataset=dataset), chunks, "images", study.compute.workers)
    for images, masks, fates, decided in attempts:
        for file, rows in zip(arrays, (images, masks), strict=False):  # masks are None where there are none
            file.append(rows)
        with noted.open("a", encoding="utf-8") as file:
            file.write(json.dumps(decided) + "\n")
        became.append(fates)
    for file in arrays:
        file.end()
    for line in noted.read_text(encoding="utf-8").splitlines():
        notes.update(json.loads(line))
    if text := _hardly_fits(dataset, folder):
        print(text)
        notes[text] = 1
    _check_regions(dataset, folder / "masks.npy", [note for note in notes if note.startswith("masks of")])
    kept, lost = (table[became.read() == fate] for fate in (KEPT, SKIPPED))
    lost = lost.assign(reason=[_reason(row, dataset) for row in lost.itertuples()])
    lost.reindex(columns=listed(dataset)).to_csv(folder / "skipped.csv", index=False)
    if kept.empty:
        raise ValueError(f"none of the {len(table)} images can be read: {next(iter(lost.reason), 'all are empty')}")
    pd.DataFrame({"times": notes.values(), "note": notes.keys()}).to_csv(folder / "log.csv", index=False)
    tables.write(_pseudonymous(kept, dataset, folder), "cohort", folder)


def _hardly_fits(dataset, folder: Path) -> str:
    """Say that a window shows nearly nothing of some images, or most of their pixels as white; else empty."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    if not getattr(dataset, "window", None) or not len(images):
        return ""
    images = images[:: -(-len(images) // 64)].astype(float)  # 64 of them tell
    white = (images >= 1).mean()
    text = files.nearly_one_value(images) or (f"{white:.0%} of the pixels are quite white" if white > 0.5 else "")
    return text and f"originals: {text}; dataset.window: {list(dataset.window)} may not fit their values"


def _check_regions(dataset, path: Path, notes: list[str]) -> None:
    """Refuse masks none of which has a value that is said to lie inside; `notes` say what values they have."""
    inside = getattr(getattr(dataset, "mask", None), "inside", None)
    key = "labels" if len(dataset.about.regions) > 1 else "inside" if inside is not None else ""
    for region in dataset.about.regions if key else ():
        if not any(mask.any() for mask in dataset.region(np.load(path, mmap_mode="r"), region)):
            raise ValueError(f"dataset.mask.{key}: no mask has a value of '{region}'; {first_few(notes)}")


def _pseudonymous(table: pd.DataFrame, dataset, folder: Path) -> pd.DataFrame:
    """Replace the ids of real patients and images by keyed hashes; the table keeps the original ones beside them.

    The key comes from the metadata files, so that the same scans give the same pseudonyms on every machine, and nobody
    without these files can tell who is meant. It lies beside the cohort, readable by its owner alone.
    """
    if not dataset.signature:
        return table
    key = blake2b(b"pseudonyms", key=sha256(b"".join(path.read_bytes() for path in dataset.metadata())).digest())
    path = folder / "pseudonyms.key"
    path.touch(mode=0o600)
    path.write_bytes(key.digest())
    for column in ("image_id", "patient_id"):
        ids = table[column]
        digests = {one: blake2b(one.encode(), key=key.digest(), digest_size=8).hexdigest() for one in ids.unique()}
        table = table.assign(**{f"original_{column}": ids, column: column[0] + ids.map(digests)})
    return table


def images_of(chunk: pd.DataFrame, dataset) -> tuple[np.ndarray, np.ndarray | None, list[int], dict[str, int]]:
    """Read or draw the images of some rows of a cohort table.

    Returns
    -------
    images, masks : ndarray
        Of the rows that are kept, as `Cohort` has them; masks may be None.
    became : list of int
        What became of each row: `EMPTY`, `KEPT` or `SKIPPED`.
    notes : dict of str to int
        What was decided about the files, and how often.
    """
    became, drawn, root = [], [], _bounds(dataset)
    files.notes()  # of whoever read before in this process
    for row in chunk.itertuples():
        try:
            read = _read(row, dataset, root)
            became.append(EMPTY if read is None else KEPT)
        except ValueError as error:
            if dataset.on_bad_image == "error":
                raise ValueError(f"{error}; dataset.on_bad_image: skip would leave it out, and list it") from None
            read = None
            became.append(SKIPPED)
        drawn += [] if read is None else [read]
    none = np.empty((0, *dataset.shape)), np.empty((0, *dataset.mask_shape))
    images, masks = zip(*drawn, strict=True) if drawn else none
    masks = None if len(masks) and masks[0] is None else np.array(masks)
    return np.array(images), masks, became, Counter(files.notes())


def _read(row, dataset, root: Path | None):
    """As ``dataset.read_image``; a link that leads out of `root` is refused, where `root` is given."""
    for path in (getattr(row, name, None) for name in ("path", "mask_path")):
        if path and root and files.leads_out(path, root):
            raise ValueError(f"{path}: is a link that leads out of dataset.root; dataset.links: follow allows it")
    return dataset.read_image(row)


def _bounds(dataset) -> Path | None:
    """Folder that no link to an image may lead out of, if ``dataset.links`` says so."""
    return dataset.find() if getattr(dataset, "links", "follow") == "refuse" else None


def _reason(row, dataset) -> str:
    """Why an image cannot be read; asked once more, so that only whole chunks need be remembered."""
    try:
        _read(row, dataset, _bounds(dataset))
    except ValueError as error:
        return str(error)
    return "could be read when tried again"
