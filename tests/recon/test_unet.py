"""The U-Net: its shape, what it learns, and that a batch does not matter."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from reconfair.recon.unet import Reconstructor, UNet

SETTINGS = {"epochs": 1, "batch_size": 8, "lr": 3e-3, "channels": 8, "depth": 2, "seed": 0}


def test_the_paper_s_network_has_the_31_million_weights_of_2015():
    weights = sum(parameter.numel() for parameter in UNet(64, 4).parameters())
    assert weights == pytest.approx(31.03e6, rel=0.002)


def test_each_halving_doubles_the_channels():
    with torch.no_grad():
        widths = [block[0].out_channels for block in UNet(4, 3).down]
    assert widths == [4, 8, 16, 32]


@pytest.mark.parametrize("size", [16, 48])
@pytest.mark.parametrize(("patch", "depth"), [(1, 3), (2, 2), (4, 1)])
def test_an_image_comes_back_at_its_own_size(size, patch, depth):
    assert UNet(2, depth, patch)(torch.zeros(1, 1, size, size)).shape == (1, 1, size, size)


def test_a_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match=r"multiple of 4\b.*\b30\b"):
        Reconstructor(SETTINGS, 30)
    with pytest.raises(ValueError, match=r"multiple of 8\b.*\b28\b"):
        Reconstructor({**SETTINGS, "patch": 2}, 28)


def test_the_loss_is_the_mean_squared_error_of_each_image():
    torch.manual_seed(0)
    module = Reconstructor(SETTINGS, 16).eval()
    noisy, original = torch.rand(3, 16, 16), torch.rand(3, 16, 16)
    expected = ((module(noisy[:, None])[:, 0] - original) ** 2).mean((1, 2))
    assert torch.allclose(module.objective((noisy, original))[0], expected)


def test_it_learns_to_remove_noise():
    draw = np.random.default_rng(0)
    smooth = np.stack([gaussian_filter(draw.random((16, 16)), 3) for _ in range(64)]).astype(np.float32)
    x = torch.from_numpy((smooth - smooth.min()) / np.ptp(smooth))
    y = (x + 0.2 * torch.from_numpy(draw.standard_normal(x.shape).astype(np.float32))).clamp(0, 1)
    torch.manual_seed(0)
    module = Reconstructor(SETTINGS, 16)
    optimiser = module.configure_optimizers()
    for step in range(150):
        batch = torch.arange(8) + 8 * (step % 6)
        optimiser.zero_grad()
        module.objective((y[batch], x[batch]))[0].mean().backward()
        optimiser.step()
    unseen = slice(48, 64)
    restored = module.eval().reconstruct(y[unseen][:, None])[:, 0]
    assert ((restored - x[unseen]) ** 2).mean() < 0.25 * ((y[unseen] - x[unseen]) ** 2).mean()


def test_an_image_is_reconstructed_alike_in_any_batch():
    torch.manual_seed(0)
    module, y = Reconstructor(SETTINGS, 32).eval(), torch.rand(7, 1, 32, 32)
    with torch.inference_mode():
        whole = module.reconstruct(y)
        alone = torch.cat([module.reconstruct(y[k : k + 1]) for k in range(7)])
    assert torch.allclose(whole, alone, atol=1e-5)
    assert whole.min() >= 0 and whole.max() <= 1
