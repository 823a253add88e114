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


@pytest.mark.parametrize(
    ("n", "rate"),
    [
        (60, lambda x: 0 * x),
        (60, lambda x: 1 - 0.15 * (x > 2)),
        (80, lambda x: np.clip(0.02 + 0.02 * x, 0, 1)),
        (300, lambda x: 0.01 + 0.01 * np.clip(x, -1, 9)),
    ],
)
def test_limits_hold_where_few_decisions_or_none_differ(n, rate):
    rng, held = np.random.default_rng(4), 0
    many = rng.normal(size=400_000)
    truth = np.cov(many, rate(many))[0, 1]
    for _ in range(300):
        number = rng.normal(size=n)
        answer = slopes.slope(number, (rng.random(n) < rate(number)) * 1.0, np.arange(n), within=(0, 1))
        held += answer["low"] <= truth <= answer["high"]
    assert held >= 279  # 93 %, two standard errors below 95 %


def test_decisions_that_are_all_alike_are_no_certainty():
    n, rng = 80, np.random.default_rng(5)
    rows = {"unit": np.arange(n), "patient_id": np.arange(n), "label": np.arange(n) % 2, "score": 0.9}
    rows |= {"task": "grade", "kind": "classify", "strategy": "standard"}
    predictions = pd.concat([pd.DataFrame(rows | {"source": source}) for source in ("original", "unet")])
    cohort = pd.DataFrame({"patient_id": np.arange(n), "bmi": ["a", "b"] * (n // 2), "bmi_value": rng.normal(27, 4, n)})
    how = {"attributes": ["bmi"], "whole": ["bmi"], "thresholds": {"grade": 0.5}, "resamples": 9, "min_cases": 2}
    for _, row in assess(predictions, cohort, **how)[1].query("metric in ['tpr_slope', 'fpr_slope']").iterrows():
        assert row.value == pytest.approx(0) and row.low < -0.03 and row.high > 0.03 and row.p == pytest.approx(1)
        if row.source == "unet":
            assert row["shift"] == pytest.approx(0) and row.shift_low < -0.03 and row.shift_high > 0.03
            assert "no decision differed" in row.note


def test_limits_are_slopes_that_can_be():
    answer = slopes.slope(np.arange(6.0), np.array([0.0, 1, 1, 0, 1, 0]), np.arange(6), within=(0, 1))
    highest = slopes.slope(np.arange(6.0), (np.arange(6) > 2) * 1.0, np.arange(6), within=(0, 1))
    assert (answer["low"], answer["high"]) == pytest.approx((-highest["value"], highest["value"]))


def test_dice_that_differs_is_not_widened():
    rng = np.random.default_rng(6)
    number, dice = rng.normal(size=15), rng.beta(9, 1, 15)
    plain = slopes.slope(number, dice, np.arange(15))
    assert slopes.slope(number, dice, np.arange(15), within=(0, 1)) == plain


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
