"""From a score to a decision: the balanced threshold, and the decisions of every arm."""

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


def decisions(task, thresholds, published=False):
    """Thresholds and decisions of every arm of a task.

    Parameters
    ----------
    task : checks.Task
    thresholds : dict
        By task a score, or a dict of scores by reader.
    published : bool
        Each arm has its own balanced threshold, chosen on the scores that are judged.

    Returns
    -------
    cut : dict of float
        By arm; empty for tasks without a threshold.
    called : dict of numpy.ndarray of bool, shape (n,)
        By arm, which units score at or above it. Of a class among several: which are given to it, by the decision of
        the table; of a task of several classes: the number of the class.

    Raises
    ------
    ValueError
        Naming the task, and the reader, without a threshold.
    """
    cut = {}
    if "decision" in next(iter(task.arms.values())):
        kind = int if task.classes else bool
        return {}, {arm: rows.decision.to_numpy().astype(kind) for arm, rows in task.arms.items()}
    for arm, rows in task.arms.items() if task.kind == "classify" else ():
        if published:
            cut[arm] = balanced_threshold(score=rows.score, label=rows.label)
            continue
        if task.name not in thresholds:
            raise ValueError(f"thresholds: none for task '{task.name}'; there is {', '.join(thresholds) or 'none'}")
        given = thresholds[task.name]
        if isinstance(given, dict) and arm[2] not in given:
            raise ValueError(
                f"thresholds: none for task '{task.name}' and reader '{arm[2]}'; there is {', '.join(given)}"
            )
        cut[arm] = float(given[arm[2]] if isinstance(given, dict) else given)
    return cut, {arm: (task.arms[arm].score >= value).to_numpy() for arm, value in cut.items()}
