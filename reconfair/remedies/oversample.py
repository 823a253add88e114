"""Oversampling: every batch holds the joint groups in shares between their natural ones and equal ones."""

import numpy as np

from reconfair.keyed import generator
from reconfair.remedies.remedy import Remedy
from reconfair.training import Batches


def group_shares(groups, level: float) -> np.ndarray:
    """Share of each group in a batch: (1 - level) n_g / n + level / G.

    Parameters
    ----------
    groups : array_like of int
        (n,) group of each training image, numbered from 0 without gaps.
    level : float
        0: as they come; 1: equal numbers of all groups.

    Examples
    --------
    >>> [round(float(share), 3) for share in group_shares([0, 0, 0, 1], 0.5)]
    [0.625, 0.375]
    """
    natural = np.bincount(groups) / len(groups)
    return (1 - level) * natural + level / len(natural)


class GroupBatches(Batches):
    """Batches with a fixed number of images of each group: its share times the batch size, rounded at random.

    Images are drawn within their group, with replacement, and shuffled.
    """

    def __init__(self, rows, groups, level: float, batch_size: int, seed: int):
        super().__init__(rows, batch_size, seed)
        self.groups = np.unique(groups, return_inverse=True)[1]
        self.ends = np.cumsum(group_shares(self.groups, level))

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
        joint = self.panel.joint[list(self.rows)].cpu().numpy()
        return GroupBatches(self.rows, joint, self.strength, batch_size, seed)
