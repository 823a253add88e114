"""What chapter 05 says about a table: the paper's and the slides' tables, sentences, and ``reconfair judge``."""

import numpy as np
import pandas as pd
import pytest

from reconfair import judge
from reconfair.fairness import INFERENCES, assess
from reconfair.fairness.threshold import balanced_threshold
from reconfair.run.judge import judge_file


def row(**changes):
    """A row of ``fairness``: EODD 0.20 on an original, 0.26 on a reconstruction."""
    columns = {"task": "grade", "source": "unet", "strategy": "standard", "reader": "standard", "attribute": "sex"}
    columns |= {
        "metric": "eodd",
        "value": 0.26,
        "low": 0.1,
        "high": 0.3,
        "expected": 0.03,
        "p": 0.001,
        "p_adjusted": 0.002,
    }
    columns |= {"worst": "female", "best": "male", "shift": 0.06, "shift_low": 0.01, "shift_high": 0.11, "bound": 0.11}
    columns |= {
        "shift_percent": 30.0,
        "p_shift": np.nan,
        "p_unequal_adjusted": 0.002,
        "verdict": "grew",
        "no_change": 0.0,
    }
    return columns | {"margin": 0.05, "left_out": "", "missing": 0, "note": ""} | changes


ORIGINAL = {"source": "original", "value": 0.2, "shift": np.nan, "shift_percent": np.nan, "verdict": "not judged"}


@pytest.mark.parametrize(
    ("changes", "cell"),
    [
        ({}, "0.260 grew"),
        ({"shift": -0.06, "verdict": "fell"}, "0.260 fell"),
        ({"verdict": "unequal"}, "0.260 unequal"),
        ({"verdict": "no change"}, "0.260 no change"),
        ({"verdict": "not shown"}, "0.260"),
        (ORIGINAL, "0.200"),
    ],
)
def test_a_cell_of_the_slides_holds_the_value_and_the_verdict(changes, cell):
    table = judge.by_attribute(pd.DataFrame([row(**changes)]), "sex")
    assert table.to_numpy().item() == cell


def test_a_table_of_the_slides_has_a_row_per_task_and_leaves_other_attributes_and_image_quality_out():
    rows = [row(**ORIGINAL), row(), row(task="type"), row(attribute="race"), row(task="image", metric="psnr_gap")]
    table = judge.by_attribute(pd.DataFrame(rows), "sex")
    assert list(table.index) == ["grade", "type"]
    assert list(table.columns) == [("original", "eodd"), ("unet", "eodd")]


def test_a_table_of_the_slides_is_empty_where_no_groups_are_compared():
    assert judge.by_attribute(pd.DataFrame([row(value=np.nan)]), "sex").style.to_html()


def test_tables_one_and_two_of_the_paper_are_medians_over_tasks():
    values = {"grade": (0.2, 10.0), "type": (0.4, -40.0), "survival": (0.3, 20.0)}
    rows = [row(**ORIGINAL | {"task": task, "value": value}) for task, (value, _) in values.items()]
    rows += [row(task=task, shift_percent=percent) for task, (_, percent) in values.items()]
    rows += [row(source="noisy", shift_percent=900.0), row(strategy="reweight", shift_percent=900.0)]
    assert judge.bias_on_originals(pd.DataFrame(rows)).loc["eodd", "sex"] == 0.3
    shifts = judge.shift_by_model(pd.DataFrame(rows))["eodd", "unet"]
    assert shifts.to_dict() == {"comparisons": 3, "median": 10, "absolute_median": 20}


def words(**changes) -> str:
    return " ".join(judge.sentences(pd.Series(row(**changes))))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (
            {},
            [
                "the gap grew: shift +0.060 (+0.010 to +0.110); the margin is 0.050",
                "TPR minus FPR is lowest for female",
            ],
        ),
        ({"metric": "ser"}, ["female is served worst and male best"]),
        ({"verdict": "unequal"}, ["changed unequally", "cannot be told", "+0.060 (+0.010 to +0.110)"]),
        (
            {"verdict": "no change", "bound": 0.04},
            ["No gap changed by more than 0.040 (95 % bound)", "margin is 0.050"],
        ),
        ({"verdict": "not shown"}, ["not shown", "supports only that no gap changed by more than 0.110"]),
        ({"metric": "ser"}, ["shift +6.0 % (+1.0 % to +11.0 %); the margin is 5.0 %"]),
        (
            {"left_out": "Other (3)", "missing": 7},
            ["Not compared", "patients of the rarer label: Other (3)", "without label or attribute: 7"],
        ),
        ({"shift": -0.00001, "verdict": "not shown"}, ["shift 0.000 ("]),
        ({"p": 1e-9}, ["p < 0.001"]),
    ],
)
def test_sentences_follow_the_verdict_and_name_margin_and_limits(changes, wanted):
    for text in wanted:
        assert text in words(**changes)


def test_no_change_of_dice_in_a_small_group_is_said_with_a_reservation():
    for metric, patients, verdict in (("ser", 399, "no change"), ("ser", 400, "no change"), ("eodd", 399, "no change")):
        text = words(metric=metric, n_smallest=patients, verdict=verdict, bound=0.04)
        assert ("can be missed" in text) == (metric == "ser" and patients < 400)


def test_only_a_verdict_is_a_claim():
    for verdict in ("not shown", "not judged"):
        text = words(verdict=verdict, p_adjusted=0.3)
        assert not any(claim in text for claim in ("the gap grew", "the gap fell", "unequally", "groups differ"))
        assert "no change that matters" not in text


def test_nothing_is_said_about_what_could_not_be_compared():
    nothing = dict.fromkeys(("value", "shift", "p"), np.nan)
    assert judge.sentences(pd.Series(row(**nothing))) == []


def test_a_bootstrap_is_reported_without_what_it_does_not_know_and_without_width_there_is_no_certainty():
    unknown = dict.fromkeys(("expected", "p", "p_adjusted", "bound", "p_unequal_adjusted"), np.nan)
    unknown |= {"verdict": "not judged", "p_shift": 0.004}
    text = words(**unknown, shift_low=-0.01, shift_high=0.13)
    assert "+0.060 (-0.010 to +0.130), p = 0.004" in text and "nan" not in text and "no verdict" in text
    assert "not certainty" in words(**unknown, shift_low=0.06, shift_high=0.06)
    assert "not certainty" in words(**unknown, low=0.26, high=0.26)
    assert [("above the gap itself" in words(**unknown, low=low)) for low in (0.1, 0.27)] == [False, True]


def group(**changes):
    """A row of ``performance``: women, whose TPR fell from 0.71 to 0.59."""
    columns = {"task": "grade", "source": "unet", "strategy": "standard", "reader": "standard", "attribute": "sex"}
    columns |= {"group": "female", "metric": "tpr", "value": 0.59, "change": -0.12, "change_low": -0.21, "n": 90}
    columns |= {"change_high": -0.03, "change_bound": -0.2, "margin": 0.05, "kept": 0.0, "verdict": "worse"}
    return columns | {"patients": 90, "positives": 54.0, "note": "", "compared": 1.0} | changes


def test_a_change_of_a_group_is_told_with_its_size_limits_cases_and_margin():
    def sentence(**changes):
        return judge.change_sentence(pd.Series(group(**changes)))

    assert (
        sentence() == "female: true positive rate fell by 0.120 (0.030 to 0.210) to 0.590; 54 positives; margin 0.050."
    )
    assert "rose by" in sentence(
        metric="fpr", change=0.12, change_low=0.03, change_high=0.21
    ) and "; 36 neg" in sentence(metric="fpr")
    assert "a loss beyond the margin of 0.050 is excluded" in sentence(
        verdict="kept", change_low=-0.04, change_high=0.02
    )
    assert "neither a change nor its absence is shown" in sentence(verdict="not shown")
    same = sentence(change=0.0, change_low=-0.07, change_high=0.07, verdict="not shown", note="no decision differed")
    assert "no decision differed; limits -0.070 to +0.070" in same
    nothing = sentence(change=np.nan, value=np.nan, note="cannot be judged (0 positive patients)")
    assert nothing == "female: true positive rate cannot be judged (0 positive patients)."
    kept = {"verdict": "kept", "change_low": -0.02, "change_high": 0.02}
    assert "a rise beyond the margin of 0.050 is excluded" in sentence(metric="fpr", **kept)
    beyond = kept | {"change_high": 0.06, "change_bound": 0.04}  # the two-sided limit lies beyond the margin
    assert "(-0.020 to +0.060)" in sentence(metric="fpr", **beyond) and "bound +0.040" in sentence(
        metric="fpr", **beyond
    )
    for patients in (judge.RARE - 1, judge.RARE):
        assert ("can be missed" in sentence(metric="dice", patients=patients, **kept)) == (patients < judge.RARE)
    assert "; 54 positives in a group of 9 patients; " in sentence(patients=9)
    few = sentence(verdict="not judged", compared=0.0, note="too few to compare (3 positive patients, 20 needed)")
    assert "not judged: too few to compare" in few


def test_only_compared_groups_can_be_named_and_the_surest_loss_comes_first():
    rows = [group(group="a", change_high=-0.01), group(group="b", compared=0.0, change=-1.0, change_high=-1.0), group()]
    rows += [
        group(group="c", metric="fpr", change=0.2, change_low=0.1, change_high=0.3),
        group(group="all", attribute="all"),
    ]
    assert judge.changes(pd.DataFrame(rows)).group.tolist() == ["c", "female", "a"]


def test_where_everybody_is_called_alike_there_is_no_percentage():
    rates = [group(attribute="all", metric=metric, value=value) for metric, value in (("tpr", 1.0), ("fpr", 1.0))]
    rates += [
        group(attribute="all", metric=metric, source="sde", value=1.0 - k) for k, metric in enumerate(("tpr", "fpr"))
    ]
    performance = pd.DataFrame(rates)
    alike = judge.called_alike(performance)
    assert alike.source.tolist() == ["unet"] and alike.called.tolist() == ["everybody"]
    fairness = judge.with_percentages(pd.DataFrame([row(shift_percent=-100.0), row(source="sde")]), performance)
    assert np.isnan(fairness.shift_percent[0]) and fairness.shift_percent[1] == 30


# --- anyone's scores ---


@pytest.fixture
def scores():
    """One row per patient and source: the other source's scores are those of another patient, at random."""
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"patient": [f"{k:03d}" for k in range(300)], "task": "grade"})
    people = people.assign(label=rng.integers(2, size=300), sex=rng.choice(["f", "m"], 300))
    people["site"] = np.where(people.index < 4, "rare", rng.choice(["here", "there"], 300))
    people["split"] = np.where(people.index % 3 == 0, "val", "test")
    score = (people.label + rng.normal(size=300)).rank(pct=True).round(4)
    return pd.concat([people.assign(source=source, score=s) for source, s in (("original", score), ("unet", score**2))])


def judged(table, folder, suffix=".csv", **options):
    path = folder / f"mine{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path, index=False)
    lines = judge_file(path, **options)
    out = options.get("out", folder / "mine_judged")
    return lines, *(pd.read_parquet(out / f"{name}.parquet") for name in ("performance", "fairness"))


def test_scores_are_judged_as_chapter_five_judges(scores, tmp_path):
    test, val = scores[scores.split == "test"], scores[(scores.split == "val") & (scores.source == "original")]
    threshold = balanced_threshold(score=val.score, label=val.label)
    rows = test.assign(patient_id=test.patient, unit=test.patient, kind="classify", strategy="standard", dice=np.nan)
    expected = assess(rows, rows, attributes=["sex", "site"], thresholds={"grade": threshold})
    lines, *found = judged(scores, tmp_path)
    for mine, theirs in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(mine, theirs[mine.columns], check_dtype=False)
    assert f"threshold {threshold:.3f}" in "\n".join(lines) and "judged: 400 rows of 200 patients" in lines[0]
    assert any("Not compared" in line and ": rare" in line for line in lines)
    csv = pd.read_csv(tmp_path / "mine_judged" / "fairness.csv")
    np.testing.assert_allclose(csv.value, found[1].value)


def test_a_spreadsheet_meets_no_formula_in_a_group(scores, tmp_path):
    scores["sex"] = scores.sex.replace({"f": "=1+1", "m": "@SUM(A1)"})
    table = judged(scores, tmp_path, attributes=["sex"])[1]
    csv = pd.read_csv(tmp_path / "mine_judged" / "performance.csv", keep_default_na=False)
    assert {"=1+1", "@SUM(A1)"} <= set(table.group) and {"'=1+1", "'@SUM(A1)"} <= set(csv.group)
    assert not csv.group.str.match("[=@]").any() and len(csv) == len(table)


def test_csv_and_parquet_say_the_same(scores, tmp_path):
    results = [judged(scores, tmp_path, suffix, attributes=["sex", "sex*site"]) for suffix in (".csv", ".parquet")]
    for name in (1, 2):
        pd.testing.assert_frame_equal(results[0][name], results[1][name])
    assert set(results[0][2].attribute) == {"sex", "sex*site"}


def test_a_given_threshold_wins_and_needs_no_validation_rows(scores, tmp_path):
    table = scores[scores.source == "original"].drop(columns=["split", "source", "task"])
    _, performance, _ = judged(table, tmp_path, thresholds={"mine": 0.6}, attributes=["sex"])
    tpr = performance.query("metric == 'tpr' and attribute == 'all'")
    assert tpr.value.item() == pytest.approx((table.score >= 0.6)[table.label == 1].mean())
    assert (tpr.task.item(), tpr.source.item(), tpr.patients.item()) == ("mine", "original", 300)


def test_a_validation_score_changes_the_threshold_and_is_not_judged(scores, tmp_path):
    val = scores.split == "val"
    lower = scores.assign(score=scores.score.where(~val, scores.score / 2))
    (_, before, _), (_, after, _) = judged(scores, tmp_path), judged(lower, tmp_path)
    metric = before.metric
    assert not (after.value < before.value)[metric.isin(["tpr", "fpr"])].any()
    assert (after.value > before.value)[metric == "fpr"].any()
    pd.testing.assert_frame_equal(before[metric == "auroc"], after[metric == "auroc"])


def test_each_reader_has_a_threshold_of_its_own(scores, tmp_path):
    """A reader whose scores are lower is judged beside another one as it is judged alone."""
    other = scores.assign(reader="B", score=scores.score / 2)
    alone = judged(other, tmp_path)[1]
    scores = scores.assign(reader="A")
    lines, both, _ = judged(pd.concat([scores, other]), tmp_path)
    found = both[both.reader == "B"].reset_index(drop=True)[["metric", "group", "value"]]
    pd.testing.assert_frame_equal(found, alone[["metric", "group", "value"]])
    assert any("original, B: " in line and "threshold 0.2" in line for line in lines)
    lacking = pd.concat([scores, other[other.split == "test"]])
    with pytest.raises(ValueError, match=r"'grade' of reader 'B'.*--threshold grade/B=0\.5"):
        judged(lacking, tmp_path)
    assert judged(lacking, tmp_path, thresholds={"grade/B": 0.25})[1].shape == both.shape


def test_folds_may_hold_other_tasks_and_name_what_they_lack(scores, tmp_path):
    original = scores[scores.source == "original"]
    folds = original.assign(fold=np.where(original.patient.str[-1] < "5", "1", "2"))
    second = folds[folds.fold == "2"].assign(task="type")
    both = pd.concat([folds, second])
    lines, *_ = judged(both, tmp_path, thresholds={"grade": 0.5, "type": 0.4})
    assert any("type, original" in line for line in lines)
    with pytest.raises(ValueError, match="no threshold for task 'grade' in fold 2"):
        judged(folds[(folds.fold == "1") | (folds.split == "test")], tmp_path)


@pytest.mark.parametrize("inference", ["closed_form", "bootstrap"])
def test_where_a_group_has_no_pair_within_a_fold_rates_are_judged_without_auroc(people, tmp_path, inference):
    """Each patient a fold of his own (leave one out), or a group whose labels lie in different folds."""
    score = (0.5 + 0.3 * (people.label - 0.5) + 0.1 * np.sin(np.arange(200))).round(3)
    options = {"thresholds": {"mine": 0.5}, "inference": inference}
    alone = judged(people.assign(score=score, fold=people.patient), tmp_path, **options)[2].set_index("metric")
    assert np.isfinite(alone.value[["eodd", "fpr_gap"]]).all() and np.isnan(alone.value["auroc_gap"])
    fold = np.where(people.sex == "m", people.label, np.arange(200) % 2)
    _, rows, gaps = judged(people.assign(score=score, fold=fold), tmp_path, **options)
    of = rows[(rows.metric == "auroc") & (rows.attribute == "sex")].set_index("group")
    plain = judged(people.assign(score=score), tmp_path, **options)[1]
    rates = [one[one.metric == "tpr"].value.tolist() for one in (rows, plain)]
    assert rates[0] == rates[1] and np.isfinite(of.value["f"]) and np.isnan(of.value["m"])
    assert "no fold has positives and negatives" in of.note["m"] and of.compared["m"] == 0
    gap = gaps.set_index("metric").loc["auroc_gap"]
    assert gap.left_out == "m (0)" and np.isnan(gap.value) and np.isfinite(gaps.set_index("metric").value["eodd"])


def test_several_rows_of_a_patient_without_a_unit_are_noted(people, tmp_path):
    table = people.assign(score=0.3 + 0.4 * people.label)
    lines, *_ = judged(pd.concat([table, table.head(3)]), tmp_path, thresholds={"mine": 0.5})
    assert any("3 patients have several rows" in line and "the 3 that repeat another row" in line for line in lines)


def test_folds_have_thresholds_and_scales_of_their_own(scores, tmp_path):
    number = scores.patient.astype(int) % 2 + 1
    folds = scores.assign(fold=number)
    bent = folds.assign(score=folds.score.where(number == 1, folds.score**3))
    (lines, before, _), (_, after, _) = judged(folds, tmp_path), judged(bent, tmp_path)
    ranked = before.metric.isin(["auroc", "tpr", "fpr"])
    pd.testing.assert_frame_equal(before[ranked], after[ranked])
    val = folds[(folds.split == "val") & (folds.source == "original")]
    cut = {fold: balanced_threshold(score=some.score, label=some.label) for fold, some in val.groupby("fold")}
    ill = folds[(folds.split == "test") & (folds.source == "original") & (folds.label == 1)]
    tpr = before.query("metric == 'tpr' and group == 'all' and source == 'original'").value.item()
    assert tpr == pytest.approx((ill.score >= ill.fold.map(cut)).mean()) and "threshold" not in "\n".join(lines[3:])
    both = folds.assign(split="test", fold=np.where(folds.source == "unet", 1, number))
    with pytest.raises(ValueError, match=r"patient.*more than one fold"):
        judged(both, tmp_path)


def test_masks_are_judged_by_their_dice(tmp_path):
    rng = np.random.default_rng(1)
    dice = pd.Series(rng.beta(8, 2, 120)).where(rng.random(120) < 0.9)
    table = pd.DataFrame({"patient": np.arange(120) // 2, "task": "tumour", "dice": dice})
    table["sex"] = np.where(table.patient % 2, "f", "m")
    lines, performance, fairness = judged(table, tmp_path)
    everyone = performance.query("attribute == 'all'").iloc[0]
    by_patient = dice.groupby(table.patient).mean()
    assert everyone.metric == "dice" and everyone.value == pytest.approx(by_patient.mean())
    assert {"ser", "delta_dice"} == set(fairness.metric) and "tumour, original: Dice 0." in "\n".join(lines)


def test_as_published_says_where_its_thresholds_come_from(scores, tmp_path):
    lines, *_ = judged(scores.drop(columns="split"), tmp_path, inference="as_published", attributes=["sex"])
    assert any(line.startswith("thresholds: chosen on the rows that are judged") for line in lines)


def test_it_is_printed_who_is_read_worse_and_the_same_parts_under_every_inference(scores, tmp_path):
    scores.loc[scores.patient.isin(["007", "008"]), "sex"] = None
    parts = {}
    for inference in INFERENCES:
        lines, performance, _ = judged(scores, tmp_path, inference=inference, attributes=["sex"])
        parts[inference] = [line for line in lines if line.endswith("?")]
        text = "\n".join(lines)
        assert "margin" in text and "nan" not in text and "without label or attribute: " in text
        assert "e+0" not in text and "-0.000" not in text
        if inference == "closed_form":
            worse = performance.query("verdict == 'worse' and metric == 'tpr' and group == 'm'").iloc[0]
            limits = f"fell by {-worse.change:.3f} ({-worse.change_high:.3f} to {-worse.change_low:.3f})"
            assert f"sex m: true positive rate {limits}" in text and f"; {worse.positives:.0f} positives" in text
    assert parts["closed_form"] == parts["bootstrap"] == parts["as_published"] and len(parts["bootstrap"]) == 3


# --- awkward tables ---


def judged_rows(people, change, folder, **options):
    """What is printed about one row a patient, read from the original and from a source whose scores are changed."""
    rng = np.random.default_rng(0)
    score = 1 / (1 + np.exp(-1.2 * people.label + 0.6 + rng.normal(size=len(people))))
    rows = [people.assign(source=source, score=s) for source, s in (("original", score), ("unet", change(score)))]
    return judged(pd.concat(rows), folder, thresholds={"mine": 0.5}, **options)


@pytest.fixture
def people():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"patient": np.arange(200), "label": rng.integers(2, size=200)})
    return table.assign(sex=rng.choice(["f", "m"], 200))


def test_a_gap_of_zero_where_everybody_is_called_positive_is_no_equality(people, tmp_path):
    lines, _, fairness = judged_rows(people, lambda score: score * 0 + 0.9, tmp_path)
    assert fairness.query("source == 'unet' and metric == 'eodd'").value.item() == 0
    where = next(k for k, line in enumerate(lines) if "not because groups are equal" in line)
    assert "everybody" in lines[where] and any("mine, unet, sex" in line for line in lines[where - 4 : where])
    assert sum("not because groups are equal" in line for line in lines) == 1


def test_a_group_of_three_has_its_plain_rate_and_one_that_borrows_and_no_claim(people, tmp_path):
    people["sex"] = np.where(people.patient < 3, "rare", people.sex)
    lines, performance, _ = judged_rows(people, lambda score: (score - 0.15).clip(0), tmp_path)
    row = performance.query("group == 'rare' and metric == 'fpr' and source == 'original'").iloc[0]
    (line,) = [line for line in lines if line.strip().startswith("rare: false positive rate")]
    assert f"{row.pooled:.3f} ({row.pooled_low:.3f} to {row.pooled_high:.3f})" in line and "too few" in line
    assert row.value in (0, 1 / 3, 1 / 2, 2 / 3, 1) and 0 < row.pooled < 1
    assert not any("sex rare:" in line for line in lines)


def test_identical_decisions_are_no_proof_that_nothing_changes(people, tmp_path):
    lines, _, fairness = judged_rows(people, lambda score: score, tmp_path)
    changes = [line for line in lines if "since no decision differed" in line]
    assert len(changes) == 6 and "neither a change nor its absence is shown" in changes[-1]
    row = fairness.query("source == 'unet' and metric == 'eodd'").iloc[0]
    assert row.bound > row.margin and any(f"no gap changed by more than {row.bound:.3f}" in line for line in lines)


def of_dice(before, after, folder):
    """What is printed about patients f, m, f, ..., whose Dice is given, and the tables."""
    people = pd.DataFrame({"patient": np.arange(len(before)), "sex": np.resize(["f", "m"], len(before))})
    rows = [people.assign(source=source, dice=dice) for source, dice in (("original", before), ("unet", after))]
    return judged(pd.concat(rows), folder)


@pytest.mark.parametrize("dice", [0.0, 1.0, None])
def test_identical_dice_is_no_proof_that_nothing_changes(dice, tmp_path):
    before = np.random.default_rng(0).beta(6, 2, 60) if dice is None else np.full(60, dice)
    lines, performance, fairness = of_dice(before, before, tmp_path)
    assert sum("no value differed" in line and "neither a change nor its" in line for line in lines) == 3
    rows = performance[performance.metric == "dice"]
    assert (rows.low < rows.high).all() and rows.low.min() >= 0 and rows.high.max() <= 1
    gaps = fairness[(fairness.source == "unet") & fairness.value.notna()]
    assert set(gaps.verdict) == {"not shown"} and (gaps.bound > gaps.margin).all()


def test_nothing_is_a_multiple_of_no_error(tmp_path):
    dice = np.where(np.arange(60) % 2, 1.0, np.random.default_rng(0).beta(6, 2, 60))
    lines, _, fairness = of_dice(dice, dice * 0.9, tmp_path)
    first = fairness[(fairness.metric == "ser") & (fairness.source == "original")].iloc[0]
    assert np.isnan(first.value) and "mean error of m is 0" in first.note
    assert any("mean error of m is 0" in line for line in lines) and not any(" shift " in line for line in lines)


def test_patients_without_dice_in_one_source_are_counted(tmp_path):
    dice = np.random.default_rng(0).beta(6, 2, 60)
    lines, *_ = of_dice(np.where(np.arange(60) < 7, np.nan, dice), dice, tmp_path)
    assert sum("mine: 7 of 60 patients are left out" in line for line in lines) == 1


def test_an_arm_without_an_original_by_its_reader_is_named(scores, tmp_path):
    other = scores[scores.source == "unet"].assign(reader="dro")
    lines, *_ = judged(pd.concat([scores.assign(reader="standard"), other]), tmp_path, thresholds={"grade/dro": 0.5})
    assert (
        [line for line in lines if "no original" in line]
        == [line for line in lines if "unet, dro: no or" in line]
        != []
    )


def test_a_share_of_missing_attributes_is_told_where_it_is_large(people, tmp_path):
    people["site"] = np.where(people.patient % 2, "here", "there")
    people.loc[people.patient < 60, "sex"] = None
    people.loc[people.patient < 10, "site"] = None
    lines, *_ = judged_rows(people, lambda score: score, tmp_path)
    (line,) = [line for line in lines if "missing_attribute" in line]
    assert "sex is missing in 60 of 200 rows (30 %)" in line


def test_many_images_of_few_patients_are_not_counted_as_patients(people, tmp_path):
    people = people.loc[people.index.repeat(np.where(people.sex == "f", 1, 10))].reset_index(drop=True)
    people["unit"] = people.index
    lines, performance, _ = judged_rows(people, lambda score: (score - 0.1).clip(0), tmp_path)
    row = performance.query("group == 'm' and metric == 'tpr' and source == 'unet'").iloc[0]
    assert any(f"{row.positives:.0f} positives in a group of {row.patients} patients" in line for line in lines)
    assert row.positives > row.patients


def test_ser_of_small_groups_is_printed_with_its_known_failure(tmp_path):
    rng = np.random.default_rng(2)
    for patients, wanted in ((44, True), (80, False)):
        table = pd.DataFrame({"patient": np.arange(patients), "sex": ["f", "m"] * (patients // 2)})
        table = pd.concat([table.assign(source=name, dice=rng.beta(9, 1, patients)) for name in ("original", "unet")])
        lines, *_ = judged(table, tmp_path)
        assert any("fewer than 30 patients" in line for line in lines) == wanted


def test_a_bootstrap_interval_away_from_zero_is_not_presented_as_a_difference(people, tmp_path):
    lines, *_ = judged_rows(people, lambda score: score, tmp_path, inference="bootstrap")
    eodd = [line for line in lines if line.strip().startswith("EODD")]
    assert len(eodd) == 2 and all("cannot show that groups differ" in line for line in eodd)


# --- tables that are refused ---


def changed(column, row, value):
    def change(table):
        table = table.assign(**{column: table.get(column)}).reset_index(drop=True).astype({column: object})
        table.loc[row - 1, column] = value
        return table

    return change


# A change to the table, and what the error names: file, row or column, value, and the nearest valid choice.
WRONG = {
    "column": (lambda t: t.rename(columns={"patient": "patients"}), ["'patient'", "did you mean 'patients'?"]),
    "label column": (lambda t: t.rename(columns={"label": "labels"}), ["'label'", "did you mean 'labels'?"]),
    "neither": (lambda t: t.rename(columns={"score": "scores"}), ["'score'", "did you mean 'scores'?"]),
    "text": (changed("score", 7, "high"), ["row 8", "score", "'high'", "from 0 to 1"]),
    "logit": (changed("score", 3, 1.7), ["row 4", "score", "'1.7'", "from 0 to 1"]),
    "no score": (changed("score", 5, None), ["row 6", "score", "''"]),
    "uncertain": (changed("label", 2, -1), ["row 3", "label", "'-1'", "0, 1"]),
    "label in words": (lambda t: t.assign(label=t.label.map({0: "no", 1: "yes"})), ["'label'", "'yes' (", "0, 1"]),
    "nobody": (changed("patient", 4, None), ["row 5", "patient", "''"]),
    "split": (changed("split", 9, "valid"), ["row 10", "split", "'valid'", "train, val or test"]),
    "leak": (changed("split", 1, "test"), ["'000'", "split"]),
    "two groups": (changed("sex", 302, "x"), ["'001'", "sex"]),
    "ages": (lambda t: t.assign(age=t.patient), ["'age'", "300", "20"]),
    "units": (lambda t: t.drop(columns="split").assign(patient=t.patient.str[:2]), ["patient", "'00'", "'unit'"]),
    "other units": (changed("patient", 302, "new"), ["1 units"]),
    "no validation": (lambda t: t[t.split == "test"], ["'grade'", "--threshold grade=0.5"]),
    "one label": (lambda t: t[(t.split == "test") | (t.label == 1)], ["'grade'", "threshold"]),
    "no original": (lambda t: t[t.source == "unet"], ["'grade'", "threshold"]),
    "two patients": (lambda t: t.assign(patient_id=range(len(t))), ["'patient'", "'patient_id'"]),
    "a trait called class": (lambda t: t.assign(**{"class": "I"}), ["'class'", "'decision'"]),
    "a trait called kind": (lambda t: t.assign(kind="a"), ["'kind'", "'a'"]),
    "no score at all": (lambda t: t.assign(score=""), ["'score'", "'dice'"]),
    "none judged": (lambda t: t[t.split == "val"], ["'test'", "split"]),
    "leading zeros": (changed("patient", 302, "1"), ["'001' and '1'", "leading zeros"]),
    "a trait called all": (lambda t: t.assign(all=t.sex), ["'all'", "everyone"]),
    "nothing known": (lambda t: t.assign(sex=""), ["'sex'", "no entry is known"]),
    "a class without a name": (lambda t: t.assign(score_=0.5), ["'score_'", "score_mel"]),
    "units by patient": (lambda t: t.assign(unit=1), ["row 3", "'unit'", "several patients"]),
    **{
        f"synthetic {word}": (
            changed("synthetic", 6, word),
            ["row 7", "synthetic", f"'{word}'", "false, 0, no or empty"],
        )
        for word in ("True", "y", "t", "synthetic", "x", "2", "1.0", "unknown")
    },
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_table_is_refused_with_its_row_or_column(scores, tmp_path, change, words):
    with pytest.raises(ValueError) as error:
        judged(change(scores), tmp_path)
    assert all(word in str(error.value) for word in ["mine.csv", *words]), str(error.value)
    assert not (tmp_path / "mine_judged").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attributes": ["sx"]}, ["'sx'", "did you mean 'sex'?"]),
        ({"attributes": ["sex*sight"]}, ["'sight'", "did you mean 'site'?"]),
        ({"attributes": ["label"]}, ["'label'", "sex, site"]),
        ({"thresholds": {"grad": 0.5}}, ["'grad'", "did you mean 'grade'?"]),
        ({"attributes": ["sex*sex"]}, ["'sex*sex'", "twice"]),
        ({"min_cases": 0}, ["min_cases", "2", "0"]),
    ],
)
def test_a_wrong_choice_is_refused_with_the_nearest(scores, tmp_path, options, words):
    with pytest.raises(ValueError) as error:
        judged(scores, tmp_path, **options)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_labels_of_pandas_and_numbers_of_rows_change_nothing(scores, tmp_path):
    plain = judged(scores, tmp_path)[1]
    numbered = scores.assign(label=scores.label.astype(bool)).reset_index(drop=True).rename_axis("Unnamed: 0")
    lines, again, _ = judged(numbered.reset_index(), tmp_path)
    pd.testing.assert_frame_equal(again, plain)
    assert "1 columns without a name are left out" in lines


def test_words_of_sex_are_one_group_whatever_their_column_is_called(scores, tmp_path):
    words = scores.sex.where(scores.patient < "150", scores.sex.map({"f": "Female", "m": "male"}))
    _, performance, _ = judged(scores.drop(columns="sex").assign(gender=words), tmp_path)
    assert set(performance.group[performance.attribute == "gender"]) == {"female", "male"}


def test_two_classes_have_no_order(scores, tmp_path):
    scores.to_csv(tmp_path / "ill.csv", index=False)
    with pytest.raises(ValueError, match=r"ordinal.*'ill'.*none"):
        judge_file(tmp_path / "ill.csv", ordinal=["ill"])


def test_a_table_without_attributes_is_refused(scores, tmp_path):
    with pytest.raises(ValueError, match="'sex'"):
        judged(scores.drop(columns=["sex", "site"]), tmp_path)


@pytest.mark.parametrize("text", ["patient,label,score,sex\n", "patient;label;score;sex\r\n;;;\r\n", ""])
def test_a_table_without_rows_is_refused_by_name(tmp_path, text):
    (tmp_path / "mine.csv").write_text(text, newline="")
    with pytest.raises(ValueError, match=r"mine\.csv: .*(no rows|empty)"):
        judge_file(tmp_path / "mine.csv")
    assert not (tmp_path / "mine_judged").exists()


def test_a_file_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    (tmp_path / "predictions.csv").write_text("patient\n")
    with pytest.raises(ValueError, match=r"predictons\.csv: .*did you mean 'predictions\.csv'"):
        judge_file(tmp_path / "predictons.csv")
    (tmp_path / "scores.xlsx").write_text("")
    with pytest.raises(ValueError, match=r"scores\.xlsx: .*CSV.*Parquet"):
        judge_file(tmp_path / "scores.xlsx")


def test_levelling_down_is_told_from_raising_the_worse_group():
    def rows(strategy, female, male):
        values = {"female": female, "male": male}
        return [
            {"task": "grade", "metric": "auroc", "attribute": "sex", "source": "unet", "strategy": strategy}
            | {"group": group, "value": value, "reader": "standard", "compared": 1.0}
            for group, value in values.items()
        ]

    table = pd.DataFrame(rows("standard", 0.7, 0.9) + rows("eodd", 0.8, 0.9) + rows("adv", 0.7, 0.75))
    small = [row | {"group": "unknown", "value": 0.0, "compared": 0.0} for row in rows("standard", 0.0, 0.0)[:1]]
    table = pd.concat([table, pd.DataFrame(small)])
    found = judge.moved(table).droplevel(["task", "metric", "attribute", "source", "reader"])
    assert found.levelled_down.to_dict() == {"eodd": False, "adv": True}
    assert found.loc["adv"].drop("levelled_down").tolist() == ["female", "male", 0.2, -0.15, 0, -0.15]


def test_our_own_predictions_are_read_with_the_cohort_beside_them(scores, tmp_path):
    own = scores.rename(columns={"patient": "patient_id"}).assign(kind="classify", dice=np.nan)
    people = own[["patient_id", "sex"]].drop_duplicates().assign(split="test")
    own.drop(columns=["sex", "site"]).to_csv(tmp_path / "predictions.csv", index=False)
    people.to_csv(tmp_path / "cohort.csv", index=False)
    lines = judge_file(tmp_path / "predictions.csv", inference="bootstrap")
    assert any("sex" in line and "cohort.csv" in line for line in lines)
    fairness = pd.read_csv(tmp_path / "predictions_judged" / "fairness.csv")
    assert set(fairness.attribute) == {"sex"}
    # An entry that is known counts, wherever it stands; two that differ, and a file of other patients, are refused.
    pd.concat([people.assign(sex=""), people]).to_csv(tmp_path / "cohort.csv", index=False)
    assert judge_file(tmp_path / "predictions.csv", inference="bootstrap")[1:] == lines[1:]
    people[:-1].to_csv(tmp_path / "cohort.csv", index=False)
    assert any("1 patients are not in cohort.csv" in line for line in judge_file(tmp_path / "predictions.csv"))
    for wrong, words in (
        (pd.concat([people, people.assign(sex="x")]), "column 'sex'.*not the same in all rows of its patient"),
        (people.assign(patient_id="p" + people.patient_id), r"no patient is in cohort\.csv"),
    ):
        wrong.to_csv(tmp_path / "cohort.csv", index=False)
        with pytest.raises(ValueError, match=words):
            judge_file(tmp_path / "predictions.csv")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_entries_are_read_as_in_every_other_door(scores, tmp_path, mark):
    """Blanks and upper case part no patients and no groups, and a float of 32 bits is what it is meant to be."""
    messy = scores.astype({"patient": object, "sex": object})
    messy.loc[::7, "patient"] += " "
    messy.loc[::5, "sex"] = messy.loc[::5, "sex"].str.title() + " "
    scores.to_csv(tmp_path / "clean.csv", index=False)
    messy.to_csv(tmp_path / "messy.csv", index=False, sep=mark)
    tables = []
    for name in ("clean", "messy"):
        judge_file(tmp_path / f"{name}.csv", attributes=["sex"], thresholds={"grade": 0.5})
        tables.append(pd.read_parquet(tmp_path / f"{name}_judged" / "fairness.parquet"))
    numbers = ["value", "low", "high", "shift", "missing"]
    pd.testing.assert_frame_equal(tables[0][numbers], tables[1][numbers])


@pytest.fixture
def of_classes():
    """Scores of three classes on originals and on a reconstruction that fails for men."""
    rng, n = np.random.default_rng(4), 240
    label, sex = rng.integers(0, 3, n), rng.choice(["female", "male"], n)
    tables = []
    for source, strength in (("original", 2.0), ("unet", np.where(sex == "male", 0.3, 2.0))):
        logits = rng.normal(size=(n, 3))
        logits[np.arange(n), label] += strength
        scores = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).round(4)
        table = pd.DataFrame(scores, columns=["score_nv", "score_mel", "score_bcc"])
        tables.append(
            table.assign(patient=np.arange(n), source=source, label=np.array(["nv", "mel", "bcc"])[label], sex=sex)
        )
    return pd.concat(tables, ignore_index=True)


def test_several_classes_have_a_column_of_scores_each(of_classes, tmp_path):
    path = tmp_path / "dx.csv"
    of_classes.to_csv(path, index=False)
    lines = judge_file(path, out=tmp_path / "out")
    performance, fairness = (
        pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("performance", "fairness")
    )
    assert set(performance.task) == {"dx", "dx: nv", "dx: mel", "dx: bcc"}
    scores = of_classes[of_classes.source == "unet"]
    right = scores[["score_nv", "score_mel", "score_bcc"]].idxmax(axis=1).str[6:] == scores.label
    rows = performance[(performance.task == "dx") & (performance.metric == "accuracy") & (performance.source == "unet")]
    values = rows.set_index("group").value
    assert values["male"] == pytest.approx(right[scores.sex == "male"].mean())
    whole = fairness[(fairness.task == "dx") & (fairness.source == "unet")].set_index("metric")
    assert whole.verdict["accuracy_gap"] == "grew" and "kappa_gap" not in whole.index
    assert any("dx: mel, unet" in line for line in lines)
    lines = judge_file(path, out=tmp_path / "out", ordinal=["dx"])
    assert "kappa" in set(pd.read_parquet(tmp_path / "out/performance.parquet").metric)
    assert any("'dx'" in line and "nv, mel, bcc" in line for line in lines)  # the order on which kappa depends
    with pytest.raises(ValueError, match=r"ordinal.*'dxx'.*dx"):
        judge_file(path, out=tmp_path / "out", ordinal=["dxx"])


def test_a_class_may_be_called_none_or_by_a_number(of_classes, tmp_path):
    lines, values = {}, []
    for name, words in {"as": ("nv", "mel", "bcc"), "none": ("None", "mel", "bcc"), "number": ("0", "1", "2")}.items():
        table = of_classes.rename(
            columns={f"score_{old}": f"score_{new}" for old, new in zip(("nv", "mel", "bcc"), words, strict=True)}
        )
        table["label"] = table.label.map(
            dict(
                zip(
                    ("nv", "mel", "bcc"),
                    ("none" if w == "None" else f"{w}.0" if w.isdigit() else w for w in words),
                    strict=True,
                )
            )
        )
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        lines[name] = judge_file(tmp_path / f"{name}.csv", out=tmp_path / name)
        table = pd.read_parquet(tmp_path / name / "performance.parquet")
        values.append(table[(table.task == name)].value.to_numpy())
    assert np.array_equal(values[0], values[1], equal_nan=True) and np.array_equal(values[0], values[2], equal_nan=True)
    assert not any("unknown" in line for each in lines.values() for line in each)


def test_equal_scores_are_decided_by_the_name_of_the_class_not_by_its_column(of_classes, tmp_path):
    votes = of_classes.copy()
    votes[["score_nv", "score_mel", "score_bcc"]] = [0.5, 0.5, 0.0]
    votes.loc[::3, ["score_nv", "score_mel", "score_bcc"]] = [0.0, 0.0, 1.0]
    tables = []
    for name, columns in (("dx", list(votes)), ("xd", list(votes)[::-1])):
        votes[columns].assign(task="dx").to_csv(tmp_path / f"{name}.csv", index=False)
        lines = judge_file(tmp_path / f"{name}.csv", out=tmp_path / name)
        assert any("320 rows have several classes with the largest score" in line for line in lines)
        tables.append(
            pd.read_parquet(tmp_path / name / "performance.parquet").sort_values(["task", "source", "group", "metric"])
        )
    pd.testing.assert_series_equal(*(table.value.reset_index(drop=True) for table in tables))
    called = tables[0][(tables[0].task == "dx: nv") & (tables[0].metric == "tpr")]
    assert (called.value == 0).all()  # mel is the first by name


@pytest.mark.parametrize("name", ["Split", "FOLD", "Unit", "Source", "Reader", "Decision"])
def test_a_column_of_ours_in_another_case_is_no_trait(of_classes, tmp_path, name):
    of_classes.assign(**{name: "a"}).to_csv(tmp_path / "dx.csv", index=False)
    with pytest.raises(ValueError, match=rf"column '{name}' is written '{name.lower()}'"):
        judge_file(tmp_path / "dx.csv")


def percent(rows):
    return rows.assign(**{f"score_{key}": rows[f"score_{key}"] * 100 for key in ("nv", "mel", "bcc")})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.assign(label=rows.label.replace("mel", "mell")), ["label", "mell", "'mel'"]),
        (lambda rows: rows.assign(score_mel=rows.score_mel / 2), ["row 3", "score_nv", "sum to", "expected 1"]),
        (lambda rows: rows.assign(score_bcc=rows.score_bcc.where(rows.index != 3)), ["row 5", "score_bcc"]),
        (lambda rows: rows.drop(columns=["score_mel", "score_bcc"]), ["score_nv", "alone"]),
        (lambda rows: rows.drop(columns="label").assign(lable=1), ["'label'", "lable"]),
        (lambda rows: rows.assign(synthetic=True), ["row 2", "synthetic", "'True'", "false, 0, no or empty"]),
        (lambda rows: rows.assign(Synthetic="y"), ["row 2", "Synthetic", "'y'", "false, 0, no or empty"]),
        (lambda rows: rows.assign(score=0.5), ["'score'", "score_nv", "leave it out"]),
        (lambda rows: rows.assign(dice=0.5), ["'dice'", "score_nv", "leave it out"]),
        (percent, ["row 2", "from 0 to 1", "divide percentages by 100", "479 more"]),
        (lambda rows: rows.assign(score_bcc=rows.score_bcc - 2), ["row 2", "score_bcc", "from 0 to 1"]),
        (lambda rows: rows.astype(object).assign(score_bcc="high"), ["row 2", "score_bcc", "'high'"]),
    ],
)
def test_a_wrong_table_of_classes_is_refused_with_its_column(of_classes, tmp_path, change, words):
    change(of_classes).to_csv(tmp_path / "dx.csv", index=False)
    with pytest.raises(ValueError) as error:
        judge_file(tmp_path / "dx.csv")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)  # one sentence


@pytest.mark.parametrize("task", ["dx", "dx: mel"])
def test_a_threshold_of_several_classes_or_of_dice_is_refused_with_its_reason(of_classes, tmp_path, task):
    of_classes.to_csv(tmp_path / "dx.csv", index=False)
    with pytest.raises(ValueError, match=f"threshold of '{task}'.*largest score.*leave out"):
        judge_file(tmp_path / "dx.csv", thresholds={task: 0.5})
    table = of_classes[["patient", "source", "sex"]].assign(dice=0.5)
    table.to_csv(tmp_path / "dx.csv", index=False)
    with pytest.raises(ValueError, match=r"threshold of 'dx'.*Dice"):
        judge_file(tmp_path / "dx.csv", thresholds={"dx": 0.5})


def test_a_trait_may_be_called_as_a_score_is_and_what_is_known_to_be_real_is_judged(scores, tmp_path):
    words = np.resize(["false", "0", "No", ""], len(scores))
    _, performance, _ = judged(scores.assign(score_ecog=scores.sex, synthetic=words), tmp_path)
    assert {*performance.attribute} == {"all", "sex", "site", "score_ecog"}


def test_a_class_that_no_row_has_is_counted(of_classes, tmp_path):
    of_classes[of_classes.label != "bcc"].to_csv(tmp_path / "dx.csv", index=False)
    lines = judge_file(tmp_path / "dx.csv")
    assert any("'bcc'" in line and "cannot be judged" in line for line in lines)


def test_a_source_without_originals_is_said_and_upper_case_is_no_other_word(tmp_path):
    lines = ["patient,source,label,score,sex"]
    for k in range(100):
        lines += [
            f"{k},Original,{k % 2},0.{30 + k % 40},{'fm'[k // 50]}",
            f"{k},AI,{k % 2},0.{20 + k % 60},{'fm'[k // 50]}",
        ]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(lines))
    said = "\n".join(judge_file(path, thresholds={"scores": 0.5}))
    assert "no row has the source" not in said and "There is nothing to compare" not in said
    path.write_text("\n".join(lines).replace("Original", "raw"))
    said = "\n".join(judge_file(path, thresholds={"scores": 0.5}))
    assert "no row has the source 'original' (there is: raw, AI)" in said


def test_words_of_sex_are_one_group_where_a_table_has_several_and_an_empty_entry_is_filled(tmp_path):
    path, out, lines = tmp_path / "scores.csv", tmp_path / "out", ["patient,unit,sex,label,score"]
    for k, (first, second) in enumerate([("f", ""), ("female", "F"), ("m", "m"), ("male", "male")] * 20):
        lines += [f"{k},{k}a,{first},{k // 4 % 2},0.7", f"{k},{k}b,{second},{k // 4 % 2},0.3"]
    path.write_text("\n".join(lines))
    said = "\n".join(judge_file(path, thresholds={"scores": 0.5}, min_cases=5, out=out))
    assert "f, female, m, male" in said.replace("F, ", "") and "20 empty entries" in said
    groups = pd.read_csv(out / "performance.csv").query("attribute == 'sex'").group
    assert set(groups) == {"female", "male"}
