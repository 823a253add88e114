"""Oversampling: what each batch holds, and that level 0 is plain training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reconfair.remedies.oversample import GroupBatches, Oversample
from reconfair.training import Batches

GROUPS = np.repeat([0, 1, 2], [60, 30, 6])


def held(level, batch_size=12, epochs=20):
    """How many images of each group every batch holds: (batches, 3)."""
    batches = GroupBatches(np.arange(96) + 7, GROUPS, level, batch_size, seed=0)
    counts = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        counts += [np.bincount(GROUPS[batch - 7], minlength=3) for batch in batches]
    return np.array(counts)


def test_equal_numbers_of_each_group_are_in_every_batch():
    assert (held(1) == 4).all()


@pytest.mark.parametrize("level", [0.25, 0.5])
def test_a_level_mixes_natural_and_equal_shares(level):
    expected = 12 * ((1 - level) * np.array([60, 30, 6]) / 96 + level / 3)
    counts = held(level)
    assert counts.mean(0) == pytest.approx(expected, abs=0.1)
    assert (np.abs(counts - expected) < 1).all()  # no batch is further off than rounding


def test_batches_change_with_the_epoch_and_not_with_the_run():
    one, other = (GroupBatches(np.arange(96), GROUPS, 1, 12, seed=3) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    first = np.concatenate(list(one))
    one.set_epoch(1)
    assert (np.concatenate(list(one)) != first).any()


def test_level_0_is_plain_training():
    panel = SimpleNamespace(joint=torch.tensor(GROUPS))
    plain = Oversample(panel, np.arange(96), 0).batches(16, seed=1)
    assert type(plain) is Batches and len(list(plain)) == 6
