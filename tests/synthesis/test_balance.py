"""Weights by hand: of cells, gradients, FairDiffusion and groups that are served badly."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reconfair.synthesis import balance


def test_cells_are_weighted_by_hand():
    counts = [1, 4, 16]
    assert balance.cell_weights(counts, "natural") == pytest.approx([1 / 21] * 3)
    assert balance.cell_weights(counts, "cbrs") * counts == pytest.approx([1 / 3] * 3)
    assert balance.cell_weights(counts, "sqrs") * counts == pytest.approx(np.array([1, 2, 4]) / 7)
    # a gradient of 3, 1 and 9 times the mean: factors 2.5, 1.5 and 3, which is the most
    expected = np.array([2.5 * 1, 1.5 * 2, 3.0 * 4])
    got = balance.cell_weights(counts, "sqrs", [3, 1, 9]) * counts
    assert got == pytest.approx(expected / expected.sum())


@pytest.mark.parametrize("sampling", balance.POWERS)
def test_cells_that_are_equally_hard_keep_their_weights(sampling):
    counts = np.array([2, 30, 7])
    assert balance.cell_weights(counts, sampling, np.ones(3)) == pytest.approx(balance.cell_weights(counts, sampling))


def test_images_are_drawn_as_often_as_their_weights_say():
    rows, cells = np.arange(100, 121), np.repeat([0, 1, 2], [1, 4, 16])
    batches = balance.Balanced(rows, cells, 32, 100, 0, "sqrs")
    drawn = np.concatenate(list(batches))
    assert len(batches) == 100 and len(drawn) == 3200
    shares = np.bincount(cells[drawn - 100]) / len(drawn)
    assert shares == pytest.approx(np.array([1, 2, 4]) / 7, abs=0.03)
    assert np.array_equal(np.concatenate(list(batches)), drawn)  # by seed and epoch alone
    batches.set_epoch(1)
    assert not np.array_equal(np.concatenate(list(batches)), drawn)


def test_gradient_norms_are_those_of_autograd():
    torch.manual_seed(0)
    layer, inputs = torch.nn.Conv2d(3, 4, 3, padding=1), torch.randn(6, 3, 8, 8)
    target, cell = torch.randn(6, 4, 8, 8), torch.tensor([0, 0, 2, 2, 2, 0])
    norms = balance.output_norms(layer, inputs, (layer(inputs) - target).detach(), cell, 3)
    alone = []
    for image, aim in zip(inputs[:, None], target[:, None], strict=True):
        gradient = torch.autograd.grad(F.mse_loss(layer(image), aim), layer.parameters())
        alone.append(sum(g.square().sum() for g in gradient).sqrt())
    for number in (0, 2):
        assert norms[number].item() == pytest.approx(torch.stack(alone)[cell == number].mean().item(), rel=1e-4)
    assert norms[1].isnan()


def test_cells_of_one_law_are_equally_hard_however_few_their_images():
    torch.manual_seed(0)
    layer, norms = torch.nn.Conv2d(3, 1, 3, padding=1), balance.GradientNorms(3)
    draw, shares = np.random.default_rng(0), np.array([10, 100, 890]) / 1000
    for _ in range(100):
        cell = torch.from_numpy(draw.choice(3, 64, p=shares))
        norms.add(balance.output_norms(layer, torch.randn(64, 3, 8, 8), torch.randn(64, 1, 8, 8), cell, 3))
    assert norms.hardness().numpy() == pytest.approx(np.ones(3), abs=0.05)


def test_hardness_is_the_mean_of_the_last_hundred_batches_over_that_of_all_cells():
    norms = balance.GradientNorms(2)
    assert norms.hardness().tolist() == [1, 1]
    for _ in range(150):
        norms.add(torch.tensor([9.0, torch.nan]))
    for _ in range(100):
        norms.add(torch.tensor([1.0, 3.0]))
    assert norms.hardness().tolist() == [0.5, 1.5]


def test_groups_served_badly_weigh_more_and_the_mean_is_one():
    sex, age = np.array(["f", "f", "m", "m", "m", ""]), np.array(["o", "y", "o", "y", "y", "y"])
    accuracy = {"sex": {"f": 0.5, "m": 0.8}, "age": {"o": 0.6, "y": 0.9}}
    weights = balance.inverse_performance(accuracy, {"sex": sex, "age": age})
    assert weights.mean() == pytest.approx(1)
    inverse = {"f": 2.0, "m": 1.25}
    w = {group: 2 * value / 3.25 for group, value in inverse.items()} | {"": 1.0}
    v = {"o": 2 * (1 / 0.6) / (1 / 0.6 + 1 / 0.9), "y": 2 * (1 / 0.9) / (1 / 0.6 + 1 / 0.9)}
    expected = np.array([w[s] * v[a] for s, a in zip(sex, age, strict=True)])
    assert weights == pytest.approx(expected / expected.mean(), rel=1e-4)


def test_the_process_passes_through_what_it_saw_and_is_unsure_elsewhere():
    x, y = torch.tensor([[0.1], [0.5], [0.9]]), torch.tensor([1.0, 3.0, 2.0])
    mean, sd = balance.process(x, y, torch.cat([x, torch.tensor([[5.0]])]), length=0.2, noise=1e-6)
    assert torch.allclose(mean[:3], y, atol=0.01) and sd[:3].max() < 0.01
    assert mean[3].item() == pytest.approx(2, abs=1e-3) and sd[3].item() == pytest.approx(
        y.std(correction=0).item(), rel=0.01
    )


def test_fair_weights_have_mean_one_and_sigma_lies_within_zero_and_one():
    torch.manual_seed(0)
    groups = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    fair, cell = balance.FairWeights(groups, [2, 2]), torch.arange(4).repeat(50)
    weights = torch.cat([fair.weigh(cell, 1.0 + cell.float()) for _ in range(95)])
    assert weights.mean().item() == pytest.approx(1, abs=0.03) and weights.std() > 0.1
    assert len(fair.values) == 3 and fair.sigma.min() >= 0 and fair.sigma.max() <= 1
    # mean losses are 1.5 and 3.5 by the first attribute, 2 and 3 by the second
    assert fair.values == pytest.approx([-3.0] * 3, rel=1e-4)
