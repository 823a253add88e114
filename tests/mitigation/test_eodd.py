"""Soft EODD: what it tends to, what it leaves out, and its gradient."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairlearn.metrics import equalized_odds_difference
from reconfair.mitigation.eodd import SoftEODD, cell_sums, gaps, soft_decisions, soft_dice


def one_hot(*columns) -> torch.Tensor:
    return torch.cat([torch.eye(int(column.max()) + 1, dtype=torch.float64)[column] for column in columns], 1)


def panel(labels, *columns, rates=None):
    sizes = np.cumsum([0, *(int(column.max()) + 1 for column in columns)])
    spans = [slice(a, b) for a, b in pairwise(sizes)]
    rates = torch.full((labels.shape[1],), 2.0) if rates is None else rates
    return SimpleNamespace(labels=labels, groups=one_hot(*columns), spans=spans, rates=rates)


@pytest.fixture
def cohort():
    """Scores, labels of two tasks and two attributes of 200 images."""
    draw = np.random.default_rng(0)
    labels = torch.from_numpy(draw.integers(0, 2, (200, 2)).astype(float))
    sex, race = (torch.from_numpy(draw.integers(0, groups, 200)) for groups in (2, 3))
    score = torch.from_numpy(np.clip(draw.random((200, 2)) + 0.2 * sex.numpy()[:, None], 0, 1))
    return score, labels, sex, race


def test_it_tends_to_the_hard_eodd_as_the_temperature_falls(cohort):
    score, labels, sex, race = cohort
    hard = max(
        equalized_odds_difference(y, s >= 0.6, sensitive_features=a, agg="mean")
        for y, s in zip(labels.T.numpy(), score.T.numpy(), strict=True)
        for a in (sex.numpy(), race.numpy())
    )
    soft = [
        SoftEODD(panel(labels, sex, race), 0).largest(soft_decisions(score, 0.6, t), torch.arange(200))
        for t in (0.3, 0.03, 1e-6)
    ]
    assert soft[2].item() == pytest.approx(hard, abs=1e-9)
    assert abs(soft[1] - hard) < abs(soft[0] - hard)


def test_a_gap_is_minus_the_covariance_with_the_group_over_its_variance(cohort):
    score, labels, sex, _ = cohort
    sums, counts = cell_sums(score, one_hot(sex), labels)
    for y in (0, 1):
        s, a = score[labels[:, 0] == y, 0], sex[labels[:, 0] == y].double()
        p = a.mean()
        expected = -((s * a).mean() - s.mean() * p) / (p * (1 - p))
        means = (sums / counts)[y, :, 0]
        assert (means[0] - means[1]).item() == pytest.approx(expected.item(), abs=1e-12)


def test_identical_groups_have_none():
    labels, sex = torch.tensor([[0.0], [1.0]] * 4), torch.tensor([0, 0, 1, 1] * 2)
    soft = torch.tensor([[0.2], [0.7]] * 4, dtype=torch.float64)
    assert SoftEODD(panel(labels.double(), sex), 0).largest(soft, torch.arange(8)).item() == 0


def test_empty_cells_are_left_out():
    labels = torch.tensor([[0.0], [1.0], [0.0], [1.0], [0.0]], dtype=torch.float64)
    soft = torch.tensor([[0.1], [0.5], [0.3], [0.9], [1.0]], dtype=torch.float64)
    race = torch.tensor([0, 0, 1, 1, 2])  # the third group has no positive
    sums, counts = cell_sums(soft, one_hot(race), labels)
    found = gaps(sums / counts.clamp(min=1), counts, [slice(0, 3)])[:, 0, 0]
    assert found.tolist() == pytest.approx([0.9, 0.4])
    unknown = torch.full((5, 1), torch.nan, dtype=torch.float64)
    assert gaps(*cell_sums(soft, one_hot(race), unknown), [slice(0, 3)]).tolist() == [[[0.0]], [[0.0]]]


def test_its_gradient_is_the_numerical_one(cohort):
    score, labels, sex, race = (values[:40] for values in cohort)
    settings = panel(labels, sex, race)

    def largest(score):
        return SoftEODD(settings, 0).largest(soft_decisions(score, 0.6), torch.arange(40))

    assert torch.autograd.gradcheck(largest, score.clone().requires_grad_())


def test_gradients_of_batches_add_up_to_the_whole_s(cohort):
    score, labels, sex, race = cohort
    whole = SoftEODD(panel(labels, sex, race), 0)
    leaf = score.clone().requires_grad_()
    whole.largest(soft_decisions(leaf, 0.6), torch.arange(200)).backward()
    known = SoftEODD(panel(labels, sex, race), 0)
    known.largest(soft_decisions(score, 0.6), torch.arange(200))
    parts = torch.zeros_like(score)
    for rows in torch.randperm(200, generator=torch.Generator().manual_seed(0)).split(20):
        some = score[rows].clone().requires_grad_()
        known.largest(soft_decisions(some, 0.6), rows).backward()
        parts[rows] += some.grad / 10
    assert torch.allclose(parts, leaf.grad, atol=1e-12)


def test_of_a_segmentation_it_is_the_gap_of_the_soft_dice():
    truth = torch.zeros(4, 8, 8, dtype=torch.float64)
    truth[:, 2:6, 2:6] = 1
    probability = truth * torch.tensor([0.9, 0.5, 0.8, 0.2])[:, None, None]
    dice = soft_dice(probability, truth)
    assert dice.tolist() == pytest.approx([2 * p / (p + 1) for p in (0.9, 0.5, 0.8, 0.2)])
    sex, rates = torch.tensor([0, 0, 1, 1]), torch.tensor([1.0])
    found = SoftEODD(panel(torch.ones(4, 1, dtype=torch.float64), sex, rates=rates), 0).largest(
        dice[:, None], torch.arange(4)
    )
    assert found.item() == pytest.approx((dice[:2].mean() - dice[2:].mean()).item(), abs=1e-6)


def test_a_memory_fills_the_cells_that_a_batch_leaves_empty():
    draw = np.random.default_rng(0)
    labels = torch.from_numpy((draw.random((2000, 3)) < 0.05).astype(float))
    race = torch.from_numpy(draw.choice(6, 2000, p=[0.5, 0.2, 0.15, 0.1, 0.03, 0.02]))
    remembers, alone = SoftEODD(panel(labels, race), 0), []
    for rows in torch.arange(2000).split(16):
        forgets = SoftEODD(panel(labels, race), 0)
        for memory in (remembers, forgets):
            memory.largest(torch.rand(len(rows), 3, dtype=torch.float64), rows)
        alone.append(forgets.empty().item())
    _, counts = cell_sums(torch.zeros_like(labels), one_hot(race), labels)
    assert remembers.empty().item() == pytest.approx((counts == 0).double().mean().item())
    assert remembers.empty() < 0.1
    assert np.mean(alone) > 0.5
