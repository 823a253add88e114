"""Weights of the loss by group; images are drawn as they come. And the dose of attention that the rarest group gets."""

from math import comb
from types import MappingProxyType

import numpy as np
import torch

from reconfair.remedies.dro import GroupDRO
from reconfair.remedies.remedy import Remedy, of_groups


def loss_weights(counts, strength: float = 1) -> np.ndarray:
    """Weight of each group's loss, (n / n_g)^strength, scaled to a mean of 1 over images.

    With strength 1 it is n / (G n_g): each of the G groups contributes equally.

    Examples
    --------
    >>> loss_weights([30, 10]).round(3).tolist()
    [0.667, 2.0]
    """
    counts = np.asarray(counts, float)
    weights = np.divide(1, counts, out=np.zeros_like(counts), where=counts > 0) ** strength * (counts > 0)
    return weights * counts.sum() / (weights * counts).sum()


class LossWeights(Remedy):
    """Multiplies each image's loss by the weight of its joint group in the training set.

    With the option ``reweight: as_published``, the published code instead: weights are counted in the batch and add up
    to 1 over its groups, and a product of the wrong shapes scales every loss by the batch's mean weight. A batch of B
    images with k of the smaller of two groups is scaled by 2 k (B - k) / B^2, and one with a single group by 1. (In
    that code the Dice term keeps its scale; here all of the loss is scaled.)
    """

    criterion = "balanced"

    def __init__(self, panel, rows, strength, options=MappingProxyType({})):
        super().__init__(panel, rows, strength, options)
        self.weights = torch.tensor(loss_weights(self.counts(), strength), dtype=torch.float32)
        self.published = options.get("reweight") == "as_published"

    def weigh(self, losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        of = self.panel.joint[rows].cpu()
        if self.published and self.strength:
            return losses * published_scale(of[of >= 0].unique(return_counts=True)[1].tolist())
        return losses * of_groups(self.weights, of).to(losses)


def published_scale(counts) -> float:
    """Mean weight by which the published reweighting scales a batch with so many images of each group.

    Examples
    --------
    >>> published_scale([1, 15]), published_scale([16])
    (0.1171875, 1.0)
    """
    counts = np.asarray(counts, float)
    return float(len(counts) / (counts.sum() * (1 / counts).sum())) if len(counts) else 1.0


class WorstGroup(GroupDRO):
    """max over groups of the batch's mean loss (equation 2 of Lee et al.): the other groups have no weight."""

    def weigh(self, losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        of, known = self.panel.joint[rows].cpu(), losses.detach().cpu()
        groups = of[of >= 0].unique()
        if not len(groups):
            return losses
        worst = groups[torch.stack([known[of == group].mean() for group in groups]).argmax()]
        return losses * (of == worst).to(losses) * len(losses) / (of == worst).sum()


class MeanOfGroups(GroupDRO):
    """The mean of the batch's group means: group DRO in the published code, whose weights start anew in each step."""

    def weigh(self, losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        of = self.panel.joint[rows].cpu()
        counts = torch.bincount(of[of >= 0], minlength=len(self.share))
        return losses * of_groups(counts.sum() / (counts.count_nonzero() * counts), of).to(losses)


def minority_share(count: int, images: int, method: str, batch: int = 16, level: float = 1, groups: int = 2) -> float:
    """Share of the gradient that the rarest group gets, in multiples of its share in plain training.

    Parameters
    ----------
    count, images : int
        Training images of the rarest group, and of all groups.
    method : str
        ``plain``, ``oversample``, ``reweight``, or as published ``reweight as_published`` and ``dro as_published``;
        the last two for two groups.
    batch : int
        Images of a batch, which the published methods depend on.
    level : float
        Of oversampling, or the power of reweighting.
    groups : int

    Returns
    -------
    float

    Examples
    --------
    >>> [round(minority_share(15, 4236, "reweight as_published", batch), 2) for batch in (16, 64)]
    [0.13, 0.05]
    >>> [round(minority_share(15, 4236, "dro as_published", batch), 1) for batch in (16, 64)]
    [7.8, 28.7]
    >>> round(minority_share(15, 4236, "oversample"))
    141
    """
    share = count / images
    if method == "plain":
        return 1.0
    if method == "oversample":
        return ((1 - level) * share + level / groups) / share
    if method == "reweight":
        return float(loss_weights([count, *[(images - count) / (groups - 1)] * (groups - 1)], level)[0])
    k = np.arange(batch + 1)
    chance = np.array([comb(batch, int(i)) for i in k], float) * share**k * (1 - share) ** (batch - k)
    if method == "dro as_published":
        scale, weight = np.ones(len(k)), np.where((k > 0) & (k < batch), 1 / 2, k / batch)
    else:
        scale = np.where((k > 0) & (k < batch), 2 * k * (batch - k) / batch**2, 1)
        weight = scale * k / batch
    return float((chance * weight).sum() / (chance * scale).sum() / share)
