"""The attribute probe: blind features give 0.5 with an interval that keeps its promise, telling ones more."""

import numpy as np
import pandas as pd
import pytest

from reconfair import data, diagnosis
from reconfair.diagnosis import probe

N = 150


def groups(seed=0):
    return pd.Series(np.random.default_rng(seed).choice(["female", "male"], N), [f"p{k}" for k in range(N)])


def test_folds_hold_about_as_many_of_every_group_and_depend_on_the_seed():
    group = groups()
    folds = probe._folds(group, 0)
    counts = pd.crosstab(group, folds)
    assert counts.shape == (2, probe.FOLDS) and (counts.max(axis=1) - counts.min(axis=1)).max() <= 1
    assert (folds == probe._folds(group, 0)).all() and (folds != probe._folds(group, 1)).any()


def test_the_interval_of_blind_features_covers_one_half():
    covered = []
    for seed in range(60):
        group = groups(seed)
        member, features = group.to_numpy() == "male", np.random.default_rng(1000 + seed).normal(size=(N, 6))
        value, influence = probe.separation(features, member, probe._folds(group, seed))
        _, low, high = probe._limits(value, influence, member)
        covered.append(low <= 0.5 <= high)
    assert np.mean(covered) >= 0.87  # of 95 %; without regard to patients whom the regressions share it is 80 %


def test_what_tells_the_group_is_found_among_many_features():
    group = groups()
    member, features = group.to_numpy() == "male", np.random.default_rng(2).normal(size=(N, 300))
    folds = probe._folds(group, 0)
    blind = probe.separation(features, member, folds)[0]
    features[:, 17] += 6 * member
    features[:, 5] = 1.0  # a constant says nothing and disturbs nothing
    value, influence = probe.separation(features, member, folds)
    assert value > 0.75 > blind + 0.1 and probe._limits(value, influence, member)[1] > 0.6
    assert probe.separation(-features, ~member, folds)[0] == pytest.approx(value, abs=1e-3)


def test_the_error_is_delongs():
    # In one fold, against the variance of placements computed by hand.
    member = np.array([True] * 3 + [False] * 4 + [True, False] * 20)
    folds = np.array([0] * 7 + [1] * 40)
    features = np.r_[[3.0, 1.0, 2.5, 0.5, 2.0, 2.7, 1.5], np.tile([2.0, 0.0], 20)][:, None]
    alone = np.array([[x > y for y in features[3:7, 0]] for x in features[:3, 0]]).astype(float)
    _, influence = probe.separation(features, member, folds)
    weight = 12 / (12 + 400)
    variance = alone.mean(1).var(ddof=1) / 3 + alone.mean(0).var(ddof=1) / 4
    assert np.square(influence[:7]).sum() == pytest.approx(probe.OVERLAP**2 * weight**2 * variance)


def test_a_perfect_probe_has_the_interval_of_so_few_patients():
    member = np.arange(40) < 10
    value, low, high = probe._limits(1.0, np.zeros(40), member)
    assert (value, high) == (1.0, 1.0) and low == pytest.approx(0.025**0.1)


def test_every_source_of_a_study_is_probed(smallest):
    table = probe.probe(smallest)
    assert list(table.columns) == probe.COLUMNS
    assert set(table.source) == {str(source) for source in smallest.sources}
    assert set(table.network) == {network.name for network in smallest.networks}
    assert table.value.between(table.low, table.high).all()
    original = table[table.source == "original"].set_index(["network", "attribute", "group"]).sort_index()
    assert original.change.isna().all()
    others = table[table.source != "original"].set_index(["network", "attribute", "group"])
    assert others.change.to_numpy() == pytest.approx((others.value - original.value.loc[others.index]).to_numpy())
    cohort = data.load(smallest).table
    sex = cohort.iloc[data.rows(cohort, "eval")].drop_duplicates("patient_id").sex
    row = original.loc[(smallest.networks[0].name, "sex", "female")]
    assert (row.patients, row.members) == (sex.notna().sum(), (sex == "female").sum())


def test_features_are_means_of_a_patient(smallest):
    source, network = smallest.sources[1], smallest.networks[0]
    array, rows, table = diagnosis.looked_at(smallest, source)
    patient = table.patient_id.iloc[0]
    import torch

    images = torch.from_numpy(array[rows[(table.patient_id == patient).to_numpy()]].astype(np.float32))[:, None]
    with torch.inference_mode():
        wanted = diagnosis.load(smallest, network).features(images).mean(0).numpy()
    every = diagnosis.everywhere(smallest)
    features = probe._features(smallest, network, source, every)
    assert features.loc[patient].to_numpy() == pytest.approx(wanted, abs=1e-4)
