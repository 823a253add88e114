"""White noise: of the stated size, independent in each pixel, keyed by the image, within [0, 1]."""

import numpy as np
import pytest

from reconfair import noise, params
from reconfair.noise.gaussian import Gaussian
from reconfair.params import ParamsError

GREY = np.full((4, 64, 64), 0.5, np.float32)
IDS = ["a", "b", "c", "d"]


def gaussian(sigma=0.1, **settings):
    return Gaussian(kind="gaussian", sigma=sigma, **settings)


def test_the_noise_is_normal_white_and_of_the_stated_size():
    added = noise.degrade(GREY, IDS, gaussian(0.05)) - GREY
    assert added.std() == pytest.approx(0.05, rel=0.03) and abs(added.mean()) < 0.002
    assert np.mean(np.abs(added) < 0.05) == pytest.approx(0.683, abs=0.02)
    power = noise.power_spectrum(added)[1]
    assert power[2:] == pytest.approx(np.full(len(power) - 2, 0.05**2), rel=0.5)


def test_the_noise_depends_on_the_image_and_the_seed_alone():
    whole = noise.degrade(GREY, IDS, gaussian())
    assert (noise.degrade(GREY[2:3], IDS[2:3], gaussian())[0] == whole[2]).all()
    assert np.corrcoef(whole[0].ravel(), whole[1].ravel())[0, 1] == pytest.approx(0, abs=0.06)
    other = noise.degrade(GREY, IDS, gaussian(seed=1))
    assert np.corrcoef(whole.ravel(), other.ravel())[0, 1] == pytest.approx(0, abs=0.04)


def test_levels_are_clipped_and_draw_alike():
    without, *ladder = noise.ladder(gaussian())
    assert [level.level for level in (without, *ladder)] == ["sigma-0", "sigma-0.05", "sigma-0.1", "sigma-0.2"]
    clean, weak, *_, strong = noise.levels(GREY, IDS, [without, *ladder])
    assert (clean == GREY).all() and np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.98
    black = noise.degrade(0 * GREY, IDS, gaussian(0.5))
    assert black.min() == 0 and black.max() <= 1 and (black == 0).mean() == pytest.approx(0.5, abs=0.02)


def test_a_picture_shows_what_is_added():
    (drawn,) = noise.steps(GREY[0], "a", gaussian()).values()
    added = noise.degrade(GREY[:1], ["a"], gaussian())[0] - GREY[0]
    assert drawn == pytest.approx(np.abs(added), abs=1e-6)


@pytest.mark.parametrize(("key", "value"), [("sigma", -0.1), ("sigma", 0.123456789), ("sgima", 0.1)])
def test_what_is_given_wrong_is_named(key, value):
    with pytest.raises(ParamsError, match=rf"noise.*{key}.*" + ("'sigma'" if key == "sgima" else "")):
        params.study(dataset={"name": "phantom_mri"}, noise={"kind": "gaussian", key: value})
