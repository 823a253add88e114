"""Reweighting: every joint group is drawn equally often, whatever its size."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

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


def test_the_training_images_alone_are_counted():
    panel = SimpleNamespace(joint=torch.tensor([0, 0, 0, 1, 1, 2]))
    remedy = reweight.Reweight(panel, [0, 1, 3], 1)
    assert remedy.shares().tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 2]) and remedy.criterion == "balanced"
