"""Images made elsewhere: a folder of files that are matched with the images of a cohort by their original ids.

They are read as originals are, and must show the same pixels: of the same shape, and in the same place of the patient.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator
from xxhash import xxh3_128

from reconfair import data, quality, store, tables
from reconfair.data import files
from reconfair.data.table import leaves, look_at_ranges
from reconfair.params import ParamsError, Section, Study, folder_of
from reconfair.store import Product, Work
from reconfair.words import first_few, nearest

KEYS = ("image_id", "patient_id", "path", "stem", "slice")  # what a path may hold, of an original
CHUNK = 32
SAMPLE = 64  # images that are looked at for brightness and orientation
TURNS = {  # of an image (rows, columns)
    "": lambda image: image,
    "mirrored from left to right": np.fliplr,
    "mirrored from top to bottom": np.flipud,
    "turned by 180 degrees": lambda image: np.rot90(image, 2),
    "turned by 90 degrees to the left": np.rot90,
    "turned by 90 degrees to the right": lambda image: np.rot90(image, 3),
    "mirrored at the diagonal from the upper left": np.transpose,
    "mirrored at the diagonal from the upper right": lambda image: np.rot90(image, 2).T,
}


class Given(Section):
    """Images read from files; a file holds one image, or a volume where its path names no slice and no image."""

    kind: Literal["given"]
    folder: Annotated[str, Field(min_length=1)]  # with the images
    path: str = "{path}"  # of an image in folder
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
            fields = [field for field in Formatter().parse(path) if field[1] is not None]
        except ValueError as error:
            raise ValueError(f"'{path}' is no path with names in braces ({error})") from None
        names = [name for _, name, _, _ in fields]
        for _, name, layout, conversion in fields:
            if name not in KEYS:
                raise ValueError(f"'{{{name}}}' is unknown; {nearest(name, KEYS)}")
            if conversion or (layout and not (name == "slice" and re.fullmatch(r"0?\d+d", layout))):
                raise ValueError(f"'{path}': a name stands alone in braces; only slice has a width, {{slice:03d}}")
        if not names or leaves(path):
            raise ValueError(f"'{path}' must lie in folder and hold one of {', '.join(f'{{{key}}}' for key in KEYS)}")
        return path

    @model_validator(mode="after")
    def _ranges(self):
        look_at_ranges(self.window, self.percentiles)
        return self


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
        parameters=settings.model_dump(mode="json", exclude={"folder"}) | {"files": _signature(settings)},
        code=code,
        needs=(data.product(study),),
        work=partial(Work, "given images", pixels, 1.2, disk=2 * pixels),
        command=study.command,
        inputs=partial(_signature, settings),
        **place,
    )


def check(study: Study, settings: Given, key: str, use: str) -> list[str]:
    """Name the folder where it is not there, and else the images that are missing; `key` is that of the section."""
    folder = folder_of(settings.folder)
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        kind = "is a file, expected a folder" if folder.exists() else "is not there"
        return [f"{key}.folder: {folder} {kind}; {nearest(folder.name, there, 'folders there')}"]
    try:
        cohort = data.product(study)
        table = tables.read("cohort", cohort.folder) if cohort.fresh else data.cohort_table(study, checked=False)
    except (ValueError, OSError):
        return []  # what is wrong with the originals is named by whoever reads them
    try:
        table = _with_files(study, settings, table)
    except ParamsError as error:
        return [f"{key}.{error}"]
    missing = _missing(study, settings, table, data.rows(table, use))
    return [f"{key}.path: {missing}"] if missing and study.dataset.on_bad_image == "error" else []


def notes(study: Study, settings: Given, key: str, use: str) -> list[str]:
    """What is no mistake and matters: images that will be left out, and another scale than that of the originals."""
    scale = _scale(study.dataset, settings)
    lines = [f"{key}: {scale}"] if scale else []
    cohort = data.product(study)
    table = tables.read("cohort", cohort.folder) if cohort.fresh else data.cohort_table(study, checked=False)
    table = _with_files(study, settings, table)
    if missing := _missing(study, settings, table, data.rows(table, use)):
        lines.append(f"{key}.path: {missing.partition('; dataset.on_bad_image')[0]}; they are left out")
    return lines


def _scale(dataset, settings: Given) -> str:
    """Say that images and originals are not brought to [0, 1] in the same way; empty where they are."""
    if not hasattr(dataset, "window"):
        return ""
    if (settings.window is None) != (dataset.window is None):
        scaled, fixed = ("images", "originals") if settings.window is None else ("originals", "images")
        return (
            f"{fixed} have a window, and each of the {scaled} is scaled by its own values; the same picture then looks "
            "different, so that changes can be those of the scale"
        )
    if settings.window is None and tuple(settings.percentiles) != tuple(dataset.percentiles):
        return (
            f"percentiles are {list(settings.percentiles)}, of the originals {list(dataset.percentiles)}; the same "
            "picture then looks different"
        )
    return ""


def _with_files(study: Study, settings: Given, table: pd.DataFrame) -> pd.DataFrame:
    """Some rows of a cohort with the path of each given file, in a column ``given``.

    The cohort has the ids that its publisher or hospital uses.
    """
    original = {key: table.get(f"original_{key}", table[key]) for key in ("image_id", "patient_id")}
    if "path" in table:
        root = study.dataset.find()
        paths = table.path.map(Path)
        original["path"] = paths.map(lambda path: path.relative_to(root) if path.is_relative_to(root) else path.name)
        original["stem"] = paths.map(lambda path: files.stem(path.name))
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
    volumes = "slice" in columns and not _one_image(settings)  # slices of a volume share its file
    twice = columns.assign(file=names).duplicated(["file", *(["slice"] if volumes else [])], keep=False)
    if twice.any():
        file, images = names[int(np.flatnonzero(twice)[0])], list(columns.image_id[twice])
        raise ParamsError(
            f"path: '{settings.path}' names one file for several images ({file} for {first_few(images)}); expected a "
            "file for each, such as '{image_id}' or '{stem}' names"
        )
    return table.assign(given=[str(folder_of(settings.folder) / name) for name in names])


def _one_image(settings: Given) -> bool:
    """Whether a file holds one image, since its path names an image or a slice; else it may hold a volume."""
    return bool({"image_id", "slice"} & {name for _, name, _, _ in Formatter().parse(settings.path)})


def _missing(study: Study, settings: Given, cohort: pd.DataFrame, rows: np.ndarray) -> str:
    """Say which files of some rows are not there, whose they are, and which files belong to nobody; else empty."""
    table = cohort.iloc[rows]
    lost = table[~table.given.map(lambda path: Path(path).is_file())]
    if lost.empty:
        return ""
    text = f"{len(lost)} of {len(table)} images are not there: {first_few(list(lost.given))} ({by_group(study, lost)})"
    folder, unknown = folder_of(settings.folder), _unknown(settings, cohort)
    wanted = [Path(path).relative_to(folder).as_posix() for path in lost.given]
    if instead := files.instead(list(lost.given)):
        text += f". {instead}"
    elif unknown:
        # Where all are missing, it is the path that is wrong, and no name of one file is meant for another.
        hint = nearest(unknown[0], wanted, "missing is") if len(lost) < len(table) else ""
        text += f". {_no_image(unknown)}: {first_few(unknown)}" + f"; of {unknown[0]}: {hint}" * bool(hint)
    else:
        known, every = set(cohort.given), [path for path, _, _ in _listed(folder, "") if path.name[0] != "."]
        others = [path.relative_to(folder).as_posix() for path in every if str(path) not in known]
        if others or not every:
            text += f"; {nearest(wanted[0], others, 'the folder holds')}"
    return f"{text}; dataset.on_bad_image: skip would leave them out, and list them"


def _unknown(settings: Given, cohort: pd.DataFrame) -> list[str]:
    """Files that belong to no image of the cohort, though their ending is that of its files."""
    known, folder = set(cohort.given), folder_of(settings.folder)
    unknown = [path for path, _, _ in _listed(folder, settings.path) if str(path) not in known]
    if unknown:  # a file may be reached by a link as well
        real = {os.path.realpath(path) for path in cohort.given.dropna()}
        unknown = [path for path in unknown if os.path.realpath(path) not in real]
    return [path.relative_to(folder).as_posix() for path in unknown]


def _no_image(unknown: list[str]) -> str:
    return f"{len(unknown)} files have the id of no image of this cohort"


def by_group(study: Study, lost: pd.DataFrame) -> str:
    """Number of rows by group: ``sex: female 3, male 1; age_group: older 4``."""
    counted = []
    for attribute in study.dataset.about.attributes:
        counts = lost[attribute].fillna("not recorded").value_counts()
        counted.append(f"{attribute}: " + ", ".join(f"{group} {number}" for group, number in counts.items()))
    return "; ".join(counted)


@store.sparingly(1)  # many products ask at once
def _listed(folder: Path, path: str) -> list[tuple[Path, int, int]]:
    """The files in a folder and its folders that `path` may stand for, with size and date."""
    ending = path.rpartition("}")[2].rpartition("/")[2]
    every = ((file, file.stat()) for file in store.files_in(folder) if file.name.endswith(ending))
    return [(file, status.st_size, status.st_mtime_ns) for file, status in every]


def _signature(settings: Given, content: bool = False) -> str:
    """Hash of the names of the files, and of their sizes and dates, or of their contents."""
    folder, known = folder_of(settings.folder), []
    for path, *status in _listed(folder, settings.path):
        known.append((path.relative_to(folder).as_posix(), store.checksum(path) if content else status))
    return xxh3_128(repr(known).encode()).hexdigest()


def _write(study: Study, settings: Given, source: str, use: str, name: str, folder: Path) -> None:
    cohort = data.load(study)
    rows = data.rows(cohort.table, use)
    everything = _with_files(study, settings, tables.read("cohort", data.product(study).folder))
    table, missing = everything.iloc[rows], _missing(study, settings, everything, rows)
    if missing and study.dataset.on_bad_image == "error":
        raise ValueError(missing)
    if unknown := _unknown(settings, everything):  # their names tell of patients, and notebooks keep what is printed
        print(f"{source}: {_no_image(unknown)}")
    if settings.window is None:
        print(
            f"{source}: each file is scaled by its own values, so that a file that is brighter or darker as a whole "
            "looks as before; window: [low, high] gives all files one scale"
        )
    if scale := _scale(study.dataset, settings):
        print(f"{source}: {scale}")
    images = store.Growing(folder / f"{name}.npy", (len(table), *study.dataset.shape), np.float16)
    starts = range(store.resume(CHUNK, images), len(table), CHUNK)
    chunks = [table.iloc[start : start + CHUNK] for start in starts]
    attempts = partial(_attempt, study.dataset, settings)
    for some, _ in store.parallel(attempts, chunks, f"{source} images", study.compute.workers):
        images.append(some)
    images = np.load(folder / f"{name}.npy", mmap_mode="r")
    there = data.there(images)
    lost = table[~there]
    # Each is tried again for its reason, so that only whole chunks need be remembered.
    again = [_attempt(study.dataset, settings, lost.iloc[[at]])[1] for at in range(len(lost))]
    reasons = [reason or "could be read when tried again" for (reason,) in again]
    listed = cohort.table.iloc[rows[~there]].assign(reason=reasons)
    listed.reindex(columns=[key for key in data.listed(study.dataset) if key != "path"]).to_csv(
        folder / "skipped.csv", index=False
    )
    if not there.any():
        raise ValueError(f"none of the {len(table)} images of {source} can be read: {reasons[0]}")
    _look_at_blank(images, there, source, settings)
    some = np.flatnonzero(there)[:: -(-there.sum() // SAMPLE)]
    pairs = images[some].astype(float), cohort.images[rows[some]].astype(float)
    for note in filter(None, (_hardly_fits(*pairs, settings), _turned(*pairs))):
        print(f"{source}: {note}")
    if len(lost):
        print(f"{source}: {len(lost)} of {len(table)} images are left out, see skipped.csv ({by_group(study, lost)})")
    tables.write(quality.rate(cohort.table.iloc[rows], cohort.images, images, source, rows=rows), "quality", folder)


def _look_at_blank(images: np.ndarray, there: np.ndarray, source: str, settings: Given) -> None:
    """Note images that show nothing, and refuse them if all are so."""
    flat = images.reshape(len(images), -1)
    blank = there & (flat.max(axis=1) == flat.min(axis=1))
    if blank.any():
        why = f"{_limits(settings)} may not fit their values" if settings.window else "each shows nothing"
        text = f"{source}: {blank.sum()} of {len(images)} images have one value in all pixels; {why}"
        if blank.sum() == there.sum():
            raise ValueError(text)
        print(text)


def _limits(settings: Given) -> str:
    return f"window: {list(settings.window)}" if settings.window else f"percentiles: {list(settings.percentiles)}"


def _hardly_fits(images: np.ndarray, originals: np.ndarray, settings: Given) -> str:
    """Say that some images are nearly of one value, or cut to the ends of their window where originals are not."""
    cut, usual = (((some <= 0) | (some >= 1)).mean() for some in (images, originals))
    text = files.nearly_one_value(images)
    if not text and cut > 0.5 and 1 - cut < (1 - usual) / 2:
        text = f"{cut:.0%} of the pixels are quite black or quite white, of the originals {usual:.0%}"
    return text and f"{text}; {_limits(settings)} may not fit their values"


def _turned(images: np.ndarray, originals: np.ndarray) -> str:
    """Say that images would be much more like their originals if they were turned, mirrored or inverted."""
    images, originals = (some.mean(1) if some.ndim == 4 else some for some in (images, originals))
    alike = {}
    for name, turn in TURNS.items():
        turned = np.array([_correlation(turn(pair[0]), pair[1]) for pair in zip(images, originals, strict=True)])
        alike |= {(name, ""): turned, (name, "inverted"): -turned}
    best = max(alike, key=lambda how: alike[how].mean())
    given, better = alike["", ""], alike[best]
    if 1 - better.mean() >= (1 - given.mean()) / 2 or (better > given).mean() < 0.75:
        return ""
    fit = f"correlation {better.mean():.2f} instead of {given.mean():.2f}"
    how = " and ".join(filter(None, best))
    return f"{how}, the images would fit their originals better ({fit}); compare some of them with their originals"


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size else 0.0


def _attempt(dataset, settings: Given, rows: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Images of some rows, (n, size, size), and why one cannot be read: then it is NaN, if the dataset allows that.

    A reason is empty for an image that is there. It holds no path, which would tell the original ids.
    """
    images, reasons = [], []
    for row in rows.itertuples():
        try:
            image, reason = read(dataset, settings, row), ""
        except (ValueError, OSError) as error:
            if dataset.on_bad_image == "error":
                raise ValueError(f"{error}; dataset.on_bad_image: skip would leave it out, and list it") from None
            reason = str(error).replace(row.given, "the file")
            reason = reason.replace(getattr(row, "path", None) or row.given, "its original")
            image = np.full(dataset.shape, np.nan)
        images.append(image)
        reasons.append(reason)
    return np.stack(images).astype(np.float16), reasons


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
    number = int(row.slice) if hasattr(row, "slice") and not _one_image(settings) else None  # of a whole volume
    shape, place = files.geometry(path)
    whole, where = files.geometry(original) if original else ((1, dataset.size, dataset.size), files.Place())
    wanted = whole if number is not None else (1, *(side for at, side in enumerate(whole) if at != axis))
    if wanted != whole:  # where no column says which slice it is, no place can be compared
        where = files.place_of_slice(where, whole, int(row.slice), axis) if hasattr(row, "slice") else place
    if shape not in (wanted, (1, dataset.size, dataset.size)):
        sizes = [" x ".join(map(str, sides[sides[0] == 1 :])) for sides in (shape, wanted)]
        raise ValueError(f"{path}: has {sizes[0]} pixels, its original {sizes[1]}")
    if settings.geometry == "check" and shape == wanted:
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
