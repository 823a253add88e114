"""One engine for every gap between groups: its size, its shift against a reference, and unequal change.

A gap is the range of the groups' values; EODD is half the sum of two ranges, or the larger one. Each
range is the largest of many differences between two groups, and a limit that holds for every
difference holds for the largest. Limits of a difference come from the limits of its cells
(`reconfair.fairness.cells`), so nothing is resampled and no p-value has a floor.

What to know before reading its numbers
---------------------------------------
- A range is biased upward by noise; ``expected`` is its mean if groups did not differ.
- ``low`` is a one-sided bound at 2.5 %, ``p`` is tested at 5 %: p = 0.03 beside low = 0 is no contradiction.
- The sign of a shift is seldom decidable where groups were nearly equal before: with a gap D of unknown
  sign, abs(D + d) - abs(D) can be anything from -abs(d) to abs(d). The groups' own changes say more.
- ``p_unequal`` has little power where few decisions flip, all in one direction.
- All is said of the groups compared, nothing of those left out for want of cases.

References
----------
Zou, Donner. Construction of confidence limits about effect measures. Statistics in Medicine 2008 (MOVER).
Hsu. Multiple comparisons: theory and methods. 1996 (groups that may be the best).
Berger, Hsu. Bioequivalence trials, intersection-union tests and equivalence confidence sets. 1996.
Brown. A method for combining non-independent, one-sided tests of significance. Biometrics 1975.
"""

from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from .cells import Difference, Rate

EXCLUDED = 0.0025  # error of a side of a 95 % interval that is spent on excluding groups as extremes
FARTHEST = 8.0  # largest z that is looked at: p below 1e-14 is printed as that
FEW = 12  # flips of a group up to which their directions are looked at
INF = np.full(1, np.inf)
_NODES = np.linspace(-9, 9, 1801)
_WEIGHTS = stats.norm.pdf(_NODES) * (_NODES[1] - _NODES[0])
MANY = 8  # groups from which the critical value is that of equal standard errors, which is never smaller


def disparity(cells, correlation=None, *, combine="mean", alpha=0.025):
    """Range of the groups' values: interval, test, and mean if there were no differences.

    Parameters
    ----------
    cells : list of Rate, Mean or Difference
        One, or two for EODD (TPR and FPR), each of the same K >= 2 groups.
    correlation : numpy.ndarray, shape (K,), optional
        Of the errors of two cells, where patients contribute to both.
    combine : {"mean", "worst_case"}
        Two ranges are averaged, or the larger one is taken.
    alpha : float
        One-sided level of each limit.

    Returns
    -------
    dict of float
        ``value`` with 95 % limits ``low, high``; ``p`` of equal groups; ``expected``, the mean value
        if groups were equal; ``sd_between`` groups weighted by their size, noise subtracted.

    Examples
    --------
    >>> rate = Rate(np.array([0.9, 0.7]), np.array([100.0, 80.0]), np.full(2, np.inf))
    >>> {name: round(float(number), 3) for name, number in disparity([rate]).items()}
    {'value': 0.2, 'low': 0.068, 'high': 0.319, 'p': 0.001, 'expected': 0.047, 'sd_between': 0.095}
    """
    if combine == "worst_case" and len(cells) == 2:
        return over_classes([[cell] for cell in cells], worst=True, alpha=alpha)
    low, high = _range_limits(cells, correlation, alpha)
    return {
        "value": _range(cells),
        "low": low,
        "high": high,
        "p": p_equal(cells, correlation),
        "expected": float(np.mean([_expected(cell) for cell in cells])),
        "sd_between": float(np.sqrt(np.mean([_excess(cell) for cell in cells]))),
    }


def shift(before, after, change, correlations=None, *, combine="mean", alpha=0.025):
    """Change of the range, and of the groups, between two sources read for the same patients.

    Parameters
    ----------
    before, after, change : list of cells
        Of the reference, of the source, and of the paired change; as in `disparity`.
    correlations : sequence of numpy.ndarray, shape (K,), optional
        Of the two cells' errors, for before, after and change, where patients contribute to both.
    combine : {"mean", "worst_case"}
    alpha : float
        One-sided level of each limit; that of ``bound`` is twice as large.

    Returns
    -------
    dict of float
        ``shift`` with 95 % limits ``shift_low, shift_high``; ``p_unequal``, whether groups changed
        unequally; ``gamma``, the range of the changes (never below abs(shift)) and its 95 % upper
        ``bound``: a bound below a margin shows that no gap changed by that margin.
    """
    if combine == "worst_case" and len(before) == 2:
        before, after, change = ([[cell] for cell in cells] for cells in (before, after, change))
        return shift_over_classes(before, after, change, worst=True, alpha=alpha)
    value, span = _range(after) - _range(before), before[0].span
    low = _shift_low(before, after, change, correlations, alpha)
    high = -_shift_low(after, before, [-cell for cell in change], correlations, alpha)
    within = None if correlations is None else correlations[2]
    bound = -lower(change, -special.ndtri(2 * alpha), within)[_different(change)].min()
    return {
        "shift": value,
        "shift_low": float(np.clip(min(low, value), -span, span)),
        "shift_high": float(np.clip(max(high, value), -span, span)),
        "p_unequal": p_equal(change, within),
        "gamma": _range(change),
        "bound": float(min(bound, 2 * change[0].span)),
    }


def over_classes(classes, correlations=None, *, worst=False, combine="mean", alpha=0.025):
    """Mean over classes of the ranges of each, or the largest of them; as `disparity`.

    The limits of every class are taken at the level divided by the number of classes (Bonferroni), so that they hold
    together, and with them their mean and their maximum, however the classes depend on each other.

    Parameters
    ----------
    classes : list of list of cells
        For each class what `disparity` takes.
    correlations : list of numpy.ndarray or None, optional
        For each class that of its two cells.
    worst : bool
        The largest instead of the mean.
    combine : {"mean", "worst_case"}
        Of the two cells of a class.
    alpha : float
        One-sided level of each limit.

    Returns
    -------
    dict of float
        As `disparity`; ``p`` is that of equal groups in all classes.

    Examples
    --------
    >>> rates = [Rate(np.array(pair), np.array([100.0, 80.0]), np.full(2, np.inf)) for pair in ([0.9, 0.7], [0.5, 0.6])]
    >>> [round(over_classes([[rate] for rate in rates], worst=worst)["value"], 3) for worst in (False, True)]
    [0.15, 0.2]
    """
    count, correlations = len(classes), correlations or [None] * len(classes)
    each = [
        disparity(cells, correlation, combine=combine, alpha=alpha / count)
        for cells, correlation in zip(classes, correlations, strict=True)
    ]
    pick = np.max if worst else np.mean
    expected = _expected_largest(classes) if worst else np.mean([one["expected"] for one in each])
    return {
        **{name: float(pick([one[name] for one in each])) for name in ("value", "low", "high")},
        "p": min(1.0, count * min(one["p"] for one in each)),
        "expected": float(expected),
        "sd_between": float(np.sqrt(np.mean([one["sd_between"] ** 2 for one in each]))),
    }


def shift_over_classes(before, after, change, correlations=None, *, worst=False, combine="mean", alpha=0.025):
    """Change of the mean over classes of their ranges, or of the largest of them; as `shift`.

    The limits of the mean are those of `over_classes`. The change of the largest range lies between the smallest and
    the largest change of the classes' ranges, so that no class needs another level.

    Parameters
    ----------
    before, after, change : list of list of cells
        For each class what `shift` takes.
    correlations : list, optional
        For each class what `shift` takes.
    worst, combine, alpha
        As in `over_classes`.

    Returns
    -------
    dict of float
        As `shift`; ``gamma`` and ``bound`` are means, or the largest.
    """
    count, correlations = len(before), correlations or [None] * len(before)
    how, pairs = {"combine": combine, "alpha": alpha if worst else alpha / count}, zip(after, before, strict=True)
    each = [shift(*cells, **how) for cells in zip(before, after, change, correlations, strict=True)]
    low, pick = (np.min, np.max) if worst else (np.mean, np.mean)
    ranges = [[_range(cells, combine) for cells in pair] for pair in pairs]
    return {
        "shift": float(np.subtract(*pick(ranges, axis=0))),
        "shift_low": float(low([one["shift_low"] for one in each])),
        **{name: float(pick([one[name] for one in each])) for name in ("shift_high", "gamma", "bound")},
        "p_unequal": min(1.0, count * min(one["p_unequal"] for one in each)),
    }


def p_equal(cells, correlation=None):
    """p of equal groups: the largest studentised difference of each cell, combined after Fisher and Brown.

    Where the decisions of a group flip seldom and patients have one image each, the smaller of that p and
    of an exact one is taken: of the group's flips, how many were gains, against the net change of all
    other groups. It finds what the former cannot, one-way flips in one group where no other flips.

    Parameters
    ----------
    cells, correlation
        As in `disparity`.

    Returns
    -------
    float
        Above 0, without a floor from resampling.
    """
    p = [max(min(p_range(_z_lower(cell), cell.value.size), _p_few(cell)), 1e-15) for cell in cells]
    if len(p) == 1:
        return p[0]
    shared = 0.0 if correlation is None else float(np.max(np.abs(correlation))) ** 2
    variance = 8 + 2 * (3.263 * shared + 0.71 * shared**2)
    return float(stats.chi2.sf(-2 * np.log(p).sum() * 8 / variance, 32 / variance))


def lower(cells, z, correlation=None, *, plain=False):
    """Lower limits of all contrasts at the one-sided normal level z.

    Upper limits are those of the opposite contrasts with the sign changed.

    Returns
    -------
    numpy.ndarray, shape (K, K) or (K, K, K, K)
        Of c_i - c_j; of two cells, of half the sum of two such differences.
    """
    parts = []  # of each cell: differences, their squared lower deviations, and deviations downward and upward
    for cell in cells:
        low, high = cell.limits(z, plain=plain)
        down, up = cell.value - low, high - cell.value
        parts.append((cell.value[:, None] - cell.value, down[:, None] ** 2 + up**2, down, up))
    if len(parts) == 1:
        return parts[0][0] - np.sqrt(parts[0][1])
    (one, square_one, low_one, high_one), (two, square_two, low_two, high_two) = parts
    square = square_one[:, :, None, None] + square_two
    if correlation is not None and np.any(correlation):
        same, opposite = np.maximum(correlation, 0), np.maximum(-correlation, 0)
        first, second = (np.diag(2 * same * a * b) for a, b in ((low_one, low_two), (high_one, high_two)))
        square = square + first[:, None, :, None] + second[None, :, None, :]
        first, second = (np.diag(2 * opposite * a * b) for a, b in ((low_one, high_two), (high_one, low_two)))
        square = square + first[:, None, None, :] + second[None, :, :, None]
    return (one[:, :, None, None] + two - np.sqrt(square)) / 2


@lru_cache(4096)
def p_range(z, groups):
    """p of a largest studentised difference z between any two of several groups.

    Examples
    --------
    >>> round(p_range(1.959964, 2), 4), round(p_range(2.343, 3), 3)
    (0.05, 0.05)
    """
    tail = _range_tail(z * np.sqrt(2), groups)[0] if z < 6 else groups * (groups - 1) * special.ndtr(-z)
    return float(min(tail, 1))


def critical(alpha, cells):
    """Value that the largest studentised contrast of equal groups exceeds in a share `alpha` of studies.

    By fixed normal draws with the standard errors of the cells, in proportion to the same draws with equal
    standard errors, for which the value is known; equal ones are the least favourable.
    """
    groups, labels = cells[0].value.size, len(cells)
    largest = _tukey(alpha, groups, labels)
    if (groups == 2 and labels == 1) or groups > MANY:
        return largest
    se = np.maximum(np.stack([cell.se for cell in cells]), 1e-12)
    return min(largest * _drawn_quantile(alpha, se) / _equal_quantile(alpha, groups, labels), largest)


def _range_limits(cells, correlation, alpha):
    """Limits of the range, each at one-sided level alpha."""
    different, excluded = _different(cells), min(EXCLUDED, alpha / 2)
    low = lower(cells, critical(alpha, cells), correlation)[different].max()
    opposite = -lower(cells, -special.ndtri(alpha - excluded), correlation)
    opposite = opposite.transpose((1, 0, 3, 2)[: opposite.ndim])  # each contrast in the place of its opposite
    high = opposite[_candidates(cells, excluded)].max()
    return float(max(low, 0)), float(min(high, cells[0].span))


def _shift_low(before, after, change, correlations, alpha):
    """Lower bound, at one-sided level `alpha`, of the range after minus the range before: the larger of two bounds.

    For the pair w of groups that is truly extreme before, the range after is at least the difference q_v
    of any pair v, so that the shift is at least q_v - p_w. The first bound takes v = w, the smallest
    over pairs w that may be extreme before. The second takes for v the pair observed as extreme after,
    the smallest over all w: an intersection-union test, so that each w is tested at the full level, divided
    by the number of pairs that may be extreme after. Where the gap after is clear, it needs no clear gap
    before. Both bounds rest on the change of the same pair where v = w; they err together.
    """
    within = None if correlations is None else correlations[2]
    excluded = min(EXCLUDED, alpha / 2)
    level = alpha - excluded
    same = lower(change, -special.ndtri(level), within)[_candidates(before, excluded)].min()
    z = -special.ndtri(level / _candidates(after, excluded).sum())
    pairs = [_observed_pair(*cells, z) for cells in zip(before, after, change, strict=True)]
    if len(pairs) == 1:
        bound = pairs[0][0] - np.sqrt(pairs[0][1])
    else:
        (one, square_one), (two, square_two) = pairs
        square = square_one[:, :, None, None] + square_two
        if correlations is not None:
            largest = max(np.abs(correlation).max() for correlation in correlations)
            square = square + 2 * largest * np.sqrt(square_one)[:, :, None, None] * np.sqrt(square_two)
        bound = (one[:, :, None, None] + two - np.sqrt(square)) / 2
    return max(same, bound[_different(before)].min())


def _observed_pair(before, after, change, z):
    """Estimate and squared deviation of q_v - p_w by pair w, (K, K), v the extreme pair observed after."""
    groups = before.value.size
    (p_low, p_high), (q_low, q_high), (d_low, d_high) = (cell.limits(z) for cell in (before, after, change))
    up, down = p_high - before.value, before.value - p_low  # of p_w: its first group upward, its second downward
    i, j = after.value.argmax(), after.value.argmin()
    first, second = after.value[i] - q_low[i], q_high[j] - after.value[j]
    k, l = np.indices((groups, groups))  # noqa: E741
    square = np.where(k == i, (change.value - d_low)[i] ** 2, first**2 + up[k] ** 2)
    square = square + np.where(l == j, (d_high - change.value)[j] ** 2, second**2 + down[l] ** 2)
    # The same group after and before with opposite signs: as if their errors were fully correlated.
    square = square + np.where(l == i, 2 * first * down[l], 0) + np.where(k == j, 2 * second * up[k], 0)
    return after.value[i] - after.value[j] - (before.value[:, None] - before.value), square


def _candidates(cells, alpha):
    """Pairs (largest, smallest) that cannot be excluded, all cells jointly at alpha."""
    groups, labels = cells[0].value.size, len(cells)
    z = -special.ndtri(alpha / labels / (1 if groups == 2 else 2 * (groups - 1)))
    possible = []
    for cell in cells:
        high = -lower([cell], z).T
        np.fill_diagonal(high, 0)
        possible.append((high.min(axis=1) >= 0)[:, None] & (high.min(axis=0) >= 0))
    pairs = possible[0] if labels == 1 else possible[0][:, :, None, None] & possible[1]
    return pairs & _different(cells)


def _p_few(cell):
    """p of equal changes by the directions of rare flips, given their number; 1 where it does not apply."""
    if not isinstance(cell, Difference) or not cell.exact or np.isfinite(cell.first.df).any():
        return 1.0
    n, gained, lost = cell.first.n, cell.first.value * cell.first.n, cell.second.value * cell.first.n
    flips = np.round(gained + lost).astype(int)
    p, least = np.ones((2, n.size))
    for a in np.flatnonzero((flips > 0) & (flips <= FEW)):
        others = np.arange(n.size) != a
        gain, loss = (
            Rate(x[others].sum(keepdims=True) / n[others].sum(), n[others].sum(keepdims=True), INF)
            for x in (gained, lost)
        )
        rest = Difference(gain, loss, np.zeros(1), exact=True).limits(-special.ndtri(0.005))
        p[a], some, every = (_p_direction(k, flips[a], n[a], *rest) for k in (round(gained[a]), 0, flips[a]))
        least[a] = min(some, every)
    return min(1.0, max(1, (least <= p.min() + 1e-12).sum()) * p.min())  # groups that could have had such a p


def _p_direction(gained, flips, n, low, high):
    """Two-sided mid-p of so many gains among the flips of a group of n, the net change being within limits.

    The share of gains that a net change implies depends on how many flips there would be on average; the
    least favourable number between the observed one and its upper limit is taken. With the observed number
    alone, a group with few flips by chance would be asked to have lost more often than it flipped.
    """
    observed = (2 * gained - flips) / n
    net = np.clip(observed, low[0], high[0])
    if net == observed:
        return 1.0
    mean_flips = np.array([flips, n * special.betaincinv(flips + 1, max(n - flips, 0.5), 0.995)])
    share = np.clip((1 + net * n / mean_flips) / 2, 0, 1)
    fewer = stats.binom.cdf(gained - 1, flips, share) + stats.binom.pmf(gained, flips, share) / 2
    return float(min(1, 2 * min(fewer.max(), (1 - fewer).max())))


def _z_lower(cell):
    """Largest z at which some difference between groups is still above 0."""
    off = ~np.eye(cell.value.size, dtype=bool)

    def largest(z):
        return lower([cell], z, plain=True)[off].max()

    if np.ptp(cell.value) <= 1e-12 or not largest(0.01) > 0:
        return 0.0
    return FARTHEST if largest(FARTHEST) > 0 else optimize.brentq(largest, 0.01, FARTHEST, xtol=1e-5)


def _different(cells):
    """Contrasts between two different groups."""
    off = ~np.eye(cells[0].value.size, dtype=bool)
    return off if len(cells) == 1 else off[:, :, None, None] & off


def _drawn_quantile(alpha, se):
    """Quantile 1 - alpha of the largest studentised contrast of normal draws, standard errors (labels, K)."""
    labels, groups = se.shape
    noise, (i, j) = _noise(groups, labels) * se, np.nonzero(~np.eye(groups, dtype=bool))
    difference, square = noise[:, :, i] - noise[:, :, j], se[:, i] ** 2 + se[:, j] ** 2
    if labels == 1:
        return np.quantile((difference[:, 0] / np.sqrt(square[0])).max(axis=1), 1 - alpha)
    t = np.zeros(len(noise))
    for a in range(i.size):  # a pair of the first cell with all pairs of the second
        pairs = (difference[:, 0, [a]] + difference[:, 1]) / np.sqrt(square[0, a] + square[1])
        np.maximum(t, pairs.max(axis=1), out=t)
    return np.quantile(t, 1 - alpha)


@lru_cache
def _equal_quantile(alpha, groups, labels):
    return _drawn_quantile(alpha, np.ones((labels, groups)))


def _expected(cell):
    """Mean range if groups had the common value, each with its own noise, by quadrature."""
    se = np.maximum(cell.se, 1e-9)
    common, widest = (cell.value / se**2).sum() / (1 / se**2).sum(), se.max()
    if isinstance(cell, Rate):
        common = np.clip((cell.n * cell.value).sum() / cell.n.sum(), 0.5 / cell.n.sum(), 1 - 0.5 / cell.n.sum())
        se = np.sqrt(common * (1 - common) / cell.n)
        widest = se.max()
    x = np.linspace(common - 8 * widest, common + 8 * widest, 2001)
    if isinstance(cell, Rate) and cell.n.min() < 200:
        x = np.linspace(max(x[0], 0), min(x[-1], 1), 2001)
        below = special.bdtr(np.floor(x[:, None] * cell.n + 1e-9), np.round(cell.n).astype(int), common)
    else:
        below = special.ndtr((x[:, None] - common) / se)
    return float(np.trapezoid(1 - below.prod(axis=1) - (1 - below).prod(axis=1), x))


def _expected_largest(classes):
    """Mean of the largest class's range if groups were equal, by fixed normal draws, the classes taken as independent.

    Classes share patients, so that the largest of dependent ranges is a little smaller than this.
    """
    cells = [cell for one in classes for cell in one]
    noise = _noise(cells[0].value.size, len(cells)) * np.stack([cell.se for cell in cells])
    ranges = np.ptp(noise, axis=2).reshape(len(noise), len(classes), -1).mean(axis=2)
    return float(ranges.max(axis=1).mean())


def _range(cells, combine="mean"):
    """Range of one cell, or two ranges combined."""
    ranges = [np.ptp(cell.value) for cell in cells]
    return float(max(ranges) if combine == "worst_case" else np.mean(ranges))


def _excess(cell):
    """Variance of the true values between groups, each group weighted by its size, noise subtracted."""
    share = cell.n if isinstance(cell, Rate) else np.where(np.isfinite(cell.df), cell.df + 1, 1)
    share = share / share.sum()
    return max(0.0, share @ (cell.value - share @ cell.value) ** 2 - (share * (1 - share)) @ cell.se**2)


def _range_tail(w, groups):
    """P(range of normals > w), by quadrature; shape of w, at least one-dimensional."""
    inside = special.ndtr(_NODES + np.atleast_1d(w)[:, None]) - special.ndtr(_NODES)
    return np.clip(1 - groups * inside ** (groups - 1) @ _WEIGHTS, 0, 1)


@lru_cache
def _tukey(alpha, groups, labels):
    """`critical` for equal standard errors, the least favourable: the range of normals, or half the sum of two."""
    w = np.linspace(0, 16, 3201)
    tail = _range_tail(w, groups)
    if labels == 1:
        return float(np.interp(-alpha, -tail, w) / np.sqrt(2))
    density = np.maximum(-np.diff(tail), 0)
    both = np.convolve(density, density).cumsum()
    return float(np.interp(1 - alpha, both, (np.arange(both.size) + 1) * (w[1] - w[0]) / 2))


@lru_cache
def _noise(groups, labels, draws=4000):
    """The same standard normal draws in every call, in opposite pairs; (draws, labels, groups)."""
    half = np.random.default_rng(0).standard_normal((draws // 2, labels, groups))
    return np.concatenate([half, -half])
