"""From a score to a decision: the balanced threshold, and the decisions of every arm."""

import numpy as np


def balanced_threshold(*, score, label, criterion="min_gap"):
    """Score at which sensitivity and specificity are balanced best (decision: score >= threshold).

    Parameters
    ----------
    score : array_like, shape (n,)
    label : array_like, shape (n,)
        0 or 1; NaN is left out.
    criterion : {"min_gap", "youden", "gmeans"}
        Smallest abs(TPR - TNR); largest TPR + TNR - 1; largest sqrt(TPR TNR).

    Returns
    -------
    float
        The best of the observed scores; of several, the lowest.

    Raises
    ------
    ValueError
        If all labels are of one class.

    Examples
    --------
    >>> score, label = [0.1, 0.2, 0.3, 0.4, 0.9], [0, 0, 0, 1, 1]
    >>> [balanced_threshold(score=score, label=label, criterion=c) for c in ("min_gap", "youden", "gmeans")]
    [0.4, 0.4, 0.4]
    """
    score, label = np.asarray(score, float), np.asarray(label, float)
    known = ~np.isnan(label)
    score, positive = score[known], label[known] == 1
    if positive.all() or not positive.any():
        raise ValueError("a threshold needs cases of both classes")
    candidates = np.unique(score)
    tpr = 1 - np.searchsorted(np.sort(score[positive]), candidates) / positive.sum()
    tnr = np.searchsorted(np.sort(score[~positive]), candidates) / (~positive).sum()
    best = {"min_gap": -np.abs(tpr - tnr), "youden": tpr + tnr, "gmeans": tpr * tnr}[criterion]
    return float(candidates[np.argmax(np.round(best, 12))])


def moved(score, threshold: float, common: float):
    """Stretch scores such that `threshold` comes to lie at `common`, and 0 and 1 stay where they are.

    Examples
    --------
    >>> [round(float(value), 3) for value in moved(np.array([0, 0.1, 0.2, 1]), 0.2, 0.5)]
    [0.0, 0.25, 0.5, 1.0]
    """
    low, high = max(threshold, 1e-12), max(1 - threshold, 1e-12)
    score = np.asarray(score, float)
    below, above = score * common / low, 1 - (1 - score) * (1 - common) / high
    # Rounding must not carry a score over the threshold.
    return np.where(score < threshold, np.minimum(below, np.nextafter(common, 0)), np.maximum(above, common))


def decisions(task, thresholds, published=False):
    """Thresholds and decisions of every arm of a task.

    Parameters
    ----------
    task : checks.Task
    thresholds : dict
        By task a score, or a dict of scores by reader; of a task with folds, such a dict for each fold.
    published : bool
        Each arm has its own balanced threshold, chosen on the scores that are judged.

    Returns
    -------
    cut : dict of float
        By arm; empty for tasks without a threshold. With folds an array of shape (n,): the threshold of each unit.
    called : dict of numpy.ndarray of bool, shape (n,)
        By arm, which units score at or above it. Of a class among several: which are given to it, by the decision of
        the table; of a task of several classes: the number of the class.

    Raises
    ------
    ValueError
        Naming the task, and the reader or the fold, without a threshold.
    """
    cut = {}
    if "decision" in next(iter(task.arms.values())):
        kind = int if task.classes else bool
        return {}, {arm: rows.decision.to_numpy().astype(kind) for arm, rows in task.arms.items()}
    for arm, rows in task.arms.items() if task.kind == "classify" else ():
        if task.fold is None:
            balanced = balanced_threshold(score=rows.score, label=rows.label) if published else None
            cut[arm] = balanced if published else _threshold(thresholds, task.name, arm[2])
            continue
        cut[arm] = np.empty(len(rows))
        for fold in np.unique(task.fold):
            inside = task.fold == fold
            if published:
                cut[arm][inside] = balanced_threshold(score=rows.score[inside], label=rows.label[inside])
            elif fold in thresholds:
                cut[arm][inside] = _threshold(thresholds[fold], task.name, arm[2])
            else:
                there = ", ".join(map(str, thresholds)) or "none"
                raise ValueError(f"thresholds: none for fold {fold} of task '{task.name}'; there is {there}")
    return cut, {arm: (task.arms[arm].score >= value).to_numpy() for arm, value in cut.items()}


def _threshold(thresholds, name, reader):
    """The score from which on a reader calls a task positive."""
    if name not in thresholds:
        there = ", ".join(map(str, thresholds)) or "none"
        raise ValueError(f"thresholds: none for task '{name}'; there is {there}")
    given = thresholds[name]
    if isinstance(given, dict) and reader not in given:
        raise ValueError(f"thresholds: none for task '{name}' and reader '{reader}'; there is {', '.join(given)}")
    return float(given[reader] if isinstance(given, dict) else given)
