"""Cohorts: what cannot carry a study is refused; what is prepared is what was drawn."""

import numpy as np
import pandas as pd
import pytest

from reconfair import data, params, store
from reconfair.data import phantom_mri
from reconfair.params import ParamsError

CHAPTER = {"compute": {"workers": 1}, "diagnosis": {"tasks": ["tumour"]}}


def mri(**settings):
    dataset = {"name": "phantom_mri", "size": 64, "patients": 20, "slices": 2} | settings
    return params.study(dataset=dataset, **CHAPTER)


def xray(**settings):
    common = {"prevalence": {"sex": {"female": 0.3, "male": 0.3}}}  # so that no split lacks a case
    dataset = {"name": "phantom_xray", "size": 64, "patients": 40, "dials": common} | settings
    return params.study(dataset=dataset, compute={"workers": 1}, diagnosis={"tasks": ["effusion"]})


@pytest.fixture
def table():
    """Six patients, a positive and a negative one in each split."""
    return pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(6)],
            "patient_id": [f"p{i}" for i in range(6)],
            "split": ["train", "train", "val", "val", "test", "test"],
            "sex": "female",
            "nodule": [0.0, 1.0] * 3,
        }
    )


# --- what is refused ---


def test_a_sound_cohort_passes(table):
    data.check(table, ["nodule"])


def test_a_repeated_image_is_named(table):
    table.loc[[2, 4], "image_id"] = "i1"
    with pytest.raises(ValueError, match=r"image 'i1' occurs more than once \(2 repeated images\)"):
        data.check(table, [])


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("split", ["val", "test"], "patient 'p3' is in two splits: val, test"),
        ("sex", ["female", "male"], "patient 'p3' is in two groups of sex: female, male"),
        ("age_group", ["younger", "older"], "patient 'p3' is in two groups of age_group: younger, older"),
        ("race", ["Asian", "Black"], "patient 'p3' is in two groups of race: Asian, Black"),
    ],
)
def test_a_patient_of_two_kinds_is_named(table, column, values, message):
    table = table.assign(**{"age_group": "older", "race": "White"})
    table.loc[[3, 4], "patient_id"] = "p3"
    table.loc[[3, 4], "split"] = "val"
    table.loc[[3, 4], column] = values
    with pytest.raises(ValueError, match=message):
        data.check(table, [])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split_is_named(table, split):
    with pytest.raises(ValueError, match=f"split '{split}' is empty: 4 patients are too few"):
        data.check(table[table.split != split], [])


def test_an_empty_part_of_the_training_is_named(table):
    with pytest.raises(ValueError, match="split 'train_recon' is empty"):
        data.check(table.replace({"split": {"train": "train_diag"}}), [])


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("missing", [False, True])
def test_a_class_without_a_case_is_named(table, label, missing):
    hit = (table.split == "val") & (table.nodule == label)
    table.loc[hit, "nodule"] = np.nan if missing else 1.0 - label
    with pytest.raises(ValueError, match=f"task 'nodule': no case of class {label} in split 'val'"):
        data.check(table, ["nodule"])


def test_too_few_patients_are_refused_before_anything_is_drawn(outputs):
    with pytest.raises(ValueError, match="split 'val' is empty: 20 patients are too few"):
        data.prepare(mri(split=(0.8, 0, 0.2)))
    assert not any(outputs.rglob("*.npy"))


# --- which rows ---


@pytest.mark.parametrize(
    ("use", "mri_rows", "xray_rows"),
    [
        ("recon", [0, 1], [0]),
        ("diag", [0, 1], [1]),
        ("val", [2, 3], [2, 3]),
        ("test", [4, 5], [4, 5]),
        ("eval", [2, 3, 4, 5], [2, 3, 4, 5]),
    ],
)
def test_rows_of_a_use(table, use, mri_rows, xray_rows):
    assert data.rows(table, use).tolist() == mri_rows
    parted = table.assign(split=["train_recon", "train_diag", *table.split[2:]])
    assert data.rows(parted, use).tolist() == xray_rows


# --- what is prepared ---


def test_a_prepared_cohort_is_what_was_drawn(outputs):
    study = mri()
    cohort = data.prepare(study)
    assert cohort.images.shape == cohort.masks.shape == (40, 64, 64)
    assert cohort.images.dtype == np.float16 and cohort.images.min() >= 0 and cohort.images.max() <= 1
    assert set(np.unique(cohort.masks)) == {0, 1}
    drawn = phantom_mri.table(study.dataset)
    assert cohort.table.image_id.tolist() == drawn.image_id.tolist()
    for at in (0, 33, 39):  # the last two are in the second piece of work
        image, mask = phantom_mri.image(next(drawn.iloc[[at]].itertuples()), study.dataset)
        assert np.abs(cohort.images[at] - image).max() < 1e-3 and (cohort.masks[at] == mask).all()


def test_a_prepared_cohort_is_not_drawn_again(outputs):
    data.prepare(mri())
    before = (outputs / "phantom_mri" / "images.npy").stat().st_mtime_ns
    again = data.prepare(mri())
    assert (outputs / "phantom_mri" / "images.npy").stat().st_mtime_ns == before
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable


def test_a_radiograph_has_no_mask_and_two_training_sets(outputs):
    cohort = data.prepare(xray())
    assert cohort.masks is None and not (outputs / "phantom_xray" / "masks.npy").exists()
    assert cohort.table.groupby("split").patient_id.nunique().to_dict() == {
        "train_recon": 20,
        "train_diag": 8,
        "val": 4,
        "test": 8,
    }  # of 40 patients: 49, 21, 10 and 20 %


def test_other_settings_under_the_same_label_are_refused(outputs):
    data.prepare(mri())
    before = store.flow(mri())["cohort"].read_stamp()
    with pytest.raises(ParamsError, match=r"dataset\.slices: .* was made with 2, this study says 1"):
        data.prepare(mri(slices=1))
    assert store.flow(mri())["cohort"].read_stamp() == before


def test_a_fresh_cohort_is_checked_for_the_tasks_of_the_study(outputs):
    few = mri(split=(0.9, 0.05, 0.05))
    data.prepare(few)  # segmentation needs no classes
    with pytest.raises(ValueError, match=r"task 'grade': no case of class \d in split 'val'"):
        data.prepare(params.study(dataset=few.dataset.model_dump(), compute=CHAPTER["compute"]))
