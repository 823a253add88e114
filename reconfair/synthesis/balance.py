"""Balance: which cells a generator sees how often, and which groups its loss and a classifier's loss favour."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

from reconfair.keyed import generator
from reconfair.training import Batches

POWERS = {"natural": 0.0, "sqrs": 0.5, "cbrs": 1.0}
STRENGTH, MOST, KEPT = 0.5, 3.0, 100  # a of the gradient factor, its largest value, batches remembered
RENEWED, EXPLORED, CANDIDATES = 30, 0.1, 256  # FairDiffusion: steps between choices, UCB's weight, choices looked at


def cell_weights(counts, sampling: str, hardness=None, strength: float = STRENGTH) -> np.ndarray:
    """Weight with which each image of a cell is drawn, so that the expected weights of images sum to 1.

    Parameters
    ----------
    counts : array_like of int, shape (cells,)
        Training images of each cell, at least 1.
    sampling : {"natural", "sqrs", "cbrs"}
        Weights go as 1, 1 / sqrt(n) and 1 / n.
    hardness : array_like, shape (cells,), optional
        G_s: gradient norm of each cell over its mean; the weight is multiplied by 1 + a G_s, at most 3.
    strength : float
        a.

    Returns
    -------
    ndarray, shape (cells,)
        ``weights @ counts`` is 1.

    Examples
    --------
    >>> cell_weights([1, 4], "cbrs").round(3).tolist(), cell_weights([1, 4], "sqrs").round(3).tolist()
    ([0.5, 0.125], [0.333, 0.167])
    """
    counts = np.asarray(counts, float)
    factor = 1.0 if hardness is None else np.minimum(1 + strength * np.asarray(hardness, float), MOST)
    weights = counts ** -POWERS[sampling] * factor
    return weights / (weights @ counts)


class Balanced(Batches):
    """Batches whose images are drawn with replacement by the weights of their cells, which are renewed every epoch.

    Parameters
    ----------
    rows : ndarray of int
    cells : ndarray of int
        Cell of each row.
    batch_size, iterations : int
        Images in a batch, and batches in an epoch.
    seed : int
    sampling : str
        See `cell_weights`.
    norms : GradientNorms, optional
    """

    def __init__(self, rows, cells, batch_size, iterations, seed, sampling="natural", norms=None):
        super().__init__(rows, batch_size, seed)
        self.cells, self.iterations, self.sampling, self.norms = np.asarray(cells), iterations, sampling, norms

    def __len__(self) -> int:
        return self.iterations

    def __iter__(self):
        present, inverse, counts = np.unique(self.cells, return_inverse=True, return_counts=True)
        hardness = self.norms.hardness().numpy()[present] if self.norms else None
        shares = cell_weights(counts, self.sampling, hardness)[inverse]
        draw = generator(self.seed, "batches", self.epoch)
        size = (self.iterations, self.batch_size)
        return iter(draw.choice(self.rows, size, p=shares / shares.sum()))


class GradientNorms:
    """Gradient norms of each cell's images over the last 100 batches; NaN where a batch had no image of the cell."""

    kept = ("ring", "added")  # what a resumed training must know

    def __init__(self, cells: int):
        self.ring, self.added = torch.full((KEPT, cells), torch.nan), 0

    def add(self, norms: torch.Tensor) -> None:
        self.ring[self.added % KEPT] = norms.cpu()
        self.added += 1

    def hardness(self) -> torch.Tensor:
        """G_s, (cells,): mean norm of each cell over the mean of all cells; 1 where nothing is known."""
        means = self.ring.nanmean(0)
        return (means / means.nanmean()).nan_to_num(1.0, posinf=1.0)


def output_norms(layer, inputs: torch.Tensor, residual: torch.Tensor, cell: torch.Tensor, cells: int) -> torch.Tensor:
    """Norm of the gradient of an image's mean squared error with respect to the output layer, its mean in each cell.

    The norm of the gradient of a cell's mean error would be larger the fewer images the cell has in a batch, since less
    noise averages out, and cells that are equally hard would not keep their weights.

    Parameters
    ----------
    layer : Conv2d
    inputs : Tensor
        (n, channels, h, w), what the layer saw.
    residual : Tensor
        (n, outputs, h, w): its output minus the target.
    cell : Tensor
        (n,).
    cells : int

    Returns
    -------
    Tensor
        (cells,); NaN for a cell without an image.
    """
    slope = 2 * residual.float().flatten(2) / residual[0].numel()
    seen = F.unfold(inputs.float(), layer.kernel_size, padding=layer.padding, stride=layer.stride)
    norms = torch.cat([slope @ seen.mT, slope.sum(2, keepdim=True)], 2).flatten(1).norm(dim=1)
    sums, counts = (torch.zeros_like(norms[:1]).repeat(cells).index_add(0, cell, some) for some in (norms, norms**0))
    return sums / counts


class FairWeights:
    """Loss weights of FairDiffusion (Luo et al. 2024): 1 + sum over attributes of sigma_a xi, xi standard normal.

    sigma, within [0, 1] for each group, is chosen every 30 steps by a Gaussian process with an upper confidence bound,
    so that the sum over attributes of the largest difference in loss between groups is small; in between it moves as
    0.95 sigma + 0.05 U(0, 1).

    Parameters
    ----------
    groups : Tensor of int
        (cells, attributes): group of each cell.
    numbers : sequence of int
        Groups of each attribute.
    """

    kept = ("sigma", "steps", "chosen", "values", "losses", "counts")  # what a resumed training must know

    def __init__(self, groups: torch.Tensor, numbers):
        starts = np.cumsum([0, *numbers])
        self.member = groups + torch.tensor(starts[:-1])  # groups of all attributes, numbered through
        self.parts = [slice(a, b) for a, b in pairwise(starts)]
        self.sigma, self.steps = torch.full((int(starts[-1]),), 0.5), 0
        self.chosen, self.values = [], []  # what was tried, and what came of it
        self.losses, self.counts = torch.zeros_like(self.sigma), torch.zeros_like(self.sigma)

    def weigh(self, cell: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        """Weights (n,) of some losses (n,), which are remembered."""
        member = self.member[cell.cpu()]
        xi = torch.randn(member.shape)
        weights = 1 + (self.sigma[member] * xi).sum(1)
        for column in member.T:
            self.losses.index_add_(0, column, losses.cpu().float())
            self.counts.index_add_(0, column, torch.ones(len(column)))
        self.steps += 1
        if self.steps % RENEWED == 0:
            self._choose()
        else:
            self.sigma = 0.95 * self.sigma + 0.05 * torch.rand(len(self.sigma))
        return weights.to(losses)

    def _choose(self) -> None:
        means = (self.losses / self.counts).nan_to_num(float(self.losses.sum() / self.counts.sum()))
        self.values.append(-sum(float(means[part].max() - means[part].min()) for part in self.parts))
        self.chosen.append(self.sigma.clone())
        self.losses.zero_(), self.counts.zero_()
        candidates = torch.rand(CANDIDATES, len(self.sigma))
        mean, sd = process(torch.stack(self.chosen), torch.tensor(self.values), candidates)
        self.sigma = candidates[(mean + EXPLORED * sd).argmax()]


def process(x: torch.Tensor, y: torch.Tensor, at: torch.Tensor, length: float = 0.5, noise: float = 0.01):
    """Mean and standard deviation (m,) of a Gaussian process at points (m, d), given values y (n,) at points x (n, d).

    The kernel is Gaussian; `length` is for one dimension and grows with the square root of their number.
    """
    scale = y.std(correction=0).clamp(min=1e-12)
    kernel = lambda a, b: torch.exp(-torch.cdist(a, b).square() / (2 * length**2 * x.shape[1]))  # noqa: E731
    factor = torch.linalg.cholesky(kernel(x, x) + noise * torch.eye(len(x)))
    across = kernel(x, at)
    mean = across.T @ torch.cholesky_solve(((y - y.mean()) / scale)[:, None].to(x), factor)
    variance = 1 - torch.linalg.solve_triangular(factor, across, upper=False).square().sum(0)
    return y.mean() + scale * mean[:, 0], scale * variance.clamp(min=0).sqrt()


def inverse_performance(accuracy: dict[str, dict[str, float]], groups: dict[str, np.ndarray]) -> np.ndarray:
    """Weights of training images, so that groups with few right answers count more; their mean is 1.

    Of an attribute, w_a = (1 / (accuracy_a + 1e-6)) / its sum over the groups, times the number of groups. Weights of
    several attributes are multiplied, then divided by their mean over the images. A missing group weighs as 1.

    Parameters
    ----------
    accuracy : dict of dict of float
        By attribute and group, on validation images.
    groups : dict of ndarray
        By attribute, the group of each training image.

    Examples
    --------
    >>> inverse_performance({"sex": {"f": 0.5, "m": 1.0}}, {"sex": np.array(["f", "m"])}).round(3).tolist()
    [1.333, 0.667]
    """
    weights = 1.0
    for attribute, known in accuracy.items():
        inverse = {group: 1 / (value + 1e-6) for group, value in known.items()}
        mean = sum(inverse.values()) / max(len(inverse), 1)
        weights = weights * np.array([inverse.get(group, mean) / mean for group in groups[attribute]])
    return weights / np.mean(weights) if accuracy else np.ones(len(next(iter(groups.values()))))
