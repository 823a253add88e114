from itertools import pairwise

import numpy as np
import pytest
import skimage
from scipy import stats
from scipy.ndimage import gaussian_filter1d

from reconfair.noise import degrade, sinogram
from reconfair.noise.sinogram import Sinogram


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


def _check_against_scikit_image(image, angles=256):
    size, theta = len(image), np.arange(angles) * 180 / angles
    lines = skimage.transform.radon(image, theta, circle=False)
    theirs = skimage.transform.iradon(lines, theta, filter_name="hann", circle=False, output_size=size)
    ours = sinogram.filtered_back_projection(sinogram.radon(image[None], angles), size)[0]
    assert abs(_psnr(ours, image) - _psnr(theirs, image)) < 0.2


@pytest.mark.parametrize("folder", ("lgg/kaggle_3m/*/*_1[05].tif", "nih/images/*00.png"))
def test_back_projection_of_real_scans_is_as_good_as_that_of_scikit_image(real_data, folder):
    for path in sorted(real_data.glob(folder))[:2]:
        scan = skimage.io.imread(path).astype(np.float32)
        scan = scan[..., 0] if scan.ndim == 3 else scan
        _check_against_scikit_image((scan - scan.min()) / (scan.max() - scan.min()))


@pytest.mark.parametrize(("size", "angles"), ((31, 40), (32, 40)))
def test_back_projection_is_the_sum_over_angles(size, angles):
    # The textbook's loop: filter each projection, read it off at every pixel, interpolating linearly.
    bins = sinogram.radon(np.zeros((1, size, size), np.float32), 2).shape[-1]
    lines = gaussian_filter1d(np.random.default_rng(0).random((2, angles, bins)), 3, mode="constant").astype(np.float32)
    n = np.arange(-bins + 1, bins)
    ramp = np.where(n % 2, -1 / (np.pi * np.where(n, n, 1)) ** 2, 0) + (n == 0) / 4
    ramp = np.convolve(ramp, [0.25, 0.5, 0.25], "same")  # Hann's window is this mean of three neighbours
    x, y = (np.arange(size) - (size - 1) / 2)[None], -(np.arange(size) - (size - 1) / 2)[:, None]
    expected = np.zeros((2, size, size))
    for k in range(angles):
        at = x * np.cos(k * np.pi / angles) + y * np.sin(k * np.pi / angles) + (bins - 1) / 2
        for image, line in zip(expected, lines[:, k], strict=True):
            image += np.interp(at, np.arange(bins), np.convolve(line, ramp)[bins - 1 : 2 * bins - 1])
    expected *= np.pi / angles * size
    error = sinogram.filtered_back_projection(lines, size) - expected
    assert np.sqrt(np.mean(error**2)) < 0.01 * expected.std()


def test_bowtie_falls_smoothly_to_its_edge():
    profile = sinogram.bowtie(101, 0.2)
    assert profile[50] == 1
    assert profile[0] == profile[-1] == pytest.approx(0.2)
    assert (np.diff(profile[50:]) < 0).all()
    np.testing.assert_allclose(profile, profile[::-1])
    np.testing.assert_array_equal(sinogram.bowtie(11, 1), 1)


def test_counts_have_the_mean_and_variance_of_poisson_under_the_bowtie():
    noise, flat = _noise(photons=1000, bowtie=0.2, attenuation=1), np.full((32, 21), 0.5, np.float32)
    counts = np.stack([sinogram.photon_counts(flat, image, noise)[0] for image in range(500)])
    draws = counts.transpose(2, 0, 1).reshape(21, -1)
    expected = 1000 * np.exp(-0.5) * 0.2 ** np.linspace(-1, 1, 21) ** 2
    np.testing.assert_allclose(draws.mean(1), expected, atol=5 * np.sqrt(expected.max() / draws.shape[1]))
    np.testing.assert_allclose(draws.var(1), expected, rtol=5 * np.sqrt(2 / draws.shape[1]))


@pytest.mark.parametrize("mean", (0.3, 7, 16, 23.4, 150, 4000))
def test_photons_are_poisson(mean):
    draws = sinogram.poisson(np.full(400_000, mean, np.float32), np.random.default_rng(1))
    assert (draws == np.rint(draws)).all() and draws.min() >= 0
    law = stats.poisson(np.float32(mean))
    edges = np.unique(law.ppf(np.linspace(0.005, 0.995, 40)))
    observed = np.bincount(np.searchsorted(edges, draws), minlength=len(edges) + 1)
    expected = len(draws) * np.diff(np.concatenate([[0], law.cdf(edges), [1]]))
    assert stats.chisquare(observed, expected).pvalue > 0.01


def test_the_expansion_is_as_near_to_poisson_as_it_says():
    w = np.linspace(-7, 7, 2_000_001)
    for mean, off in ((16, 1 / 3_800), (32, 1 / 11_000)):
        mass = np.bincount(sinogram.quantile(mean, w).astype(int).clip(0), np.diff(stats.norm.cdf(w), prepend=0), 200)
        assert 0.8 * off < np.abs(mass[:200] - stats.poisson.pmf(np.arange(200), mean)).sum() / 2 < off


def test_noise_of_different_images_levels_and_seeds_is_unrelated():
    flat, draws = np.full((64, 91), 0.25, np.float32), []
    for image_id, changes in (("a", {}), ("b", {}), ("a", {"seed": 1}), ("a", {"bowtie": 0.21})):
        noise = _noise(**changes)
        counts, _ = sinogram.photon_counts(flat, image_id, noise)
        draws.append((counts / (np.exp(-1) * 1e4 * sinogram.bowtie(91, noise.bowtie))).ravel())
    correlation = np.corrcoef(draws)
    np.testing.assert_allclose(correlation[~np.eye(4, dtype=bool)], 0, atol=5 / np.sqrt(64 * 91))


def test_noise_variance_is_inverse_to_the_dose():
    images, ids = np.repeat(_disc(64)[None] / 2, 16, 0), [f"disc-{i}" for i in range(16)]
    doses = np.array([1e4, 1e5, 1e6])
    variances = [degrade(images, ids, _noise(photons=dose)).var(0).mean() for dose in doses]
    slope = np.polyfit(np.log(doses), np.log(variances), 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)


@pytest.mark.parametrize("bowtie", (0.05, 0.2, 1))
def test_unlimited_dose_is_plain_back_projection_whatever_the_bowtie(bowtie):
    images = np.stack([_gaussian(64), _disc(64)])
    plain = sinogram.filtered_back_projection(sinogram.radon(images, 64), 64)
    np.testing.assert_allclose(degrade(images, "ab", _noise(photons=1e12, bowtie=bowtie)), plain, atol=1e-4)


def test_quality_falls_with_the_dose():
    image = _disc(64)[None]
    psnr = [_psnr(image, degrade(image, ["disc"], _noise(photons=i))) for i in (1e6, 1e5, 1e4, 3e3, 300)]
    assert all(better > worse for better, worse in pairwise(psnr))


def test_the_published_noise_is_mostly_its_shape_over_the_angles():
    # Oblique projections lose up to 95 % whatever the dose; what the dose adds is a fraction of a decibel.
    image = skimage.transform.resize(skimage.data.shepp_logan_phantom(), (128, 128), anti_aliasing=True)
    image = image[None].astype(np.float32)

    def psnr(**changes):
        return _psnr(image, degrade(image, ["head"], _noise(angles=256, **changes)))

    published = [psnr(photons=dose, physics="as_published") for dose in (1e12, 1e5, 1e4, 3e3)]
    assert published[0] < psnr(photons=1e12) - 5  # the shape alone
    assert 0 < published[0] - published[3] < 1  # all that the dose adds


def test_the_published_noise_is_poisson_on_scaled_line_integrals():
    lines = np.full((300, 64, 11), 0.5, np.float32)
    lines[:, :, 5] = 2  # the largest is scaled to I0
    noise = _noise(photons=400, physics="as_published")
    counts = sinogram.low_dose(lines, range(300), noise) * 400 / 2
    shape = np.maximum(np.abs(np.linspace(-1, 1, 64)), 0.05)
    for column, share in ((5, 1), (3, 0.25)):
        expected = 400 * share * shape
        np.testing.assert_allclose(counts[:, :, column].mean(0), expected, atol=5 * np.sqrt(expected.max() / 300))
        np.testing.assert_allclose(counts[:, :, column].var(0) / expected, 1, atol=0.5)


def test_published_images_run_from_0_to_1():
    images = np.stack([_gaussian(32), np.zeros((32, 32), np.float32)])
    noisy = degrade(images, "ab", _noise(physics="as_published"))
    assert (noisy[0].min(), noisy[0].max()) == (0, 1) and (noisy[1] == 0).all()


def test_a_bin_without_photons_counts_as_one():
    noise = _noise(photons=100, bowtie=1, attenuation=1)
    lines = sinogram.low_dose(np.full((1, 8, 9), 50, np.float32), ["black"], noise)
    np.testing.assert_allclose(lines, np.log(100), rtol=1e-6)


def test_batch_and_order_change_nothing():
    images = np.random.default_rng(0).random((7, 64, 64), np.float32)
    ids, noise = [f"image-{i}" for i in range(7)], _noise()
    together = degrade(images, ids, noise)
    alone = [degrade(images[i : i + 1], ids[i : i + 1], noise)[0] for i in range(7)]
    back = degrade(images[::-1], ids[::-1], noise)[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(back, together, atol=1e-6)


@pytest.mark.parametrize("size", (33, 48))
def test_constant_images_of_any_size_work(size):
    images = np.stack([np.zeros((size, size), np.float32), np.ones((size, size), np.float32)])
    noisy = degrade(images, ["black", "white"], _noise(photons=1e9))
    assert noisy.dtype == np.float32
    assert noisy.shape == images.shape
    inner = slice(size // 4, -size // 4)
    np.testing.assert_allclose(noisy[:, inner, inner], images[:, inner, inner], atol=0.02)


def test_ids_must_match_images():
    with pytest.raises(ValueError):
        degrade(np.zeros((2, 32, 32), np.float32), ["only one"], _noise())
