"""Sensitivity analyses and the decision view against tables done by hand, scikit-learn, statsmodels and planted truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from reconfair.fairness import assess, sensitivity
from reconfair.fairness.decision import calibration_slope, decision_view

HALF = {"t": 0.5}


def study(n=2000, seed=0, source="original"):
    """Risks of patients with a sex and a site; the score is the true risk."""
    rng = np.random.default_rng(seed)
    people = pd.DataFrame(
        {"patient_id": np.arange(n), "sex": rng.choice(["f", "m"], n), "site": rng.choice(["x", "y"], n)}
    )
    risk = expit(1.5 * rng.normal(size=n) - 0.5)
    rows = people[["patient_id"]].assign(unit=people.patient_id, task="t", kind="classify", source=source)
    rows = rows.assign(strategy="standard", label=(rng.random(n) < risk).astype(float), score=risk)
    return rows, people


def eodd(table):
    return table[table.metric == "eodd"]


# --- sensitivity ---


def test_missing_attributes_are_given_to_each_group_in_turn():
    rows, people = study()
    people.loc[:199, "sex"] = None
    rows.loc[:199, "score"] = 0.0  # those of unknown sex are never found
    table = eodd(sensitivity.missing_attribute(rows, people, "sex", thresholds=HALF)).set_index("assumed")
    assert table.index.tolist() == ["left out", "f", "m"]
    assert table.missing.tolist() == [200, 0, 0]
    assert table.value.drop("left out").min() > table.value["left out"] + 0.02
    filled = assess(rows, people.fillna({"sex": "f"}), attributes=["sex"], thresholds=HALF)[1]
    assert table.value["f"] == eodd(filled).value.item()


def test_rates_are_corrected_for_labels_that_were_flipped():
    rows, people = study(60_000, seed=1)
    true = assess(rows, people, attributes=["sex"], thresholds=HALF)[0]
    flip = np.random.default_rng(2).random(len(rows)) < 0.1
    wrong = rows.assign(label=np.where(flip, 1 - rows.label, rows.label))
    given = assess(wrong, people, attributes=["sex"], thresholds=HALF)[0]
    corrected = sensitivity.label_errors(given, 0.1).query("attribute == 'sex'").set_index("group")
    for metric in ("tpr", "fpr"):
        truth = true[(true.attribute == "sex") & (true.metric == metric)].set_index("group").value
        assert corrected[f"{metric}_true"].to_dict() == pytest.approx(truth.to_dict(), abs=0.015)
        assert (corrected[metric] - truth).abs().min() > 0.03
    both = sensitivity.label_errors(given, 0.0)
    assert both.tpr_true.tolist() == pytest.approx(both.tpr.tolist())
    with pytest.raises(ValueError, match=r"0\.5"):
        sensitivity.label_errors(given, 0.5)


def test_standardising_removes_a_difference_that_case_mix_alone_makes():
    rng = np.random.default_rng(3)
    rows, people = study(20_000, seed=3)
    people["site"] = np.where(rng.random(len(people)) < np.where(people.sex == "f", 0.8, 0.2), "x", "y")
    easy = (people.site == "x").to_numpy()
    rows["score"] = np.where(rng.random(len(rows)) < np.where(easy, 0.9, 0.6), rows.label, 1 - rows.label)
    table = eodd(sensitivity.weighted(rows, people, "sex", thresholds=HALF, strata=["site"])).iloc[0]
    assert table.low > 0.1 and table.value == pytest.approx(0.18, abs=0.03)
    assert table.low_weighted == 0 and table.value_weighted < 0.03 and table.without == 0


def test_a_stratum_of_one_group_alone_is_left_out_and_counted():
    rows, people = study(4000, seed=4)
    people.loc[:99, ["sex", "site"]] = "f", "z"
    table = eodd(sensitivity.weighted(rows, people, "sex", thresholds=HALF, strata=["site"])).iloc[0]
    assert table.without == 100


def test_sampling_weights_are_those_of_fairlearn():
    fairlearn = pytest.importorskip("fairlearn.metrics")
    rows, people = study(seed=5)
    people["weight"] = np.random.default_rng(5).uniform(1, 9, len(people))
    table = eodd(sensitivity.weighted(rows, people, "sex", thresholds=HALF, weight="weight")).iloc[0]
    theirs = fairlearn.equalized_odds_difference(
        rows.label, rows.score >= 0.5, sensitive_features=people.sex, agg="mean", sample_weight=people.weight
    )
    assert table.value_weighted == pytest.approx(theirs)
    assert table.high_weighted - table.low_weighted > 0
    with pytest.raises(ValueError, match=r"'wieght' is missing.*weight"):
        sensitivity.weighted(rows, people, "sex", thresholds=HALF, weight="wieght")
    with pytest.raises(ValueError, match="patient 7"):
        sensitivity.weighted(
            rows,
            people.assign(weight=people.weight.where(people.index != 7, 0)),
            "sex",
            thresholds=HALF,
            weight="weight",
        )


# --- decisions ---


def test_net_benefit_by_hand():
    rows = pd.DataFrame(
        {"patient_id": range(8), "score": [0.9, 0.9, 0.9, 0.1] * 2, "label": [1.0, 1, 0, 0, 1, 0, 0, 1]}
    )
    rows = rows.assign(unit=rows.patient_id, task="t", kind="classify", source="original", strategy="standard")
    people = pd.DataFrame({"patient_id": range(8), "sex": list("ffffmmmm")})
    table = decision_view(rows, people, attributes=["sex"], thresholds={"t": 0.2})
    benefit = table[(table.attribute == "sex") & (table.metric == "net_benefit")].set_index("group")
    assert benefit.value.to_dict() == pytest.approx({"f": (2 - 1 / 4) / 4, "m": (1 - 2 / 4) / 4})
    every = table[(table.group == "all") & (table.metric == "net_benefit_all")].iloc[0]
    assert every.value == pytest.approx((4 - 4 / 4) / 8)
    assert every.low < every.value < every.high
    assert table[table.metric == "slope"].value.isna().all()  # too few cases to fit one


def test_slope_and_intercept_are_those_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(6)
    patient = np.repeat(np.arange(400), 3)
    risk = expit(rng.normal(size=1200) + rng.normal(size=400)[patient])
    label = (rng.random(1200) < risk).astype(float)
    score = expit(2 * logit(risk) + 0.5)  # too extreme, and too high
    fit = sm.GLM(label, sm.add_constant(logit(score)), family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": patient}
    )
    estimate, se = calibration_slope(score, label, patient)
    assert estimate == pytest.approx(fit.params, abs=1e-6)
    assert se == pytest.approx(fit.bse, rel=0.01)
    fit = sm.GLM(label, np.ones(1200), family=sm.families.Binomial(), offset=logit(score)).fit()
    assert calibration_slope(score, label, patient, slope=1.0)[0] == pytest.approx(fit.params, abs=1e-6)


def test_true_risks_have_slope_1_and_intercept_0_within_their_limits():
    covered = []
    for seed in range(25):
        rows, people = study(800, seed=[7, seed])
        table = decision_view(rows, people, attributes=["sex"], thresholds=HALF)
        truth = table.metric.map({"slope": 1.0, "intercept": 0.0})
        some = table[truth.notna() & (table.attribute == "sex")]
        covered.append(((some.low < truth[some.index]) & (truth[some.index] < some.high)).mean())
    assert np.mean(covered) > 0.88
    worse = decision_view(rows.assign(score=expit(2 * logit(rows.score))), people, attributes=["sex"], thresholds=HALF)
    assert (worse[worse.metric == "slope"].high < 0.8).all()
