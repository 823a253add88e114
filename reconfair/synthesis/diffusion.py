"""Conditional diffusion model of images (Ho et al. 2020): its forward process, network, training and sampling."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from reconfair.recon.scorenet import Level, Sinusoids, normalised
from reconfair.recon.sde import Average, generators_of
from reconfair.synthesis.balance import FairWeights, GradientNorms, output_norms
from reconfair.synthesis.preference import Pairs, diversity_loss, weight
from reconfair.training import Module, widen

STEPS, FIRST, LAST = 1000, 1e-4, 0.02  # T, and beta at both ends
DROPPED = 0.1  # probability that a training image is shown without its cell


class Schedule(nn.Module):
    """Forward process x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise, with t from 0 (the image) to T = 1000.

    Examples
    --------
    >>> mean, sd = Schedule().marginal(torch.tensor([1000]), torch.ones(1, 1, 1, 1))
    >>> bool(mean < 0.01), bool(sd > 0.9999)
    (True, True)
    """

    def __init__(self):
        super().__init__()
        abar = F.pad((1 - torch.linspace(FIRST, LAST, STEPS, dtype=torch.float64)).cumprod(0), (1, 0), value=1.0)
        self.register_buffer("abar", abar.float(), persistent=False)

    def scales(self, t) -> tuple[torch.Tensor, torch.Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t), each (n, 1, 1, 1)."""
        abar = self.abar[t].reshape(-1, 1, 1, 1)
        return abar.sqrt(), (1 - abar).sqrt()

    def marginal(self, t, x0) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of x_t given x_0."""
        scale, sd = self.scales(t)
        return scale * x0, sd


@torch.no_grad()
def ddim(noise_hat, x_T: torch.Tensor, schedule: Schedule, steps: int, clip: bool = True):
    """Yield (t, x_t, x0_hat) from t = T down to (0, x_0, x_0) without further noise (Song et al. 2021).

    Parameters
    ----------
    noise_hat : callable
        Maps (x_t, t) to the predicted noise, of the shape of x_t.
    x_T : Tensor
        (n, c, h, w), standard normal.
    schedule : Schedule
    steps : int
        Evaluations of noise_hat.
    clip : bool
        Whether x0_hat is kept within [-1, 1].
    """
    x_t = x_T
    for t, s in pairwise(torch.linspace(STEPS, 0, steps + 1).round().long().tolist()):
        (scale, sd), (scale_s, sd_s) = schedule.scales(t), schedule.scales(s)
        x0 = (x_t - sd * noise_hat(x_t, t)) / scale
        x0 = x0.clamp(-1, 1) if clip else x0
        yield t, x_t, x0
        x_t = scale_s * x0 + sd_s * (x_t - scale * x0) / sd
    yield 0, x_t, x_t


class Denoiser(nn.Module):
    """U-Net of the blocks of the SDE's network, scaled and shifted by time, attributes and disease together (FiLM).

    Parameters
    ----------
    colours : int
        Channels of an image, 1 or 3.
    size : int
        Pixels a side, a multiple of ``patch * 2 ** (len(widths) - 1)``.
    factors : sequence of int
        How many groups each attribute has and, last, how many classes the task has.
    channels : int
        Of the first level, a multiple of 8.
    widths : sequence of int
        Channels of each level in units of `channels`.
    blocks : int
        Residual blocks of each level.
    attention : sequence of int
        Levels with so many places a side have attention.
    patch : int
        Pixels a side that enter the first level as channels of one place.
    """

    def __init__(self, colours, size, factors, channels=64, widths=(1, 2, 2, 4), blocks=2, attention=(16, 8), patch=1):
        super().__init__()
        multiple = patch * 2 ** (len(widths) - 1)
        if size % multiple:
            near = max(round(size / multiple), 1) * multiple
            raise ValueError(
                f"synthesis.widths: {len(widths)} levels and patch {patch} need a multiple of {multiple} pixels, "
                f"such as {near}, not {size}"
            )
        wide, embedding = [channels * width for width in widths], 4 * channels
        coarse = [size // patch // 2**level in attention for level in range(len(wide))]

        def levels(inputs, outputs, attend):
            ends = [inputs, *[outputs] * blocks]
            return nn.ModuleList(Level(a, b, embedding, attend) for a, b in pairwise(ends))

        self.patch = patch
        self.time = nn.Sequential(Sinusoids(channels), nn.Linear(channels, embedding))
        self.words = nn.ModuleList(nn.Embedding(factor + 1, embedding) for factor in factors)  # the last word: none
        self.first = nn.Conv2d(colours * patch**2, channels, 3, padding=1)
        self.down = nn.ModuleList(map(levels, [channels, *wide], wide, coarse))
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(wide[::-1]))
        self.up = nn.ModuleList(levels(2 * w, w, c) for w, c in zip(wide[-2::-1], coarse[-2::-1], strict=True))
        self.norm, self.last = normalised(wide[0]), nn.Conv2d(wide[0], colours * patch**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: torch.Tensor, t: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Map images (n, c, s, s) at times (n,) and codes (n, factors) to velocities; see `Generator.meant`."""
        return F.pixel_shuffle(self.last(self.seen(x, t, codes)), self.patch)

    def seen(self, x: torch.Tensor, t: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """What the output layer sees: (n, channels, places, places)."""
        words = sum(word(code) for word, code in zip(self.words, codes.T, strict=True))
        embedding, x, skips = F.silu(self.time(t) + words), self.first(F.pixel_unshuffle(x, self.patch)), []
        for number, levels in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if number else x
            for level in levels:
                x = level(x, embedding)
            skips.append(x)
        skips.pop()
        for narrow, levels in zip(self.narrow, self.up, strict=True):
            x = torch.cat([skips.pop(), F.interpolate(narrow(x), scale_factor=2)], 1)
            for level in levels:
                x = level(x, embedding)
        return self.norm(x)


class Generator(Module):
    """Draws images of a cell. Every generator is trained from the same plain one by its recipe.

    Parameters
    ----------
    settings : dict
        ``cells``: the codes of each cell, one for each factor; ``factors``, ``colours``; the keys of the network
        (`Denoiser`); ``lr``, ``ema``, ``seed``, ``guidance``, ``steps``; and of the recipe ``gradient_norms``,
        ``diversity`` (strength), ``fair``, ``beta``, ``as_published``.
    size : int
        Pixels a side.

    Notes
    -----
    A batch is (images, cells): (n, s, s) or (n, 3, s, s) within [0, 1], and the number of each image's cell.
    """

    keep_last = True  # the loss falls for long after the samples have become good or bad, so it chooses no epoch

    def __init__(self, settings: dict, size: int):
        super().__init__()
        self.settings, self.size = settings, size
        keys = ("colours", "factors", "channels", "widths", "blocks", "attention", "patch")
        self.schedule, self.number = Schedule(), len(settings["cells"])
        codes = torch.tensor([*settings["cells"], settings["factors"]])  # the last row: no cell
        self.register_buffer("codes", codes, persistent=False)
        self.net = Denoiser(size=size, **{key: settings[key] for key in keys})
        self.average = Average(self.net, settings["ema"])
        self.norms = GradientNorms(self.number) if settings.get("gradient_norms") else None
        self.fair = FairWeights(codes[:-1, :-1], settings["factors"][:-1]) if settings.get("fair") else None
        self.pairs: Pairs | None = None  # of samples that somebody compared

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Noise in images without a cell at t = 1: the cost of one evaluation is that of this."""
        return self.noise_hat_of(images.expand(-1, self.settings["colours"], -1, -1), 1, self.number)

    def noise_hat_of(self, x_t: torch.Tensor, t, cell, net=None) -> torch.Tensor:
        """Predict the noise in x_t of cells (n,); the cell ``number`` is none. In eval mode by averaged weights."""
        net = net or (self.net if self.training else self.average)
        t, cell = (torch.as_tensor(value, device=x_t.device).expand(len(x_t)) for value in (t, cell))
        return self.meant(x_t, t, net(x_t, t, self.codes[cell]))

    def meant(self, x_t: torch.Tensor, t: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        """The noise in x_t that a velocity means: sd x_t + scale velocity (Salimans and Ho 2022, appendix D).

        The loss is that of the noise. But a network that answered with the noise would have to copy x_t at late times,
        where each of its errors is 1 / scale as large in the image (157 times at T): samples would be noise for longer.
        """
        scale, sd = self.schedule.scales(t)
        return sd * x_t + scale * velocity.float()

    def guided(self, x_t: torch.Tensor, t: int, cell: torch.Tensor, guidance: float) -> torch.Tensor:
        """Noise without the cell, moved `guidance` times the way to the noise with it (Ho and Salimans 2022)."""
        if guidance in (0, 1):
            return self.noise_hat_of(x_t, t, cell if guidance else self.number)
        none = torch.full_like(cell, self.number)
        without, given = self.noise_hat_of(torch.cat([x_t, x_t]), t, torch.cat([none, cell])).chunk(2)
        return without + guidance * (given - without)

    def path(self, cell, seeds, guidance: float | None = None, steps: int | None = None):
        """Yield (t, x_t, x0_hat) on the way from noise to images of some cells (n,), one seed for each; see `ddim`."""
        guidance = self.settings["guidance"] if guidance is None else guidance
        cell = torch.as_tensor(cell, device=self.codes.device)
        shape = (self.settings["colours"], self.size, self.size)
        x_T = torch.stack([torch.randn(shape, generator=generator) for generator in generators_of(seeds)])
        noise_hat = lambda x_t, t: self.guided(x_t, t, cell, guidance)  # noqa: E731
        yield from ddim(noise_hat, x_T.to(self.codes.device), self.schedule, steps or self.settings["steps"])

    def sample(self, cell, seeds, guidance: float | None = None, steps: int | None = None) -> torch.Tensor:
        """Images (n, c, s, s) within [0, 1] of some cells (n,); one seed for each, so that batches do not matter."""
        for _, x, _ in self.path(cell, seeds, guidance, steps):
            last = x
        return (last.clamp(-1, 1) + 1) / 2

    def training_step(self, batch, batch_idx):
        images, cell = 2 * widen(batch[0]) - 1, batch[1].long()
        t = torch.randint(1, STEPS + 1, (len(images),), device=images.device)
        noise = torch.randn_like(images)
        mean, sd = self.schedule.marginal(t, images)
        named = cell.masked_fill(torch.rand(len(cell), device=cell.device) < DROPPED, self.number)
        x_t = mean + sd * noise
        seen = self.net.seen(x_t, t, self.codes[named])
        predicted = self.meant(x_t, t, F.pixel_shuffle(self.net.last(seen), self.net.patch))
        errors = (predicted - noise).square().mean((1, 2, 3))
        if self.norms:
            residual = F.pixel_unshuffle(self.schedule.scales(t)[0] * (predicted.detach() - noise), self.net.patch)
            self.norms.add(output_norms(self.net.last, seen.detach(), residual, cell, self.number))
        loss = (errors * self.fair.weigh(cell, errors.detach()) if self.fair else errors).mean()
        parts = {"noise": errors.mean().detach()}
        if strength := self.settings.get("diversity"):
            other = torch.randint(self.number, (len(cell),), device=cell.device)
            apart = diversity_loss(predicted, self.noise_hat_of(x_t, t, other), t, STEPS, strength).mean()
            loss, parts["diversity"] = loss + apart, apart.detach()
        if self.pairs:
            preferred, parts["accuracy"] = self.pairs.loss(self, max(len(cell) // 4, 1))
            share = weight(self.settings["beta"], self.settings.get("as_published", False))
            loss, parts["preference"] = loss + share * preferred, preferred.detach()
        return {"loss": loss, **parts}

    def validation_step(self, batch, batch_idx):
        """Noise error of averaged weights on a few training images, at the same times and noise in every epoch."""
        images, cell = 2 * widen(batch[0]) - 1, batch[1].long()
        draw = torch.Generator().manual_seed(0)
        t = torch.randint(1, STEPS + 1, (len(images),), generator=draw).to(images.device)
        noise = torch.randn(images.shape, generator=draw).to(images)
        mean, sd = self.schedule.marginal(t, images)
        error = (self.noise_hat_of(mean + sd * noise, t, cell) - noise).square().mean()
        self.log("val_loss", error, batch_size=len(images))

    def on_train_start(self):
        if self.current_epoch == 0:  # tuning goes on from the averaged weights, and averages afresh
            self.average.begin(self.net)
        if self.pairs:
            self.pairs.to(self.device)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.average.update_parameters(self.net)

    def on_save_checkpoint(self, checkpoint):
        parts = {"norms": self.norms, "fair": self.fair, "pairs": self.pairs}
        checkpoint["recipe"] = {
            name: {key: getattr(part, key) for key in part.kept} for name, part in parts.items() if part
        }

    def on_load_checkpoint(self, checkpoint):
        for name, state in checkpoint["recipe"].items():
            vars(getattr(self, name)).update(state)

    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), lr=self.settings["lr"], fused=True)
