"""Curves against scikit-learn, by hand, and on scores whose true curve is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import precision_recall_curve, roc_curve

from reconfair.diagnosis import curves
from reconfair.fairness.threshold import balanced_threshold


def binormal(patients, seed, separation=1.0, digits=16):
    rng = np.random.default_rng(seed)
    label = (rng.random(patients) < 0.4).astype(float)
    score = norm.cdf(rng.normal(size=patients) + separation * label).round(digits)
    return pd.DataFrame({"task": "grade", "patient_id": np.arange(patients), "label": label, "score": score})


@pytest.mark.parametrize("digits", [16, 1], ids=["", "ties"])
def test_an_roc_curve_is_scikit_learns(digits):
    rows = binormal(80, 0, digits=digits)
    fpr, tpr, _ = roc_curve(rows.label, rows.score, drop_intermediate=False)
    expected = [tpr[fpr <= x + 1e-9].max() for x in curves.GRID]
    np.testing.assert_allclose(curves.roc(rows, resamples=99).value, expected)


@pytest.mark.parametrize("digits", [16, 1], ids=["", "ties"])
def test_a_precision_recall_curve_is_scikit_learns(digits):
    rows = binormal(80, 0, digits=digits)
    precision, recall, _ = precision_recall_curve(rows.label, rows.score)
    expected = [precision[recall >= x - 1e-9][-1] for x in curves.GRID[1:]]
    np.testing.assert_allclose(curves.precision_recall(rows, resamples=99).value, expected)


def test_rates_cross_at_the_balanced_threshold():
    rows = binormal(150, 1)
    rates = curves.by_threshold(rows, resamples=99).pivot(index="x", columns="rate", values="value")
    assert (rates.tpr - rates.tnr).abs().idxmin() == balanced_threshold(score=rows.score, label=rows.label)


def test_many_scores_are_thinned_to_their_quantiles():
    rows, few = binormal(5000, 2), curves.by_threshold(binormal(5000, 2), resamples=99)
    assert few.x.nunique() <= curves.MOST and few.x.isin(rows.score).all()
    tpr = few[few.rate == "tpr"]
    np.testing.assert_allclose(tpr.value, [(rows.score[rows.label == 1] >= x).mean() for x in tpr.x])


@pytest.mark.parametrize("curve", [curves.roc, curves.precision_recall, curves.by_threshold])
def test_unknown_labels_and_other_tasks_do_not_enter(curve):
    rows = binormal(60, 3)
    more = [rows, binormal(40, 4).assign(label=np.nan), binormal(40, 5).assign(task="type")]
    both = curve(pd.concat(more, ignore_index=True), resamples=99)
    pd.testing.assert_frame_equal(both[both.task == "grade"], curve(rows, resamples=99))
    assert list(both.task.unique()) == ["grade", "type"]


def test_bands_hold_the_true_curve_in_about_nineteen_of_twenty_studies():
    at, n = 30, 120  # FPR 0.3
    truth = 1 - norm.cdf(norm.ppf(1 - curves.GRID[at]) - 1.0)
    rows = [curves.roc(binormal(n, seed), resamples=199).iloc[at] for seed in range(200)]
    covered = np.mean([row.low <= truth <= row.high for row in rows])
    assert 0.9 <= covered <= 0.99


def test_bands_count_patients_and_not_their_images():
    rows = binormal(60, 6)
    copied = pd.concat([rows] * 4, ignore_index=True)
    once, copies, strangers = (
        curves.roc(some, resamples=499) for some in (rows, copied, copied.assign(patient_id=np.arange(240)))
    )
    width = [(curve.high - curve.low)[20:60].mean() for curve in (once, copies, strangers)]
    assert width[1] == pytest.approx(width[0], rel=1e-9) and width[2] < 0.65 * width[0]


def test_a_reliability_bin_by_hand():
    rows = pd.DataFrame({"task": "grade", "score": np.repeat([0.2, 0.9], 20), "label": [0, 0, 0, 1] * 5 + [1] * 20})
    found = curves.reliability(rows.assign(patient_id=np.arange(40)))
    assert found.x.tolist() == pytest.approx([0.2, 0.9]) and found.value.tolist() == [0.25, 1.0]
    z, n, p = norm.ppf(0.975), 20, 0.25  # Wilson's interval in closed form
    centre, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n),
    )
    assert (found.low[0], found.high[0]) == pytest.approx((centre - half, centre + half))
    assert found.low[1] < 0.9 and found.high[1] == 1
    shared = curves.reliability(rows.assign(patient_id=np.arange(40) // 4))
    assert (shared.high - shared.low)[0] > (found.high - found.low)[0]  # five patients know less than twenty


def test_calibrated_scores_lie_on_the_diagonal_and_squared_ones_below_it():
    rng = np.random.default_rng(0)
    risk = rng.random(20_000)
    rows = {"task": "grade", "patient_id": np.arange(risk.size), "label": (rng.random(risk.size) < risk).astype(float)}
    right, sure = (curves.reliability(pd.DataFrame(rows | {"score": score})) for score in (risk, np.sqrt(risk)))
    assert len(right) == 10 and (right.value - right.x).abs().max() < 0.04
    assert (sure.value < sure.x).all()  # the square root overestimates every risk
