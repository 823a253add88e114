"""The balanced threshold against hand-made cases and a search over every score."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from reconfair.fairness.threshold import balanced_threshold, decisions, moved


def test_balanced_threshold_by_hand():
    # At 0.5: TPR 2/3, TNR 2/3, the only balanced score.
    assert balanced_threshold(score=[0.1, 0.3, 0.7, 0.4, 0.5, 0.9], label=[0, 0, 0, 1, 1, 1]) == 0.5
    # At 0.5 (TPR 1/2, TNR 0) and at 0.8 (TPR 1/2, TNR 1) they differ by 1/2: the lower one.
    assert balanced_threshold(score=[0.2, 0.8, 0.5], label=[1, 1, 0]) == 0.5
    # A score of unknown label is no candidate.
    assert balanced_threshold(score=[0.5, 0.1, 0.3, 0.9], label=[np.nan, 0, 0, 1]) == 0.9


@pytest.mark.parametrize("seed", range(5))
def test_no_score_is_better_balanced_than_the_threshold(seed):
    draw = np.random.default_rng(seed)
    label, score = draw.integers(0, 2, 80), draw.integers(0, 30, 80) / 30
    imbalance = {}
    for candidate in np.unique(score):
        called = score >= candidate
        imbalance[candidate] = abs(called[label == 1].mean() - (~called[label == 0]).mean())
    best = min(imbalance.values())
    lowest = min(candidate for candidate, value in imbalance.items() if value <= best + 1e-12)
    assert balanced_threshold(score=score, label=label) == lowest


def test_a_threshold_needs_both_labels():
    with pytest.raises(ValueError, match="both classes"):
        balanced_threshold(score=[0.1, 0.2, 0.3], label=[1, 1, np.nan])


def test_every_reader_has_its_own_threshold():
    rows = pd.DataFrame({"score": [0.2, 0.5, 0.9], "label": [0, 0, 1]})
    arms = {("original", "standard", reader): rows for reader in ("standard", "fairread")}
    task = SimpleNamespace(name="t", kind="classify", arms=arms, fold=None)
    cut, called = decisions(task, {"t": {"standard": 0.5, "fairread": 0.6}})
    assert list(cut.values()) == [0.5, 0.6]
    assert [some.tolist() for some in called.values()] == [[False, True, True], [False, False, True]]
    assert set(decisions(task, {}, published=True)[0].values()) == {0.9}
    with pytest.raises(ValueError, match=r"'t'.*'fairread'.*standard"):
        decisions(task, {"t": {"standard": 0.5}})
    with pytest.raises(ValueError, match=r"'t'.*other"):
        decisions(task, {"other": 0.5})


def test_rounding_carries_no_score_over_the_threshold():
    """All pairs of thresholds with two decimals, as coarse scores have them."""
    at = np.arange(1, 100) / 100
    for threshold in at:
        for common in at:
            assert ((moved(at, threshold, common) >= common) == (at >= threshold)).all(), (threshold, common)
