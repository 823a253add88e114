"""Degrading images: what is no stack of images is refused in one sentence; the rest keeps its shape."""

import numpy as np
import pandas as pd
import pytest

from reconfair import noise, params

KSPACE, SINOGRAM = params.KSpace(acceleration=4), params.Sinogram(kind="sinogram", angles=48, photons=1e5)
both = pytest.mark.parametrize("kind", [KSPACE, SINOGRAM], ids=["kspace", "sinogram"])


def images(n=3, size=32):
    return np.random.default_rng(0).random((n, size, size), np.float32)


def names(n=3):
    return [f"image-{i}" for i in range(n)]


def spoiled(value):
    wrong = images()
    wrong[1, 2, 3] = value
    return wrong


WRONG = {
    "not a number": (spoiled(np.nan), "images hold NaN or infinite values; expected values within [0, 1]"),
    "infinite": (spoiled(np.inf), "images hold NaN or infinite values; expected values within [0, 1]"),
    "negative": (spoiled(-0.25), "images lie within [-0.25, "),
    "too bright": (spoiled(1.5), ", 1.5]; expected [0, 1]: scale by minimum and maximum first"),
    "8 bits": ((images() * 255).astype(np.uint8), "]; expected [0, 1]: scale by minimum and maximum first"),
    "16 bits": (np.full((1, 32, 32), 65535, np.uint16), "images lie within [65535, 65535]; expected [0, 1]"),
    "not square": (images()[:, :30], "expected square images of shape (n, size, size), found (3, 30, 32)"),
    "one image": (images()[0], "expected square images of shape (n, size, size), found (32, 32)"),
    "channels": (images()[:, None], "expected square images of shape (n, size, size), found (3, 1, 32, 32)"),
}


@both
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_stack_of_images_is_refused(kind, wrong):
    stack, message = WRONG[wrong]
    with pytest.raises(ValueError) as error:
        noise.degrade(stack, names(len(stack)), kind)
    assert message in str(error.value) and "\n" not in str(error.value)


@both
@pytest.mark.parametrize("n", [2, 4])
def test_every_image_needs_an_id(kind, n):
    with pytest.raises(ValueError, match=f"3 images need 3 ids, found {n}"):
        noise.degrade(images(), names(n), kind)


@both
@pytest.mark.parametrize("size", [31, 32, 33])
def test_odd_and_even_sizes_keep_shape_and_place(kind, size):
    # A bright spot stays where it is: half a pixel off would be seen in its centre of mass.
    spot = np.zeros((1, size, size), np.float32)
    spot[0, 9:14, 18:23] = 1
    seen = noise.degrade(spot, ["a"], kind)
    assert seen.shape == spot.shape and seen.dtype == np.float32
    weight = np.where(seen[0] > 0.5, seen[0], 0)
    centre = [(weight.sum(axis) * np.arange(size)).sum() / weight.sum() for axis in (1, 0)]
    assert centre == pytest.approx([11, 20], abs=0.25)


@pytest.mark.parametrize("value", [0, 0.5, 1])
@pytest.mark.parametrize("size", [32, 33])
def test_a_constant_image_survives_undersampling(value, size):
    constant = np.full((1, size, size), value, np.float32)
    assert noise.degrade(constant, ["a"], KSPACE) == pytest.approx(constant, abs=1e-5)


@pytest.mark.parametrize("value", [0, 0.5, 1])
@pytest.mark.parametrize("size", [32, 33])
def test_a_constant_image_survives_few_photons(value, size):
    constant = np.full((1, size, size), value, np.float32)
    seen = noise.degrade(constant, ["a"], params.Sinogram(kind="sinogram", angles=48, photons=1e8))
    inner = seen[:, 8:-8, 8:-8]
    assert inner.mean() == pytest.approx(value, abs=0.02) and inner.std() < 0.02


@both
def test_an_image_meets_the_same_noise_in_any_company(kind):
    x, ids = images(5), names(5)
    whole = noise.degrade(x, ids, kind)
    assert noise.degrade(x[3:4], ids[3:4], kind)[0] == pytest.approx(whole[3], abs=1e-6)
    assert noise.degrade(x[::-1], ids[::-1], kind)[::-1] == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("gathered", [tuple, np.array, pd.Series, lambda ids: pd.Series(ids, index=[7, 8, 9])])
def test_ids_may_come_in_any_sequence(gathered):
    assert (noise.degrade(images(), gathered(names()), SINOGRAM) == noise.degrade(images(), names(), SINOGRAM)).all()


@both
def test_half_precision_is_enough(kind):
    x = images().astype(np.float16)
    assert noise.degrade(x, names(), kind) == pytest.approx(noise.degrade(x.astype(float), names(), kind), abs=1e-6)


@both
def test_steps_show_what_is_measured(kind):
    x = images(1)[0]
    shown = noise.steps(x, "image-0", kind)
    whole, measured = shown.values()
    assert len(shown) == 2 and whole.shape == measured.shape and np.isfinite(measured).all()
    if kind is KSPACE:
        assert whole.shape == x.shape and 0.2 < np.mean(measured > 0) < 0.35 and (measured <= whole).all()
    else:
        assert len(whole) == kind.angles and np.corrcoef(whole.ravel(), measured.ravel())[0, 1] > 0.99
