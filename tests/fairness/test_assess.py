"""The tables against hand-computed cohorts and a simulator with closed-form rates."""

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from scipy.stats import norm

from reconfair.fairness import INFERENCES, MARGINS, PRIMARY, assess, metrics
from reconfair.params import GAPS, MEASURES, Fairness
from reconfair.tables import SCHEMAS

SEPARATION = {"female": 1.2, "male": 2.0}  # distance of the two labels, in standard deviations
CUT = 0.8


def cohort(patients, seed=0, images=1):
    rng = np.random.default_rng(seed)
    people = pd.DataFrame(
        {
            "patient_id": [f"p{k:05d}" for k in range(patients)],
            "sex": rng.choice(["female", "male"], patients),
            "age_group": rng.choice(["younger", "older"], patients),
        }
    )
    table = people.loc[people.index.repeat(images)].reset_index(drop=True)
    return table.assign(image_id=[f"i{k:05d}" for k in range(len(table))])


def binormal(people, source="original", strategy="standard", lost=0.0, seed=0):
    """Scores N(0, 1) and N(separation - lost, 1) by label, on the scale of probabilities."""
    rng = np.random.default_rng([seed, 7])
    label = (rng.random(len(people)) < 0.4).astype(float)
    shifted = label * (people["sex"].map(SEPARATION).to_numpy() - lost * (people["sex"] == "female").to_numpy())
    return pd.DataFrame(
        {
            "unit": people["image_id"],
            "patient_id": people["patient_id"],
            "task": "grade",
            "kind": "classify",
            "source": source,
            "strategy": strategy,
            "label": label,
            "score": norm.cdf(shifted + rng.normal(size=len(people))),
            "dice": np.nan,
        }
    )


def judge(predictions, people, **options):
    options = {"attributes": ("sex", "age_group"), "thresholds": {"grade": norm.cdf(CUT)}, "resamples": 200} | options
    return assess(predictions, people, **options)


every_inference = pytest.mark.parametrize("inference", INFERENCES)


def pick(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def segmentation(dice, patients, source="original"):
    frame = {"unit": [f"u{k}" for k in range(len(dice))], "patient_id": patients, "task": "tumour", "kind": "segment"}
    return pd.DataFrame(
        frame | {"source": source, "strategy": "standard", "label": np.nan, "score": np.nan, "dice": dice}
    )


@pytest.mark.parametrize("inference", ["closed_form", "bootstrap"])
def test_rates_and_disparities_of_a_binormal_simulator_lie_in_the_intervals(inference):
    people = cohort(4000)
    both = pd.concat([binormal(people), binormal(people, "unet", lost=0.6)])
    performance, fairness = judge(both, people, resamples=1000, inference=inference)
    for sex, separation in SEPARATION.items():
        truths = {"tpr": norm.sf(CUT - separation), "fpr": norm.sf(CUT), "auroc": norm.cdf(separation / np.sqrt(2))}
        for metric, truth in truths.items():
            row = pick(performance, source="original", group=sex, metric=metric)
            assert row.low < truth < row.high
    before = norm.sf(CUT - 2.0) - norm.sf(CUT - 1.2)
    after = norm.sf(CUT - 2.0) - norm.sf(CUT - 0.6)
    for source, gap in {"original": before, "unet": after}.items():
        row = pick(fairness, source=source, attribute="sex", metric="eop")
        assert row.low < gap < row.high
        row = pick(fairness, source=source, attribute="sex", metric="eodd")
        assert row.low < gap / 2 < row.high  # FPR is the same in both groups
    row = pick(fairness, source="unet", attribute="sex", metric="eop")
    assert row.shift_low < after - before < row.shift_high
    if inference == "closed_form":
        assert row.p_unequal < 1e-6 and row.p_swap == pytest.approx(1 / 1001) and row.verdict == "grew"
    else:
        assert row.p_shift == pytest.approx(2 / 1001) and row.verdict == "not judged"
    assert row.shift_percent == pytest.approx(100 * row["shift"] / (row.value - row["shift"]))


def test_standard_error_of_a_rate_is_the_closed_form():
    people = cohort(2000)
    performance, _ = judge(binormal(people), people, resamples=2000)
    row = pick(performance, group="all", metric="tpr")
    assert row.se == pytest.approx(np.sqrt(row.value * (1 - row.value) / row.positives), rel=0.06)
    assert (row.n, row.patients, row.missing) == (2000, 2000, 0)


@pytest.mark.parametrize("inference", ["closed_form", "bootstrap"])
def test_more_images_of_the_same_patients_do_not_add_certainty(inference):
    people, one = cohort(300, images=3), cohort(300)
    single = binormal(one)
    tripled = single.loc[single.index.repeat(3)].assign(unit=people["image_id"].to_numpy())
    numbers = ["value", "low", "high", "se"]
    few, many = (judge(*both, inference=inference) for both in ((single, one), (tripled, people)))
    for once, thrice in zip(few, many, strict=True):
        assert_frame_equal(once[numbers], thrice[numbers], rtol=0.02, atol=0.01)


@every_inference
def test_a_source_that_is_the_original_has_no_shift(inference):
    people = cohort(300)
    original = binormal(people)
    both = pd.concat([original, original.assign(source="unet")])
    performance, fairness = judge(both, people, inference=inference)
    shifts = fairness[fairness.source == "unet"]
    assert np.allclose(shifts["shift"], 0, atol=1e-12)
    tests = ["p_unequal", "p_swap"] if inference == "closed_form" else ["p_shift"]
    assert (shifts[tests].dropna() == 1).all(axis=None)
    assert fairness[fairness.source == "original"][["shift", *tests]].isna().all(axis=None)
    if inference == "closed_form":
        rates = shifts[shifts.metric.isin(["eodd", "eop", "fpr_gap"])]
        assert (rates.shift_low < 0).all() and (rates.shift_high > 0).all() and (rates.bound > 0).all()
        rows = performance[(performance.source == "unet") & performance.metric.isin(["tpr", "fpr"])]
        assert rows.note.str.contains("no decision differed").all()
        assert (rows.change_low < 0).all() and (rows.change_high > 0).all()


@every_inference
def test_order_of_rows_does_not_matter(inference):
    people = cohort(200, images=2)
    rows = pd.concat([binormal(people), binormal(people, "unet", lost=0.5, seed=0)])
    shuffled = rows.sample(frac=1, random_state=0), people.sample(frac=1, random_state=1)
    first, second = (judge(*both, inference=inference) for both in ((rows, people), shuffled))
    for once, again in zip(first, second, strict=True):
        assert_frame_equal(once, again, check_exact=True)


def test_a_score_at_the_threshold_is_called_positive():
    people = cohort(40)
    performance, _ = judge(binormal(people).assign(score=0.5), people, thresholds={"grade": 0.5})
    assert set(performance[performance.metric.isin(["tpr", "fpr"])].value) == {1}


def test_seed_changes_the_intervals_only():
    people = cohort(200)
    (one, _), (two, _) = judge(binormal(people), people), judge(binormal(people), people, seed=1)
    drawn = one.metric == "auprc"
    assert_frame_equal(one[["value", "n"]], two[["value", "n"]])
    assert (one.se[drawn] != two.se[drawn]).all() and (one.se[~drawn] == two.se[~drawn]).all()


def test_small_groups_are_left_out_and_listed_with_their_rarer_label():
    people = cohort(400)
    rows = binormal(people)
    label = rows["label"].to_numpy()
    race = np.where(np.arange(400) % 2, "White", "Asian").astype(object)
    race[np.flatnonzero(label == 1)[:3]] = "Black"
    race[np.flatnonzero(label == 0)[:30]] = "Black"
    rows.loc[race == "Black", "score"] = 0.0  # no case found: the largest gap by far
    people["race"] = race
    options = {"attributes": ["race"], "resamples": 99}
    _, fairness = judge(rows, people, **options)
    row = pick(fairness, metric="eodd")
    white, asian = (rows[race == name] for name in ("White", "Asian"))
    rates = [[(group.score[group.label == y] >= norm.cdf(CUT)).mean() for group in (white, asian)] for y in (0.0, 1.0)]
    assert row.value == pytest.approx(np.abs(np.diff(rates)).mean())
    assert (row.groups, row.left_out) == ("Asian; White", "Black (3)")
    assert row.n_smallest == min((group.label == y).sum() for group in (white, asian) for y in (0, 1))
    _, everyone = judge(rows, people, min_cases=3, **options)
    assert pick(everyone, metric="eop").groups == "Asian; Black; White"
    assert pick(everyone, metric="eop").value > 0.5
    fpr = pick(fairness, metric="fpr_gap")  # needs no patient with label 1
    assert (fpr.groups, fpr.left_out) == ("Asian; Black; White", "")


def test_fewer_than_two_groups_keep_their_row_and_say_why():
    people = cohort(60)
    people["sex"] = ["male"] * 59 + ["female"]
    performance, fairness = judge(binormal(people), people, attributes=["sex"])
    row = pick(fairness, metric="eodd")
    assert np.isnan(row.value) and np.isnan(row.low) and row.verdict == "not judged"
    assert (row.left_out, row.note) == ("female (0)", "fewer than two groups have enough cases")
    label = binormal(people).label.iloc[-1]
    lacking = ("tpr", "positives") if label == 0 else ("fpr", "negatives")
    lonely = pick(performance, group="female", metric=lacking[0])
    assert np.isnan(lonely.value) and lonely.note.startswith(f"cannot be judged (0 {lacking[1]})")
    assert not performance.value[performance.group == "male"].isna().any()


def test_an_attribute_nobody_has_is_compared_for_nobody():
    people = cohort(60).assign(race=None)
    _, fairness = judge(binormal(people), people, attributes=["race"])
    assert fairness.value.isna().all()
    assert (fairness.missing == 60).all()


def test_missing_labels_and_attributes_leave_their_analysis_only():
    people = cohort(300)
    rows = binormal(people)
    rows.loc[:9, "label"] = np.nan
    people.loc[5:24, "sex"] = None
    performance, fairness = judge(rows, people)
    assert pick(performance, attribute="all", metric="tpr").missing == 10
    assert set(performance[performance.attribute == "sex"].missing) == {25}
    assert set(fairness[fairness.attribute == "age_group"].missing) == {10}
    assert performance[(performance.attribute == "sex") & (performance.metric == "tpr")].n.sum() == 275
    kept = judge(rows[10:], people)[0].drop(columns="missing")
    assert_frame_equal(performance.drop(columns="missing"), kept)


def test_worst_case_eodd_is_the_larger_gap():
    people = cohort(400)
    _, fairness = judge(binormal(people), people, eodd="worst_case")
    values = {metric: pick(fairness, attribute="sex", metric=metric).value for metric in ("eodd", "eop", "fpr_gap")}
    assert values["eodd"] == max(values["eop"], values["fpr_gap"])


def test_a_strategy_is_compared_with_the_original_and_with_its_own_standard():
    people = cohort(600)
    rows = [binormal(people), binormal(people, "unet", lost=0.6), binormal(people, "unet", "reweight", lost=0.2)]
    _, fairness = judge(pd.concat(rows), people)
    eop = fairness[(fairness.attribute == "sex") & (fairness.metric == "eop")].set_index(["source", "strategy"])
    value, row = eop["value"], eop.loc[("unet", "reweight")]
    assert row["shift"] == pytest.approx(value["unet", "reweight"] - value["original", "standard"])
    assert row.shift_standard == pytest.approx(value["unet", "reweight"] - value["unet", "standard"])
    assert row.shift_standard_low <= row.shift_standard <= row.shift_standard_high < 0
    assert row.verdict_standard == "fell"
    assert np.isnan(eop.loc[("unet", "standard")].shift_standard)


def test_dice_is_averaged_by_patient_and_compared_by_hand():
    people = pd.DataFrame({"patient_id": list("abcd"), "sex": ["female", "female", "male", "male"]})
    original = segmentation([0.6, 1.0, 0.7, np.nan, 0.9, 0.9], list("aabccd"))
    noisy = segmentation([0.5, 0.5, 0.7, 0.8, 1.0, 0.8], list("aabccd"), "noisy")
    options = {"attributes": ["sex"], "min_cases": 2, "resamples": 99, "thresholds": {}}
    performance, fairness = assess(pd.concat([original, noisy]), people, **options)
    row = pick(performance, source="original", group="male")
    assert (row.value, row.n, row.patients) == (pytest.approx(0.9), 2, 2)
    assert pick(performance, source="original", group="female").value == pytest.approx(0.75)
    assert pick(performance, source="noisy", group="female").value == pytest.approx(0.6)
    row = pick(fairness, source="noisy", metric="ser")
    assert row.value == pytest.approx(0.4 / 0.15)
    assert row["shift"] == pytest.approx((0.4 / 0.15) / (0.25 / 0.1) - 1)  # a relative change
    assert row.shift_percent == pytest.approx(100 * row["shift"])
    assert pick(fairness, source="noisy", metric="delta_dice").value == pytest.approx(0.25)
    assert row.n_smallest == 2
    lonely = assess(pd.concat([original, noisy.assign(dice=[0.5, 0.5, np.nan, 0.8, 1, 0.8])]), people, **options)[1]
    assert set(lonely.left_out) == {"female (1)"} and lonely.verdict.eq("not judged").all()


def test_image_quality_has_a_gap_and_is_compared_with_the_noisy_image():
    people = cohort(50)
    quality = people[["image_id", "patient_id"]].assign(source="noisy", strategy="standard", psnr=24.0, ssim=0.7)
    quality.loc[people["sex"] == "male", "psnr"] = 25.5
    men = people["sex"] == "male"
    better = quality.assign(source="unet", psnr=quality["psnr"] + np.where(men, 3, 2))
    performance, fairness = judge(binormal(people), people, quality=pd.concat([quality, better]), min_cases=5)
    row = pick(fairness, task="image", attribute="sex", metric="psnr_gap", source="noisy")
    assert (row.value, row.low, row.high) == (1.5, 1.5, 1.5)
    assert np.isnan(row["shift"]) and np.isnan(row.p_unequal)
    row = pick(fairness, task="image", attribute="sex", metric="psnr_gap", source="unet")
    assert (row.value, row["shift"], row.worst, row.best) == (2.5, 1.0, "female", "male")
    assert pick(performance, metric="ssim", group="male", source="noisy").value == pytest.approx(0.7)
    assert np.isnan(pick(performance, metric="psnr", group="all", source="noisy").positives)


def test_margins_and_measures_are_those_that_params_know():
    assert set(MARGINS) == {*GAPS, *MEASURES}
    slopes = {f"{measure}_slope" for measure in ("tpr", "fpr", "dice")}  # without verdict, so that no margin is needed
    assert set(metrics.UNITS) == {*GAPS, *MEASURES, *slopes}
    settings = Fairness()
    assert settings.primary == PRIMARY and settings.inference == INFERENCES[0]
    with pytest.raises(ValueError, match="ser"):
        Fairness(margins={"ser": 0.05})


def test_the_tables_have_the_columns_of_their_schemas():
    people = cohort(200)
    for inference in INFERENCES:
        performance, fairness = judge(
            pd.concat([binormal(people), binormal(people, "unet")]), people, inference=inference
        )
        assert list(performance) == list(SCHEMAS["performance"])
        assert list(fairness) == list(SCHEMAS["fairness"])


def test_every_inference_finds_the_same_estimates_and_only_its_own_columns():
    people = cohort(400)
    rows = pd.concat([binormal(people), binormal(people, "unet", lost=0.6)])
    found = {inference: judge(rows, people, inference=inference)[1] for inference in INFERENCES[:2]}
    keys, numbers = ["source", "attribute", "metric"], ["value", "shift", "shift_percent"]
    one, two = (table.sort_values(keys)[[*keys, *numbers]].reset_index(drop=True) for table in found.values())
    assert_frame_equal(one, two)
    assert found["bootstrap"][["expected", "p", "p_unequal", "bound"]].isna().all(axis=None)
    changed = found["closed_form"].query("source == 'unet' and metric != 'auprc_gap'")
    assert changed[["expected", "p", "gamma", "bound", "p_swap", "p_adjusted"]].notna().all(axis=None)
    assert (changed.gamma >= changed["shift"].abs() - 1e-12).all() and (changed.bound >= changed.gamma).all()
    assert (changed.no_change == (changed.bound < changed.metric.map(MARGINS))).all()
    assert (changed.p_unequal_adjusted >= changed.p_unequal).all()
    untested = found["closed_form"].query("metric == 'auprc_gap'")
    assert untested[["p", "p_unequal", "p_swap", "p_shift"]].isna().all(axis=None)
    assert (untested.note == "not calibrated").all() and untested.low.notna().all()


def test_a_wider_margin_supports_no_change():
    people = cohort(400)
    rows = pd.concat([binormal(people), binormal(people, "unet", lost=0.05)])
    strict, wide = (judge(rows, people, margins={"eodd": margin})[1] for margin in (1e-6, 0.5))
    assert pick(strict, source="unet", attribute="sex", metric="eodd").no_change == 0
    row = pick(wide, source="unet", attribute="sex", metric="eodd")
    assert (row.no_change, row.verdict, row.margin) == (1, "no change", 0.5)


def test_p_is_adjusted_within_attribute_and_metric():
    people = cohort(400)
    sources = [binormal(people, f"model{k}", lost=0.1 * k) for k in range(4)]
    _, fairness = judge(pd.concat([binormal(people), *sources]), people)
    for test in ("p", "p_unequal"):
        for _, rows in fairness.dropna(subset=test).groupby(["attribute", "metric"]):
            rank = rows[test].rank(method="max")
            by_hand = [(rows[test][rows[test] >= p] * len(rows) / rank[rows[test] >= p]).min() for p in rows[test]]
            np.testing.assert_allclose(rows[f"{test}_adjusted"], np.minimum(by_hand, 1))


# --- each group's own change ---


def test_changes_of_groups_hold_at_once_for_the_whole_family():
    people = cohort(600)
    one = pd.concat([binormal(people), binormal(people, "unet", lost=0.3)])
    many = pd.concat([one, *(binormal(people, f"model{k}", lost=0.3) for k in range(8))])
    width = {}
    for name, rows in {"one": one, "many": many}.items():
        performance, _ = judge(rows, people, attributes=["sex"])
        row = pick(performance, source="unet", attribute="sex", group="female", metric="tpr")
        width[name] = row.change_high - row.change_low
        assert row.verdict == "worse" and row.change_high < 0
        assert row.change_low < row.change_bound < row.change < row.change_high
        assert pick(performance, source="unet", attribute="sex", group="male", metric="fpr").verdict != "worse"
    assert width["many"] > width["one"]
    narrow, _ = judge(one, people, attributes=["sex"], primary=["tpr"])
    row = pick(narrow, source="unet", attribute="sex", group="female", metric="tpr")
    assert row.change_high - row.change_low < width["one"]


def test_a_change_is_kept_only_where_its_bound_is_within_the_margin():
    people = cohort(3000)
    original = binormal(people)
    few = original.assign(source="unet")
    turned = few.index[(few.label == 1) & (few.score >= norm.cdf(CUT))][:6]
    few.loc[turned, "score"] = 0.0
    performance, _ = judge(pd.concat([original, few]), people, attributes=["sex"])
    rows = performance[(performance.source == "unet") & (performance.attribute == "sex")].set_index(["metric", "group"])
    assert (rows.loc["tpr"].kept == 1).all() and (rows.loc["tpr"].margin == 0.05).all()
    assert set(rows.loc["fpr"].verdict) == {"kept"}
    strict, _ = judge(pd.concat([original, few]), people, attributes=["sex"], margins={"tpr": 0.001})
    row = pick(strict, source="unet", attribute="sex", group="male", metric="tpr")
    assert row.kept == 0 and row.change_bound < -0.001


def test_groups_that_are_too_small_have_a_pooled_rate_and_no_verdict():
    people = cohort(900)
    rows = pd.concat([binormal(people), binormal(people, "unet", lost=0.8)])
    label = binormal(people).label.to_numpy()
    race = np.where(np.arange(900) % 2, "White", "Asian").astype(object)
    race[np.flatnonzero(label == 1)[:8]] = "Black"
    performance, fairness = judge(rows, people.assign(race=race), attributes=["race"])
    row = pick(performance, source="unet", group="Black", metric="tpr")
    assert (row.compared, row.verdict) == (0, "not judged")
    assert row.note.startswith("too few to compare (8 patients with positives, 20 needed)")
    assert row.low < row.value < row.high and row.pooled_low < row.pooled < row.pooled_high
    assert abs(row.pooled - pick(performance, source="unet", group="White", metric="tpr").value) < 0.3
    named = fairness[(fairness.worst == "Black") | (fairness.best == "Black")]
    assert set(named.metric) <= {"fpr_gap"}  # the one gap that Black is compared in


def test_everybody_called_alike_and_a_guess_are_named():
    people = cohort(300)
    rows = binormal(people)
    rows["score"] = np.random.default_rng(1).uniform(0.9, 1, len(rows))
    performance, _ = judge(rows, people)
    assert performance[performance.metric.isin(["tpr", "fpr", "ppr"])].note.str.contains("all called positive").all()
    auroc = performance[(performance.metric == "auroc") & (performance.attribute == "all")]
    assert (auroc.low < 0.5).all() and auroc.note.str.contains("chance").all()


def test_readers_are_compared_with_their_own_original_and_with_the_standard_reader():
    people = cohort(600)
    arms = [binormal(people), binormal(people, "unet", lost=0.6)]
    standard = pd.concat(arms).assign(reader="standard")
    fair = pd.concat([arms[0].assign(score=arms[0].score ** 0.9), binormal(people, "unet", lost=0.2)]).assign(
        reader="fairread"
    )
    performance, fairness = judge(pd.concat([standard, fair]), people)
    rows = fairness[(fairness.attribute == "sex") & (fairness.metric == "eop")].set_index(["source", "reader"])
    value = rows.value
    assert rows["shift"]["unet", "fairread"] == pytest.approx(value["unet", "fairread"] - value["original", "fairread"])
    assert rows.shift_standard["unet", "fairread"] == pytest.approx(
        value["unet", "fairread"] - value["unet", "standard"]
    )
    assert np.isnan(rows["shift"]["original", "fairread"]) and np.isnan(rows.shift_standard["unet", "standard"])
    cut = {"grade": {"standard": norm.cdf(CUT), "fairread": 0.0}}
    apart, _ = judge(pd.concat([standard, fair]), people, thresholds=cut)
    assert pick(apart, source="unet", reader="fairread", group="all", metric="tpr").value == 1
    assert len(apart) == len(performance)


# --- many comparisons ---


def table_of(p):
    """Rows of the engine with given p-values: 12 tasks, 3 attributes, 4 sources."""
    keys = [(t, a, s) for t in range(12) for a in ("sex", "age_group", "race") for s in range(4)]
    rows = [{"task": t, "attribute": a, "source": s, "metric": "eodd", "p_unequal": 1.0} for t, a, s in keys]
    return [
        row | {"p": value, "p_unequal": value, "shift_low": 0.01, "shift_high": 0.1}
        for row, value in zip(rows, p, strict=True)
    ]


def test_one_true_effect_among_144_rows_is_found_and_null_tables_seldom_claim_anything():
    from reconfair import fairness

    rng, claims = np.random.default_rng(0), []
    p = rng.random(144)
    p[17] = 1e-6
    judged = fairness._fairness(table_of(p), MARGINS, "closed_form", 1000)
    assert judged.p_adjusted[17] < 1e-4 and judged.verdict[17] == "grew"
    for _ in range(1000):
        one = fairness._fairness(table_of(rng.random(144)), MARGINS, "closed_form", 1000)
        claims.append(one.verdict.isin(["grew", "fell", "unequal"]).any())
    assert np.mean(claims) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


def test_intersections_are_groups_of_both_and_leave_out_who_lacks_one():
    people = cohort(800)
    rows = binormal(people)
    people.loc[:9, "sex"] = None
    performance, fairness = judge(rows, people, attributes=["sex*age_group"])
    groups = "female, older; female, younger; male, older; male, younger"
    assert pick(fairness, metric="eodd").groups == groups and pick(fairness, metric="eodd").missing == 10
    both = (people.sex == "male") & (people.age_group == "older")
    found = pick(performance, group="male, older", metric="tpr")
    assert found.value == (rows[both & (rows.label == 1)].score >= norm.cdf(CUT)).mean()


def test_as_published_each_source_has_its_own_threshold_and_images_are_resampled():
    people = cohort(300, images=2)
    original = binormal(people)
    halved = original.assign(source="unet", score=original.score / 2)  # the same ranks, so the same decisions
    _, published = judge(pd.concat([original, halved]), people, inference="as_published")
    row = pick(published, source="unet", attribute="sex", metric="eodd")
    assert (row["shift"], row.p_shift) == (0, 1)
    _, ours = judge(pd.concat([original, halved]), people)
    assert pick(ours, source="unet", attribute="sex", metric="eodd").value == 0  # nobody reaches the threshold
    twins = original.assign(score=original.groupby("patient_id").score.transform("first"))
    twins["label"] = twins.groupby("patient_id").label.transform("first")
    (images, _), (patients, _) = (judge(twins, people, inference=i) for i in ("as_published", "bootstrap"))
    se = [pick(table, group="all", metric="auroc").se for table in (images, patients)]
    assert se[0] == pytest.approx(se[1] / np.sqrt(2), rel=0.2)


def test_an_unknown_inference_is_refused():
    people = cohort(40)
    with pytest.raises(ValueError, match="inference must be one of closed_form, bootstrap, as_published"):
        judge(binormal(people), people, inference="bayes")


def change(column, value, row=3):
    def changed(rows, people):
        rows.loc[row, column] = value
        return rows, people

    return changed


MISTAKES = {
    "task 'grade', source 'original', strategy 'standard', unit 'i00003': score is 1.5, expected 0 to 1": change(
        "score", 1.5
    ),
    "unit 'i00003': score is nan": change("score", np.nan),
    "unit 'i00003': label is 2.0, expected 0, 1 or NaN": change("label", 2),
    "source 'unet', strategy 'standard': 2 units of other sources are missing: i00003, i00005": (
        lambda rows, people: (rows.drop(index=[43, 45]), people)
    ),
    "source 'unet', strategy 'standard': more than one row for unit 'i00004'": change("unit", "i00004", row=43),
    "source 'unet', strategy 'standard': patient_id of unit 'i00003' is not": change("patient_id", "p00009", row=43),
    "source 'unet', strategy 'standard': label of unit 'i00003' is not": change("label", np.nan, row=43),
    "predictions: patient_id is missing in row 3": change("patient_id", None),
    "patients absent from the cohort: p00007": lambda rows, people: (rows, people.drop(index=7)),
    "kind must be one of classify, segment, image": change("kind", "regress"),
    "predictions: column 'source' is missing": lambda rows, people: (rows.drop(columns="source"), people),
    "cohort: column 'sex' is missing": lambda rows, people: (rows, people.drop(columns="sex")),
    "thresholds: none for task 'type'": lambda rows, people: (rows.assign(task="type"), people),
    "task 'grade': no unit has a label": lambda rows, people: (rows.assign(label=np.nan), people),
    "cohort: patient 'p00001' has more than one sex": (
        lambda rows, people: (rows, pd.concat([people, people[1:2].assign(sex="other")]))
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_named(message):
    people = cohort(40)
    rows = pd.concat([binormal(people), binormal(people, "unet")], ignore_index=True)
    with pytest.raises(ValueError) as error:
        judge(*MISTAKES[message](rows, people))
    assert message in str(error.value)


@every_inference
def test_sources_are_compared_on_the_same_images(inference):
    """An image that equals its original has an infinite PSNR; it leaves every source, with a note, and so do NaN."""
    people = cohort(200, images=2)
    rng, quality = np.random.default_rng(0), []
    for source, gain in (("noisy", 0), ("unet", 3)):
        rated = people[["image_id", "patient_id"]].assign(source=source, strategy="standard", split="test")
        quality.append(rated.assign(psnr=rng.normal(30 + gain, 1, len(people)), ssim=0.9))
    quality[0].loc[:19, "psnr"] = np.inf
    quality[1].loc[20:24, "psnr"] = np.nan
    whole = pd.concat(quality)
    scores = pd.concat([binormal(people), binormal(people, "noisy"), binormal(people, "unet")])
    performance, _ = judge(scores, people, quality=whole, inference=inference)
    rows = performance.query("metric == 'psnr' and attribute == 'all'").set_index("source")
    left = whole[~whole.image_id.isin(people.image_id[:25])]
    for source, values in left.groupby("source"):
        by = values.psnr if inference == "as_published" else values.groupby("patient_id").psnr.mean()
        assert rows.value[source] == pytest.approx(by.mean(), abs=1e-9) and rows.n[source] == len(people) - 25
        assert inference == "as_published" or "25 images" in rows.note[source]


@every_inference
def test_long_work_can_be_watched_and_nothing_changes_by_it(inference):
    people, seen = cohort(200), []
    scores = pd.concat([binormal(people), binormal(people, "unet")])
    plain = judge(scores, people, inference=inference)
    watched = judge(
        scores, people, inference=inference, watch=lambda items: (seen.append(item) or item for item in items)
    )
    assert seen[0][1] == "all" and len(seen) == len({attribute for _, attribute in seen}) > 1
    for before, after in zip(plain, watched, strict=True):
        pd.testing.assert_frame_equal(before, after)


def test_whoever_lacks_a_dice_in_one_source_is_counted_in_none_and_no_limit_is_impossible():
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"patient_id": np.arange(30), "sex": np.resize(["f", "f", "m"], 30)})
    people.loc[people.index[:2], "sex"] = "rare"
    rows = people.assign(unit=people.patient_id, task="lesion", kind="segment", strategy="standard")
    before, after = rng.beta(6, 2, 30), rng.beta(6, 2, 30)
    before[[5, 6, 7]] = np.nan
    rows = pd.concat([rows.assign(source=name, dice=dice) for name, dice in (("original", before), ("unet", after))])
    performance, _ = assess(rows, people, attributes=["sex"], thresholds={}, min_cases=5)
    every = performance[(performance.metric == "dice") & (performance.attribute == "all")]
    assert every.patients.tolist() == every.n.tolist() == [27, 27]
    assert all("no value: 3 of its patients" in note for note in every.note)
    rare = performance[(performance.metric == "dice") & (performance.group == "rare") & (performance.source == "unet")]
    assert rare.low.item() >= 0 and rare.high.item() <= 1
    assert -1 <= rare.change_low.item() < rare.change_high.item() <= 1
