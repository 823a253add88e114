"""Estimates and limits of groups against closed forms, other packages, reference numbers and simulation."""

import numpy as np
import pytest
from groups import clustered, units
from scipy import stats

from reconfair.fairness.cells import Difference, Mean, Rate, pooled, t_level

Z = stats.norm.ppf(0.975)
INFINITE = np.full(3, np.inf)


def test_limits_of_a_rate_are_those_of_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    x, n = np.array([3, 40, 97]), np.array([20.0, 80.0, 100.0])
    rate = Rate(x / n, n, INFINITE)
    for method, how in (("jeffreys", {}), ("beta", {"exact": True})):
        expected = proportion.proportion_confint(x, n, 0.05, method)
        np.testing.assert_allclose(rate.limits(Z, **how), expected, atol=1e-9)


def test_limits_at_0_and_1_are_exact_and_never_of_zero_width():
    rate = Rate(np.array([0.0, 1.0]), np.array([30.0, 30.0]), INFINITE[:2])
    edge = 0.025 ** (1 / 30)
    np.testing.assert_allclose(rate.limits(Z), ([0, edge], [1 - edge, 1]), atol=1e-12)
    low, high = rate.limits(Z, plain=True)
    np.testing.assert_allclose((high[0], low[1]), (stats.beta.ppf(0.975, 0.5, 30.5), stats.beta.ppf(0.025, 30.5, 0.5)))
    assert (rate.se > 0).all()


def test_few_clusters_widen_as_the_t_distribution_does():
    assert t_level(Z, np.array([4.0])) == pytest.approx(stats.t.ppf(0.975, 4))
    many, few = (Rate(np.array([0.3]), np.array([1e6]), np.array([df])).limits(Z) for df in (np.inf, 4.0))
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(stats.t.ppf(0.975, 4) / Z, rel=0.01)


def test_means_have_t_limits_and_dice_those_of_the_log_error():
    value = np.random.default_rng(0).beta(8, 2, 25)
    cells = units(np.zeros(25, int)).mean(value).cells
    expected = stats.t.interval(0.95, 24, value.mean(), stats.sem(value))
    np.testing.assert_allclose(np.ravel(cells.limits(Z)), expected)
    low, high = np.ravel(units(np.zeros(25, int)).mean(value, log=True).cells.limits(Z))
    half = stats.t.ppf(0.975, 24) * stats.sem(value) / (1 - value.mean())
    assert (1 - low, 1 - high) == pytest.approx(((1 - value.mean()) * np.exp(half), (1 - value.mean()) * np.exp(-half)))
    assert high < 1


def test_change_of_a_rate_without_flips_still_has_limits():
    called = np.arange(40) % 2 == 0
    change = units(np.zeros(40, int)).rate_change(called, called, np.ones(40, bool))
    low, high = change.limits(Z)
    assert change.value[0] == 0
    assert (-low[0], high[0]) == pytest.approx((1 - 0.025 ** (1 / 40),) * 2)


def test_large_changes_have_the_interval_of_paired_proportions():
    flips = {(True, True): 900, (True, False): 300, (False, True): 180, (False, False): 620}
    before, after = (np.repeat([pair[k] for pair in flips], list(flips.values())) for k in (0, 1))
    change = units(np.zeros(2000, int)).rate_change(after, before, np.ones(2000, bool))
    d = (180 - 300) / 2000
    se = np.sqrt((480 / 2000 - d**2) / 2000)
    assert change.value[0] == pytest.approx(d)
    assert change.se[0] == pytest.approx(se, rel=0.01)
    np.testing.assert_allclose(np.ravel(change.limits(Z)), [d - Z * se, d + Z * se], atol=0.06 * se)


@pytest.mark.parametrize("n", [20, 80, 300])
def test_limits_of_patients_who_are_all_alike_are_about_those_of_a_rate_of_0(n):
    rows = units(np.zeros(n, int))
    for z in (1.645, Z, 3.0):
        largest = 1 - stats.norm.sf(z) ** (1 / n)  # share of patients that could differ
        for measure in (rows.mean(np.zeros(n), reach=1.0), rows.log_error(np.zeros(n), other=np.zeros(n))):
            assert 0.9 * largest <= measure.cells.limits(z)[1][0] <= 1.6 * largest
    assert rows.mean(np.zeros(n)).cells.se[0] == 0  # where it is not known how far patients can differ


def test_opposite_difference_has_opposite_limits():
    first, second = (Rate(np.array(v), np.array([50.0, 30.0]), INFINITE[:2]) for v in ([0.2, 0.0], [0.1, 0.3]))
    one = Difference(first, second, np.array([-0.2, 0.4]), exact=True)
    low, high = one.limits(Z)
    np.testing.assert_allclose((-one).limits(Z), (-high, -low))
    np.testing.assert_allclose((-Mean(np.ones(2), np.ones(2), INFINITE[:2])).value, -1)


def test_design_effect_of_copied_images_is_their_number():
    called = np.arange(400) % 5 < 2
    once = units(np.zeros(400, int)).rate(called, np.ones(400, bool)).cells
    patient = np.repeat(np.arange(400), 4)
    copied = units(np.zeros(1600, int), patient).rate(called[patient], np.ones(1600, bool)).cells
    assert copied.n[0] == pytest.approx(once.n[0], rel=0.01)
    assert copied.df[0] == 399


def test_rates_of_clusters_have_the_reference_limits():
    label, patient, group, before, after = clustered()
    rows = units(group, patient)
    low, high = rows.rate(after, label == 1).cells.limits(1.96)
    np.testing.assert_allclose(low, [0.398928, 0.466508, 0.614361], atol=2e-6)
    np.testing.assert_allclose(high, [0.662155, 0.755442, 0.913346], atol=2e-6)
    low, high = rows.rate_change(after, before, label == 1).limits(1.96)
    np.testing.assert_allclose(low, [-0.129727, -0.170862, -0.236569], atol=2e-6)
    np.testing.assert_allclose(high, [0.061558, 0.078596, 0.119584], atol=2e-6)


def test_standard_error_of_clusters_is_the_robust_one_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(3000), rng.integers(1, 5, 3000))
    called = rng.random(patient.size) < rng.beta(2, 3, 3000)[patient]
    fit = sm.OLS(called.astype(float), np.ones(called.size)).fit(
        cov_type="cluster", cov_kwds={"groups": patient, "use_correction": False}
    )
    rate = units(np.zeros(patient.size, int), patient).rate(called, np.ones(patient.size, bool)).cells
    assert rate.se[0] == pytest.approx(fit.bse[0], rel=0.01)


def test_auroc_is_that_of_scikit_learn_and_its_variance_that_of_delong():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    label = (rng.random(300) < 0.3).astype(int)
    score = np.round(label + rng.normal(size=300), 1)
    measure = units(np.zeros(300, int)).auroc(score, label)
    assert measure.cells.value[0] == pytest.approx(sklearn.roc_auc_score(label, score))
    positive, negative = score[label == 1], score[label == 0]
    kernel = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = sum(np.var(kernel.mean(axis=k), ddof=1) / kernel.shape[1 - k] for k in (0, 1))
    assert (measure.residual**2).sum() == pytest.approx(variance)
    value = measure.cells.value[0]
    assert measure.cells.n[0] == pytest.approx(value * (1 - value) / variance)


def test_perfect_and_undefined_auroc():
    rows = units([0] * 8 + [1] * 8)
    label = np.array([0, 1] * 4 + [0] * 8)
    cells = rows.auroc(label.astype(float), label).cells
    low, high = cells.limits(Z)
    assert cells.value[0] == high[0] == 1 and 0.3 < low[0] < 0.95
    assert np.isnan([cells.value[1], low[1], high[1]]).all()


def test_auroc_of_clusters_has_the_reference_limits():
    rng = np.random.default_rng(5)
    rng.beta(8, 2, 75), rng.normal(size=75)  # as the reference drew before
    label, group, patient = np.tile([1, 0, 0], 50), np.repeat([0, 1], [90, 60]), np.arange(150) // 2
    noise = rng.normal(size=150)
    scores = [np.round(1.5 * label + noise + 0.4 * rng.normal(size=150), 1) for _ in range(2)]
    rows = units(group, patient)
    before, after = (rows.auroc(score, label) for score in scores)
    low, high = after.cells.limits(1.96)
    np.testing.assert_allclose((low, high), ([0.768081, 0.759987], [0.922779, 0.961531]), atol=2e-6)
    low, high = rows.auroc_change(after, before).limits(1.96)
    np.testing.assert_allclose((low, high), ([-0.081033, -0.020391], [0.023249, 0.164514]), atol=2e-6)


def test_addends_of_patients_sum_to_the_value_of_the_group():
    label, patient, group, before, after = clustered()
    rows = units(group, patient)
    score = before + 0.3 * after + np.linspace(0, 0.1, label.size)
    for measure in (rows.rate(after, label == 1), rows.mean(score), rows.auroc(score, label)):
        np.testing.assert_allclose(rows.sums(measure.parts(rows.group)), measure.cells.value)


def test_weights_scale_out_and_cost_precision():
    label, patient, group, _, after = clustered()
    rows, some = units(group, patient), label == 1
    plain = rows.rate(after, some).cells
    same = rows.rate(after, some, np.full(label.size, 7.0)).cells
    np.testing.assert_allclose(same.n, plain.n)
    uneven = rows.rate(after, some, np.where(np.arange(130) % 2, 9.0, 1.0)[patient]).cells
    assert (uneven.n < plain.n).all()


# --- empirical Bayes ---


def test_pooled_rates_lie_between_the_groups_own_and_the_common_one():
    rate = Rate(np.array([0.9, 0.85, 0.2]), np.array([500.0, 400.0, 5.0]), INFINITE)
    value, low, high = pooled(rate)
    assert abs(value[0] - 0.9) < 0.01 and 0.2 < value[2] < 0.9
    assert (low < value).all() and (value < high).all()
    assert high[2] - low[2] > 3 * (high[0] - low[0])


def test_pooled_rates_cover_the_truth_and_are_nearer_to_it_than_the_plain_ones():
    rng, n = np.random.default_rng(4), np.array([400.0, 200.0, 60.0, 12.0, 12.0])
    covered, error = [], []
    for _ in range(400):
        truth = rng.beta(24, 6, n.size)
        rate = Rate(rng.binomial(n.astype(int), truth) / n, n, np.full(n.size, np.inf))
        value, low, high = pooled(rate)
        covered.append((low <= truth) & (truth <= high))
        error.append([(value - truth)[3:] ** 2, (rate.value - truth)[3:] ** 2])
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)
    assert np.mean(covered, axis=0).min() > 0.9
    ours, plain = np.mean(error, axis=(0, 2))
    assert ours < 0.6 * plain


# --- known truth ---


def test_limits_of_changes_cover_the_truth_of_all_groups_at_once():
    rng, sizes = np.random.default_rng(6), np.array([200, 60, 25])
    group, loss = np.repeat([0, 1, 2], sizes), np.array([0.0, 0.05, 0.1])
    rows, every = units(group), np.ones(group.size, bool)
    z, covered = stats.norm.ppf((1 + 0.95 ** (1 / 3)) / 2), []
    for _ in range(400):
        before = rng.random(group.size) < 0.8
        after = before & (rng.random(group.size) >= loss[group] / 0.8)
        low, high = rows.rate_change(after, before, every).limits(z)
        covered.append(((low <= -loss) & (-loss <= high)).all())
    assert np.mean(covered) >= 0.93
