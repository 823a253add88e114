"""The grid of both stages against hand counts, a closed form, and simulated cohorts whose truth is known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from reconfair.fairness import assess, grid

THRESHOLD = 0.5
ROWS, READERS = ("standard", "eodd"), ("standard", "oversample")


def study(seed=0, patients=(60, 60), offset=None, flips=0.3, originals=True):
    """Binormal scores of two groups in each cell; `offset` moves the score of a cell in a group."""
    rng, offset = np.random.default_rng(seed), offset or {}
    group = np.repeat(["a", "b"], patients)
    label = rng.random(group.size) < 0.5
    shared, rows = rng.normal(size=group.size), []
    read = [("unet", *cell) for cell in product(ROWS, READERS)]
    read += [(word, "standard", reader) for word in ("original", "noisy") for reader in READERS] if originals else []
    for arm in read:
        mean = np.select([group == g for g in "ab"], [offset.get((*arm[1:], g), 0.0) for g in "ab"])
        noise = np.sqrt(1 - flips) * shared + np.sqrt(flips) * rng.normal(size=group.size)
        keys = dict(zip(("source", "strategy", "reader"), arm, strict=True))
        rows.append(
            pd.DataFrame({"unit": np.arange(group.size), "patient_id": np.arange(group.size), **keys}).assign(
                task="ill", kind="classify", label=label * 1.0, score=norm.cdf(mean + 1.2 * label - 0.6 + noise)
            )
        )
    return pd.concat(rows), pd.DataFrame({"patient_id": np.arange(group.size), "sex": group})


def judged(seed=0, **how):
    predictions, cohort = study(seed, **how)
    return grid.grid(predictions, cohort, thresholds={"ill": THRESHOLD}, resamples=200, seed=seed, min_cases=5)


def test_a_cell_says_what_assess_says_of_it():
    predictions, cohort = study(3)
    cells, *_ = grid.grid(predictions, cohort, thresholds={"ill": THRESHOLD}, resamples=100)
    performance, fairness = assess(
        predictions, cohort, attributes=["sex"], thresholds={"ill": THRESHOLD}, resamples=100
    )
    of = cells.set_index(["row", "reader"])
    gap = fairness[(fairness.metric == "eodd") & (fairness.source == "unet")].set_index(["strategy", "reader"])
    everyone = performance[(performance.attribute == "all") & (performance.metric == "auroc")]
    everyone = everyone[everyone.source == "unet"].set_index(["strategy", "reader"])
    for cell in product(ROWS, READERS):
        assert of.gap[cell] == pytest.approx(gap.value[cell]) and of.gap_high[cell] == pytest.approx(gap.high[cell])
        assert of.expected[cell] == pytest.approx(gap.expected[cell])
        assert of.added[cell] == pytest.approx(gap["shift"][cell])
        assert of.performance_low[cell] == pytest.approx(everyone.low[cell])
    groups = performance[
        (performance.attribute == "sex") & (performance.metric == "auroc") & (performance.source == "noisy")
    ]
    lowest = groups[groups.reader == "standard"].value.min()
    assert of.worst_group["noisy", "standard"] == pytest.approx(lowest)
    assert of.brought["eodd", "oversample"] == pytest.approx(of.gap["original", "oversample"])


def test_changes_and_interactions_are_differences_of_the_rates():
    predictions, cohort = study(5)
    _, effects, _ = grid.grid(predictions, cohort, thresholds={"ill": THRESHOLD}, resamples=100)
    called = predictions[predictions.source == "unet"].assign(called=lambda t: t.score >= THRESHOLD)
    called = called.merge(cohort, on="patient_id")
    rate = called[called.label == 1].groupby(["sex", "strategy", "reader"]).called.mean()
    for g in "ab":
        row = effects[(effects.group == g) & (effects.metric == "tpr")].set_index(["effect", "row", "reader"])
        change = rate[g, "eodd", "oversample"] - rate[g, "standard", "standard"]
        assert row.value["change", "eodd", "oversample"] == pytest.approx(change)
        alone = rate[g, "eodd", "standard"] + rate[g, "standard", "oversample"] - 2 * rate[g, "standard", "standard"]
        assert row.value["interaction", "eodd", "oversample"] == pytest.approx(change - alone)
    assert (effects.low < effects.value).all() and (effects.value < effects.high).all()
    assert len(effects[effects.effect == "interaction"]) == 2 * 2  # two groups, TPR and FPR, one cell


def test_limits_hold_the_true_interaction_in_all_groups_at_once():
    """Offsets of .5 in one cell of one group: its TPR by the closed form of the binormal model."""
    offset = {("eodd", "oversample", "a"): 0.5}
    truth = {("a", "tpr"): norm.cdf(0.6 + 0.5) - norm.cdf(0.6), ("a", "fpr"): norm.cdf(-0.6 + 0.5) - norm.cdf(-0.6)}
    kept = []
    for seed in range(100):
        _, effects, _ = judged(seed, offset=offset, patients=(50, 40), flips=(0.05, 0.3)[seed % 2], originals=False)
        some = effects[effects.effect == "interaction"]
        true = np.array([truth.get(key, 0.0) for key in zip(some.group, some.metric, strict=True)])
        kept.append(((some.low <= true) & (true <= some.high)).all())
    assert np.mean(kept) >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / 100)


def test_the_front_is_of_cells_that_no_other_beats():
    gap = np.array([[0.1, 0.1, 0.3, 0.05], [0.1, 0.2, 0.3, 0.4]])
    performance = np.array([[0.8, 0.8, 0.9, 0.7], [0.8, 0.7, 0.6, 0.5]])
    assert grid.front(gap, performance).tolist() == [[True, True, True, True], [True, False, False, False]]
    cells, *_ = judged(1)
    own = cells[~cells.row.isin(["original", "noisy"])]
    assert own.front.between(0, 1).all() and cells.front[cells.row == "noisy"].isna().all()


def cells_of(*rows):
    columns = ["row", "reader", "performance", "gap", "gap_high", "gap_change", "gap_change_low", "gap_change_high"]
    return pd.DataFrame(rows, columns=columns).assign(change=0.0)


def test_the_rule_takes_the_least_upper_limit_among_those_near_the_best():
    cells = cells_of(
        ("standard", "standard", 0.80, 0.20, 0.30, np.nan, np.nan, np.nan),
        ("eodd", "standard", 0.79, 0.15, 0.22, -0.05, -0.09, -0.01),
        ("adv", "standard", 0.70, 0.05, 0.10, -0.15, -0.2, -0.1),  # too low a performance
        ("noisy", "standard", 0.95, 0.01, 0.02, -0.2, -0.3, -0.1),  # no cell of the grid
    )
    assert grid.choose(cells) == ("eodd", "standard") and grid.choose(cells, tolerance=0.2) == ("adv", "standard")
    tie = cells.assign(gap_high=0.3)
    assert grid.choose(tie) == grid.STANDARD


def test_a_winner_must_beat_its_rivals_on_test():
    validation = cells_of(
        ("standard", "standard", 0.8, 0.2, 0.3, np.nan, np.nan, np.nan),
        ("eodd", "standard", 0.8, 0.1, 0.2, -0.1, -0.2, -0.05),
        ("replicate", "standard", 0.8, 0.18, 0.3, -0.02, -0.1, 0.1),
    )
    test = validation.assign(gap=[0.2, 0.16, 0.17])
    said = grid.verdict(test, ("eodd", "standard"), validation, [("replicate", "standard")])
    assert said["verdict"] == "better" and said["shrinkage"] == pytest.approx(0.06)
    assert said["best_rival"] == "replicate, standard"
    beaten = test.assign(gap=[0.2, 0.16, 0.15])
    assert grid.verdict(beaten, ("eodd", "standard"), validation, [("replicate", "standard")])["verdict"] == "not shown"
    assert grid.verdict(test, grid.STANDARD, validation)["verdict"] == "standard"


def test_dice_is_judged_by_its_ratio():
    rng, rows = np.random.default_rng(0), []
    group = np.repeat(["a", "b"], 40)
    base = rng.beta(8, 2, 80) - 0.2 * (group == "b")
    for strategy, reader in product(ROWS, READERS):
        better = 0.1 * (strategy == "eodd") * (group == "b")
        keys = {"source": "unet", "strategy": strategy, "reader": reader, "task": "tumour", "kind": "segment"}
        frame = pd.DataFrame({"unit": np.arange(80), "patient_id": np.arange(80), "dice": base + better})
        rows.append(frame.assign(**keys))
    cohort = pd.DataFrame({"patient_id": np.arange(80), "sex": group})
    cells, effects, _ = grid.grid(pd.concat(rows), cohort, thresholds={}, resamples=100)
    of = cells.set_index(["row", "reader"])
    assert of.gap_metric.eq("ser").all() and of.gap_change["eodd", "standard"] < 0
    change = effects[(effects.effect == "change") & (effects.group == "b")].set_index(["row", "reader"])
    assert change.value["eodd", "standard"] == pytest.approx(0.1)
    assert change.value["standard", "oversample"] == 0 and np.isnan(change.low["standard", "oversample"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[rows.strategy != "standard"], ["standard", "ill"]),
        (lambda rows: pd.concat([rows, rows[rows.source == "unet"].assign(source="sde")]), ["one", "2"]),
    ],
)
def test_a_grid_without_its_corner_is_refused(change, words):
    predictions, cohort = study(0, originals=False)
    with pytest.raises(ValueError) as caught:
        grid.grid(change(predictions), cohort, thresholds={"ill": THRESHOLD})
    assert all(word in str(caught.value) for word in words)


def test_variance_between_seeds_is_told_from_that_between_patients():
    rng, cells = np.random.default_rng(0), [("standard", "standard"), ("eodd", "standard")]
    patients = rng.normal(0, 0.02, (1, 2001, 2))  # the same resamples for every seed
    seeds = np.array([-0.06, 0.0, 0.06])[:, None, None] * [0, 1]  # the second cell depends on the seed
    values = 0.2 + patients + seeds
    values[:, 0] = 0.2 + seeds[:, 0]
    drawn = [{("ill", "sex"): {"cells": cells, "gap": one, "performance": one, "relative": False}} for one in values]
    every = grid.replicated(drawn)
    (change,) = every[every.metric == "gap_change"].itertuples()  # patients cancel out, seeds stay
    assert change.row == "eodd" and change.sd_seeds == pytest.approx(seeds[:, 0, 1].std(ddof=1))
    assert not (every.metric == "added").any()  # no originals
    table = every.query("metric == 'gap'").set_index("row")
    assert table.sd_seeds["eodd"] == pytest.approx(0.06) and table.sd_seeds["standard"] == pytest.approx(0, abs=1e-12)
    assert table.sd_patients["eodd"] == pytest.approx(0.02, abs=0.001)
    assert table.share_seeds["eodd"] == pytest.approx(0.9, abs=0.01) and table.share_seeds["standard"] == pytest.approx(
        0, abs=1e-12
    )
    wide, narrow = (table.high[row] - table.low[row] for row in ("eodd", "standard"))
    assert narrow == pytest.approx(2 * 1.96 * 0.02, rel=0.1) and wide > 1.4 * narrow
    assert table.value.tolist() == pytest.approx([0.2, 0.2]) and (table.seeds == 3).all()


def test_changes_of_ser_are_relative_and_originals_are_their_reference():
    cells = [("original", "standard"), ("standard", "standard"), ("eodd", "standard")]
    gap = np.tile([1.0, 2.0, 3.0], (11, 1))
    drawn = {("lesion", "sex"): {"cells": cells, "gap": gap, "performance": gap, "relative": True}}
    of = grid.replicated([drawn]).set_index(["metric", "row"])
    assert of.value["gap_change", "eodd"] == pytest.approx(0.5) and of.value["added", "eodd"] == pytest.approx(2)
    assert of.value["added", "standard"] == pytest.approx(1) and ("gap_change", "standard") not in of.index
    assert of.share_seeds.isna().all() and (of.seeds == 1).all()


def test_effects_of_several_trainings_share_out_their_variance():
    first = judged(1, patients=(400, 400)).effects
    again = grid.shared_out([first, first, first])
    assert (again.seeds == 3).all() and again.share_seeds.max() < 1e-12  # the same training
    moved = [first.assign(value=first.value + step) for step in (-0.1, 0.0, 0.1)]
    shared = grid.shared_out(moved)
    assert shared.share_seeds.to_numpy() == pytest.approx(0.01 / (0.01 + first.se**2).to_numpy())
    assert grid.shared_out([first]).share_seeds.isna().all()
    half = (first.high - first.low).to_numpy() / 2
    assert (half > 1.96 * first.se.to_numpy() - 1e-12).all()
