"""Reading scans and tables: one clear error that names the file, one scale, one size, one vocabulary."""

from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageSequence
from skimage.transform import resize

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MISSING = ("", "unknown", "not available", "not recorded", "na", "n/a", "nan", "none", "null", "<na>", "nat")
PER_YEAR = {"": 1, "y": 1, "m": 12, "w": 365.25 / 7, "d": 365.25}


def picture(
    path: str, size: int, *, number: int | None = None, axis: int = 0, mask_path: str = "", channel: int | None = None,
    window: tuple[float, float] | None = None, percentiles: tuple[float, float] = (0, 100),
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Read an image, or a slice of a volume, and its mask.

    Parameters
    ----------
    path : str
        PNG, JPEG, TIFF, NIfTI or NPY by its suffix; a file with any other suffix is taken for DICOM.
    size : int
        Pixels a side of what is returned.
    number, axis : int, optional
        Which slice of a volume, and across which axis. NIfTI volumes are turned so that axis 0 runs from
        the feet to the head, 1 from front to back and 2 from the patient's right to the left.
    mask_path : str
        File of the same shape, nonzero inside; empty: none.
    channel : int, optional
        Of a colour image; by default its grey.
    window : (float, float), optional
        Stored values that become 0 and 1; by default `percentiles` of the whole file, volume or not.

    Returns
    -------
    image : ndarray, shape (size, size)
        Float32 within [0, 1].
    mask : ndarray of bool, shape (size, size), or None

    Raises
    ------
    ValueError
        A file cannot be read, has no such slice, or is a mask of another shape; it is named.
    """
    volume, limits = _volume(path, _changed(path), channel, percentiles)
    if number is None and len(volume) > 1:
        raise ValueError(f"{path}: is a volume of {len(volume)} slices; dataset.slices says which of them to look at")
    if (number or 0) >= volume.shape[axis]:
        raise ValueError(f"{path}: slice {number} is wanted, counted from 0, and there are {volume.shape[axis]}")
    image = scaled(volume.take(number or 0, axis), size, window or limits)
    if not mask_path:
        return image, None
    outline, _ = _volume(mask_path, _changed(mask_path))
    if outline.shape != volume.shape:
        drawn, seen = (one.shape[len(one) == 1 :] for one in (outline, volume))
        raise ValueError(f"{mask_path}: mask of {drawn} for an image of {seen} pixels")
    return image, mask(outline.take(number or 0, axis), size)


def scaled(image: np.ndarray, size: int, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Scale to [0, 1] and resize to (size, size) with anti-aliasing.

    `limits` become 0 and 1, by default the least and the greatest value; what lies beyond is cut to
    them. A constant image is black.
    """
    image = image.astype(np.float32)
    low, high = limits or (image.min(), image.max())
    image = ((image - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(image)
    return image if image.shape == (size, size) else resize(image, (size, size), anti_aliasing=True).clip(0, 1)


def mask(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a mask to (size, size): a pixel belongs to it where more than half of its area does."""
    inside = (image > 0).astype(np.float32)
    return (inside if inside.shape == (size, size) else resize(inside, (size, size), anti_aliasing=True)) > 0.5


def grey(image: np.ndarray, channel: int | None = None) -> np.ndarray:
    """One channel of a picture, or the grey of them all: (height, width)."""
    if channel is None:
        return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))
    if image.ndim == 2 or channel >= image.shape[2]:
        raise ValueError(f"channel {channel} is wanted, counted from 0, and the shape is {image.shape}")
    return image[..., channel]


def need(table: pd.DataFrame, columns, path: Path) -> None:
    """Refuse a table without one of `columns`, naming it and the nearest that is there."""
    for column in columns:
        if column not in table:
            near = get_close_matches(column, list(table.columns), 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"{path}: column '{column}' is missing; it has {', '.join(table.columns)}{hint}")


def refuse(entries: pd.Series, bad: pd.Series, path: Path, why: str) -> None:
    """Refuse the entries of a column that are `bad`, naming the first of them by row, as a spreadsheet counts."""
    if bad.any():
        row = entries.index[bad.to_numpy().argmax()]
        line = row + (1 if path.suffix == ".parquet" else 2)  # a CSV file's first line is its header
        others = f" ({bad.sum() - 1} more rows like it)" if bad.sum() > 1 else ""
        raise ValueError(f"{path}, row {line}, column '{entries.name}': '{entries[row]}' {why}{others}")


def plain(entries: pd.Series) -> pd.Series:
    """Entries as text that can be compared: in lower case, ``2.0`` as ``2``, a missing one empty."""
    text = entries.astype("str").fillna("").str.strip().str.lower()
    return text.str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)


def coded(entries: pd.Series, values: dict, path: Path, missing: tuple[str, ...] = MISSING) -> pd.Series:
    """Say what the entries of a column mean.

    Parameters
    ----------
    entries : Series
        A column of the table at `path`.
    values : dict
        Meaning by entry, None being unknown; upper and lower case are the same.
    missing : tuple of str
        Entries that mean nothing unless `values` say otherwise.

    Raises
    ------
    ValueError
        An entry has no meaning; it is named with its row and what is valid.

    Examples
    --------
    >>> coded(pd.Series(["F", "m ", "Unknown"]), {"f": "female", "m": "male"}, Path("a.csv")).tolist()
    ['female', 'male', nan]
    """
    words = plain(pd.Series(list(values), dtype="str"))
    known = dict.fromkeys(missing) | dict(zip(words, values.values(), strict=True))
    text = plain(entries)
    strange = ~text.isin(list(known))
    near = get_close_matches(text[strange].iloc[0], list(known), 1) if strange.any() else []
    hint = f"; did you mean '{near[0]}'?" if near and near[0] else ""
    refuse(entries, strange, path, f"is none of {', '.join(word for word in map(str, values) if word)} or empty{hint}")
    return text.map(known)


def years(entries: pd.Series, path: Path) -> pd.Series:
    """Ages in years, from numbers or from ages as DICOM writes them; unknown ones are missing.

    Examples
    --------
    >>> years(pd.Series(["58", "058Y", "006M", "unknown"]), Path("a.csv")).tolist()
    [58.0, 58.0, 0.5, nan]
    """
    text = plain(entries)
    parts = text.str.replace(",", ".").str.extract(r"^(\d+(?:\.\d+)?) ?([ymwd]?)$")
    strange = parts[0].isna() & ~text.isin(MISSING)
    refuse(entries, strange, path, "is no age; expected years such as 58, or 058Y, 006M, 003W, 010D, or empty")
    return parts[0].astype(float) / parts[1].map(PER_YEAR)


@contextmanager
def _named(path: Path):
    """Name the file, whatever its reader stumbles over."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: cannot be read as an image ({why})") from None


@lru_cache(maxsize=4)  # the next slice is most often of the same volume
def _volume(path: str, changed: int, channel: int | None = None, percentiles: tuple[float, float] = (0, 100)):
    """(slices, rows, columns) and the values at `percentiles`; a picture has one slice."""
    suffix = Path(path.lower().removesuffix(".gz")).suffix
    with _named(path):
        if suffix == ".nii":
            stored = _nifti(path)
        elif suffix == ".npy":
            stored = np.load(path, allow_pickle=False)
        else:
            stored = _pages(path, channel) if suffix in PICTURES else _dicom(path, channel)
        volume = stored if stored.ndim == 3 else stored[None]
        if volume.ndim != 3:
            raise ValueError(f"expected an image or a volume, found shape {stored.shape}")
        volume = volume.astype(np.float32) if volume.dtype == np.float64 else volume
        limits = (volume.min(), volume.max()) if percentiles == (0, 100) else np.percentile(volume, percentiles)
        limits = tuple(float(limit) for limit in limits)
        if not np.isfinite(limits).all():
            raise ValueError("it holds values that are not finite")
    return volume, limits


def _changed(path: str) -> int:
    """When the file was last written, so that what was read before is not taken for what is there now."""
    return Path(path).stat().st_mtime_ns if Path(path).is_file() else 0


def _nifti(path: str) -> np.ndarray:
    import nibabel

    stored = np.asanyarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
    if max(stored.shape[3:], default=1) > 1:
        raise ValueError(f"expected one volume, found shape {stored.shape}")
    return np.atleast_3d(stored.reshape(stored.shape[:3])).T[:, ::-1, ::-1]


def _pages(path: str, channel: int | None) -> np.ndarray:
    with Image.open(path) as file:
        pages = [page.convert("RGB") if page.mode == "P" else page.copy() for page in ImageSequence.Iterator(file)]
    return np.stack([grey(np.asarray(page), channel) for page in pages])


def _dicom(path: str, channel: int | None) -> np.ndarray:
    import pydicom.misc
    from pydicom.pixels import apply_modality_lut

    if not pydicom.misc.is_dicom(path):
        raise ValueError("it is no DICOM file; PNG, JPEG, TIFF, NIfTI and NPY are known by their suffix")
    file = pydicom.dcmread(path)
    stored = apply_modality_lut(file.pixel_array, file).astype(np.float32)
    if file.SamplesPerPixel > 1:
        pages = stored.astype(np.uint8).reshape(-1, *stored.shape[-3:])
        return np.stack([grey(page, channel) for page in pages])
    return stored.min() + stored.max() - stored if file.PhotometricInterpretation == "MONOCHROME1" else stored
