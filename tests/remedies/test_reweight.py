"""Reweighting: every joint group is drawn equally often, whatever its size."""

import numpy as np
import pandas as pd
import pytest

from reconfair import data, mitigation, params
from reconfair.remedies import reweight


@pytest.fixture
def groups():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "sex": rng.choice(["female", "male"], 500, p=[0.1, 0.9]),
            "race": rng.choice(list("abc"), 500, p=[0.8, 0.15, 0.05]),
        },
        index=rng.permutation(500),
    )


def test_known_weights():
    # Groups of 1, 3 and 2 images: each group weighs a third.
    table = pd.DataFrame({"sex": list("fmmmff"), "race": list("aaaabb")})
    assert reweight.weights(table).tolist() == pytest.approx([1 / 3, 1 / 9, 1 / 9, 1 / 9, 1 / 6, 1 / 6])


def test_every_joint_group_weighs_the_same(groups):
    weights = reweight.weights(groups)
    assert weights.sum() == pytest.approx(1) and weights.index.equals(groups.index)
    assert weights.groupby([groups.sex, groups.race]).sum().to_numpy() == pytest.approx(np.full(6, 1 / 6))


def test_one_group_is_drawn_evenly():
    assert reweight.weights(pd.DataFrame({"sex": ["female"] * 4})).tolist() == [0.25] * 4


def test_groups_of_equal_size_are_drawn_evenly():
    assert reweight.weights(pd.DataFrame({"sex": list("fmfm"), "age_group": list("yyoo")})).tolist() == [0.25] * 4


def test_rare_groups_are_drawn_as_often_as_common_ones(groups):
    drawn = groups.sample(6000, replace=True, weights=reweight.weights(groups), random_state=0)
    assert drawn.groupby(["sex", "race"]).size().to_numpy() == pytest.approx(np.full(6, 1000), abs=150)


def test_less_strength_leads_from_every_group_alike_to_every_image_alike(groups):
    assert np.ptp(reweight.weights(groups, 0)) == 0
    largest = [reweight.weights(groups, strength).max() for strength in (0, 0.5, 1)]
    assert largest == sorted(largest)


def test_groups_are_those_of_the_training_images(outputs):
    dataset = {"name": "phantom_mri", "size": 64, "patients": 20, "slices": 1}
    common = {"dataset": dataset, "compute": {"workers": 1}, "diagnosis": {"tasks": ["tumour"]}}
    study = params.study(**common, mitigation={"attributes": ["sex", "race_merged"]})
    table = data.prepare(study).table
    assert mitigation.groups(study).equals(table[table.split == "train"][["sex", "race_merged"]])
    assert list(mitigation.groups(params.study(**common, mitigation={}))) == ["sex", "age_group", "race"]


def test_a_missing_attribute_is_a_group_of_its_own(monkeypatch):
    table = pd.DataFrame(
        {"split": "train", "sex": pd.Series(["female", None, "male"], dtype="str")}
        | {"age_group": ["older", "younger", "older"], "race": pd.Series([None, "Black", "White"], dtype="str")}
    )
    monkeypatch.setattr(data, "load", lambda study: data.Cohort(table, None, None))
    found = mitigation.groups(params.study(dataset={"name": "lgg"}, mitigation={}))
    assert found.sex.tolist() == ["female", "unknown", "male"] and found.race[0] == "unknown"
    assert reweight.weights(found).tolist() == pytest.approx([1 / 3] * 3)
