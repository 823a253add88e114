"""Mean-reverting stochastic differential equation, IR-SDE (Luo et al. 2023): to the noisy image and back."""

import math
from collections import deque
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reconfair.recon import SDE
from reconfair.recon.scorenet import ScoreNet
from reconfair.training import Module, widen

SAMPLERS = ("reverse_sde", "posterior", "few_step")
END = 0.005  # e^{-Theta_T}
SHOWN = 0.4  # e^{-Theta_t} above which x_t itself shows what the network would else have to guess


class Schedule(nn.Module):
    """Cosine schedule of dx = theta_t (mu - x) dt + sigma_t dw, sigma_t^2 = 2 lam^2 theta_t, and what follows from it.

    Times are integers from 0 (the image) to `steps` (the noisy image plus noise), one number or a tensor (n,);
    images are (n, 1, s, s) or broadcast to that. The buffers ``theta`` and ``Theta`` (its sums times dt) are
    (steps + 1,), from 0 on, computed in double precision.

    Parameters
    ----------
    steps : int
        T, of equal length dt, chosen such that e^{-Theta_T} = 0.005.
    lam : float
        Stationary standard deviation in units of intensity.

    Examples
    --------
    >>> schedule = Schedule(100, 10 / 255)
    >>> round(float(torch.exp(-schedule.Theta[100])), 6)
    0.005
    """

    def __init__(self, steps: int, lam: float):
        super().__init__()
        self.steps, self.lam = steps, lam
        abar = torch.cos((torch.arange(steps + 2).double() / (steps + 2) + 0.008) / 1.008 * math.pi / 2) ** 2
        theta = F.pad(1 - abar[2:] / abar[0], (1, 0))
        self.dt = -math.log(END) / float(theta.sum())
        self.register_buffer("theta", theta.float(), persistent=False)
        self.register_buffer("Theta", (theta.cumsum(0) * self.dt).float(), persistent=False)

    def decay(self, t, s=0) -> tuple[torch.Tensor, torch.Tensor]:
        """A = e^{-(Theta_t - Theta_s)} and 1 - A^2, each (n, 1, 1, 1)."""
        gap = (self.Theta[t] - self.Theta[s]).reshape(-1, 1, 1, 1)
        return torch.exp(-gap), -torch.expm1(-2 * gap)

    def marginal(self, t, x0, mu) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation sqrt(v_t) of x_t given x_0."""
        B, b = self.decay(t)
        return mu + B * (x0 - mu), self.lam * b.sqrt()

    def bridge(self, t, s, x_t, x0, mu) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of x_s given x_t and x_0, for s < t; the mean for s = t - 1 is x*_{t-1}."""
        (A, a), (_, b), (C, c) = self.decay(t, s), self.decay(t), self.decay(s)
        return mu + A * c / b * (x_t - mu) + C * a / b * (x0 - mu), self.lam * (a * c / b).sqrt()

    def x0_hat(self, t, x_t, mu, noise_hat) -> torch.Tensor:
        """The image that a predicted noise stands for."""
        B, b = self.decay(t)
        return mu + (x_t - mu - self.lam * b.sqrt() * noise_hat) / B

    def reverse_step(self, t, x_t, mu, noise_hat) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of an Euler-Maruyama step of the reverse equation, from t to t - 1."""
        theta, (_, b) = self.theta[t].reshape(-1, 1, 1, 1), self.decay(t)
        sigma2, score = 2 * self.lam**2 * theta, -noise_hat / (self.lam * b.sqrt())
        return x_t - (theta * (mu - x_t) - sigma2 * score) * self.dt, (sigma2 * self.dt).sqrt()

    def strides(self, evaluations: int) -> tuple[list[int], list[float]]:
        """Times of the sampler few_step, and how far it extrapolates x0_hat at each.

        SNR is e^{-Theta_t} / sqrt(1 - e^{-2 Theta_t}).

        Returns
        -------
        times : list of int
            At most `evaluations`, falling: T, then evenly spread in log-SNR. The first stride is long: below
            e^{-Theta_t} = 0.1 hardly anything of the image shows in x_t, so that x0_hat hardly changes. The last time,
            SNR = 16, leaves a noise of lam / 16 to the last evaluation.
        weights : list of float
            Of the last change of x0_hat; with it x0_hat is extrapolated to the middle of the stride in log-SNR.
        """
        B, b = self.decay(torch.arange(1, self.steps + 1))
        log_snr = (B / b.sqrt()).log().flatten().cpu()
        levels = torch.linspace(math.log(0.1), math.log(16), evaluations - 1)
        nearest = (log_snr[:-1] - levels[:, None]).abs().argmin(1) + 1
        times = [self.steps, *dict.fromkeys(nearest.tolist())]
        gaps = log_snr[torch.tensor(times) - 1].diff().tolist()
        return times, [0.0, *(now / last / 2 for last, now in pairwise(gaps)), 0.0][: len(times)]


@torch.no_grad()
def sample(noise_hat, mu, schedule: Schedule, generators, sampler: str = "reverse_sde", evaluations: int = 10):
    """Yield (t, x_t, x0_hat) from t = T down to (0, x_0, x_0), a sample of the images given the noisy images `mu`.

    - ``reverse_sde``: Euler-Maruyama of the reverse equation in T steps (Luo et al. 2023).
    - ``posterior``: T steps of the bridge given x0_hat; it takes x0_hat for certain, which shrinks the spread.
    - ``few_step``: bridges over long strides given x0_hat extrapolated, linearly in log-SNR, to the middle of each:
      the second-order multistep SDE-DPM-Solver++ (Lu et al. 2022). What is linear in the equation is integrated
      exactly; what x0_hat is going to learn on the way is anticipated, which keeps the spread.

    Parameters
    ----------
    noise_hat : callable
        Maps (x_t, mu, t) to the predicted noise (n, 1, s, s).
    mu : Tensor
        Noisy images (n, 1, s, s).
    schedule : Schedule
    generators : sequence of torch.Generator
        n on the CPU, one for each image.
    sampler : str
        One of ``SAMPLERS``.
    evaluations : int
        Of noise_hat at most, for ``few_step``.

    Yields
    ------
    t : int
    x_t, x0_hat : Tensor
        (n, 1, s, s); x0_hat lies within [0, 1].
    """

    def noise():
        return torch.stack([torch.randn(mu.shape[1:], generator=generator) for generator in generators]).to(mu)

    times, weights = range(schedule.steps, 0, -1), [0.0] * schedule.steps
    if sampler == "few_step":
        times, weights = schedule.strides(evaluations)
    x_t, last = mu + schedule.lam * noise(), mu
    for t, s, weight in zip(times, [*times[1:], 0], weights, strict=True):
        predicted = noise_hat(x_t, mu, t)
        x0_hat = schedule.x0_hat(t, x_t, mu, predicted).clamp(0, 1)
        yield t, x_t, x0_hat
        if sampler == "reverse_sde":
            mean, sd = schedule.reverse_step(t, x_t, mu, predicted)
        else:
            mean, sd = schedule.bridge(t, s, x_t, x0_hat + weight * (x0_hat - last), mu)
        x_t, last = mean + sd * noise(), x0_hat
    yield 0, x_t, x_t.clamp(0, 1)


class Reconstructor(Module):
    """Samples of the image given the noisy image; the loss is one reverse step against the optimal one.

    Parameters
    ----------
    settings : dict
        ``seed``, ``lr``, ``batch_size``, ``epochs``; and, by default as in the paper, ``channels``, ``depth`` and
        ``patch`` of the network, ``steps``, ``lam``, ``ema`` (decay of the averaged weights), ``sampler``,
        ``evaluations`` (of the network, by ``few_step``), ``samples`` (whose mean is the reconstruction).
    size : int
        Pixels a side, a multiple of ``patch * 2 ** (depth - 1)``.

    References
    ----------
    Luo et al. (2023), Image restoration with mean-reverting stochastic differential equations, ICML.
    """

    def __init__(self, settings: dict, size: int):
        super().__init__()
        self.settings, chosen = settings, {**SDE().model_dump(), **settings}
        self.sampler, self.evaluations, self.samples = (chosen[key] for key in ("sampler", "evaluations", "samples"))
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not '{self.sampler}'")
        multiple = chosen["patch"] * 2 ** (chosen["depth"] - 1)
        if size % multiple:
            near = max(round(size / multiple), 1) * multiple
            raise ValueError(
                f"an SDE network of depth {chosen['depth']} and patch {chosen['patch']} needs a multiple of {multiple} "
                f"pixels, such as {near}, not {size}"
            )
        self.schedule = Schedule(chosen["steps"], chosen["lam"])
        self.net = ScoreNet(chosen["channels"], chosen["depth"], chosen["patch"], settings.get("inputs", 1))
        self.average = Average(self.net, chosen["ema"])

    def noise_hat(self, x_t: torch.Tensor, mu: torch.Tensor, t) -> torch.Tensor:
        """Predict the noise (n, 1, s, s) in x_t; in eval mode by the averaged weights.

        The network's own output is a velocity (Salimans and Ho 2022): at T, where x_t - mu is all but the noise, it
        adds what is seen of the image, which x0_hat multiplies by e^{Theta_T} = 200.
        """
        y, (B, b) = (x_t - mu) / self.schedule.lam, self.schedule.decay(t)
        net = self.net if self.training else self.average
        velocity = net(torch.cat([y, mu], 1), torch.as_tensor(t, device=mu.device).expand(len(mu)))
        return b.sqrt() * y + B * velocity.float()

    def objective(self, batch, generator=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses and reconstructions of one network evaluation at random times.

        A loss is the mean of ``|x_{t-1} - x*_{t-1}|`` / (lam dt), where x_{t-1} is to x0_hat what the optimum x*_{t-1}
        is to x_0: the reverse step with its linear part exact (the paper's Euler step agrees to first order in dt, but
        has its optimum beside the true noise). To that order it is the mean of
        ``2 theta_t / sqrt(1 - e^{-2 Theta_t}) |noise_hat - noise|``: errors of the noise count eleven times as much at
        T as at t = 1, errors of x0_hat a thousandth.

        Parameters
        ----------
        batch : tuple of Tensor
            (noisy, original), each (n, s, s) within [0, 1].
        generator : torch.Generator, optional
            On the CPU, for times and noise; left out: the global stream.

        Returns
        -------
        losses : Tensor
            (n,).
        x0_hat : Tensor
            (n, 1, s, s) within [0, 1]; its gradient is that before clamping. Missing at times at which the original
            shows through x_t: a sampler comes there with what it guessed before, and has no original to be told by.
        """
        mu, x0 = map(widen, batch)
        t = self.times(len(mu), generator).to(mu.device, non_blocking=True)
        noise = torch.randn(mu.shape, generator=generator, device=None if generator else mu.device).to(mu)
        mean, sd = self.schedule.marginal(t, x0, mu)
        x_t = mean + sd * noise
        x0_hat = self.schedule.x0_hat(t, x_t, mu, self.noise_hat(x_t, mu, t))
        step, _ = self.schedule.bridge(t, t - 1, x_t, x0_hat, mu)
        optimal, _ = self.schedule.bridge(t, t - 1, x_t, x0, mu)
        losses = (step - optimal).abs().mean((1, 2, 3)) / (self.schedule.lam * self.schedule.dt)
        guessed = self.schedule.decay(t)[0] <= SHOWN
        return losses, torch.where(guessed, x0_hat + (x0_hat.clamp(0, 1) - x0_hat).detach(), torch.nan)

    def times(self, n: int, generator=None) -> torch.Tensor:
        """n times uniform on 1..T, one from each n-th part: less noise in the gradient (Kingma et al. 2021)."""
        share = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
        return 1 + (share * self.schedule.steps).long().clamp(max=self.schedule.steps - 1)

    def path(self, noisy: torch.Tensor, generators):
        """Yield (t, x_t, x0_hat) along the reverse path from noisy images (n, 1, s, s); see `sample`."""
        return sample(self.noise_hat, noisy, self.schedule, generators, self.sampler, self.evaluations)

    def reconstruct(self, noisy: torch.Tensor, seeds) -> torch.Tensor:
        """Map noisy images (n, 1, s, s) to the mean of their samples within [0, 1]; one seed for each image."""
        generators = generators_of(seeds)
        ends = (deque(self.path(noisy, generators), maxlen=1).pop() for _ in range(self.samples))
        return sum(x0 for _, _, x0 in ends) / self.samples

    def validation_step(self, batch, batch_idx):
        losses, x0_hat = self.objective(batch, torch.Generator().manual_seed(batch_idx))
        self.log("val_loss", losses.mean(), batch_size=len(batch[0]))
        return x0_hat

    def on_train_start(self):
        if self.current_epoch == 0:  # fine-tuning goes on from the averaged weights, and averages afresh
            self.average.begin(self.net)

    def on_train_batch_start(self, batch, batch_idx):
        epoch = self.current_epoch + batch_idx / self.trainer.num_training_batches  # few epochs end at rest, too
        for group in self.optimizers().param_groups:
            group["lr"] = cosine(self.settings["lr"], epoch, self.trainer.max_epochs)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.average.update_parameters(self.net)

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), lr=self.settings["lr"], betas=(0.9, 0.99), fused=True)


class Average(AveragedModel):
    """Moving average of a network's weights whose decay rises as (1 + n) / (10 + n) to `decay`.

    The weights of the first update are forgotten. The number of updates is counted on the CPU as well: to ask a GPU for
    it in each step would wait for all that the GPU has to do.

    Parameters
    ----------
    net : nn.Module
    decay : float
        Within [0, 1).
    """

    def __init__(self, net: nn.Module, decay: float):
        super().__init__(net)
        self.decay, self.updates = decay, None
        self.requires_grad_(False)

    def begin(self, net: nn.Module) -> None:
        """Put the averaged weights into `net`, and average afresh."""
        net.load_state_dict(self.module.state_dict())
        self.n_averaged.zero_()
        self.updates = 0

    def update_parameters(self, net: nn.Module) -> None:
        """Move the average towards the weights of `net`."""
        n = int(self.n_averaged) if self.updates is None else self.updates
        decay = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        get_ema_multi_avg_fn(decay)(list(self.module.parameters()), list(net.parameters()), n)
        self.n_averaged += 1
        self.updates = n + 1


def generators_of(seeds) -> list[torch.Generator]:
    """One generator for each image, on the CPU, so that neither batch nor device matters."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def cosine(lr: float, epoch: float, epochs: int) -> float:
    """Learning rate after so many epochs, falling from `lr` to 0 at `epochs` along half a cosine."""
    return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
