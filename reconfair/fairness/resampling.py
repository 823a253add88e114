"""The paper's inference: a bootstrap of patients, paired between sources.

Patients, not images, are drawn with replacement, because images of one patient resemble each
other; and every source is evaluated on the same draws, so that what sources share cancels in
their difference. A resample is a row of weights: how often each patient was drawn.

What to know before reading its numbers
---------------------------------------
For averages (AUROC, TPR, Dice of a group) this bootstrap is sound. For statistics that compare
the best with the worst group (EODD, EOP, SER, every gap) it is not, and is kept because the
paper's tables were made with it:

- A gap between noisy rates is never negative, so it is biased upward, and the more so the
  smaller the groups: six groups in CheXpert's proportions, 20,000 images, 5 % prevalence and no
  disparity at all give a mean EODD of about 0.17; two sex groups about 0.012.
- The interval of EODD never contains 0, even where the true EODD is 0. An interval
  away from 0 is therefore no evidence of disparity.
- The p-value of the paired shift is far too cautious where there is nothing to find: with no
  disparity and interchangeable sources it falls below 0.05 in 0.1 % of studies (6 of 4594
  simulated ones) rather than 5 %. A large p is no evidence that nothing changed.
- Where a disparity of 0 becomes one of 0.05 to 0.10, the interval of the shift covers the
  truth in about 78 % of simulated studies rather than 95 %.
- It is conditional on the groups compared: groups too small are fixed beforehand, not per
  resample, and nothing is said about them.

`draws` resamples any measure of the groups, `bootstrap` TPR and FPR alone and much faster: rates depend
on a patient only through a few counts, and patients with equal counts are one pattern.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from scipy import stats

from . import metrics
from .metrics import _divide

_CHUNK = 2_500_000  # weights held at once: 20 MB, with what is computed from them below 200 MB
_SMALL = 500  # rows; below, exact resamples of ranks are cheap and the approximation is at its worst
_RARE = 8  # multiplicity up to which patients are drawn one by one, which is faster


def patient_weights(*, patient, resamples, rng):
    """Draw patients with replacement and give each row the count of its patient.

    Parameters
    ----------
    patient : array_like, shape (n,)
        Patient of each row.
    resamples : int
        B, the number of draws of as many patients as there are.
    rng : numpy.random.Generator

    Yields
    ------
    numpy.ndarray, shape (b, n)
        Chunks of the (B, n) weights; their sizes do not change the draws.

    Examples
    --------
    >>> chunks = patient_weights(patient=[0, 0, 1, 2], resamples=5, rng=np.random.default_rng(0))
    >>> np.concatenate(list(chunks))[:, [0, 2, 3]].sum(axis=1)
    array([3., 3., 3., 3., 3.])
    """
    code = np.unique(patient, return_inverse=True)[1]
    patients, chunk = code.max() + 1, max(1, _CHUNK // code.size)
    for start in range(0, resamples, chunk):
        b = min(chunk, resamples - start)
        drawn = rng.integers(patients, size=(b, patients)) + patients * np.arange(b)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=b * patients).reshape(b, patients)
        yield counts[:, code].astype(float)


def cohorts(patients, *, resamples, rng):
    """All resamples of a number of patients at once, as small integers.

    Parameters
    ----------
    patients, resamples : int
        P and B.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of uint8, shape (B, P)
        How often each resample holds each patient.
    """
    chunks = patient_weights(patient=np.arange(patients), resamples=resamples, rng=rng)
    return np.concatenate([np.zeros((0, patients), np.uint8), *(chunk.astype(np.uint8) for chunk in chunks)])


def interval(draws):
    """Estimate, percentile 95 % interval and standard error.

    Parameters
    ----------
    draws : numpy.ndarray, shape (1 + B,)
        The estimate, then the resamples; resamples without a value (NaN) are left out.

    Returns
    -------
    dict of float
        ``value, low, high, se``: all NaN where the estimate is.
    """
    resampled = draws[1:][np.isfinite(draws[1:])]
    if np.isnan(draws[0]) or resampled.size < 2:
        return {"value": float(draws[0]), "low": np.nan, "high": np.nan, "se": np.nan}
    low, high = np.quantile(resampled, (0.025, 0.975))
    return {"value": float(draws[0]), "low": float(low), "high": float(high), "se": float(resampled.std(ddof=1))}


def with_change(draws, base=None):
    """Estimate and limits of draws, and of their paired change from a baseline, where there is one.

    Parameters
    ----------
    draws : numpy.ndarray, shape (1 + B,)
    base : numpy.ndarray, shape (1 + B,), optional
        The baseline on the same resamples.

    Returns
    -------
    dict of float
        ``value, low, high, se`` as of `interval`; with a baseline ``change, change_low, change_high`` as well.
    """
    change = {} if base is None else interval(draws - base)
    names = {"value": "change", "low": "change_low", "high": "change_high"}
    return interval(draws) | {name: change[key] for key, name in names.items() if key in change}


def shift(draws, reference, *, one_sided=False):
    """Paired difference to a reference evaluated on the same resamples.

    ``p = min(1, 2 (1 + min(#{d* <= 0}, #{d* >= 0})) / (B + 1))``, d* the difference in a resample.

    Parameters
    ----------
    draws, reference : numpy.ndarray, shape (1 + B,)
        The estimate, then the resamples.
    one_sided : bool
        As published: p is the share of resamples in which nothing was added, ``d* <= 0``.

    Returns
    -------
    dict of float
        The difference ``value``, its interval ``low, high`` and ``se``, ``percent`` of the
        reference (NaN where that is 0) and ``p``, from 2 / (B + 1) to 1.

    Examples
    --------
    >>> shift(np.array([0.3, 0.4, 0.3, 0.2]), np.array([0.2, 0.2, 0.2, 0.2]))["p"]
    1.0
    """
    difference = draws - reference
    resampled = difference[1:][np.isfinite(difference[1:])]
    # Differences of counts tie at zero; the tolerance keeps rounding from breaking the tie.
    none, less = (resampled <= 1e-12).sum(), (resampled >= -1e-12).sum()
    extreme = 1 + none if one_sided else 2 * (1 + min(none, less))
    defined = np.isfinite(difference[0]) and resampled.size
    return interval(difference) | {
        "percent": float(100 * difference[0] / reference[0]) if reference[0] else np.nan,
        "p": float(min(1, extreme / (resampled.size + 1))) if defined else np.nan,
    }


def draws(measure, value, weights, *, patient, group, groups, label=None, fold=None):
    """A measure of groups in resamples of patients, paired between sources.

    Means are exact. AUROC and average precision of a group of 500 rows and more are so to first order:
    with what each patient adds to them (for AUROC the placements of DeLong, summed by patient).

    Parameters
    ----------
    measure : {"mean", "patient_mean", "auroc", "auprc"}
        Mean over rows, or over patients' means; ranks of scores.
    value : numpy.ndarray, shape (n, A)
        Values or scores of A sources; rows that are not finite in all of them do not count (for
        ``patient_mean``: patients without a finite value in each).
    weights : numpy.ndarray, shape (B, P)
        How often each resample holds each patient; small integers (uint8) need little memory.
    patient : numpy.ndarray of int, shape (n,)
        Number of the patient of each row, from 0 to P - 1.
    group : numpy.ndarray of int, shape (P,)
        Group of each patient, from 0; -1 for none.
    groups : int
        G.
    label : numpy.ndarray, shape (n,), optional
        0 or 1, for ranks.
    fold : numpy.ndarray, shape (n,), optional
        Ranks are taken within folds; then they are exact for groups of every size.

    Returns
    -------
    numpy.ndarray, shape (1 + B, A, G)
        The estimate, then the resamples; NaN where one lacks a needed label in a group.
    """
    if measure == "patient_mean":
        value, patient = patient_means(value, patient, group.size), np.arange(group.size)
    rows = np.isfinite(value).all(axis=1) & (group[patient] >= 0)
    value, patient, label = value[rows], patient[rows], None if label is None else label[rows].astype(int)
    fold = fold if fold is None or label is None else fold[rows]
    of_row, drawn = group[patient], np.empty((1 + len(weights), value.shape[1], groups))
    for g in range(groups):
        inside, at = np.flatnonzero(group == g), np.flatnonzero(of_row == g)
        local = np.searchsorted(inside, patient[at])
        weight = np.concatenate([np.ones((1, inside.size), weights.dtype), weights[:, inside]])
        if measure in ("mean", "patient_mean"):
            columns = [np.bincount(local, column, inside.size) for column in (np.ones(at.size), *value[at].T)]
            sums = _product(weight, np.stack(columns, axis=1))
            drawn[:, :, g] = _divide(sums[:, 1:], sums[:, :1])
        else:
            within = None if fold is None else fold[at]
            drawn[:, :, g] = _rank_draws(measure, value[at], label[at], weight, local, within)
    return drawn


def tabulate(*, label, patient, group, decision, reference=None):
    """Count patients by what rates depend on: group, images of each label, and those called positive.

    Parameters
    ----------
    label : array_like, shape (n,)
        1, 0, or NaN where unknown; unknown rows are left out.
    patient, group : array_like, shape (n,)
        A patient is in one group; rows whose group is missing are left out.
    decision, reference : array_like of bool, shape (n,)
        Whether the source, and the one compared with, calls the row positive.

    Returns
    -------
    patterns : pandas.DataFrame
        One row per distinct patient: ``group``; by label 1 and 0 the images ``n``, and the positive
        calls ``decision`` and ``reference``; ``patients`` with this pattern.

    Examples
    --------
    >>> tabulate(
    ...     label=[1, 0, 1, 1, 0], patient=[7, 7, 8, 9, 9], group=["f", "f", "f", "m", "m"],
    ...     decision=[True, False, False, True, True],
    ... ).iloc[:, 1:].to_numpy().tolist()
    [[1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 1, 1, 1, 1]]
    """
    arms = {"decision": decision} | ({} if reference is None else {"reference": reference})
    rows = pd.DataFrame({"patient": np.asarray(patient), "group": np.asarray(group, object)})
    known = np.isfinite(label := np.asarray(label, float)) & rows["group"].notna().to_numpy()
    for y in (1, 0):
        for name, called in {"n": np.ones(label.size, bool), **arms}.items():
            rows[f"{name}_{y}"] = ((label == y) & np.asarray(called, bool)).astype(int)
    patients = (
        rows[known].groupby("patient", sort=False).agg(dict.fromkeys(rows.columns[2:], "sum") | {"group": "first"})
    )
    columns = ["group", *rows.columns[2:]]
    return patients.groupby(columns, sort=True).size().rename("patients").reset_index()


def bootstrap(patterns, *, resamples=1000, seed=0):
    """TPR and FPR of groups in resamples of patients.

    Parameters
    ----------
    patterns : pandas.DataFrame
        From `tabulate`.
    resamples : int
        B.
    seed : int or numpy.random.SeedSequence

    Returns
    -------
    numpy.ndarray, shape (1 + B, A, 2, G)
        The estimate, then the resamples: TPR and FPR of each source and group, groups sorted; NaN
        without a case. `reconfair.fairness.metrics` makes metrics of them, `shift` p-values.

    Examples
    --------
    >>> patterns = tabulate(label=[1, 1, 0, 1], patient=[1, 2, 2, 3], group=list("abba"), decision=[True] * 3 + [False])
    >>> rates = bootstrap(patterns, resamples=3)
    >>> rates.shape, metrics.eop(tpr=rates[:1, 0, 0])
    ((4, 1, 2, 2), array([0.5]))
    """
    columns = patterns.iloc[:, 1:-1].to_numpy(float)
    names, group = np.unique(patterns["group"].to_numpy(object), return_inverse=True)
    patients = patterns["patients"].to_numpy()
    weights = np.concatenate([patients[None], _multinomial(patients, resamples, np.random.default_rng(seed))])
    totals = np.stack([weights[:, group == g] @ columns[group == g] for g in range(names.size)], axis=-1)
    totals = np.moveaxis(totals.reshape(len(weights), 2, -1, names.size), 1, 2)
    return _divide(totals[:, 1:], totals[:, :1])


def exchanged(parts, group, groups, *, resamples=1000, seed=0):
    """Changes of groups after exchanging the two sources within patients at random.

    Parameters
    ----------
    parts : numpy.ndarray, shape (P, C)
        What each patient adds to the change of the group, for C changes.
    group : numpy.ndarray of int, shape (P,)
        Group of each patient, ascending.
    groups : int
        G.
    resamples, seed : int

    Returns
    -------
    numpy.ndarray, shape (1 + B, G, C)
        The changes as they are, then those of the exchanges.

    Examples
    --------
    >>> np.unique(exchanged(np.array([[0.5], [0.25]]), np.array([0, 0]), 1, resamples=50)).tolist()
    [-0.75, -0.25, 0.25, 0.75]
    """
    rng, changes = np.random.default_rng(seed), np.empty((resamples + 1, groups, parts.shape[1]))
    parts = parts.astype(np.float32)
    for g in range(groups):
        some = parts[group == g]
        some = some[some.any(axis=1)]
        bits = np.frombuffer(rng.bytes(resamples * -(-len(some) // 8)), np.uint8).reshape(resamples, -1)
        signs = np.unpackbits(bits, axis=1, count=len(some)).astype(np.float32) * 2 - 1
        changes[:, g] = np.vstack([some.sum(axis=0), signs @ some])
    return changes


def _multinomial(patients, resamples, rng):
    """As many patients drawn with replacement as there are, B times: how often each pattern, (B, T).

    Two threads draw one half each, from a stream of its own: so the draws do not depend on the number of cores.
    """
    rare = patients <= _RARE
    share = np.append(patients[~rare], patients[rare].sum()) / patients.sum()
    halves = (resamples // 2, resamples - resamples // 2)
    with ThreadPoolExecutor(2) as threads:
        drawn = threads.map(lambda rng, half: rng.multinomial(patients.sum(), share, size=half), rng.spawn(2), halves)
        drawn = np.concatenate([*drawn])
    weights = np.empty((resamples, patients.size))
    weights[:, ~rare] = drawn[:, :-1]
    one = np.repeat(np.arange(rare.sum()), patients[rare])
    picked = one[rng.integers(max(one.size, 1), size=drawn[:, -1].sum(), dtype=np.uint32)]
    cell = np.repeat(np.arange(resamples) * rare.sum(), drawn[:, -1]) + picked
    weights[:, rare] = np.bincount(cell, minlength=resamples * rare.sum()).reshape(resamples, -1)
    return weights


def patient_means(value, patient, patients):
    """Means over each patient's finite rows, (P, A)."""
    finite = np.isfinite(value)
    sums = [np.bincount(patient, column, patients) for column in (*np.where(finite, value, 0).T, *finite.T)]
    total, n = np.split(np.stack(sums, axis=1), 2, axis=1)
    return _divide(total, n)


def _rank_draws(measure, score, label, weights, patient, fold=None):
    """AUROC or average precision of one group, (B, A); `patient` counts within the group."""
    if label.size < _SMALL or fold is not None:
        exact, weight = getattr(metrics, measure), weights[:, patient]
        return np.hstack([exact(score=column, label=label, weights=weight, fold=fold) for column in score.T])
    influence, parts = {"auroc": (_auroc, label), "auprc": (_auprc, 0 * label)}[measure]
    value, added = zip(*(influence(column, label) for column in score.T), strict=True)
    drawn = np.broadcast_to(value, (len(weights), len(value))).copy()
    for part in np.unique(parts):
        rows = parts == part
        sums = [np.bincount(patient[rows], one[rows], weights.shape[1]) for one in (np.ones(label.size), *added)]
        sums = _product(weights, np.stack(sums, axis=1))
        drawn += _divide(sums[:, 1:], sums[:, :1])
    return drawn


def _auroc(score, label):
    """AUROC and, centred, the placement of each row among those of the other label."""
    positives = max(label.sum(), 0)
    if positives in (0, label.size):
        return np.nan, np.full(label.size, np.nan)
    rank, placement = stats.rankdata(score), np.empty(label.size)
    for y, others in ((1, label.size - positives), (0, positives)):
        rows = label == y
        placement[rows] = (rank[rows] - stats.rankdata(score[rows])) / others
    placement = np.where(label == 1, placement, 1 - placement)
    value = placement[label == 1].mean()
    return value, placement - value


def _auprc(score, label):
    """Average precision and the first-order effect of each row on it."""
    values, rank = np.unique(score, return_inverse=True)
    negative, positive = (np.bincount(rank[label == y], minlength=values.size) for y in (0, 1))
    fp, tp = (count[::-1].cumsum()[::-1] for count in (negative, positive))
    if not tp[0]:
        return np.nan, np.full(label.size, np.nan)
    called = tp + fp
    value = (positive * tp / called).sum() / tp[0]
    # A row changes the precision of all positives that score no more than it does.
    gain, loss = ((positive * count / called**2).cumsum() for count in (fp, tp))
    effect = np.where(label == 1, (tp / called - value + gain)[rank], -loss[rank])
    return value, effect * called[0] / tp[0]


def _product(weights, columns):
    """Matrix product in blocks that stay in the cache, (B, c)."""
    blocks = np.array_split(weights, max(1, weights.size // 1_000_000))
    return np.concatenate([block.astype(float, copy=False) @ columns for block in blocks])
