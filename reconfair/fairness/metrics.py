"""Performance and fairness as functions of weights.

Every performance metric takes one row per unit (an image or a patient), `weights` of shape
(B, n) that say how often each resample holds each row, and a boolean `member` of shape (n, G)
that says which group a row belongs to; it returns (B, G). Without weights every row counts
once, without `member` all rows are one group. Fairness metrics turn such (B, G) into (B,).

A group without any row to compute a metric from has the value NaN, never 0 or 1. Groups with
NaN are left out of comparisons, and a comparison of fewer than two groups is NaN.

References
----------
Wohlrapp, Bubeck, Rueckert, Lotter. Evaluating the Impact of Medical Image Reconstruction on
Downstream AI Fairness and Performance. MIDL 2026.
Hardt, Price, Srebro. Equality of opportunity in supervised learning. NeurIPS 2016.
Tian et al. FairSeg: a large-scale medical image segmentation dataset for fairness learning. ICLR 2024 (ESSP).
"""

import numpy as np


def tpr(*, decision, label, weights=None, member=None):
    """Share of the positive rows that are called positive (sensitivity).

    Parameters
    ----------
    decision : array_like of bool, shape (n,)
    label : array_like, shape (n,)
        1, 0, or NaN where unknown; unknown rows do not count.
    weights : array_like, shape (B, n), optional
    member : array_like of bool, shape (n, G), optional

    Returns
    -------
    numpy.ndarray, shape (B, G)
        In [0, 1]; NaN where a group has no positive row.

    Examples
    --------
    >>> tpr(decision=[True, False, True], label=[1, 1, 0])
    array([[0.5]])
    """
    positive = np.asarray(label) == 1
    return _share(positive & np.asarray(decision, bool), positive, weights, member)


def fpr(*, decision, label, weights=None, member=None):
    """Share of the negative rows that are called positive (1 - specificity); see `tpr`."""
    negative = np.asarray(label) == 0
    return _share(negative & np.asarray(decision, bool), negative, weights, member)


def ppr(*, decision, weights=None, member=None):
    """Share of all rows that are called positive, whatever their label; see `tpr`."""
    decision = np.asarray(decision, bool)
    return _share(decision, np.ones(decision.size), weights, member)


def auroc(*, score, label, weights=None, member=None, fold=None):
    """Area under the ROC curve: P(score of a positive > score of a negative), ties count 1/2.

    Parameters
    ----------
    score, label : array_like, shape (n,)
    weights : array_like, shape (B, n), optional
    member : array_like of bool, shape (n, G), optional
    fold : array_like, shape (n,), optional
        Only rows of one fold are compared.

    Returns
    -------
    numpy.ndarray, shape (B, G)
        In [0, 1]; NaN where a group lacks one of the labels.

    Examples
    --------
    >>> auroc(score=[0.1, 0.5, 0.5, 0.9], label=[0, 0, 1, 1])
    array([[0.875]])
    """
    return _ranked(_auroc, score, label, weights, member, fold)


def auprc(*, score, label, weights=None, member=None, fold=None):
    """Area under the precision-recall curve as average precision, without interpolation.

    The mean over positives of the precision among the rows that score at least as high. By chance
    alone it is the prevalence: between groups that differ in prevalence it differs for that reason.

    Parameters
    ----------
    score, label : array_like, shape (n,)
    weights : array_like, shape (B, n), optional
    member : array_like of bool, shape (n, G), optional
    fold : array_like, shape (n,), optional
        The precision of a positive is that among the rows of its fold.

    Returns
    -------
    numpy.ndarray, shape (B, G)
        In [0, 1]; NaN where a group has no positive row.

    Examples
    --------
    >>> auprc(score=[0.1, 0.5, 0.5, 0.9], label=[0, 0, 1, 1]).round(3)
    array([[0.833]])
    """
    return _ranked(_auprc, score, label, weights, member, fold)


def accuracy(*, decision, label, weights=None, member=None):
    """Share of the rows whose class is decided rightly; two classes or more, see `tpr`.

    Of a reader that synthetic images have trained, it is the classification accuracy score (CAS): accuracy on real
    test images (Ravuri, Vinyals. Classification accuracy score for conditional generative models. NeurIPS 2019).

    Parameters
    ----------
    decision, label : array_like, shape (n,)
        Number of the class; NaN labels do not count.

    Examples
    --------
    >>> accuracy(decision=[0, 2, 1, 2], label=[0, 1, 1, 2])
    array([[0.75]])
    """
    decision, label = np.asarray(decision, float), np.asarray(label, float)
    known = ~np.isnan(label)
    return _share(known & (decision == label), known, weights, member)


def gap(values):
    """Largest minus smallest value over groups.

    Parameters
    ----------
    values : array_like, shape (..., G)

    Returns
    -------
    numpy.ndarray, shape (...)

    Examples
    --------
    >>> gap([0.7, 0.9, float("nan")]).round(12)
    np.float64(0.2)
    """
    low, high = _extremes(values)
    return high - low


def eodd(*, tpr, fpr, combine="mean"):
    """Equalised-odds difference: the gaps in TPR and FPR, combined.

    Parameters
    ----------
    tpr, fpr : array_like, shape (..., G)
    combine : {"mean", "worst_case"}
        Mean of the two gaps (the paper's definition) or the larger one.

    Returns
    -------
    numpy.ndarray, shape (...)
        In [0, 1], 0 is equal.

    Raises
    ------
    ValueError
        If `combine` is neither.

    Examples
    --------
    >>> eodd(tpr=[0.8, 0.6], fpr=[0.1, 0.1]).round(12)
    np.float64(0.1)
    """
    if combine not in ("mean", "worst_case"):
        raise ValueError(f"eodd must be 'mean' or 'worst_case', not {combine!r}")
    gaps = gap(tpr), gap(fpr)
    return (gaps[0] + gaps[1]) / 2 if combine == "mean" else np.maximum(*gaps)


def eop(*, tpr):
    """Equal-opportunity difference: the gap in TPR, shape (..., G) to (...)."""
    return gap(tpr)


def demographic_parity(*, ppr):
    """Gap in the share called positive, shape (..., G) to (...); it differs where prevalence does.

    Of several classes: the mean over classes of the gap in the share that is given to the class, `macro` of it.
    """
    return gap(ppr)


def macro(gaps):
    """Mean over classes, the last axis: (..., C) to (...).

    With the gaps of `demographic_parity`, `eop` or `eodd` by class it is demographic parity (DP), equal opportunity
    (EO) or EODD of a task of several classes. Of two classes DP and EODD are then those of either class, since the
    gaps of both are equal; EO of a binary task is `eop`, that of the positive class alone.

    Examples
    --------
    >>> ppr = [[0.5, 0.3], [0.2, 0.3], [0.3, 0.4]]  # by class, of two groups
    >>> macro(demographic_parity(ppr=ppr)).round(3)
    np.float64(0.133)
    """
    return np.mean(gaps, axis=-1)


def essp(*, overall, groups):
    """Equity-scaled performance: I / (1 + sum over groups of abs(I - I_a)).

    Published for accuracy in percent, on which it depends strongly; here I is a fraction, so that it lies in [0, 1].

    Parameters
    ----------
    overall : array_like, shape (...)
        Performance of everyone, in [0, 1].
    groups : array_like, shape (..., G)
        Performance of each group, in [0, 1]; NaN is left out.

    Returns
    -------
    numpy.ndarray, shape (...)
        In [0, 1]; `overall` where groups do not differ. Larger is better.

    Examples
    --------
    >>> essp(overall=0.8, groups=[0.9, 0.7]).round(3)
    np.float64(0.667)
    """
    overall, groups = np.asarray(overall, float), np.asarray(groups, float)
    return overall / (1 + np.nansum(np.abs(overall[..., None] - groups), axis=-1))


def nar(*, values):
    """Normalised accuracy range: (largest - smallest) / mean over groups.

    Parameters
    ----------
    values : array_like, shape (..., G)
        Accuracy of each group, in [0, 1].

    Returns
    -------
    numpy.ndarray, shape (...)
        At least 0, which is equal; NaN of fewer than two groups.

    References
    ----------
    As FairGen reports it, of skin lesions, chest radiographs and brain MRI.

    Examples
    --------
    >>> nar(values=[0.9, 0.7]).round(3)
    np.float64(0.25)
    """
    values = np.asarray(values, float)
    known = np.isfinite(values)
    mean = _divide(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))
    return _divide(gap(values), mean)


def ser(*, dice):
    """Skewed error ratio (1 - min Dice) / (1 - max Dice), 1 is equal.

    Parameters
    ----------
    dice : array_like, shape (..., G)

    Returns
    -------
    numpy.ndarray, shape (...)
        At least 1; NaN where the best group is perfect.

    Examples
    --------
    >>> ser(dice=[0.8, 0.9]).round(12)
    np.float64(2.0)
    """
    low, high = _extremes(dice)
    return _divide(1 - low, 1 - high)


def delta_dice(*, dice):
    """Gap in Dice, shape (..., G) to (...)."""
    return gap(dice)


# What the numbers of a metric are, for a data dictionary.
UNITS = {
    "tpr": "share of the positive units that are called positive, 0 to 1",
    "fpr": "share of the negative units that are called positive, 0 to 1",
    "ppr": "share of all units that are called positive, 0 to 1",
    "auroc": "probability that a positive unit scores above a negative one, 0 to 1; 0.5 is chance",
    "auprc": "average precision, 0 to 1; the prevalence is chance",
    "calibration": "mean score minus prevalence, -1 to 1; 0 is right on average",
    "accuracy": "share of the units whose class is decided rightly, 0 to 1; of a task of several classes",
    "kappa": "agreement of decision and label beyond chance, with quadratic weights, at most 1; of classes in order",
    "dice": "Dice coefficient, 0 to 1, mean over patients",
    "psnr": "decibels, mean over patients",
    "ssim": "structural similarity, -1 to 1, mean over patients",
    "eodd": "mean (or larger) of the ranges of TPR and FPR over groups, 0 to 1",
    "eop": "range of TPR over groups, 0 to 1",
    "fpr_gap": "range of FPR over groups, 0 to 1",
    "demographic_parity": "range of the share called positive over groups, 0 to 1",
    "auroc_gap": "range of AUROC over groups, 0 to 1",
    "eodd_worst": "EODD of the class where it is largest, 0 to 1; of a task of several classes",
    "accuracy_gap": "range of accuracy over groups, 0 to 1",
    "kappa_gap": "range of kappa over groups, 0 to 2",
    "tpr_slope": "change of TPR for each standard deviation of an attribute that is kept whole",
    "fpr_slope": "change of FPR for each standard deviation of an attribute that is kept whole",
    "dice_slope": "change of Dice for each standard deviation of an attribute that is kept whole",
    "nar": "range of accuracy over groups divided by its mean, from 0",
    "essp": "accuracy of everyone divided by 1 + the sum over groups of its distance from theirs, 0 to 1; "
    "larger is better",
    "auprc_gap": "range of average precision over groups, 0 to 1",
    "calibration_gap": "range of mean score minus prevalence over groups, 0 to 2",
    "ser": "ratio of the largest to the smallest mean error (1 - Dice), from 1; shift, gamma, bound and margin are "
    "relative changes (0.1: a ratio larger by a tenth), under the bootstraps the shift is a difference of ratios",
    "delta_dice": "range of Dice over groups, 0 to 1",
    "psnr_gap": "range of PSNR over groups, decibels",
    "ssim_gap": "range of SSIM over groups, 0 to 2",
}

# By kind and name: performance of the groups `g`, each (B, G), to (B,).
FAIRNESS = {
    "classify": {
        "eodd": lambda g, combine="mean": eodd(tpr=g["tpr"], fpr=g["fpr"], combine=combine),
        "eop": lambda g, **_: eop(tpr=g["tpr"]),
        "auroc_gap": lambda g, **_: gap(g["auroc"]),
        "fpr_gap": lambda g, **_: gap(g["fpr"]),
        "auprc_gap": lambda g, **_: gap(g["auprc"]),
        "demographic_parity": lambda g, **_: demographic_parity(ppr=g["ppr"]),
        "calibration_gap": lambda g, **_: gap(g["calibration"]),
    },
    "segment": {
        "ser": lambda g, **_: ser(dice=g["dice"]),
        "delta_dice": lambda g, **_: delta_dice(dice=g["dice"]),
    },
    "classes": {  # of a task of several classes; tpr, fpr and ppr are (B, C, G)
        "eodd": lambda g, combine="mean": macro(eodd(tpr=g["tpr"], fpr=g["fpr"], combine=combine)),
        "eodd_worst": lambda g, combine="mean": eodd(tpr=g["tpr"], fpr=g["fpr"], combine=combine).max(axis=-1),
        "eop": lambda g, **_: macro(eop(tpr=g["tpr"])),
        "demographic_parity": lambda g, **_: macro(demographic_parity(ppr=g["ppr"])),
        "auroc_gap": lambda g, **_: gap(g["auroc"]),
        "accuracy_gap": lambda g, **_: gap(g["accuracy"]),
        "kappa_gap": lambda g, **_: gap(g["kappa"]),
        "nar": lambda g, **_: nar(values=g["accuracy"]),
        "essp": lambda g, **_: essp(overall=g["overall"], groups=g["accuracy"]),
    },
    "image": {
        "psnr_gap": lambda g, **_: gap(g["psnr"]),
        "ssim_gap": lambda g, **_: gap(g["ssim"]),
    },
}


def _defaults(n, weights, member):
    """Every row once, all rows one group, unless given."""
    weights = np.ones((1, n)) if weights is None else np.asarray(weights, float)
    member = np.ones((n, 1), bool) if member is None else np.asarray(member, bool)
    return weights, member


def _share(part, whole, weights, member):
    """Weighted sum of `part` over that of `whole`, by group."""
    weights, member = _defaults(whole.size, weights, member)
    return _divide(weights @ (part[:, None] * member), weights @ (whole[:, None] * member))


def _ranked(function, score, label, weights, member, fold):
    """`function` of the rows of each group and fold in ascending order of score, summed over folds, (B, G)."""
    score, label = np.asarray(score, float), np.asarray(label, float)
    weights, member = _defaults(score.size, weights, member)
    order = np.argsort(score, kind="stable")
    folds = [np.ones(score.size, bool)] if fold is None else [np.asarray(fold) == one for one in np.unique(fold)]
    values = np.full((len(weights), member.shape[1]), np.nan)  # there may be no group
    for g, rows in enumerate(member.T[:, order]):
        sums = [function(score, label, weights, order[rows & inside[order]]) for inside in folds]
        part, whole = (sum(each) for each in zip(*sums, strict=True))
        values[:, g] = _divide(part, whole)
    return values


def _auroc(score, label, weights, rows):
    """Pairs in order, and all pairs, among `rows`, which are in ascending order of score."""
    positive, negative = rows[label[rows] == 1], rows[label[rows] == 0]
    below = _below(weights, negative)
    first, last = (np.searchsorted(score[negative], score[positive], side) for side in ("left", "right"))
    positives = weights[:, positive]
    wins = np.einsum("bi,bi->b", positives, below[:, first] + below[:, last]) / 2
    return wins, positives.sum(axis=1) * below[:, -1]


def _auprc(score, label, weights, rows):
    """Sum of the precisions of positives, and their number, among `rows`, in ascending order of score."""
    positive, negative = rows[label[rows] == 1], rows[label[rows] == 0]
    called = []  # weight of the positives and of the negatives that score at least as high as each positive
    for some in (positive, negative):
        below = _below(weights, some)
        called.append(below[:, -1:] - below[:, np.searchsorted(score[some], score[positive])])
    positives = weights[:, positive]
    precision = np.nan_to_num(_divide(called[0], called[0] + called[1]))
    return np.einsum("bi,bi->b", positives, precision), positives.sum(axis=1)


def _below(weights, rows):
    """Weight of the first 0, 1, 2, ... of `rows`, (B, rows + 1)."""
    below = np.zeros((len(weights), rows.size + 1))
    np.cumsum(weights[:, rows], axis=1, out=below[:, 1:])
    return below


def _extremes(values):
    """Smallest and largest over the last axis; NaN where fewer than two are numbers."""
    values = np.ascontiguousarray(np.moveaxis(np.asarray(values, float), -1, 0))  # long rows are reduced faster
    enough = np.isfinite(values).sum(axis=0) >= 2
    low = np.fmin.reduce(values, axis=0, initial=np.nan)
    high = np.fmax.reduce(values, axis=0, initial=np.nan)
    return np.where(enough, low, np.nan)[()], np.where(enough, high, np.nan)[()]


def _divide(part, whole):
    """Quotient, NaN where `whole` is zero."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)[()]
