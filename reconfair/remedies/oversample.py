"""Oversampling: every batch holds the joint groups in shares between their natural ones and equal ones."""

import numpy as np

from reconfair.keyed import generator
from reconfair.remedies.remedy import Remedy
from reconfair.training import Batches


def group_shares(groups, level: float) -> np.ndarray:
    """Share of each group in a batch: (1 - level) n_g / n + level / G; who is in no group has its natural share.

    Parameters
    ----------
    groups : array_like of int
        (n,) group of each training image; -1: none.
    level : float
        0: as they come; 1: equal numbers of all groups.

    Returns
    -------
    ndarray
        One share for each of the sorted numbers in `groups`.

    Examples
    --------
    >>> [round(float(share), 3) for share in group_shares([0, 0, 0, 1], 0.5)]
    [0.625, 0.375]
    >>> [round(float(share), 3) for share in group_shares([0, 0, 0, 1, -1], 1)]
    [0.2, 0.4, 0.4]
    """
    names, counts = np.unique(groups, return_counts=True)
    natural = counts / counts.sum()
    equal = np.where(names < 0, natural, natural[names >= 0].sum() / max((names >= 0).sum(), 1))
    return (1 - level) * natural + level * equal


class GroupBatches(Batches):
    """Batches with a fixed number of images of each group: its share times the batch size, rounded at random.

    Images are drawn within their group, with replacement, and shuffled.
    """

    def __init__(self, rows, groups, level: float, batch_size: int, seed: int):
        super().__init__(rows, batch_size, seed)
        self.groups, self.ends = np.unique(groups, return_inverse=True)[1], np.cumsum(group_shares(groups, level))

    def __iter__(self):
        draw, batches = generator(self.seed, "oversample", self.epoch), []
        members = [self.rows[self.groups == group] for group in range(len(self.ends))]
        for start in range(0, len(self.rows), self.batch_size):
            n = min(self.batch_size, len(self.rows) - start)
            # One random offset for a batch: each group gets its share, rounded up or down (systematic sampling).
            of = np.minimum(np.searchsorted(self.ends, (draw.random() + np.arange(n)) / n), len(members) - 1)
            batch = np.concatenate([draw.choice(members[g], k) for g, k in enumerate(np.bincount(of)) if k])
            batches.append(draw.permutation(batch))
        return iter(batches)


class Oversample(Remedy):
    """Draws batches with more images of rare groups; its strength is the level of `group_shares`."""

    criterion = "balanced"

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Row numbers in batches; with a level of 0 those of plain training."""
        if not self.strength:
            return Batches(self.rows, batch_size, seed)
        return GroupBatches(self.rows, self.joint().numpy(), self.strength, batch_size, seed)
