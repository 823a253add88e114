"""The bootstrap against a plain loop, closed forms and its own definition."""

import numpy as np
import pytest
from scipy import stats

from reconfair.fairness import resampling

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
