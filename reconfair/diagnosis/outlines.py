"""How far a mask is from the true one: counts of pixels, and the Hausdorff distance of their borders."""

import numpy as np
from scipy.ndimage import binary_erosion
from skimage.metrics import hausdorff_distance


def border(mask: np.ndarray) -> np.ndarray:
    """A mask (s, s) without its erosion by a cross: the pixels at its edge.

    Examples
    --------
    >>> int(border(np.ones((5, 5), bool)).sum())
    16
    """
    mask = np.asarray(mask, bool)
    return mask & ~binary_erosion(mask)


def hausdorff(answer: np.ndarray, truth: np.ndarray) -> float:
    """The larger of the two directed largest distances between the borders, in pixels; missing where a mask is empty.

    Examples
    --------
    >>> one, other = np.zeros((2, 8, 8))
    >>> one[2, 2], other[2, 5] = 1, 1
    >>> hausdorff(one, other), hausdorff(one, 0 * other)
    (3.0, nan)
    """
    if not (answer.any() and truth.any()):
        return np.nan
    return float(hausdorff_distance(border(answer), border(truth)))


def measured(answers: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Columns (n,) of masks (n, s, s): pixels in both, in the answer, in the truth, and the Hausdorff distance."""
    distance = [hausdorff(answer, true) for answer, true in zip(answers, truth, strict=True)]
    sums = {"overlap": answers * truth, "answered": answers, "outlined": truth}
    return {name: values.sum((1, 2)).astype(float) for name, values in sums.items()} | {"hausdorff": distance}
