"""Images in colour, from noise to figures: three channels are treated as one image, and grey ones as before."""

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from reconfair import figures, noise, params, quality, recon, training
from reconfair.data import elsewhere
from reconfair.diagnosis import classify, given, segment
from reconfair.noise import gaussian
from reconfair.params import ParamsError

RNG = np.random.default_rng(0)
COLOURED = RNG.random((4, 3, 32, 32), np.float32)
HOSPITAL = {"name": "table", "size": 32, "channels": 3, "age": None, "race": None}
SMALL = {
    "seed": 0,
    "lr": 1e-3,
    "batch_size": 2,
    "epochs": 1,
    "channels": 8,
    "depth": 2,
    "patch": 1,
    "dropout": 0,
    "l1": 100,
}
READER = {"architecture": "resnet18", "pretrained": False, "size": 0, "value_range": None, "seed": 0, "lr": 1e-3}


def test_noise_of_each_channel_is_independent_and_clipped():
    section = gaussian.Gaussian(kind="gaussian", sigma=0.5)
    noisy = noise.degrade(COLOURED, list("abcd"), section)
    assert noisy.shape == COLOURED.shape and noisy.min() == 0 and noisy.max() == 1
    draws = noise.degrade(np.full((1, 3, 32, 32), 0.5), ["a"], section.model_copy(update={"sigma": 0.05}))[0] - 0.5
    assert draws.std(axis=(1, 2)) == pytest.approx([0.05] * 3, rel=0.05)
    between = np.corrcoef(draws.reshape(3, -1))[np.triu_indices(3, 1)]
    assert np.abs(between).max() < 0.06
    assert noise.power_spectrum(draws[None])[1] == pytest.approx(0.0025, rel=0.5)


@pytest.mark.parametrize("kind", ["kspace", "sinogram"])
def test_physics_of_one_channel_refuses_three(kind):
    with pytest.raises(ParamsError) as error:
        params.study(dataset=HOSPITAL, noise={"kind": kind})
    assert all(word in str(error.value) for word in ("noise.kind", kind, "channels is 3", "gaussian"))
    grey = params.study(dataset=HOSPITAL | {"channels": 1}, noise={"kind": kind}).noise
    with pytest.raises(ValueError, match=r"\(n, size, size\)"):
        noise.degrade(COLOURED, list("abcd"), grey)


def test_weights_of_radiographs_refuse_colour():
    chosen = {"classify": {"architecture": "densenet121", "pretrained": "xrv-all"}}
    with pytest.raises(ParamsError, match=r"diagnosis.classify.pretrained: xrv-all"):
        params.study(dataset=HOSPITAL, noise="none", diagnosis=chosen)


def test_quality_is_that_of_scikit_image_with_a_channel_axis():
    noisy = (COLOURED + RNG.normal(0, 0.1, COLOURED.shape)).clip(0, 1).astype(np.float32)
    table = pd.DataFrame({"image_id": list("abcd"), "patient_id": list("abcd"), "split": "test"})
    rated = quality.rate(table, COLOURED, noisy, "noisy")
    how = {"data_range": 1, "channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for k in range(4):
        pair = [images[k].transpose(1, 2, 0) for images in (COLOURED, noisy)]
        assert rated.psnr[k] == pytest.approx(peak_signal_noise_ratio(*pair, data_range=1), rel=1e-5)
        assert rated.ssim[k] == pytest.approx(structural_similarity(*pair, **how), rel=1e-4)


@pytest.mark.parametrize("model", ["unet", "pix2pix", "sde"])
def test_a_reconstructor_maps_colour_to_colour_and_learns_from_all_channels(model):
    torch.manual_seed(0)
    module = recon.reconstructor(model)({**SMALL, "inputs": 3, "steps": 10}, 32)
    if model == "sde":
        torch.nn.init.normal_(module.net.last[-1].weight)  # zero at first, which lets no gradient pass
    noisy, original = torch.from_numpy(COLOURED[:2]), torch.from_numpy(COLOURED[2:])
    losses, x_hat = module.objective((noisy, original))
    assert losses.shape == (2,) and x_hat.shape == noisy.shape
    losses.mean().backward()
    first = next(layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d))
    assert (first.weight.grad.abs().sum((0, 2, 3)) > 0).all()
    with torch.inference_mode():
        answer = module.eval().reconstruct(noisy, [1, 2])
    assert answer.shape == noisy.shape and answer.min() >= 0 and answer.max() <= 1


def test_readers_see_three_channels_and_each_has_its_own_range():
    module = classify.Diagnoser({**READER, "tasks": ["a", "b"], "inputs": 3})
    seen = []
    module.net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0]))
    module(torch.zeros(2, 3, 32, 32))
    expected = [-mean / sd for mean, sd in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx(expected)
    outlined = segment.Diagnoser({"encoder": "resnet18", "decoder": [16] * 5, "inputs": 3}).eval()
    assert outlined.diagnose(torch.from_numpy(COLOURED)).shape == (4, 32, 32)
    assert module.loss((torch.from_numpy(COLOURED), torch.zeros(4, 2))).isfinite()


def test_a_model_of_one_channel_is_refused_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Reader:\n"
        "    def diagnose(self, images):\n"
        "        return torch.nn.functional.conv2d(images, torch.ones(1, 1, 32, 32))[:, :, 0, 0].sigmoid()\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = {"model": "mine.py:Reader", "kind": "classify", "tasks": ["a"]}
    given.check(given.diagnoser(settings), 32)
    with pytest.raises(ValueError, match=r"mine\.py:Reader: given .*channels.*expected probabilities"):
        given.check(given.diagnoser(settings | {"inputs": 3}), 32)


def test_stored_images_are_widened_and_narrowed():
    grey, coloured = np.zeros((2, 8, 8)), np.zeros((2, 3, 8, 8))
    assert training.widen(grey).shape == (2, 1, 8, 8) and training.widen(coloured) is coloured
    assert training.narrow(training.widen(grey)).shape == grey.shape and training.narrow(coloured) is coloured


def test_figures_show_colours_and_the_mean_difference():
    assert figures.as_drawn(COLOURED[0]).shape == (32, 32, 3)
    assert figures.as_drawn(COLOURED[0], differs=True) == pytest.approx(COLOURED[0].mean(axis=0))
    figure = figures.comparison(COLOURED[:2], {"noisy": COLOURED[2:]}, ["a", "b"])
    drawn = [axis.images[0].get_array().shape for axis in figure.axes if axis.images]
    assert drawn[:3] == [(32, 32, 3), (32, 32, 3), (32, 32)]


def test_given_images_are_read_in_colour(tmp_path):
    np.save(tmp_path / "a.npy", (COLOURED[0].transpose(1, 2, 0) * 255).astype(np.uint8))
    dataset = params.study(dataset=HOSPITAL, noise="none").dataset
    settings = elsewhere.Given(kind="given", folder=str(tmp_path), path="{image_id}.npy", window=(0, 255))
    row = pd.DataFrame({"given": [str(tmp_path / "a.npy")]})
    image = elsewhere.read(dataset, settings, next(row.itertuples()))
    assert image == pytest.approx(COLOURED[0], abs=1 / 254)
