"""Medians of segmenters by group: by hand, paired, with empty masks counted."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reconfair.fairness import medians


def slices(reader, dice, outlined=100):
    """One slice a patient with a given Dice, as pixel counts."""
    n = len(dice)
    overlap = np.asarray(dice) * 100
    return pd.DataFrame(
        {"patient_id": [f"p{k:02d}" for k in range(n)], "task": "tumour", "source": "original", "reader": reader}
        | {"dice": dice, "overlap": overlap, "answered": np.where(overlap > 0, 100, 0), "outlined": outlined}
        | {"hausdorff": 2.0}
    )


@pytest.fixture
def compared():
    draw = np.random.default_rng(0)
    before = np.concatenate([draw.uniform(0.8, 0.9, 15), draw.uniform(0.6, 0.7, 11)])
    after = before + np.where(np.arange(26) < 15, 0, 0.1)
    table = pd.concat([slices("standard", before), slices("oversample", after)])
    groups = pd.DataFrame({"sex": ["male"] * 15 + ["female"] * 11}, index=[f"p{k:02d}" for k in range(26)])
    found = medians.compare(table, groups, spacing=0.5, resamples=199)
    return before, found.set_index(["reader", "attribute", "group", "metric"])


def test_medians_gap_and_ratio_by_hand(compared):
    before, found = compared
    ours, theirs = np.median(before[:15]), np.median(before[15:])
    assert found.value["standard", "sex", "male", "dice_median"] == pytest.approx(ours)
    assert found.value["standard", "sex", "female", "fairness_gap"] == pytest.approx(ours - theirs)
    assert found.value["standard", "sex", "all", "ser_median"] == pytest.approx((1 - theirs) / (1 - ours))
    iqr = np.subtract(*np.quantile(before[15:], (0.75, 0.25)))
    assert found.value["standard", "sex", "female", "dice_iqr"] == pytest.approx(iqr)
    p = stats.mannwhitneyu(before[:15], before[15:]).pvalue
    assert found.value["standard", "sex", "female", "p_mannwhitney"] == pytest.approx(p)
    assert found.value["standard", "all", "all", "hausdorff_mm_median"] == 1.0  # two pixels of half a millimetre


def test_a_change_that_is_the_same_for_every_patient_has_no_width(compared):
    _, found = compared
    row = found.loc["oversample", "sex", "female", "fairness_gap"]
    assert [row.change, row.change_low, row.change_high] == pytest.approx([-0.1] * 3)
    assert row.high - row.low > 0.01  # of the gap itself
    assert np.isnan(found.change["standard", "sex", "female", "fairness_gap"])


def test_empty_masks_are_counted():
    table = slices("standard", [0.0, 0.5, 0.6, 0.7], outlined=[100, 100, 100, 0])
    groups = pd.DataFrame({"sex": ["a", "a", "a", "a"]}, index=table.patient_id)
    row = medians.compare(table, groups, resamples=99).set_index(["group", "metric"]).loc["a", "dice_median"]
    assert (row.empty_answer, row.empty_truth, row.patients) == (1, 1, 4) and row.value == 0.5


def test_empty_masks_are_counted_in_their_own_group():
    table = slices("standard", [0.0, 0.5, 0.6, 0.7, 0.8, 0.9], outlined=[100, 100, 100, 0, 100, 100])
    groups = pd.DataFrame({"sex": ["a", "a", "a", "b", "b", "b"]}, index=table.patient_id)
    rows = medians.compare(table, groups, resamples=99).query("attribute == 'sex' and metric == 'dice_median'")
    counts = rows.set_index("group")[["empty_answer", "empty_truth", "patients", "value"]]
    assert counts.loc["a"].tolist() == [1, 0, 3, 0.5] and counts.loc["b"].tolist() == [0, 1, 3, pytest.approx(0.85)]


def test_weighted_quantiles_are_those_of_repeated_values():
    draw = np.random.default_rng(1)
    values, weights = draw.normal(size=30), draw.integers(0, 4, (5, 30))
    shares = (0.25, 0.5, 0.75)
    expected = [np.quantile(np.repeat(values, row), shares) for row in weights]
    assert medians.weighted_quantiles(values, weights, shares) == pytest.approx(np.array(expected))
