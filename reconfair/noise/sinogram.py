"""X-ray noise: few photons in the Radon domain, then filtered back-projection."""

from functools import lru_cache
from math import ceil, pi, sqrt
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator
from scipy import fft, sparse, special

from reconfair import keyed
from reconfair.params import Section, Seed, off_default

OVERSAMPLING, WIDTH = 1.25, 4  # of the grid that back-projection fills: 5e-4 off the exact sum
ENOUGH = 16  # expected photons from which the expansion of the Poisson quantile is used


class Sinogram(Section):
    """X-ray: low photon counts in the Radon domain, then filtered back-projection."""

    kind: Literal["sinogram"]
    photons: Annotated[float, Field(ge=1)] = 10_000  # I0 per detector bin, before the object
    angles: Annotated[int, Field(ge=8)] = 256
    attenuation: Annotated[float, Field(gt=0)] = 4  # line integral across an image of ones
    bowtie: Annotated[float, Field(gt=0, le=1)] = 0.2  # relative exposure at the detector's edge
    physics: Literal["transmission", "as_published"] = "transmission"
    seed: Seed = 0

    @model_validator(mode="after")
    def _distinct(self):
        if float(name := f"{self.photons:.6e}") != self.photons:
            raise ValueError(f"photons {self.photons!r} and {name} would share one folder; use {name}")
        return self

    @property
    def level(self) -> str:
        """Name of the noise level, such as ``1e4``; settings off the default are part of it."""
        digits, exponent = f"{self.photons:.6e}".split("e")
        name = f"{float(digits):g}e{int(exponent)}"
        return "_".join([name, *off_default(self, "angles", "attenuation", "bowtie", "physics", "seed")])


def measure(images, noise) -> np.ndarray:
    """Line integrals, which are the same at every dose: (n, size, size) to (n, angles, bins)."""
    return radon(images, noise.angles)


def restore(lines, ids, noise, size) -> np.ndarray:
    """Filtered back-projection of what a low dose measures of the line integrals.

    Parameters
    ----------
    lines : float32 array, shape (n, angles, bins)
        As `radon` returns them.
    ids : sequence of str
        One id per image; it keys the noise, whatever else is in the batch.
    noise : Sinogram
        Photons, attenuation, bow-tie and physics.
    size : int
        Pixels a side.

    Returns
    -------
    float32 array, shape (n, size, size)
        Not clipped: noise leaves [0, 1]. As published: scaled by each image's minimum and maximum; a constant one is 0.
    """
    images = filtered_back_projection(low_dose(lines, ids, noise), size)
    if noise.physics == "transmission":
        return images
    low, high = (extreme((1, 2), keepdims=True) for extreme in (images.min, images.max))
    return (images - low) / np.where(high > low, high - low, 1)


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
    columns = np.ascontiguousarray(images.reshape(n, -1).T, np.float32)  # so each weight is read once for all images
    return np.ascontiguousarray((_projector(size, angles) @ columns).T).reshape(n, angles, -1)


def filtered_back_projection(sinograms, size) -> np.ndarray:
    """Images whose line integrals the sinograms are: ramp filter with Hann window, then back-projection [1]_.

    A projection's spectrum is the line through the origin of the image's spectrum at the same angle.
    Back-projection is therefore a sum of plane waves; they are spread to a Cartesian grid by a
    Kaiser-Bessel kernel, summed by one FFT, and what the kernel did is divided out [2]_. Between bins
    the result is that of linear interpolation.

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
    .. [2] P. J. Beatty, D. G. Nishimura, J. M. Pauly, "Rapid gridding reconstruction with a minimal
       oversampling ratio", IEEE Transactions on Medical Imaging 24(6), 2005.
    """
    n, angles, bins = sinograms.shape
    grid, length, transfer, spread, gain = _back_projector(size, angles, bins)
    half, rim = size // 2, WIDTH // 2
    waves = fft.ihfft(sinograms, length).transpose(1, 2, 0)
    # Images are the last axis from here on: a weight is read from memory once for all of them.
    samples = np.multiply(waves, transfer[..., None], order="C").reshape(-1, n)
    plane = (spread @ samples.view(np.float32)).view(np.complex64).reshape(-1, grid, n)
    # Rows beyond either end are conjugates of those within, mirrored.
    rows, mirrored = np.arange(rim + 1), -np.arange(grid) % grid
    for end, inward in ((rim, 1), (rim + grid // 2, -1)):
        plane[end + inward * rows] += plane[end - inward * rows][:, mirrored].conj()
    columns = fft.ifft(plane[rim:-rim], axis=1, norm="forward")
    image = np.empty((n, size, size), np.float32)
    # The centre is at 0, so that the left and upper halves lie at the end of the grid.
    sides = ((slice(half, None), slice(size - half)), (slice(half), slice(grid - half, None)))
    for to_columns, from_columns in sides:
        strip = fft.irfft(columns[:, from_columns], grid, axis=0, norm="forward").transpose(2, 0, 1)
        for to_rows, from_rows in sides:
            np.multiply(strip[:, from_rows], gain[to_rows, to_columns], out=image[:, to_rows, to_columns])
    return image


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


def low_dose(lines, ids, noise) -> np.ndarray:
    """Line integrals as measured with few photons.

    Parameters
    ----------
    lines : float32 array, shape (n, angles, bins)
        p, as `radon` returns them.
    ids : sequence of str
        One id per image.
    noise : Sinogram

    Returns
    -------
    float32 array, shape (n, angles, bins)
        By transmission: -log(counts / (I0 b)) / a, a bin that counts nothing being taken to count one
        photon; or as `published` has it.
    """
    measured = np.empty_like(lines)
    for at, image_id in enumerate(ids):
        if noise.physics == "as_published":
            measured[at] = published(lines[at], image_id, noise)
        else:
            counts, exposure = photon_counts(lines[at], image_id, noise)
            measured[at] = np.log(exposure / np.maximum(counts, 1)) / np.float32(noise.attenuation)
    return measured


def photon_counts(p, image_id, noise) -> tuple[np.ndarray, np.ndarray]:
    """Draw what the detector counts: Poisson with mean I0 b exp(-a p), b the bow-tie, a the attenuation.

    Parameters
    ----------
    p : float32 array, shape (angles, bins)
        Line integrals of one image.
    image_id : str
    noise : Sinogram
        I0 is `photons`.

    Returns
    -------
    counts : float32 array, shape (angles, bins)
        Whole numbers.
    exposure : float32 array, shape (bins,)
        I0 b, the photons that are sent.
    """
    random = keyed.generator(noise.seed, "noise", image_id, noise.level)
    exposure = (noise.photons * bowtie(p.shape[-1], noise.bowtie)).astype(np.float32)
    return poisson(exposure * np.exp(-np.float32(noise.attenuation) * p), random), exposure


def published(p, image_id, noise) -> np.ndarray:
    """Line integrals of one image under the published noise, which is no transmission of photons.

    Poisson noise is put on the line integrals themselves, scaled to a maximum of I0. The bow-tie runs
    over the angles, from 1 down to 0.05 and up again, and is never divided out: oblique projections
    lose most of their signal, and that costs far more than the dose does. Parameters as in `photon_counts`.
    """
    random = keyed.generator(noise.seed, "noise", image_id, noise.level)
    over_angles = np.abs(np.linspace(-1, 1, len(p), dtype=np.float32)).clip(0.05)[:, None]
    scale = np.float32(noise.photons) / max(p.max(), np.float32(1e-6))
    return poisson(scale * p * over_angles, random) / scale


def poisson(mean, random) -> np.ndarray:
    """Poisson numbers, several times as fast as NumPy's: quantiles at normal deviates.

    Parameters
    ----------
    mean : float32 array
        Not negative. Entries below 16 are left to NumPy.
    random : numpy.random.Generator

    Returns
    -------
    float32 array
        Whole numbers, of the shape of `mean`.
    """
    # Normal deviates after Box and Muller (1958), in half the time of the generator's own.
    radius, angle = random.random((2, -(-mean.size // 2)), np.float32)
    radius, angle = np.sqrt(-2 * np.log(1 - radius)), 2 * np.float32(pi) * angle
    deviates = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[: mean.size]
    counts = quantile(np.maximum(mean, ENOUGH).ravel(), deviates)
    few = np.flatnonzero(mean < ENOUGH)
    counts[few] = random.poisson(mean.ravel()[few])
    return counts.reshape(mean.shape)


def quantile(mean, w) -> np.ndarray:
    """Quantile of the Poisson distribution at the probability that a normal deviate stays below `w`.

    The expansion to order ``mean ** -0.5`` [1]_: of a mean of 16, one number in 3,800 is a count off;
    of 32, one in 11,000.

    References
    ----------
    .. [1] M. B. Giles, "Algorithm 955: Approximation of the inverse Poisson cumulative distribution
       function", ACM Transactions on Mathematical Software 42(1), 2016.
    """
    root = np.sqrt(mean)
    return np.floor(mean + root * w + (2 + w * w) * (1 / 6 - w / (72 * root)))


@lru_cache(maxsize=1)
def _projector(size: int, angles: int) -> sparse.csr_array:
    """Rays by pixels; 240 MB at 256 pixels and 256 angles, growing as size^2 and as angles.

    Each ray is followed across the rows, or across the columns if those are steeper, and interpolated along the other
    axis.
    """
    bins = ceil(sqrt(2) * size)
    bins += (bins - size) % 2  # the diagonal, and as even or odd as the size, so that at 0 degrees bins are columns
    step, t, blocks = np.arange(size)[:, None], (np.arange(bins) - (bins - 1) / 2)[:, None], []
    centred = np.arange(size) - (size - 1) / 2
    for angle in np.arange(angles) * np.pi / angles:
        cos, sin = np.cos(angle), np.sin(angle)
        across_rows = abs(cos) >= abs(sin)
        position = ((t + centred * sin) / cos if across_rows else (centred * cos - t) / sin) + (size - 1) / 2
        near = np.floor(position)[..., None] + np.arange(2)
        weights = (1 - np.abs(position[..., None] - near)) / (size * max(abs(cos), abs(sin)))
        inside = (near >= 0) & (near < size) & (weights > 0)
        pixels = step * size + near if across_rows else near * size + step
        first = np.concatenate([[0], np.cumsum(inside.sum((1, 2)))]).astype(np.int32)
        data, indices = weights[inside].astype(np.float32), pixels[inside].astype(np.int32)
        blocks.append(sparse.csr_array((data, indices, first), (bins, size**2)))
    return sparse.vstack(blocks, "csr")


class BackProjector(NamedTuple):
    """What back-projection needs, for one number of pixels, angles and bins."""

    grid: int  # cells a side
    length: int  # at which the filtered ends of a projection do not meet
    transfer: np.ndarray  # factor of each sample of the spectra: ramp, windows, and the shift to the image's centre
    spread: sparse.csr_array  # cells of the grid of frequencies by samples; rows WIDTH / 2 beyond both ends
    gain: np.ndarray  # divides out the kernel, at the pixels


@lru_cache(maxsize=2)
def _back_projector(size: int, angles: int, bins: int) -> BackProjector:
    grid = 2 * fft.next_fast_len(ceil(OVERSAMPLING * size / 2), real=True)
    length = fft.next_fast_len(2 * bins, real=True)
    # Frequencies on the lines, along columns and down rows, in cells of the grid: (angles, radii).
    radius, theta = np.arange(length // 2 + 1), np.arange(angles)[:, None] * np.pi / angles
    across, down = -radius * grid / length * np.cos(theta), radius * grid / length * np.sin(theta)
    radius = radius / length  # cycles per bin
    windows = (1 + np.cos(2 * pi * radius)) / 2 * np.sinc(radius) ** 2  # Hann; linear interpolation between bins
    filtered = _ramp(length) * windows * size * pi / angles
    filtered[0] /= 2  # the inverse FFT of half a plane counts every other frequency twice
    half = size // 2 - (size - 1) / 2  # pixel, from which the centre of an even image is off the grid
    transfer = filtered * np.exp(2j * pi * ((across + down) * half / grid - radius * (bins - 1) / 2))
    beta = pi * sqrt((WIDTH * (1 - size / (2 * grid))) ** 2 - 0.8)  # aliases least (Beatty et al., equation 5)
    cells, weights = [], []
    for frequency in (down.ravel(), across.ravel()):
        near = np.ceil(frequency - WIDTH / 2)[:, None] + np.arange(WIDTH)
        root = np.sqrt(np.maximum(1 - (2 * (near - frequency[:, None]) / WIDTH) ** 2, 0))
        weights.append(special.i0(beta * root))  # Kaiser-Bessel window of WIDTH cells
        cells.append(near)
    weight = (weights[0][:, :, None] * weights[1][:, None]).astype(np.float32).ravel()
    cell = ((cells[0][:, :, None] + WIDTH // 2) * grid + (cells[1] % grid)[:, None]).astype(np.int32).ravel()
    first, shape = np.arange(0, weight.size + 1, WIDTH**2), ((grid // 2 + 1 + 2 * (WIDTH // 2)) * grid, down.size)
    spread = sparse.csc_array((weight, cell, first), shape).tocsr()
    z = np.emath.sqrt(beta**2 - (pi * WIDTH * (np.arange(size) - size // 2) / grid) ** 2)
    line = (WIDTH * np.sinh(z) / z).real  # Fourier transform of the window
    gain = 1 / np.outer(line, line).astype(np.float32)
    return BackProjector(grid, length, transfer.astype(np.complex64), spread, gain)


def _ramp(length: int) -> np.ndarray:
    """Transfer function of the band-limited ramp, for bins of width 1."""
    n = np.arange(length)
    n = np.minimum(n, length - n)
    kernel = np.where(n % 2, -1 / (pi * np.maximum(n, 1)) ** 2, 0)
    kernel[0] = 1 / 4
    return fft.rfft(kernel).real


def steps(image, image_id, noise):
    """Show what is measured of one image (s, s): ``{title: (angles, bins) array}``, line integrals."""
    whole = measure(image[None], noise)
    return {"sinogram": whole[0], "measured sinogram": low_dose(whole, [image_id], noise)[0]}
