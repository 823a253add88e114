"""Inference for TPR and FPR of groups and for what is made of them, drawn on counts instead of rows.

Rates depend on a patient only through six numbers: images with each label, and how many of them
two sources call positive. Patients with the same numbers are one pattern with a multiplicity
(13,000 patients of 45,000 images have about 2,000), and resamples are drawn on patterns.

Every metric here is the largest of many contrasts that are linear in the rates: EODD is half of
(TPR of a - TPR of b) + (FPR of c - FPR of d), maximised over the groups a, b, c, d. A bound that
holds for every contrast holds for the largest, and this is what the intervals rest on.

What to know before reading its numbers
---------------------------------------
- The size of a gap is biased upward by noise; `disparity` states its mean if there were none.
- The swap test asks whether two sources are interchangeable, not whether the gap is equal: with
  a small p, overall accuracy may be what changed. The interaction test asks whether the change
  differs between groups.
- Intervals are wide rather than short: they cover more than 95 % where groups are alike.
- All is said of the groups compared, nothing of those left out for want of cases.

References
----------
Romano, Wolf. Exact and approximate stepdown methods for multiple hypothesis testing. JASA 2005.
Chernozhukov, Lee, Rosen. Intersection bounds: estimation and inference. Econometrica 2013.
Berger, Hsu. Bioequivalence trials, intersection-union tests and equivalence confidence sets. 1996.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from .metrics import eodd, gap

METRICS = ("eodd", "eop", "fpr_gap")

_DISPARITY = ("value", "low", "high", "se", "expected_if_none", "p", "p_max_t", "sd_between")
_SHIFT = ("value", "percent", "low", "high", "se", "p", "detectable", "interaction", "p_interaction")
_SHIFT += ("p_interaction_chi2", "gamma", "margin_supported", "equivalent")
_TIE = 1e-12  # statistics of counts tie; rounding must not break the tie
_Z = stats.norm.ppf(0.975)
_REACH = 3  # standard errors below the largest contrast within which another may be the true largest
_FEW = 50  # images of a label below which the noise of a change is taken from all groups
_RARE = 8  # multiplicity up to which patients are drawn one by one, which is faster


@dataclass(frozen=True)
class Counts:
    """Distinct patients by what rates depend on, in lexicographic order.

    Attributes
    ----------
    names : tuple of str, length K
        Groups.
    group : numpy.ndarray of int, shape (T,)
        Group of each pattern, from 0.
    images : numpy.ndarray of int, shape (T, 2)
        Images a patient has with label 1 and label 0.
    positive : numpy.ndarray of int, shape (T, 2, A)
        Those of them that are called positive, by the decision and, where given, the reference.
    patients : numpy.ndarray of int, shape (T,)
        Patients with this pattern.
    missing : int
        Rows left out for want of label or group.
    """

    names: tuple
    group: np.ndarray
    images: np.ndarray
    positive: np.ndarray
    patients: np.ndarray
    missing: int

    @property
    def cases(self):
        """Patients carrying label 1 and label 0, by group; shape (K, 2)."""
        return self._by_group((self.images > 0) * self.patients[:, None]).astype(int)

    @property
    def rates(self):
        """TPR and FPR of each source, shape (A, 2, K); NaN without a case."""
        n, x = self._totals()
        return np.divide(x, n, out=np.full(x.shape, np.nan), where=n > 0)

    def keep(self, min_cases=20):
        """Leave out groups with fewer than `min_cases` patients carrying either label.

        Returns
        -------
        Counts
        dict
            The groups left out: by name the patients with label 1 and with label 0.
        """
        kept = self.cases.min(axis=1) >= min_cases
        rows = kept[self.group]
        names = tuple(np.array(self.names, object)[kept])
        left_out = {self.names[k]: tuple(self.cases[k].tolist()) for k in np.flatnonzero(~kept)}
        parts = {part: getattr(self, part)[rows] for part in ("images", "positive", "patients")}
        return replace(self, names=names, group=(np.cumsum(kept) - 1)[self.group[rows]], **parts), left_out

    def _by_group(self, values):
        """Sums of values, shape (T, ...), over the patterns of each group, shape (K, ...)."""
        sums = np.zeros((len(self.names), *values.shape[1:]))
        np.add.at(sums, self.group, values)
        return sums

    def _totals(self):
        """Images, shape (2, K), and positive decisions, shape (A, 2, K), by label and group."""
        n = self._by_group(self.images * self.patients[:, None])
        return n.T, self._by_group(self.positive * self.patients[:, None, None]).T

    def _covariance(self):
        """Cluster-robust covariance of the rates, by group, shape (K, 2A, 2A)."""
        n, x = self._totals()
        rate = ((x + 0.5) / (n + 1)).T  # never 0 or 1, whose variance would be 0
        residual = (self.positive - rate[self.group] * self.images[:, :, None]) / n.T[self.group][:, :, None]
        residual = np.moveaxis(residual, 2, 1).reshape(len(residual), -1)
        return self._by_group(residual[:, :, None] * residual[:, None] * self.patients[:, None, None])


def tabulate(*, label, patient, group, decision, reference=None):
    """Count patients by pattern.

    Parameters
    ----------
    label : array_like, shape (n,)
        1, 0, or NaN where unknown; unknown rows are left out.
    patient, group : array_like, shape (n,)
        A patient is in one group; rows whose group is missing are left out.
    decision : array_like of bool, shape (n,)
        Whether the source calls the row positive.
    reference : array_like of bool, shape (n,), optional
        The same of the source compared with, on the same rows.

    Returns
    -------
    Counts

    Raises
    ------
    ValueError
        Naming the argument, row or patient that is not as described.

    Examples
    --------
    >>> counts = tabulate(
    ...     label=[1, 0, 1, 1, 0], patient=[7, 7, 8, 9, 9], group=["f", "f", "f", "m", "m"],
    ...     decision=[True, False, False, True, True],
    ... )
    >>> counts.rates  # of the one source, TPR and FPR of f and m
    array([[[0.5, 1. ],
            [0. , 1. ]]])
    """
    label = np.asarray(label, float)
    arms = {"decision": decision} | ({} if reference is None else {"reference": reference})
    known = _check(label, {"patient": patient, "group": group}, arms)
    group, names = pd.factorize(np.asarray(group, object))
    rank = np.argsort(np.argsort(names.astype(str), kind="stable"), kind="stable")
    rows = known & (group >= 0)
    code, ids = pd.factorize(np.asarray(patient, object)[rows])
    if (code < 0).any():
        raise ValueError(f"patient is missing in row {np.flatnonzero(rows)[code.argmin()]}")
    label, group, of_patient = label[rows], rank[group[rows]], np.zeros(len(ids), int)
    of_patient[code] = group
    if (torn := of_patient[code] != group).any():
        raise ValueError(f"patient {ids[code[torn.argmax()]]!r} is in more than one group, expected one")
    called = [np.ones(label.size), *(np.asarray(arm)[rows] for arm in arms.values())]
    tally = [np.bincount(code, (label == y) * arm, len(ids)) for y in (1, 0) for arm in called]
    patterns, patients = _distinct(np.stack([of_patient, *tally], axis=1).astype(int), np.ones(len(ids)))
    tally, names = patterns[:, 1:].reshape(len(patterns), 2, len(called)), tuple(sorted(names.astype(str).tolist()))
    return Counts(names, patterns[:, 0], tally[:, :, 0], tally[:, :, 1:], patients, int((~rows).sum()))


def disparity(counts, *, metrics=METRICS, combine="mean", resamples=1000, seed=0):
    """How unequal the rates of the decision are, and whether that is more than noise.

    Parameters
    ----------
    counts : Counts
        Every group with cases of both labels; see `Counts.keep`.
    metrics : sequence of {"eodd", "eop", "fpr_gap"}
    combine : {"mean", "worst_case"}
        How EODD combines the gaps in TPR and FPR.
    resamples : int
        Permutations, and draws for the interval.
    seed : int or numpy.random.SeedSequence

    Returns
    -------
    dict of dict of float
        By metric: ``value``; its 95 % union-intersection interval ``low, high``, with ``low`` 0
        where ``p_max_t`` is above 0.025; ``se`` (cluster-robust); ``expected_if_none``, the mean
        value after exchanging groups among patients with the same images of each label;
        ``p`` of the value and ``p_max_t`` of the largest studentised gap under the same
        permutations, the latter with more power; ``sd_between`` groups weighted by their
        images, noise subtracted. NaN with fewer than two groups.

    Raises
    ------
    ValueError
        Naming the group without a case, or the metric or `combine` that is not known.
    """
    how, rng = _ways(counts, metrics, combine), np.random.default_rng(seed)
    if len(counts.names) < 2:
        return {metric: dict.fromkeys(_DISPARITY, np.nan) for metric in how}
    mean, *drawn = _permute(counts, resamples, rng)
    permuted = np.stack([counts.rates[0], *drawn])
    size = 2 * len(counts.names)
    rates, covariance = counts.rates[0].ravel(), _full(counts._covariance())[:size, :size]
    noise = _normal(covariance, resamples, rng)
    shared = permuted, mean, rates, covariance, noise, counts._totals()[0]
    return {metric: _disparity(*shared, way) for metric, way in how.items()}


def shift(counts, *, metrics=METRICS, combine="mean", margin=0.05, resamples=1000, seed=0):
    """Whether the decision is more or less equal than the reference, and what cannot be excluded.

    Parameters
    ----------
    counts : Counts
        With a reference, and every group with cases of both labels.
    metrics, combine, resamples, seed
        As in `disparity`.
    margin : float
        Change of a gap that would not matter.

    Returns
    -------
    dict of dict of float
        By metric: ``value`` of the shift, ``percent`` of the reference's metric; its 95 %
        interval ``low, high`` by intersection bounds; ``se`` (cluster-robust); ``p`` of the swap
        test (decision and reference exchanged within patients); the ``interaction`` statistic Q of
        an unequal change between groups with ``p_interaction`` (sign flips) and
        ``p_interaction_chi2``; ``gamma``, the largest change of any gap, never below the absolute
        shift; ``margin_supported``, its 95 % upper bound and so the smallest margin for which
        this cohort supports "no change"; ``equivalent``, whether that is below `margin` (bool);
        ``detectable``, by how much one group must become worse than the others, all equal before,
        for the swap test to find it with about 80 % power, averaged over groups (less is enough where
        groups differ already). NaN (False) with fewer than two groups.

    Raises
    ------
    ValueError
        As in `disparity`, and without a reference.
    """
    if counts.positive.shape[2] != 2:
        raise ValueError("shift needs counts of two sources: give tabulate a reference")
    how, rng = _ways(counts, metrics, combine), np.random.default_rng(seed)
    if len(counts.names) < 2:
        return {metric: dict.fromkeys(_SHIFT, np.nan) | {"equivalent": False} for metric in how}
    covariance = _full(counts._covariance())
    noise = _normal(covariance, resamples, rng)
    swapped, interaction = _flip(counts, resamples, rng)
    change = _change(counts, covariance)
    return {
        metric: _interval(counts.rates, covariance, noise, way)
        | _swap_test(swapped, way)
        | _detectable(noise.reshape(-1, *counts.rates.shape), way)
        | _interaction_test(interaction, way, len(counts.names))
        | _equivalence(*change, way, len(counts.names), margin)
        for metric, way in how.items()
    }


def bootstrap(counts, *, resamples=1000, seed=0):
    """Rates in resamples of patients, the paper's inference; see `reconfair.fairness.resampling`.

    Parameters
    ----------
    counts : Counts
    resamples : int
        B.
    seed : int or numpy.random.SeedSequence

    Returns
    -------
    numpy.ndarray, shape (1 + B, A, 2, K)
        The estimate, then the resamples: TPR and FPR of each source and group, NaN without a
        case. `reconfair.fairness.metrics` makes metrics of them, `reconfair.fairness.resampling`
        intervals and p-values.

    Examples
    --------
    >>> from reconfair.fairness.metrics import eop
    >>> counts = tabulate(label=[1, 1, 0, 1], patient=[1, 2, 2, 3], group=list("abba"), decision=[True] * 3 + [False])
    >>> rates = bootstrap(counts, resamples=3)
    >>> rates.shape, eop(tpr=rates[:1, 0, 0])
    ((4, 1, 2, 2), array([0.5]))
    """
    weights = _multinomial(counts.patients, resamples, np.random.default_rng(seed))
    weights = np.concatenate([counts.patients[None], weights]).astype(float)
    columns = np.concatenate([counts.images[:, :, None], counts.positive], axis=2).reshape(counts.group.size, -1)
    totals = _group_sums(weights, columns, counts.group, len(counts.names))
    totals = np.moveaxis(totals.reshape(*totals.shape[:2], 2, -1), (1, 3), (3, 1))
    n, x = totals[:, :1], totals[:, 1:]
    return np.divide(x, n, out=np.full(x.shape, np.nan), where=n > 0)


def _check(label, columns, arms):
    """Which rows have a label, after checking lengths and values."""
    for name, rows in (columns | arms).items():
        if len(rows) != label.size:
            raise ValueError(f"{name} has {len(rows)} rows, expected {label.size} as in label")
    for name, rows in arms.items():
        if np.asarray(rows).dtype != bool:
            raise ValueError(f"{name} must be boolean, not {np.asarray(rows).dtype}")
    known = (label == 0) | (label == 1)
    if (odd := ~known & ~np.isnan(label)).any():
        raise ValueError(f"label in row {odd.argmax()} is {label[odd.argmax()]}, expected 0, 1 or NaN")
    return known


def _distinct(rows, weight):
    """Distinct rows in lexicographic order, and the summed weight of each."""
    code = np.zeros(len(rows), int)
    for column in (rows - rows.min(axis=0, initial=0)).T:
        code = np.unique(code * (column.max(initial=0) + 1) + column, return_inverse=True)[1]
    first = np.unique(code, return_index=True)[1]
    return rows[first], np.bincount(code, weight).astype(int)


def _group_sums(weights, values, group, groups):
    """Weighted sums of values, shape (T, c), over the patterns of each group: (B, K, c)."""
    return np.stack([weights[:, group == k] @ values[group == k].astype(float) for k in range(groups)], axis=1)


# --- metrics as maxima of contrasts ---


def _ways(counts, metrics, combine):
    """By metric how it combines the gaps, after checking that there is something to combine."""
    for metric in metrics:
        if metric not in METRICS:
            raise ValueError(f"metrics: {metric!r} is none of {', '.join(METRICS)}")
    if combine not in ("mean", "worst_case"):
        raise ValueError(f"combine must be 'mean' or 'worst_case', not {combine!r}")
    if (empty := counts._totals()[0] == 0).any():
        y, k = np.argwhere(empty)[0]
        raise ValueError(f"group '{counts.names[k]}' has no case with label {1 - y}; leave it out, e.g. with keep(1)")
    return {metric: combine if metric == "eodd" else metric for metric in metrics}


def _labels(way):
    """Rates that a metric compares: TPR is 0, FPR is 1."""
    return {"eop": [0], "fpr_gap": [1]}.get(way, [0, 1])


def _metric(rates, way):
    """Metric of rates, shape (..., 2, K) to (...)."""
    if way in ("mean", "worst_case"):
        return eodd(tpr=rates[..., 0, :], fpr=rates[..., 1, :], combine=way)
    return gap(rates[..., _labels(way)[0], :])


def _contrasts(way, groups):
    """Two lists of contrasts of the rates (p, 2K), (q, 2K); the metric is the largest sum of one of each."""
    pairs = np.eye(groups)[:, None] - np.eye(groups)
    pairs = pairs[~np.eye(groups, dtype=bool)]
    tpr, fpr = np.hstack([pairs, 0 * pairs]), np.hstack([0 * pairs, pairs])
    none = np.zeros((1, 2 * groups))
    return {
        "mean": (tpr / 2, fpr / 2),
        "worst_case": (np.vstack([tpr, fpr]), none),
        "eop": (tpr, none),
        "fpr_gap": (fpr, none),
    }[way]


def _evaluate(first, second, rates, covariance):
    """Estimate and standard error of every contrast, (p, q)."""
    estimate = (first @ rates)[:, None] + second @ rates
    own = [((part @ covariance) * part).sum(axis=1) for part in (first, second)]
    variance = own[0][:, None] + own[1] + 2 * first @ covariance @ second.T
    return estimate, np.sqrt(np.maximum(variance, 0))


def _top(first, second, rates):
    """The largest contrast, (m,)."""
    return first[(first @ rates).argmax()] + second[(second @ rates).argmax()]


def _near(first, second, rates, covariance):
    """Which contrasts are so little below the largest that one of them may truly be it, (p, q)."""
    below, se = _evaluate(first - _top(first, second, rates), second, rates, covariance)
    return below + _REACH * se >= -_TIE


def _lower(first, second, rates, covariance, noise):
    """97.5 % lower bound on the largest contrast: the largest of simultaneous lower bounds."""
    estimate, se = _evaluate(first, second, rates, covariance)
    near, scale = _near(first, second, rates, covariance), np.where(se > _TIE, se, np.inf)
    t, part, rest = np.full(len(noise), -np.inf), noise @ first.T, noise @ second.T
    for p in np.flatnonzero(near.any(axis=1)):
        t = np.maximum(t, ((part[:, p, None] + rest[:, near[p]]) / scale[p, near[p]]).max(axis=1))
    return (estimate - max(np.quantile(t, 0.975), _Z) * se).max()


def _full(covariance):
    """Covariance by group, (K, r, r), as one matrix (rK, rK) of the rates in order (r, K)."""
    groups, r = covariance.shape[:2]
    full, k = np.zeros((r, groups, r, groups)), np.arange(groups)
    full[:, k, :, k] = covariance
    return full.reshape(r * groups, r * groups)


def _normal(covariance, resamples, rng):
    """Noise of the rates in large samples, (B, ...)."""
    zero = np.zeros(len(covariance))
    return rng.multivariate_normal(zero, covariance, size=resamples, method="eigh", check_valid="ignore")


def _se(contrast, covariance):
    """Standard error of one contrast."""
    return float(np.sqrt(max(0, contrast @ covariance @ contrast)))


def _p(draws):
    """Share of draws, the observed one first, that are at least as large as the observed one."""
    return float((draws >= draws[0] - _TIE).mean())


# --- one source ---


def _disparity(permuted, mean, rates, covariance, noise, n, way):
    """Entry of `disparity`; `permuted` are the observed rates, then the permuted ones, (1 + B, 2, K)."""
    first, second = _contrasts(way, n.shape[1])
    estimate, se = _evaluate(first, second, rates, covariance)
    values, p_max_t = _metric(permuted, way), _p(_max_t(permuted, mean, way))
    low = _lower(first, second, rates, covariance, noise) if p_max_t <= 0.025 else 0
    high = (estimate + _Z * se)[_near(first, second, rates, covariance)].max()
    return {
        "value": float(values[0]),
        "low": float(max(low, 0)),
        "high": float(min(high, 1)),
        "se": _se(_top(first, second, rates), covariance),
        "expected_if_none": float(values[1:].mean()),
        "p": _p(values),
        "p_max_t": p_max_t,
        "sd_between": _sd_between(rates, covariance, n, way),
    }


def _permute(counts, resamples, rng):
    """Rates of the decision after exchanging groups within strata of equal images, their mean first, (1 + B, 2, K)."""
    stratum = counts.images[:, 0] * (counts.images[:, 1].max() + 1) + counts.images[:, 1]
    first = np.argsort(stratum, kind="stable")
    patient = np.repeat(first, counts.patients[first])
    group, positive = counts.group[patient], counts.positive[patient, :, 0]
    stratum = np.unique(stratum[patient], return_inverse=True)[1]
    n, x = counts._totals()
    share = np.bincount(stratum * len(n[0]) + group, minlength=(stratum[-1] + 1) * len(n[0])).reshape(-1, len(n[0]))
    mean = [np.bincount(stratum, own) @ (share / share.sum(axis=1, keepdims=True)) for own in positive.T]
    return np.concatenate([[mean], _exchange(positive, group, stratum, x[0], resamples, rng)]) / n


def _exchange(positive, group, stratum, total, resamples, rng):
    """Positive decisions by group after permutations within strata, (B, 2, K)."""
    side = int(np.ceil(np.sqrt(resamples)))
    order = np.tile(np.arange(group.size), (2 * side, 1))
    for block in np.split(order, np.flatnonzero(np.diff(stratum)) + 1, axis=1):
        rng.permuted(block, axis=1, out=block)
    # Every product of one permutation of each half: uniform, any two independent, and no more need be drawn.
    once, size = ((positive[:, 0] << 32) + positive[:, 1])[order[:side]], np.bincount(group)
    others = np.delete(np.arange(size.size), size.argmax())  # the largest group has what is left
    seat = np.concatenate([np.flatnonzero(group == k) for k in others])
    start = np.cumsum([0, *size[others[:-1]]])
    sums = np.concatenate([np.add.reduceat(once[:, twice[seat]], start, axis=1) for twice in order[side:]])[:resamples]
    drawn = np.empty((resamples, 2, size.size))
    drawn[:, :, others] = np.stack([sums >> 32, sums & 0xFFFFFFFF], axis=1)
    drawn[:, :, size.argmax()] = total.sum(axis=1) - drawn[:, :, others].sum(axis=2)
    return drawn


def _max_t(permuted, mean, way):
    """Largest difference between two groups, less its mean and studentised by its permutations, (1 + B,)."""
    a, b = np.triu_indices(permuted.shape[2], 1)
    rates = (permuted - mean)[:, _labels(way)]
    difference = (rates[..., a] - rates[..., b]).reshape(len(permuted), -1)
    sd = difference.std(axis=0)
    return (np.abs(difference) / np.where(sd > _TIE, sd, np.inf)).max(axis=1)


def _sd_between(rates, covariance, n, way):
    """Standard deviation of true rates between groups, each group weighted by its images."""
    excess = []
    for y in _labels(way):
        own = slice(y * n.shape[1], (y + 1) * n.shape[1])
        share, noise = n[y] / n[y].sum(), covariance[own, own]
        observed = share @ (rates[own] - share @ rates[own]) ** 2
        excess.append(observed - share @ np.diag(noise) + share @ noise @ share)
    return float(np.sqrt(max(0, np.mean(excess))))


# --- two sources ---


def _interval(rates, covariance, noise, way):
    """Shift and its interval: the largest contrast of one source less that of the other, both ways."""
    first, second = _contrasts(way, rates.shape[2])
    most, base = (_top(first, second, own.ravel()) for own in rates)
    rise = np.hstack([first, np.broadcast_to(-base, first.shape)]), np.hstack([second, 0 * second])
    fall = np.hstack([np.broadcast_to(-most, first.shape), first]), np.hstack([0 * second, second])
    value, reference = _metric(rates[0], way) - _metric(rates[1], way), _metric(rates[1], way)
    return {
        "value": float(value),
        "percent": float(100 * value / reference) if reference else np.nan,
        "low": float(max(_lower(*rise, rates.ravel(), covariance, noise), -1)),
        "high": float(min(-_lower(*fall, rates.ravel(), covariance, noise), 1)),
        "se": _se(np.concatenate([most, -base]), covariance),
    }


def _flip(counts, resamples, rng):
    """Swap draws, and sums under sign flips of what is left of the change without its mean.

    Returns rates of both sources (1 + B, 2, 2, K) and the terms of Q by label (1 + B, 2); the
    observed ones first.
    """
    images, change = counts.images, counts.positive[:, :, 0] - counts.positive[:, :, 1]
    rows, patients = _distinct(np.column_stack([counts.group, images, change]), counts.patients)
    group, images, change = rows[:, 0], rows[:, 1:3], rows[:, 3:]
    mean = patients @ change / (patients @ images)
    residual = change - mean * images
    piece, signs = _signs(patients, resamples, rng)
    sums = _group_sums(signs, np.hstack([change, residual])[piece], group[piece], len(counts.names))
    n, x = counts._totals()
    half = np.moveaxis(sums[:, :, :2], 1, 2) / 2
    swapped = (x.sum(axis=0) / 2 + np.stack([half, -half], axis=1)) / n
    variance = np.maximum(patients @ residual**2 / (patients @ images), _TIE)
    unequal = np.moveaxis(sums[:, :, 2:], 1, 2) / n
    unequal = unequal - (unequal * n).sum(axis=2, keepdims=True) / n.sum(axis=1)[:, None]
    return swapped, (n * unequal**2).sum(axis=2) / variance


def _signs(patients, resamples, rng):
    """Sums of as many random signs as there are patients, in pieces of at most 64: pattern of each, (1 + B, pieces)."""
    words = -(-patients // 64)
    piece = np.repeat(np.arange(patients.size), words)
    size = np.full(piece.size, 64)
    size[np.cumsum(words) - 1] = patients - 64 * (words - 1)
    bits = rng.integers(2**64, size=(resamples, piece.size), dtype=np.uint64) >> (64 - size).astype(np.uint64)
    return piece, np.vstack([size, 2.0 * np.bitwise_count(bits) - size])


def _swap_test(swapped, way):
    """p of the swap test."""
    return {"p": _p(np.abs(_metric(swapped[:, 0], way) - _metric(swapped[:, 1], way)))}


def _detectable(noise, way):
    """Shift from equal rates that the swap test finds with 80 % power; noise of both sources (B, 2, 2, K)."""
    worse = noise * [[-1], [1]]  # a lower TPR, a higher FPR
    itself = np.where(np.eye(noise.shape[3]), np.inf, 0)
    lag = (worse - (worse[:, :, :, None] + itself).min(axis=4))[:, :, _labels(way)]  # behind the best of the others
    lag = lag.mean(axis=2) if way == "mean" else lag.max(axis=2)
    critical = np.quantile(np.abs(lag[:, 0] - lag[:, 1]), 0.95, axis=0)
    needed = critical + _metric(noise[:, 1], way)[:, None] - lag[:, 0]
    return {"detectable": float(np.quantile(needed, 0.8))}


def _interaction_test(terms, way, groups):
    """Q of the change and its p, by sign flips and by the chi-squared limit."""
    labels = _labels(way)
    q = terms[:, labels].sum(axis=1)
    limit = stats.chi2.sf(q[0], len(labels) * (groups - 1))
    return {"interaction": float(q[0]), "p_interaction": _p(q), "p_interaction_chi2": float(limit)}


def _change(counts, covariance):
    """Change of the rates, (2K,), and its covariance; in small groups at least the average noise."""
    n, x = counts._totals()
    size = n.size
    same, cross = covariance[:size, :size] + covariance[size:, size:], covariance[:size, size:]
    change = counts.positive[:, :, 0] - counts.positive[:, :, 1]
    average = (counts.patients @ change**2 / n.sum(axis=1))[:, None] / n
    covariance = same - cross - cross.T
    lacking = np.where(n < _FEW, average, 0).ravel() - np.diag(covariance)
    return ((x[0] - x[1]) / n).ravel(), covariance + np.diag(np.maximum(lacking, 0))


def _equivalence(change, covariance, way, groups, margin):
    """Largest change of a gap, its 95 % upper bound, and whether that is below the margin."""
    estimate, se = _evaluate(*_contrasts(way, groups), change, covariance)
    bound = float((estimate + stats.norm.ppf(0.95) * se).max())
    return {"gamma": float(estimate.max()), "margin_supported": bound, "equivalent": bound < margin}


def _multinomial(patients, resamples, rng):
    """As many patients drawn with replacement as there are, B times: how often each pattern, (B, T)."""
    rare = patients <= _RARE
    share = np.append(patients[~rare], patients[rare].sum()) / patients.sum()
    drawn = rng.multinomial(patients.sum(), share, size=resamples)
    weights = np.empty((resamples, patients.size))
    weights[:, ~rare] = drawn[:, :-1]
    one = np.repeat(np.arange(rare.sum()), patients[rare])
    picked = one[rng.integers(max(one.size, 1), size=drawn[:, -1].sum(), dtype=np.uint32)]
    cell = np.repeat(np.arange(resamples) * rare.sum(), drawn[:, -1]) + picked
    weights[:, rare] = np.bincount(cell, minlength=resamples * rare.sum()).reshape(resamples, -1)
    return weights
