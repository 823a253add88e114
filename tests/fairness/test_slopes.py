"""Attributes that are kept whole: the slope, its limits, and what stands in the table."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from reconfair.fairness import assess, slopes


def test_slope_and_limits_are_those_of_a_regression_with_robust_errors():
    rng = np.random.default_rng(0)
    number, value = rng.normal(size=80), (rng.random(80) < 0.4) * 1.0
    fit = sm.OLS(value, sm.add_constant(number)).fit(cov_type="HC3", use_t=True)
    ours = slopes.slope(number, value, np.arange(80))
    assert ours["value"] == pytest.approx(fit.params[1])
    assert (ours["low"], ours["high"]) == pytest.approx(tuple(fit.conf_int()[1]))
    assert ours["p"] == pytest.approx(fit.pvalues[1])


def test_copies_of_an_image_add_nothing():
    rng = np.random.default_rng(1)
    number, value = rng.normal(size=60), rng.normal(size=60)
    once = slopes.slope(number, value, np.arange(60))
    thrice = slopes.slope(np.repeat(number, 3), np.repeat(value, 3), np.repeat(np.arange(60), 3))
    assert thrice == pytest.approx(once)


@pytest.mark.parametrize("number", [np.full(5, 2.0), np.array([1.0, 2.0, np.nan, np.nan, np.nan])])
def test_no_slope_without_different_numbers_of_three_patients(number):
    assert np.isnan(slopes.slope(number, np.arange(5.0), np.arange(5))["value"])


def test_limits_hold_at_their_level():
    rng, truth, held = np.random.default_rng(2), 0.1, 0
    for _ in range(400):
        number = rng.normal(size=60)
        value = rng.random(60) < np.clip(0.5 + truth * number, 0, 1)
        answer = slopes.slope(number, value * 1.0, np.arange(60))
        held += answer["low"] <= truth <= answer["high"]
    assert 370 <= held <= 392


def test_a_planted_slope_and_its_shift_are_rows_of_the_table_beside_the_groups():
    rng, n = np.random.default_rng(3), 600
    bmi, label = rng.normal(27, 4, n), rng.integers(0, 2, n)
    tables = []
    for source, loss in (("original", 0.0), ("unet", 0.15)):
        called = rng.random(n) < np.where(label == 1, np.clip(0.8 - loss * (bmi - 27) / 4, 0, 1), 0.2)
        rows = {"unit": [f"u{i}" for i in range(n)], "patient_id": np.arange(n), "source": source, "label": label}
        tables.append(pd.DataFrame(rows | {"score": called * 1.0, "task": "grade", "kind": "classify"}))
    groups = np.where(bmi <= np.median(bmi), "up to 27", "above 27")
    cohort = pd.DataFrame({"patient_id": np.arange(n), "bmi": groups, "bmi_value": bmi})
    predictions = pd.concat(tables).assign(strategy="standard")
    how = {"attributes": ["bmi"], "whole": ["bmi"], "thresholds": {"grade": 0.5}, "resamples": 99}
    performance, fairness = assess(predictions, cohort, **how)
    row = fairness.set_index(["source", "metric"]).loc["unet"]
    assert row["high"]["tpr_slope"] < 0 and row["shift_high"]["tpr_slope"] < 0 < row["high"]["fpr_slope"]
    assert row["value"]["tpr_slope"] == pytest.approx(-0.15, abs=0.05)
    assert "bmi" in row["note"]["tpr_slope"] and np.isfinite(row["value"]["eodd"])
    assert list(performance[performance.attribute == "bmi"].group.unique()) == ["up to 27", "above 27"]
