"""Chapter 02: what a faster or gentler scan would have given.

A kind of noise is a module of this folder with a settings class and three functions: ``measure(images, noise)``, the
complete measurement, which is the same at every level; ``restore(measured, ids, noise, size)``, the images from what a
level leaves of it; and ``steps(image, image_id, noise)``, pictures of both. It has a line in `KINDS`. Images that were
made elsewhere (`given`) are read, and not computed.
"""

from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from reconfair import data, params, quality, store, tables
from reconfair.data import elsewhere
from reconfair.noise import gaussian, given, kspace, sinogram
from reconfair.params import ParamsError, Section, Study
from reconfair.store import Product, Work

CHUNK = 32


class NoNoise(Section):
    """``noise: none``: nothing is degraded or reconstructed, originals alone are judged."""

    kind: Literal["none"]
    COLOUR: ClassVar = True  # images may have three channels

    @property
    def level(self) -> str:
        """Name of the noise level."""
        return "originals"


KINDS = {"kspace": kspace, "sinogram": sinogram, "gaussian": gaussian}  # that are computed
params.NOISES |= {"none": NoNoise, "kspace": kspace.KSpace, "sinogram": sinogram.Sinogram}
params.NOISES |= {"gaussian": gaussian.Gaussian, "given": given.Given}
# The level without noise and those that the paper looks at; the settings of its published code.
LEVELS = {"kspace": ("acceleration", (1, 4, 8, 16)), "sinogram": ("photons", (1e12, 1e5, 1e4, 3e3))}
LEVELS |= {"gaussian": ("sigma", (0, 0.05, 0.1, 0.2))}
SIMULATES = {"kspace": ("mri", "undersampling of MRI"), "sinogram": ("xray", "X-ray with few photons")}
PUBLISHED = {"kspace": {"angles": "uniform", "magnitude": "real_part"}, "sinogram": {"physics": "as_published"}}


def degrade(images: np.ndarray, ids, noise) -> np.ndarray:
    """Degrade images as the section `noise` says.

    Parameters
    ----------
    images : ndarray
        (n, size, size), of colour (n, 3, size, size), within [0, 1].
    ids : sequence of str
        Image ids: they key the draws, so an image meets the same noise in any company.
    noise : kspace.KSpace, sinogram.Sinogram or gaussian.Gaussian

    Returns
    -------
    ndarray
        Of the same shape, float32; clipped by Gaussian noise alone.

    Raises
    ------
    ParamsError
        The noisy images of `noise` were made elsewhere.
    """
    return levels(images, ids, [noise])[0]


def levels(images: np.ndarray, ids, noises) -> list[np.ndarray]:
    """Degrade images at several levels of one kind; what the levels share is computed once.

    Parameters are those of `degrade`, with a list of sections `noise`, in the order of which the
    degraded images are returned. What a scan measures at all (``angles``) must be the same in all.
    """
    images = np.asarray(images, np.float32)
    check(images, colour=all(getattr(noise, "COLOUR", False) for noise in noises))
    if len(ids) != len(images):
        raise ValueError(f"{len(images)} images need {len(images)} ids, found {len(ids)}")
    if any(noise.kind == "given" for noise in noises):
        raise ParamsError("noise.kind: given images are read from files; no other image can be degraded as they were")
    if len({(noise.kind, getattr(noise, "angles", None)) for noise in noises}) != 1:
        raise ValueError("levels of one kind and with the same angles are expected, for they share a measurement")
    physics = KINDS[noises[0].kind]
    measured = physics.measure(images, noises[0])
    return [physics.restore(measured, ids, noise, images.shape[-1]) for noise in noises]


def ladder(noise) -> list:
    """Return the level without noise and the paper's three, the other settings being those of the section `noise`.

    Of images that were made elsewhere there are two levels, ``original`` and the given one.
    """
    if noise.kind == "given":
        return [noise.model_copy(update={"level": "original"}), noise]
    key, values = LEVELS[noise.kind]
    return [noise.model_copy(update={key: value}) for value in values]


def as_published(noise):
    """Return the section `noise` with the settings of the paper's published code."""
    return noise.model_copy(update=PUBLISHED.get(noise.kind, {}))


def at_levels(study: Study, rows, noises) -> list[np.ndarray]:
    """Images `rows` of the cohort at several levels of noise, float32; images made elsewhere are read.

    Parameters
    ----------
    study : Study
    rows : ndarray of int
    noises : list
        Sections as `ladder` returns them.
    """
    cohort = data.load(study)
    originals = np.asarray(cohort.images[rows], np.float32)
    if study.noise.kind != "given":
        return levels(originals, cohort.table.image_id.iloc[rows], noises)
    noisy = np.asarray(load(study)[rows], np.float32)
    return [noisy if section == study.noise else originals for section in noises]


def power_spectrum(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of errors by spatial frequency: the texture of noise.

    Parameters
    ----------
    errors : ndarray
        (n, size, size), of colour (n, 3, size, size).

    Returns
    -------
    frequency, power : ndarray
        (size // 2,) each: rings of one cycle per image up to the Nyquist frequency, in cycles per pixel,
        and the mean squared Fourier coefficient in each. White noise has its variance in every ring.

    Examples
    --------
    >>> white = np.random.default_rng(0).normal(0, 0.1, (50, 64, 64))
    >>> bool(np.allclose(power_spectrum(white)[1], 0.01, rtol=0.2))
    True
    """
    size = errors.shape[-1]
    errors = errors.reshape(-1, size, size)  # channels are like images
    power = (np.abs(np.fft.fft2(errors, norm="ortho")) ** 2).mean(0)
    along = np.fft.fftfreq(size, 1 / size)
    ring = np.rint(np.hypot(along, along[:, None])).astype(int)
    rings = np.arange(1, size // 2 + 1)
    mean = np.bincount(ring.ravel(), power.ravel())[rings] / np.bincount(ring.ravel())[rings]
    return rings / size, mean


def steps(image: np.ndarray, image_id: str, noise) -> dict[str, np.ndarray]:
    """Pictures of what is measured of one image, (size, size) or of colour (3, size, size), by title.

    There are none where noisy images were made elsewhere: nothing is known of the measurement.
    """
    if noise.kind == "given":
        return {}
    return KINDS[noise.kind].steps(np.asarray(image, np.float32), image_id, noise)


def check(images: np.ndarray, colour: bool = True) -> None:
    """Refuse what is no stack of square images within [0, 1], of one channel or, with `colour`, of three.

    Raises
    ------
    ValueError
        In one sentence: what was found, and what was expected.
    """
    coloured = colour and images.ndim == 4 and images.shape[1] == 3
    if not (images.ndim == 3 or coloured) or images.shape[-2] != images.shape[-1]:
        shapes = "(n, size, size)" + " or (n, 3, size, size)" * colour
        raise ValueError(f"expected square images of shape {shapes}, found {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("images hold NaN or infinite values; expected values within [0, 1]")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        span = f"[{images.min():g}, {images.max():g}]"
        raise ValueError(f"images lie within {span}; expected [0, 1]: scale by minimum and maximum first")


@store.once
def product(study: Study) -> Product:
    """The noisy images of all splits, and the quality of those that are judged; replicates of a study share them."""
    kind = study.noise.kind
    if kind == "none":
        kinds = ", ".join([*KINDS, "given"])
        raise ParamsError(f"noise: none, but this needs noisy images; give noise a kind: {kinds}")
    folder = store.outputs() / study.label / "noise" / study.noise.level
    if kind == "given":
        place = {"chapter": "02", "run": study.label, "folder": folder, "name": "noisy"}
        job = f"noise/{study.noise.level}"
        return elsewhere.product(study, study.noise, "noisy", "all", **place, job=job, code=(given.__name__,))
    return Product(
        chapter="02",
        run=study.label,
        folder=folder,
        name="noisy",
        write=partial(_write, study),
        parameters=study.noise.model_dump(mode="json"),
        code=(__name__, KINDS[kind].__name__, "reconfair.quality", "reconfair.keyed"),
        needs=(data.product(study),),
        job=f"noise/{study.noise.level}",
        work=partial(_work, study),
        command=study.command,
    )


def products(study: Study) -> list[Product]:
    """What this chapter makes."""
    return [product(study)] if study.noise.kind != "none" else []


def remarks(study: Study) -> list[str]:
    """A sentence where the noise is that of another modality than the images; this is allowed.

    Examples
    --------
    >>> remarks(params.study(dataset={"name": "phantom_mri"}, noise={"kind": "sinogram"}))
    ['noise.kind: sinogram simulates X-ray with few photons, and the images are of modality mri; kspace is usual']
    """
    kind, modality = study.noise.kind, study.dataset.about.modality
    place, what = SIMULATES.get(kind, (modality, ""))
    usual = next((other for other, (place, _) in SIMULATES.items() if place == modality), kind)
    sentence = f"noise.kind: {kind} simulates {what}, and the images are of modality {modality}; {usual} is usual"
    return [sentence] if place != modality else []


def _work(study: Study) -> Work:
    """Pixels to degrade; the number of projections grows with the side as well."""
    size = study.dataset.size
    pixels = data.sizes(study)["all"] * np.prod(study.dataset.shape) / 1e6
    angles = size / 256 if study.noise.kind == "sinogram" else 1
    return Work(f"noisy {study.noise.kind}", pixels * angles, 1.1, 700, 2 * pixels)


def prepare(study: Study) -> np.ndarray:
    """Make the noisy images unless they are fresh, and open them; print the `remarks`."""
    for line in remarks(study):
        print(line)
    store.make(product(study))
    return load(study)


def load(study: Study) -> np.ndarray:
    """Open the noisy images of all splits, in the order of the cohort. They are made first where they are missing."""
    return np.load(store.ready(product(study)) / "noisy.npy", mmap_mode="r")


def _write(study: Study, folder: Path) -> None:
    cohort = data.load(study)
    noisy = store.Growing(folder / "noisy.npy", cohort.images.shape, np.float16)
    starts = range(store.resume(CHUNK, noisy), len(cohort.images), CHUNK)
    degraded = partial(_chunk, study, data.product(study).folder / "images.npy", cohort.table.image_id.to_numpy())
    degrade(cohort.images[:1], cohort.table.image_id[:1], study.noise)  # builds the tables that threads share
    for images in store.parallel(degraded, starts, f"noise {study.noise.level}", study.compute.workers, threads=True):
        noisy.append(images)
    images = np.load(folder / "noisy.npy", mmap_mode="r")
    rows = data.rows(cohort.table, "eval")  # nobody is judged on the others
    rated = quality.rate(cohort.table.iloc[rows], cohort.images, images, "noisy", rows=(rows, rows))
    tables.write(rated, "quality", folder)


def _chunk(study: Study, path: Path, ids: np.ndarray, start: int) -> np.ndarray:
    at = slice(start, start + CHUNK)
    images = np.load(path, mmap_mode="r")  # opened anew, so that pages once read do not stay
    return degrade(images[at], ids[at], study.noise)
