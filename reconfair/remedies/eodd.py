"""Soft EODD: the disparity of a frozen network's decisions as a loss, which has a gradient."""

from types import MappingProxyType

import torch
from torch.utils.checkpoint import checkpoint

from reconfair.remedies.remedy import Remedy


def soft_decisions(score: torch.Tensor, threshold, temperature: float = 0.3) -> torch.Tensor:
    """sigmoid((score - threshold) / temperature); as the temperature falls it tends to the decision itself.

    Examples
    --------
    >>> soft_decisions(torch.tensor([0.4, 0.6]), 0.5, temperature=0.01).round(decimals=3).tolist()
    [0.0, 1.0]
    """
    return torch.sigmoid((score - threshold) / temperature)


def soft_dice(probability: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """2 sum(p m) / (sum p + sum m) of each of n masks, (n, s, s) to (n,)."""
    overlap, total = (probability * truth).sum((1, 2)), (probability + truth).sum((1, 2))
    return 2 * overlap / total.clamp(min=1e-6)


def cell_sums(soft: torch.Tensor, groups: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the soft decisions of every cell (label, group, task), and how many they are.

    Parameters
    ----------
    soft : Tensor
        (n, tasks), missing where nothing is known yet.
    groups : Tensor
        (n, groups) of zeros and ones, the groups of all attributes side by side.
    labels : Tensor
        (n, tasks) 0, 1 or missing.

    Returns
    -------
    sums, counts : Tensor
        (2, groups, tasks), the labels in the order 0, 1.
    """
    cells = torch.stack([labels == 0, labels == 1]) & ~soft.isnan()
    sums = torch.einsum("ng,ynk->ygk", groups, torch.where(cells, soft, 0))
    return sums, torch.einsum("ng,ynk->ygk", groups, cells.to(groups))


def gaps(means: torch.Tensor, counts: torch.Tensor, spans: list[slice]) -> torch.Tensor:
    """Largest difference between groups within each attribute: (2, attributes, tasks). Empty cells are left out."""
    gaps = []
    for span in spans:
        values, filled = means[:, span], counts[:, span] > 0
        high, low = values.where(filled, -torch.inf).amax(1), values.where(filled, torch.inf).amin(1)
        gaps.append((high - low).clamp(min=0))
    return torch.stack(gaps, 1)


class SoftEODD(Remedy):
    """F = E^2 / EMA(E^2) + 0.5 BCE / EMA(BCE), with E the largest soft EODD over attributes and tasks.

    E is that of all training images: of those outside the batch the last known decision counts, which makes
    every cell that training has at all a populated one. The gradient is that of the batch alone, scaled so that
    on average it is the whole's. For a segmentation E is the gap of the soft Dice.

    Its option ``temperature`` is that of the soft decisions, in units of probability.
    """

    terms = MappingProxyType({"eodd": 1, "bce": 0.5})
    kept = ("memory",)

    def __init__(self, panel, rows, strength, options=MappingProxyType({})):
        super().__init__(panel, rows, strength, options)
        self.temperature = options.get("temperature", 0.3)
        self.memory = torch.full_like(panel.labels, torch.nan)

    def measure(self, images: torch.Tensor, rows: torch.Tensor, masks=None) -> dict[str, torch.Tensor]:
        """E^2 and BCE for the images (n, 1, s, s) of `rows`, and the share of empty cells."""
        soft, losses = [], []
        for network, frozen in self.panel.networks.items():
            logits = checkpoint(frozen, images, use_reentrant=False)  # one network at a time holds its activations
            if network.kind == "segment":
                truth = self.panel.region(masks, network.tasks[0])
                soft.append(soft_dice(logits[:, 0].sigmoid(), truth)[:, None])
                losses.append(frozen.criterion(logits, truth))
            else:
                tasks = self.panel.columns(network)
                soft.append(soft_decisions(logits.sigmoid(), self.panel.thresholds[tasks], self.temperature))
                losses.append(frozen.criterion(logits, self.panel.labels[rows][:, tasks]))
        largest, bce = self.largest(torch.cat(soft, 1), rows), torch.stack(losses).mean()
        return {"eodd": largest.square(), "bce": bce, "empty": self.empty()}

    def largest(self, soft: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Largest soft EODD over attributes and tasks, given the batch's soft decisions (n, tasks)."""
        groups, labels = self.panel.groups, self.panel.labels
        self.memory[rows] = soft.detach()
        sums, counts = cell_sums(self.memory, groups, labels)
        moved, _ = cell_sums(soft - soft.detach(), groups[rows], labels[rows])  # zeros that carry the gradient
        known = (~self.memory.isnan()).any(1).sum()
        means = (sums + known / len(rows) * moved) / counts.clamp(min=1)
        return (gaps(means, counts, self.panel.spans).sum(0) / self.panel.rates).amax()

    def empty(self) -> torch.Tensor:
        """Share of the cells of group, label and task that hold no image yet."""
        _, counts = cell_sums(self.memory, self.panel.groups, self.panel.labels)
        asked = torch.stack([self.panel.rates == 2, self.panel.rates > 0])[:, None].expand_as(counts)
        return (counts[asked] == 0).float().mean()

    def afresh(self):
        """The same without what it has seen."""
        return SoftEODD(self.panel, self.rows, self.strength, self.options)
