"""Claims: in simulated studies whose truth is known, few sentences are false; and what each sentence says."""

import re

import numpy as np
import pandas as pd
import pytest

from reconfair import judge, words
from reconfair.fairness import MARGINS, assess

GROUPS = ("a", "b", "c")
# By scenario: what each group loses from the original to the source, in units of the margin.
SCENARIOS = {"nothing": (0, 0, 0), "all lose alike": (1, 1, 1), "one loses": (0, 0, 1)}
STUDIES = {"classify": 26, "segment": 56}  # of each scenario


def study(kind: str, lost: tuple, seed: int):
    """One cohort, read from two sources: groups are equal on originals and lose `lost` margins of TPR or Dice.

    Positives are called so with probability 0.8, then turned negative; 2 % of all decisions turn at random, in both
    directions alike, which moves a rate r by 0.02 (1 - 2 r).
    """
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(3), rng.integers(60, 140, 3))
    loss = np.array(lost)[group] * MARGINS["tpr" if kind == "classify" else "dice"]
    label = np.where(rng.random(group.size) < 0.5, 1.0, 0.0)
    called = rng.random(group.size) < np.where(label == 1, 0.8, 0.15)
    after = called & ~((label == 1) & (rng.random(group.size) < loss / 0.8))
    dice = rng.beta(14, 6, group.size)
    values = {"original": (called, dice), "unet": (after, dice - loss + rng.normal(0, 0.03, group.size))}
    rows = [
        pd.DataFrame({"unit": np.arange(group.size), "patient_id": np.arange(group.size), "task": "t", "kind": kind})
        .assign(source=source, strategy="standard", label=label, score=0.2 + 0.6 * decision, dice=value.clip(0, 1))
        .assign(**{"dice" if kind == "classify" else "score": np.nan})
        for source, (decision, value) in values.items()
    ]
    people = pd.DataFrame({"patient_id": np.arange(group.size), "group": np.array(GROUPS)[group]})
    return assess(pd.concat(rows), people, attributes=["group"], thresholds={"t": 0.5}, resamples=9)


def false_sentences(kind: str, lost: tuple, seed: int) -> dict[str, bool]:
    """By kind of sentence: whether any is false. Only kinds that would be false if they were said are listed."""
    performance, fairness = study(kind, lost, seed)
    first, gap = ("tpr", "eop") if kind == "classify" else ("dice", "delta_dice")
    margin = MARGINS[first]
    loss = dict(zip(GROUPS, np.array(lost) * margin, strict=True))
    grown, false = np.ptp(list(loss.values())), {}
    for _, row in judge.changes(performance, [first]).iterrows():
        text, true = judge.change_sentence(row), -loss[row.group]
        assert text.startswith(f"{row.group}: {words.name(first)} ")
        if true == 0:
            false["lost"] = false.get("lost", False) or "fell by" in text
        else:
            kept = "a loss beyond the margin" in text
            false["kept"] = false.get("kept", False) or kept
        false["gained"] = false.get("gained", False) or "rose by" in text
        outside = not row.change_low <= true <= row.change_high
        false["limits"] = false.get("limits", False) or outside
    row = fairness[(fairness.source == "unet") & (fairness.metric == gap)].iloc[0]
    text = " ".join(judge.sentences(row))
    assert ("The groups changed unequally" in text) + ("the gap grew" in text) + ("the gap fell" in text) <= 1
    false["fell"] = "the gap fell" in text
    if grown == 0:
        false["grew"] = "the gap grew" in text
        false["unequal"] = "The groups changed unequally" in text or false["grew"] or false["fell"]
    else:
        false["no change"] = "there is no change that matters" in text
    bound = float(re.search(r"no gap changed by more than (\d\.\d+)", text, re.I)[1]) if "no gap" in text.lower() else 1
    false["bound"] = bound < grown - 0.0005  # as printed
    original = fairness[(fairness.source == "original") & (fairness.metric == gap)].iloc[0]
    false["differ"] = "The groups differ." in " ".join(judge.sentences(original))
    return false


@pytest.fixture(scope="module")
def counted() -> pd.DataFrame:
    """False sentences of 246 studies: a row per study, a column per kind of sentence."""
    plan = [(kind, lost, n) for kind, n in STUDIES.items() for lost in SCENARIOS.values()]
    return pd.DataFrame(
        [false_sentences(kind, lost, 1000 * k + seed) for k, (kind, lost, n) in enumerate(plan) for seed in range(n)]
    )


@pytest.mark.parametrize(
    "kind", ["lost", "gained", "kept", "limits", "grew", "fell", "unequal", "no change", "bound", "differ"]
)
def test_at_most_five_percent_of_the_studies_hold_a_false_sentence_of_a_kind(counted, kind):
    false = counted[kind].dropna().astype(float)
    error = np.sqrt(0.05 * 0.95 / len(false))
    assert len(false) >= 80 and false.mean() <= 0.05 + 2 * error, f"{false.sum():.0f} of {len(false)}"


def test_true_sentences_are_said():
    """The simulation would pass if nothing were ever said."""
    performance, fairness = study("segment", (0, 0, 12), 1)
    lines = [judge.change_sentence(row) for _, row in judge.changes(performance).iterrows()]
    assert lines[0].startswith("c: Dice fell by") and "a loss beyond the margin" in lines[1]
    row = fairness[(fairness.source == "unet") & (fairness.metric == "delta_dice")].iloc[0]
    assert "the gap grew" in " ".join(judge.sentences(row))
    _, fairness = study("segment", (0, 0, 0), 2)
    row = fairness[(fairness.source == "unet") & (fairness.metric == "delta_dice")].iloc[0]
    assert "there is no change that matters" in " ".join(judge.sentences(row))
