"""The two further losses against their formulas, the simulated physician, and ratings by people."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair.data.phantom_mri import VIEW
from reconfair.params import ParamsError
from reconfair.synthesis import preference
from reconfair.synthesis.diffusion import Generator


def test_both_terms_of_the_diversity_loss_have_the_gradients_of_the_formula():
    torch.manual_seed(0)
    a, b = (torch.randn(3, 1, 4, 4, requires_grad=True) for _ in range(2))
    t = torch.tensor([100, 500, 1000])
    loss = preference.diversity_loss(a, b, t, 1000, tau=2.0, gamma=0.25)
    w = 2.0 * t / 1000
    apart = (a - b).square().mean((1, 2, 3))
    assert torch.allclose(loss, 1.25 * w * apart)
    to_a, to_b = torch.autograd.grad(loss.sum(), [a, b])
    # The first term moves eps(x, y) alone, and the second, of weight gamma, eps(x, y') alone.
    slope = 2 * (a - b).detach() / 16 * w.reshape(-1, 1, 1, 1)
    assert torch.allclose(to_a, slope) and torch.allclose(to_b, -0.25 * slope)


def test_dpo_is_log_two_at_the_start_and_has_the_gradient_of_the_formula():
    won, lost = torch.tensor([0.5, 0.2], requires_grad=True), torch.tensor([0.4, 0.3], requires_grad=True)
    before = won.detach(), lost.detach()
    losses, _ = preference.preference_loss(won, lost, *before, 500.0)
    assert losses.tolist() == pytest.approx([math.log(2)] * 2)
    before = torch.tensor([0.51, 0.2]), torch.tensor([0.4, 0.298])
    losses, right = preference.preference_loss(won, lost, *before, 500.0)
    margin = -250 * (torch.tensor([-0.01, 0.0]) - torch.tensor([0.0, 0.002]))
    assert losses.tolist() == pytest.approx((-torch.nn.functional.logsigmoid(margin)).tolist(), rel=1e-4)
    to_won, to_lost = torch.autograd.grad(losses.sum(), [won, lost])
    expected = 250 * torch.sigmoid(-margin)
    assert torch.allclose(to_won, expected, rtol=1e-3) and torch.allclose(to_lost, -expected, rtol=1e-3)
    assert right.tolist() == [True, True]


def test_the_published_loss_is_mostly_a_pull_to_the_winner():
    won, lost = torch.tensor([0.02], requires_grad=True), torch.tensor([0.021], requires_grad=True)
    to_won, to_lost = torch.autograd.grad(preference.published_preference(won, lost).sum(), [won, lost])
    assert to_won.item() == pytest.approx(1.25, abs=0.01) and to_lost.item() == pytest.approx(-0.25, abs=0.01)


SETTINGS = {"cells": [[0, 0], [0, 1]], "factors": [1, 2], "colours": 1, "channels": 8, "widths": [1, 1], "blocks": 1}
SETTINGS |= {"attention": [], "patch": 2, "lr": 2e-3, "ema": 0.9, "seed": 0, "guidance": 1, "steps": 4, "beta": 50.0}


def toy_pairs(module):
    """Bright images win over dark ones."""
    draw = np.random.default_rng(0)
    winners, losers = (level + 0.05 * draw.standard_normal((16, 8, 8)) for level in (0.9, 0.1))
    return preference.Pairs(winners, losers, np.arange(16) % 2, module.average)


def test_on_a_toy_preference_the_implicit_accuracy_rises():
    torch.manual_seed(0)
    module = Generator(SETTINGS, 8).train()
    torch.nn.init.normal_(module.net.last.weight, std=0.05)
    module.average.module.load_state_dict(module.net.state_dict())
    module.pairs = toy_pairs(module)
    start, accuracy = module.pairs.loss(module, 64)
    assert start.item() == pytest.approx(math.log(2), rel=1e-3)
    optimizer, followed = torch.optim.Adam(module.net.parameters(), lr=2e-3), []
    for _ in range(60):
        loss, accuracy = module.pairs.loss(module, 16)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        followed.append(accuracy.item())
    assert np.mean(followed[-20:]) > 0.8 and np.mean(followed[-20:]) > np.mean(followed[:5])


@pytest.mark.parametrize(("apart", "pull"), [(0, 0.5), (1, 1 / (1 + math.e**2)), (10, 0), (-10, 1)])
@pytest.mark.parametrize("beta", [50.0, 2000.0])
def test_the_pull_on_an_error_is_at_most_that_of_the_noise_loss_and_ends(monkeypatch, beta, apart, pull):
    """Both errors have moved by `apart` times 2 / beta in the direction that is preferred."""
    module = Generator(SETTINGS | {"beta": beta}, 8).train()
    moved = torch.tensor([[-1.0], [1.0]]) * apart * 2 / beta
    now = (0.03 + moved).expand(2, 4).clone().requires_grad_()
    errors = {module.net: now, module.average: torch.full((2, 4), 0.03)}
    monkeypatch.setattr(preference.Pairs, "errors", lambda self, generator, net, *drawn: errors[net])
    loss, _ = toy_pairs(module).loss(module, 4)
    (slopes,) = torch.autograd.grad(preference.weight(beta) * loss, now)
    assert slopes[0].tolist() == pytest.approx([pull / 4] * 4, abs=1e-4)
    assert slopes[1].tolist() == pytest.approx([-pull / 4] * 4, abs=1e-4)


def test_preference_learning_stops_where_both_errors_rise():
    torch.manual_seed(0)
    module = Generator(SETTINGS, 8).train()
    torch.nn.init.normal_(module.net.last.weight, std=0.05)
    pairs = toy_pairs(module)
    pairs.reference = copy.deepcopy(module.net)
    module.average.module.load_state_dict(module.net.state_dict())
    assert pairs.rises(module).tolist() == [0, 0]
    assert all(pairs.loss(module, 4)[0].requires_grad for _ in range(2 * preference.CHECK)) and pairs.active
    with torch.no_grad():
        module.average.module.last.bias.add_(3)
    assert (pairs.rises(module) > preference.RISE).all()
    still = [pairs.loss(module, 4)[0].requires_grad for _ in range(preference.CHECK)]
    assert still == [True] * (preference.CHECK - 1) + [False] and not pairs.active


def test_the_simulated_physician_chooses_as_often_as_the_scores_say():
    scores = np.tile([[1.0, 0.0]], (4000, 1))
    for kappa in (0.0, 1.0, 3.0):
        share = (preference.choose(scores, kappa, 0) == "left").mean()
        assert share == pytest.approx(1 / (1 + math.exp(-kappa)), abs=0.03)


def brain(contrast, radius, size=64):
    """A head with a disc in it."""
    axis = (np.arange(size) + 0.5) * VIEW / size - VIEW / 2
    x, y = axis[None, :], axis[:, None]
    image = 0.4 * (np.hypot(x, y) < 90) + 0.3 * ((np.hypot(x, y) > 80) & (np.hypot(x, y) < 90))
    return image + contrast * (np.hypot(x - 20, y + 10) < radius)


def test_a_lesion_is_measured():
    measured = preference.lesion(np.stack([brain(0.3, 14), brain(0.15, 14), brain(0.3, 24), 0 * brain(0, 9)]), VIEW)
    assert measured[0, 0] == pytest.approx(0.3, abs=0.05) and measured[1, 0] == pytest.approx(0.15, abs=0.05)
    assert measured[0, 1] == pytest.approx(14, rel=0.2) and measured[2, 1] == pytest.approx(24, rel=0.2)
    assert measured[3].tolist() == [0, 7, 0]


def test_a_law_prefers_what_is_typical_and_measures_the_error_in_its_own_spread():
    draw = np.random.default_rng(0)
    known = draw.normal([0.3, 15, 0.5], [0.05, 3, 0.1], (400, 3))
    law = preference.Law(known, np.zeros(400, int))
    typical, odd = law.score(np.array([[0.3, 15, 0.5], [0.6, 25, 0.1]]), np.zeros(2, int))
    assert typical > odd + 3
    spread = known.std(0)
    assert law.error(known, 0) == pytest.approx(0, abs=1e-9)
    assert law.error(known + np.array([spread[0], 0, 9]), 0) == pytest.approx(0.5)


# --- ratings ---


@pytest.fixture
def pairs():
    names = [f"{number:05d}" for number in range(40)]
    rows = {"pair_id": [f"abc-{number:05d}" for number in range(20)], "cell": ["f, 1", "m, 0"] * 10}
    return pd.DataFrame(rows | {"left": names[::2], "right": names[1::2]})


def rated(pairs, rater, choices):
    return preference.blank(pairs, rater).assign(choice=choices, rater=rater, seconds=1.5)


def test_each_rater_has_his_own_order_and_sides(pairs):
    one, other = preference.blank(pairs, "one"), preference.blank(pairs, "two")
    assert one.equals(preference.blank(pairs, "one")) and list(one.pair_id) != list(other.pair_id)
    both = pairs.merge(one, on="pair_id")
    swapped = (both.left_x == both.right_y).mean()
    assert 0.2 < swapped < 0.8 and ((both.left_x == both.left_y) | (both.left_x == both.right_y)).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"choice": "lefft"}, ["line 4", "lefft", "'left'"]),
        ({"pair_id": "xyz-00001"}, ["line 4", "xyz-00001", "another study", "abc"]),
        ({"left": "00099"}, ["line 4", "00099"]),
        ({"seconds": "fast"}, ["line 4", "fast"]),
        ({"cell": "female, 9"}, ["line 4", "cell 'female, 9'"]),
        ({"rater": "two"}, ["line 4", "rater 'two'"]),
    ],
)
def test_a_broken_row_is_named(pairs, tmp_path, change, named):
    table = rated(pairs, "one", "left").astype("str")
    for column, value in change.items():
        table.loc[2, column] = value
    table.to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(ParamsError) as error:
        preference.read_ratings(tmp_path / "one.csv", pairs)
    assert all(word in str(error.value) for word in [*named, "one.csv"])


def test_columns_that_are_missing_and_pairs_rated_twice_are_named(pairs, tmp_path):
    table = rated(pairs, "one", "left")
    table.rename(columns={"choice": "choise"}).to_csv(tmp_path / "a.csv", index=False)
    pd.concat([table, table.head(1)]).to_csv(tmp_path / "b.csv", index=False)
    for name, word in (("a.csv", "'choise'"), ("b.csv", table.pair_id[0])):
        with pytest.raises(ParamsError, match=rf"{name}.*{word}"):
            preference.read_ratings(tmp_path / name, pairs)


def test_more_than_half_of_the_raters_decide(pairs):
    one, two = (preference.blank(pairs.head(3), rater) for rater in ("one", "two"))
    first = pairs.set_index("pair_id").left  # the image that stands left in the list of pairs

    def choose(blank, wins):
        side = ["left" if row.left == first[row.pair_id] else "right" for row in blank.itertuples()]
        chosen = [s if wins[row.pair_id] == 1 else "neither" if wins[row.pair_id] == 0 else {"left": "right", "right": "left"}[s]
                  for s, row in zip(side, blank.itertuples(), strict=True)]  # fmt: skip
        return blank.assign(choice=chosen, rater="r", seconds=1.0)

    ids = list(pairs.pair_id[:3])
    table = pd.concat(
        [choose(one, dict(zip(ids, (1, 1, 0), strict=True))), choose(two, dict(zip(ids, (1, -1, -1), strict=True)))]
    )
    decided = preference.preferred(table).set_index("pair_id")
    assert list(decided.index) == [ids[0]]  # the second is a draw, and of the third only one of two is sure
    assert decided.winner[ids[0]] == first[ids[0]]
    third = choose(two, dict.fromkeys(ids, -1)).assign(rater="three")
    decided = preference.preferred(pd.concat([table, third])).set_index("pair_id")
    assert list(decided.index) == ids and decided.loser[ids[2]] == first[ids[2]]


def test_agreement_of_two_raters_is_that_of_scikit_learn(pairs):
    sklearn = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    one = rated(pairs, "one", draw.choice(preference.CHOICES, 20))
    two = rated(pairs, "two", draw.choice(preference.CHOICES, 20))
    answer = preference.agreement(one, two)
    winners = [
        table.assign(w=np.where(table.choice == "neither", "", np.where(table.choice == "left", table.left, table.right)))
        .set_index("pair_id").w.sort_index()
        for table in (one, two)
    ]  # fmt: skip
    first = pairs.set_index("pair_id").left.sort_index()
    codes = [np.where(w == "", 0, np.where(w == first, 1, 2)) for w in winners]
    assert answer["agreement"] == pytest.approx((codes[0] == codes[1]).mean())
    assert answer["kappa"] == pytest.approx(sklearn.cohen_kappa_score(*codes))
    assert answer["low"] <= answer["agreement"] <= answer["high"] and answer["pairs"] == 20
    alike = preference.agreement(one, one)
    assert alike["kappa"] == 1 and np.isnan(alike["kappa_low"])  # a bootstrap of pairs that are all alike has no width
    assert (alike["low"], alike["high"]) == pytest.approx((0.839, 1.0), abs=0.001)  # Wilson's, of 20 in 20
