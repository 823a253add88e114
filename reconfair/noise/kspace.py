"""MRI noise: k-space sampled along radial spokes, the rest filled with zeros."""

from functools import lru_cache
from itertools import count
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy import fft

from reconfair.params import Section, off_default

GOLDEN_ANGLE = np.pi * (np.sqrt(5) - 1) / 2


class KSpace(Section):
    """MRI: radial undersampling of k-space (METHODS: golden-angle spokes, magnitude image)."""

    kind: Literal["kspace"] = "kspace"
    acceleration: Annotated[float, Field(ge=1, le=64)] = 8  # R; 1: fully sampled
    angles: Literal["golden", "uniform"] = "golden"
    magnitude: Literal["complex", "real_part"] = "complex"

    @model_validator(mode="after")
    def _reachable(self):
        if 1 < self.acceleration < 1.3:
            raise ValueError(
                "acceleration between 1 and 1.3 cannot be reached by spokes within a circle; use 1 or at least 1.3"
            )
        if float(f"{self.acceleration:g}") != self.acceleration:
            name = f"{self.acceleration:g}"
            raise ValueError(
                f"acceleration {self.acceleration!r} and {name} would share the folder x{name}; use {name}"
            )
        return self

    @property
    def level(self) -> str:
        """Name of the noise level, such as ``x8``; settings off the default are part of it."""
        return "_".join([f"x{self.acceleration:g}", *off_default(self, "angles", "magnitude")])


def measure(images, noise) -> np.ndarray:
    """Half of each image's k-space, the other half being its conjugate: (n, size, size) to (n, size, size // 2 + 1)."""
    return fft.rfft2(images)


def restore(kspace, ids, noise, size) -> np.ndarray:
    """Keep the k-space samples on the spokes, fill the others with zeros and transform back.

    Parameters
    ----------
    kspace : complex64 array, shape (n, size, size // 2 + 1)
        As `measure` returns it.
    ids : sequence of str
        Unused, for undersampling draws nothing at random.
    noise : KSpace
        Acceleration, angles of the spokes and how the complex image is shown.
    size : int
        Pixels a side.

    Returns
    -------
    float32 array, shape (n, size, size)
        Zero-filled images: their magnitude, or the real part, which may be negative. The mask is
        symmetric about the centre, so no imaginary part arises and the two differ by the sign alone.

    Raises
    ------
    ValueError
        If the acceleration is below 1, or between 1 and 1.3.
    """
    mask = fft.ifftshift(radial_mask(size, noise.acceleration, noise.angles))[:, : size // 2 + 1].astype(np.float32)
    zero_filled = fft.irfft2(kspace * mask, (size, size))
    return np.abs(zero_filled, out=zero_filled) if noise.magnitude == "complex" else zero_filled


def to_kspace(images) -> np.ndarray:
    """Centred unitary Fourier transform of the last two axes; the energy stays the same.

    Parameters
    ----------
    images : float32 or complex64 array, shape (..., size, size)

    Returns
    -------
    complex64 array, shape (..., size, size)
        k-space with zero frequency at ``[size // 2, size // 2]``.

    Examples
    --------
    >>> to_kspace(np.ones((4, 4), np.float32)).real[2]
    array([0., 0., 4., 0.], dtype=float32)
    """
    axes = (-2, -1)
    return fft.fftshift(fft.fft2(fft.ifftshift(images, axes), norm="ortho"), axes)


@lru_cache(maxsize=8)
def radial_mask(size, acceleration, angles="golden") -> np.ndarray:
    """Which k-space samples lie on the spokes.

    Parameters
    ----------
    size : int
        Pixels a side.
    acceleration : float
        R: about one sample in R is kept; 1 keeps all of them.
    angles : {"golden", "uniform"}
        Angle between successive spokes: pi (sqrt(5) - 1) / 2 [1]_, or pi over their number.

    Returns
    -------
    bool array, shape (size, size), read-only
        Zero frequency at ``[size // 2, size // 2]``, as in `to_kspace`.

    Raises
    ------
    ValueError
        If the acceleration is below 1, or between 1 and 1.3.

    References
    ----------
    .. [1] S. Winkelmann et al., "An optimal radial profile order based on the golden ratio for
       time-resolved MRI", IEEE Transactions on Medical Imaging 26(1), 2007.
    """
    n = spokes(size, acceleration, angles)
    mask = _draw(size, n, angles) if n else np.ones((size, size), bool)
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=8)
def spokes(size, acceleration, angles="golden") -> int:
    """Smallest number of spokes that sample at least 1/R of a square k-space.

    Parameters and errors are those of `radial_mask`; an acceleration of 1 needs no spokes.

    Examples
    --------
    >>> [spokes(256, acceleration) for acceleration in (4, 8, 16)]
    [64, 31, 15]
    """
    if acceleration == 1:
        return 0
    if acceleration < 1.3:
        raise ValueError(f"acceleration must be 1 or at least 1.3, not {acceleration:g}: spokes stay within a circle")
    mask = np.zeros((size, size), bool)
    for n in count(1):
        # Golden spokes stay where they are when one is added; uniform ones all move.
        mask = mask | _draw(size, n, angles, first=n - 1) if angles == "golden" else _draw(size, n, angles)
        if acceleration * np.count_nonzero(mask) >= size**2:
            return n


def _draw(size: int, n: int, angles: str, first: int = 0) -> np.ndarray:
    """Of n spokes those from `first` on: diameters of the inscribed circle, a sample every half pixel, each in its
    nearest pixel.
    """
    turns = np.arange(first, n) * (GOLDEN_ANGLE if angles == "golden" else np.pi / n)
    radius = np.arange(-2 * (size // 2), 2 * (size // 2) + 1) / 2
    # The DFT is periodic: of an even size, frequency +size/2 is the sample at -size/2.
    rows, columns = ((size // 2 + np.rint(np.outer(f(turns), radius)).astype(int)) % size for f in (np.sin, np.cos))
    mask = np.zeros((size, size), bool)
    mask[rows, columns] = True
    return mask


def steps(image, image_id, noise):
    """Show what is measured of one image (s, s): ``{title: (s, s) array}``, brightness logarithmic."""
    whole = np.log1p(100 * np.abs(to_kspace(image[None])[0]))
    mask = radial_mask(len(image), noise.acceleration, noise.angles)
    return {"k-space (log)": whole, "measured part": whole * mask}
