"""Cells: an estimate for each group with limits at any level, from decisions, scores or values of patients.

All inference of the room rests on cells. Limits of differences come from the limits of the cells
(MOVER: the variance is recovered from the limits), so no standard error is taken at a rate of 0 or 1.
Images of a patient resemble each other: rates, means and AUROC are summed by patient, and a rate
counts as one of fewer images (its number of images divided by the design effect).

References
----------
Brown, Cai, DasGupta. Interval estimation for a binomial proportion. Statistical Science 2001.
Zou, Donner. Construction of confidence limits about effect measures. Statistics in Medicine 2008 (MOVER).
DeLong, DeLong, Clarke-Pearson. Comparing the areas under two or more correlated receiver operating
characteristic curves. Biometrics 1988.
Obuchowski. Nonparametric analysis of clustered ROC curve data. Biometrics 1997 (sums by patient).
Hanley, McNeil. The meaning and use of the area under a ROC curve. Radiology 1982.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy import special, stats

FEW_EVENTS, FEW_PATIENTS = 10, 20  # below either, the clustering of a rate is that of all groups together


class Cells:
    """What the kinds of cells have in common: cells of some groups, in any order."""

    def __getitem__(self, groups):
        values = [getattr(self, field.name) for field in fields(self)]
        return type(self)(*(value if isinstance(value, bool) else value[groups] for value in values))


@dataclass(frozen=True)
class Rate(Cells):
    """Proportions of K groups: Jeffreys limits, exact ones where the proportion is 0 or 1.

    Attributes
    ----------
    value, n, df : numpy.ndarray, shape (K,)
        Proportion in [0, 1], effective number of units, degrees of freedom (infinite without clusters).
    """

    value: np.ndarray
    n: np.ndarray
    df: np.ndarray

    span = 1.0  # largest possible difference between groups

    @property
    def se(self):
        """Standard error, never 0; shape (K,)."""
        rate = (self.value * self.n + 0.5) / (self.n + 1)
        return np.sqrt(rate * (1 - rate) / np.where(self.n > 0, self.n, np.nan))

    def limits(self, z, *, plain=False, exact=False):
        """Lower and upper limits at the one-sided normal level z, shape (K,) each.

        Parameters
        ----------
        z : float
        plain : bool
            Jeffreys limits also at 0 and 1, as tests take them.
        exact : bool
            Limits of Clopper and Pearson throughout.
        """
        n = self.n * (z / np.maximum(t_level(z, self.df), z)) ** 2 if z > 0 else self.n
        events, tail, prior = self.value * n, special.ndtr(-z), 0.0 if exact else 0.5
        none, all_ = events <= 1e-9, n - events <= 1e-9
        with np.errstate(invalid="ignore", divide="ignore"):
            low = special.betaincinv(np.where(none, 1, events + prior), n - events + 1 - prior, tail)
            high = special.betainccinv(events + 1 - prior, np.where(all_, 1, n - events + prior), tail)
            edge = tail ** (1 / n)
        if not plain:
            low, high = np.where(all_, edge, low), np.where(none, 1 - edge, high)
        low, high = np.where(none, 0, low), np.where(all_, 1, high)
        known = np.isfinite(self.value)
        low, high = np.minimum(low, self.value), np.maximum(high, self.value)
        return np.where(known, low, np.nan), np.where(known, high, np.nan)


@dataclass(frozen=True)
class Mean(Cells):
    """Means of K groups with t limits; with `log`, limits of log(1 - mean), transformed back."""

    value: np.ndarray
    se: np.ndarray
    df: np.ndarray
    log: bool = False

    span = np.inf

    def __neg__(self):
        return Mean(-self.value, self.se, self.df)

    def limits(self, z, *, plain=False):
        """Lower and upper limits at the one-sided normal level z, shape (K,) each."""
        half = t_level(z, self.df) * self.se
        if not self.log:
            return self.value - half, self.value + half
        error = 1 - self.value
        factor = np.exp(np.minimum(half / np.maximum(error, 1e-12), 50))
        return 1 - error * factor, 1 - error / factor


@dataclass(frozen=True)
class Difference(Cells):
    """First minus second of two rates of the same patients, by MOVER with their correlation.

    A change of a rate is gain minus loss, the shares of units that turned positive and negative; a
    change of AUROC is after minus before.
    """

    first: Rate
    second: Rate
    correlation: np.ndarray
    exact: bool = False  # limits of Clopper and Pearson for both

    span = 1.0

    def __neg__(self):
        return Difference(self.second, self.first, self.correlation, self.exact)

    @property
    def value(self):
        """Estimate, shape (K,)."""
        return self.first.value - self.second.value

    @property
    def se(self):
        """Standard error, shape (K,)."""
        return self._joined(self.first.se, self.second.se)

    def limits(self, z, *, plain=False):
        """Lower and upper limits at the one-sided normal level z, shape (K,) each."""
        how = {"plain": plain, "exact": self.exact and not plain}
        sides = [
            (cell.value - low, high - cell.value)
            for cell in (self.first, self.second)
            for low, high in [cell.limits(z, **how)]
        ]
        (first_low, first_high), (second_low, second_high) = sides
        return self.value - self._joined(first_low, second_high), self.value + self._joined(first_high, second_low)

    def _joined(self, a, b):
        return np.sqrt(np.maximum(a**2 + b**2 - 2 * self.correlation * a * b, 0))


@dataclass(frozen=True)
class Measure:
    """A measure of K groups, and what each of P patients adds to it.

    Attributes
    ----------
    cells : Rate or Mean
    residual : numpy.ndarray, shape (P,)
        What a patient adds to the estimate of the group beyond an average patient; sums to 0.
    share : numpy.ndarray, shape (P,)
        Share of the group's units; sums to 1.
    """

    cells: Rate | Mean
    residual: np.ndarray
    share: np.ndarray

    def parts(self, group):
        """Addends of the estimate by patient, shape (P,); those of a group sum to its value."""
        return self.residual + np.nan_to_num(self.cells.value)[group] * self.share


@dataclass(frozen=True)
class Groups:
    """Who belongs to whom: rows to patients, patients to groups.

    Attributes
    ----------
    patient : numpy.ndarray of int, shape (n,)
        Patient of each row.
    group : numpy.ndarray of int, shape (P,)
        Group of each patient, ascending, from 0.
    names : list of str, length K
    """

    patient: np.ndarray
    group: np.ndarray
    names: list

    def sums(self, values):
        """Sum of values of patients, (P,), by group, (K,)."""
        return np.bincount(self.group, values, len(self.names))

    def by_patient(self, values=None, rows=slice(None)):
        """Sum of values of rows by patient, or else the number of rows, (P,)."""
        return np.bincount(self.patient[rows], values, self.group.size)

    def rate(self, called, rows, weight=None):
        """Share of `rows` that are called positive.

        Parameters
        ----------
        called : numpy.ndarray of bool, shape (n,)
        rows : numpy.ndarray of bool, shape (n,)
            Which count: those of a label, or all.
        weight : numpy.ndarray, shape (n,), optional
            How much each row counts; the design effect takes account of it.

        Returns
        -------
        Measure
        """
        weight = np.ones(called.size) if weight is None else weight * rows.sum() / weight[rows].sum()
        n, events = self.by_patient(weight[rows], rows), self.by_patient(weight[rows] * called[rows], rows)
        cells, total = self._rates([events], n)[0], np.maximum(self.sums(n), 1)[self.group]
        return Measure(cells, (events - np.nan_to_num(cells.value)[self.group] * n) / total, n / total)

    def rate_change(self, after, before, rows):
        """Change of such a share, paired: share gained minus share lost.

        Returns
        -------
        Difference
        """
        turned = [self.by_patient(one[rows] & ~other[rows], rows) for one, other in ((after, before), (before, after))]
        gain, loss = self._rates(turned, self.by_patient(rows=rows))
        odds = gain.value * loss.value / np.maximum((1 - gain.value) * (1 - loss.value), 1e-12)
        return Difference(gain, loss, -np.sqrt(np.minimum(odds, 1)), exact=True)

    def mean(self, value, rows=slice(None), *, by_patient=False, log=False):
        """Mean of a quantity over rows, or over the means of patients.

        Parameters
        ----------
        value : numpy.ndarray, shape (n,)
        rows : numpy.ndarray of bool, shape (n,)
        by_patient : bool
            Every patient counts once, whatever the number of rows.
        log : bool
            Limits on the scale of the logarithm of 1 - mean, for Dice and SSIM.

        Returns
        -------
        Measure
        """
        n, total = self.by_patient(rows=rows), self.by_patient(value[rows], rows)
        if by_patient:
            total, n = total / np.maximum(n, 1), (n > 0).astype(float)
        size = self.sums(n)
        with np.errstate(invalid="ignore"):
            mean = self.sums(total) / np.where(size > 0, size, np.nan)
        whole = np.maximum(size, 1)[self.group]
        residual = (total - np.nan_to_num(mean)[self.group] * n) / whole
        df = size**2 / np.maximum(self.sums(n**2), 1) - 1
        return Measure(Mean(mean, self._error(residual, n > 0)[0], df, log), residual, n / whole)

    def log_error(self, value, rows=slice(None), other=None):
        """Logarithm of 1 - mean over patients' means, or its change from another source.

        Returns
        -------
        Measure
        """
        linear = self.mean(value, rows, by_patient=True)
        error = np.log(np.maximum(1 - linear.cells.value, 1e-12))
        residual = -linear.residual / np.exp(error)[self.group]
        if other is not None:
            before = self.log_error(other, rows)
            error, residual = error - before.cells.value, residual - before.residual
        se, count = self._error(residual, linear.share > 0)
        return Measure(Mean(error, se, count - 1), residual, linear.share)

    def auroc(self, score, label, fold=None):
        """Area under the ROC curve, ties count 1/2; its cells are NaN where a group lacks a label.

        With folds, only pairs of one fold are compared, since another fold has scores of another model. The value is
        the share of such pairs that are in order. Cases without a pair do not count.

        Parameters
        ----------
        score, label : numpy.ndarray, shape (n,)
            Label 0 or 1; NaN does not count.
        fold : numpy.ndarray, shape (n,), optional
            Fold of each row.

        Returns
        -------
        Measure
        """
        groups, of_row = len(self.names), self.group[self.patient]
        fold = np.zeros(score.size, int) if fold is None else fold
        (value, n), df, residual = np.full((2, groups), np.nan), np.zeros(groups), np.zeros(self.group.size)
        for g in range(groups):
            parts = [_placements(score, label, np.flatnonzero((of_row == g) & (fold == f))) for f in np.unique(fold)]
            parts = [part for part in parts if part is not None]
            if not parts:
                continue
            case = [np.concatenate([part[0][y] for part in parts]) for y in (0, 1)]
            pairs = sum(part[0][0].size * part[0][1].size for part in parts)
            # The weight of a case is its number of pairs, in units of the mean over cases of its label.
            placed = [np.concatenate([part[1][y] for part in parts]) for y in (0, 1)]
            weight = [
                np.concatenate([np.full(part[0][y].size, part[0][1 - y].size * case[y].size / pairs) for part in parts])
                for y in (0, 1)
            ]
            value[g] = (weight[0] * placed[0]).mean()
            for placement, rows, part in zip(placed, case, weight, strict=True):
                size = rows.size
                residual += self.by_patient(part * (placement - value[g]) / np.sqrt(size * max(size - 1, 1)), rows)
            patients = [np.unique(self.patient[rows]).size for rows in case]
            n[g], df[g] = _auroc_size(value[g], (residual[self.group == g] ** 2).sum(), *patients), min(patients) - 1
        known = self.by_patient(rows=np.isfinite(label))
        return Measure(Rate(value, n, df), residual, known / np.maximum(self.sums(known), 1)[self.group])

    def macro_auroc(self, scores, label, fold=None):
        """Mean over classes of the AUROC of each class against the rest; NaN where a group lacks a class.

        Parameters
        ----------
        scores : sequence of numpy.ndarray, each of shape (n,)
            Of each class.
        label : numpy.ndarray, shape (n,)
            Number of the class, from 0.
        fold : numpy.ndarray, shape (n,), optional
            As of `auroc`.

        Returns
        -------
        Measure

        References
        ----------
        Hand, Till. A simple generalisation of the area under the ROC curve. Machine Learning 2001.
        """
        each = [self.auroc(score, (label == k) * 1.0, fold) for k, score in enumerate(scores)]
        value = np.mean([one.cells.value for one in each], axis=0)
        residual = np.mean([one.residual for one in each], axis=0)
        variance = self.sums(residual**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            n = np.where((variance > 0) & (value < 1), value * (1 - value) / variance, np.inf)
        # A mean of classes that share their patients counts at most as all of them together, at least as one of them.
        sizes = np.array([one.cells.n for one in each])
        n, df = np.clip(n, sizes.min(axis=0), sizes.sum(axis=0)), np.min([one.cells.df for one in each], axis=0)
        n = np.where(variance > 0, n, sizes.mean(axis=0))
        return Measure(Rate(value, n, df), residual, each[0].share)

    def kappa(self, called, label, other=None):
        """Cohen's kappa with quadratic weights of classes in order, or its change from the decisions `other`.

        kappa = 1 - D / E, D the mean squared distance of decision and label, E what it would be if they were
        independent. What each patient adds is the linear part (influence) of that.

        Parameters
        ----------
        called, label : numpy.ndarray, shape (n,)
            Number of the class, from 0.
        other : numpy.ndarray, shape (n,), optional

        Returns
        -------
        Measure
            NaN where all decisions and labels of a group are one class.

        References
        ----------
        Cohen. Weighted kappa. Psychological Bulletin 1968.
        """
        of_row, groups = self.group[self.patient], len(self.names)
        value, influence = np.full(groups, np.nan), np.zeros(label.size)
        for g in np.unique(of_row):
            rows = of_row == g
            value[g], influence[rows] = _kappa(called[rows], label[rows])
        n = self.by_patient()
        total = np.maximum(self.sums(n), 1)[self.group]
        residual = self.by_patient(influence) / total
        if other is not None:
            before = self.kappa(other, label)
            value, residual = value - before.cells.value, residual - before.residual
        se, count = self._error(residual, n > 0)
        return Measure(Mean(value, se, count - 1, log=other is None), residual, n / total)

    def auroc_change(self, after, before):
        """Change of AUROC, paired by patient, of two results of `auroc`.

        Returns
        -------
        Difference
        """
        correlation = self.correlation(after.residual, before.residual)
        largest = 1 - 1 / np.maximum(after.cells.df + 1, 1)
        return Difference(after.cells, before.cells, np.minimum(correlation, largest))

    def correlation(self, one, other):
        """Correlation of two residuals over the patients of each group, 0 where one of them is constant; (K,)."""
        scale = np.sqrt(self.sums(one**2) * self.sums(other**2))
        return np.divide(self.sums(one * other), scale, out=np.zeros(scale.size), where=scale > 0)

    def _error(self, residual, counted):
        """Standard errors, NaN where fewer than two patients leave none, and the number of patients that count."""
        count = self.sums(counted * 1.0)
        variance = self.sums(residual**2) * count / np.maximum(count - 1, 1)
        return np.where(count > 1, np.sqrt(variance), np.nan), count

    def _rates(self, events, n):
        """Rates of events, a list of (P,), among n images of each patient, with their design effects."""
        size, count, square = self.sums(n), self.sums((n > 0) * 1.0), self.sums(n * n)
        total, clustered = np.maximum(size, 1), n.max(initial=0) > 1
        df = np.where(size > 0, size**2 / np.maximum(square, 1) - 1, 1) if clustered else np.full(size.size, np.inf)
        cells = []
        for x in events:
            sums = self.sums(x)
            rate = sums / total
            effect = self._design_effect(x, n, rate, sums, size, count, square) if clustered else 1.0
            cells.append(Rate(np.where(size > 0, rate, np.nan), size / effect, df))
        return cells

    def _design_effect(self, x, n, rate, sums, size, count, square):
        """Variance of a rate over that of independent images, at least 1, (K,)."""
        total, spread, at_random = np.maximum(size, 1), rate * (1 - rate), rate[self.group]
        residual = (x - at_random * n) ** 2
        left = 1 - n / np.maximum(total[self.group], n + 1)  # what remains without the patient (jackknife)
        effect = self.sums(residual / left**2) / total / np.where(spread > 0, spread, np.inf)
        pairs = (spread * (square - size)).sum()
        within = (residual - x * (1 - at_random) ** 2 - (n - x) * at_random**2).sum()
        rarer = min(sums.sum(), (size - sums).sum())
        icc = np.clip(max(within / pairs if pairs > 0 else 1.0, 1 / (1 + rarer)), 0, 1)
        sparse = (np.minimum(sums, size - sums) < FEW_EVENTS) | (count < FEW_PATIENTS)
        return np.maximum(np.where(sparse, np.maximum(effect, 1 + (square / total - 1) * icc), effect), 1)


def t_level(z, df):
    """Quantile of the t distribution at the one-sided level of the normal quantile z.

    Examples
    --------
    >>> t_level(1.959964, np.array([9.0, np.inf])).round(3)
    array([2.262, 1.96 ])
    """
    finite = np.where(np.isfinite(df), np.maximum(df, 1), 1e9)
    return np.where(np.isfinite(df), -special.stdtrit(finite, special.ndtr(-z)), z)


def pooled(rate):
    """Rates of groups that borrow from each other: empirical Bayes under a beta-binomial model.

    The strength of the prior is averaged over its likelihood, and the error of the common mean is
    added, so that the interval of a small group is not too short.

    Parameters
    ----------
    rate : Rate

    Returns
    -------
    value, low, high : numpy.ndarray, shape (K,)
        Posterior mean and 95 % interval, in [0, 1].

    References
    ----------
    Morris. Parametric empirical Bayes inference. JASA 1983.

    Examples
    --------
    >>> value, low, high = pooled(Rate(np.array([0.8, 0.82, 0.5]), np.array([400.0, 300.0, 4.0]), np.full(3, np.inf)))
    >>> value.round(2)
    array([0.8 , 0.81, 0.77])
    """
    n = np.where(np.isfinite(rate.value), rate.n, 0)
    x = np.nan_to_num(rate.value) * n
    strength = np.geomspace(1, 1e4, 25)[:, None]  # number of units that the prior is worth
    weight = n * strength / (n + strength)
    center = (weight * x / np.maximum(n, 1e-9)).sum(axis=1, keepdims=True) + 0.5
    center = center / (weight.sum(axis=1, keepdims=True) + 1)
    a, b = center * strength, (1 - center) * strength
    likelihood = (special.betaln(a + x, b + n - x) - special.betaln(a, b)).sum(axis=1, keepdims=True)
    posterior = np.exp(likelihood - likelihood.max()) / np.sqrt(strength)  # the spread of groups is uniform a priori
    posterior /= posterior.sum()
    mean = (a + x) / (strength + n)
    variance = mean * (1 - mean) / (strength + n + 1)
    variance += (
        (strength / (strength + n)) ** 2 * center * (1 - center) / (weight.sum(axis=1, keepdims=True) + 1) * (1 + 0 * n)
    )
    value = (posterior * mean).sum(axis=0)
    variance = (posterior * (variance + (mean - value) ** 2)).sum(axis=0)
    size = np.maximum(value * (1 - value) / variance - 1, 1e-3)
    low, high = (special.betaincinv(value * size, (1 - value) * size, tail) for tail in (0.025, 0.975))
    return value, low, high


def _placements(score, label, rows):
    """Positives and negatives among `rows`, and where each lies among those of the other label; None without a pair.

    Returns
    -------
    cases, placements : tuple of numpy.ndarray
        Row numbers of the positives and of the negatives; of a positive the share of negatives below it, of a negative
        the share of positives above it.
    """
    case = [rows[label[rows] == y] for y in (1, 0)]
    m, k = (some.size for some in case)
    if not m or not k:
        return None
    rank = stats.rankdata(score[np.concatenate(case)])
    above = (rank[:m] - stats.rankdata(score[case[0]])) / k
    return case, (above, 1 - (rank[m:] - stats.rankdata(score[case[1]])) / m)


def _auroc_size(value, variance, positives, negatives):
    """Effective number of units of a rate that varies as this AUROC does."""
    few = min(positives, negatives)
    safe, mean = (value * few + 0.5) / (few + 1), (positives + negatives) / 2
    spread = 1 + (mean - 1) * (1 - safe) / (2 - safe) + (mean - 1) * safe / (1 + safe)
    largest = 2 * positives * negatives / spread  # twice that of Hanley and McNeil
    return min(value * (1 - value) / variance, largest) if variance > 0 and 0 < value < 1 else largest


def _kappa(called, label):
    """Kappa with quadratic weights, and the influence of each row on it, which sums to 0."""
    called, label = called.astype(float), label.astype(float)
    one, two = called - called.mean(), label - label.mean()
    apart, distance = called.mean() - label.mean(), (called - label) ** 2
    chance = (one**2).mean() + (two**2).mean() + apart**2
    if chance <= 0:
        return np.nan, np.zeros(label.size)
    of_chance = one**2 - (one**2).mean() + two**2 - (two**2).mean() + 2 * apart * (one - two)
    observed = distance.mean()
    return 1 - observed / chance, (observed / chance * of_chance - (distance - observed)) / chance
