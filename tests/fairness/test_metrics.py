"""Metrics against hand-computed tables, fairlearn and scikit-learn."""

import numpy as np
import pytest

from reconfair.fairness import metrics


def table(seed, n=400, groups=("a", "b", "c")):
    """Random labels, tied scores, groups and whole-number weights."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n).astype(float)
    score = np.round(np.clip(0.4 + 0.2 * label + 0.2 * rng.normal(size=n), 0, 1), 1)
    return label, score, rng.choice(groups, n), rng.integers(0, 4, (5, n))


def test_rates_of_a_table_done_by_hand():
    label = [1, 1, 1, 0, 0, 1, 0, np.nan]
    decision = [1, 1, 0, 1, 0, 0, 0, 1]
    member = metrics.membership(group=["a", "a", "a", "a", "a", "b", "b", "b"], names=["a", "b"])
    np.testing.assert_allclose(metrics.tpr(decision=decision, label=label, member=member), [[2 / 3, 0]])
    np.testing.assert_allclose(metrics.fpr(decision=decision, label=label, member=member), [[1 / 2, 0]])


def test_a_group_without_cases_has_no_rate_and_is_left_out_of_gaps():
    label, decision = [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]
    member = metrics.membership(group=["a", "b", "a", "b", "c"], names=["a", "b", "c"])
    tpr = metrics.tpr(decision=decision, label=label, member=member)
    fpr = metrics.fpr(decision=decision, label=label, member=member)
    np.testing.assert_array_equal(tpr, [[1, 0, np.nan]])
    np.testing.assert_array_equal(fpr, [[1, 0, 1]])
    np.testing.assert_array_equal(metrics.eop(tpr=tpr), [1])
    np.testing.assert_array_equal(metrics.auroc(score=decision, label=label, member=member), [[0.5, 0.5, np.nan]])


@pytest.mark.parametrize("values", [[], [0.3], [0.3, np.nan], [np.nan, np.nan]])
def test_a_gap_needs_two_groups(values):
    assert np.isnan(metrics.gap(values))
    assert np.isnan(metrics.ser(dice=values))


@pytest.mark.parametrize("combine", ["mean", "worst_case"])
@pytest.mark.parametrize("seed", range(5))
def test_eodd_agrees_with_fairlearn(seed, combine):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    label, score, group, weights = table(seed)
    member = metrics.membership(group=group, names=["a", "b", "c"])
    rows = {"decision": score >= 0.5, "label": label, "weights": weights, "member": member}
    ours = metrics.eodd(tpr=metrics.tpr(**rows), fpr=metrics.fpr(**rows), combine=combine)
    theirs = [
        fairlearn.equalized_odds_difference(label, score >= 0.5, sensitive_features=group, agg=combine, sample_weight=w)
        for w in weights
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_eodd_with_missing_cells_agrees_with_fairlearn_on_the_groups_that_have_cases():
    fairlearn = pytest.importorskip("fairlearn.metrics")
    label, score, group, _ = table(0, groups=("a", "b", "c", "d"))
    label[group == "c"], label[group == "d"] = 0, 1
    member = metrics.membership(group=group, names=["a", "b", "c", "d"])
    rows = {"decision": score >= 0.5, "label": label, "member": member}
    with_positives, with_negatives = group != "c", group != "d"
    gap_1 = fairlearn.true_positive_rate_difference(
        label[with_positives], score[with_positives] >= 0.5, sensitive_features=group[with_positives]
    )
    gap_0 = fairlearn.false_positive_rate_difference(
        label[with_negatives], score[with_negatives] >= 0.5, sensitive_features=group[with_negatives]
    )
    ours = metrics.eodd(tpr=metrics.tpr(**rows), fpr=metrics.fpr(**rows))
    np.testing.assert_allclose(ours, [(gap_1 + gap_0) / 2], atol=1e-12)


def test_eodd_names_the_valid_ways_to_combine():
    with pytest.raises(ValueError, match="'mean' or 'worst_case', not 'median'"):
        metrics.eodd(tpr=[0, 1], fpr=[0, 1], combine="median")


@pytest.mark.parametrize("seed", range(5))
def test_auroc_with_ties_and_weights_agrees_with_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    label, score, group, weights = table(seed)
    member = metrics.membership(group=group, names=["a", "b", "c"])
    ours = metrics.auroc(score=score, label=label, weights=weights, member=member)
    theirs = [
        [sklearn.roc_auc_score(label[rows], score[rows], sample_weight=w[rows]) for rows in member.T] for w in weights
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_auroc_of_one_score_for_all_is_a_half():
    np.testing.assert_array_equal(metrics.auroc(score=np.full(7, 0.3), label=[0, 1, 0, 1, 1, 0, 0]), [[0.5]])


@pytest.mark.parametrize("kind", metrics.PERFORMANCE)
def test_a_whole_number_weight_is_a_repeated_row(kind):
    label, score, group, weights = table(1, n=60)
    columns = {"label": label, "score": score, "decision": score >= 0.5, "patient": np.arange(60)}
    columns |= dict.fromkeys(("dice", "psnr", "ssim"), np.where(score < 0.2, np.nan, score))
    member = metrics.membership(group=group, names=["a", "b", "c"])
    times = weights[0]
    repeated = {name: np.repeat(column, times) for name, column in columns.items()}
    repeated["patient"] = np.arange(times.sum())  # a patient drawn twice counts as two
    for metric in metrics.PERFORMANCE[kind].values():
        once = metric(columns, weights=times[None], member=member)
        again = metric(repeated, weights=None, member=np.repeat(member, times, axis=0))
        np.testing.assert_allclose(once, again, rtol=1e-12)


def test_patient_mean_is_over_slices_then_patients_and_skips_slices_without_value():
    value = [0.2, 0.4, np.nan, 1.0, np.nan, 0.5]
    patient = ["p", "p", "p", "q", "r", "s"]
    member = metrics.membership(group=list("aaaabb"), names=["a", "b"])
    means = metrics.patient_mean(value=value, patient=patient, member=member)
    np.testing.assert_allclose(means, [[(0.3 + 1.0) / 2, 0.5]])


def test_skewed_error_ratio_by_hand():
    np.testing.assert_allclose(metrics.ser(dice=[[0.7, 0.85, 0.9], [0.8, 0.8, np.nan]]), [3, 1])
    np.testing.assert_allclose(metrics.delta_dice(dice=[0.7, 0.85, 0.9]), 0.2)
    assert np.isnan(metrics.ser(dice=[0.9, 1.0]))
