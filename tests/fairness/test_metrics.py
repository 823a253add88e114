"""Metrics against hand-computed tables, fairlearn and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import norm

from reconfair.fairness import metrics
from reconfair.fairness.simulation import simulate


def membership(group, names):
    """Which rows belong to which group, (n, G)."""
    return np.asarray(group, object)[:, None] == np.asarray(names, object)


def table(seed, n=400, groups=("a", "b", "c")):
    """Random labels, tied scores, groups and whole-number weights."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n).astype(float)
    score = np.round(np.clip(0.4 + 0.2 * label + 0.2 * rng.normal(size=n), 0, 1), 1)
    return label, score, rng.choice(groups, n), rng.integers(0, 4, (5, n))


def test_rates_of_a_table_done_by_hand():
    label = [1, 1, 1, 0, 0, 1, 0, np.nan]
    decision = [1, 1, 0, 1, 0, 0, 0, 1]
    member = membership(["a", "a", "a", "a", "a", "b", "b", "b"], ["a", "b"])
    np.testing.assert_allclose(metrics.tpr(decision=decision, label=label, member=member), [[2 / 3, 0]])
    np.testing.assert_allclose(metrics.fpr(decision=decision, label=label, member=member), [[1 / 2, 0]])


def test_a_group_without_cases_has_no_rate_and_is_left_out_of_gaps():
    label, decision = [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]
    member = membership(["a", "b", "a", "b", "c"], ["a", "b", "c"])
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
    member = membership(group, ["a", "b", "c"])
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
    member = membership(group, ["a", "b", "c", "d"])
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
    member = membership(group, ["a", "b", "c"])
    ours = metrics.auroc(score=score, label=label, weights=weights, member=member)
    theirs = [
        [sklearn.roc_auc_score(label[rows], score[rows], sample_weight=w[rows]) for rows in member.T] for w in weights
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_auprc_with_ties_and_weights_agrees_with_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    label, score, group, weights = table(seed)
    member = membership(group, ["a", "b", "c"])
    ours = metrics.auprc(score=score, label=label, weights=weights, member=member)
    theirs = [
        [sklearn.average_precision_score(label[rows], score[rows], sample_weight=w[rows]) for rows in member.T]
        for w in weights
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_auprc_by_hand():
    score, label = [0.9, 0.8, 0.7, 0.7, 0.1], [1, 0, 1, 0, 0]
    np.testing.assert_allclose(metrics.auprc(score=score, label=label), [[(1 + 2 / 4) / 2]])
    member = membership(list("abaab"), ["a", "b", "c"])
    np.testing.assert_allclose(
        metrics.auprc(score=score, label=label, member=member), [[(1 + 2 / 3) / 2, np.nan, np.nan]]
    )
    np.testing.assert_allclose(metrics.auprc(score=score, label=label, weights=[[0, 1, 2, 0, 1]]), [[2 / 3]])


SCORED = dict.fromkeys(("auroc", "auprc"), ("score", "label"))
MEASURES = SCORED | {"tpr": ("decision", "label"), "fpr": ("decision", "label"), "ppr": ("decision",)}


def test_rows_without_label_or_group_count_nowhere():
    label, score, group, weights = table(2)
    label[::7], group[::5] = np.nan, "nobody"
    known = np.isfinite(label) & (group != "nobody")
    columns = {"label": label, "score": score, "decision": score >= 0.5}
    member = membership(group, ["a", "b", "c"])
    for name in ("auroc", "auprc", "tpr", "fpr"):
        own = {column: columns[column] for column in MEASURES[name]}
        kept = {column: values[known] for column, values in own.items()}
        np.testing.assert_allclose(
            getattr(metrics, name)(**own, weights=weights, member=member),
            getattr(metrics, name)(**kept, weights=weights[:, known], member=member[known]),
        )


@pytest.mark.parametrize("seed", range(3))
def test_demographic_parity_agrees_with_fairlearn(seed):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    label, score, group, weights = table(seed)
    member = membership(group, ["a", "b", "c"])
    ppr = metrics.ppr(decision=score >= 0.5, weights=weights, member=member)
    ours = metrics.FAIRNESS["classify"]["demographic_parity"]({"ppr": ppr})
    theirs = [
        fairlearn.demographic_parity_difference(label, score >= 0.5, sensitive_features=group, sample_weight=w)
        for w in weights
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_auroc_of_one_score_for_all_is_a_half():
    np.testing.assert_array_equal(metrics.auroc(score=np.full(7, 0.3), label=[0, 1, 0, 1, 1, 0, 0]), [[0.5]])


@pytest.mark.parametrize("name", MEASURES)
def test_a_whole_number_weight_is_a_repeated_row(name):
    label, score, group, weights = table(1, n=60)
    columns = {"label": label, "score": score, "decision": score >= 0.5}
    own = {column: columns[column] for column in MEASURES[name]}
    member, times = membership(group, ["a", "b", "c"]), weights[0]
    once = getattr(metrics, name)(**own, weights=times[None], member=member)
    repeated = {column: np.repeat(rows, times) for column, rows in own.items()}
    again = getattr(metrics, name)(**repeated, member=np.repeat(member, times, axis=0))
    np.testing.assert_allclose(once, again, rtol=1e-12)


def test_skewed_error_ratio_by_hand():
    np.testing.assert_allclose(metrics.ser(dice=[[0.7, 0.85, 0.9], [0.8, 0.8, np.nan]]), [3, 1])
    np.testing.assert_allclose(metrics.delta_dice(dice=[0.7, 0.85, 0.9]), 0.2)
    assert np.isnan(metrics.ser(dice=[0.9, 1.0]))


def test_rates_of_the_simulator_are_its_closed_forms():
    share, offset, change = {"a": 0.6, "b": 0.3}, {"a": 0.0, "b": 0.5}, {"a": 0.0, "b": -0.4}
    prevalence, separation = {"a": 0.2, "b": 0.4}, {"a": 1.5, "b": 1.0}
    table = simulate(
        patients=60_000, share=share, prevalence=prevalence, separation=separation, offset=offset, change=change, seed=1
    )
    assert table["group"].isna().mean() == pytest.approx(0.1, abs=0.005)
    cut = 0.7
    z = norm.ppf(cut)
    for column, lost in {"score": 0, "score_source": 1}.items():
        for g in share:
            rows = table[table["group"] == g]
            d = separation[g] + lost * change[g]
            case = {"label": rows["label"], "decision": rows[column] >= cut}
            assert metrics.tpr(**case).item() == pytest.approx(norm.cdf(offset[g] + d - z), abs=0.01)
            assert metrics.fpr(**case).item() == pytest.approx(norm.cdf(offset[g] - z), abs=0.01)
            auroc = metrics.auroc(score=rows[column], label=rows["label"]).item()
            assert auroc == pytest.approx(norm.cdf(d / np.sqrt(2)), abs=0.01)
            assert rows["label"].mean() == pytest.approx(prevalence[g], abs=0.01)


def test_the_simulator_correlates_images_of_a_patient_and_sources():
    table = simulate(patients=20_000, share={"a": 1.0}, separation=0.0, images=(2, 2), seed=2)
    normal = norm.ppf(table[["score", "score_source"]].to_numpy())
    assert np.corrcoef(normal.T)[0, 1] == pytest.approx(0.85, abs=0.01)
    assert np.corrcoef(normal[::2, 0], normal[1::2, 0])[0, 1] == pytest.approx(0.40, abs=0.02)
    label = table["label"].to_numpy()
    assert np.corrcoef(label[::2], label[1::2])[0, 1] == pytest.approx(1 / 3, abs=0.02)  # Beta(2 p, 2 (1 - p))
