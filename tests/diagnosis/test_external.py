"""Frozen networks on another cohort."""

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair import data, diagnosis, params
from reconfair.fairness import assess

ELSEWHERE = {"name": "phantom_mri", "label": "elsewhere", "size": 64, "patients": 80, "slices": 1, "seed": 1}


def elsewhere(dataset=None, **sections):
    return params.study(dataset=ELSEWHERE | (dataset or {}), **sections)


@pytest.fixture(scope="module")
def other(smallest):
    return elsewhere({"dials": {"prevalence": {"sex": {"male": 0.2}}}})


@pytest.fixture(scope="module")
def answers(smallest, other):
    return diagnosis.evaluate_on(smallest, other)


def test_on_its_own_cohort_it_says_what_it_said(smallest):
    inside = diagnosis.predict(smallest, "original")
    inside = inside[inside.split == "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(diagnosis.evaluate_on(smallest, smallest)[inside.columns], inside, rtol=1e-5)


def test_every_test_patient_of_the_other_cohort_is_answered_for(answers, other):
    test = data.load(other).table.query("split == 'test'")
    for task in ("grade", "type"):
        rows = answers[answers.task == task].set_index("unit")
        assert set(rows.index) == set(test.patient_id)
        assert (rows.label == test.groupby("patient_id")[task].first().loc[rows.index]).all()
    assert set(answers[answers.task == "tumour"].unit) == set(test.image_id)
    assert set(answers.source) == {"original"} and set(answers.split) == {"test"}


def test_scores_and_masks_are_those_of_the_frozen_networks(answers, smallest, other):
    cohort = data.load(other)
    row = int(data.rows(cohort.table, "test")[0])
    image = torch.from_numpy(np.asarray(cohort.images[row], np.float32))[None, None]
    grade, _, tumour = (diagnosis.load(smallest, network) for network in smallest.networks)
    with torch.inference_mode():
        score, mask = grade.diagnose(image).item(), tumour.diagnose(image)[0].numpy()
    dice = 2 * (mask * cohort.masks[row]).sum() / (mask.sum() + cohort.masks[row].sum())
    found = answers.set_index(["task", "unit"])
    assert found.score["grade", cohort.table.patient_id[row]] == pytest.approx(score, abs=1e-5)
    assert found.dice["tumour", cohort.table.image_id[row]] == pytest.approx(dice, nan_ok=True)


def test_chapter_five_takes_the_rows(answers, smallest, other):
    cohort, thresholds = data.load(other).table, diagnosis.thresholds(smallest)
    performance, _ = assess(answers, cohort, attributes=["sex"], thresholds=thresholds, min_cases=1, resamples=99)
    tpr = performance.query("task == 'grade' and metric == 'tpr' and attribute == 'all'").value.item()
    ill = answers[(answers.task == "grade") & (answers.label == 1)]
    assert tpr == pytest.approx((ill.score >= thresholds["grade"]).mean())


def test_only_shared_tasks_are_answered_each_by_its_own_output(monkeypatch):
    names = ("effusion", "cardiomegaly", "consolidation", "pneumothorax", "nodule")
    own = params.study(dataset={"name": "phantom_xray", "size": 64})
    asked = params.study(dataset={"name": "phantom_xray", "size": 64}, diagnosis={"tasks": ["nodule", "cardiomegaly"]})
    table = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["p", "q"], "split": "test", "nodule": 1.0})
    cohort = data.Cohort(table.assign(cardiomegaly=0.0), np.zeros((2, 64, 64)), None)
    monkeypatch.setattr(data, "prepare", lambda study: cohort)
    scores = np.array([[0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9, 1.0]])
    monkeypatch.setattr(diagnosis, "read", lambda *_: (scores, {}))
    found = diagnosis.evaluate_on(own, asked).set_index(["task", "unit"])
    assert own.networks[0].tasks == names and len(found) == 4
    assert found.score["nodule"].tolist() == [0.5, 1.0] and found.score["cardiomegaly"].tolist() == [0.2, 0.7]
    assert found.label["nodule"].tolist() == [1, 1] and found.label["cardiomegaly"].tolist() == [0, 0]


def test_cohorts_without_a_shared_task_are_refused_with_the_tasks_of_both(smallest):
    radiographs = params.study(dataset={"name": "nih", "size": 64})
    with pytest.raises(ValueError, match=r"phantom_mri.*grade, type, tumour.*nih.*Effusion"):
        diagnosis.evaluate_on(smallest, radiographs)


def test_images_of_another_size_are_refused(smallest):
    with pytest.raises(ValueError, match=r"dataset\.size: .*elsewhere.*128.*phantom_mri.*64"):
        diagnosis.evaluate_on(smallest, elsewhere({"size": 128}))


def test_phantoms_and_real_scans_share_all_three_tasks(smallest, real_data):
    real = params.study(dataset={"name": "lgg", "label": "lgg_64", "size": 64, "root": str(real_data / "lgg")})
    found = diagnosis.evaluate_on(smallest, real)
    assert list(found.task.unique()) == ["grade", "type", "tumour"]
    assert found[found.task == "tumour"].dice.between(0, 1).any() and found.score.dropna().between(0, 1).all()
