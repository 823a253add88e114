"""Weights of the loss by group, and the dose that the rarest group gets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reconfair.remedies.balance import LossWeights, MeanOfGroups, WorstGroup, loss_weights, minority_share
from reconfair.remedies.oversample import GroupBatches

JOINT = torch.tensor([0, 0, 0, 1])


def remedy(kind, strength=1.0, **options):
    return kind(SimpleNamespace(joint=JOINT), [0, 1, 2, 3], strength, options)


def test_each_group_contributes_equally_and_the_mean_weight_is_one():
    weights = remedy(LossWeights).weigh(torch.ones(4), torch.arange(4))
    assert weights.mean().item() == pytest.approx(1) and weights[:3].sum().item() == pytest.approx(weights[3].item())
    assert remedy(LossWeights, 0).weigh(torch.ones(4), torch.arange(4)).tolist() == [1, 1, 1, 1]
    assert loss_weights([8, 0, 2]).tolist() == pytest.approx([10 / 16, 0, 10 / 4])  # nobody is in the second group


def test_published_weights_scale_a_batch_whoever_is_in_it():
    published = remedy(LossWeights, reweight="as_published")
    scaled = published.weigh(torch.tensor([1.0, 2, 3, 4]), torch.arange(4))
    assert scaled.tolist() == pytest.approx([2 * 1 * 3 / 16 * loss for loss in (1, 2, 3, 4)])
    assert published.weigh(torch.ones(3), torch.arange(3)).tolist() == [1, 1, 1]  # one group only


def test_the_worst_group_alone_counts_under_max():
    losses = torch.tensor([1.0, 2.0, 3.0, 2.5], requires_grad=True)
    weighted = remedy(WorstGroup).weigh(losses, torch.arange(4)).mean()
    weighted.backward()
    assert weighted.item() == 2.5 and losses.grad.tolist() == [0, 0, 0, 1]


def test_published_dro_is_the_mean_of_group_means():
    weighted = remedy(MeanOfGroups).weigh(torch.tensor([1.0, 2.0, 3.0, 10.0]), torch.arange(4))
    assert weighted.mean().item() == pytest.approx((2 + 10) / 2)


@pytest.mark.parametrize(
    ("method", "kind"), [("reweight as_published", LossWeights), ("dro as_published", MeanOfGroups)]
)
def test_the_dose_is_what_training_gives(method, kind):
    draw, joint = torch.Generator().manual_seed(0), (torch.arange(200) < 10).long()
    remedy = kind(SimpleNamespace(joint=joint), range(200), 1, {"reweight": "as_published"})
    sums = np.zeros(2)
    for _ in range(4000):
        rows = torch.randint(0, 200, (8,), generator=draw)
        weights = remedy.weigh(torch.ones(8), rows)
        sums += [weights[joint[rows] == 1].sum(), weights.sum()]
    assert minority_share(10, 200, method, batch=8) == pytest.approx(sums[0] / sums[1] / 0.05, rel=0.06)


def test_oversampling_and_reweighting_of_a_training_set_are_one_dose():
    doses = [minority_share(15, 4236, method) for method in ("plain", "oversample", "reweight")]
    assert doses == pytest.approx([1, 141.2, 141.2])
    batches = GroupBatches(np.arange(400), np.arange(400) < 8, 0.5, 20, seed=0)
    drawn = np.concatenate(list(batches))
    assert minority_share(8, 400, "oversample", level=0.5) == pytest.approx((drawn < 8).mean() / 0.02, rel=0.05)
