"""Inference for what is no count: AUROC, AUPRC and patient means, their gaps and the shifts of gaps.

Every statistic is kept as its value in each source and group and what each patient adds to it (for
AUROC the placements of DeLong, summed by patient). Resampling patients, permuting their groups and
swapping their sources are then matrix products, paired between sources because all see the same
draws. In a resample that holds patient p w_p times

    A* = A + sum_k (sum_p w_p term_kp) / (sum_p w_p size_kp),

k the labels, or one k where all rows are averaged together. For patient means this is exact. For
AUROC it leaves out what positives and negatives do jointly, about 1 / n of the variance in a group
of n images; groups below 500 images are resampled exactly. For AUPRC it is the first order only.

What to know before reading its numbers
---------------------------------------
- ``p`` and ``p_max_t`` of `disparity` ask whether scores depend on the group among patients with as
  many images of each label. A group whose scores are merely higher can fail that with equal AUROC.
- ``p`` of `shift` asks whether the sources rank images alike but for chance. A small one may mean
  that all groups changed. Its draws take both sources pooled plus or minus half their difference,
  exact for the difference in AUROC and in means. With two groups that do not differ it is cautious:
  it falls below 0.05 in 2.4 % of studies (3,000 simulated ones).
- Percentile intervals of a gap never reach 0; read the other one.
- AUPRC depends on prevalence: groups that differ in it differ in AUPRC.

References
----------
DeLong, DeLong, Clarke-Pearson. Comparing the areas under two or more correlated receiver operating
characteristic curves. Biometrics 1988.
Obuchowski. Nonparametric analysis of clustered ROC curve data. Biometrics 1997 (sums by patient).
Chernozhukov, Lee, Rosen. Intersection bounds: estimation and inference. Econometrica 2013.
Venkatraman, Begg. A distribution-free procedure for comparing receiver operating characteristic
curves from a paired experiment. Biometrika 1996 (ranks within a source are what is swapped).
Bandos, Rockette, Gur. A permutation test sensitive to differences in areas for comparing ROC curves
from a paired design. Statistics in Medicine 2005 (the swapped difference is a sum over subjects).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from . import metrics
from .metrics import _divide as _quotient

_SMALL = 500  # images; below, exact resamples are cheap and the approximation is at its worst
_TIE = 1e-12  # equal but for rounding
_BOOTSTRAP = ["percentile_low", "percentile_high", "se"]
_DISPARITY = ["value", "low", "high", *_BOOTSTRAP, "expected_if_none", "p", "p_max_t"]
_SHIFT = ["value", "percent", "low", "high", *_BOOTSTRAP, "p", "detectable", "gamma", "margin_supported"]
_REACH = 3  # standard errors below the largest contrast within which another may be the true largest


@dataclass(frozen=True)
class Terms:
    """A statistic of A sources in G groups, and what each of P patients adds to it.

    Attributes
    ----------
    sources, groups : list
    column : numpy.ndarray, shape (n, A)
        Ranks or values of the n rows with label and group.
    label, patient : numpy.ndarray of int, shape (n,)
        Label (0 of values) and number of the patient.
    group : numpy.ndarray of int, shape (P,)
        Number of the group of each patient, -1 of none.
    count, size : numpy.ndarray of int, shape (L, P) and (K, P)
        Rows of each patient by label and by part, the rows that are averaged together.
    influence, exact : callable
        What rows add to the statistic of groups, and the statistic as a function of weights.
    value : numpy.ndarray, shape (A, G)
    term : numpy.ndarray, shape (A, K, P)
    missing : int
        Rows left out for want of label, value or group.
    """

    sources: list
    groups: list
    column: np.ndarray
    label: np.ndarray
    patient: np.ndarray
    group: np.ndarray
    count: np.ndarray
    size: np.ndarray
    influence: Callable
    exact: Callable | None
    value: np.ndarray
    term: np.ndarray
    missing: int


def auroc_terms(*, score, label, patient, group):
    """Area under the ROC curve, ties count 1/2.

    Parameters
    ----------
    score : mapping of str to array_like, shape (n,)
        By source, for example a DataFrame; the first is the original. Only ranks within a source count.
    label : array_like, shape (n,)
        1, 0, or NaN where unknown; unknown rows do not count.
    patient : array_like, shape (n,)
    group : array_like, shape (n,)
        The same in all rows of a patient; a missing one belongs to no group.

    Returns
    -------
    Terms

    Raises
    ------
    ValueError
        Naming the source, row or patient that is not as described.

    Examples
    --------
    >>> score = {"original": [0.1, 0.5, 0.5, 0.9], "noisy": [0.1, 0.9, 0.5, 0.9]}
    >>> auroc_terms(score=score, label=[0, 0, 1, 1], patient=[1, 2, 3, 4], group=["a"] * 4).value
    array([[0.875],
           [0.625]])
    """
    return _ranked(_auroc, metrics.auroc, score, label, patient, group)


def auprc_terms(*, score, label, patient, group):
    """Area under the precision-recall curve as average precision; see `auroc_terms`."""
    return _ranked(_auprc, metrics.auprc, score, label, patient, group)


def mean_terms(*, value, patient, group):
    """Mean over each patient's rows, then over patients, of a quantity such as Dice or PSNR.

    Parameters
    ----------
    value : mapping of str to array_like, shape (n,)
        By source; values that are not finite do not count. Patients who lack one in some source
        are left out of all.
    patient, group : array_like, shape (n,)
        As for `auroc_terms`.

    Returns
    -------
    Terms
    """
    names, column, patient, group = _checked(value, patient, group)
    means = pd.DataFrame(column).where(np.isfinite(column)).groupby(patient).mean()
    rows = np.flatnonzero(means.notna().all(axis=1) & (group >= 0))
    missing = int((~np.isin(patient, rows)).sum())
    return _terms(names, means.to_numpy()[rows], 0 * rows, rows, group, _mean, None, missing)


def row_terms(*, value, patient, group):
    """Mean over all rows, whichever patient they are of; parameters as for `mean_terms`."""
    names, column, patient, group = _checked(value, patient, group)
    rows = np.isfinite(column).all(axis=1) & (group[patient] >= 0)
    label = np.zeros(rows.sum(), int)
    return _terms(names, column[rows], label, patient[rows], group, _mean, None, int((~rows).sum()))


def only(terms, draws, sources):
    """The same of some sources alone: Terms and draws."""
    at = [terms.sources.index(source) for source in sources]
    part = {"column": terms.column[:, at], "value": terms.value[at], "term": terms.term[at]}
    return replace(terms, sources=list(sources), **part), draws[:, at]


def cases(terms):
    """Patients of each group who carry the rarer label, or who have a value; dict by group."""
    return dict(zip(terms.groups, _cases(terms).tolist(), strict=True))


def resample(terms, *, weights):
    """The statistic in resamples of patients.

    Parameters
    ----------
    terms : Terms
    weights : array_like, shape (B, P)
        How often each resample holds each patient, patients in ascending order, as `patient_weights`
        of `numpy.unique(patient)` draws them. The same for all statistics that are to be paired;
        as small integers (uint8) they need little memory.

    Returns
    -------
    numpy.ndarray, shape (B, A, G)
        NaN where a resample lacks a label in a group.

    Raises
    ------
    ValueError
        If `weights` has not one column per patient.
    """
    weights = np.asarray(weights)
    if weights.shape[1:] != terms.group.shape:
        raise ValueError(f"weights: shape {weights.shape}, expected one column for each of {terms.group.size} patients")
    draws = np.empty((len(weights), *terms.value.shape))
    for g in range(len(terms.groups)):
        rows = np.flatnonzero(terms.group[terms.patient] == g)
        if terms.exact and rows.size < _SMALL:
            drawn, label = weights[:, terms.patient[rows]], terms.label[rows]
            exact = [terms.exact(score=column[rows], label=label, weights=drawn) for column in terms.column.T]
            draws[:, :, g] = np.hstack(exact)
        else:
            inside = np.flatnonzero(terms.group == g)
            draws[:, :, g] = terms.value[:, g] + _added(weights[:, inside], terms.term, terms.size, inside)
    return draws


def performance(terms, draws, reference=None):
    """The statistic of each source and group with percentile 95 % interval and standard error.

    Parameters
    ----------
    terms : Terms
    draws : numpy.ndarray, shape (B, A, G)
        From `resample`.
    reference : hashable, optional
        The source from which ``change`` is counted, in the same resamples.

    Returns
    -------
    pandas.DataFrame
        By ``source`` and ``group`` (index): ``value, low, high, se``; ``change`` with its interval
        ``change_low, change_high``, NaN for the reference itself and left out without one; and ``cases``: patients who
        carry the rarer label, or who have a value. Resamples without a value are left out.
    """
    index = pd.MultiIndex.from_product([terms.sources, terms.groups], names=["source", "group"])
    table = pd.DataFrame({"value": terms.value.ravel()} | _percentiles(draws, index), index=index)
    if reference in terms.sources:
        at = terms.sources.index(reference)
        moved = _percentiles(draws - draws[:, [at]], index)
        change = {"change": (terms.value - terms.value[at]).ravel()}
        change |= {"change_low": moved["low"], "change_high": moved["high"]}
        table = table.join(pd.DataFrame(change, index)[index.get_level_values("source") != reference])
    return table.assign(cases=np.tile(_cases(terms), len(terms.sources)))


def disparity(terms, draws, *, ratio=False, min_cases=20, permutations=1000, seed=0):
    """Largest difference between groups: is there one, and how large is it?

    Parameters
    ----------
    terms : Terms
    draws : numpy.ndarray, shape (B, A, G)
        From `resample`.
    ratio : bool
        The skewed error ratio (1 - smallest) / (1 - largest) in place of largest minus smallest.
    min_cases : int
        Patients of each label without whom a group is left out.
    permutations, seed : int

    Returns
    -------
    pandas.DataFrame
        By source (index): ``value``; its 95 % union-intersection interval ``low, high``, where
        ``low`` is no difference if ``p_max_t`` is above 0.025; ``percentile_low,
        percentile_high, se`` of the bootstrap; ``expected_if_none``, the mean value after
        exchanging groups among patients with as many rows of each label; under the same
        permutations ``p`` of the value and ``p_max_t`` of the largest studentised difference
        between two groups. NaN with fewer than two groups.
    """
    kept, drawn = _compared(terms, draws, min_cases)
    if kept.size < 2:
        return pd.DataFrame(np.nan, index=terms.sources, columns=_DISPARITY)
    estimate, drawn = _contrasts(terms.value[:, kept], ratio), _contrasts(drawn, ratio)
    permuted = _contrasts(_permuted(terms, kept, permutations, np.random.default_rng(seed)), ratio)
    value, away = permuted.max(axis=2), np.abs(permuted - permuted[1:].mean(axis=0))
    p_max_t = _p(_studentised(away, permuted[1:].std(axis=0)).max(axis=2))
    low = np.where(p_max_t > 0.025, ratio, np.maximum(_lower(estimate, drawn), ratio))
    high = estimate + _t(0.975, terms, kept) * drawn.std(axis=0)
    high = np.where(_near(estimate, drawn), high, -np.inf).max(axis=1)
    parts = [value[0], low, high, *_bootstrap(drawn.max(axis=2)), value[1:].mean(axis=0), _p(value), p_max_t]
    return _frame(_DISPARITY, parts, terms.sources)


def shift(terms, draws, *, reference=None, ratio=False, min_cases=20, margin=0.02, swaps=1000, seed=0):
    """Change of the largest difference between groups from a reference source, paired.

    Parameters
    ----------
    terms : Terms
    draws : numpy.ndarray, shape (B, A, G)
        From `resample`.
    reference : str, optional
        Source to compare with, by default the first.
    ratio, min_cases
        As in `disparity`.
    margin : float
        Change of a difference between groups that would not matter.
    swaps, seed : int

    Returns
    -------
    pandas.DataFrame
        By source (index) but the reference: ``value`` of the shift, ``percent`` of the reference's
        value; its 95 % interval ``low, high`` by intersection bounds; ``percentile_low,
        percentile_high, se`` of the bootstrap; ``p`` of the swap test (ranks or values exchanged
        within patients) and ``detectable``, the smallest shift it would find with 80 % power;
        ``gamma``, the largest change of any difference between two groups, never below the absolute
        shift; ``margin_supported``, its 95 % upper bound and so the smallest margin for which this
        cohort supports "no change"; ``equivalent``, whether that is below `margin`. Of a ratio,
        gamma and the margin are relative changes. NaN (False) with fewer than two groups.

    Raises
    ------
    ValueError
        If `reference` is no source.
    """
    if reference is not None and reference not in terms.sources:
        raise ValueError(f"reference is {reference!r}, expected one of {', '.join(map(repr, terms.sources))}")
    first = 0 if reference is None else terms.sources.index(reference)
    others = [a for a in range(len(terms.sources)) if a != first]
    sources = [terms.sources[a] for a in others]
    kept, drawn = _compared(terms, draws, min_cases)
    if kept.size < 2:
        return pd.DataFrame(np.nan, index=sources, columns=_SHIFT).assign(equivalent=False)
    estimate, drawn = _contrasts(terms.value[:, kept], ratio), _contrasts(drawn, ratio)
    (old, new), (old_drawn, new_drawn) = ((some[..., [first], :], some[..., others, :]) for some in (estimate, drawn))
    value = new.max(axis=1) - old.max()
    low = _lower(new - _at(old, old), new_drawn - _at(old_drawn, old))
    high = -_lower(old - _at(new, new), old_drawn - _at(new_drawn, new))
    swapped = _contrasts(_swapped(terms, kept, first, others, swaps, np.random.default_rng(seed)), ratio).max(axis=3)
    swapped = swapped[1] - swapped[0]
    detectable = np.quantile(np.abs(swapped[1:]), 0.95, axis=0) + stats.norm.ppf(0.8) * swapped[1:].std(axis=0)
    parts = [value, 100 * _quotient(value, old.max()), low, high]
    parts += [*_bootstrap(new_drawn.max(axis=2) - old_drawn.max(axis=2)), _p(np.abs(swapped)), detectable]
    parts += _changed(old, new, old_drawn, new_drawn, ratio, _t(0.95, terms, kept))
    return _frame(_SHIFT, parts, sources).assign(equivalent=lambda table: table["margin_supported"] < margin)


def _ranked(influence, exact, score, label, patient, group):
    """Terms of a statistic of the ranks within each source."""
    names, column, patient, group = _checked(score, patient, group, label=label)
    label = np.asarray(label, float)
    if (odd := ~np.isin(label, (0, 1)) & ~np.isnan(label)).any():
        raise ValueError(f"label in row {odd.argmax()} is {label[odd.argmax()]}, expected 0, 1 or NaN")
    for source, values in zip(names[0], column.T, strict=True):
        if np.isnan(values).any():
            raise ValueError(f"score of source {source!r} is missing in row {np.isnan(values).argmax()}")
    rows = np.isfinite(label) & (group[patient] >= 0)
    rank, label = stats.rankdata(column, method="max", axis=0)[rows].astype(int), label[rows].astype(int)
    return _terms(names, rank, label, patient[rows], group, influence, exact, int((~rows).sum()))


def _checked(columns, patient, group, **others):
    """Names of sources and groups, columns side by side, patients of the rows and groups of the patients as codes."""
    columns = {source: np.asarray(column, float) for source, column in columns.items()}
    for name, rows in {"group": group, **others, **columns}.items():
        if len(rows) != len(patient):
            raise ValueError(f"{name} has {len(rows)} rows, expected {len(patient)} as in patient")
    if pd.isna(patient).any():
        raise ValueError(f"patient is missing in row {pd.isna(patient).argmax()}")
    ids, patient = np.unique(np.asarray(patient), return_inverse=True)
    code, names = pd.factorize(np.asarray(group, object))
    order = sorted(range(names.size), key=lambda k: str(names[k]))
    code = np.append(np.argsort(order), -1)[code]
    group = np.empty(ids.size, int)
    group[patient] = code
    if (torn := group[patient] != code).any():
        raise ValueError(f"patient {ids.tolist()[patient[torn.argmax()]]!r} is in more than one group, expected one")
    return (list(columns), names[order].tolist()), np.column_stack(list(columns.values())), patient, group


def _terms(names, column, label, patient, group, influence, exact, missing):
    """Values of all sources and groups, and sums by patient."""
    labels, parts = {_mean: (1, 1), _auprc: (2, 1), _auroc: (2, 2)}[influence]
    count = np.bincount(label * group.size + patient, minlength=labels * group.size).reshape(labels, -1)
    size = count if labels == parts else count.sum(axis=0, keepdims=True)
    expanded = [_expand(influence, values, label, patient, group, len(names[1]), parts) for values in column.T]
    value, term = (np.stack(part) for part in zip(*expanded, strict=True))
    return Terms(*names, column, label, patient, group, count, size, influence, exact, value, term, missing)


def _expand(influence, column, label, patient, group, groups, parts):
    """Value by group, (groups,), and sums of influence by part and patient, (parts, P), of one source."""
    value, row = influence(column, label, group[patient], groups)
    cell = patient if parts == 1 else label * group.size + patient
    return value, np.bincount(cell, row, minlength=parts * group.size).reshape(parts, -1)


def _mean(value, label, group, groups):
    """Mean by group and each row's distance to it."""
    mean = _quotient(np.bincount(group, value, minlength=groups), np.bincount(group, minlength=groups))
    return mean, value - mean[group]


def _auroc(rank, label, group, groups):
    """AUROC by group and, centred, each row's placement among the rows of the other label."""
    negative, positive = _histograms(rank, label, group, groups)
    below = _quotient(negative.cumsum(axis=1) - negative / 2, negative.sum(axis=1, keepdims=True))
    above = _quotient(_from_above(positive) - positive / 2, positive.sum(axis=1, keepdims=True))
    auroc = _quotient((positive * below).sum(axis=1), positive.sum(axis=1))
    return auroc, np.where(label == 1, below[group, rank], above[group, rank]) - auroc[group]


def _auprc(rank, label, group, groups):
    """Average precision by group and each row's first-order effect on it."""
    negative, positive = _histograms(rank, label, group, groups)
    fp, tp = _from_above(negative), _from_above(positive)
    positives, called = tp[:, :1], np.maximum(tp + fp, 1)
    auprc = _quotient((positive * tp / called).sum(axis=1, keepdims=True), positives)
    # A row changes the precision of all positives that score no more than it does.
    gain, loss = ((positive * count / called**2).cumsum(axis=1) for count in (fp, tp))
    effect = np.where(label == 1, (tp / called - auprc + gain)[group, rank], -loss[group, rank])
    return auprc[:, 0], effect * _quotient(called[:, :1], positives)[group, 0]


def _histograms(rank, label, group, groups):
    """Rows by rank, one array (groups, ranks) for each label."""
    shape = 2, groups, rank.max(initial=0) + 1
    return np.bincount(np.ravel_multi_index((label, group, rank), shape), minlength=np.prod(shape)).reshape(shape)


def _from_above(counts):
    """Rows of this rank or a higher one."""
    return counts[:, ::-1].cumsum(axis=1)[:, ::-1]


def _added(weights, term, size, inside):
    """Sum over parts of the weighted mean of the terms of the patients `inside`, (B, A)."""
    columns = np.vstack([*np.moveaxis(term, 1, 0), size])[:, inside]
    sums, sizes = np.split(_product(weights, columns.T), [-len(size)], axis=1)
    return _quotient(sums.reshape(len(weights), len(size), -1), sizes[:, :, None]).sum(axis=1)


def _product(draws, columns):
    """Matrix product in blocks that stay in the cache, (B, A)."""
    blocks = np.array_split(draws, max(1, draws.size // 1_000_000))
    return np.concatenate([block.astype(float, copy=False) @ columns for block in blocks])


def _percentiles(draws, index):
    """95 % interval and standard error of every source and group."""
    draws = pd.DataFrame(draws.reshape(len(draws), -1), columns=index)
    low, high = draws.quantile([0.025, 0.975]).to_numpy()
    return {"low": low, "high": high, "se": draws.std()}


def _cases(terms):
    """Patients of each group who carry the rarer label, or who have a value, (G,)."""
    member = terms.group == np.arange(len(terms.groups))[:, None]
    return (member @ (terms.count > 0).T.astype(int)).min(axis=1)


def _compared(terms, draws, min_cases):
    """Groups with enough cases, and the resamples that have a value in all of them."""
    kept = np.flatnonzero(_cases(terms) >= max(min_cases, 1))
    draws = draws[:, :, kept]
    return kept, draws[np.isfinite(draws).all(axis=(1, 2))]


def _contrasts(values, ratio):
    """Difference, or ratio of errors, of every two groups, (..., G) to (..., V); the largest is the metric."""
    one, other = np.nonzero(~np.eye(values.shape[-1], dtype=bool))
    one, other = values[..., one], values[..., other]
    return _quotient(1 - other, 1 - one) if ratio else one - other


def _at(contrasts, estimate):
    """The contrast that is largest in the estimate, (..., A, 1)."""
    index = np.broadcast_to(estimate.argmax(axis=-1)[:, None], (*contrasts.shape[:-1], 1))
    return np.take_along_axis(contrasts, index, axis=-1)


def _near(estimate, drawn):
    """Which contrasts are no more than a few standard errors below the largest, (A, V)."""
    se = (_at(drawn, estimate) - drawn).std(axis=0)
    return _at(estimate, estimate) - estimate <= _REACH * se + _TIE


def _lower(estimate, drawn):
    """97.5 % lower bound on the largest contrast: the largest of simultaneous lower bounds, (A,)."""
    near, se = _near(estimate, drawn), drawn.std(axis=0)
    t = np.where(near, _studentised(drawn - estimate, se), 0).max(axis=2)
    return np.where(near, estimate - np.quantile(t, 0.975, axis=0)[:, None] * se, -np.inf).max(axis=1)


def _changed(old, new, old_drawn, new_drawn, ratio, t):
    """Largest change of a contrast and its upper bound, of a ratio the relative change, (A,) each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change, drawn = (np.log(a / b) if ratio else a - b for a, b in ((new, old), (new_drawn, old_drawn)))
        bounds = [bound.max(axis=1) for bound in (change, change + t * drawn.std(axis=0))]
    return [np.expm1(bound) if ratio else bound for bound in bounds]


def _t(share, terms, kept):
    """Quantile of the t distribution for the smallest group."""
    return stats.t.ppf(share, _cases(terms)[kept].min() - 1)


def _permuted(terms, kept, permutations, rng):
    """Values as they are, then with groups exchanged among patients of equal counts, (1 + B, A, kept)."""
    inside = np.isin(terms.group, kept)
    rows, patients = inside[terms.patient], np.flatnonzero(inside & (terms.count.sum(axis=0) > 0))
    everyone = terms.label[rows], terms.patient[rows], np.zeros_like(terms.group), 1, len(terms.size)
    expanded = [_expand(terms.influence, column, *everyone) for column in terms.column[rows].T]
    value, term = (np.stack(parts) for parts in zip(*expanded, strict=True))
    order = np.lexsort(terms.count[:, patients])
    patients = patients[order]
    group = _exchanged(terms.group[patients], terms.count[:, patients], permutations, rng)
    drawn = []
    for g in kept:
        size = terms.size[:, terms.group == g].sum(axis=1)  # whichever patients are exchanged
        drawn.append(value[:, 0] + _product(group == g, np.einsum("akp,k->pa", term[:, :, patients], 1 / size)))
    return np.concatenate([terms.value[None, :, kept], np.stack(drawn, axis=2)])


def _exchanged(group, count, permutations, rng):
    """Groups permuted among neighbours of equal counts, (B, P)."""
    side = int(np.ceil(np.sqrt(permutations)))
    seat = np.tile(np.arange(group.size), (2 * side, 1))
    for block in np.split(seat, np.flatnonzero(np.diff(count).any(axis=0)) + 1, axis=1):
        rng.permuted(block, axis=1, out=block)
    # Every product of one permutation of each half: uniform, any two independent, and no more need be drawn.
    return group.astype(np.int16)[seat[:side]][:, seat[side:]].reshape(-1, group.size)[:permutations]


def _swapped(terms, kept, first, others, swaps, rng):
    """Values of the reference and of the others, as they are, then swapped within patients, (2, 1 + B, A, kept)."""
    patients = terms.group.size
    twice = np.tile(terms.label, 2), np.concatenate([terms.patient, terms.patient + patients]), np.tile(terms.group, 2)
    pairs = [np.concatenate([terms.column[:, first], terms.column[:, a]]) for a in others]
    expanded = [_expand(terms.influence, pair, *twice, len(terms.groups), len(terms.size)) for pair in pairs]
    pooled, term = (np.stack(parts) for parts in zip(*expanded, strict=True))
    signs = 2 * rng.integers(2, size=(swaps + 1, patients), dtype=np.int8) - 1
    signs[0] = 1
    half = np.empty((swaps + 1, len(pairs), kept.size))
    for k, g in enumerate(kept):
        inside = np.flatnonzero(terms.group == g)
        difference = term[:, :, patients + inside] - term[:, :, inside]
        each = np.einsum("akp,k->pa", difference, 0.5 / terms.size[:, inside].sum(axis=1))
        half[:, :, k] = _product(signs[:, inside], each)
    return np.stack([pooled[:, kept] - half, pooled[:, kept] + half])


def _studentised(deviation, se):
    """Deviations in standard errors, 0 where there is no error."""
    return np.divide(deviation, se, out=np.zeros(deviation.shape), where=se > _TIE)


def _p(statistics):
    """Share of the draws, the observed one first, that are at least as large as the observed one, (A,)."""
    return (statistics >= statistics[0] - _TIE).mean(axis=0)


def _bootstrap(draws):
    """Percentile interval and standard error."""
    return *np.quantile(draws, (0.025, 0.975), axis=0), draws.std(axis=0, ddof=1)


def _frame(columns, parts, sources):
    """Table by source, NaN where there is no value."""
    table = pd.DataFrame(dict(zip(columns, parts, strict=True)), index=sources)
    return table.where(table["value"].notna())
