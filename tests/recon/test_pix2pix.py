"""Pix2Pix: its two networks, its two optimisers, what it learns, and that a kill does not matter."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn.functional import softplus

from reconfair import training
from reconfair.params import Compute
from reconfair.recon.pix2pix import Discriminator, Generator, Reconstructor, decay

SETTINGS = {"epochs": 1, "batch_size": 4, "lr": 2e-3, "channels": 4, "dropout": 0.5, "l1": 100, "seed": 0}
DRAW = np.random.default_rng(0)
SMOOTH = np.stack([gaussian_filter(DRAW.random((32, 32)), 3) for _ in range(64)]).astype(np.float32)
X = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)
Y = (X + 0.2 * DRAW.standard_normal(X.shape).astype(np.float32)).clip(0, 1)


def build(kind=Reconstructor, seed=0, **settings):
    torch.manual_seed(seed)
    return kind({**SETTINGS, **settings}, 32)


def fit(module, folder, images=12, val=7):
    """Train on the first `images` in batches, with the last `val` for validation."""
    folder.mkdir(exist_ok=True)
    settings, last = module.settings, np.arange(64 - val, 64)
    train = training.loader((Y, X), np.arange(images), settings["batch_size"], settings["seed"])
    loaders = train, training.loader((Y, X), last, settings["batch_size"], shuffle=False)
    training.fit(module, *loaders, folder, settings["epochs"], Compute(device="cpu"), "pix2pix")
    return pd.read_csv(folder / "log.csv")


def batch(*rows):
    return torch.from_numpy(Y[list(rows)]), torch.from_numpy(X[list(rows)])


def weights(network):
    return sum(parameter.numel() for parameter in network.parameters())


# --- networks ---


def test_the_paper_s_generator_has_the_54_million_weights_of_the_reference():
    colour = 2 * 64 * 16 + 2 * (128 * 16 + 1)  # the reference maps three channels to three
    biases = 64 + 512  # of the two layers without norm; the reference leaves them out
    assert weights(Generator(256)) == pytest.approx(54.414e6 - colour + biases, abs=500)


def test_the_paper_s_discriminator_has_the_2_77_million_weights_of_the_reference():
    assert weights(Discriminator()) == pytest.approx(2.769e6 - (6 - 2) * 64 * 16, abs=500)


@pytest.mark.parametrize("size", [32, 64])
def test_an_image_comes_back_at_its_own_size_through_a_single_pixel(size):
    sides, generator = [], Generator(size, 2)
    for down in generator.down:
        down.register_forward_hook(lambda _, inputs, output: sides.append(output.shape[-1]))
    assert generator(torch.zeros(2, 1, size, size)).shape == (2, 1, size, size)
    assert sides == [size // 2**level for level in range(1, size.bit_length())]


def test_channels_double_up_to_eight_times_with_norms_between_the_first_and_the_innermost_layer():
    down = Generator(64, 2).down
    assert [block[0].out_channels for block in down] == [2, 4, 8, 16, 16, 16]
    assert [isinstance(block[1], nn.BatchNorm2d) for block in down] == [False, True, True, True, True, False]


@pytest.mark.parametrize(("size", "logit"), [(128, 4), (128, 7), (128, 8), (64, 0), (64, 5), (32, 0), (32, 1)])
def test_a_logit_sees_70_pixels_of_those_that_there_are(size, logit):
    torch.manual_seed(0)
    judge = Discriminator(2)
    for place, layer in enumerate(judge):
        if isinstance(layer, nn.BatchNorm2d):  # its means see the whole image
            judge[place] = nn.Identity()
    pair = torch.rand(2, 1, 1, size, size, requires_grad=True)
    judge(*pair)[0, 0, logit, logit].backward()
    first = 8 * logit - (1 + 2 + 4 + 8 + 8)  # strides multiply, and each layer is padded by one
    expected = np.arange(max(first, 0), min(first + 70, size))
    for image in pair.grad[:, 0, 0]:
        for axis in (0, 1):
            assert np.array_equal(np.flatnonzero(image.abs().sum(axis)), expected)


def test_weights_start_with_an_sd_of_0_02():
    module = build(channels=32)
    for mean, kinds in ((0, nn.Conv2d | nn.ConvTranspose2d), (1, nn.BatchNorm2d)):
        layers = [layer for layer in module.modules() if isinstance(layer, kinds)]
        drawn = torch.cat([layer.weight.detach().flatten() for layer in layers]) - mean
        assert abs(drawn.mean()) < 4 * 0.02 / len(drawn) ** 0.5
        assert abs(drawn.std() / 0.02 - 1) < 4 / (2 * len(drawn)) ** 0.5
        assert all(layer.bias is None or not layer.bias.any() for layer in layers)


def test_the_range_is_that_of_the_images():
    module = build().eval()
    with torch.no_grad():
        module.generator.last[1].weight.mul_(1e9)
        x_hat = module.reconstruct(torch.tensor([-1e6, 0, 1, 1e6]).view(4, 1, 1, 1).expand(-1, 1, 32, 32), range(4))
    assert x_hat.min() == 0 and x_hat.max() == 1


@pytest.mark.parametrize(("size", "nearest"), [(16, "32 or 64"), (48, "32 or 64"), (100, "64 or 128"), (0, "32 or 64")])
def test_a_size_that_is_no_power_of_two_is_refused(size, nearest):
    with pytest.raises(ValueError, match=rf"{nearest}\b.*\b{size}\b"):
        Reconstructor(SETTINGS, size)


# --- loss and optimisers ---


def test_the_objective_is_the_generator_s_with_one_evaluation():
    module, (noisy, original), calls = build(l1=7).eval(), batch(0, 1, 2), []
    module.generator.register_forward_hook(lambda *_: calls.append(1))
    losses, x_hat = module.objective((noisy, original))
    assert len(calls) == 1 and x_hat.shape == (3, 1, 32, 32)
    image = x_hat.detach()
    probability = 1 / (1 + np.exp(-module.discriminator(noisy[:, None], image).detach().double().numpy()))
    absolute = np.abs(image[:, 0].numpy() - original.numpy()).mean((1, 2))
    assert losses.tolist() == pytest.approx(-np.log(probability).mean((1, 2, 3)) + 7 * absolute, rel=1e-5)
    for value in (losses.mean(), x_hat.sum()):
        gradients = torch.autograd.grad(value, list(module.generator.parameters()), retain_graph=True)
        assert all(gradient.any() for gradient in gradients)


def test_dropout_acts_where_2_4_and_8_pixels_are_made():
    sides, generator = [], Generator(64, 2)
    for layer in generator.modules():
        if isinstance(layer, nn.Dropout) and layer.p:
            assert layer.p == 0.5
            layer.register_forward_hook(lambda _, inputs, output: sides.append(output.shape[-1]))
    generator(torch.zeros(2, 1, 64, 64))
    assert sides == [2, 4, 8]


def test_dropout_is_on_in_training_alone():
    module, (noisy, _) = build(), batch(0, 1)
    assert not torch.equal(module(noisy[:, None]), module(noisy[:, None]))
    module.eval()
    assert torch.equal(module(noisy[:, None]), module(noisy[:, None]))


@pytest.mark.parametrize("still", [0, 1])
def test_neither_optimiser_touches_the_weights_of_the_other(tmp_path, still):
    module = build()
    before, optimisers = deepcopy(module), module.configure_optimizers()
    optimisers[still].step = lambda *_, **__: None
    module.configure_optimizers = lambda: optimisers
    fit(module, tmp_path)
    for network, moves in (("generator", still == 1), ("discriminator", still == 0)):
        pairs = zip(getattr(before, network).parameters(), getattr(module, network).parameters(), strict=True)
        assert all(torch.equal(old, new) != moves for old, new in pairs)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not list(module.discriminator.buffers())
    assert {
        layer.num_batches_tracked.item() for layer in module.generator.modules() if hasattr(layer, "running_mean")
    } == {3}


def test_the_step_of_the_generator_leaves_no_gradient_in_the_discriminator(tmp_path):
    module, left = build(), []
    optimisers, judge = module.configure_optimizers(), module.discriminator
    optimisers[0].step = lambda *_, **__: left.extend(parameter.grad for parameter in judge.parameters())
    module.configure_optimizers = lambda: optimisers
    fit(module, tmp_path, images=4)
    assert left and all(gradient is None for gradient in left)


def test_training_is_that_of_two_networks_kept_apart(tmp_path):
    module = build(dropout=0)
    G, D = (
        deepcopy(network).to(memory_format=torch.channels_last) for network in (module.generator, module.discriminator)
    )
    adams = [torch.optim.Adam(network.parameters(), 2e-3, (0.5, 0.999)) for network in (G, D)]
    for step, rows in enumerate(training.Batches(np.arange(12), 4, 0)):
        y, x = (images[:, None] for images in batch(*rows))
        x_hat = G(y)
        loss = softplus(-D(y, x_hat)).mean() + 100 * (x - x_hat).abs().mean()
        judged = 0.5 * softplus(-D(y, x)).mean() + 0.5 * softplus(D(y, x_hat.detach())).mean()
        slopes = [torch.autograd.grad(value, list(net.parameters())) for value, net in ((loss, G), (judged, D))]
        for adam, gradients in zip(adams, slopes, strict=True):
            for parameter, gradient in zip(adam.param_groups[0]["params"], gradients, strict=True):
                parameter.grad = gradient
            adam.param_groups[0]["lr"] = 2e-3 * decay(step / 3, 1)
            adam.step()
    fit(module, tmp_path)
    for ours, theirs in ((module.generator, G), (module.discriminator, D)):
        for name, value in ours.state_dict().items():
            assert torch.allclose(value, theirs.state_dict()[name], atol=1e-4), name


def test_each_epoch_logs_the_losses_of_both(tmp_path):
    module = build(lr=1e-12)  # nothing moves
    with torch.no_grad():
        module.discriminator[-1].weight.zero_()
        module.discriminator[-1].bias.fill_(1)
    log = fit(module, tmp_path).iloc[0]
    assert log.train_adversarial == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-5)
    assert log.train_discriminator == pytest.approx((np.log(1 + np.exp(-1)) + np.log(1 + np.e)) / 2, rel=1e-5)
    assert log.train_generator - log.train_adversarial == pytest.approx(100 * np.abs(X[:12] - 0.5).mean(), rel=0.1)


def test_the_best_weights_are_those_of_the_smallest_mean_absolute_error(tmp_path):
    log = fit(build(epochs=3), tmp_path)
    best = training.load(tmp_path / "best.ckpt", build(seed=1))
    x_hat = best.reconstruct(torch.from_numpy(Y[-7:, None]), range(7))[:, 0].numpy()
    assert np.abs(x_hat - X[-7:]).mean() == pytest.approx(log.val_loss.min(), rel=1e-5)


def test_the_learning_rate_is_constant_for_one_half_and_then_falls_linearly():
    paper = [2e-4 * decay(epoch, 200) for epoch in (0, 99, 100, 101, 150, 199)]
    assert paper == pytest.approx([2e-4, 2e-4, 2e-4, 1.98e-4, 1e-4, 2e-6])
    assert decay(0, 1) == 1 and decay(7, 5) == 0


def test_both_optimisers_follow_the_learning_rate_within_epochs_too(tmp_path):
    seen = []

    class Watched(Reconstructor):
        def on_train_epoch_end(self):
            seen.append([optimiser.param_groups[0]["lr"] for optimiser in self.optimizers()])

    fit(build(Watched, epochs=4), tmp_path, images=8)  # two steps an epoch
    assert np.allclose(seen, [[2e-3] * 2, [2e-3] * 2, [1.5e-3] * 2, [0.5e-3] * 2])


# --- what it learns, and what a kill leaves ---


def test_it_learns_to_remove_noise(tmp_path):
    module = build(channels=8, epochs=30, batch_size=8)
    fit(module, tmp_path, images=48, val=16)
    best = training.load(tmp_path / "best.ckpt", module)
    restored = best.reconstruct(torch.from_numpy(Y[48:, None]), range(16))[:, 0].numpy()
    error = ((restored - X[48:]) ** 2).mean()
    assert error < 0.1 * ((Y[48:] - X[48:]) ** 2).mean()
    assert error < 0.5 * ((X[48:] - X[:48].mean(0)) ** 2).mean()  # no mean image for all


def test_an_image_is_reconstructed_alike_in_any_batch():
    module, y = build(), torch.from_numpy(Y[:7, None])
    with torch.no_grad():
        module.generator.last[1].weight.mul_(100)  # images that differ
        for _ in range(50):  # running statistics that matter
            module(y)
        module.eval()
        whole = module.reconstruct(y, range(7))
        alone = torch.cat([module.reconstruct(y[k : k + 1], [0]) for k in range(7)])
    assert torch.allclose(whole, alone, atol=1e-5)
    assert whole.std(0).mean() > 0.01


def test_an_interrupted_training_ends_with_the_weights_of_one_never_interrupted(tmp_path):
    class Mortal(Reconstructor):
        def training_step(self, batch, batch_idx):
            if self.current_epoch == 2 and batch_idx == 1:
                raise InterruptedError
            return super().training_step(batch, batch_idx)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    log = fit(build(epochs=4), whole)
    with pytest.raises(InterruptedError):
        fit(build(Mortal, epochs=4), killed)
    torch.rand(5)  # the global stream has moved on
    pd.testing.assert_frame_equal(fit(build(epochs=4, seed=1), killed), log)
    for name in ("best.ckpt", ".last.ckpt"):
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (whole, killed))
        for key, value in ours["state_dict"].items():
            assert torch.equal(value, theirs["state_dict"][key]), key
    for one, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        assert all(torch.equal(state["exp_avg"], other["state"][key]["exp_avg"]) for key, state in one["state"].items())


@pytest.mark.parametrize("judge", [False, True], ids=["generator", "discriminator"])
def test_a_loss_that_is_not_finite_stops_with_its_place_and_keeps_the_last_epoch(tmp_path, judge):
    module = build(epochs=3)

    def spoil(_, inputs, logits):
        return logits * float("nan") if module.current_epoch == 1 and inputs[1].requires_grad != judge else logits

    module.discriminator.register_forward_hook(spoil)  # x_hat has a gradient in the generator's step alone
    with pytest.raises(FloatingPointError, match="epoch 2, step 1"):
        fit(module, tmp_path)
    assert pd.read_csv(tmp_path / "log.csv").epoch.tolist() == [1]
    for name in ("best.ckpt", ".last.ckpt"):
        state = torch.load(tmp_path / name, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())
