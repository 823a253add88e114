"""Chapter 02: what a faster or gentler scan would have given.

A kind of noise is a module of this folder with two functions: ``degrade(images, ids, noise)``, and
``steps(image, image_id, noise)``, which shows what is measured of one image.
"""

from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from reconfair import data, quality, store, tables
from reconfair.params import Study

CHUNK = 64


def degrade(images: np.ndarray, ids, noise) -> np.ndarray:
    """Degrade images as the section `noise` says.

    Parameters
    ----------
    images : ndarray
        (n, size, size), within [0, 1].
    ids : sequence of str
        Image ids: they key the draws, so an image meets the same noise in any company.
    noise : params.KSpace or params.Sinogram

    Returns
    -------
    ndarray
        (n, size, size) float32, not clipped.
    """
    images = np.asarray(images, np.float32)
    check(images)
    if len(ids) != len(images):
        raise ValueError(f"{len(images)} images need {len(images)} ids, found {len(ids)}")
    return import_module(f"reconfair.noise.{noise.kind}").degrade(images, ids, noise)


def steps(image: np.ndarray, image_id: str, noise) -> dict[str, np.ndarray]:
    """Pictures of what is measured of one image (size, size), by title."""
    return import_module(f"reconfair.noise.{noise.kind}").steps(np.asarray(image, np.float32), image_id, noise)


def check(images: np.ndarray) -> None:
    """Refuse what is no stack of square images within [0, 1].

    Raises
    ------
    ValueError
        In one sentence: what was found, and what was expected.
    """
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"expected square images of shape (n, size, size), found {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("images hold NaN or infinite values; expected values within [0, 1]")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        found = f"[{images.min():g}, {images.max():g}]"
        raise ValueError(f"images lie within {found}; expected [0, 1]: scale by minimum and maximum first")


def prepare(study: Study) -> np.ndarray:
    """Make the noisy images unless they are fresh, and open them: (n, size, size) float16."""
    store.make(store.flow(study)["noisy"], partial(_write, study))
    return load(study)


def load(study: Study) -> np.ndarray:
    """Open the noisy images of all splits, in the order of the cohort."""
    return np.load(store.flow(study)["noisy"].folder / "noisy.npy", mmap_mode="r")


def _write(study: Study, part: Path) -> None:
    cohort = data.load(study)
    noisy = open_memmap(part / "noisy.npy", "w+", np.float16, cohort.images.shape)
    chunks = [slice(start, start + CHUNK) for start in range(0, len(noisy), CHUNK)]
    degraded = store.parallel(partial(_chunk, study), chunks, f"noise {study.level}", study.compute.workers)
    for at, images in zip(chunks, degraded, strict=True):
        noisy[at] = images
    noisy.flush()
    tables.write(quality.rate(cohort.table, cohort.images, noisy, "noisy"), "quality", part)


def _chunk(study: Study, at: slice) -> np.ndarray:
    cohort = data.load(study)
    return degrade(cohort.images[at], cohort.table.image_id[at], study.noise)
