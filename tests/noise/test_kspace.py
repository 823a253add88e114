from itertools import pairwise

import numpy as np
import pytest

from reconfair.noise import degrade, kspace
from reconfair.noise.kspace import KSpace

SIZES = (32, 33, 64, 101)


def _images(n=3, size=64, seed=0):
    return np.random.default_rng(seed).random((n, size, size), np.float32)


def _ids(images):
    return [f"image-{i}" for i in range(len(images))]


def to_image(k):
    """Inverse of `kspace.to_kspace`."""
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, (-2, -1)), norm="ortho"), (-2, -1))


def _psnr(x, y):
    return -10 * np.log10(np.mean((x - y) ** 2))


def test_spokes_at_256_pixels_are_those_of_the_methods():
    assert [kspace.spokes(256, acceleration) for acceleration in (4, 8, 16)] == [64, 31, 15]


@pytest.mark.parametrize("acceleration", (4, 8, 16))
def test_one_spoke_fewer_samples_less_than_asked(acceleration):
    # Asking for one sample more than n spokes have gives n + 1: so the counts are walked one by one.
    fractions, asked = {}, 1 / 40
    while acceleration * asked < 1.2:
        fraction = kspace.radial_mask(256, 1 / asked).mean()
        fractions[kspace.spokes(256, 1 / asked)] = fraction
        asked = fraction + 1 / 256**2
    counts = list(fractions)
    assert counts == list(range(counts[0], counts[0] + len(counts)))
    n = kspace.spokes(256, acceleration)
    assert fractions[n - 1] < 1 / acceleration <= fractions[n]


@pytest.mark.parametrize("angles", ("golden", "uniform"))
@pytest.mark.parametrize("size", SIZES)
def test_mask_keeps_what_was_asked_and_the_centre(size, angles):
    for acceleration in (1.3, 2, 4, 8, 16, 64):
        mask = kspace.radial_mask(size, acceleration, angles)
        assert mask.shape == (size, size)
        assert mask.mean() >= 1 / acceleration
        assert mask[size // 2, size // 2]


@pytest.mark.parametrize("size", SIZES)
def test_golden_masks_are_nested(size):
    masks = [kspace.radial_mask(size, acceleration) for acceleration in (16, 8, 4, 2, 1)]
    assert all((few <= many).all() and few.sum() < many.sum() for few, many in pairwise(masks))


@pytest.mark.parametrize("size", SIZES)
def test_mask_stays_within_the_inscribed_circle(size):
    rows, columns = np.nonzero(kspace.radial_mask(size, 1.3)) - np.float64(size // 2)
    assert np.hypot(rows, columns).max() <= size // 2 + np.sqrt(0.5)


def test_two_uniform_spokes_are_the_axes():
    mask = kspace.radial_mask(64, 64 / 1.98, "uniform")
    cross = np.zeros((64, 64), bool)
    cross[32] = cross[:, 32] = True
    assert kspace.spokes(64, 64 / 1.98, "uniform") == 2
    assert (mask == cross).all()


@pytest.mark.parametrize("size", SIZES)
def test_mask_is_point_symmetric_so_real_images_stay_real(size):
    images = _images(size=size)
    zero_filled = to_image(kspace.to_kspace(images) * kspace.radial_mask(size, 4))
    np.testing.assert_allclose(zero_filled.imag, 0, atol=1e-6)


def test_masks_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError):
        kspace.radial_mask(64, 4)[0, 0] = True


@pytest.mark.parametrize("acceleration", (0.5, 1.01, 1.29))
def test_unreachable_acceleration_is_refused(acceleration):
    with pytest.raises(ValueError, match=r"acceleration.*1\.3"):
        kspace.radial_mask(64, acceleration)


@pytest.mark.parametrize("size", SIZES)
def test_fully_sampled_is_the_identity(size):
    images = _images(size=size)
    assert kspace.radial_mask(size, 1).all()
    np.testing.assert_allclose(degrade(images, _ids(images), KSpace(acceleration=1)), images, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_transform_keeps_energy_and_inverts(size):
    images = _images(size=size)
    k = kspace.to_kspace(images)
    assert k.dtype == np.complex64
    np.testing.assert_allclose(np.sum(np.abs(k) ** 2, (1, 2)), np.sum(images**2, (1, 2)), rtol=1e-5)
    np.testing.assert_allclose(to_image(k), images, atol=1e-6)


def test_point_in_the_middle_has_flat_kspace():
    image = np.zeros((1, 32, 32), np.float32)
    image[0, 16, 16] = 1
    np.testing.assert_allclose(kspace.to_kspace(image), 1 / 32, atol=1e-7)


@pytest.mark.parametrize(("v", "u"), [(0, 5), (1, 0), (20, 13), (27, 3), (9, -22), (31, 31)])
def test_wave_survives_only_where_it_is_sampled(v, u):
    y, x = np.mgrid[:64, :64]
    wave = (0.5 + 0.5 * np.cos(2 * np.pi * (u * x + v * y) / 64)).astype(np.float32)[None]
    sampled = kspace.radial_mask(64, 8)[32 + v, 32 + u]
    expected = wave if sampled else np.full_like(wave, 0.5)
    np.testing.assert_allclose(degrade(wave, ["wave"], KSpace(acceleration=8)), expected, atol=1e-6)


def test_constant_image_stays_constant():
    images = np.full((1, 33, 33), 0.7, np.float32)
    np.testing.assert_allclose(degrade(images, ["flat"], KSpace(acceleration=16)), 0.7, atol=1e-6)


def test_quality_falls_with_acceleration():
    y, x = np.mgrid[:64, :64] / 64 - 0.5
    image = (np.hypot(x / 0.8, y) < 0.4).astype(np.float32)[None]
    psnr = [_psnr(image, degrade(image, ["disc"], KSpace(acceleration=r))) for r in (1.5, 2, 4, 8, 16)]
    assert all(better > worse for better, worse in pairwise(psnr))


def test_real_part_is_the_magnitude_up_to_its_sign():
    images = np.zeros((2, 64, 64), np.float32)
    images[:, 20:40, 30:50] = 1  # its edges ring below zero
    magnitude = degrade(images, _ids(images), KSpace(acceleration=8))
    real = degrade(images, _ids(images), KSpace(acceleration=8, magnitude="real_part"))
    assert magnitude.dtype == real.dtype == np.float32
    assert real.min() < 0 <= magnitude.min()
    np.testing.assert_allclose(np.abs(real), magnitude, atol=1e-6)


def test_batch_and_order_change_nothing():
    images, noise = _images(7), KSpace()
    together = degrade(images, _ids(images), noise)
    alone = np.concatenate([degrade(image[None], ["any"], noise) for image in images[::-1]])[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-6)
