"""The mean-reverting SDE: schedule, samplers against closed forms, loss, averaged weights, resuming."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from reconfair import training
from reconfair.params import Compute
from reconfair.recon.scorenet import GROUPS, GroupNorm, LinearAttention, ScoreNet
from reconfair.recon.sde import SAMPLERS, Average, Reconstructor, Schedule, cosine, generators_of, sample

LAM = 10 / 255
SETTINGS = {
    "epochs": 3,
    "batch_size": 4,
    "lr": 2e-3,
    "channels": 8,
    "depth": 2,
    "patch": 2,
    "seed": 0,
    "evaluations": 5,
}


@pytest.fixture(scope="module")
def schedule():
    return Schedule(100, LAM)


def reconstructor(**settings) -> Reconstructor:
    """With weights all drawn, the last layer's too, which starts at zero."""
    torch.manual_seed(0)
    module = Reconstructor({**SETTINGS, **settings}, 16)
    for net in (module.net, module.average.module):
        torch.nn.init.normal_(net.last[-1].weight, std=0.1)
    return module.eval()


def gaussian(schedule, mean: float, sd: float):
    """Exact prediction of the noise where pixels of the image are independent and N(mean, sd^2)."""

    def noise_hat(x_t, mu, t):
        decay = torch.exp(-schedule.Theta[t])
        v = LAM**2 * (1 - decay**2)
        return v.sqrt() * (x_t - mu - decay * (mean - mu)) / (decay**2 * sd**2 + v)

    return noise_hat


def last(path) -> torch.Tensor:
    return list(path)[-1][1]


def test_the_schedule_ends_with_half_a_percent_of_the_image(schedule):
    assert torch.exp(-schedule.Theta[100]).item() == pytest.approx(0.005, rel=1e-5)
    share = np.cos(np.pi / 2 * (np.array([0, 51]) / 102 + 0.008) / 1.008) ** 2  # theta_50 = 1 - abar_51
    assert schedule.theta[50].item() == pytest.approx(1 - share[1] / share[0], rel=1e-5)


def test_marginals_are_those_of_the_simulated_forward_equation(schedule):
    draw, parts, mu, x0 = np.random.default_rng(0), 20, 0.3, 0.7
    x, dt = np.full(20_000, x0), schedule.dt / parts
    for t in range(1, 101):
        theta = schedule.theta[t].item()
        for _ in range(parts):
            x += theta * (mu - x) * dt + LAM * np.sqrt(2 * theta * dt) * draw.standard_normal(x.shape)
        if t in (10, 40, 100):
            mean, sd = (value.item() for value in schedule.marginal(t, x0, mu))
            assert x.mean() == pytest.approx(mean, abs=0.002)
            assert x.std() == pytest.approx(sd, rel=0.02)


@pytest.mark.parametrize(("s", "t"), [(0, 1), (1, 2), (49, 50), (99, 100), (9, 36), (0, 100)])
def test_the_optimal_step_is_the_mean_of_the_true_bridge(schedule, s, t):
    theta = schedule.theta.double().numpy() * schedule.dt
    B, C = np.exp(-theta[: t + 1].sum()), np.exp(-theta[: s + 1].sum())
    variances = LAM**2 * (1 - np.array([C, B]) ** 2)
    covariance = B / C * variances[0]  # of x_s and x_t given x_0, as x_t = mu + A (x_s - mu) + noise
    x0, mu, x_t = 0.7, 0.4, 0.45
    mean = mu + C * (x0 - mu) + covariance / variances[1] * (x_t - mu - B * (x0 - mu))
    ours, sd = (value.item() for value in schedule.bridge(t, s, x_t, x0, mu))
    assert ours == pytest.approx(mean, abs=1e-6)
    assert sd**2 == pytest.approx(variances[0] - covariance**2 / variances[1], rel=1e-3, abs=1e-12)


def spread(sampler: str, steps: int, sd: float = 0.02) -> tuple[float, float]:
    """Mean (less mu) and SD of the samples over those of the Gaussian they should be from."""
    few = sampler == "few_step"
    schedule, mu = Schedule(100 if few else steps, LAM), torch.full((64, 1, 16, 16), 0.4)
    x = last(sample(gaussian(schedule, 0.5, sd), mu, schedule, generators_of(range(64)), sampler, steps))
    return (x.mean().item() - 0.4) / 0.1, x.std().item() / sd


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_the_exact_score_samples_have_the_posterior_s_mean_and_ever_better_its_spread(sampler):
    (_, coarse), (mean, fine) = spread(sampler, 5 if sampler == "few_step" else 20), spread(sampler, 100)
    assert mean == pytest.approx(1, abs=0.01)
    assert abs(fine - 1) < 0.06
    assert abs(fine - 1) < abs(coarse - 1) / 2


@pytest.mark.parametrize("sd", [0.012, 0.02, 0.04, 0.08])
def test_ten_evaluations_keep_the_spread_that_certainty_about_x0_would_shrink(sd):
    assert spread("few_step", 10, sd) == pytest.approx((1, 1), abs=0.06)
    assert spread("posterior", 10, sd)[1] < 0.8


@pytest.mark.parametrize("evaluations", [1, 2, 5, 10])
def test_few_steps_evaluate_the_network_no_more_often_than_asked(schedule, evaluations):
    exact, times = gaussian(schedule, 0.5, 0.02), []

    def counted(x_t, mu, t):
        times.append(t)
        return exact(x_t, mu, t)

    path = list(sample(counted, torch.full((1, 1, 4, 4), 0.4), schedule, generators_of([0]), "few_step", evaluations))
    assert len(times) == evaluations
    assert [t for t, _, _ in path] == [*times, 0]
    assert times[0] == 100 and times == sorted(times, reverse=True)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_reconstructed_alike_in_any_batch_and_order(sampler):
    module, y, seeds = reconstructor(sampler=sampler, steps=10), torch.rand(5, 1, 16, 16), [7, 3, 9, 3, 2**62]
    whole = module.reconstruct(y, seeds)
    alone = torch.cat([module.reconstruct(y[k : k + 1], seeds[k : k + 1]) for k in range(5)])
    back = module.reconstruct(y.flip(0), seeds[::-1]).flip(0)
    assert torch.allclose(whole, alone, atol=1e-5) and torch.allclose(whole, back, atol=1e-5)
    assert whole.min() >= 0 and whole.max() <= 1
    assert (module.reconstruct(y, [8, 3, 9, 3, 1]) - whole).abs().amax((1, 2, 3)).gt(1e-3).tolist() == [
        True,
        *[False] * 3,
        True,
    ]


def test_the_mean_of_eight_samples_has_nine_sixteenths_of_one_sample_s_squared_error():
    x = 0.5 + 0.02 * torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    errors = []
    for samples in (1, 8):
        module = reconstructor(samples=samples, sampler="few_step", evaluations=10)
        module.noise_hat = gaussian(module.schedule, 0.5, 0.02)
        errors.append(((module.reconstruct(torch.full_like(x, 0.4), range(64)) - x) ** 2).mean().item())
    assert errors[1] / errors[0] == pytest.approx((1 + 1 / 8) / 2, rel=0.05)


def test_the_true_noise_has_no_loss_and_gives_back_the_image():
    module, x, y = reconstructor(), torch.rand(8, 16, 16), torch.rand(8, 16, 16)
    module.noise_hat = lambda x_t, mu, t: true_noise(module.schedule, x[:, None], x_t, mu, t)
    losses, x0_hat = module.objective((y, x))
    assert losses.shape == (8,) and losses.max() < 1e-3
    guessed = ~x0_hat[:, 0].isnan().all(2).all(1)
    assert guessed.any() and torch.allclose(x0_hat[guessed, 0], x[guessed], atol=1e-3)


def test_the_reconstruction_of_the_objective_is_missing_where_the_original_shows_through():
    module, batch = reconstructor().train(), (torch.rand(100, 16, 16), torch.rand(100, 16, 16))
    drawn, module.times = torch.arange(1, 101), lambda n, generator: drawn
    _, x0_hat = module.objective(batch)
    shows = torch.exp(-module.schedule.Theta[drawn]) > 0.4
    assert 40 < shows.sum() < 50 and torch.equal(x0_hat.isnan().all(3).all(2)[:, 0], shows)
    assert x0_hat[~shows].isfinite().all()


def test_an_error_of_the_noise_counts_by_twice_theta_over_the_marginal_s_spread():
    module, x, y = reconstructor(), torch.rand(100, 16, 16), torch.rand(100, 16, 16)
    module.noise_hat = lambda x_t, mu, t: true_noise(module.schedule, x[:, None], x_t, mu, t) + 0.1
    theta, decay = module.schedule.theta[1:], torch.exp(-module.schedule.Theta[1:])
    expected = (2 * theta / (1 - decay**2).sqrt()).mean() * 0.1
    assert module.objective((y, x))[0].mean().item() == pytest.approx(expected.item(), rel=0.01)  # every t once


def true_noise(schedule, x, x_t, mu, t):
    mean, sd = schedule.marginal(t, x, mu)
    return (x_t - mean) / sd


def test_the_reconstruction_of_the_objective_lies_within_range_and_all_of_it_has_a_gradient():
    module, batch = reconstructor().train(), (torch.rand(8, 16, 16), torch.rand(8, 16, 16).round())
    seen = []

    def look(net, inputs, output):
        output.retain_grad()
        seen.append(output)

    module.net.register_forward_hook(look)
    _, x0_hat = module.objective(batch)
    guessed = ~x0_hat[:, 0, 0, 0].isnan()
    x0_hat[guessed].sum().backward()
    assert len(seen) == 1 and 1 < guessed.sum() < 8
    assert x0_hat[guessed].min() == 0 and x0_hat[guessed].max() == 1
    assert seen[0].grad[guessed].abs().min() > 0 and seen[0].grad[~guessed].abs().max() == 0


def test_validation_draws_evenly_spread_times_and_leaves_the_global_stream_alone():
    module, batch = reconstructor(), (torch.rand(10, 16, 16), torch.rand(10, 16, 16))
    before = torch.get_rng_state()
    losses = [module.objective(batch, torch.Generator().manual_seed(3))[0].mean().item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), before)
    times = module.times(10, torch.Generator().manual_seed(3))
    assert sorted(((times - 1) // 10).tolist()) == list(range(10))


def test_training_times_are_uniform():
    torch.manual_seed(0)
    module = reconstructor(steps=10)
    counts = torch.bincount(torch.stack([module.times(3) for _ in range(4000)])[:, 0], minlength=11)
    assert counts[0] == 0
    assert (counts[1:] / 4000 - 0.1).abs().max() < 4 * np.sqrt(0.1 * 0.9 / 4000)


def test_averaged_weights_forget_the_first_ones_and_then_decay_geometrically():
    average = Average(torch.nn.Linear(1, 1, bias=False), 0.3)
    values = []
    for value in (5.0, 1.0, 2.0, -4.0, 6.0):
        with torch.no_grad():
            update = torch.nn.Linear(1, 1, bias=False)
            update.weight.fill_(value)
        average.update_parameters(update)
        values.append(average.module.weight.item())
    first = 2 / 11 * 5 + 9 / 11 * 1
    second = 3 / 12 * first + 9 / 12 * 2
    assert values[:3] == pytest.approx([5, first, second])
    assert values[4] == pytest.approx(0.3**2 * second + 0.3 * 0.7 * -4 + 0.7 * 6)  # from (1 + 3) / (10 + 3) > 0.3 on


def test_the_averaged_network_speaks_in_eval_mode_and_the_raw_one_in_training():
    module, x = reconstructor(), torch.rand(2, 1, 16, 16)
    alike = module.noise_hat(x, 1 - x, 50)
    torch.nn.init.normal_(module.net.last[-1].weight)
    assert torch.equal(module.noise_hat(x, 1 - x, 50), alike)
    assert not torch.allclose(module.train().noise_hat(x, 1 - x, 50), alike)
    module.on_train_batch_end(None, None, 0)  # the first update is a copy
    assert torch.equal(module.eval().noise_hat(x, 1 - x, 50), module.train().noise_hat(x, 1 - x, 50))


def test_the_learning_rate_falls_along_half_a_cosine():
    assert [cosine(2.0, epoch, 4) for epoch in (0, 1, 2, 4)] == pytest.approx([2, 1 + np.sqrt(0.5), 1, 0])


def test_it_learns_to_remove_noise():
    draw = np.random.default_rng(0)
    smooth = np.stack([gaussian_filter(draw.random((16, 16)), 3) for _ in range(64)]).astype(np.float32)
    x = torch.from_numpy((smooth - smooth.min()) / np.ptp(smooth))
    y = (x + 0.2 * torch.from_numpy(draw.standard_normal(x.shape).astype(np.float32))).clamp(0, 1)
    torch.manual_seed(0)
    module = Reconstructor({**SETTINGS, "lr": 5e-3, "channels": 16, "sampler": "few_step", "evaluations": 10}, 16)
    optimiser = module.configure_optimizers()
    for step in range(300):
        batch = torch.arange(8) + 8 * (step % 6)
        optimiser.zero_grad()
        module.objective((y[batch], x[batch]))[0].mean().backward()
        optimiser.step()
        module.on_train_batch_end(None, None, 0)
    unseen = slice(48, 64)
    restored = module.eval().reconstruct(y[unseen][:, None], range(16))[:, 0]
    assert ((restored - x[unseen]) ** 2).mean() < 0.4 * ((y[unseen] - x[unseen]) ** 2).mean()


class Interrupted(Reconstructor):
    """Stops in the second epoch, after the first batch."""

    def training_step(self, batch, batch_idx):
        if self.current_epoch == 1 and batch_idx == 1:
            raise InterruptedError
        return super().training_step(batch, batch_idx)


def fit(kind, part):
    part.mkdir(exist_ok=True)
    x = np.random.default_rng(0).random((16, 16, 16), np.float32)
    loaders = [
        training.loader((x, x**2), rows, 4, shuffle=len(rows) > 4) for rows in (np.arange(12), np.arange(12, 16))
    ]
    torch.manual_seed(0)
    training.fit(kind(SETTINGS, 16), *loaders, part, 3, Compute(device="cpu", workers=1), "sde")


def test_an_interrupted_training_ends_with_the_weights_of_one_never_interrupted(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit(Reconstructor, whole)
    with pytest.raises(InterruptedError):
        fit(Interrupted, stopped)
    fit(Reconstructor, stopped)
    for name in ("best.ckpt", ".last.ckpt"):
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (whole, stopped))
        for key, value in ours["state_dict"].items():
            assert torch.equal(value, theirs["state_dict"][key]), key
    assert ours["state_dict"]["average.n_averaged"] == 9
    assert ours["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(
        cosine(2e-3, 8 / 3, 3)
    )  # ninth step of 9
    assert (whole / "log.csv").read_text() == (stopped / "log.csv").read_text()


@pytest.mark.parametrize(
    ("settings", "size", "message"),
    [
        ({}, 18, r"multiple of 4\b.*\b16\b.*\b18\b"),
        ({"sampler": "ddim"}, 16, "sampler.*reverse_sde, posterior, few_step.*'ddim'"),
        ({"channels": 12}, 16, r"multiple of 8\b.*\b12\b"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(settings, size, message):
    with pytest.raises(ValueError, match=message):
        Reconstructor({**SETTINGS, **settings}, size)


@pytest.mark.parametrize(("patch", "depth"), [(1, 3), (2, 2), (4, 1)])
def test_an_image_comes_back_at_its_own_size(patch, depth):
    assert ScoreNet(8, depth, patch)(torch.zeros(2, 2, 16, 16), torch.tensor([1, 100])).shape == (2, 1, 16, 16)


def test_attention_sees_all_places_and_none_by_its_position():
    torch.manual_seed(0)
    attention, x, order = LinearAttention(8), torch.randn(1, 8, 4, 4), torch.randperm(16)
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    assert torch.allclose(attention(shuffled).flatten(2), attention(x).flatten(2)[:, :, order], atol=1e-5)
    far = x.clone()
    far[0, :, 0, 0] += 1
    assert (attention(far) - attention(x))[0, :, 3, 3].abs().max() > 1e-6


@pytest.mark.parametrize("centre", [0, 300])
def test_group_normalisation_for_a_compiler_is_that_of_pytorch(centre, monkeypatch):
    torch.manual_seed(0)
    ours = GroupNorm(GROUPS, 2 * GROUPS)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    x, weights = torch.randn(3, 2 * GROUPS, 6, 5) + centre, torch.randn(3, 2 * GROUPS, 6, 5)
    values, gradients = [], []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda now=compiling: now)
        given = x.clone().requires_grad_()
        values.append(ours(given))
        gradients.append(torch.autograd.grad((values[-1] * weights).sum(), [given, *ours.parameters()]))
    near = {"atol": 1e-4 if centre else 1e-6, "rtol": 1e-4}
    torch.testing.assert_close(values[0], values[1], **near)
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, compiled, **near | {"atol": 10 * near["atol"]})
