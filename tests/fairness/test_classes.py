"""Tasks of several classes: against scikit-learn, a table by hand, and what is planted."""

import numpy as np
import pandas as pd
import pytest
from groups import units
from scipy import stats
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, roc_auc_score

from reconfair.fairness import INFERENCES, assess, gaps, metrics
from reconfair.fairness.cells import Rate
from reconfair.run.judge import judge_file

NAMES = ("nv", "mel", "bcc")


def scores_of(label, strength, rng):
    """Probabilities of three classes, (n, 3); `strength` by row."""
    logits = rng.normal(size=(label.size, 3))
    logits[np.arange(label.size), label] += strength
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def rows_of(label, scores, **more):
    """Rows of ``predictions``: one for each unit and class."""
    chosen = scores.argmax(axis=1)
    tables = [
        pd.DataFrame({"unit": [f"u{i:04d}" for i in range(label.size)], "task": f"dx: {name}", "class": name}).assign(
            kind="classify", label=1.0 * (label == k), score=scores[:, k], decision=1.0 * (chosen == k), **more
        )
        for k, name in enumerate(NAMES)
    ]
    return pd.concat(tables, ignore_index=True).assign(strategy="standard", reader="standard")


def study(n=600, seed=0, strengths=((1.8, 1.8), (1.6, 0.2)), images=1):
    """Predictions on two sources, the cohort, and the labels; `strengths` by source and group."""
    rng = np.random.default_rng(seed)
    patient = np.repeat([f"p{i:04d}" for i in range(n // images)], images)
    sex = np.repeat(rng.choice(["female", "male"], n // images), images)
    label = rng.integers(0, 3, n)
    tables = []
    for source, of_group in zip(("original", "unet"), strengths, strict=True):
        strength = np.where(sex == "female", *of_group)
        tables.append(rows_of(label, scores_of(label, strength, rng), source=source, patient_id=np.resize(patient, n)))
    return pd.concat(tables, ignore_index=True), pd.DataFrame({"patient_id": patient, "sex": sex}), label, sex


def wide(rows, column):
    """Values of the classes side by side, (n, 3)."""
    return rows.pivot(index="unit", columns="class", values=column)[list(NAMES)].to_numpy()


@pytest.fixture(scope="module")
def judged():
    rows, cohort, label, sex = study()
    performance, fairness = assess(rows, cohort, attributes=["sex"], thresholds={}, ordinal=["dx"], resamples=99)
    return rows, label, sex, performance, fairness


def test_performance_is_that_of_scikit_learn(judged):
    rows, label, sex, performance, _ = judged
    for group, inside in {"female": sex == "female", "male": sex == "male", "all": sex != ""}.items():
        some = rows[(rows.source == "unet")]
        score, y = wide(some, "score")[inside], label[inside]
        chosen = score.argmax(axis=1)
        expected = {
            "accuracy": accuracy_score(y, chosen),
            "auroc": roc_auc_score(y, score, multi_class="ovr", average="macro"),
            "kappa": cohen_kappa_score(y, chosen, weights="quadratic"),
        }
        got = performance[(performance.task == "dx") & (performance.source == "unet") & (performance.group == group)]
        assert got.set_index("metric").value.to_dict() == pytest.approx(expected)
        table = confusion_matrix(y, chosen)
        for k, name in enumerate(NAMES):
            of_class = performance[(performance.task == f"dx: {name}") & (performance.source == "unet")]
            of_class = of_class[of_class.group == group].set_index("metric").value
            others = table.sum() - table[k].sum()
            assert of_class.tpr == pytest.approx(table[k, k] / table[k].sum())
            assert of_class.fpr == pytest.approx((table[:, k].sum() - table[k, k]) / others)


def test_gaps_are_means_over_classes_or_of_the_worst(judged):
    rows, label, sex, _, fairness = judged
    chosen = wide(rows[rows.source == "unet"], "decision").argmax(axis=1)
    tables = [confusion_matrix(label[sex == group], chosen[sex == group]) for group in ("female", "male")]
    tpr = np.array([table.diagonal() / table.sum(axis=1) for table in tables])
    fpr = np.array([(t.sum(0) - t.diagonal()) / (t.sum() - t.sum(axis=1)) for t in tables])
    ppr = np.array([t.sum(0) / t.sum() for t in tables])
    each = (np.ptp(tpr, axis=0) + np.ptp(fpr, axis=0)) / 2
    accuracy = np.array([t.diagonal().sum() / t.sum() for t in tables])
    overall = sum(t.diagonal().sum() for t in tables) / label.size
    expected = {
        "eodd": each.mean(), "eodd_worst": each.max(), "eop": np.ptp(tpr, axis=0).mean(),
        "demographic_parity": np.ptp(ppr, axis=0).mean(), "accuracy_gap": np.ptp(accuracy),
        "nar": np.ptp(accuracy) / accuracy.mean(), "essp": overall / (1 + np.abs(accuracy - overall).sum()),
    }  # fmt: skip
    row = fairness[(fairness.task == "dx") & (fairness.source == "unet")].set_index("metric")
    assert row.value[list(expected)].to_dict() == pytest.approx(expected)
    of_classes = fairness[fairness.task.str.startswith("dx: ") & (fairness.source == "unet")]
    assert of_classes.query("metric == 'eodd'").value.to_numpy() == pytest.approx(each[[2, 1, 0]])  # by name
    assert NAMES[each.argmax()] in row.note.eodd_worst


@pytest.mark.parametrize("images", [1, 3])
def test_the_errors_of_mean_auroc_and_kappa_are_their_spread_over_studies(images):
    rng, patients = np.random.default_rng(0), np.repeat(np.arange(150), images)
    rows, found = units(np.zeros(patients.size, int), patients), {"auroc": [], "kappa": [], "change": []}
    for _ in range(400):
        label = rng.integers(0, 3, 150)[patients]
        shift = rng.normal(scale=0.7, size=(150, 3))[patients]  # images of a patient are alike
        scores, others = (scores_of(label, 1.2, rng) * np.exp(shift) for _ in range(2))
        called, before = scores.argmax(axis=1), others.argmax(axis=1)
        scores /= scores.sum(axis=1, keepdims=True)
        found["auroc"].append(rows.macro_auroc(list(scores.T), label).cells)
        found["kappa"].append(rows.kappa(called, label).cells)
        found["change"].append(rows.kappa(called, label, before).cells)
    for name, cells in found.items():
        spread = np.std([one.value[0] for one in cells])
        assert np.mean([one.se[0] for one in cells]) == pytest.approx(spread, rel=0.15), name


def test_what_is_planted_comes_to_a_verdict(judged):
    *_, performance, fairness = judged
    eodd = fairness[(fairness.task == "dx") & fairness.metric.isin(["eodd", "eodd_worst"])].set_index(
        ["source", "metric"]
    )
    assert (eodd.loc["unet"].verdict == "grew").all()
    assert (eodd.loc["unet"].worst == "male").all()
    assert (eodd.low <= eodd.value).all() and (eodd.value <= eodd.high).all()
    assert (eodd.loc["unet"].low > eodd.loc["unet"].expected).all()
    accuracy = performance[(performance.metric == "accuracy") & (performance.source == "unet")].set_index("group")
    assert accuracy.verdict["male"] == "worse" and accuracy.change_high["male"] < 0
    assert accuracy.verdict["female"] != "worse"


def test_changes_hold_over_groups_and_classes_at_once(judged):
    rows, label, sex, performance, _ = judged
    called = [wide(rows[rows.source == source], "decision")[:, 1] == 1 for source in ("unet", "original")]
    change = units((sex == "male") * 1).rate_change(*called, label == 1)
    low, high = change.limits(stats.norm.ppf((1 + 0.95 ** (1 / 12)) / 2))  # 2 groups x 3 classes x TPR and FPR
    row = performance[(performance.task == "dx: mel") & (performance.metric == "tpr") & (performance.source == "unet")]
    row = row[row.attribute == "sex"]
    assert row.change_low.to_numpy() == pytest.approx(low)
    assert row.change_high.to_numpy() == pytest.approx(high)


@pytest.mark.parametrize("inference", INFERENCES)
def test_every_inference_gives_the_same_values(judged, inference):
    rows, *_, fairness = judged
    other = assess(
        rows, study()[1], attributes=["sex"], thresholds={}, ordinal=["dx"], resamples=99, inference=inference
    )[1]
    keys = ["task", "source", "metric"]
    both = fairness[fairness.task == "dx"].merge(other, on=keys, suffixes=("", "_other"))
    assert len(both) == 18
    assert both.value.to_numpy() == pytest.approx(both.value_other.to_numpy())


def test_limits_over_classes_hold_together():
    rng, truth, held = np.random.default_rng(2), np.array([[0.8, 0.7], [0.6, 0.6], [0.5, 0.65]]), {False: 0, True: 0}
    for _ in range(200):
        cells = [[Rate(rng.binomial(80, pair) / 80, np.full(2, 80.0), np.full(2, np.inf))] for pair in truth]
        for worst in held:
            row = gaps.over_classes(cells, worst=worst)
            true = np.ptp(truth, axis=1)
            held[worst] += row["low"] <= (true.max() if worst else true.mean()) <= row["high"]
    assert min(held.values()) >= 190


def test_mean_auroc_of_clustered_images_has_wider_limits():
    one, _ = assess(*study(images=1)[:2], attributes=["sex"], thresholds={}, resamples=99)
    rows, cohort, *_ = study(images=1)
    copied = [rows.assign(unit=rows.unit + f"_{k}") for k in range(4)]  # four images that say the same
    many, _ = assess(pd.concat(copied), cohort, attributes=["sex"], thresholds={}, resamples=99)
    for metric in ("auroc", "accuracy"):
        lengths = [(t.high - t.low)[(t.task == "dx") & (t.metric == metric) & (t.group == "male")] for t in (one, many)]
        assert lengths[1].to_numpy() == pytest.approx(lengths[0].to_numpy(), rel=0.15)


def test_a_class_that_is_never_predicted_is_named():
    rows, cohort, label, _ = study()
    decided = wide(rows[rows.source == "unet"], "decision").copy()
    decided[:, 0] += decided[:, 2]  # bcc is called nv
    decided[:, 2] = 0
    unet = rows.source == "unet"
    for k, name in enumerate(NAMES):
        rows.loc[unet & (rows["class"] == name), "decision"] = decided[:, k]
    performance, fairness = assess(rows, cohort, attributes=["sex"], thresholds={}, resamples=99)
    arm = fairness[fairness.source == "unet"].set_index(["task", "metric"])
    assert np.isnan(arm.value["dx: bcc", "eodd"]) and arm.verdict["dx: bcc", "eodd"] == "not judged"
    assert "cannot be judged" in arm.note["dx: bcc", "eodd"] and str((label == 2).sum()) in arm.note["dx: bcc", "eodd"]
    assert "bcc" in arm.note["dx", "eodd"] and np.isfinite(arm.value["dx", "eodd"])
    assert np.isfinite(arm.value["dx: bcc", "auroc_gap"])
    assert (performance.query("task == 'dx: bcc' and source == 'unet' and metric == 'tpr'").value == 0).all()


def test_a_group_without_enough_of_a_class_is_left_out():
    rows, cohort, label, sex = study(n=150)
    few = min(((label == k) & (sex == "male")).sum() for k in range(3))
    performance, fairness = assess(rows, cohort, attributes=["sex"], thresholds={}, min_cases=few + 1, resamples=99)
    row = fairness[(fairness.task == "dx") & (fairness.metric == "eodd")].iloc[0]
    assert f"male ({few})" in row.left_out
    note = performance[
        (performance.task == "dx") & (performance.metric == "auroc") & (performance.group == "male")
    ].note
    assert note.str.contains("|".join(NAMES)).all()


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [("score", 0.9, ["dx", "sum to", "expected 1"]), ("label", 0.0, ["labels"]), ("decision", 0.0, ["decisions"])],
)
def test_rows_that_fit_no_class_are_refused(column, value, expected):
    rows, cohort, *_ = study(n=60)
    at = rows.index[(rows.unit == "u0000") & (rows[column] > (0.9 if column != "score" else -1))][0]
    same = (rows.unit == "u0000") & (rows["class"] == rows["class"][at])
    rows.loc[same if column == "label" else at, column] = value
    with pytest.raises(ValueError) as error:
        assess(rows, cohort, attributes=["sex"], thresholds={}, resamples=99)
    assert all(word in str(error.value) for word in expected)


def test_equity_scaled_accuracy_by_hand():
    assert metrics.essp(overall=0.8, groups=[[0.8, 0.8], [0.9, 0.6]]) == pytest.approx([0.8, 0.8 / 1.3])
    assert metrics.nar(values=[0.6, 0.9, np.nan]) == pytest.approx(0.3 / 0.75)
    assert metrics.macro([0.1, 0.3]) == pytest.approx(0.2)


def test_accuracy_of_weighted_rows_is_that_of_repeated_rows():
    rng = np.random.default_rng(5)
    label, weight = rng.integers(0, 3, 80), rng.integers(0, 4, 80)
    chosen, again = scores_of(label, 1.0, rng).argmax(axis=1), np.repeat(np.arange(80), weight)
    weights = weight[None] * 1.0
    expected = accuracy_score(label[again], chosen[again])
    assert metrics.accuracy(decision=chosen, label=label, weights=weights)[0, 0] == pytest.approx(expected)


def test_a_group_of_one_class_has_no_kappa_and_leaves_all_else_as_it_is(tmp_path):
    """In one group every label and decision is the same class: kappa is not defined there."""
    draw = np.random.default_rng(0)
    label, sex = draw.choice(["I", "II", "III"], 300), draw.choice(["f", "m"], 300)
    label[sex == "m"] = "I"
    table = pd.DataFrame({"patient": [f"p{k}" for k in range(300)], "label": label, "sex": sex})
    for name in ("I", "II", "III"):
        table[f"score_{name}"] = np.where(label == name, 0.6, 0.2)
    table.to_csv(tmp_path / "grade.csv", index=False)
    judge_file(tmp_path / "grade.csv", ordinal=["grade"])
    rows, gaps = (pd.read_csv(tmp_path / "grade_judged" / f"{name}.csv") for name in ("performance", "fairness"))
    kappa = rows[rows.metric == "kappa"].set_index("group")
    assert kappa.value["f"] == 1 and np.isnan(kappa.value["m"])
    assert kappa.note["m"] == "cannot be judged (all labels and decisions are one class)"
    gap = gaps[gaps.task == "grade"].set_index("metric")
    assert gap.left_out["kappa_gap"] == "m (0)" and gap.value["accuracy_gap"] == 0
