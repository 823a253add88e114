"""Adversary: nothing in what the frozen networks see is to tell the patient's group."""

from copy import copy
from types import MappingProxyType, SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from reconfair.remedies.remedy import Remedy


def squared_correlation(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean over columns of the squared correlation of (n, columns) with (n, columns).

    A column that does not vary has no correlation and is left out.

    Examples
    --------
    >>> group = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    >>> [round(squared_correlation(x, group).item(), 3) for x in (3 - 2 * group, torch.eye(4)[:, :1])]
    [1.0, 0.333]
    """
    p, t = (values - values.mean(0) for values in (predicted, truth))
    varies = (p.square().sum(0) > 1e-10) & (t.square().sum(0) > 1e-10)
    p, t = p[:, varies], t[:, varies]
    squares = (p * t).sum(0).square() / (p.square().sum(0) * t.square().sum(0))
    return squares.mean() if varies.any() else predicted.sum() * 0


class Adversary(Remedy):
    """F = corr^2(h(features), group): h rises on it, the trained network falls.

    A predictor h (features, 32, groups of the attribute; one output for two groups) for every network and
    attribute; F is their mean. A batch is too few images for a correlation, so that the latest features of
    some images count too, without gradient; the batch's is scaled to stand for all. Options are ``adversary_lr`` (of
    the predictors' Adam), ``recent`` (images whose features are kept) and ``seed``.
    """

    terms = MappingProxyType({"adv": 1})

    def __init__(self, panel, rows, strength, options=MappingProxyType({})):
        super().__init__(panel, rows, strength, options)
        self.recent, self.learns, device = options.get("recent", 1024), True, panel.labels.device
        sizes = panel.features()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.get("seed", 0))
            self.predictors = nn.ModuleList(predictor(size, span) for size in sizes for span in panel.spans).to(device)
        self.optimizer = torch.optim.Adam(self.predictors.parameters(), lr=options.get("adversary_lr", 1e-4))
        self.latest = torch.empty(0, dtype=torch.long, device=device)
        self.pools = [torch.empty(0, size, device=device) for size in sizes]

    def measure(self, images: torch.Tensor, rows: torch.Tensor, masks=None) -> dict[str, torch.Tensor]:
        """corr^2 for the images (n, 1, s, s) of `rows`, after the predictors' step."""
        first = max(len(self.latest) + len(rows) - self.recent, 0)
        self.latest = torch.cat([self.latest[first:], rows])
        scale, pools = len(self.latest) / len(rows), []
        for pool, frozen in zip(self.pools, self.panel.networks.values(), strict=True):
            features = checkpoint(frozen.features, images, use_reentrant=False).float()  # see SoftEODD
            gradient = features - features.detach()  # zeros that carry the gradient
            pools.append(torch.cat([pool[first:], features.detach() + scale * gradient]))
        self.pools = [pool.detach() for pool in pools]
        if self.learns:
            self.ascend()
        return {"adv": self.correlation(pools)}

    def ascend(self) -> None:
        """One step of the predictors towards a higher correlation."""
        with torch.enable_grad():
            self.optimizer.zero_grad()
            (-self.correlation(self.pools)).backward()
        self.optimizer.step()

    def correlation(self, pools: list[torch.Tensor]) -> torch.Tensor:
        """Mean corr^2 over networks and attributes; images of unknown group are left out."""
        heads, correlations = iter(self.predictors), []
        for pool in pools:
            for span in self.panel.spans:
                truth = self.panel.groups[self.latest][:, span]
                known, columns = truth.sum(1) > 0, 1 if truth.shape[1] == 2 else truth.shape[1]
                correlations.append(squared_correlation(next(heads)(pool[known]), truth[known, :columns]))
        return torch.stack(correlations).mean()

    def afresh(self):
        """The same predictors, which have seen nothing and learn no more."""
        other = copy(self)
        other.recent, other.learns, other.latest = len(self.panel.labels), False, self.latest[:0]
        other.pools = [pool[:0] for pool in self.pools]
        return other

    def state_dict(self) -> dict:
        return {
            "predictors": self.predictors.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": self.latest,
            "pools": self.pools,
        }

    def load_state_dict(self, state: dict) -> None:
        self.predictors.load_state_dict(state["predictors"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.latest = state["rows"].to(self.latest)
        self.pools = [pool.to(self.latest.device) for pool in state["pools"]]


def predictor(features: int, span: slice) -> nn.Sequential:
    """Features to 32 to one output a group, or one in all where there are two groups."""
    groups = span.stop - span.start
    return nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, 1 if groups == 2 else groups))


def duel(steps: int = 300, alone: int = 100, seed: int = 0) -> np.ndarray:
    """A toy whose answer is known: one quarter of an image is brighter in one group, and may be dimmed.

    The predictor is alone for some steps; then brightness descends on the correlation.

    Returns
    -------
    ndarray
        (steps, 2): the predictor's corr^2 with the group, and the share of the brightness that is left.

    Examples
    --------
    >>> path = duel()
    >>> bool(path[99, 0] > 0.9), bool(path[-20:, 0].mean() < 0.2)
    (True, True)
    """
    draw = torch.Generator().manual_seed(seed)
    images, group = torch.rand(512, 1, 8, 8, generator=draw), torch.randint(0, 2, (512,), generator=draw)
    bright = torch.zeros_like(images)
    bright[:, :, :4, :4] = 0.5 * group[:, None, None, None]
    quarters = SimpleNamespace(features=lambda x: nn.functional.avg_pool2d(x, 4).flatten(1))
    panel = SimpleNamespace(networks={"quarters": quarters}, features=lambda: [4], spans=[slice(0, 2)])
    panel.groups, panel.labels = torch.eye(2)[group], group
    adversary = Adversary(panel, [], 1, {"adversary_lr": 0.01, "recent": 256, "seed": seed})
    left, steps_taken = torch.ones((), requires_grad=True), []
    optimizer = torch.optim.Adam([left], lr=0.02)
    for step in range(steps):
        rows = torch.arange(32) + 32 * (step % 16)
        penalty = adversary.measure(images[rows] + left * bright[rows], rows)["adv"]
        steps_taken.append((penalty.item(), left.item()))
        if step >= alone:
            optimizer.zero_grad()
            penalty.backward()
            optimizer.step()
    return np.array(steps_taken)
