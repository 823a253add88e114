"""Pix2Pix (Isola, Zhu, Zhou and Efros 2017): a U-Net that must also deceive a judge of patches."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from reconfair.training import Module, widen


def convolution(inputs: int, outputs: int, norm=None, stride: int = 2) -> list[nn.Module]:
    """4x4 convolution, `norm` (a class of layers) if any, LeakyReLU."""
    norms = [norm(outputs)] if norm else []
    return [nn.Conv2d(inputs, outputs, 4, stride, 1, bias=not norms), *norms, nn.LeakyReLU(0.2, inplace=True)]


class Generator(nn.Module):
    """U-Net down to a single pixel; a sigmoid maps to the range of the images, [0, 1].

    Parameters
    ----------
    size : int
        Pixels a side, a power of two; there are log2(size) halvings and as many doublings.
    channels : int
        Of the first level; they double at each halving up to 8 times as many (paper: 64, up to 512).
    dropout : float
        Share of channel values dropped where the decoder makes 2, 4 and 8 pixels a side (paper: 0.5).
    inputs : int
        Channels of an image: 1, or 3 of colour.
    """

    def __init__(self, size: int, channels: int = 64, dropout: float = 0.5, inputs: int = 1):
        super().__init__()
        depth = size.bit_length() - 1
        widths = [channels * min(2**level, 8) for level in range(depth)]
        norms = [None, *[nn.BatchNorm2d] * (depth - 2), None]  # the innermost has one pixel: nothing to normalise
        self.down = nn.ModuleList(
            nn.Sequential(*convolution(*level)) for level in zip([inputs, *widths], widths, norms, strict=False)
        )
        before = [widths[-1], *(2 * width for width in widths[-2:0:-1])]
        dropouts = [dropout] * 3 + [0] * (depth - 4)
        self.up = nn.ModuleList()
        for a, b, share in zip(before, widths[-2::-1], dropouts, strict=False):  # each doubles the side
            up = nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)
            self.up.append(nn.Sequential(nn.ReLU(), up, nn.BatchNorm2d(b), nn.Dropout(share)))
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * channels, inputs, 4, 2, 1))

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Map (n, 1, s, s) to (n, 1, s, s) within [0, 1]."""
        x, skips = noisy, []
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = torch.cat([skips.pop(), up(x)], 1)
        return self.last(x).float().sigmoid()


class Discriminator(nn.Sequential):
    """70x70 PatchGAN: each logit judges a patch of 70 pixels a side, patches 8 pixels apart.

    A patch may reach beyond the image, where it sees zeros. Images below 70 pixels fill no patch:
    of 64 pixels each of the 6x6 logits sees 47 to 63 a side, of 32 pixels each of the 2x2 sees all.

    Its batch normalisation keeps no running statistics (it always judges a batch by that batch), so
    that nothing in it changes but by its own optimiser.

    Parameters
    ----------
    channels : int
        Of the first layer; they double at each of three more (paper: 64, up to 512).
    inputs : int
        Channels of an image: 1, or 3 of colour.
    """

    def __init__(self, channels: int = 64, inputs: int = 1):
        norm, (a, b, c, d) = partial(nn.BatchNorm2d, track_running_stats=False), (channels * 2**k for k in range(4))
        layers = (
            convolution(2 * inputs, a) + convolution(a, b, norm) + convolution(b, c, norm) + convolution(c, d, norm, 1)
        )
        super().__init__(*layers, nn.Conv2d(d, 1, 4, 1, 1))

    def forward(self, noisy: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Map pairs, each (n, 1, s, s), to logits (n, 1, s/8 - 2, s/8 - 2): is `image` the original of `noisy`?"""
        return super().forward(torch.cat([noisy, image], 1))


def initialise(layer: nn.Module) -> None:
    """Draw weights as in the paper: N(0, 0.02) of convolutions, N(1, 0.02) of norms; biases are zero."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
        nn.init.normal_(layer.weight, float(isinstance(layer, nn.BatchNorm2d)), 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def cross_entropy(logits: torch.Tensor, original: float) -> torch.Tensor:
    """-log D of patches that are to be called `original` (1), -log(1 - D) of others (0); mean over patches, (n,)."""
    truth = torch.full_like(logits, original)
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((1, 2, 3))


def decay(epoch: float, epochs: int) -> float:
    """Learning rate after so many epochs as a share of the first: constant for one half, then linear to 0.

    Examples
    --------
    >>> [decay(epoch, 200) for epoch in (0, 100, 150, 199)]
    [1, 1, 0.5, 0.01]
    """
    return max(0, min(1, 2 * (epochs - epoch) / epochs))


class Reconstructor(Module):
    """G minimises -log D(y, G(y)) + l1 ``|x - G(y)|``; D minimises -[log D(y, x) + log(1 - D(y, G(y)))] / 2.

    In each step G moves first and D then judges the same reconstruction, so that G is evaluated
    once. Unlike the paper, a trained G is deterministic: dropout is off and batch normalisation
    uses its running statistics.

    Raises
    ------
    ValueError
        `size` is no power of two from 32 on (smaller images leave the discriminator no logit).
    """

    def __init__(self, settings: dict, size: int):
        super().__init__()
        self.settings, self.automatic_optimization = settings, False
        if size < 32 or size & (size - 1):
            below = max(32, 2 ** (size.bit_length() - 1))
            raise ValueError(f"Pix2Pix needs a power of two pixels a side, such as {below} or {2 * below}, not {size}")
        inputs = settings.get("inputs", 1)
        self.generator = Generator(size, settings["channels"], settings["dropout"], inputs)
        self.discriminator = Discriminator(settings["channels"], inputs)
        self.apply(initialise)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return self.generator(noisy)

    def reconstruct(self, noisy: torch.Tensor, seeds=None) -> torch.Tensor:
        """Map noisy images (n, 1, s, s) to reconstructions within [0, 1]; nothing is drawn, `seeds` are ignored."""
        return self(noisy)

    def objective(self, batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (n,) of the generator on a batch (noisy, original), each (n, s, s), and x_hat (n, 1, s, s)."""
        noisy, original = map(widen, batch)
        x_hat = self(noisy)
        adversarial = cross_entropy(self.discriminator(noisy, x_hat), 1)
        return adversarial + self.settings["l1"] * (x_hat - original).abs().mean((1, 2, 3)), x_hat

    def training_step(self, batch, batch_idx):
        noisy, original = map(widen, batch[:2])
        of_generator, of_discriminator = self.optimizers()
        self.discriminator.requires_grad_(False)
        losses, x_hat = self.objective(batch)
        self._descend(of_generator, generation := losses.mean())
        self.discriminator.requires_grad_(True)
        true, false = (self.discriminator(noisy, image) for image in (original, x_hat.detach()))
        discrimination = (cross_entropy(true, 1) + cross_entropy(false, 0)).mean() / 2
        self._descend(of_discriminator, discrimination)
        adversarial = cross_entropy(false.detach(), 1).mean()  # what the objective held: D had not moved yet
        return {
            "loss": generation + discrimination,  # not finite where either is not
            "generator": generation,
            "discriminator": discrimination,
            "adversarial": adversarial,
            "l1": F.l1_loss(x_hat.detach(), original),
        }

    def _descend(self, optimizer, loss) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def validation_step(self, batch, batch_idx):
        """Log the L1 loss alone: adversarial losses of two epochs speak of two discriminators."""
        noisy, original = map(widen, batch[:2])
        x_hat = self(noisy)
        self.log("val_loss", F.l1_loss(x_hat, original), batch_size=len(noisy))
        return x_hat

    def on_train_batch_start(self, batch, batch_idx):
        epoch = self.current_epoch + batch_idx / self.trainer.num_training_batches  # few epochs end at rest, too
        for optimizer in self.optimizers():
            for group in optimizer.param_groups:
                group["lr"] = self.settings["lr"] * decay(epoch, self.settings["epochs"])

    def configure_optimizers(self):
        adam = partial(torch.optim.Adam, lr=self.settings["lr"], betas=(0.5, 0.999), fused=True)
        return adam(self.generator.parameters()), adam(self.discriminator.parameters())
