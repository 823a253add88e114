from itertools import pairwise

import numpy as np
import pytest
import skimage

from reconfair.noise import sinogram
from reconfair.params import Sinogram


def _noise(**changes):
    return Sinogram(kind="sinogram", **({"angles": 64} | changes))


def _grid(size):
    """Pixel centres, x to the right and y up, the side of the image being 1."""
    centres = (np.arange(size) + 0.5) / size - 0.5
    return centres[None, :], -centres[:, None]


def _detector(angles, size):
    bins = sinogram.radon(np.zeros((1, size, size), np.float32), angles).shape[-1]
    return np.arange(angles)[:, None] * np.pi / angles, (np.arange(bins) - (bins - 1) / 2) / size


def _disc(size, radius=0.35):
    x, y = _grid(8 * size)
    return (np.hypot(x, y) < radius).reshape(size, 8, size, 8).mean((1, 3), dtype=np.float32)


def _gaussian(size, x0=0.15, y0=-0.1, sigma=0.07):
    x, y = _grid(size)
    return np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2)).astype(np.float32)


def _gaussian_sinogram(angles, size, x0=0.15, y0=-0.1, sigma=0.07):
    theta, t = _detector(angles, size)
    offset = t - x0 * np.cos(theta) - y0 * np.sin(theta)
    return (np.sqrt(2 * np.pi) * sigma * np.exp(-(offset**2) / (2 * sigma**2))).astype(np.float32)


def _psnr(x, y):
    return -10 * np.log10(np.mean((x - y) ** 2))


@pytest.mark.parametrize("size", (64, 65, 128))
def test_disc_projects_to_its_chords(size):
    lines = sinogram.radon(_disc(size)[None], 45)[0]
    _, t = _detector(45, size)
    chords = 2 * np.sqrt(np.maximum(0.35**2 - t**2, 0))
    smooth = np.abs(np.abs(t) - 0.35) > 2 / size  # at the rim the chord has a vertical slope
    np.testing.assert_allclose(lines[:, smooth], np.tile(chords[smooth], (45, 1)), atol=0.01 * 0.7)
    np.testing.assert_allclose(lines.sum(-1) / size, np.pi * 0.35**2, rtol=0.01)


@pytest.mark.parametrize("size", (64, 65, 128))
def test_gaussian_off_centre_projects_to_gaussians(size):
    expected = _gaussian_sinogram(45, size)
    lines = sinogram.radon(_gaussian(size)[None], 45)[0]
    np.testing.assert_allclose(lines, expected, atol=0.01 * expected.max())


@pytest.mark.parametrize("size", (64, 65))
def test_corners_are_measured_at_every_angle(size):
    image = np.zeros((1, size, size), np.float32)
    image[0, :4, :4] = 1
    lines = sinogram.radon(image, 32)[0]
    np.testing.assert_allclose(lines.sum(-1) / size, 16 / size**2, rtol=0.1)


@pytest.mark.parametrize("size", (64, 65, 128))
def test_back_projection_recovers_a_gaussian_from_its_closed_form(size):
    recovered = sinogram.filtered_back_projection(_gaussian_sinogram(180, size, sigma=0.1)[None], size)[0]
    np.testing.assert_allclose(recovered, _gaussian(size, sigma=0.1), atol=0.02)


@pytest.mark.parametrize("size", (64, 128))
def test_back_projection_is_as_good_as_that_of_scikit_image(size):
    phantom = skimage.transform.resize(skimage.data.shepp_logan_phantom(), (size, size), anti_aliasing=True)
    phantom, theta = phantom.astype(np.float32), np.arange(128) * 180 / 128
    theirs = skimage.transform.iradon(skimage.transform.radon(phantom, theta), theta, filter_name="hann")
    ours = sinogram.filtered_back_projection(sinogram.radon(phantom[None], 128), size)[0]
    assert abs(_psnr(ours, phantom) - _psnr(theirs, phantom)) < 0.2


def test_bowtie_falls_smoothly_to_its_edge():
    profile = sinogram.bowtie(101, 0.2)
    assert profile[50] == 1
    assert profile[0] == profile[-1] == pytest.approx(0.2)
    assert (np.diff(profile[50:]) < 0).all()
    np.testing.assert_allclose(profile, profile[::-1])
    np.testing.assert_array_equal(sinogram.bowtie(11, 1), 1)


def test_counts_have_the_mean_and_variance_of_poisson_under_the_bowtie():
    noise = _noise(photons=1000, bowtie=0.2)
    counts = sinogram.photon_counts(np.full((500, 32, 21), 0.5, np.float32), range(500), noise)
    draws = counts.transpose(2, 0, 1).reshape(21, -1)
    expected = 1000 * np.exp(-0.5) * 0.2 ** np.linspace(-1, 1, 21) ** 2
    np.testing.assert_allclose(draws.mean(1), expected, atol=5 * np.sqrt(expected.max() / draws.shape[1]))
    np.testing.assert_allclose(draws.var(1), expected, rtol=5 * np.sqrt(2 / draws.shape[1]))


def test_noise_of_different_images_levels_and_seeds_is_unrelated():
    flat, draws = np.ones((1, 64, 91), np.float32), []
    for image_id, changes in (("a", {}), ("b", {}), ("a", {"seed": 1}), ("a", {"bowtie": 0.21})):
        noise = _noise(**changes)
        counts = sinogram.photon_counts(flat, [image_id], noise)
        draws.append((counts / (np.exp(-1) * 1e4 * sinogram.bowtie(91, noise.bowtie))).ravel())
    correlation = np.corrcoef(draws)
    np.testing.assert_allclose(correlation[~np.eye(4, dtype=bool)], 0, atol=5 / np.sqrt(64 * 91))


def test_noise_variance_is_inverse_to_the_dose():
    images, ids = np.repeat(_disc(64)[None] / 2, 16, 0), [f"disc-{i}" for i in range(16)]
    doses = np.array([1e4, 1e5, 1e6])
    variances = [sinogram.degrade(images, ids, _noise(photons=dose)).var(0).mean() for dose in doses]
    slope = np.polyfit(np.log(doses), np.log(variances), 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)


@pytest.mark.parametrize("bowtie", (0.05, 0.2, 1))
def test_unlimited_dose_is_plain_back_projection_whatever_the_bowtie(bowtie):
    images = np.stack([_gaussian(64), _disc(64)])
    plain = sinogram.filtered_back_projection(sinogram.radon(images, 64), 64)
    np.testing.assert_allclose(sinogram.degrade(images, "ab", _noise(photons=1e12, bowtie=bowtie)), plain, atol=1e-4)


def test_quality_falls_with_the_dose():
    image = _disc(64)[None]
    psnr = [_psnr(image, sinogram.degrade(image, ["disc"], _noise(photons=i))) for i in (1e6, 1e5, 1e4, 3e3, 300)]
    assert all(better > worse for better, worse in pairwise(psnr))


def test_a_bin_without_photons_counts_as_one():
    noise = _noise(photons=100, bowtie=1)
    lines = sinogram.low_dose(np.full((1, 8, 9), 50, np.float32), ["black"], noise)
    np.testing.assert_allclose(lines, np.log(100), rtol=1e-6)


def test_batch_and_order_change_nothing():
    images = np.random.default_rng(0).random((7, 64, 64), np.float32)
    ids, noise = [f"image-{i}" for i in range(7)], _noise()
    together = sinogram.degrade(images, ids, noise)
    alone = [sinogram.degrade(images[i : i + 1], ids[i : i + 1], noise)[0] for i in range(7)]
    back = sinogram.degrade(images[::-1], ids[::-1], noise)[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(back, together, atol=1e-6)


@pytest.mark.parametrize("size", (33, 48))
def test_constant_images_of_any_size_work(size):
    images = np.stack([np.zeros((size, size), np.float32), np.ones((size, size), np.float32)])
    noisy = sinogram.degrade(images, ["black", "white"], _noise(photons=1e9))
    assert noisy.dtype == np.float32
    assert noisy.shape == images.shape
    inner = slice(size // 4, -size // 4)
    np.testing.assert_allclose(noisy[:, inner, inner], images[:, inner, inner], atol=0.02)


def test_ids_must_match_images():
    with pytest.raises(ValueError):
        sinogram.degrade(np.zeros((2, 32, 32), np.float32), ["only one"], _noise())
