"""Group DRO: the weights of groups against the published algorithm."""

import numpy as np
import pytest
import torch
from reconfair.mitigation.dro import GroupDRO


def test_weights_follow_the_exponentiated_gradient():
    members, losses = torch.tensor([0, 0, 0, 1]), torch.tensor([1.0, 1.0, 1.0, 5.0])
    dro, q = GroupDRO(members, range(4), 0.5), np.array([0.75, 0.25])
    for _ in range(3):
        dro(losses, torch.arange(4))
        q = q * np.exp(0.5 * np.array([1, 5]) / 2)  # in units of the mean loss, 2
        q /= q.sum()
    assert (dro.weights.numpy() * [0.75, 0.25]).tolist() == pytest.approx(q.tolist())


def test_the_group_with_the_greater_loss_comes_to_count_most():
    members = torch.arange(100) % 10 // 9  # one in ten
    dro = GroupDRO(members, range(100), 0.1)
    for _ in range(100):
        dro(1.0 + members, torch.arange(100))
    weighted = dro(torch.ones(100), torch.arange(100))
    assert weighted[members == 1].mean() > 5 > 0.5 > weighted[members == 0].mean()
    assert weighted.mean().item() == pytest.approx(1)


def test_without_a_step_every_weight_is_exactly_one():
    draw = torch.Generator().manual_seed(0)
    members, losses = torch.randint(0, 7, (99,), generator=draw), torch.rand(99, generator=draw)
    dro = GroupDRO(members, range(99), 0)
    for rows in torch.arange(99).split(9):
        assert torch.equal(dro(losses[rows], rows), losses[rows])


@pytest.mark.parametrize(("loss", "low", "high"), [(1.0, 0.999, 1.001), (1.5, 3, 100)])
def test_a_group_that_most_batches_lack_is_weighed_by_its_loss_and_not_by_its_absence(loss, low, high):
    members = (torch.arange(1600) % 100 == 0).long()
    losses, dro = 1 + (loss - 1) * members, GroupDRO(members, range(1600), 0.2)
    for _ in range(5):
        for rows in torch.arange(1600).split(16):  # one batch in six holds one of them
            dro(losses[rows].float(), rows)
    assert low < dro.weights[1] < high
