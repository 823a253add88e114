"""From a score to a decision: the balanced threshold."""

import numpy as np


def balanced_threshold(*, score, label):
    """Score at which sensitivity and specificity are most alike (decision: score >= threshold).

    Parameters
    ----------
    score : array_like
        (n,) scores.
    label : array_like
        (n,) 0 or 1; NaN is left out.

    Returns
    -------
    float
        The observed score with the smallest abs(TPR - TNR); of several, the lowest.

    Examples
    --------
    >>> balanced_threshold(score=[0.1, 0.4, 0.6, 0.9], label=[0, 0, 1, 1])
    0.6
    """
    score, label = np.asarray(score, float), np.asarray(label, float)
    known = ~np.isnan(label)
    score, positive = score[known], label[known] == 1
    if positive.all() or not positive.any():
        raise ValueError("a threshold needs cases of both classes")
    candidates = np.unique(score)
    tpr = 1 - np.searchsorted(np.sort(score[positive]), candidates) / positive.sum()
    tnr = np.searchsorted(np.sort(score[~positive]), candidates) / (~positive).sum()
    return float(candidates[np.argmin(np.round(np.abs(tpr - tnr), 12))])
