"""X-ray noise: few photons in the Radon domain, then filtered back-projection."""

from functools import lru_cache
from math import ceil, sqrt

import numpy as np
from scipy import fft, sparse

from reconfair import keyed


def degrade(images, ids, noise) -> np.ndarray:
    """Reconstruct each image from the line integrals that a low dose measures.

    Parameters
    ----------
    images : float32 array, shape (n, size, size)
        Originals in [0, 1].
    ids : sequence of str
        One id per image; it keys the noise, whatever else is in the batch.
    noise : reconfair.params.Sinogram
        Photons, angles, attenuation and bow-tie.

    Returns
    -------
    float32 array, shape (n, size, size)
        Filtered back-projections, not clipped: noise leaves [0, 1].

    Raises
    ------
    ValueError
        If there are not as many ids as images.
    """
    line_integrals = low_dose(noise.attenuation * radon(images, noise.angles), ids, noise)
    return filtered_back_projection(line_integrals, images.shape[-1]) / noise.attenuation


def radon(images, angles) -> np.ndarray:
    """Line integrals along parallel rays by Joseph's method [1]_, the side of the image being the unit of length.

    Ray t at angle theta is x cos(theta) + y sin(theta) = t, x to the right and y up from the centre of
    the image. Bins are a pixel wide and cover the diagonal, so that corners are measured as well.

    Parameters
    ----------
    images : float32 array, shape (n, size, size)
    angles : int
        Number of angles, uniform over 180 degrees from 0.

    Returns
    -------
    float32 array, shape (n, angles, bins)

    References
    ----------
    .. [1] P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images",
       IEEE Transactions on Medical Imaging 1(3), 1982.

    Examples
    --------
    >>> radon(np.ones((1, 8, 8), np.float32), 2).round(3)[0, 0]
    array([0., 0., 1., 1., 1., 1., 1., 1., 1., 1., 0., 0.], dtype=float32)
    """
    n, size, _ = images.shape
    return _apply(_projector(size, angles), images).reshape(n, angles, _bins(size))


def filtered_back_projection(sinograms, size) -> np.ndarray:
    """Images whose line integrals the sinograms are: ramp filter with Hann window, then back-projection [1]_.

    Parameters
    ----------
    sinograms : float32 array, shape (n, angles, bins)
        Line integrals as `radon` returns them.
    size : int
        Pixels a side of the image.

    Returns
    -------
    float32 array, shape (n, size, size)

    References
    ----------
    .. [1] A. C. Kak, M. Slaney, "Principles of Computerized Tomographic Imaging", IEEE Press, 1988,
       chapter 3; equation 61 is the ramp.
    """
    n, angles, bins = sinograms.shape
    ramp = _ramp(bins)
    spectrum = fft.rfft(sinograms, 2 * (len(ramp) - 1)) * ramp
    filtered = fft.irfft(spectrum)[..., :bins] * np.float32(size * np.pi / angles)
    return _apply(_back_projector(size, angles), filtered).reshape(n, size, size)


def bowtie(bins, edge) -> np.ndarray:
    """Relative exposure along the detector: ``edge ** (d ** 2)``, d from -1 to 1.

    It is what passes a filter whose thickness grows as the square of the distance from the centre.

    Parameters
    ----------
    bins : int
    edge : float
        Exposure at both ends, in (0, 1]; 1 in the centre.

    Returns
    -------
    float64 array, shape (bins,)

    Examples
    --------
    >>> bowtie(5, 0.2).round(2)
    array([0.2 , 0.67, 1.  , 0.67, 0.2 ])
    """
    return edge ** np.linspace(-1, 1, bins) ** 2


def photon_counts(line_integrals, ids, noise) -> np.ndarray:
    """Draw what the detector counts: Poisson with mean I0 b exp(-p), b the bow-tie.

    Parameters
    ----------
    line_integrals : float32 array, shape (n, angles, bins)
        p, no unit.
    ids : sequence of str
        One id per image.
    noise : reconfair.params.Sinogram
        I0 is `photons`.

    Returns
    -------
    int64 array, shape (n, angles, bins)
    """
    exposure = noise.photons * bowtie(line_integrals.shape[-1], noise.bowtie)
    counts = np.empty(line_integrals.shape, np.int64)
    for i, (p, image_id) in enumerate(zip(line_integrals, ids, strict=True)):
        counts[i] = keyed.generator(noise.seed, "noise", image_id, noise.level).poisson(exposure * np.exp(-p))
    return counts


def low_dose(line_integrals, ids, noise) -> np.ndarray:
    """Line integrals as measured with few photons: -log of the counts over the exposure without object.

    A bin that counts nothing is taken to count one photon. Parameters as in `photon_counts`.

    Returns
    -------
    float32 array, shape (n, angles, bins)
    """
    exposure = noise.photons * bowtie(line_integrals.shape[-1], noise.bowtie)
    counts = photon_counts(line_integrals, ids, noise)
    return -np.log(np.maximum(counts, 1) / exposure).astype(np.float32)


def _bins(size: int) -> int:
    """At least the diagonal; as even or odd as the size, so that at 0 degrees bins are columns."""
    bins = ceil(sqrt(2) * size)
    return bins + (bins - size) % 2


def _apply(matrix: sparse.csr_array, arrays: np.ndarray) -> np.ndarray:
    """Matrix times each array, all at once: every weight is read from memory once a batch."""
    columns = np.ascontiguousarray(arrays.reshape(len(arrays), -1).T, np.float32)
    return np.ascontiguousarray((matrix @ columns).T)


@lru_cache(maxsize=1)
def _projector(size: int, angles: int) -> sparse.csr_array:
    """Rays by pixels; 240 MB at 256 pixels and 256 angles, growing as size^2 and as angles."""
    return sparse.vstack([_joseph(size, angle) for angle in _angles(angles)], "csr")


def _joseph(size: int, angle: float) -> sparse.csr_array:
    """Follow each ray across the rows, or columns if those are steeper, interpolating along the other axis."""
    steps, t = _centred(size), _centred(_bins(size))[:, None]
    cos, sin = np.cos(angle), np.sin(angle)
    across_rows = abs(cos) >= abs(sin)
    position = ((t + steps * sin) / cos if across_rows else (steps * cos - t) / sin) + (size - 1) / 2
    near = np.floor(position)[..., None] + np.arange(2)
    weights = (1 - np.abs(position[..., None] - near)) / (size * max(abs(cos), abs(sin)))
    inside = (near >= 0) & (near < size) & (weights > 0)
    step = np.arange(size)[:, None]
    pixels = step * size + near if across_rows else near * size + step
    first = np.concatenate([[0], np.cumsum(inside.sum((1, 2)))])
    data, indices = weights[inside].astype(np.float32), pixels[inside].astype(np.int32)
    return sparse.csr_array((data, indices, first.astype(np.int32)), (len(t), size**2))


@lru_cache(maxsize=1)
def _back_projector(size: int, angles: int) -> sparse.csr_array:
    """Pixels by rays, each pixel interpolating between the two nearest bins; as large as the projector."""
    x, y, bins = _centred(size), -_centred(size)[:, None], _bins(size)
    rays, weights = np.empty((size**2, angles, 2), np.int32), np.empty((size**2, angles, 2), np.float32)
    for k, angle in enumerate(_angles(angles)):
        position = (x * np.cos(angle) + y * np.sin(angle)).reshape(-1, 1) + (bins - 1) / 2
        near = np.floor(position) + np.arange(2)
        rays[:, k], weights[:, k] = k * bins + near, 1 - np.abs(position - near)
    first = np.arange(0, rays.size + 1, 2 * angles)
    return sparse.csr_array((weights.ravel(), rays.ravel(), first), (size**2, angles * bins))


def _angles(n: int) -> np.ndarray:
    return np.arange(n) * np.pi / n


def _centred(n: int) -> np.ndarray:
    return np.arange(n) - (n - 1) / 2


@lru_cache(maxsize=4)
def _ramp(bins: int) -> np.ndarray:
    """Transfer function of the band-limited ramp times a Hann window, for bins of width 1."""
    length = 2 ** ceil(np.log2(2 * bins))
    n = fft.fftfreq(length, 1 / length)
    kernel = np.where(n % 2, -1 / (np.pi * np.where(n, n, 1)) ** 2, 0)
    kernel[0] = 1 / 4
    hann = (1 + np.cos(2 * np.pi * fft.rfftfreq(length))) / 2
    return (fft.rfft(kernel).real * hann).astype(np.float32)


def steps(image, image_id, noise):
    """Show what is measured of one image (s, s): ``{title: (angles, bins) array}``, line integrals."""
    whole = noise.attenuation * radon(image[None], noise.angles)
    return {"sinogram": whole[0], "measured sinogram": low_dose(whole, [image_id], noise)[0]}
