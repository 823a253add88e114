"""Images made elsewhere: a folder of files that are matched with the images of a cohort by their original ids.

They are read as originals are, and must show the same pixels: of the same shape, and in the same place of the patient.
"""

from __future__ import annotations

from functools import partial
from glob import escape
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator
from xxhash import xxh3_128

from reconfair import data, quality, store, tables
from reconfair.data import files
from reconfair.data.table import leaves
from reconfair.params import ParamsError, Section, Study, folder_of
from reconfair.store import Product, Work
from reconfair.words import nearest

KEYS = ("image_id", "patient_id", "path", "stem", "slice")  # what a path may hold, of an original
CHUNK = 32


class Given(Section):
    """Images read from files; a file holds one image, or a volume where its path names no slice and no image."""

    kind: Literal["given"]
    folder: Annotated[str, Field(min_length=1)]  # with the images
    path: str = "{patient_id}/{image_id}.png"  # of an image in folder
    channel: Annotated[int, Field(ge=0)] | None = None  # of colour images; None: their grey
    # Stored values shown as 0 and 1, the same in all files; None: each file has its own, by percentiles. Then a file
    # that is brighter as a whole looks as before.
    window: tuple[float, float] | None = None
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0, 100)
    geometry: Literal["check", "ignore"] = "check"  # whether a file must lie in the same place as its original

    @field_validator("path")
    @classmethod
    def _names_images(cls, path: str) -> str:
        try:
            names = [name for _, name, _, _ in Formatter().parse(path) if name is not None]
        except ValueError as error:
            raise ValueError(f"'{path}' is no path with names in braces ({error})") from None
        for name in names:
            if name not in KEYS:
                raise ValueError(f"'{{{name}}}' is unknown; {nearest(name, KEYS)}")
        if not names or leaves(path):
            raise ValueError(f"'{path}' must lie in folder and hold one of {', '.join(f'{{{key}}}' for key in KEYS)}")
        return path

    @property
    def volumes(self) -> bool:
        """Whether a file holds all slices of a volume."""
        return not {"image_id", "slice"} & {name for _, name, _, _ in Formatter().parse(self.path)}


def product(study: Study, settings: Given, source: str, use: str, **place) -> Product:
    """The images of a cohort that `settings` give, and their quality; files that change make it stale.

    Parameters
    ----------
    study : Study
    settings : Given
    source : str
        What these images are in the tables: ``noisy``, or the name of a model.
    use : str
        Which images of the cohort are needed: ``all``, or ``eval`` for those of validation and test.
    **place
        Of the product: chapter, run, folder, name, job and code.
    """
    pixels = data.sizes(study)[use] * np.prod(study.dataset.shape) / 1e6
    code = (*place.pop("code"), __name__, f"{data.__name__}.files", f"{data.__name__}.table", "reconfair.quality")
    return Product(
        write=partial(_write, study, settings, source, use, place["name"]),
        parameters=settings.model_dump(mode="json", exclude={"folder"}) | {"files": _dates(settings)},
        code=code,
        needs=(data.product(study),),
        work=partial(Work, "given images", pixels, 1.2, disk=2 * pixels),
        command=study.command,
        inputs=partial(_inputs, settings),
        **place,
    )


def check(study: Study, settings: Given, key: str, use: str) -> list[str]:
    """Name the folder where it is not there, and else the images that are missing; `key` is that of the section."""
    folder = folder_of(settings.folder)
    if not folder.is_dir():
        there = [path.name for path in folder.parent.glob("*")]
        return [f"{key}.folder: {folder} is no folder; {nearest(folder.name, there, 'there is')}"]
    try:
        table = _originals(study) if data.product(study).fresh else data._drawn(study)
    except (ValueError, OSError):
        return []  # what is wrong with the originals is named by whoever reads them
    table = _with_files(study, settings, table)
    missing = _missing(study, settings, table, _rows(table, use))
    return [f"{key}.path: {missing}"] if missing and study.dataset.on_bad_image == "error" else []


def skipped(product: Product) -> pd.DataFrame:
    """Images that a product of this module lacks, with their groups and the reason; ids are those of the cohort."""
    return pd.read_csv(store.ready(product) / "skipped.csv", dtype="str")


def _rows(table: pd.DataFrame, use: str) -> np.ndarray:
    return np.arange(len(table)) if use == "all" else data.rows(table, use)


def _originals(study: Study) -> pd.DataFrame:
    """The cohort with the ids that its publisher or hospital uses."""
    return tables.read("cohort", store.ready(data.product(study)))


def _with_files(study: Study, settings: Given, table: pd.DataFrame) -> pd.DataFrame:
    """Some rows of a cohort with the path of each given file, in a column ``given``."""
    original = {key: table.get(f"original_{key}", table[key]) for key in ("image_id", "patient_id")}
    if "path" in table:
        root = study.dataset.find()
        paths = table.path.map(Path)
        original["path"] = paths.map(lambda path: path.relative_to(root) if path.is_relative_to(root) else path.name)
        original["stem"] = paths.map(lambda path: path.name.removesuffix(".gz")).str.replace(r"\.\w+$", "", regex=True)
    if "slice" in table:
        original["slice"] = table.slice
    for _, name, _, _ in Formatter().parse(settings.path):
        if name is not None and name not in original:
            raise ParamsError(f"path: images of {study.label} have no '{{{name}}}'; {nearest(name, original)}")
    columns = pd.DataFrame(original)
    names = [settings.path.format(**row) for row in columns.to_dict("records")]
    for name in names:
        if leaves(name):
            raise ValueError(f"{name}: leads out of {settings.folder}; ids with '..' or a root cannot name files")
    return table.assign(given=[str(folder_of(settings.folder) / name) for name in names])


def _missing(study: Study, settings: Given, cohort: pd.DataFrame, rows: np.ndarray) -> str:
    """Say which files of some rows are not there, whose they are, and which files belong to nobody; else empty."""
    table = cohort.iloc[rows]
    lost = table[~table.given.map(lambda path: Path(path).is_file())]
    if lost.empty:
        return ""
    first = ", ".join(lost.given.iloc[:5]) + (", ..." if len(lost) > 5 else "")
    text = f"{len(lost)} of {len(table)} images are not there: {first} ({_groups(study, lost)})"
    unknown = _unknown(settings, cohort)
    text += f". {unknown}" if unknown else ""
    return f"{text}; dataset.on_bad_image: skip would leave them out, and list them"


def _unknown(settings: Given, cohort: pd.DataFrame) -> str:
    """Name files that belong to no image of the cohort, and what the first of them may be meant for; empty if none."""
    known, folder = set(cohort.given), folder_of(settings.folder)
    others = [str(path.relative_to(folder)) for path, _, _ in _listed(settings) if str(path) not in known]
    if not others:
        return ""
    first = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    wanted = [str(Path(path).relative_to(folder)) for path in cohort.given if not Path(path).is_file()]
    hint = f"; of {others[0]}: {nearest(others[0], wanted, 'missing is')}" if wanted else ""
    return f"{len(others)} files have the id of no image of this cohort: {first}{hint}"


def _groups(study: Study, lost: pd.DataFrame) -> str:
    """Images by group: ``sex: female 3, male 1; age_group: older 4``."""
    counted = []
    for attribute in study.dataset.about.attributes:
        counts = lost[attribute].fillna("not recorded").value_counts()
        counted.append(f"{attribute}: " + ", ".join(f"{group} {number}" for group, number in counts.items()))
    return "; ".join(counted)


def _listed(settings: Given) -> list[tuple[Path, int, int]]:
    """The files that a path may stand for, with size and date."""
    ending = settings.path.rpartition("}")[2].rpartition("/")[2]
    return _under(folder_of(settings.folder), f"*{escape(ending)}")


@store.sparingly(1)  # many products ask at once
def _under(folder: Path, pattern: str) -> list[tuple[Path, int, int]]:
    """List files in a folder and its folders, with size and date."""
    every = ((path, path.stat()) for path in sorted(folder.rglob(pattern)) if path.is_file())
    return [(path, status.st_size, status.st_mtime_ns) for path, status in every]


def _dates(settings: Given) -> str:
    """Hash of names, sizes and dates of the files."""
    folder = folder_of(settings.folder)
    listed = [(path.relative_to(folder).as_posix(), *status) for path, *status in _listed(settings)]
    return xxh3_128(repr(listed).encode()).hexdigest()


def _inputs(settings: Given, content: bool) -> str:
    """Signature of the files: their dates and sizes, or their contents."""
    if not content:
        return _dates(settings)
    return xxh3_128(repr([store.checksum(path) for path, _, _ in _listed(settings)]).encode()).hexdigest()


def _write(study: Study, settings: Given, source: str, use: str, name: str, folder: Path) -> None:
    cohort = data.load(study)
    rows = _rows(cohort.table, use)
    everything = _with_files(study, settings, _originals(study))
    table, missing = everything.iloc[rows], _missing(study, settings, everything, rows)
    if missing and study.dataset.on_bad_image == "error":
        raise ValueError(missing)
    if unknown := _unknown(settings, everything):
        print(f"{source}: {unknown}")
    if settings.window is None:
        print(
            f"{source}: each file is scaled by its own values, so that a file that is brighter or darker as a whole "
            "looks as before; window: [low, high] gives all files one scale"
        )
    images = store.Growing(folder / f"{name}.npy", (len(table), *study.dataset.shape), np.float16)
    starts = range(store.resume(CHUNK, images), len(table), CHUNK)
    chunks = [table.iloc[start : start + CHUNK] for start in starts]
    read = partial(_chunk, study.dataset, settings)
    for some in store.parallel(read, chunks, f"{source} images", study.compute.workers):
        images.append(some)
    images = np.load(folder / f"{name}.npy", mmap_mode="r")
    there = data.there(images)
    lost = table[~there]
    reasons = [_reason(study.dataset, settings, row) for row in lost.itertuples()]
    listed = cohort.table.iloc[rows[~there]].assign(reason=reasons)
    listed.reindex(columns=[key for key in data.listed(study.dataset) if key != "path"]).to_csv(
        folder / "skipped.csv", index=False
    )
    if not there.any():
        raise ValueError(f"none of the {len(table)} images of {source} can be read: {reasons[0]}")
    if len(lost):
        print(f"{source}: {len(lost)} of {len(table)} images are left out, see skipped.csv ({_groups(study, lost)})")
    pairs = quality.Rows(cohort.images, rows[there]), quality.Rows(images, np.flatnonzero(there))
    tables.write(quality.rate(cohort.table.iloc[rows[there]], *pairs, source), "quality", folder)


def _chunk(dataset, settings: Given, rows: pd.DataFrame) -> np.ndarray:
    """Images of some rows (n, size, size); one that cannot be read is NaN, if the dataset allows it."""
    return np.stack([_attempt(dataset, settings, row)[0] for row in rows.itertuples()]).astype(np.float16)


def _attempt(dataset, settings: Given, row) -> tuple[np.ndarray, str]:
    """An image and nothing, or NaN and the reason why it cannot be read."""
    try:
        return read(dataset, settings, row), ""
    except (ValueError, OSError) as error:
        if dataset.on_bad_image == "error":
            raise ValueError(f"{error}; dataset.on_bad_image: skip would leave it out, and list it") from None
        return np.full(dataset.shape, np.nan), str(error)


def _reason(dataset, settings: Given, row) -> str:
    """Why an image cannot be read; without paths, which would tell the original ids."""
    reason = _attempt(dataset, settings, row)[1] or "could be read when tried again"
    return reason.replace(row.given, "the file").replace(getattr(row, "path", None) or row.given, "its original")


def read(dataset, settings: Given, row) -> np.ndarray:
    """Read the given image of a row of the cohort.

    Parameters
    ----------
    dataset : Dataset
    settings : Given
    row : namedtuple
        With the file in ``given``, and ``path`` and ``slice`` of the original where it has them.

    Returns
    -------
    ndarray, shape (size, size) or (3, size, size)
        Float32 within [0, 1].

    Raises
    ------
    ValueError
        The file cannot be read, leads out of its folder, or shows other pixels than the original; it is named.
    """
    path, original = row.given, getattr(row, "path", "")
    if not Path(path).is_file():
        raise ValueError(f"{path}: is not there")
    if getattr(dataset, "links", "follow") == "refuse" and files.leads_out(path, folder_of(settings.folder)):
        raise ValueError(f"{path}: is a link that leads out of its folder; dataset.links: follow allows it")
    slices = getattr(dataset, "slices", None)
    axis = getattr(slices, "axis", 0)
    number = int(row.slice) if settings.volumes and hasattr(row, "slice") else None
    shape, place = files.geometry(path)
    whole, where = files.geometry(original) if original else ((1, dataset.size, dataset.size), files.Place())
    wanted = whole if number is not None else (1, *(side for at, side in enumerate(whole) if at != axis))
    if shape not in (wanted, (1, dataset.size, dataset.size)):
        sizes = [" x ".join(map(str, sides[sides[0] == 1 :])) for sides in (shape, wanted)]
        raise ValueError(f"{path}: has {sizes[0]} pixels, its original {sizes[1]}")
    if settings.geometry == "check" and shape == whole:
        apart = files.differ(where, place, "given image")
        if apart:
            raise ValueError(f"{path}: {apart}; geometry: ignore in the section that names its folder would allow it")
    values = {
        "channel": settings.channel,
        "colour": bool(dataset.inputs),
        "window": settings.window,
        "percentiles": settings.percentiles,
    }
    fit = getattr(dataset, "fit", "squash") if shape == wanted else "squash"
    return files.picture(path, dataset.size, number=number, axis=axis, fit=fit, **values)[0]
