"""What scores would decide at every threshold, and whether they are risks: curves with intervals.

Each function takes rows of ``predictions`` of one source and returns a tidy table, ``task, x, value,
low, high``: for each task a curve and its pointwise 95 % interval. That of the first three is of a
bootstrap of patients, which knows only the patients it has: where a curve runs along the border
it shrinks to nothing, although other patients would not.
"""

from itertools import chain

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from reconfair.fairness.resampling import patient_weights

GRID = np.linspace(0, 1, 101)
MOST = 201  # thresholds looked at: quantiles of the scores where there are more


def by_threshold(predictions: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """TPR and TNR (column ``rate``) of the decision ``score >= x``.

    Examples
    --------
    >>> rows = {"task": "grade", "patient_id": list("abcd"), "label": [0, 0, 1, 1], "score": [0.1, 0.4, 0.6, 0.9]}
    >>> rates = by_threshold(pd.DataFrame(rows), resamples=99)
    >>> rates.pivot(index="x", columns="rate", values="value").tpr.to_dict()
    {0.1: 1.0, 0.4: 1.0, 0.6: 1.0, 0.9: 0.5}
    """

    def rates(rows):
        at, tpr, fpr, _ = _swept(rows, resamples, seed)
        return pd.concat([_table(at, draws).assign(rate=rate) for rate, draws in (("tpr", tpr), ("tnr", 1 - fpr))])

    return _each_task(predictions, rates)


def roc(predictions: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """TPR against FPR, the receiver operating characteristic."""

    def curve(rows):
        _, *rates, _ = _swept(rows, resamples, seed)
        tpr, fpr = (np.pad(rate[:, ::-1], ((0, 0), (1, 0))) for rate in rates)  # from nobody called to everybody
        last = np.array([np.searchsorted(row, GRID + 1e-9, "right") - 1 for row in fpr])
        return _table(GRID, np.take_along_axis(tpr, last, axis=1))

    return _each_task(predictions, curve)


def precision_recall(predictions: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Precision against recall: at the highest threshold that finds so many of the positives."""

    def curve(rows):
        _, tpr, _, precision = _swept(rows, resamples, seed)
        first = np.array([np.searchsorted(row, GRID[1:] - 1e-9) for row in tpr[:, ::-1]])
        return _table(GRID[1:], np.take_along_axis(precision[:, ::-1], first, axis=1))

    return _each_task(predictions, curve)


def reliability(predictions: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Share of positives against the mean score, in bins of equally many rows, 15 at least.

    The interval is Wilson's for as many independent cases as a bin has ``patients``, so that images of one
    patient do not feign certainty.
    """

    def shares(rows):
        number = int(np.clip(len(rows) // 15, 1, bins))
        table = rows.groupby(pd.qcut(rows.score.rank(method="first"), number, labels=False)).agg(
            x=("score", "mean"), value=("label", "mean"), patients=("patient_id", "nunique")
        )
        low, high = proportion_confint(table.value * table.patients, table.patients, method="wilson")
        return table.assign(low=np.minimum(low, table.value), high=np.maximum(high, table.value))  # but for rounding

    return _each_task(predictions, shares)


def _each_task(predictions: pd.DataFrame, function) -> pd.DataFrame:
    known = predictions[predictions.label.notna()]
    tables = [function(rows).assign(task=task) for task, rows in known.groupby("task", sort=False)]
    return (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["x", "value", "low", "high", "task"])
    )


def _swept(rows: pd.DataFrame, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    """Thresholds (m,) upwards, and at each TPR, FPR and precision: (1 + B, m), the estimate and its resamples."""
    score, label, patient = (rows[column].to_numpy() for column in ("score", "label", "patient_id"))
    at = np.unique(score)
    if len(at) > MOST:
        at = np.unique(np.quantile(score, np.linspace(0, 1, MOST), method="closest_observation"))
    drawn = patient_weights(patient=patient, resamples=resamples, rng=np.random.default_rng(seed))
    called = {y: score[label == y, None] >= at for y in (1, 0)}
    counts = [
        [weights[:, label == y] @ called[y] for y in (1, 0)] for weights in chain([np.ones((1, len(rows)))], drawn)
    ]
    positive, negative = (np.concatenate(parts) for parts in zip(*counts, strict=True))
    both = (positive[:, 0] > 0) & (negative[:, 0] > 0)  # a resample may lack a label
    positive, negative = positive[both], negative[both]
    with np.errstate(invalid="ignore"):  # in a resample the highest threshold may call nobody
        return at, positive / positive[:, :1], negative / negative[:, :1], positive / (positive + negative)


def _table(x: np.ndarray, draws: np.ndarray) -> pd.DataFrame:
    low, high = np.quantile(draws[1:], (0.025, 0.975), axis=0)
    return pd.DataFrame({"x": x, "value": draws[0], "low": low, "high": high})
