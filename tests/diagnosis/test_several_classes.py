"""Readers of several classes: softmax, weights of classes, decisions, and models of the user's own."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from reconfair import data, diagnosis, params, tables
from reconfair.data import ucsf_pdgm
from reconfair.diagnosis import classify, given
from reconfair.params import Network

TASKS = ("dx: nv", "dx: mel", "dx: bcc")
SETTINGS = {"architecture": "resnet18", "pretrained": False, "size": 0, "value_range": None, "seed": 0, "lr": 1e-3}
SETTINGS |= {"tasks": list(TASKS), "classes": True, "class_weights": "equal"}
NETWORK = Network("dx", "classify", TASKS, classes=True)


def test_the_loss_is_the_cross_entropy_of_a_softmax():
    module = classify.Diagnoser(SETTINGS)
    scores, number = torch.randn(6, 3), torch.tensor([0, 2, 1, 1, 0, 2])
    labels = F.one_hot(number, 3).float()
    logits = classify.log_odds(scores)
    assert logits.sigmoid().numpy() == pytest.approx(scores.softmax(1).numpy(), rel=1e-5)
    assert float(module.criterion(logits, labels)) == pytest.approx(float(F.cross_entropy(scores, number)), rel=1e-5)
    unknown = torch.cat([labels, torch.full((1, 3), torch.nan)])
    loss = module.criterion(torch.cat([logits, torch.zeros(1, 3)]), unknown)
    assert float(loss) == pytest.approx(float(F.cross_entropy(scores, number)), rel=1e-5)
    module.balance(np.array([[1, 0, 0]] * 6 + [[0, 1, 0]] * 3 + [[0, 0, 1]]))
    expected = F.cross_entropy(scores, number, weight=torch.tensor([1 / 6, 1 / 3, 1.0]))
    assert float(module.criterion(logits, labels)) == pytest.approx(float(expected), rel=1e-5)


def test_log_odds_are_finite_where_a_class_is_certain():
    logits = classify.log_odds(torch.tensor([[60.0, -60.0, 0.0]]))
    assert logits.isfinite().all() and float(logits.sigmoid().sum()) == pytest.approx(1)


def test_scores_of_a_reader_sum_to_one():
    torch.manual_seed(0)
    answers = classify.Diagnoser(SETTINGS).eval().diagnose(torch.rand(4, 1, 64, 64))
    assert answers.sum(1).tolist() == pytest.approx([1] * 4)


def test_a_unit_has_a_row_for_each_class_and_one_decision(tmp_path):
    study = params.study(dataset={"name": "phantom_mri", "patients": 20, "size": 64})  # a patient is decided
    table = pd.DataFrame({"image_id": list("abc"), "patient_id": ["p", "p", "q"], "split": "test"})
    for task, label in zip(TASKS, ([1, 1, 0], [0, 0, 1], [0, 0, 0]), strict=True):
        table[task] = np.array(label, float)
    answers = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.5, 0.3]])
    rows = diagnosis.units(study, NETWORK, table, answers)
    wide = rows.pivot(index="unit", columns="class", values=["score", "decision", "label"])
    medians = np.median(answers[:2], axis=0)
    assert wide.score.loc["p", ["nv", "mel", "bcc"]].tolist() == pytest.approx((medians / medians.sum()).tolist())
    assert wide.decision.loc["p"].to_dict() == {"bcc": 0, "mel": 0, "nv": 1}
    assert wide.decision.loc["q", "mel"] == 1 and wide.label.loc["q", "mel"] == 1
    tables.write(rows.assign(source="original", strategy="standard", reader="standard"), "predictions", tmp_path)
    assert tables.read("predictions", tmp_path)["class"].tolist() == ["nv", "nv", "mel", "mel", "bcc", "bcc"]


def test_a_reader_that_is_always_certain_has_means_where_all_medians_are_zero():
    study = params.study(dataset={"name": "phantom_mri", "label": "certain"}, noise="none")
    table = pd.DataFrame({"image_id": list("abcdef"), "patient_id": ["p"] * 3 + ["q"] * 3, "split": "test"})
    table = table.assign(**dict.fromkeys(TASKS, 0.0))
    answers = np.eye(3)[[0, 1, 2, 1, 1, 2]]
    rows = diagnosis.units(study, NETWORK, table, answers).set_index(["unit", "class"])
    assert rows.score["p"].to_numpy() == pytest.approx(np.full(3, 1 / 3))
    assert rows.score["q"].tolist() == [0, 1, 0] and rows.decision["q"].tolist() == [0, 1, 0]


def test_predictions_of_two_classes_have_no_further_columns():
    study = params.study(dataset={"name": "phantom_mri", "patients": 20, "size": 64})
    table = pd.DataFrame({"image_id": ["a"], "patient_id": ["p"], "split": "test", "grade": 1.0})
    rows = diagnosis.units(study, Network("grade", "classify", ("grade",)), table, np.array([[0.3]]))
    assert not {"class", "decision"} & set(rows)


def test_a_model_whose_probabilities_do_not_sum_to_one_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Reader:\n"
        "    def diagnose(self, images):\n"
        "        return torch.full((len(images), 3), 0.5)\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = {"model": "mine.py:Reader", "kind": "classify", "tasks": list(TASKS)}
    given.check(given.diagnoser(settings), 64)
    with pytest.raises(ValueError, match=r"mine.py:Reader.*3 classes sum to 1.5.*softmax"):
        given.check(given.diagnoser(settings | {"classes": True}), 64)


def test_a_model_of_several_classes_has_the_loss_that_penalties_need(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Reader:\n"
        "    def diagnose(self, images):\n"
        "        return torch.tensor([[0.5, 0.3, 0.2]]).expand(len(images), 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = {"model": "mine.py:Reader", "kind": "classify", "tasks": list(TASKS), "classes": True}
    reader = given.diagnoser(settings)
    loss = reader.criterion(reader(torch.zeros(2, 1, 8, 8)), torch.eye(3)[[0, 1]])
    assert loss.item() == pytest.approx(-(np.log(0.5) + np.log(0.3)) / 2, rel=1e-5)


def test_radiographs_keep_one_network_for_findings_beside_one_for_classes():
    labels = {"nodule": "nodule", "dx": {"column": "dx", "labels": {"a": 0, "b": 1, "c": 2}}, "mass": "mass"}
    study = params.study(dataset={"name": "table", "modality": "xray", "tasks": labels}, noise="none")
    named = [(network.name, network.tasks, network.classes) for network in study.networks]
    assert named == [("findings", ("nodule", "mass"), False), ("dx", ("dx: a", "dx: b", "dx: c"), True)]
    chosen = params.study(
        dataset={"name": "table", "tasks": labels},
        noise="none",
        diagnosis={"tasks": ["dx"], "classify": {"class_weights": "balanced"}},
    )
    assert list(chosen.tasks) == ["dx: a", "dx: b", "dx: c"]
    assert chosen.diagnosis.settings(chosen.networks[0])["class_weights"] == "balanced"


def test_tasks_of_several_classes_are_studied_only_where_they_are_named():
    settings = {"name": "phantom_mri", "patients": 200, "size": 64, "slices": 1}
    assert list(params.study(dataset=settings).tasks) == ["grade", "type", "tumour"]
    study = params.study(dataset=settings, diagnosis={"tasks": ["entity"]})
    table = data.cohort_table(study)
    assert list(study.tasks) == [f"entity: {name}" for name in ("low sharp", "high sharp", "low ragged", "high ragged")]
    assert (table["entity: high ragged"] == table.grade * table.type).all()
    with pytest.raises(params.ParamsError, match="'entty' is unknown; did you mean 'entity'"):
        params.study(dataset=settings, diagnosis={"tasks": ["entty"]})


def test_histologies_of_real_gliomas(real_data, monkeypatch):
    monkeypatch.setenv("RECONFAIR_DATA", str(real_data))
    table = params.study(dataset={"name": "lgg"}).dataset.read_table().drop_duplicates("patient_id")
    assert table.histology.value_counts(dropna=False).sort_index().tolist() == [33, 29, 47, 1]
    known = ucsf_pdgm.read_clinical(real_data / "ucsf_pdgm" / "UCSF-PDGM-metadata_v2.csv").table
    assert known.diagnosis.value_counts().sort_index().tolist() == [374, 114, 13]
