"""U-Net (Ronneberger, Fischer and Brox 2015), trained with the mean squared error."""

import torch
from torch import nn
from torch.nn import functional as F

from reconfair.training import Module, narrow, widen


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Encoder-decoder with skip connections.

    Parameters
    ----------
    channels : int
        Of the first level; they double at each of `depth` halvings (paper: 64, up to 1024).
    depth : int
        Number of halvings.
    patch : int
        Pixels a side that enter the first level as channels of one place: 1 (paper), or 2 for a network that costs
        a quarter, as in `scorenet.ScoreNet`. Image sides must be multiples of ``patch * 2 ** depth``.
    inputs : int
        Channels of an image: 1, or 3 of colour.
    """

    def __init__(self, channels: int = 64, depth: int = 4, patch: int = 1, inputs: int = 1):
        super().__init__()
        self.patch, widths = patch, [channels * 2**level for level in range(depth + 1)]
        before = [inputs * patch**2, *widths]
        self.down = nn.ModuleList(double_convolution(a, b) for a, b in zip(before, widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1])
        self.merge = nn.ModuleList(double_convolution(2 * w, w) for w in widths[-2::-1])
        self.last = nn.Conv2d(channels, inputs * patch**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, inputs, s, s) to the same shape."""
        x, skips = F.pixel_unshuffle(x, self.patch), []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return F.pixel_shuffle(self.last(x), self.patch)


class Reconstructor(Module):
    """x_hat = UNet(y); the loss is mean (x_hat - x)^2."""

    def __init__(self, settings: dict, size: int):
        super().__init__()
        self.settings, (depth, patch) = settings, (settings["depth"], settings.get("patch", 1))
        if size % (patch * 2**depth):
            multiple = patch * 2**depth
            near = max(round(size / multiple), 1) * multiple
            raise ValueError(
                f"a U-Net of depth {depth} and patch {patch} needs a multiple of {multiple} pixels, such as {near}, "
                f"not {size}"
            )
        self.net = UNet(settings["channels"], depth, patch, settings.get("inputs", 1))

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return self.net(noisy)

    def reconstruct(self, noisy: torch.Tensor, seeds=None) -> torch.Tensor:
        """Map noisy images (n, 1, s, s) to reconstructions within [0, 1]; nothing is drawn by `seeds`."""
        return self(noisy).clamp(0, 1)

    def objective(self, batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared errors (n,) of a batch (noisy, original), as stored, and the reconstructions with their channels."""
        noisy, original = batch
        x_hat = self(widen(noisy))
        return (narrow(x_hat) - original).square().mean(tuple(range(1, original.ndim))), x_hat

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.settings["lr"], fused=True)
