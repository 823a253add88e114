"""Segmentation within a crop: a network that sees only a window around the object, and answers for the whole image.

Where the bias of a segmenter lies outside the object, cropping removes it; where it lies inside, cropping cannot help.
So a crop around the true object, which nobody knows in practice, is an experiment. In a cascade, a network of the whole
image finds the window. (Lee et al., MELBA 2025, arXiv 2503.17089.)
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from reconfair import diagnosis, store
from reconfair.params import Reader, Study


def boxes(patients, masks) -> pd.DataFrame:
    """The box around the object of each patient, over all of the patient's images.

    Parameters
    ----------
    patients : array_like
        (n,) patient of each image.
    masks : ndarray
        (n, s, s) of zeros and ones.

    Returns
    -------
    DataFrame
        By patient ``top, bottom, left, right`` in pixels, the ends not included; patients without an object are absent.

    Examples
    --------
    >>> masks = np.zeros((2, 8, 8))
    >>> masks[0, 2:4, 3], masks[1, 3:5, 4:6] = 1, 1
    >>> boxes(["a", "a"], masks).values.tolist()
    [[2, 5, 3, 6]]
    """
    rows = []
    for patient, mask in zip(patients, masks, strict=True):
        if mask.any():
            down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            rows.append((patient, down[0], down[-1] + 1, across[0], across[-1] + 1))
    boxes = pd.DataFrame(rows, columns=["patient", "top", "bottom", "left", "right"]).groupby("patient")
    return boxes.agg({"top": "min", "bottom": "max", "left": "min", "right": "max"})


def largest(patients, masks) -> np.ndarray:
    """Keep of each patient the region with the most pixels, over all of the patient's images laid on each other.

    A network that looks for the window also outlines small things elsewhere. The box around all of that is centred
    between them, and its window can miss the object.

    Parameters
    ----------
    patients : array_like
        (n,) patient of each image.
    masks : ndarray
        (n, s, s) of zeros and ones.

    Returns
    -------
    ndarray
        (n, s, s) of zeros and ones. Pixels that touch at a corner belong together.

    Examples
    --------
    >>> masks = np.zeros((2, 4, 4), int)
    >>> masks[0, :2, 0], masks[1, 3, 3] = 1, 1
    >>> largest(["a", "a"], masks).sum((1, 2)).tolist()
    [2, 0]
    """
    kept = np.array(masks)
    for rows in pd.Series(range(len(kept))).groupby(np.asarray(patients)).indices.values():
        laid = kept[rows].sum(0)
        regions, number = ndimage.label(laid, np.ones((3, 3)))
        if number > 1:
            pixels = ndimage.sum(laid, regions, range(1, number + 1))
            kept[rows] *= (regions == 1 + np.argmax(pixels)).astype(kept.dtype)
    return kept


def window(box: pd.DataFrame, margin: int, size: int) -> tuple[int, int]:
    """Height and width of the window: the largest box along each axis, and `margin` pixels in all.

    Raises
    ------
    ValueError
        There is no object, or the window is larger than the image.
    """
    if not len(box):
        raise ValueError("readers.strategies: crop needs masks that outline something, and no training mask does")
    height, width = (
        int((box[end] - box[start]).max()) + margin for start, end in (("top", "bottom"), ("left", "right"))
    )
    if max(height, width) > size:
        raise ValueError(
            f"readers.margin: a crop of {height} x {width} pixels is larger than the image, which has {size} a side; "
            f"{margin - max(height, width) + size} or less is possible"
        )
    return height, width


def corners(patients, box: pd.DataFrame, shape: tuple[int, int], size: int) -> np.ndarray:
    """Upper left corner (n, 2) of the window of each image: centred on the patient's box, shifted into the image.

    For a patient without a box it lies in the middle of the image.

    Examples
    --------
    >>> box = pd.DataFrame({"top": 0, "bottom": 2, "left": 5, "right": 8}, index=["a"])
    >>> corners(["a", "b"], box, (4, 4), 8).tolist()
    [[0, 4], [2, 2]]
    """
    middle = pd.DataFrame({"y": (box.top + box.bottom) / 2, "x": (box.left + box.right) / 2}).reindex(patients)
    centre = middle.fillna(size / 2).to_numpy()
    return np.clip(np.floor(centre - np.array(shape) / 2), 0, size - np.array(shape)).astype(int)


def cut(images, rows, corner: np.ndarray, shape: tuple[int, int], out=None) -> np.ndarray:
    """Windows (n, height, width) of some `rows` of images (N, s, s)."""
    height, width = shape
    out = np.empty((len(rows), *shape), images.dtype) if out is None else out
    for k, (row, (y, x)) in enumerate(zip(rows, corner, strict=True)):
        out[k] = images[row, y : y + height, x : x + width]
    return out


def paste(answers: np.ndarray, corner: np.ndarray, size: int) -> np.ndarray:
    """Masks (n, size, size) from those of windows (n, height, width); background outside."""
    whole = np.zeros((len(answers), size, size), answers.dtype)
    for k, (y, x) in enumerate(corner):
        whole[k, y : y + answers.shape[1], x : x + answers.shape[2]] = answers[k]
    return whole


def training_windows(study: Study, training_set, folder: Path):
    """The training set of a network that sees windows around the true objects; their size goes into the folder."""
    size, table = study.dataset.size, training_set.table
    box = boxes(table.patient_id.iloc[training_set.rows], training_set.target[training_set.rows])
    shape = window(box, study.readers.margin, size)
    (folder / "window.json").write_text(json.dumps(shape), encoding="utf-8")
    used = np.concatenate([training_set.rows, training_set.val])
    patients = table.patient_id.iloc[used]
    corner, arrays = corners(patients, boxes(patients, training_set.target[used]), shape, size), []
    for name, array in (("images", training_set.images), ("masks", training_set.target)):
        file = np.lib.format.open_memmap(folder / f".{name}.npy", "w+", array.dtype, (len(used), *shape))
        arrays.append(cut(array, used, corner, shape, file))
    n = len(training_set.rows)
    return training_set._replace(
        images=arrays[0],
        target=arrays[1],
        rows=np.arange(n),
        val=np.arange(n, len(used)),
        table=table.iloc[used].reset_index(drop=True),
    )


def stages(strategy: str) -> tuple[str, str]:
    """The strategies of a cascade's two networks, that of the whole image and that of the window.

    Examples
    --------
    >>> stages("cascade"), stages("cascade+oversample")
    (('standard', 'crop'), ('oversample', 'crop+oversample'))
    """
    others = [item for item in strategy.split("+") if item not in ("cascade", "crop")]
    return "+".join(others) or "standard", "+".join(["crop", *others])


def read(study: Study, reader: Reader, images, rows, what: str, table: pd.DataFrame, masks) -> tuple[np.ndarray, dict]:
    """Masks (n, s, s) of some `rows` of images, and columns that say how the window was found.

    Parameters
    ----------
    study : Study
    reader : Reader
        Of a strategy with crop or cascade.
    images : ndarray
        (N, s, s).
    rows : ndarray of int
        (n,)
    what : str
        Names the work.
    table : DataFrame
        (n rows) of the cohort.
    masks : ndarray
        True masks by the labels of `table`'s index. A cascade takes them for its errors alone.

    Returns
    -------
    masks : ndarray
    columns : dict of ndarray
        Of a cascade ``first_empty`` (1 where the first network found nothing in any image of the patient, so that its
        answer was kept) and ``box_error_y, box_error_x``: difference of the sides of the found and the true box in
        percent of the true one.
    """
    first, second = stages(reader.strategy)
    shape = sizes(study, reader)
    truth = study.dataset.region(masks, reader.network.tasks[0])[table.index]
    cascade = "cascade" in reader.strategy
    true_box = boxes(table.patient_id, truth)
    whole = diagnosis.read(study, reader._replace(strategy=first), images, rows, what)[0] if cascade else truth
    published, size = study.readers.as_published or study.readers.box == "as_published", images.shape[-1]
    box = boxes(table.patient_id, whole if published else largest(table.patient_id, whole)) if cascade else true_box
    corner = corners(table.patient_id, box, shape, size)
    frozen, windows = diagnosis.load(study, reader.network, second), cut(images, rows, corner, shape)
    answers = paste(diagnosis.look(study, frozen, windows, np.arange(len(rows)), what), corner, size)
    if not cascade:
        return answers, {}
    known = table.patient_id.isin(box.index).to_numpy()
    answers[~known] = whole[~known]
    sides = [pd.DataFrame({"y": some.bottom - some.top, "x": some.right - some.left}) for some in (box, true_box)]
    error = (100 * (sides[0] - sides[1]).abs() / sides[1]).reindex(table.patient_id)
    return answers, {"first_empty": 1.0 * ~known, "box_error_y": error.y.to_numpy(), "box_error_x": error.x.to_numpy()}


def sizes(study: Study, reader: Reader) -> tuple[int, int]:
    """Height and width of a trained reader's window in pixels."""
    weights = diagnosis.weights(study, reader._replace(strategy=stages(reader.strategy)[1]))
    return tuple(json.loads((store.ready(weights) / "window.json").read_text(encoding="utf-8")))
