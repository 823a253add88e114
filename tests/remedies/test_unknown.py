"""Images of which an attribute is unknown: no remedy lets them count more or less than in plain training."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair.remedies import balance, dro, oversample, reweight

JOINT = torch.tensor([0] * 10 + [1] * 5 + [-1])
PANEL, ROWS = SimpleNamespace(joint=JOINT), torch.arange(16)


@pytest.mark.parametrize("kind", [balance.LossWeights, dro.GroupDRO, balance.MeanOfGroups])
def test_the_weight_of_an_image_in_no_group_is_one_and_the_groups_have_a_mean_of_one(kind):
    remedy, losses = kind(PANEL, ROWS, 1.0), 1.0 + (JOINT == 1)
    for _ in range(3):
        weights = remedy.weigh(losses, ROWS) / losses
    assert weights[-1] == 1 and weights[:15].mean().item() == pytest.approx(1)
    assert weights[10] > 1.3 > 0.9 > weights[0]
    losses[-1] = 100.0  # what is not known of a group changes nothing for the groups
    assert (remedy.weigh(losses, ROWS)[:15] == kindred(kind)[:15] * losses[:15]).all()


def kindred(kind):
    """Weights after three batches without the image in no group."""
    remedy, losses = kind(SimpleNamespace(joint=JOINT[:15]), ROWS[:15], 1.0), 1.0 + (JOINT[:15] == 1)
    for _ in range(3):
        remedy.weigh(losses, ROWS[:15])
    return remedy.weigh(losses, ROWS[:15]) / losses


def test_the_worst_group_is_one_of_those_known():
    remedy = balance.WorstGroup(PANEL, ROWS, 1.0)
    losses = 1.0 + (JOINT == 1) + 9.0 * (JOINT < 0)
    assert (remedy.weigh(losses, ROWS) > 0).nonzero().ravel().tolist() == list(range(10, 15))
    assert remedy.weigh(losses[-1:], ROWS[-1:]).tolist() == [10.0]


def test_published_weights_count_the_groups_of_the_batch():
    published = balance.LossWeights(PANEL, ROWS, 1.0, {"reweight": "as_published"})
    assert published.weigh(torch.ones(16), ROWS).tolist() == pytest.approx([2 * 5 * 10 / 15**2] * 16)
    assert published.weigh(torch.ones(1), ROWS[-1:]).tolist() == [1.0]


def test_an_image_in_no_group_is_drawn_as_often_as_others_were():
    batches = oversample.GroupBatches(np.arange(16), JOINT.numpy(), 1, 16, seed=0)
    drawn = []
    for epoch in range(200):
        batches.set_epoch(epoch)
        drawn += [np.bincount(np.concatenate(list(batches)), minlength=16)]
    counts = np.mean(drawn, 0)
    assert counts[-1] == pytest.approx(1, abs=0.05)
    assert counts[:10].sum() == pytest.approx(7.5, abs=0.1) and counts[10:15].sum() == pytest.approx(7.5, abs=0.1)
    table = pd.DataFrame({"sex": ["a"] * 10 + ["b"] * 5 + [None]})
    assert reweight.weights(table).tolist() == pytest.approx([15 / 320] * 10 + [15 / 160] * 5 + [1 / 16])
    assert reweight.weights(table, 0).tolist() == pytest.approx([1 / 16] * 16)
    twice = table.set_axis([0] * 16)  # labels of rows need not differ
    assert reweight.weights(twice).tolist() == reweight.weights(table).tolist()
    assert reweight.Reweight(PANEL, ROWS, 1.0).shares().tolist() == pytest.approx(reweight.weights(table).tolist())
