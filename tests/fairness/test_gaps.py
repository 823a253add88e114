"""The engine of gaps against closed forms, scipy, the reference code's numbers, and simulations with known truth."""

import numpy as np
import pytest
from groups import clustered, units
from scipy import stats

from reconfair.fairness import gaps
from reconfair.fairness.cells import Difference, Mean, Rate


def rates(*counts):
    """Rates of groups with one image a patient, from pairs of events and units."""
    x, n = np.array(counts, float).T
    return Rate(x / n, n, np.full(n.size, np.inf))


def flips(gained, lost, n):
    """Change of a rate from numbers of flips in groups of n."""
    n = np.asarray(n, float)
    gain, loss = (Rate(np.asarray(x) / n, n, np.full(n.size, np.inf)) for x in (gained, lost))
    return Difference(gain, loss, -np.sqrt(gain.value * loss.value / ((1 - gain.value) * (1 - loss.value))), exact=True)


def means(value, se, df=np.inf):
    value = np.asarray(value, float)
    return Mean(value, np.broadcast_to(se, value.shape).astype(float), np.full(value.size, df))


def study(labels=(1, 0)):
    """Cells of a study with several images a patient, and their correlations."""
    label, patient, group, before, after = clustered()
    rows = units(group, patient)
    old, new = ([rows.rate(called, label == y) for y in labels] for called in (before, after))
    changed = [rows.rate_change(after, before, label == y) for y in labels]
    pairs = [[one.residual for one in some] for some in (old, new)]
    pairs.append([b - a for a, b in zip(*pairs, strict=True)])
    correlations = [rows.correlation(*pair) for pair in pairs] if len(labels) == 2 else None
    return [one.cells for one in old], [one.cells for one in new], changed, correlations


# --- the reference code's numbers ---


@pytest.mark.parametrize(
    ("labels", "gap", "change"),
    [
        ((1, 0), (0.205025, 0.0, 0.343811, 0.111059, 0.121847), (0.004261, 0.836957, 0.0574, 0.189863)),
        ((1,), (0.26186, 0.0, 0.444606, 0.061285, 0.127293), (-0.026565, 0.937839, 0.026565, 0.192422)),
    ],
)
def test_rates_of_clusters_are_judged_as_by_the_reference(labels, gap, change):
    before, after, changed, correlations = study(labels)
    result = gaps.disparity(after, None if correlations is None else correlations[1])
    assert [result[name] for name in ("value", "low", "high", "p", "expected")] == pytest.approx(gap, abs=2e-6)
    result = gaps.shift(before, after, changed, correlations)
    assert [result[name] for name in ("shift", "p_unequal", "gamma", "bound")] == pytest.approx(change, abs=2e-6)


def test_dice_and_its_ratio_are_judged_as_by_the_reference():
    rng, group = np.random.default_rng(5), np.repeat([0, 1, 2], [30, 25, 20])
    before = rng.beta(8, 2, 75)
    after = np.clip(before - 0.02 * group + 0.03 * rng.normal(size=75), 0, 0.999)
    rows = units(group)
    cells = [rows.mean(value, log=True).cells for value in (before, after)]
    gap, moved = gaps.disparity(cells[1:]), gaps.shift(cells[:1], cells[1:], [rows.mean(after - before).cells])
    names = ("value", "high", "p", "expected")
    assert [gap[name] for name in names] == pytest.approx([0.108273, 0.178322, 0.009777, 0.043076], abs=2e-6)
    assert gap["low"] == pytest.approx(0.015483, abs=0.002)  # its critical value is from draws that differ
    names = ("shift", "p_unequal", "gamma", "bound")
    assert [moved[name] for name in names] == pytest.approx([0.023982, 0.000169, 0.043388, 0.058412], abs=2e-6)
    errors = [rows.log_error(value).cells for value in (before, after)]
    gap = gaps.disparity(errors[1:])
    moved = gaps.shift(errors[:1], errors[1:], [rows.log_error(after, other=before).cells])
    assert [gap[name] for name in ("value", "high", "p")] == pytest.approx([0.481377, 0.796249, 0.009471], abs=2e-6)
    names = ("shift", "p_unequal", "gamma", "bound")
    assert [moved[name] for name in names] == pytest.approx([0.083977, 0.002147, 0.179637, 0.258764], abs=2e-6)


# --- closed forms ---


def test_p_of_two_groups_is_the_normal_one_and_of_several_tukeys():
    assert gaps.p_range(1.7, 2) == pytest.approx(2 * stats.norm.sf(1.7), rel=1e-6)
    for groups in (3, 6):
        expected = stats.studentized_range.sf(2.8 * np.sqrt(2), groups, 1e6)
        assert gaps.p_range(2.8, groups) == pytest.approx(expected, rel=1e-3)


def test_critical_value_of_equal_errors_is_tukeys_and_of_unequal_ones_smaller():
    tukey = stats.studentized_range.ppf(0.975, 4, 1e6) / np.sqrt(2)
    assert gaps.critical(0.025, [means(np.zeros(4), 0.1)]) == pytest.approx(tukey, abs=1e-3)
    assert gaps.critical(0.025, [means(np.zeros(10), 0.1)]) == pytest.approx(
        stats.studentized_range.ppf(0.975, 10, 1e6) / np.sqrt(2), abs=1e-3
    )
    assert gaps.critical(0.025, [means(np.zeros(4), [1, 1e-3, 1e-3, 1e-3])]) < tukey - 0.05


def test_two_means_are_compared_as_by_a_z_test():
    cell = means([1.0, 0.7], [0.06, 0.08])
    assert gaps.p_equal([cell]) == pytest.approx(2 * stats.norm.sf(0.3 / 0.1), rel=1e-3)
    result = gaps.disparity([cell])
    assert (result["value"], result["low"]) == pytest.approx((0.3, 0.3 - 0.1 * stats.norm.ppf(0.9875)), abs=1e-4)
    assert result["expected"] == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=1e-3)


def test_p_has_no_floor():
    assert gaps.p_equal([rates((900, 1000), (500, 1000))]) < 1e-13
    assert gaps.p_equal([rates((9000, 10000), (100, 10000))]) > 0


def test_labels_are_combined_after_fisher():
    one, two = rates((70, 100), (55, 100)), rates((20, 100), (30, 100))
    p = [gaps.p_equal([cell]) for cell in (one, two)]
    assert gaps.p_equal([one, two]) == pytest.approx(stats.combine_pvalues(p, "fisher").pvalue)
    assert gaps.p_equal([one, two], np.array([0.8, 0.3])) > gaps.p_equal([one, two])


def test_limits_of_one_clear_shift_are_those_of_the_change_of_that_difference():
    before, after = means([0.9, 0.5], 0.02), means([0.9, 0.4], 0.02)
    result = gaps.shift([before], [after], [means([0.0, -0.1], 0.006)])
    half = stats.norm.ppf(0.9775) * 0.006 * np.sqrt(2)
    assert result["shift"] == pytest.approx(0.1)
    assert (result["shift_low"], result["shift_high"]) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-9)
    assert result["bound"] == pytest.approx(0.1 + stats.norm.ppf(0.95) * 0.006 * np.sqrt(2))


def test_expected_gap_of_equal_rates_is_exact():
    x = np.arange(51)
    pmf = stats.binom.pmf(x, 50, 0.5)
    exact = (pmf[:, None] * pmf * np.abs(x[:, None] - x)).sum() / 50
    assert gaps.disparity([rates((25, 50), (25, 50))])["expected"] == pytest.approx(exact, rel=0.02)


def test_spread_between_groups_is_the_planted_one_without_the_noise():
    rng, n = np.random.default_rng(12), np.array([200.0, 120.0, 80.0])
    for spread in (0.0, 0.1):
        truth = 0.7 + spread * np.array([1, -1, 0])
        found = [
            gaps.disparity([rates(*zip(rng.binomial(n.astype(int), truth), n, strict=True))])["sd_between"]
            for _ in range(60)
        ]
        planted = np.sqrt(n / n.sum() @ (truth - n @ truth / n.sum()) ** 2)
        assert np.mean(found) == pytest.approx(planted, abs=0.02)


# --- what the numbers must obey ---


@pytest.mark.parametrize("combine", ["mean", "worst_case"])
@pytest.mark.parametrize("seed", range(4))
def test_no_shift_exceeds_the_range_of_changes(seed, combine):
    rng, groups = np.random.default_rng(seed), 2 + seed
    n = rng.integers(20, 200, groups)
    old, new, changed = [], [], []
    for _ in range(2):
        before = rng.binomial(n, 0.7)
        lost, gained = rng.binomial(before, 0.1), rng.binomial(n - before, 0.1)
        old.append(rates(*zip(before, n, strict=True)))
        new.append(rates(*zip(before - lost + gained, n, strict=True)))
        changed.append(flips(gained, lost, n))
    result = gaps.shift(old, new, changed, combine=combine)
    assert abs(result["shift"]) <= result["gamma"] + 1e-12 < result["bound"]
    assert result["shift_low"] <= result["shift"] <= result["shift_high"]
    back = gaps.shift(new, old, [-one for one in changed], combine=combine)
    for name in ("gamma", "bound", "p_unequal"):
        assert back[name] == pytest.approx(result[name], rel=1e-4)
    assert (back["shift_low"], back["shift_high"]) == pytest.approx((-result["shift_high"], -result["shift_low"]))


def test_identical_decisions_are_no_proof_that_nothing_changed():
    rate = rates((240, 300), (24, 30))
    result = gaps.shift([rate], [rate], [flips([0, 0], [0, 0], [300, 30])])
    assert result["shift"] == result["gamma"] == 0 and result["p_unequal"] == 1
    assert result["shift_low"] < 0 < result["shift_high"]
    assert result["bound"] > 1 - 0.05 ** (1 / 30) - 1e-9


def test_worst_case_is_the_larger_range_and_its_limits_cover_both():
    tpr, fpr = rates((90, 100), (60, 100)), rates((20, 100), (30, 100))
    each = [gaps.disparity([cell]) for cell in (tpr, fpr)]
    both = gaps.disparity([tpr, fpr], combine="worst_case")
    assert both["value"] == pytest.approx(0.3)
    assert 0 < both["low"] <= each[0]["low"] and both["high"] >= each[0]["high"]
    assert both["p"] == pytest.approx(2 * each[0]["p"])
    assert both["expected"] > max(one["expected"] for one in each)


def test_contrasts_of_two_labels_are_half_the_sum():
    one, two = means([0.5, 0.2, 0.1], 0.01), means([0.3, 0.4, 0.0], 0.02)
    low = gaps.lower([one, two], 2.0)
    assert low.shape == (3, 3, 3, 3)
    assert low[0, 2, 1, 2] == pytest.approx((0.4 + 0.4 - 2 * np.sqrt(2 * 0.01**2 + 2 * 0.02**2)) / 2)
    same = gaps.lower([one, two], 2.0, np.array([0.0, 0.0, 0.5]))
    assert same[0, 2, 1, 2] < low[0, 2, 1, 2] and same[0, 1, 0, 1] == low[0, 1, 0, 1]


# --- simulations with known truth ---


def drawn(rng, n, tpr, change, flip):
    """Two sources of independent patients: rates before and after, and their changes."""
    n, tpr, change = np.array(n), np.array(tpr), np.array(change)
    before = rng.binomial(n, tpr)
    lost = rng.binomial(before, (flip / 2 + np.maximum(-change, 0)) / tpr)
    gained = rng.binomial(n - before, (flip / 2 + np.maximum(change, 0)) / (1 - tpr))
    cells = [rates(*zip(x, n, strict=True)) for x in (before, before - lost + gained)]
    return [cells[0]], [cells[1]], [flips(gained, lost, n)]


SCENARIOS = {
    "closely paired, no gap before": ([200, 60], [0.8, 0.8], [0, -0.05], 0.0),
    "a gap is kept": ([300, 150], [0.9, 0.8], [0, 0], 0.05),
    "all lose alike": ([200, 40, 30], [0.8, 0.8, 0.8], [-0.08] * 3, 0.02),
    "rates near 1": ([200, 25], [0.97, 0.97], [0, 0], 0.02),
    "a gap moves to another group": ([150, 80, 80], [0.9, 0.75, 0.9], [0, 0.15, -0.15], 0.02),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_repeated_studies_limits_cover_and_claims_are_seldom_false(name):
    n, tpr, change, flip = SCENARIOS[name]
    rng, rows = np.random.default_rng(sorted(SCENARIOS).index(name)), []
    after = np.add(tpr, change)
    truth, unequal = np.ptp(after) - np.ptp(tpr), np.ptp(change)
    for _ in range(200):
        p, q, d = drawn(rng, n, tpr, change, flip)
        gap, moved = gaps.disparity(q), gaps.shift(p, q, d)
        rows.append(
            [
                gap["low"] <= np.ptp(after) + 1e-9 and np.ptp(after) <= gap["high"] + 1e-9,
                moved["shift_low"] <= truth + 1e-9 and truth <= moved["shift_high"] + 1e-9,
                moved["shift_low"] > max(truth, 0) or moved["shift_high"] < min(truth, 0),
                moved["bound"] < unequal - 1e-9,
                moved["p_unequal"] <= 0.05 and unequal < 1e-9,
                gap["p"] <= 0.05 and np.ptp(after) < 1e-9,
            ]
        )
    cover_gap, cover_shift, wrong, equivalence, unequal, size = np.mean(rows, axis=0)
    assert min(cover_gap, cover_shift) >= 0.92
    assert wrong <= 0.03 and equivalence <= 0.1 and unequal <= 0.09 and size <= 0.09


def test_a_gap_that_grows_or_vanishes_is_mostly_decided():
    rng, verdicts = np.random.default_rng(9), []
    for _ in range(100):
        grew = gaps.shift(*drawn(rng, [400, 400], [0.95, 0.75], [0, -0.1], 0.02))
        fell = gaps.shift(*drawn(rng, [400, 400], [0.86, 0.70], [0, 0.16], 0.02))
        verdicts.append([grew["shift_low"] > 0, fell["shift_high"] < 0])
    assert np.mean(verdicts, axis=0).min() > 0.7


def six_groups(rng, gain, loss):
    """Changes of six groups of 300 to 40 patients, each flipping with the given probabilities."""
    n = np.array([300, 150, 80, 60, 50, 40])
    drawn = [rng.multinomial(m, [up, down, 1 - up - down]) for m, up, down in zip(n, gain, loss, strict=True)]
    gained, lost, _ = np.array(drawn, float).T
    return flips(gained, lost, n)


def test_one_way_flips_of_one_group_alone_are_found_and_two_way_flips_are_no_change():
    rng, one_way, two_way = np.random.default_rng(10), [], []
    for _ in range(150):
        pair = [six_groups(rng, [0] * 6, [0] * 5 + [0.1]), six_groups(rng, [0] * 5 + [0.1], [0] * 6)]
        one_way.append(gaps.p_equal(pair) <= 0.05)
        pair = [six_groups(rng, [0] * 5 + [0.08], [0] * 5 + [0.08]) for _ in range(2)]
        two_way.append(gaps.p_equal(pair) <= 0.05)
    assert np.mean(one_way) > 0.4 and np.mean(two_way) <= 0.08


def test_a_group_that_flips_less_than_it_should_have_lost_is_no_proof_of_unequal_change():
    # Everyone loses a tenth. Of 61, four flipped by chance where nine would on average, and one of them gained.
    lost_by_all = [(0.025 * n, 0.125 * n) for n in (2543, 678, 488, 218)]
    gained, lost = np.array([*lost_by_all, (1, 3)]).round().T
    assert gaps.p_equal([flips(gained, lost, [2543, 678, 488, 218, 61])]) > 0.2


def test_p_of_rare_flips_is_the_mid_p_of_their_directions():
    cell = flips([0, 0], [0, 5], [100_000, 40])
    assert gaps._p_few(cell) == pytest.approx(stats.binom.pmf(0, 5, 0.5), rel=0.02)  # half of twice
