"""FCRO and FairREAD: their losses against what they must be, the game with a known answer, and any backbone."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair.diagnosis import fairread, groupwise
from reconfair.params import FairREAD

SETTINGS = {
    "architecture": "test_resnet",
    "pretrained": False,
    "size": 0,
    "value_range": None,
    "tasks": ["a"],
    "seed": 0,
}
SETTINGS |= FairREAD(latent=16, width=16).model_dump() | {
    "as_published": False,
    "strength": 1.0,
    "attributes": ["sex", "race"],
}


def latents(n=400, d=16, seed=0):
    """Two strong directions, and noise in the others; the mean is far from 0."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=draw) * torch.cat([torch.tensor([4.0, 3.0]), torch.full((d - 2,), 0.1)])
    return z + 5


# --- stage 1 ---


def test_the_column_loss_is_zero_exactly_where_the_spaces_are_orthogonal():
    base = fairread.basis(latents(), 3)
    z = torch.randn(50, 16)
    outside = z - z @ base @ base.T
    assert fairread.column_loss(outside, base) < 1e-10
    for k in range(3):  # a part along any one of the directions is seen
        assert fairread.column_loss(outside + 0.1 * base[:, k], base).item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("strong", [1.0, 1e4])
def test_the_rank_is_never_zero(strong):
    z = latents()
    z[:, 0] = (z[:, 0] - 5) * strong  # one direction holds more than 0.99 of the energy
    for centred in (True, False):
        assert fairread.basis(z, "energy", centred).shape[1] >= 1
    assert fairread.moved(fairread.basis(z, 1), z[:32]).shape[1] >= 1


def test_the_subspace_is_that_of_the_attributes_and_not_of_the_mean():
    z = latents()
    base, uncentred = fairread.basis(z, 2), fairread.basis(z, 1, centred=False)
    assert base[:2].square().sum().item() == pytest.approx(2, abs=0.01)
    mean = z.mean(0) / z.mean(0).norm()
    assert abs(uncentred[:, 0] @ mean) > 0.9 > abs(base.T @ mean).max()


def test_the_base_moves_to_where_a_batch_has_its_energy():
    base, z = torch.eye(4)[:, :1], torch.randn(60, 4) * torch.tensor([0.1, 0.1, 5.0, 3.0])
    moved = fairread.moved(base, z)
    assert torch.allclose(moved.T @ moved, torch.eye(moved.shape[1]), atol=1e-5)
    assert moved[2:].square().sum().item() == pytest.approx(moved.shape[1], abs=0.05)


def test_the_row_loss_does_not_depend_on_the_batch_size():
    z, z_a = torch.randn(64, 8), torch.randn(64, 8)
    once, thrice = fairread.row_loss(z, z_a), fairread.row_loss(z.repeat(3, 1), z_a.repeat(3, 1))
    assert once.item() == pytest.approx(thrice.item(), rel=1e-5)
    # At 64 images a class and d = 128 its weight of 125 is the published one.
    z, z_a = (z - z.mean(0) for z in (torch.randn(64, 128), torch.randn(64, 128)))
    published = 500 * (z.T @ z_a).square().sum() / 128**2
    assert 125 * fairread.row_loss(z, z_a).item() == pytest.approx(published.item(), rel=1e-4)


def test_losses_are_means_over_the_classes_of_a_batch():
    labels = torch.tensor([[0.0]] * 4 + [[1.0]] * 2)
    assert fairread.by_class(labels, lambda y, rows: rows.sum() * 1.0).item() == 3
    assert fairread.by_class(labels[:5], lambda y, rows: rows.sum() * 1.0).item() == 4  # one image is too few
    assert fairread.by_class(labels[4:5], lambda y, rows: rows.sum() * 1.0).item() == 0


def test_a_target_network_becomes_orthogonal_within_each_class():
    torch.manual_seed(0)
    module = fairread.Orthogonal(SETTINGS | {"row": 0.0})
    images, labels = torch.rand(32, 32, 32), (torch.arange(32) % 2).float()[:, None]
    module.take_bases(latents(64), (torch.arange(64) % 2).float()[:, None])
    z_a, optimizer = latents(32), torch.optim.Adam(module.parameters(), 3e-3)
    columns = []
    for _ in range(30):
        z = module.encoder(images[:, None])[0]
        column, row = module.orthogonality(z, z_a, labels)
        optimizer.zero_grad()
        (column + row).backward()
        optimizer.step()
        columns.append(column.item())
    assert row == 0 and columns[-1] < 0.2 * columns[0]


# --- stage 2 ---


def test_an_unknown_attribute_counts_a_half_and_the_code_is_heard():
    torch.manual_seed(0)
    module, images = fairread.Fused(SETTINGS).eval(), torch.rand(3, 1, 32, 32)
    half = module.diagnose(images, np.full((3, 2), 0.5, np.float32))
    assert torch.equal(module.diagnose(images), half)
    assert torch.equal(module.diagnose(images, np.full((3, 2), np.nan, np.float32)), half)
    assert not torch.equal(module.diagnose(images, np.ones((3, 2), np.float32)), half)


def test_one_optimiser_holds_the_adversary_only_as_published():
    for published, held in ((False, False), (True, True)):
        module = fairread.Fused(SETTINGS | {"as_published": published})
        rest, _ = module.configure_optimizers()
        of_rest = {id(parameter) for group in rest.param_groups for parameter in group["params"]}
        assert any(id(parameter) in of_rest for parameter in module.adversary.parameters()) == held


@cache
def probed(game):
    return fairread.toy(game)


def test_the_right_game_hides_an_attribute_and_the_published_one_shows_it():
    none, right, published = (probed(game) for game in ("none", "right", "as_published"))
    assert (right < none).mean() >= 0.9 and (published > none).mean() >= 0.9
    assert right.mean() < 0.86 < none.mean() < 0.93 < published.mean()


def test_an_attribute_that_is_plain_to_see_is_hidden_by_a_long_game_alone():
    none, short, long = (fairread.toy(*game, apart=3.0).mean() for game in (("none",), ("right",), ("right", 1500)))
    assert none > 0.95 and 0.85 < short < none and long < 0.8


def test_an_adversary_of_weight_zero_changes_nothing():
    assert np.array_equal(fairread.toy("right", 40, alpha=0.0), fairread.toy("none", 40))


# --- backbones and attributes ---


@pytest.mark.parametrize(
    "name", ["resnet18", "densenet121", "convnext_tiny", "test_resnet", "test_vit", "mobilenet_v3_small"]
)
def test_the_last_feature_map_of_any_backbone(name):
    trunk = fairread.Trunk(SETTINGS | {"architecture": name}).eval()
    side = trunk.reader.size or 64
    with torch.no_grad():
        z = trunk(torch.rand(2, 1, side, side))
    assert z.dim() == 4 and z.shape[:2] == (2, trunk.channels) and trunk.channels > z.shape[2] == z.shape[3]
    if name == "densenet121":  # before its last ReLU, as in FairREAD
        assert trunk.name == "features" and (z < 0).any()


def test_attributes_are_coded_by_reference_groups():
    table = pd.DataFrame({"sex": ["male", "female"] * 3, "race": ["Asian", "White", "Black", "White", None, "Asian"]})
    zeros = groupwise.references(table, ["sex", "race"])
    assert zeros == {"sex": "female", "race": "White"}
    assert groupwise.coded(table, zeros)[:, 0].tolist() == [1, 0] * 3
    assert np.isnan(groupwise.coded(table, zeros)[4, 1])
    with pytest.raises(ValueError, match=r"readers.attributes.*'race'"):
        groupwise.references(table.assign(race="White"), ["sex", "race"])
