"""Image quality: PSNR and SSIM against closed forms."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import ttest_ind
from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity as lpips
from torchvision.models import AlexNet_Weights, alexnet

from reconfair import quality

SIZE = 32


@pytest.fixture
def pictures():
    return np.random.default_rng(0).random((3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def table():
    return pd.DataFrame(
        {"image_id": list("abc"), "patient_id": list("xyz"), "split": ["val", "test", "test"], "sex": "male"}
    )


def constant(value):
    return np.full((SIZE, SIZE), value, np.float32)


@pytest.mark.parametrize(("error", "decibels"), [(0.1, 20), (0.01, 40), (1, 0)])
def test_psnr_of_a_uniform_error(error, decibels):
    assert quality.psnr(constant(0), constant(error)) == pytest.approx(decibels, abs=1e-4)


def test_equal_images_are_perfect(pictures):
    assert quality.psnr(pictures[0], pictures[0]) == np.inf
    assert quality.ssim(pictures[0], pictures[0]) == pytest.approx(1)


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.8), (0.5, 0.4), (0, 1)])
def test_ssim_of_constant_images_is_that_of_their_luminance(a, b):
    c1 = 0.01**2
    assert quality.ssim(constant(a), constant(b)) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-4)


def test_ssim_is_the_formula_of_wang_with_a_gaussian_window(pictures):
    def mean(image):
        return gaussian_filter(image.astype(float), 1.5, radius=5)

    x, y = pictures[0], 0.7 * pictures[0] + 0.3 * pictures[1]
    mx, my, c1, c2 = mean(x), mean(y), 0.01**2, 0.03**2
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    similar = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert quality.ssim(x, y) == pytest.approx(similar[5:-5, 5:-5].mean(), abs=1e-4)


def test_a_negative_is_less_than_nothing(pictures):
    assert quality.ssim(pictures[0], 1 - pictures[0]) < 0


def test_rows_keep_the_order_of_the_cohort(pictures, table):
    errors = np.array([0.1, 0.01, 0.001])[:, None, None]
    rated = quality.rate(table, np.zeros_like(pictures), np.zeros_like(pictures) + errors, "unet", "reweight")
    assert rated.psnr.to_numpy() == pytest.approx([20, 40, 60], abs=1e-3)
    assert rated[["image_id", "patient_id", "split"]].equals(table[["image_id", "patient_id", "split"]])
    assert set(rated.source) == {"unet"} and set(rated.strategy) == {"reweight"}
    assert list(rated.columns) == ["image_id", "patient_id", "split", "source", "strategy", "psnr", "ssim"]


def test_images_are_clipped_before_they_are_compared(pictures, table):
    binary = np.round(pictures)
    rated = quality.rate(table, binary, np.where(binary > 0, 1.5, -0.5), "noisy")
    assert (rated.psnr == np.inf).all() and rated.ssim.to_numpy() == pytest.approx(1)


def test_rows_of_a_part_of_the_cohort_belong_to_its_images(pictures, table):
    part = table[table.split == "test"]
    rated = quality.rate(part, pictures[1:], pictures[1:].astype(np.float16), "noisy")
    assert rated.index.tolist() == [0, 1] and rated.image_id.tolist() == ["b", "c"] and (rated.psnr > 60).all()


def test_means_of_groups_are_over_patients_with_a_normal_interval():
    rated = pd.DataFrame({"patient_id": list("aabc"), "psnr": [20.0, 30, 35, 45], "ssim": [0.5, 0.7, 0.8, 0.9]})
    cohort = pd.DataFrame({"patient_id": list("abcd"), "sex": ["f", "f", "m", "m"]})
    rows = quality.by_group(rated, cohort, ["sex"]).set_index(["group", "metric"])
    assert rows.value["f", "psnr"] == 30 and rows.value["m", "ssim"] == 0.9
    # Two patients with 25 and 35 dB: the standard error is 5 dB.
    assert rows.low["f", "psnr"] == pytest.approx(30 - 1.96 * 5) and rows.patients["f", "psnr"] == 2


def test_without_its_weights_there_is_no_lpips_and_asking_for_it_says_where_they_belong(
    pictures, table, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "lpips" not in quality.rate(table, pictures, pictures, "unet")
    with pytest.raises(FileNotFoundError, match=r"hub/checkpoints/alexnet-owt-7be5be79\.pth.*LPIPS"):
        quality.lpips(pictures, pictures)


def test_with_weights_lpips_is_that_of_torchmetrics(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network, place = alexnet(), tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(network.state_dict(), place / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(
        AlexNet_Weights.DEFAULT, "get_state_dict", lambda **_: torch.load(place / "alexnet-owt-7be5be79.pth")
    )
    originals, images = np.random.default_rng(0).random((2, 35, 64, 64)).astype(np.float32)
    rows = pd.DataFrame({key: [str(k) for k in range(35)] for key in ("image_id", "patient_id", "split")})
    rated = quality.rate(rows, originals, images, "unet").lpips
    pair = (torch.from_numpy(x[[33]])[:, None].expand(-1, 3, -1, -1) for x in (originals, images))
    assert rated[33] == pytest.approx(float(lpips(*pair, net_type="alex", normalize=True)), abs=1e-6)
    assert (quality.lpips(originals[:2], originals[:2]) == 0).all() and (rated > 0).all()


def test_infinite_psnr_enters_no_mean_and_is_counted():
    table = pd.DataFrame({"patient_id": ["a", "a", "b"], "sex": ["female", "female", "male"]})
    rated = table[["patient_id"]].assign(psnr=[30.0, np.inf, 20.0], ssim=[0.5, 1.0, 0.4])
    rows = quality.by_group(rated, table, ["sex"]).set_index(["group", "metric"])
    assert rows.value["female", "psnr"] == 30 and rows.infinite["female", "psnr"] == 1
    assert rows.infinite["male", "psnr"] == 0 and rows.value["female", "ssim"] == 0.75


def test_sources_are_compared_on_the_same_images():
    rated = pd.DataFrame(
        {"image_id": list("abcabc"), "patient_id": list("ppqppq"), "source": ["noisy"] * 3 + ["unet"] * 3}
    )
    rated = rated.assign(psnr=[np.inf, 30.0, 20.0, 44.0, 32.0, 22.0], ssim=[1.0, 0.5, np.nan, 0.9, 0.6, 0.7])
    same, table = quality.comparable(rated), pd.DataFrame({"patient_id": list("pq"), "sex": ["female", "male"]})
    assert same.psnr.fillna(0).tolist() == [0, 30, 20, 0, 32, 22] and same.ssim.fillna(0).tolist() == [
        1,
        0.5,
        0,
        0.9,
        0.6,
        0,
    ]
    for _, rows in same.groupby("source"):
        counts = quality.by_group(rows, table, ["sex"]).set_index(["group", "metric"]).infinite
        assert counts["female", "psnr"] == 1 and counts["male", "ssim"] == 1 and counts["male", "psnr"] == 0


def test_the_gap_in_psnr_is_that_of_the_means_over_patients_with_welch_s_p():
    rng = np.random.default_rng(0)
    sex = np.repeat(["female", "male", "male"], [40, 30, 30])
    rated = pd.DataFrame({"patient_id": np.arange(100), "psnr": rng.normal(30 + (sex == "male"), 1 + (sex == "male"))})
    table = pd.DataFrame({"patient_id": np.arange(100), "sex": sex, "race": ["White"] * 99 + ["Asian"]})
    twice = pd.concat([rated, rated])  # a patient's images count once
    found = quality.gaps(twice, table, ["sex", "race"])
    welch = ttest_ind(rated.psnr[sex == "female"], rated.psnr[sex == "male"], equal_var=False)
    assert found.attribute.tolist() == ["sex"]  # one patient is no group
    assert found.p.item() == pytest.approx(welch.pvalue) and found.best.item() == "male"
    assert found.gap.item() == pytest.approx(rated.psnr[sex == "male"].mean() - rated.psnr[sex == "female"].mean())
    assert found.percent.item() == pytest.approx(100 * found.gap.item() / rated.psnr.mean())
