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
"""

import numpy as np

_CHUNK = 2_500_000  # weights held at once: 20 MB, with what is computed from them below 200 MB


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
