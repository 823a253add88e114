"""The bootstrap against a plain loop, closed forms and its own definition."""

import numpy as np
import pytest
from scipy import stats

from reconfair.fairness import metrics, resampling
from reconfair.fairness.simulation import simulate

PATIENT = np.repeat(np.arange(40), np.arange(40) % 3 + 1)


def weights(resamples, seed=0, patient=PATIENT):
    rng = np.random.default_rng(seed)
    return np.concatenate(list(resampling.patient_weights(patient=patient, resamples=resamples, rng=rng)))


def test_each_resample_draws_as_many_patients_as_there_are_whole():
    drawn = weights(200)
    first = np.unique(PATIENT, return_index=True)[1]
    assert drawn.shape == (200, PATIENT.size)
    np.testing.assert_array_equal(drawn[:, first].sum(axis=1), 40)
    np.testing.assert_array_equal(drawn, drawn[:, first][:, PATIENT])


def test_how_often_a_patient_is_drawn_is_binomial():
    times = weights(2000)[:, 0].astype(int)
    observed = np.bincount(np.minimum(times, 4), minlength=5)
    share = stats.binom.pmf(range(4), 40, 1 / 40)
    expected = 2000 * np.append(share, 1 - share.sum())
    assert stats.chisquare(observed, expected).pvalue > 0.01


def test_a_count_is_distributed_as_in_a_plain_loop():
    rng = np.random.default_rng(1)
    positive = rng.random(PATIENT.size) < 0.3
    loop = []
    for _ in range(2000):
        patients = rng.choice(40, 40)
        loop.append(sum(positive[p == PATIENT].sum() for p in patients))
    assert stats.ks_2samp(weights(2000) @ positive, loop).pvalue > 0.01


def test_names_of_patients_do_not_matter_only_their_order():
    named = np.array([f"p{p:03d}" for p in PATIENT])
    np.testing.assert_array_equal(weights(20), weights(20, patient=named))


def test_chunks_do_not_change_the_draws(monkeypatch):
    whole = weights(50)
    monkeypatch.setattr(resampling, "_CHUNK", 7 * PATIENT.size)
    np.testing.assert_array_equal(weights(50), whole)


def test_standard_error_of_a_mean_is_the_closed_form():
    value = np.random.default_rng(2).normal(size=400)
    rng = np.random.default_rng(3)
    w = np.concatenate([np.ones((1, 400)), *resampling.patient_weights(patient=range(400), resamples=4000, rng=rng)])
    draws = w @ value / w.sum(axis=1)
    result = resampling.interval(draws)
    closed = value.std() / 20
    assert draws.shape == (4001,)
    assert result["value"] == pytest.approx(value.mean())
    assert result["se"] == pytest.approx(closed, rel=0.04)
    assert result["low"] == pytest.approx(value.mean() - 1.96 * closed, abs=0.1 * closed)
    assert result["high"] == pytest.approx(value.mean() + 1.96 * closed, abs=0.1 * closed)


def test_p_is_the_papers_formula():
    reference = np.zeros(100)
    difference = np.append(0.4, np.linspace(0.01, 1, 99))
    assert resampling.shift(difference, reference)["p"] == pytest.approx(2 * 1 / 100)
    difference[1:4] = -0.1, 0, 1e-17  # one below zero, two at zero but for rounding
    assert resampling.shift(difference, reference)["p"] == pytest.approx(2 * 4 / 100)
    assert resampling.shift(-difference, reference)["p"] == pytest.approx(2 * 4 / 100)


def test_nothing_differs_from_itself():
    draws = np.random.default_rng(4).random(100)
    expected = {"value": 0, "low": 0, "high": 0, "se": 0, "percent": 0, "p": 1}
    assert resampling.shift(draws, draws) == expected


def test_resamples_without_a_value_are_left_out():
    with_gaps = np.array([0.5, 0.1, np.nan, 0.3, np.nan, 0.2])
    assert resampling.interval(with_gaps) == resampling.interval(np.array([0.5, 0.1, 0.3, 0.2]))
    assert all(np.isnan(list(resampling.shift(np.full(9, np.nan), np.ones(9)).values())))
    assert np.isnan(resampling.shift(np.ones(9), np.zeros(9))["percent"])


# --- measures of groups in resamples ---


@pytest.fixture(scope="module")
def unequal():
    """Groups of several thousand, about 1,000 with few positives, and about 100 images; and 500 resamples."""
    share, prevalence = {"large": 0.72, "rare": 0.25, "small": 0.03}, {"large": 0.2, "rare": 0.02, "small": 0.4}
    table = simulate(patients=1400, share=share, prevalence=prevalence, seed=4)
    patient = np.unique(table["patient_id"], return_inverse=True)[1]
    return table, patient, weights(500, patient=np.arange(1400)).astype(np.uint8)


def drawn(measure, value, table, patient, times, **label):
    names = ["large", "rare", "small"]
    group = np.full(patient.max() + 1, -1)
    group[patient] = table["group"].map({name: g for g, name in enumerate(names)}).fillna(-1).astype(int)
    return resampling.draws(measure, value, times, patient=patient, group=group, groups=3, **label)


@pytest.mark.parametrize("measure", ["auroc", "auprc"])
def test_ranks_of_resamples_are_those_of_weighted_rows(unequal, measure):
    table, patient, times = unequal
    label, score = table["label"].to_numpy(), table[["score", "score_source"]].to_numpy()
    ours = drawn(measure, score, *unequal, label=label)
    member = table["group"].to_numpy()[:, None] == ["large", "rare", "small"]
    rows = {"label": label, "weights": np.vstack([np.ones(patient.size), times[:, patient]]), "member": member}
    theirs = np.stack([getattr(metrics, measure)(score=column, **rows) for column in score.T], axis=1)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-12)
    np.testing.assert_allclose(ours[:, :, 2], theirs[:, :, 2], atol=1e-12)  # small groups are exact
    assert np.corrcoef(ours[1:, 0, 0], theirs[1:, 0, 0])[0, 1] > 0.995
    np.testing.assert_allclose(ours[1:, :, 0].std(axis=0), theirs[1:, :, 0].std(axis=0), rtol=0.06)


def test_means_of_resamples_are_exact(unequal):
    table, patient, times = unequal
    value = table[["score", "score_source"]].to_numpy().copy()
    value[::9, 1] = np.nan
    member = table["group"].to_numpy()[:, None] == ["large", "rare", "small"]
    known = np.isfinite(value).all(axis=1)
    w = np.vstack([np.ones(patient.size), times[:, patient]]) * known
    rows = np.stack([(w * np.nan_to_num(column)) @ member / (w @ member) for column in value.T], axis=1)
    np.testing.assert_allclose(drawn("mean", value, *unequal), rows, atol=1e-12)
    frame = table.assign(a=value[:, 0], b=value[:, 1]).groupby("patient_id")[["a", "b"]].mean()
    group = table.groupby("patient_id")["group"].first()
    both = frame.dropna()
    expected = both.groupby(group.reindex(both.index)).mean()
    np.testing.assert_allclose(drawn("patient_mean", value, *unequal)[0], expected.T.to_numpy(), atol=1e-12)


def test_rates_of_patterns_are_those_of_rows():
    table = simulate(patients=400, share={"a": 0.6, "b": 0.4}, prevalence=0.4, seed=13)
    table.loc[::11, "label"] = np.nan
    calls = {"decision": table["score_source"] >= 0.7, "reference": table["score"] >= 0.7}
    patterns = resampling.tabulate(label=table["label"], patient=table["patient_id"], group=table["group"], **calls)
    rates = resampling.bootstrap(patterns, resamples=4000)
    patient = np.unique(table["patient_id"], return_inverse=True)[1]
    times = np.vstack([np.ones((1, patient.size)), weights(4000, patient=patient)])
    member = table["group"].to_numpy()[:, None] == ["a", "b"]
    given = {"label": table["label"], "weights": times, "member": member}
    rows = [[getattr(metrics, name)(decision=called, **given) for name in ("tpr", "fpr")] for called in calls.values()]
    rows = np.moveaxis(np.array(rows), 2, 0)
    np.testing.assert_allclose(rates[0], rows[0], atol=1e-12)
    np.testing.assert_allclose(rates[1:].std(axis=0), rows[1:].std(axis=0), rtol=0.05)
    shifts = [
        resampling.shift(*(metrics.eodd(tpr=some[:, k, 0], fpr=some[:, k, 1]) for k in (0, 1)))
        for some in (rates, rows)
    ]
    assert shifts[0]["value"] == pytest.approx(shifts[1]["value"])
    for name in ("low", "high", "se", "p"):
        assert shifts[0][name] == pytest.approx(shifts[1][name], abs=0.03)


# --- sources exchanged ---


def test_exchanges_are_signs_of_whole_patients():
    parts = np.array([[1.0, 10.0], [2.0, 20.0], [0.0, 0.0], [4.0, 40.0]])
    changes = resampling.exchanged(parts, np.array([0, 0, 0, 1]), 2, resamples=4000)
    np.testing.assert_array_equal(changes[0], [[3, 30], [4, 40]])
    np.testing.assert_allclose(changes[:, :, 1], 10 * changes[:, :, 0])
    values, times = np.unique(changes[1:, 0, 0], return_counts=True)
    assert values.tolist() == [-3, -1, 1, 3] and stats.chisquare(times).pvalue > 0.01
    assert abs(np.corrcoef(changes[1:, 0, 0], changes[1:, 1, 0])[0, 1]) < 0.06


def test_p_of_exchanged_sources_is_that_of_an_exact_sign_test():
    parts = np.repeat([[1.0], [0.0]], [8, 30], axis=0)
    changes = np.abs(resampling.exchanged(parts, np.zeros(38, int), 1, resamples=20_000)[:, 0, 0])
    assert (changes >= changes[0]).mean() == pytest.approx(stats.binomtest(8, 8).pvalue, abs=0.003)
