"""Reweighting: every joint attribute group is seen equally often; the loss stays the same."""

import numpy as np
import pandas as pd

from reconfair.remedies.remedy import Remedy


def weights(groups: pd.DataFrame, strength: float = 1) -> pd.Series:
    """Probability of drawing each image, proportional to 1 / n(its joint group).

    Parameters
    ----------
    groups : DataFrame
        (n images, attributes). An image with a missing one is drawn as often as without reweighting.
    strength : float
        Power of that proportion: 1 shows every joint group equally often, 0 every image.

    Returns
    -------
    Series
        (n,) adding up to 1; with strength 1 each joint group has the same sum.

    References
    ----------
    Slides of the study, "Reweighting": p_i = (1 / n_g(i)) / sum_j (1 / n_g(j)).

    Examples
    --------
    >>> weights(pd.DataFrame({"sex": ["female", "male", "male"]})).tolist()
    [0.5, 0.25, 0.25]
    """
    known = groups.notna().all(axis=1)
    members = groups.groupby(list(groups.columns))[groups.columns[0]].transform("size")
    drawn = ((1 / members) ** strength).where(known)
    return (drawn / drawn.sum() * known.mean()).fillna(1 / len(groups))


class Reweight(Remedy):
    """Draws images with these probabilities."""

    criterion = "balanced"

    def shares(self) -> np.ndarray:
        joint = pd.DataFrame({"joint": self.joint()})
        return weights(joint.where(joint >= 0), self.strength).to_numpy()
