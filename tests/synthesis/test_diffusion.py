"""The generator: forward process, sampling, conditions, and training that can be killed."""

import copy
import math

import numpy as np
import pytest
import torch

from reconfair.synthesis.diffusion import STEPS, Denoiser, Generator, Schedule, ddim

SETTINGS = {"cells": [[0, 0], [0, 1], [1, 0], [1, 1]], "factors": [2, 2], "colours": 1, "channels": 8, "widths": [1, 2]}
SETTINGS |= {"blocks": 1, "attention": [4], "patch": 2, "lr": 1e-3, "ema": 0.9, "seed": 0, "guidance": 1.5, "steps": 4}


def generator(seed=0, **changes):
    torch.manual_seed(seed)
    module = Generator(SETTINGS | changes, 16).eval()
    for network in (module.net, module.average.module):
        torch.nn.init.normal_(network.last.weight, std=0.1, generator=torch.Generator().manual_seed(seed))
    return module


def test_the_forward_process_has_its_closed_form():
    beta = np.linspace(1e-4, 0.02, STEPS)
    schedule, x0 = Schedule(), torch.full((1, 1, 1, 1), 0.7)
    for t in (1, 2, 400, STEPS):
        mean, sd = schedule.marginal(t, x0)
        assert mean.item() == pytest.approx(0.7 * math.sqrt(np.prod(1 - beta[:t])), rel=1e-5)
        assert sd.item() == pytest.approx(math.sqrt(1 - np.prod(1 - beta[:t])), rel=1e-4)
    # step by step, x_t = sqrt(1 - beta) x_(t-1) + sqrt(beta) noise, it is the same
    x, draw = np.full(20_000, 0.7), np.random.default_rng(0)
    for b in beta[:300]:
        x = np.sqrt(1 - b) * x + np.sqrt(b) * draw.standard_normal(len(x))
    mean, sd = schedule.marginal(300, x0)
    assert x.mean() == pytest.approx(mean.item(), abs=0.03) and x.std() == pytest.approx(sd.item(), abs=0.02)


@pytest.mark.parametrize(("cell", "means", "shares"), [("a", (-0.8, 0.4), (0.3, 0.7)), ("b", (0.1, 0.9), (0.5, 0.5))])
def test_with_the_exact_score_of_a_mixture_sampling_returns_the_mixture(cell, means, shares):
    schedule, sd0 = Schedule(), 0.1
    mu, share = torch.tensor(means), torch.tensor(shares)

    def noise_hat(x, t):
        scale, sd = (value.flatten() for value in schedule.scales(t))
        variance = scale**2 * sd0**2 + sd**2
        apart = x[..., None] - scale * mu
        weight = (share.log() - apart**2 / (2 * variance)).softmax(-1)
        return sd * (weight * apart).sum(-1) / variance  # - sd times the score

    x_T = torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    *_, (t, x, _) = ddim(noise_hat, x_T, schedule, 100, clip=False)
    assert t == 0
    upper = x > sum(means) / 2
    assert upper.float().mean().item() == pytest.approx(shares[1], abs=0.03)
    for some, mean in zip((x[~upper], x[upper]), means, strict=True):
        assert some.mean().item() == pytest.approx(mean, abs=0.02) and some.std().item() == pytest.approx(sd0, abs=0.02)


def test_samples_depend_on_their_seed_alone_and_not_on_the_batch():
    module, cell = generator(), torch.tensor([0, 1, 2, 3])
    together = module.sample(cell, [5, 6, 7, 8])
    alone = torch.cat([module.sample(cell[k : k + 1], [5 + k]) for k in range(4)])
    assert torch.allclose(together, alone, atol=2e-3) and together.shape == (4, 1, 16, 16)
    assert not torch.allclose(together, module.sample(cell, [9, 10, 11, 12]), atol=1e-2)
    assert together.min() >= 0 and together.max() <= 1


def test_guidance_is_a_dial_between_no_cell_and_the_cell():
    module, cell, x = generator(), torch.tensor([1]), torch.randn(1, 1, 16, 16)
    without, given = module.noise_hat_of(x, 500, 4), module.noise_hat_of(x, 500, cell)
    assert not torch.allclose(without, given, atol=1e-4)
    for guidance in (0, 0.5, 1, 1.5):
        expected = without + guidance * (given - without)
        assert torch.allclose(module.guided(x, 500, cell, guidance), expected, atol=1e-5)


def test_a_velocity_means_the_noise_that_it_was_made_of():
    module, (x0, noise) = generator(), torch.randn(2, 5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 10, 300, 700, STEPS])
    scale, sd = module.schedule.scales(t)
    meant = module.meant(scale * x0 + sd * noise, t, scale * noise - sd * x0)
    assert torch.allclose(meant, noise, atol=1e-5)


def test_gradient_norms_of_a_training_step_are_those_of_its_loss():
    module = generator(gradient_norms=True).train()
    norms, images = [], torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1))
    module.norms.add = norms.append
    loss = module.training_step((images, torch.tensor([2])), 0)["loss"]
    slopes = torch.autograd.grad(loss, module.net.last.parameters())
    assert norms[0][2].item() == pytest.approx(math.sqrt(sum(slope.square().sum() for slope in slopes)), rel=1e-4)
    assert norms[0][[0, 1, 3]].isnan().all()


@pytest.mark.parametrize("colours", [1, 3])
def test_the_network_sees_cell_and_time_in_one_and_three_channels(colours):
    net = Denoiser(colours, 16, [2, 3], 8, (1, 2, 2), 2, (4, 8), 1)
    torch.nn.init.normal_(net.last.weight, std=0.1)
    x, codes = torch.randn(2, colours, 16, 16), torch.tensor([[0, 1], [1, 2]])
    first = net(x, torch.tensor([10, 10]), codes)
    assert first.shape == x.shape
    assert not torch.allclose(first, net(x, torch.tensor([10, 10]), torch.tensor([[0, 1], [1, 1]])))
    assert not torch.allclose(first, net(x, torch.tensor([900, 900]), codes))


def test_colour_is_drawn_and_learned_in_three_channels():
    module = generator(colours=3)
    assert module.sample(torch.tensor([0, 3]), [1, 2]).shape == (2, 3, 16, 16)
    module.train().log = lambda *args, **kwargs: None
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    module.training_step((images, torch.arange(4)), 0)["loss"].backward()
    slopes = module.net.first.weight.grad.unflatten(1, (3, -1)).abs().sum((0, 2, 3, 4))
    assert (slopes > 0).all()  # each channel of the input is used


def test_images_that_cannot_be_halved_are_refused_with_the_nearest_size():
    with pytest.raises(ValueError, match=r"synthesis\.widths.*16.*such as 16, not 20"):
        Denoiser(1, 20, [2], 8, (1, 1, 1, 1), 1, (), 2)


@pytest.mark.parametrize("recipe", [{}, {"gradient_norms": True, "diversity": 1.0}, {"fair": True}])
def test_a_step_trains_and_the_recipe_is_in_the_checkpoint(recipe):
    module = generator(**recipe).train()
    module.log = lambda *args, **kwargs: None
    before = copy.deepcopy(module.net.state_dict())
    optimizer, cells = module.configure_optimizers(), torch.tensor([0, 1, 2, 3] * 2)
    images = torch.rand(8, 16, 16, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        parts = module.training_step((images, cells), 0)
        optimizer.zero_grad(), parts["loss"].backward(), optimizer.step()
        module.on_train_batch_end(None, None, 0)
    assert parts.keys() == {"loss", "noise"} | ({"diversity"} if "diversity" in recipe else set())
    assert any(not torch.equal(value, before[key]) for key, value in module.net.state_dict().items())
    saved, other = {}, generator(**recipe)
    module.on_save_checkpoint(saved)
    other.on_load_checkpoint(saved)
    if "gradient_norms" in recipe:
        assert torch.equal(other.norms.hardness(), module.norms.hardness()) and module.norms.hardness().std() > 0
    if "fair" in recipe:
        assert torch.equal(other.fair.sigma, module.fair.sigma) and other.fair.steps == 3
