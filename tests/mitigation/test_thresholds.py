"""Thresholds by group: groups with too few validation cases fall back along attributes, and it is recorded."""

import numpy as np
import pandas as pd
import pytest
import runs

from reconfair import data, diagnosis, tables
from reconfair.mitigation import thresholds
from reconfair.params import Source


@pytest.fixture
def made(outputs, monkeypatch):
    """Make thresholds for invented validation patients: `few` of the women are older, the others younger."""

    def make(few, min_cases=10, unknown=0):
        study = runs.mri(
            fairness={"min_cases": min_cases},
            mitigation={"strategies": ["thresholds"], "models": ["unet"], "attributes": ["sex", "age_group"]},
            reconstruction={"models": ["unet"]},
            diagnosis={"tasks": ["grade"]},
        )
        rng, n = np.random.default_rng(0), 240
        people = runs.cohort(study, n, rng)
        people["split"] = np.where(np.arange(n) < 160, "val", "test")
        people["sex"] = np.where(np.arange(n) % 2, "female", "male")
        people["age_group"] = "younger"
        women = people.index[(people.sex == "female") & (people.split == "val")]
        people.loc[women[:few], "age_group"] = "older"
        men = people.index[people.sex == "male"]
        people.loc[men[::2], "age_group"] = "older"
        people.loc[women[len(women) - unknown :], "age_group"] = None
        label = (np.arange(n) // 2 % 2).astype(float)
        score = np.clip(0.3 + 0.3 * label + 0.15 * (people.sex == "female") + rng.normal(0, 0.1, n), 0, 1)
        rows = people[["patient_id", "split"]].assign(unit=people.patient_id, task="grade", kind="classify")
        rows = rows.assign(source="unet", strategy="standard", reader="standard", label=label, score=score, dice=np.nan)
        runs.leave(data.product(study), {"cohort": people, "images": np.zeros((n, 8, 8), np.float16)})
        runs.leave(diagnosis.product(study, Source("unet")), {"predictions": rows})
        monkeypatch.setattr(diagnosis, "thresholds", lambda study: {"grade": 0.5})
        source, folder = Source("unet", "thresholds"), thresholds.product(study, Source("unet", "thresholds")).folder
        folder.mkdir(parents=True, exist_ok=True)
        thresholds.write(study, source, folder)
        return tables.read("predictions", folder), rows, people, thresholds.read(study, source)

    return make


def test_a_small_joint_group_takes_the_threshold_of_its_first_attribute(made):
    after, before, people, groups = made(few=8)
    assert groups.moved.all() and groups.patients.sum() == len(people)
    by_group = groups.set_index(["attribute", "group"])
    assert ("sex*age_group", "female/younger") in by_group.index and ("sex", "female") in by_group.index
    older = (people.sex == "female") & (people.age_group == "older")
    assert by_group.loc[("sex", "female"), "patients"] == older.sum() == 8
    threshold = by_group.loc[("sex", "female"), "threshold"]
    at = older.to_numpy()
    np.testing.assert_allclose(after.score[at], thresholds.moved(before.score[at], threshold, 0.5))


def test_a_patient_with_an_unknown_attribute_takes_the_threshold_of_one_that_is_known(made):
    _, _, people, groups = made(few=8, unknown=30)
    by_group = groups.set_index(["attribute", "group"]).patients
    assert by_group["sex", "female"] == 8 + people.age_group.isna().sum() == 38
    assert not groups.group.str.contains("nan|None|unknown").any()


def test_women_come_nearer_to_the_rates_of_all(made):
    after, before, people, _ = made(few=8)
    women = ((people.sex == "female") & (people.split == "val")).to_numpy()
    val = (people.split == "val").to_numpy()

    def rates(rows, of):
        return np.array([(rows.score[of & (rows.label == y)] >= 0.5).mean() for y in (1, 0)])

    assert (
        np.abs(rates(after, women) - rates(before, val)).sum() < np.abs(rates(before, women) - rates(before, val)).sum()
    )


def test_where_no_group_has_enough_cases_nothing_moves_and_that_is_recorded(made):
    after, before, people, groups = made(few=8, min_cases=90)
    pd.testing.assert_series_equal(after.score, before.score, check_index=False)
    assert groups[["attribute", "moved"]].to_numpy().tolist() == [["all", False]]
    assert groups.patients.item() == len(people) and set(after.strategy) == {"thresholds"}


def test_a_run_that_recorded_nothing_says_so(outputs):
    study = runs.mri(mitigation={"strategies": ["thresholds"], "models": ["unet"]})
    assert thresholds.read(study, Source("unet", "thresholds")) is None
