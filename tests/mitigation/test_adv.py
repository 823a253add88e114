"""The adversary: finds a group that is planted in the image, and teaches a reconstructor to take it out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reconfair.mitigation.adv import Adversary, duel, squared_correlation
from torch import nn


class Means(nn.Module):
    """A frozen network whose features are the mean brightness of the four quarters."""

    def features(self, images):
        return nn.functional.avg_pool2d(images, 4).flatten(1)


def planted(n: int, seed: int = 0):
    """Images whose first quarter is brighter in one group."""
    draw = torch.Generator().manual_seed(seed)
    images, group = torch.rand(n, 1, 8, 8, generator=draw), torch.randint(0, 2, (n,), generator=draw)
    images[:, :, :4, :4] += 0.5 * group[:, None, None, None]
    return images, group


def adversary(group, lr=1e-2):
    groups = torch.eye(2)[group]
    found = SimpleNamespace(networks={"quarters": Means()}, groups=groups, labels=groups, spans=[slice(0, 2)])
    found.features = lambda: [4]
    return Adversary(found, lr, recent=256, seed=0)


def test_the_squared_correlation_is_numpy_s():
    draw = np.random.default_rng(0)
    p, t = draw.normal(size=(50, 3)), draw.normal(size=(50, 3))
    expected = np.mean([np.corrcoef(p[:, k], t[:, k])[0, 1] ** 2 for k in range(3)])
    assert squared_correlation(torch.from_numpy(p), torch.from_numpy(t)).item() == pytest.approx(expected)


def test_what_does_not_vary_is_left_out():
    p, t = torch.rand(20, 2), torch.rand(20, 2)
    t[:, 1] = 1
    assert squared_correlation(p, t).item() == pytest.approx(squared_correlation(p[:, :1], t[:, :1]).item())
    assert squared_correlation(p, torch.ones(20, 2)).item() == 0


def test_predictors_ascend_and_the_reconstructor_takes_the_group_out():
    correlation, left = duel(steps=300, alone=100, seed=1).T
    assert correlation[0] < correlation[99] and correlation[99] > 0.9
    assert (left[:101] == 1).all()  # until then the reconstructor looks on
    assert correlation[-20:].mean() < 0.2 and left[-20:].mean() == pytest.approx(0, abs=0.2)


def test_images_of_unknown_group_are_left_out():
    images, group = planted(64)
    known, unknown = adversary(group), adversary(group)
    unknown.panel.groups = unknown.panel.groups.clone()
    unknown.panel.groups[32:] = 0
    all_, half = known(images[:32], torch.arange(32))["adv"], unknown(images, torch.arange(64))["adv"]
    assert half.item() == pytest.approx(all_.item(), rel=1e-5)


def test_a_fresh_one_measures_without_learning():
    images, group = planted(64)
    term = adversary(group)
    term(images, torch.arange(64))
    before = {name: value.clone() for name, value in term.predictors.state_dict().items()}
    watch = term.afresh()
    assert len(watch.rows) == 0 and watch(images, torch.arange(64))["adv"] > 0
    assert all(torch.equal(before[name], value) for name, value in term.predictors.state_dict().items())
    assert len(term.rows) == 64
