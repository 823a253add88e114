"""Two groups whose true rates are known: what a study of so many patients sees of their gap.

Scores are normal: N(0, 1) of patients without the disease, N(separation, 1) of those with it, in group b less by the
disparity. A patient whose score has the normal distribution function t or more is called positive.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from . import gaps, metrics
from .cells import Rate

LARGE = 1000  # patients of group a
PREVALENCE = 0.4
SEPARATION = 1.8


def compare(*, patients, disparity, threshold):
    """Rates of a large group a and of a group b, their EODD, and what chance gives.

    Parameters
    ----------
    patients : int
        Of group b; those of group a are `LARGE`.
    disparity : float
        By how much lower the scores of the ill in group b are, in standard deviations; 0 is none.
    threshold : float
        In (0, 1), on the scale of the scores.

    Returns
    -------
    dict
        ``tpr, fpr``: of group a and b, true; ``eodd``, true, and the 95 % limits ``low, high`` of a study that observes
        just these rates; ``expected``, its mean if groups were equal, and ``p`` of equal groups; ``sd``: standard
        errors of the differences in TPR and FPR if groups were equal.

    Examples
    --------
    >>> seen = compare(patients=50, disparity=0.5, threshold=0.75)
    >>> {name: round(seen[name], 3) for name in ("eodd", "low", "high", "expected")}
    {'eodd': 0.068, 'low': 0.0, 'high': 0.211, 'expected': 0.064}
    """
    z = ndtri(threshold)
    tpr, fpr = ndtr(np.array([SEPARATION, SEPARATION - disparity]) - z), ndtr(np.array([-z, -z]))
    return of_rates(tpr, fpr, np.array([LARGE, patients]) * PREVALENCE, np.array([LARGE, patients]) * (1 - PREVALENCE))


def of_rates(tpr, fpr, positives, negatives):
    """As `compare`, of any rates of two groups and their numbers of patients with and without disease, (2,) each."""
    cells = [Rate(rate, np.asarray(n, float), np.full(2, np.inf)) for rate, n in ((tpr, positives), (fpr, negatives))]
    seen, common = gaps.disparity(cells), [cell.n @ cell.value / cell.n.sum() for cell in cells]
    sd = [float(np.sqrt(rate * (1 - rate) * (1 / cell.n).sum())) for rate, cell in zip(common, cells, strict=True)]
    return {
        "tpr": [float(rate) for rate in tpr],
        "fpr": [float(rate) for rate in fpr],
        "eodd": float(metrics.eodd(tpr=tpr, fpr=fpr)),
        **{name: seen[name] for name in ("low", "high", "expected", "p")},
        "sd": sd,
    }


def by_stage(*, by_row, by_reader, patients):
    """EODD of the four systems of two reconstructions and two readers, where each standard has a fault in group b.

    Parameters
    ----------
    by_row, by_reader : float
        By how much the standard reconstruction, and the standard reader, lower the scores of the ill in group b.
    patients : int
        Of each group, half of them ill.

    Returns
    -------
    dict
        By (row, reader), "standard" or "fairer", what `of_rates` returns.

    Examples
    --------
    >>> four = by_stage(by_row=0.6, by_reader=0.6, patients=200)
    >>> {cell: round(seen["eodd"], 3) for cell, seen in four.items() if cell[0] == "standard"}
    {('standard', 'standard'): 0.226, ('standard', 'fairer'): 0.113}
    """
    four = {}
    for row in ("standard", "fairer"):
        for reader in ("standard", "fairer"):
            fault = by_row * (row == "standard") + by_reader * (reader == "standard")
            tpr, half = ndtr(np.array([0.6, 0.6 - fault])), np.full(2, patients / 2)
            four[row, reader] = of_rates(tpr, ndtr(np.full(2, -0.6)), half, half)
    return four


def density(x, sd):
    """Density at x of half the sum of two sizes of normal differences with standard errors `sd`: EODD by chance.

    Examples
    --------
    >>> x = np.linspace(0, 1, 2001)
    >>> bool(abs(np.trapezoid(density(x, [0.1, 0.06]), x) - 1) < 1e-4)
    True
    """
    x, (a, b) = np.asarray(x, float), np.maximum(sd, 1e-9) / 2
    c = np.hypot(a, b)
    both = ndtr(x * b / (a * c)) + ndtr(x * a / (b * c)) - 1
    return np.where(x < 0, 0, 4 / (np.sqrt(2 * np.pi) * c) * np.exp(-(x**2) / (2 * c**2)) * both)
