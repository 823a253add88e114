"""FATE and its parts against calculations by hand."""

import numpy as np
import pandas as pd
import pytest

from reconfair.fairness import fate


def rows(reader, scores, labels, groups):
    n = len(scores)
    names = [f"p{k:03d}" for k in range(n)]
    return pd.DataFrame(
        {"unit": names, "patient_id": names, "task": "t", "source": "original", "reader": reader}
        | {"label": labels, "score": scores, "group": groups}
    )


def hand(base, other):
    """Two readers of 40 patients: 10 of each label in each group; how many are right in (TPR a, TNR a, TPR b, TNR b)."""
    labels, groups = [1] * 10 + [0] * 10 + [1] * 10 + [0] * 10, ["a"] * 20 + ["b"] * 20
    parts = []
    for name, right in (("standard", base), ("other", other)):
        scores = []
        for k, number in enumerate(right):
            good, bad = (0.9, 0.1) if k % 2 == 0 else (0.1, 0.9)
            scores += [good] * number + [bad] * (10 - number)
        parts.append(rows(name, scores, labels, groups))
    return pd.concat(parts)


def compared(table, **how):
    group = table.drop_duplicates("patient_id").set_index("patient_id").group
    limits = {"t": dict.fromkeys(table.reader.unique(), 0.5)}
    found = fate.compare(table.drop(columns="group"), group, limits, **{"min_cases": 5, "resamples": 199} | how)
    return found.set_index(["task", "reader", "group", "metric"])


def test_fate_by_hand():
    # Baseline: TPR .9 and .4, TNR .8 and .8: accuracy 29/40, D_EO .5. Other: TPR .8, .6, TNR .8, .7: 29/40, D_EO .2.
    found = compared(hand((9, 8, 4, 8), (8, 8, 6, 7)))
    assert found.value["t", "standard", "all", "eodd_worst_case"] == pytest.approx(0.5)
    assert found.value["t", "other", "all", "eodd_worst_case"] == pytest.approx(0.2)
    assert found.value["t", "other", "all", "accuracy"] == pytest.approx(29 / 40)
    assert found.value["t", "other", "all", "fate_eo"] == pytest.approx(0 - (0.2 - 0.5) / 0.5)
    assert found.change["t", "other", "all", "eodd_worst_case"] == pytest.approx(-0.3)
    one = found.loc["average", "other", "all", "fate_eo"]
    assert one.value == pytest.approx(0.6) and one.low < 0.6 < one.high
    assert found.value["t", "other", "b", "tpr"] == pytest.approx(0.6)


def test_without_bias_there_is_nothing_to_reduce():
    found = compared(hand((8, 8, 8, 8), (9, 8, 7, 8)))
    row = found.loc["t", "other", "all", "fate_eo"]
    assert np.isnan(row.value) and row.note.startswith("no bias to reduce")
    expected = found.expected["t", "standard", "all", "eodd_worst_case"]
    assert 0.05 < expected < 0.3 and "average" not in found.index


def test_a_small_group_is_left_out_and_named():
    table = hand((9, 8, 4, 8), (8, 8, 6, 7))
    table.loc[table.unit == "p000", "group"] = "c"
    found = compared(table)
    assert (
        "c (0)" in found.note["t", "standard", "all", "eodd_worst_case"]
        and ("t", "other", "c", "tpr") not in found.index
    )


def test_thresholds_by_group_leave_auroc_as_it_was():
    table = hand((9, 8, 4, 8), (9, 8, 4, 8))
    moved = table[table.reader == "other"].assign(reader="standard+thresholds", score=0.5)
    moved["raw_score"] = table[table.reader == "standard"].score.to_numpy()
    found = compared(pd.concat([table, moved]))
    for metric in ("auroc", "auroc_gap"):
        values = [found.value["t", reader, "all", metric] for reader in ("standard", "standard+thresholds")]
        assert values[0] == values[1]
    assert found.value["t", "standard+thresholds", "all", "accuracy"] == 0.5


def test_an_unknown_baseline_is_named():
    with pytest.raises(ValueError, match=r"base.*'oversample@0'.*standard"):
        compared(hand((9, 8, 4, 8), (8, 8, 6, 7)), base="oversample@0")


@pytest.mark.parametrize("fewest", [11, 30])  # patients of each label that a group needs: group a has them, or none has
def test_where_fewer_than_two_groups_can_be_compared_there_is_no_disparity(fewest):
    table = hand((9, 8, 4, 8), (8, 8, 6, 7))
    more = rows("standard", [0.9, 0.1] * 5, [1, 0] * 5, ["a"] * 10)
    more = more.assign(unit="q" + more.unit, patient_id="q" + more.patient_id)
    judged = compared(pd.concat([table, more, more.assign(reader="other")]), min_cases=fewest)
    assert np.isfinite(judged.value["t", "other", "all", "accuracy"]) and np.isfinite(
        judged.value["t", "other", "all", "auroc"]
    )
    for metric in ("fate_eo", "fate_auc"):
        assert np.isnan(judged.value["t", "other", "all", metric])
        assert judged.note["t", "other", "all", metric] == fate.TOO_FEW
    assert np.isnan(judged.expected["t", "other", "all", "auroc_gap"])
    assert "b (10)" in judged.note["t", "other", "all", "auroc_gap"]
