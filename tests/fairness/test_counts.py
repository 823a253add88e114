"""Counts against loops over patients, full enumeration, closed forms, fairlearn and statsmodels."""

import itertools

import numpy as np
import pytest
from scipy import stats

from reconfair.fairness import counts as c
from reconfair.fairness import metrics, resampling

EVERY = [("eodd", "mean"), ("eodd", "worst_case"), ("eop", "mean"), ("fpr_gap", "mean")]
every_metric = pytest.mark.parametrize(("metric", "combine"), EVERY)


def cohort(seed=0, patients=300, groups="abc", images=4, known=1.0, alike=0.8):
    """Rows of patients with several images each; the sources agree in a share `alike` of them and by chance."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, images + 1, patients))
    rows = {"patient": patient, "group": rng.choice(list(groups), patients)[patient].astype(object)}
    rows["label"] = np.where(rng.random(patient.size) < known, rng.random(patient.size) < 0.4, np.nan)
    ill = rng.random(patients)[patient]
    rows["reference"] = rng.random(patient.size) < 0.2 + 0.4 * ill
    other = rng.random(patient.size) < 0.2 + 0.4 * ill
    rows["decision"] = np.where(rng.random(patient.size) < alike, rows["reference"], other)
    return rows


def singles(*cells):
    """One image per patient, from (group, label, reference, decision, how many)."""
    times = [cell[-1] for cell in cells]
    columns = [np.repeat(np.array(column), times) for column in list(zip(*cells, strict=True))[:-1]]
    group, label, reference, decision = columns
    rows = {"group": group, "label": label, "reference": reference.astype(bool), "decision": decision.astype(bool)}
    return rows | {"patient": np.arange(label.size)}


def rates_in_a_loop(rows, decision, group=None):
    """TPR and FPR by group, (2, K), row by row."""
    group = rows["group"] if group is None else group
    return np.array([[decision[(group == g) & (rows["label"] == y)].mean() for g in np.unique(group)] for y in (1, 0)])


def combined(rates, metric, combine):
    gap_1, gap_0 = np.ptp(rates, axis=-1)
    both = (gap_1 + gap_0) / 2 if combine == "mean" else max(gap_1, gap_0)
    return {"eodd": both, "eop": gap_1, "fpr_gap": gap_0}[metric]


def metric_draws(rates, metric="eodd", combine="mean"):
    return np.array([combined(one, metric, combine) for one in rates])


def differs(drawn, loop):
    return stats.ks_2samp(drawn, loop).pvalue < 0.01


# --- counting ---


def test_a_table_counted_by_hand():
    counts = c.tabulate(
        label=[1, 1, 0, 1, 1, 0, 0, np.nan, 1, 0],
        patient=["p", "p", "p", "q", "q", "q", "r", "r", "s", "t"],
        group=["x", "x", "x", "x", "x", "x", "y", "y", None, "y"],
        decision=np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 0], bool),
        reference=np.array([0, 0, 1, 0, 0, 1, 1, 1, 1, 1], bool),
    )
    assert counts.names == ("x", "y") and counts.missing == 2
    np.testing.assert_array_equal(counts.patients, [2, 2])  # p like q, r like t
    np.testing.assert_array_equal(counts.images, [[0, 1], [2, 1]][::-1])
    np.testing.assert_array_equal(counts.positive, [[[1, 0], [1, 1]], [[0, 0], [0, 1]]])
    np.testing.assert_array_equal(counts.cases, [[2, 2], [0, 2]])
    np.testing.assert_array_equal(counts.rates, [[[0.5, np.nan], [1, 0]], [[0, np.nan], [1, 1]]])


def test_groups_with_too_few_patients_of_either_label_are_left_out_with_their_counts():
    rows = singles(
        ("a", 1, 1, 1, 9), ("a", 0, 1, 1, 9), ("b", 1, 0, 1, 9), ("b", 0, 1, 0, 2), ("c", 1, 0, 0, 5), ("c", 0, 0, 0, 5)
    )
    counts = c.tabulate(**rows)
    kept, left_out = counts.keep(5)
    assert kept.names == ("a", "c") and left_out == {"b": (9, 2)}
    np.testing.assert_array_equal(kept.rates, counts.rates[:, :, [0, 2]])
    assert counts.keep(10)[0].names == ()
    many_images = rows | {"patient": np.where(rows["group"] == "a", -1, rows["patient"])}
    assert c.tabulate(**many_images).keep(2)[1] == {"a": (1, 1)}  # patients count, not images


@pytest.mark.parametrize("combine", ["mean", "worst_case"])
@pytest.mark.parametrize("seed", range(3))
def test_values_agree_with_fairlearn_on_the_rows_that_have_label_and_group(seed, combine):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    rows = cohort(seed, patients=200, known=0.9)
    rows["group"] = np.where(np.isin(rows["patient"], [3, 4, 5]), None, rows["group"])
    use = ~np.isnan(rows["label"]) & (rows["group"] != None)  # noqa: E711
    eodd = [
        fairlearn.equalized_odds_difference(
            rows["label"][use], rows[arm][use], sensitive_features=rows["group"][use].astype(str), agg=combine
        )
        for arm in ("decision", "reference")
    ]
    counts = c.tabulate(**rows)
    assert counts.missing == (~use).sum()
    one = c.disparity(counts, combine=combine, resamples=20)["eodd"]
    two = c.shift(counts, combine=combine, resamples=20)["eodd"]
    assert one["value"] == pytest.approx(eodd[0])
    assert two["value"] == pytest.approx(eodd[0] - eodd[1])
    assert two["percent"] == pytest.approx(100 * (eodd[0] / eodd[1] - 1))


def test_order_of_rows_changes_nothing_and_names_of_groups_and_patients_only_the_draws():
    rows = cohort(1)
    order = np.random.default_rng(0).permutation(rows["label"].size)
    shuffled = {name: column[order] for name, column in rows.items()}
    renamed = rows | {"group": np.array([{"a": 9, "b": 10, "c": 1}[g] for g in rows["group"]])}
    renamed["patient"] = np.array([f"patient {(7 * p) % 1000}" for p in rows["patient"]])
    first, again, other = (c.tabulate(**table) for table in (rows, shuffled, renamed))
    for infer in (c.disparity, c.shift):
        assert infer(first, resamples=50) == infer(again, resamples=50)
        for metric, values in infer(first, resamples=2000).items():
            for name, value in infer(other, resamples=2000)[metric].items():
                assert value == pytest.approx(values[name], abs=0.05, rel=0.1), (metric, name)
    np.testing.assert_array_equal(c.bootstrap(first, resamples=5), c.bootstrap(again, resamples=5))


# --- draws against loops over patients ---


def test_bootstrap_is_distributed_as_in_a_loop_over_patients():
    rows, rng, loop = cohort(2, patients=80), np.random.default_rng(1), []
    of = [np.flatnonzero(rows["patient"] == p) for p in range(80)]
    for _ in range(1000):
        drawn = np.concatenate([of[p] for p in rng.integers(80, size=80)])
        table = {name: column[drawn] for name, column in rows.items()}
        loop.append([rates_in_a_loop(table, table[arm]) for arm in ("decision", "reference")])
    drawn, loop = c.bootstrap(c.tabulate(**rows), resamples=2000)[1:], np.array(loop)
    for arm, y, k in np.ndindex(2, 2, 3):
        assert not differs(drawn[:, arm, y, k], loop[:, arm, y, k])
    shifts = [metric_draws(rates[:, 0]) - metric_draws(rates[:, 1]) for rates in (drawn, loop)]
    assert not differs(*shifts)


@pytest.mark.parametrize("rarest", [0, 8])
def test_bootstrap_of_single_images_is_multinomial(rarest, monkeypatch):
    monkeypatch.setattr(c, "_RARE", rarest)
    patients = np.array([1, 40, 3, 156])
    weights = c._multinomial(patients, 4000, np.random.default_rng(3))
    np.testing.assert_array_equal(weights.sum(axis=1), 200)
    for times, size in zip(weights.T, patients, strict=True):
        exact = stats.binom(200, size / 200)
        edges = np.unique(exact.ppf(np.linspace(0.1, 0.9, 6)))
        observed = np.bincount(np.searchsorted(edges, times), minlength=edges.size + 1)
        expected = 4000 * np.diff(np.concatenate([[0], exact.cdf(edges), [1]]))
        assert stats.chisquare(observed, expected).pvalue > 0.01
    np.testing.assert_allclose(
        np.cov(weights.T), 200 * (np.diag(patients / 200) - np.outer(patients, patients) / 200**2), atol=1.5
    )


def test_swaps_are_distributed_as_in_a_loop_over_patients():
    rows, rng, loop = cohort(3, patients=80), np.random.default_rng(2), []
    for _ in range(1500):
        swap = (rng.random(80) < 0.5)[rows["patient"]]
        arms = np.where(swap, rows["reference"], rows["decision"]), np.where(swap, rows["decision"], rows["reference"])
        loop.append([rates_in_a_loop(rows, arm) for arm in arms])
    counts = c.tabulate(**rows)
    drawn, loop = c._flip(counts, 3000, np.random.default_rng(0))[0], np.array(loop)
    np.testing.assert_allclose(drawn[0], counts.rates)
    for arm, y, k in np.ndindex(2, 2, 3):
        assert not differs(drawn[1:, arm, y, k], loop[:, arm, y, k])
    for metric, combine in EVERY:
        shifts = [
            metric_draws(r[:, 0], metric, combine) - metric_draws(r[:, 1], metric, combine) for r in (drawn[1:], loop)
        ]
        assert not differs(*shifts)


def test_p_of_the_swap_test_is_that_of_all_possible_swaps():
    rows = cohort(11, patients=12, groups="ab", images=3, alike=0.2)
    counts, shifts = c.tabulate(**rows), []
    for swap in itertools.product([False, True], repeat=12):
        swap = np.array(swap)[rows["patient"]]
        arms = np.where(swap, rows["reference"], rows["decision"]), np.where(swap, rows["decision"], rows["reference"])
        shifts.append([combined(rates_in_a_loop(rows, arm), "eodd", "mean") for arm in arms])
    shifts = np.abs(np.subtract(*np.array(shifts).T))
    exact = (shifts >= shifts[0] - 1e-9).mean()
    assert 0.1 < exact < 0.9
    assert c.shift(counts, resamples=40_000)["eodd"]["p"] == pytest.approx(exact, abs=0.01)


def interaction_in_a_loop(patients, sign):
    """Q from one row (group, n1, e1, n0, e0) per patient, its residuals flipped by `sign`."""
    q = 0
    for n, e in (patients[:, 1:3].T, patients[:, 3:5].T):
        residual = sign * (e - e.sum() / n.sum() * n)
        of = [patients[:, 0] == g for g in np.unique(patients[:, 0])]
        weight = np.array([n[k].sum() for k in of])
        change = np.array([residual[k].sum() for k in of]) / weight
        q += (weight * (change - np.average(change, weights=weight)) ** 2).sum() / ((residual**2).sum() / n.sum())
    return q


def test_interaction_is_distributed_as_in_a_loop_over_patients():
    rows, rng = cohort(4, patients=90), np.random.default_rng(5)
    change = rows["decision"].astype(int) - rows["reference"]
    patients = []
    for p in range(90):
        own = rows["patient"] == p
        y = rows["label"][own]
        patients.append(
            [ord(rows["group"][own][0]), *(v for k in (1, 0) for v in ((y == k).sum(), change[own][y == k].sum()))]
        )
    patients = np.array(patients)
    loop = [interaction_in_a_loop(patients, rng.choice([-1, 1], 90)) for _ in range(2000)]
    terms = c._flip(c.tabulate(**rows), 3000, rng)[1].sum(axis=1)
    assert terms[0] == pytest.approx(interaction_in_a_loop(patients, 1))
    assert not differs(terms[1:], loop)


def test_interaction_of_many_patients_is_chi_squared():
    counts = c.tabulate(**cohort(4, patients=3000))
    terms = c._flip(counts, 5000, np.random.default_rng(6))[1]
    for drawn, freedom in ((terms[1:, 0], 2), (terms[1:, 1], 2), (terms[1:].sum(axis=1), 4)):
        assert stats.kstest(drawn, stats.chi2(freedom).cdf).statistic < 0.03


def test_permutations_are_distributed_as_in_a_loop_over_patients():
    rows, rng, loop = cohort(5, patients=80, images=3), np.random.default_rng(6), []
    of = [rows["patient"] == p for p in range(80)]
    stratum = np.array([[(rows["label"][k] == 1).sum(), (rows["label"][k] == 0).sum()] for k in of]) @ [10, 1]
    group = np.array([rows["group"][k][0] for k in of])
    for _ in range(1000):
        exchanged = group.copy()
        for s in np.unique(stratum):
            exchanged[stratum == s] = rng.permutation(group[stratum == s])
        loop.append(rates_in_a_loop(rows, rows["decision"], exchanged[rows["patient"]]))
    (mean, *drawn), loop = c._permute(c.tabulate(**rows), 2000, rng), np.array(loop)
    drawn = np.array(drawn)
    np.testing.assert_allclose(mean, loop.mean(axis=0), atol=4 * loop.std() / np.sqrt(1000))
    for y, k in np.ndindex(2, 3):
        assert not differs(drawn[:, y, k], loop[:, y, k])
    for metric, combine in EVERY:
        assert not differs(metric_draws(drawn, metric, combine), metric_draws(loop, metric, combine))


def test_permutations_keep_the_margins_of_every_stratum():
    rng = np.random.default_rng(0)
    stratum, group = np.repeat([0, 1, 2], [30, 1, 60]), rng.integers(3, size=91)
    in_first, in_last = (stratum == 0).astype(int), (stratum == 2).astype(int)
    positive = np.stack([in_first * rng.integers(3, size=91), in_last], axis=1)
    total = np.array([np.bincount(group, own) for own in positive.T])
    drawn = c._exchange(positive, group, stratum, total, 300, rng)
    np.testing.assert_array_equal(
        drawn[:, 1], np.tile(np.bincount(group, in_last), (300, 1))
    )  # patients by group and stratum
    np.testing.assert_array_equal(drawn.sum(axis=2), np.tile(total.sum(axis=1), (300, 1)))  # positives by label
    most = np.bincount(group, in_first) * 2
    assert (drawn[:, 0] >= 0).all() and (drawn[:, 0] <= most).all() and (drawn[:, 0].std(axis=0) > 1).all()


def test_permutations_of_single_images_are_hypergeometric_and_unrelated():
    rows = singles(
        ("a", 1, 0, 1, 20),
        ("a", 1, 0, 0, 30),
        ("b", 1, 0, 1, 7),
        ("b", 1, 0, 0, 13),
        ("a", 0, 0, 1, 5),
        ("b", 0, 0, 0, 9),
    )
    mean, *called = c._permute(c.tabulate(**rows), 4000, np.random.default_rng(7))[:, 0, 1] * 20
    exact = stats.hypergeom(70, 27, 20)
    assert mean == pytest.approx(exact.mean())
    edges = np.arange(4, 12)
    observed = np.bincount(np.searchsorted(edges, np.round(called)), minlength=edges.size + 1)
    expected = 4000 * np.diff(np.concatenate([[0], exact.cdf(edges), [1]]))
    assert stats.chisquare(observed, expected).pvalue > 0.01
    neighbours = [np.corrcoef(called[:-lag], called[lag:])[0, 1] for lag in (1, 2, 64)]  # draws share permutations
    np.testing.assert_allclose(neighbours, 0, atol=0.05)


def test_p_of_two_groups_of_single_images_is_fishers():
    rows = singles(
        ("a", 1, 0, 1, 30),
        ("a", 1, 0, 0, 20),
        ("b", 1, 0, 1, 9),
        ("b", 1, 0, 0, 16),
        ("a", 0, 0, 0, 5),
        ("b", 0, 0, 0, 5),
    )
    called = np.arange(26)
    distance = np.abs((39 - called) / 50 - called / 25)
    exact = stats.hypergeom(75, 39, 25).pmf(called)[distance >= abs(30 / 50 - 9 / 25) - 1e-12].sum()
    found = c.disparity(c.tabulate(**rows), resamples=20_000)["eop"]
    assert found["p"] == pytest.approx(exact, abs=0.006)
    assert found["p_max_t"] == pytest.approx(found["p"], abs=1e-12)  # one pair of groups


# --- what the numbers must obey ---


@every_metric
@pytest.mark.parametrize("seed", range(4))
def test_largest_change_of_a_gap_is_never_below_the_shift(seed, metric, combine):
    rows = cohort(seed, patients=60, groups="abcd"[: 2 + seed % 3], images=2, alike=0.5)
    counts = c.tabulate(**rows)
    found = c.shift(counts, combine=combine, resamples=50)[metric]
    change = rates_in_a_loop(rows, rows["decision"]) - rates_in_a_loop(rows, rows["reference"])
    assert found["gamma"] == pytest.approx(combined(change, metric, combine))
    assert abs(found["value"]) <= found["gamma"] + 1e-12 < found["margin_supported"]
    assert found["low"] <= found["value"] + 1e-12 and found["value"] <= found["high"] + 1e-12


@every_metric
def test_exchanging_the_sources_flips_the_shift_and_leaves_the_tests(metric, combine):
    rows = cohort(8, patients=400, alike=0.5)
    back = rows | {"decision": rows["reference"], "reference": rows["decision"]}
    there, back = (c.shift(c.tabulate(**table), combine=combine, resamples=20_000)[metric] for table in (rows, back))
    assert there["value"] == pytest.approx(-back["value"])
    assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]), rel=0.03, abs=0.002)
    for name in ("se", "gamma", "margin_supported", "interaction", "p_interaction_chi2"):
        assert there[name] == pytest.approx(back[name])
    for name in ("p", "p_interaction"):
        assert there[name] == pytest.approx(back[name], abs=0.015)


def test_a_source_compared_with_itself_has_not_changed():
    rows = cohort(9)
    counts = c.tabulate(**rows | {"decision": rows["reference"]})
    nothing = {"value": 0, "percent": 0, "low": 0, "high": 0, "se": 0, "p": 1, "interaction": 0}
    nothing |= {"p_interaction": 1, "p_interaction_chi2": 1, "gamma": 0, "margin_supported": 0, "equivalent": True}
    for found in c.shift(counts, resamples=50).values():
        assert found.pop("detectable") >= 0
        assert found == pytest.approx(nothing, abs=1e-7)


def test_no_p_is_zero_however_clear_the_case():
    rows = singles(*(("a", y, 0, 1, 60) for y in (0, 1)), *(("b", y, 0, 0, 60) for y in (0, 1)))
    counts = c.tabulate(**rows)
    for found in c.disparity(counts, resamples=99).values():
        assert found["value"] == 1 and found["p"] == found["p_max_t"] == 1 / 100
    for found in c.shift(counts, resamples=99).values():
        assert found["value"] == 1 and found["p"] == found["p_interaction"] == 1 / 100 and not found["equivalent"]


def test_ties_count_as_at_least_as_large():
    # One discordant patient: both swaps give the same absolute shift, in floating point but for rounding.
    rows = singles(
        ("a", 1, 1, 1, 3), ("a", 1, 0, 1, 1), ("a", 0, 0, 0, 3), ("b", 1, 1, 1, 4), ("b", 1, 0, 0, 3), ("b", 0, 0, 0, 3)
    )
    assert c.shift(c.tabulate(**rows), resamples=200)["eop"]["p"] == 1


# --- closed forms ---


def test_standard_error_is_the_cluster_robust_one_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rows = cohort(10, patients=6000, groups="ab")
    found = c.disparity(c.tabulate(**rows), resamples=20)
    for metric, y in (("eop", 1), ("fpr_gap", 0)):
        use = rows["label"] == y
        design = sm.add_constant((rows["group"][use] == "b").astype(float))
        fit = sm.OLS(rows["decision"][use].astype(float), design).fit(
            cov_type="cluster", cov_kwds={"groups": rows["patient"][use], "use_correction": False}
        )
        assert found[metric]["value"] == pytest.approx(abs(fit.params[1]))
        assert found[metric]["se"] == pytest.approx(fit.bse[1], rel=1e-3)


def test_interval_of_single_images_is_that_of_all_contrasts():
    n, x = np.array([[300, 200, 60], [900, 500, 100]]), np.array([[250, 150, 40], [200, 130, 30]])
    cells = [
        (g, 1 - y, 0, called, m)
        for y in (0, 1)
        for k, g in enumerate("abc")
        for called, m in ((1, x[y, k]), (0, n[y, k] - x[y, k]))
    ]
    rate, rough = x / n, (x + 0.5) / (n + 1)
    variance = (x * (1 - rough) ** 2 + (n - x) * rough**2) / n**2
    contrasts = [
        (np.array([np.eye(3)[a] - np.eye(3)[b], np.eye(3)[d] - np.eye(3)[e]]) / 2)
        for (a, b), (d, e) in itertools.product(itertools.permutations(range(3), 2), repeat=2)
    ]
    top = max(contrasts, key=lambda v: (v * rate).sum())
    near = [v for v in contrasts if ((top - v) * rate).sum() <= 3 * np.sqrt(((top - v) ** 2 * variance).sum()) + 1e-12]
    assert 1 < len(near) < len(contrasts)
    estimate, se = (
        np.array([f(v) for v in near]) for f in (lambda v: (v * rate).sum(), lambda v: np.sqrt((v**2 * variance).sum()))
    )
    noise = np.random.default_rng(0).normal(size=(40_000, 2, 3)) * np.sqrt(variance)
    factor = np.quantile(
        np.max([(noise * v).sum(axis=(1, 2)) / s for v, s in zip(near, se, strict=True)], axis=0), 0.975
    )
    found = c.disparity(c.tabulate(**singles(*cells)), resamples=40_000)["eodd"]
    assert found["p_max_t"] < 0.025
    assert found["high"] == pytest.approx((estimate + 1.96 * se).max(), abs=1e-5)
    assert found["low"] == pytest.approx((estimate - factor * se).max(), abs=5e-4)


def paired(lost=(60, 20), kept=(300, 280), gained=(20, 30), missed=(20, 470)):
    """Two groups of single images with clearly unequal TPR, (lost: only by the reference)."""
    cells = [
        ("ab"[k], 1, *called, m[k])
        for m, called in ((lost, (1, 0)), (kept, (1, 1)), (gained, (0, 1)), (missed, (0, 0)))
        for k in (0, 1)
    ]
    return c.tabulate(**singles(*cells, ("a", 0, 0, 0, 50), ("b", 0, 0, 0, 50)))


def test_shift_of_one_clear_contrast_has_the_interval_of_a_difference_of_paired_proportions():
    found = c.shift(paired(), metrics=["eop"], resamples=20_000)["eop"]
    change = np.array([(20 - 60) / 400, (30 - 20) / 800])
    se = np.sqrt(sum((m / n - d**2) / n for m, n, d in ((80, 400, change[0]), (50, 800, change[1]))))
    assert found["value"] == pytest.approx(change[0] - change[1])
    assert found["se"] == pytest.approx(se, rel=0.01)
    assert (found["low"], found["high"]) == pytest.approx(
        (found["value"] - 1.96 * se, found["value"] + 1.96 * se), abs=0.03 * se
    )
    assert found["gamma"] == pytest.approx(change[1] - change[0])
    assert found["margin_supported"] == pytest.approx(change[1] - change[0] + 1.645 * se, rel=0.01)


def test_a_detectable_shift_is_detected_in_about_four_of_five_cohorts():
    rng, group = np.random.default_rng(16), np.repeat(["a", "b"], [1800, 1200])
    healthy = {"group": ["a", "b"], "label": [0, 0], "patient": [3000, 3001]}
    healthy |= dict.fromkeys(("reference", "decision"), [False] * 2)

    def study(worse, by):
        seen = rng.random(3000)
        again = np.where(rng.random(3000) < 0.2, seen, rng.random(3000))
        rows = {"group": group, "label": np.ones(3000), "patient": np.arange(3000), "reference": seen < 0.7}
        rows["decision"] = again < np.where(group == worse, 0.7 - by, 0.7)
        counts = c.tabulate(**{name: np.concatenate([rows[name], healthy[name]]) for name in rows})
        return c.shift(counts, metrics=["eop"], resamples=199)["eop"]

    detectable = np.mean([study("a", 0)["detectable"] for _ in range(20)])
    found = [study(worse, detectable)["p"] <= 0.05 for worse in "ab" for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)


def test_a_small_group_without_a_change_is_not_proof_of_none():
    few, many = (paired(lost=(40, 0), kept=(160, m), gained=(40, 0), missed=(160, m)) for m in (10, 30))
    few, many = (c.shift(one, metrics=["eop"], margin=0.1, resamples=50)["eop"] for one in (few, many))
    assert few["gamma"] == many["gamma"] == 0
    discordant = 80 / (400 + 20)
    assert few["margin_supported"] == pytest.approx(1.645 * np.sqrt(80 / 400**2 + discordant / 20), rel=0.01)
    assert many["margin_supported"] == pytest.approx(1.645 * np.sqrt(80 / 400**2), rel=0.01)
    assert many["equivalent"] and not few["equivalent"]


def test_spread_between_groups_is_the_planted_one_without_the_noise():
    rng, share = np.random.default_rng(12), np.array([0.5, 0.3, 0.2])
    for spread in (0.0, 0.1):
        rate = np.array([0.7 + spread * np.array([1, -1, 0]), np.full(3, 0.2)])
        square = []
        for _ in range(60):
            n = np.outer([400, 600], share).astype(int)
            x = rng.binomial(n, rate)
            cells = [
                ("abc"[k], 1 - y, 0, called, m)
                for y, k in np.ndindex(2, 3)
                for called, m in ((1, x[y, k]), (0, n[y, k] - x[y, k]))
            ]
            square.append(
                c.disparity(c.tabulate(**singles(*cells)), metrics=["eodd"], resamples=9)["eodd"]["sd_between"] ** 2
            )
        truth = share @ (rate[0] - share @ rate[0]) ** 2 / 2
        assert np.mean(square) == pytest.approx(truth, abs=4e-4)


def test_expected_if_none_is_the_mean_gap_of_equal_rates():
    rows = singles(*(("ab"[k], y, 0, called, 25) for k in (0, 1) for y in (0, 1) for called in (0, 1)))
    found = c.disparity(c.tabulate(**rows), resamples=20_000)
    called = np.arange(51)
    exact = stats.hypergeom(100, 50, 50).pmf(called) @ np.abs(2 * called - 50) / 50
    for metric in c.METRICS:
        assert found[metric]["value"] == found[metric]["low"] == 0
        assert found[metric]["expected_if_none"] == pytest.approx(exact, rel=0.03)


def test_paper_inference_on_counts_is_that_on_rows():
    rows = cohort(13, patients=400)
    patient, member = np.asarray(rows["patient"]), np.asarray(rows["group"])[:, None] == list("abc")
    drawn = resampling.patient_weights(patient=patient, resamples=4000, rng=np.random.default_rng(0))
    weights = np.concatenate([np.ones((1, patient.size)), *drawn])
    given = {"label": rows["label"], "weights": weights, "member": member}
    by_row = resampling.shift(
        *(
            metrics.eodd(tpr=metrics.tpr(decision=rows[arm], **given), fpr=metrics.fpr(decision=rows[arm], **given))
            for arm in ("decision", "reference")
        )
    )
    rates = c.bootstrap(c.tabulate(**rows), resamples=4000)
    by_count = resampling.shift(*(metrics.eodd(tpr=rates[:, k, 0], fpr=rates[:, k, 1]) for k in (0, 1)))
    assert by_count["value"] == pytest.approx(by_row["value"])
    for name in ("low", "high", "se", "p"):
        assert by_count[name] == pytest.approx(by_row[name], abs=0.03)


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": ["a", "b", "b", "b"]}, "patient 1 is in more than one group, expected one"),
        ({"patient": [1, 1, 2]}, "patient has 3 rows, expected 4 as in label"),
        ({"reference": [True]}, "reference has 1 rows, expected 4 as in label"),
        ({"decision": [0.2, 0.8, 0.5, 0.1]}, "decision must be boolean, not float64"),
        ({"label": [1, 0, 2, 0]}, "label in row 2 is 2.0, expected 0, 1 or NaN"),
        ({"patient": [1, 1, None, 2]}, "patient is missing in row 2"),
    ],
)
def test_a_table_that_is_not_as_described_is_refused(change, message):
    table = {"label": [1, 0, 1, 0], "patient": [1, 1, 2, 2], "group": ["a", "a", "b", "b"], "decision": [True] * 4}
    with pytest.raises(ValueError, match=message):
        c.tabulate(**table | change)


def test_questions_that_cannot_be_answered_are_refused_in_a_sentence():
    rows = cohort(14, groups="ab")
    one_class = c.tabulate(**rows | {"label": np.where(rows["group"] == "b", 1, rows["label"])})
    with pytest.raises(ValueError, match="group 'b' has no case with label 0; leave it out"):
        c.disparity(one_class)
    with pytest.raises(ValueError, match="give tabulate a reference"):
        c.shift(c.tabulate(**{name: rows[name] for name in rows if name != "reference"}))
    with pytest.raises(ValueError, match="'dice' is none of eodd, eop, fpr_gap"):
        c.shift(c.tabulate(**rows), metrics=["dice"])
    with pytest.raises(ValueError, match="combine must be 'mean' or 'worst_case', not 'median'"):
        c.disparity(c.tabulate(**rows), combine="median")


@pytest.mark.parametrize("min_cases", [200, 10_000])
def test_fewer_than_two_groups_have_no_disparity(min_cases):
    rows = cohort(15, patients=400)
    rows["group"] = np.where(rows["patient"] < 350, "a", "b")
    counts = c.tabulate(**rows).keep(min_cases)[0]
    for infer in (c.disparity, c.shift):
        for found in infer(counts).values():
            assert not found.pop("equivalent", False) and np.isnan(list(found.values())).all()


def test_groups_of_one_patient_say_nothing_but_do_not_fail():
    rows = singles(("a", 1, 1, 0, 30), ("a", 0, 0, 0, 30), ("b", 1, 1, 1, 1))
    rows = {name: np.append(column, column[-1:]) for name, column in rows.items()}
    rows["label"] = np.append(rows["label"][:-1], 0)  # the one patient of b has an image of each label
    counts = c.tabulate(**rows)
    assert c.disparity(counts, resamples=50)["fpr_gap"]["p"] > 0.02
    assert not c.shift(counts, resamples=50)["eodd"]["equivalent"]
