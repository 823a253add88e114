"""Reweighting: every joint attribute group is seen equally often; the loss stays the same."""

import pandas as pd


def weights(groups: pd.DataFrame) -> pd.Series:
    """Probability of drawing each image, proportional to 1 / n(its joint group).

    Parameters
    ----------
    groups : DataFrame
        (n images, attributes), no missing values.

    Returns
    -------
    Series
        (n,) adding up to 1; each joint group has the same sum.

    References
    ----------
    Slides of the study, "Reweighting": p_i = (1 / n_g(i)) / sum_j (1 / n_g(j)).

    Examples
    --------
    >>> weights(pd.DataFrame({"sex": ["female", "male", "male"]})).tolist()
    [0.5, 0.25, 0.25]
    """
    members = groups.groupby(list(groups.columns))[groups.columns[0]].transform("size")
    return (1 / members) / (1 / members).sum()


def adapt(module, groups: pd.DataFrame):
    """Return the reconstructor as it is, and unequal weights for its images."""
    return module, weights(groups).to_numpy()
