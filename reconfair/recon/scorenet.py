"""Time-conditioned U-Net of diffusion models (Ho et al. 2020; Luo et al. 2023)."""

import torch
from torch import nn
from torch.nn import functional as F

GROUPS = 8  # of channels normalised together, within each image: batches do not matter


class ScoreNet(nn.Module):
    """U-Net of residual blocks scaled and shifted by the time, with linear attention at its two coarsest levels.

    Parameters
    ----------
    channels : int
        Of the first level, a multiple of 8; they double at each of the ``depth - 1`` halvings (paper: 64, up to 512).
    depth : int
        Number of levels.
    patch : int
        Pixels a side that enter the first level as channels of one place: 1 (paper), or 2 for a network that costs
        a quarter (Hoogeboom et al. 2023). Image sides must be multiples of ``patch * 2 ** (depth - 1)``.
    inputs : int
        Channels of an image: 1, or 3 of colour.
    """

    def __init__(self, channels: int = 64, depth: int = 4, patch: int = 1, inputs: int = 1):
        super().__init__()
        if channels % GROUPS:
            raise ValueError(f"channels of an SDE network must be a multiple of {GROUPS}, not {channels}")
        widths = [channels * 2**level for level in range(depth)]
        coarse = [level >= depth - 2 for level in range(depth)]
        self.patch = patch
        self.embed = nn.Sequential(Sinusoids(channels), nn.Linear(channels, 4 * channels), nn.SiLU())
        self.first = nn.Conv2d(2 * inputs * patch**2, channels, 3, padding=1)
        before = [channels, *widths]
        self.down = nn.ModuleList(Level(a, b, 4 * channels, c) for a, b, c in zip(before, widths, coarse, strict=False))
        self.narrow = nn.ModuleList(nn.Conv2d(2 * w, w, 1) for w in widths[-2::-1])
        self.up = nn.ModuleList(
            Level(2 * w, w, 4 * channels, c) for w, c in zip(widths[-2::-1], coarse[-2::-1], strict=True)
        )
        self.last = nn.Sequential(normalised(channels), nn.Conv2d(channels, inputs * patch**2, 3, padding=1))
        nn.init.zeros_(self.last[-1].weight)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Map pairs of images (n, 2 inputs, s, s) at times (n,) to (n, inputs, s, s)."""
        x, embedding = self.first(F.pixel_unshuffle(x, self.patch)), self.embed(t)
        skips = []
        for number, level in enumerate(self.down):
            x = level(F.avg_pool2d(x, 2) if number else x, embedding)
            skips.append(x)
        skips.pop()
        for narrow, level in zip(self.narrow, self.up, strict=True):
            x = F.interpolate(narrow(x), scale_factor=2)
            x = level(torch.cat([skips.pop(), x], 1), embedding)
        return F.pixel_shuffle(self.last(x), self.patch)


class Sinusoids(nn.Module):
    """cos and sin of t at `channels` / 2 frequencies from 1 down to 1 / 1000."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, -3, channels // 2), persistent=False)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        phase = t[:, None] * self.frequencies
        return torch.cat([phase.cos(), phase.sin()], 1)


class GroupNorm(nn.GroupNorm):
    """Group normalisation; where it is compiled, written such that it joins the steps before and after it.

    PyTorch's own needs all channels of a place apart from each other, so that a GPU, whose convolutions are fastest
    with these channels together, would turn images round before and after it.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            return super().forward(x)
        var, mean = (moment.unflatten(1, (self.num_groups, -1)) for moment in torch.var_mean(x.float(), (2, 3), False))
        centre = mean.mean(2, keepdim=True)
        spread = var.mean(2, keepdim=True) + (mean - centre).square().mean(2, keepdim=True)
        scale = self.weight * torch.rsqrt(spread + self.eps).expand_as(mean).flatten(1)
        shift = self.bias - centre.expand_as(mean).flatten(1) * scale
        return (x * scale[:, :, None, None] + shift[:, :, None, None]).to(x.dtype)


class Level(nn.Module):
    """Residual block scaled and shifted by the time; then attention where asked for."""

    def __init__(self, inputs: int, outputs: int, embedding: int, attention: bool):
        super().__init__()
        self.first = nn.Sequential(normalised(inputs), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.norm = GroupNorm(GROUPS, outputs)
        self.second = nn.Sequential(nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention = LinearAttention(outputs) if attention else nn.Identity()

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        inner = self.norm(self.first(x)) * (1 + scale) + shift
        return self.attention(self.skip(x) + self.second(inner))


class LinearAttention(nn.Module):
    """Attention between all places at a cost linear in their number (Shen et al. 2021)."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads, width = heads, min(32, channels // heads)
        self.norm = GroupNorm(GROUPS, channels)
        self.project = nn.Conv2d(channels, 3 * heads * width, 1, bias=False)
        self.out = nn.Conv2d(heads * width, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        projected = self.project(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))
        query, key, value = projected.unbind(1)  # each (n, heads, width, places)
        context = key.softmax(-1) @ value.mT
        mixture = context.mT @ query.softmax(-2)
        return x + self.out(mixture.flatten(1, 2).unflatten(2, x.shape[2:]))


def normalised(channels: int) -> nn.Sequential:
    """Group normalisation and SiLU, which come before a convolution."""
    return nn.Sequential(GroupNorm(GROUPS, channels), nn.SiLU())
