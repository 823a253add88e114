"""Scans: from any container to an image within [0, 1] and a mask, by one pipeline.

A reader settles everything that a container says of its values: mode and colours, what is bright, padding, rescaling,
orientation, and where the pixels lie in the patient. What leaves it is `Stored`. An image is the grey of that, cut to
its limits and brought to size; a mask is where its few values mean inside.

Three decisions. DICOM files without preamble are read, as viewers do. NPY and TIFF volumes have no axes of the patient:
slices are counted across the axes as they are stored, and that is noted. Windows and percentiles are of values after
rescaling, in which greater is brighter: a film stored as MONOCHROME1 gives the same image as one stored as MONOCHROME2.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, ImageSequence, TiffImagePlugin, UnidentifiedImageError
from scipy.ndimage import binary_dilation, binary_erosion
from skimage.transform import resize

from reconfair.words import first_few, nearest

PICTURES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib")
SUFFIXES = (*PICTURES, ".nii", ".npy", ".dcm", ".dicom", ".dic", ".ima")  # any other is part of a name, as in 1.2.840.7
MAX_PIXELS, MAX_VOXELS = 64_000_000, 512_000_000  # of one image or slice, and of a file; a mammogram has 20 million
FEW = 16  # different values that the labels of a mask may have
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # of DICOM, which pydicom turns into RGB
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)
# JPEG Baseline, JPEG Extended and JPEG-LS Near-Lossless: compression of DICOM that always changes values.
LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81")
AFTER_FLIP = np.diag([-1.0, -1.0, 1.0])  # from DICOM's axes of the patient (LPS) to those of NIfTI (RAS)

# Pillow knows 16 bits in which white is zero (tag 262 is 0) of little-endian TIFF alone; the pixels are stored alike.
TiffImagePlugin.OPEN_INFO.setdefault((TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))

_notes: list[str] = []


class Place(NamedTuple):
    """Where the pixels of a volume lie.

    Attributes
    ----------
    corners : ndarray, shape (slices, 3, 3), or None
        Of each slice the first pixel, the last of the first row, and the first of the last row, in mm to the patient's
        left, front and head (RAS).
    spacing : tuple of float
        mm between rows and between columns; empty where a file does not say.
    frame : str
        DICOM's frame of reference.
    """

    corners: np.ndarray | None = None
    spacing: tuple[float, ...] = ()
    frame: str = ""


class Stored(NamedTuple):
    """What a file holds, once its container has nothing more to say of it.

    Attributes
    ----------
    values : ndarray, shape (slices, rows, columns) or (slices, rows, columns, 3)
        Greater is brighter; red, green and blue where there are colours.
    place : Place
    padding : ndarray of bool, shape (slices, rows, columns), or None
        Pixels that show nothing and take no part in the contrast.
    alpha : ndarray, shape (slices, rows, columns), or None
        Opacity.
    index : ndarray, shape (slices, rows, columns), or None
        Entries of a palette, before its colours.
    lossy : bool
        Whether compression has changed values.
    axes : bool
        Whether the axes of a volume are those of the patient.
    """

    values: np.ndarray
    place: Place = Place()
    padding: np.ndarray | None = None
    alpha: np.ndarray | None = None
    index: np.ndarray | None = None
    lossy: bool = False
    axes: bool = False


def picture(
    path: str, size: int, *, number: int | None = None, axis: int = 0, mask_path: str = "", channel: int | None = None,
    colour: bool = False, window: tuple[float, float] | None = None, percentiles: tuple[float, float] = (0, 100),
    fit: str = "squash", geometry: str = "check", inside: tuple[float, ...] | None = None,
    regions: tuple[tuple[int, ...], ...] = (),
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Read an image, or a slice of a volume, and its mask.

    Parameters
    ----------
    path : str
        PNG, JPEG, TIFF, BMP, NIfTI or NPY by its suffix; a file with any other suffix is taken for DICOM.
    size : int
        Pixels a side of what is returned.
    number, axis : int, optional
        Which slice of a volume, and across which axis. NIfTI volumes are turned so that axis 0 runs from
        the feet to the head, 1 from front to back and 2 from the patient's right to the left.
    mask_path : str
        File of the same shape and place, see `outline`; empty: none.
    channel : int, optional
        Of a colour image; by default its grey.
    colour : bool
        Keep red, green and blue; one scale serves all three.
    window : (float, float), optional
        Values that become 0 and 1; by default `percentiles` of the whole file, volume or not.
    fit : {"squash", "pad", "crop"}
        What becomes of an image that is not square: squeezed, padded with black, or cut to its middle.
    geometry : {"check", "ignore"}
        Whether image and mask must lie in the same place. If ignored, a NIfTI mask is laid on a NIfTI image voxel by
        voxel as both are stored.
    inside : tuple of float, optional
        Values of the mask that are inside; by default as `outline` finds.
    regions : tuple of tuple of int, optional
        Values of the mask that are inside each of several regions.

    Returns
    -------
    image : ndarray, shape (size, size), or with `colour` (3, size, size)
        Float32 within [0, 1].
    mask : ndarray of bool, shape (size, size), of several regions (regions, size, size), or None

    Raises
    ------
    ValueError
        A file cannot be read, has no such slice, or is a mask that does not belong to the image; it is named.
    """
    volume, limits, place, axes = _volume(path, changed(path), channel, percentiles, colour)
    if number is None and len(volume) > 1:
        raise ValueError(f"{path}: is a volume of {len(volume)} slices; dataset.slices says which of them to look at")
    if not 0 <= (number or 0) < volume.shape[axis]:
        raise ValueError(f"{path}: slice {number} is wanted, counted from 0, and there are {volume.shape[axis]}")
    if axis == 0 and place.spacing and max(place.spacing) > 1.01 * min(place.spacing):
        sides = " x ".join(f"{side:.3g}" for side in place.spacing)
        _notes.append(f"pixels are not square in the patient ({sides} mm); they are shown as stored")
    if len(volume) > 1 and not axes:
        _notes.append(f"{Path(path).suffix} volumes of {volume.shape[:3]} values: axes are taken as stored")
    chosen = volume.take(number or 0, axis)
    if axis and len(volume) == 1:
        raise ValueError(f"{path}: is one image of {volume.shape[1:3]} pixels; across axis {axis} it has lines alone")
    channels = np.moveaxis(chosen, -1, 0) if colour else [chosen]
    image = np.stack([scaled(channel, size, window or limits, fit) for channel in channels])
    image = image if colour else image[0]
    if np.ptp(image) == 0:
        _notes.append("images of one value throughout: they have no contrast")
    if not mask_path:
        return image, None
    how = (inside, path if geometry == "ignore" else "", regions)
    drawn, where, note = _outlined(mask_path, changed(mask_path), *how)
    if drawn.shape != volume.shape[:3]:
        shapes = [one.shape[len(one) == 1 : 3] for one in (drawn, volume)]
        raise ValueError(f"{mask_path}: mask of {shapes[0]} for an image of {shapes[1]} pixels")
    if geometry == "check":
        apart = differ(place, where)
        if apart:
            raise ValueError(
                f"{mask_path}: {apart}; dataset.geometry: ignore would lay it on the image as it is stored"
            )
    _notes.append(note)
    plane = drawn.take(number or 0, axis)
    if len(regions) < 2:
        return image, mask(plane, size, fit)
    return image, np.stack([mask(plane == region, size, fit) for region in range(1, len(regions) + 1)])


def notes() -> list[str]:
    """What was decided about the files read since the last call, a sentence for each decision and file."""
    taken = _notes.copy()
    _notes.clear()
    return taken


def geometry(path: str) -> tuple[tuple[int, int, int], Place]:
    """Slices, rows and columns of a file, and where they lie."""
    volume, _, place, _ = _volume(path, changed(path))
    return volume.shape, place


def stem(path: str) -> str:
    """A path without the suffix of an image; the last number of a DICOM UID is no suffix.

    Examples
    --------
    >>> stem("a/P01.nii.gz"), stem("a/P01.PNG"), stem("1.2.840.7")
    ('a/P01', 'a/P01', '1.2.840.7')
    """
    plain = path[:-3] if path.lower().endswith(".gz") else path
    return plain[: -len(suffix)] if (suffix := Path(plain).suffix).lower() in SUFFIXES else plain


def instead(missing: list[str]) -> str:
    """Say which files are there in place of those that are not: of the same name, but for its ending or its case."""
    there = {}
    for folder in {os.path.dirname(path) for path in missing}:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        there |= {os.path.join(folder, stem(name).casefold()): os.path.join(folder, name) for name in names}
    places = (os.path.join(os.path.dirname(path), stem(os.path.basename(path)).casefold()) for path in missing)
    alike = [there[place] for place in places if place in there]
    return f"{len(alike)} of them are there with another ending or case, such as {alike[0]}" if alike else ""


def place_of_slice(place: Place, shape: tuple[int, int, int], number: int, axis: int) -> Place:
    """Where one slice of a volume lies; it is cut as `picture` cuts it."""
    if place.corners is None:
        return place if axis == 0 else place._replace(spacing=())  # that of pixels in the stored slices
    if axis == 0:
        return place._replace(corners=place.corners[[number]])
    (first, last), across, along = place.corners[[0, -1]], 3 - axis, axis  # ends of rows and columns, in `corners`
    step = number / max(shape[axis] - 1, 1) * (first[across] - first[0])
    corners = np.stack([first[0], first[along], last[0]]) + step
    sides = np.linalg.norm(corners[[2, 1]] - corners[0], axis=1) / np.maximum((shape[0] - 1, shape[3 - axis] - 1), 1)
    return place._replace(corners=corners[None], spacing=tuple(map(float, sides)))


def differ(image: Place, drawn: Place, what: str = "mask") -> str:
    """How the places of an image and its mask differ; empty where they agree, or where neither says anything."""
    if image.frame and drawn.frame and image.frame != drawn.frame:
        return f"image and {what} are in different frames of reference"
    if (image.corners is None) != (drawn.corners is None):
        silent = f"the {what}" if drawn.corners is None else "the image"
        return f"{silent} does not say where in the patient it lies, so that it cannot be compared"
    if image.corners is not None:
        away = np.abs(image.corners - drawn.corners).max()
        if not away < 0.1 * min(image.spacing):  # of a pixel; headers are rounded
            return (
                f"the {what} lies up to {away:.3g} mm away from the image, whose pixels are {min(image.spacing):.3g} mm"
            )
    if image.spacing and drawn.spacing and not np.allclose(image.spacing, drawn.spacing, rtol=0.01):
        return f"pixels of the {what} are {drawn.spacing} mm, those of the image {image.spacing}"
    return ""


def scaled(image: np.ndarray, size: int, limits: tuple[float, float] | None = None, fit: str = "squash") -> np.ndarray:
    """Scale to [0, 1] and resize to (size, size) with anti-aliasing.

    `limits` become 0 and 1, by default the least and the greatest value; what lies beyond is cut to
    them. A constant image is black.
    """
    low, high = limits or (float(image.min()), float(image.max()))
    image = image.astype(np.float64)
    image = ((image - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(image)
    return _fitted(image.astype(np.float32), size, fit).clip(0, 1)


def mask(inside: np.ndarray, size: int, fit: str = "squash") -> np.ndarray:
    """Resize a mask to (size, size): a pixel belongs to it where more than half of its area does."""
    return _fitted((inside > 0).astype(np.float32), size, fit) > 0.5


def nearly_one_value(images: np.ndarray) -> str:
    """Say that nearly all pixels of images within [0, 1] are alike, as where a window does not fit; else empty.

    Examples
    --------
    >>> nearly_one_value(np.linspace(0, 0.004, 1000))
    'nearly all pixels lie from 4e-06 to 0.004, where 0 is black and 1 is white'
    """
    low, high = np.percentile(images, (0.1, 99.9))  # a label that is burnt in is bright in any window
    span = f"nearly all pixels lie from {low:.2g} to {high:.2g}, where 0 is black and 1 is white"
    return span if high - low < 0.1 else ""


def _fitted(image: np.ndarray, size: int, fit: str) -> np.ndarray:
    rows, columns = image.shape
    if fit == "crop":
        side = min(rows, columns)
        top, left = (rows - side) // 2, (columns - side) // 2
        image = image[top : top + side, left : left + side]
    elif fit == "pad":
        side = max(rows, columns)
        over = [((side - n) // 2, side - n - (side - n) // 2) for n in (rows, columns)]
        image = np.pad(image, over)
    return image if image.shape == (size, size) else resize(image, (size, size), anti_aliasing=True)


def grey(values: np.ndarray, channel: int | None = None) -> np.ndarray:
    """One channel of (..., 3) colours, or the luma of them all; what has no colours is as it was."""
    coloured = values.ndim == 4
    if channel is None:
        return values @ LUMA if coloured else values
    if not coloured or channel >= 3:
        shape = values.shape[len(values) == 1 :]
        raise ValueError(f"channel {channel} is wanted, counted from 0, and the shape is {shape}")
    return values[..., channel]


def outline(stored: Stored, inside: tuple[float, ...] | None = None, regions=()) -> tuple[np.ndarray, str]:
    """Find what a mask has inside.

    A mask has few values. Where it is opaque in places and nothing else varies, its opacity counts; of colours the
    strongest; of a palette its entries. Zero is outside. Of labels (whole numbers up to 32) each other one is inside;
    of one other value, or of -1 and 1, the other. What is left are shades, of lossy compression or interpolation:
    they are cut at half, and refused where there are areas of middle shades.

    Parameters
    ----------
    stored : Stored
    inside : tuple of float, optional
        The values that are inside, if that is known.
    regions : tuple of tuple of int, optional
        The values that are inside each of several regions.

    Returns
    -------
    inside : ndarray of bool, or with `regions` their numbers from 1, shape (slices, rows, columns)
    note : str
        What was taken for inside.

    Raises
    ------
    ValueError
        It cannot be told.
    """
    code = _without_ringing(_code(stored))
    values = np.unique(code)
    listed = first_few([f"{value:g}" for value in values], 8)
    unclear = f"as a mask it is ambiguous: its values are {listed}; dataset.mask.inside: [...] says which are inside"
    wanted = {*(inside or ()), *chain(*regions)}
    if stored.lossy and wanted and not {0, *wanted}.issuperset(values):
        advice = "leave dataset.mask.inside out, or store it without loss"
        raise ValueError(f"lossy compression has changed the values of this mask ({listed}); {advice}")
    if regions:
        numbers = sum(number * np.isin(code, some) for number, some in enumerate(regions, 1))
        meant = "; ".join(", ".join(map(str, some)) for some in regions)
        return numbers.astype(np.uint8), f"masks of {listed}: the regions are {meant}"
    if inside is not None:
        return np.isin(code, inside), f"masks of {listed}: inside is {', '.join(f'{value:g}' for value in inside)}"
    whole, low, high = (values == np.round(values)).all(), values[0], values[-1]
    if stored.lossy and high > 0 and (len(values) > 1 or high < 64):
        if high < 64:
            raise ValueError(unclear)
    elif len(values) == 1 or (len(values) == 2 and 0 in values):
        only = next((value for value in values if value), None)
        if only is not None and only < 0 and only != -1:  # that is background
            raise ValueError(unclear)
        note = "masks without anything inside" if only is None else f"masks of 0, {only:g}: inside is {only:g}"
        return code != 0, note
    elif len(values) == 2 and low == -high:
        return code > 0, f"masks of {low:g}, {high:g}: inside is {high:g}"
    elif whole and low == 0 and len(values) <= FEW and high <= 32:
        return code != 0, f"masks of {listed}: inside is all but 0"
    elif len(values) <= FEW:  # shades of an edge lie on one
        around = np.ones((1, 5, 5))
        edge = binary_dilation(code == low, around) & binary_dilation(code == high, around)
        if ((code != low) & (code != high) & ~edge).any():
            raise ValueError(unclear)
    shade = (code.astype(np.float32) - low) / (high - low)
    middle, area = (shade > 0.25) & (shade < 0.75), shade > 0.5
    plateau = sum(binary_erosion(one, np.ones((3, 3))).sum() for one in middle)
    if abs(low) > 0.1 * high or plateau > 0.05 * area.sum() or (shade > 0.75).sum() < (shade > 0.1).sum() / 2:
        raise ValueError(unclear)
    return area, "masks of many shades: inside is the upper half"


def _without_ringing(code: np.ndarray) -> np.ndarray:
    """Values of a mask; resampling leaves ringing around whole numbers, which is rounded away."""
    if code.dtype.kind != "f":
        return code
    whole = np.round(code)
    rounded = np.where(np.abs(code - whole) < 1e-3, whole, code)
    small = not rounded.any() and len(np.unique(code)) <= FEW and np.abs(code).max() > 1e-6  # few values: no ringing
    return code if small else rounded


def _code(stored: Stored) -> np.ndarray:
    """One number for each pixel of a mask."""
    values, alpha = stored.values, stored.alpha
    if stored.index is not None:
        used = np.unique(stored.index)
        bright = np.array([values[stored.index == one][0].max() for one in used])
        if len(used) > 1 and (bright == 0).sum() == 1 and bright[0] > 0:
            raise ValueError("as a mask it is ambiguous: entry 0 of its palette is not black, and another one is")
        return stored.index
    code = values.max(-1) if values.ndim == 4 else values
    if values.ndim == 4 and code.min() == code.max() and values.min() != values.max():
        raise ValueError("as a mask it is ambiguous: it has colours of equal strength, and none of them is black")
    if alpha is not None and alpha.max() == 0:
        return alpha
    if alpha is not None and alpha.min() != alpha.max():
        if code.min() != code.max() and ((code > 0) != (alpha > 0)).any():
            raise ValueError("as a mask it is ambiguous: its colours and its opacity outline different things")
        return alpha
    return code


@contextmanager
def _named(path: str):
    """Name the file, whatever its reader stumbles over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn of what is refused or decided here
            yield
    except MemoryError:
        raise MemoryError(f"{path}: there is too little memory to read it") from None
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: cannot be read as an image ({why})") from None


def changed(path: str | Path) -> int:
    """When the file was last written, so that what was read before is not taken for what is there now."""
    return Path(path).stat().st_mtime_ns if Path(path).is_file() else 0


@lru_cache(maxsize=2)  # the next slice is most often of the same volume
def _volume(
    path: str,
    date: int,
    channel: int | None = None,
    percentiles: tuple[float, float] = (0, 100),
    colour: bool = False,
):
    """Read a volume that is looked at several times.

    Returns (slices, rows, columns), with `colour` (slices, rows, columns, 3); the values at `percentiles`; the place;
    and whether the axes are the patient's.
    """
    with _named(path):
        stored = _stored(path)
        if colour and stored.values.ndim != 4:
            raise ValueError("it has one channel; dataset.channels: 3 expects red, green and blue")
        if stored.alpha is not None and stored.alpha.min() < 255:
            _notes.append("images with opacity: it is ignored, and what lies under transparent pixels is shown")
        volume = stored.values if colour else grey(stored.values, channel)
        visible = volume if stored.padding is None or stored.padding.all() else volume[~stored.padding]
        limits = whole = visible.min(), visible.max()
        if percentiles != (0, 100):
            limits = np.percentile(visible, percentiles)
        if limits[0] == limits[1] and whole[0] < whole[1]:  # all that differs lies beyond them
            limits = whole
            _notes.append("percentiles that are one value: images are scaled from their least to their greatest")
        if visible is not volume:
            volume = np.where(stored.padding, visible.min(), volume)
    return volume, tuple(float(limit) for limit in limits), stored.place, stored.axes


@lru_cache(maxsize=2)
def _outlined(path: str, date: int, inside: tuple[float, ...] | None, image: str, regions=()):
    """A mask of (slices, rows, columns), its place and what was taken for inside."""
    with _named(path):
        stored = _stored(path, image)
        drawn, note = outline(stored, inside, regions)
    return drawn, stored.place, note


def _stored(path: str, image: str = "") -> Stored:
    """Read a file; a NIfTI mask may take the axes of its image."""
    suffix = Path(path.lower().removesuffix(".gz")).suffix
    if suffix == ".nii":
        stored = _nifti(path, image if image.lower().endswith((".nii", ".nii.gz")) else "")
    elif suffix == ".npy":
        stored = _numpy(path)
    else:
        stored = _pages(path) if suffix in PICTURES else _dicom(path)
    low, high = stored.values.min(), stored.values.max()
    if stored.values.dtype.kind == "f" and not np.isfinite(float(high) - float(low)):
        raise ValueError("it holds values that are not finite, or too far apart")
    if stored.values.dtype.kind in "iu" and max(-int(low), int(high)) > 2**53:  # images are computed in floating point
        raise ValueError("it holds whole numbers beyond 2**53, which are not told apart; subtract the least of them")
    return stored


def _bounded(*shape: int) -> None:
    """Refuse a shape that no scan has, before anything is allocated for it."""
    if (
        min(shape) < 1
        or np.prod(sorted(shape)[-2:], dtype=float) > MAX_PIXELS
        or np.prod(shape, dtype=float) > MAX_VOXELS
    ):
        limit = f"{MAX_PIXELS / 1e6:g} million pixels an image and {MAX_VOXELS / 1e6:g} million a file are read"
        raise ValueError(f"its header says {' x '.join(map(str, shape))}; at most {limit}")


def _real(values: np.ndarray) -> np.ndarray:
    """Numbers that can be compared: the magnitude of complex ones, 0 and 1 for truth values."""
    if values.dtype.kind == "c":
        return np.abs(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers, found {values.dtype}")
    return values.astype(np.uint8 if values.dtype == bool else values.dtype.newbyteorder("="), copy=False)


def _numpy(path: str) -> Stored:
    stored = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header cannot ask for more than there is
    if stored.ndim >= 3 and stored.shape[-1] == 1 < min(stored.shape[-3:-1]):  # one channel, written last
        stored = stored[..., 0]
    if stored.ndim == 4 and len(stored) == 1:  # a batch of one, as networks have them
        stored = stored[0]
    coloured = stored.ndim >= 3 and stored.shape[-1] in (3, 4) and min(stored.shape[-3:-1]) > 4
    if stored.ndim not in ((3, 4) if coloured else (2, 3)):
        raise ValueError(f"expected an image or a volume, found shape {stored.shape}")
    _bounded(*stored.shape)
    values = _real(np.array(stored))
    values = values if values.ndim == 3 + coloured else values[None]
    return Stored(
        values[..., :3] if coloured else values, alpha=values[..., 3] if coloured and values.shape[-1] == 4 else None
    )


def _nifti(path: str, image: str) -> Stored:
    import nibabel

    file = nibabel.load(path)
    if len(file.shape) < 2 or max(file.shape[3:], default=1) > 1:
        raise ValueError(f"expected one volume, found shape {file.shape}")
    shape = (*file.shape, 1, 1)[:3]
    _bounded(*shape)
    given = nibabel.load(image) if image else file
    known = bool(given.header["sform_code"] or given.header["qform_code"])
    if getattr(given.header, "get_qform", None) and given.header["sform_code"] and given.header["qform_code"]:
        turns = [nibabel.io_orientation(form) for form in (given.get_sform(), given.get_qform())]
        if not np.array_equal(*turns):
            raise ValueError("its sform and its qform say differently how the patient lies; remove the wrong one")
    values = np.asanyarray(file.dataobj).reshape(shape)
    if values.dtype.names:  # red, green and blue in one
        values = np.stack([values[name] for name in values.dtype.names[:3]], -1)
    values = _real(values)
    turn = nibabel.io_orientation(given.affine)
    if np.isnan(turn).any():
        raise ValueError("its affine does not say how the patient lies")
    affine = given.affine @ nibabel.orientations.inv_ornt_aff(turn, shape)
    affine[:3] *= {"meter": 1000, "micron": 0.001}.get(given.header.get_xyzt_units()[0], 1)  # mm
    values = nibabel.apply_orientation(values, turn)  # to the left, to the front, to the head
    values = values.swapaxes(0, 2)[:, ::-1, ::-1]
    z, y, x = (n - 1 for n in values.shape[:3])
    ends = np.array([[[x, y, at, 1], [0, y, at, 1], [x, 0, at, 1]] for at in range(z + 1)])
    spacing = tuple(float(side) for side in nibabel.affines.voxel_sizes(affine)[1::-1])
    return Stored(values, Place((ends @ affine.T)[..., :3], spacing) if known else Place(), axes=known)


def _pages(path: str) -> Stored:
    try:
        opened = Image.open(path, formats=("PNG", "JPEG", "TIFF", "BMP"))  # other readers may run programs
    except UnidentifiedImageError:
        kinds = "it is no PNG, JPEG, TIFF or BMP, or of a kind that is not read, such as floating point of 64 bits"
        raise ValueError(f"{kinds}; save it as NPY") from None
    with opened as file:
        frames = getattr(file, "n_frames", 1)
        _bounded(frames, *file.size)
        if file.format == "TIFF":
            _one_stack(str(file.tag_v2.get(270, "")), frames)
        lossy = file.format in ("JPEG", "MPO") or file.info.get("compression") == "jpeg"
        pages = [_page(page) for page in ImageSequence.Iterator(file)][: 1 if file.format == "MPO" else None]
    values, alpha, index = (None if page[0] is None else np.stack(page) for page in zip(*pages, strict=True))
    return Stored(values, alpha=alpha, index=index, lossy=lossy)


def _one_stack(description: str, pages: int) -> None:
    """Refuse pages that ImageJ or OME describe as other than the slices of one volume."""
    images = re.search(r"^ImageJ=.*^images=(\d+)", description, re.DOTALL | re.MULTILINE)
    if images and int(images[1]) != pages:
        raise ValueError(f"its description tells of {images[1]} images, and {pages} can be read; save it again as TIFF")
    sides = [int(n) for n in re.findall(r'\b(?:Size[ZCT]="|(?:slices|channels|frames)=)(\d+)', description)]
    if sum(side > 1 for side in sides) > 1 and math.prod(sides) == pages:
        sides = " x ".join(map(str, sides))
        raise ValueError(f"its {pages} pages are {sides} slices, channels and times; save one channel and time alone")


def _page(page: Image.Image) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Values, opacity and palette's entries of one page, as it is seen."""
    white_is_zero = page.format == "TIFF" and page.tag_v2.get(262) == 0
    bits = page.tag_v2.get(258, (8,))[0] if page.format == "TIFF" else 8
    signed = page.format == "TIFF" and page.tag_v2.get(339, (1,))[0] == 2
    how = page.tile[0].args if page.tile else ""
    raw = how if isinstance(how, str) else str(how[0])
    if ";16" in raw and not page.mode.startswith("I"):
        raise ValueError("it has several channels of 16 bits, of which 8 would be read; store it in grey or as NPY")
    if page.mode == "L" and raw == "LX":
        raise ValueError("it has two channels, and does not say what they show; save one of them alone")
    page = ImageOps.exif_transpose(page)
    page = page.convert({"La": "LA", "RGBa": "RGBA"}.get(page.mode, page.mode))
    clear = page.has_transparency_data and not page.mode.startswith("I")
    alpha = np.asarray(page.convert("RGBA"))[..., 3] if clear else None
    index = np.asarray(page) if page.mode == "P" else None
    if index is not None and (page.palette is None or 3 * index.max() >= len(page.palette.palette)):
        raise ValueError("its palette has no colour for some of its pixels")
    if page.mode == "LAB":
        page = ImageCms.profileToProfile(
            page, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    elif page.mode == "LA":
        page = page.getchannel("L")
    elif page.mode not in ("1", "L", "I", "F", "RGB") and not page.mode.startswith("I;16"):
        page = page.convert("RGB")
    values = _real(np.asarray(page))
    if raw.startswith(("L;2", "L;4")):  # Pillow spreads what is stored, such as labels, over 0 to 255
        values = values // (255 // (2 ** int(raw[2]) - 1))
    if bits == 8 and signed:  # Pillow takes them for unsigned ones, and those of 32 bits for signed ones
        values = values.view(np.int8)
    elif raw.startswith("I;32") and not signed:
        values = values.view(np.uint32)
    if white_is_zero and page.mode.startswith("I;16"):  # of fewer bits Pillow inverts by itself
        values = 2**bits - 1 - values
    elif white_is_zero and page.mode in ("I", "F"):
        raise ValueError(f"white is zero in it, and {bits} bits do not say what black is")
    return values, alpha, index


def _dicom(path: str) -> Stored:
    import pydicom
    from pydicom.pixels import apply_color_lut

    file = pydicom.dcmread(path, force=True)  # without preamble too
    if "Rows" not in file or not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(dir(file)):
        raise ValueError("it is no DICOM image; PNG, JPEG, TIFF, NIfTI and NPY are known by their suffix")
    frames = int(file.get("NumberOfFrames") or 1)
    if len(groups := file.get("PerFrameFunctionalGroupsSequence") or []) not in (0, frames):
        raise ValueError(f"its functional groups are those of {len(groups)} frames, and it has {frames}")
    _bounded(frames, int(file.Rows), int(file.Columns))
    if "TransferSyntaxUID" not in file.file_meta:
        implicit, little = file.original_encoding
        uid = pydicom.uid
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        file.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    kind, samples = file.PhotometricInterpretation, file.SamplesPerPixel
    valid = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR") if samples == 1 else COLOURS if samples == 3 else ()
    if kind not in valid:
        expected = f"; {nearest(kind, valid)}" if valid else ""
        raise ValueError(f"its PhotometricInterpretation '{kind}' does not go with {samples} samples a pixel{expected}")
    lossy = file.get("LossyImageCompression") == "01" or file.file_meta.TransferSyntaxUID in LOSSY
    stored = _decoded(file)
    if file.SamplesPerPixel > 1:
        return Stored(stored.reshape(-1, *stored.shape[-3:]), _dicom_place(file, frames), lossy=lossy)
    stored = stored.reshape(-1, *stored.shape[-2:])
    if file.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, file)
        return Stored(colours[..., :3], _dicom_place(file, frames), index=stored, lossy=lossy)
    padding = _padding(stored, file)
    if stored.dtype.kind in "iu":  # bits beyond those stored may hold an overlay
        above, spare = (stored.dtype.type(8 * stored.itemsize - bits) for bits in (_top(file), file.BitsStored))
        stored = (stored << above) >> spare
    values = np.stack([_rescaled(stored[at], file, at) for at in range(len(stored))])
    return Stored(values, _dicom_place(file, frames), padding if padding.any() else None, lossy=lossy)


def _decoded(file) -> np.ndarray:
    """Pixels as they are stored, decompressed; red, green and blue where the file has Y, Cb and Cr."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = file.file_meta.TransferSyntaxUID
    try:
        return pixel_array(file, correct_unused_bits=_top(file) == file.get("BitsStored"))
    except NotImplementedError:
        raise ValueError(f"it is compressed as {syntax.name}, which is not read") from None
    except RuntimeError as error:
        if not syntax.is_encapsulated:
            raise
        why = f" ({str(error).splitlines()[-1].strip()})"
        if "pylibjpeg" not in get_decoder(syntax).available_plugins:
            why = "; to read that, install the extra: reconfair[dicom]"
        raise ValueError(f"it is compressed as {syntax.name} and cannot be decoded{why}") from None


def _top(file) -> int:
    """How many bits of each number lie up to the highest that is stored; no compression leaves any below those."""
    top, stored, allocated = file.get("HighBit", 0) + 1, file.get("BitsStored", 0), file.get("BitsAllocated", 0)
    packed = file.file_meta.TransferSyntaxUID.is_encapsulated
    return top if not packed and stored <= top <= allocated else stored


def _attribute(file, frame: int, name: str, otherwise=None):
    """An attribute of a frame: from its own functional groups, the shared ones, or the file itself."""
    groups = []
    for sequence, at in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = file.get(sequence) or []
        if at < len(items):
            groups += [items[at], *(inner for element in items[at] if element.VR == "SQ" for inner in element.value)]
    values = (group.get(name) for group in (*groups, file))
    return next((value for value in values if value not in (None, "")), otherwise)


def _padding(stored: np.ndarray, file) -> np.ndarray:
    prefix = "" if stored.dtype.kind in "iu" else "Float" if stored.itemsize == 4 else "DoubleFloat"
    first, last = (file.get(f"{prefix}PixelPadding{end}") for end in ("Value", "RangeLimit"))
    if not isinstance(first, int | float):
        return np.zeros(stored.shape, bool)
    ends = [first, last if isinstance(last, int | float) else first]
    if stored.dtype.kind == "i":  # the standard lets it be written as unsigned
        for bits in (8 * stored.itemsize, file.BitsStored):
            ends = [end - 2**bits if 2 ** (bits - 1) <= end < 2**bits else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def _rescaled(frame: np.ndarray, file, at: int) -> np.ndarray:
    """Values of a frame in which greater is brighter: inverted within the stored bits, then as its rescaling says."""
    from pydicom.pixels import apply_modality_lut

    white = _attribute(file, at, "PhotometricInterpretation") == "MONOCHROME1"
    if not white and file.get("PresentationLUTShape") == "INVERSE":
        raise ValueError("it is MONOCHROME2 and shown inverted, so that it does not say which values are bright")
    if "ModalityLUTSequence" in file:
        values = apply_modality_lut(frame, file).astype(np.float64)
        return 2 ** file.ModalityLUTSequence[0].LUTDescriptor[2] - 1 - values if white else values
    if white:
        if frame.dtype.kind not in "iu":
            raise ValueError("white is least in it, and floating point does not say what is most")
        frame = (-1 if frame.dtype.kind == "i" else 2**file.BitsStored - 1) - frame.astype(np.int64)
    slope = float(_attribute(file, at, "RescaleSlope", 1))
    if slope == 0:
        raise ValueError("its RescaleSlope is 0, so that every value would be the same; expected another number")
    shift = float(_attribute(file, at, "RescaleIntercept", 0))
    return frame if (slope, shift) == (1, 0) else frame * slope + shift


def _dicom_place(file, frames: int) -> Place:
    for name, count in (("PixelSpacing", 2), ("ImagePositionPatient", 3), ("ImageOrientationPatient", 6)):
        values = _attribute(file, 0, name, [0] * count)
        if np.size(values) < count:
            raise ValueError(f"its {name} has {np.size(values)} values, expected {count}")
    spacing = _attribute(file, 0, "PixelSpacing") or _attribute(file, 0, "ImagerPixelSpacing") or ()
    spacing, frame = tuple(float(one) for one in spacing), str(file.get("FrameOfReferenceUID", ""))
    corners = []
    for at in range(frames):
        position, turn = (_attribute(file, at, f"Image{what}Patient") for what in ("Position", "Orientation"))
        if position is None or turn is None or not spacing or (at and position is file.get("ImagePositionPatient")):
            return Place(None, spacing, frame)
        first, turn = np.array(position, float), np.array(turn, float)
        across = turn[:3] * spacing[1] * (file.Columns - 1)
        down = turn[3:] * spacing[0] * (file.Rows - 1)
        corners.append([first, first + across, first + down])
    return Place(np.array(corners) @ AFTER_FLIP, spacing, frame)


def leads_out(path: str, root: str | Path) -> bool:
    """Whether a file lies outside `root` once symbolic links are followed."""
    real = os.path.join(_real_folder(os.path.dirname(path)), os.path.basename(path))
    real = os.path.realpath(real) if os.path.islink(real) else real
    return not f"{real}/".startswith(f"{_real_folder(os.fspath(root)).rstrip('/')}/")


@lru_cache(2**16)
def _real_folder(folder: str) -> str:
    """A folder once symbolic links are followed; each is asked once in a process, since many files share one."""
    parent, name = os.path.split(folder)
    if name in ("", ".", ".."):
        return os.path.realpath(folder)
    real = os.path.join(_real_folder(parent), name)
    return os.path.realpath(real) if os.path.islink(real) else real
