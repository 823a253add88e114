"""Degrading images: what is no stack of images is refused in one sentence; the rest keeps its shape."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from reconfair import data, noise, params
from reconfair.noise.kspace import KSpace
from reconfair.noise.sinogram import Sinogram

KSPACE, SINOGRAM = KSpace(acceleration=4), Sinogram(kind="sinogram", angles=48, photons=1e5)
both = pytest.mark.parametrize("kind", [KSPACE, SINOGRAM], ids=["kspace", "sinogram"])


def images(n=3, size=32):
    return np.random.default_rng(0).random((n, size, size), np.float32)


def names(n=3):
    return [f"image-{i}" for i in range(n)]


def spoiled(value):
    wrong = images()
    wrong[1, 2, 3] = value
    return wrong


# What the message holds: the value that is wrong, and what was expected.
WRONG = {
    "not a number": (spoiled(np.nan), ("NaN", "[0, 1]")),
    "infinite": (spoiled(np.inf), ("infinite", "[0, 1]")),
    "negative": (spoiled(-0.25), ("[-0.25, ", "[0, 1]")),
    "too bright": (spoiled(1.5), (", 1.5]", "[0, 1]")),
    "8 bits": ((images() * 255).astype(np.uint8), (", 254]", "[0, 1]")),
    "16 bits": (np.full((1, 32, 32), 65535, np.uint16), ("[65535, 65535]", "[0, 1]")),
    "not square": (images()[:, :30], ("(n, size, size)", "(3, 30, 32)")),
    "one image": (images()[0], ("(n, size, size)", "(32, 32)")),
    "channels": (images()[:, None], ("(n, size, size)", "(3, 1, 32, 32)")),
}


@both
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_stack_of_images_is_refused(kind, wrong):
    stack, named = WRONG[wrong]
    with pytest.raises(ValueError) as error:
        noise.degrade(stack, names(len(stack)), kind)
    assert all(words in str(error.value) for words in named) and "\n" not in str(error.value)


@both
@pytest.mark.parametrize("n", [2, 4])
def test_every_image_needs_an_id(kind, n):
    with pytest.raises(ValueError, match=rf"\b3\b.*\b{n}\b"):
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
    seen = noise.degrade(constant, ["a"], Sinogram(kind="sinogram", angles=48, photons=1e8))
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


@pytest.mark.parametrize("settings", [{"acceleration": (4, 8)}, {"photons": (1e5, 3e3), "angles": (48, 48)}], ids=str)
def test_levels_computed_together_are_those_computed_alone(settings):
    kind = KSpace if "acceleration" in settings else partial(Sinogram, kind="sinogram")
    noises = [kind(**dict(zip(settings, values, strict=True))) for values in zip(*settings.values(), strict=True)]
    for together, level in zip(noise.levels(images(), names(), noises), noises, strict=True):
        assert (together == noise.degrade(images(), names(), level)).all()


def test_levels_share_a_measurement():
    with pytest.raises(ValueError, match="angles"):
        noise.levels(images(), names(), [SINOGRAM, SINOGRAM.model_copy(update={"angles": 64})])


@pytest.mark.parametrize("kind", [{"kind": "kspace"}, {"kind": "sinogram", "angles": 16}], ids=lambda k: k["kind"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_run_goes_on_and_ends_with_the_very_same_images(outputs, monkeypatch, kind, workers):
    name = "phantom_mri" if kind["kind"] == "kspace" else "phantom_xray"
    dataset = {"name": name, "size": 64, "patients": 100, **({"slices": 1} if name == "phantom_mri" else {})}
    study = params.study(dataset=dataset, noise=kind, compute={"workers": workers})
    cohort = data.prepare(study)
    whole, made = noise.degrade(cohort.images, cohort.table.image_id, study.noise).astype(np.float16), []

    def dies(images, ids, settings):
        if 0 not in made and ids[0] == cohort.table.image_id[64]:
            made.append(0)
            raise KeyboardInterrupt
        made.append(ids[0] if len(ids) > 1 else None)
        return degrade(images, ids, settings)

    degrade = noise.degrade
    monkeypatch.setattr(noise, "degrade", dies)
    with pytest.raises(KeyboardInterrupt):
        noise.prepare(study)
    assert (noise.prepare(study) == whole).all()
    if workers == 1:
        assert made.count(cohort.table.image_id[0]) == 1, "what was done is not done again"


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


@both
def test_the_ladder_begins_without_noise_and_keeps_the_other_settings(kind):
    ladder = noise.ladder(noise.as_published(kind))
    level = [section.level for section in ladder]
    assert level == [
        f"x{r}_angles-uniform_magnitude-real_part" if kind is KSPACE else f"{r}_angles-48_physics-as_published"
        for r in ((1, 4, 8, 16) if kind is KSPACE else ("1e12", "1e5", "1e4", "3e3"))
    ]


def test_the_power_spectrum_finds_a_wave_at_its_frequency():
    wave = np.sin(2 * np.pi * 5 * np.arange(64) / 64) * np.ones((64, 1))
    frequency, power = noise.power_spectrum(wave[None])
    assert frequency[power.argmax()] == 5 / 64 and power[4] > 1e6 * np.delete(power, 4).max()
