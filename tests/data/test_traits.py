"""Attributes of the user's own, several classes and colour: in a table of one's own, and in phantoms."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconfair import data, judge, params
from reconfair.data import splits, traits
from reconfair.params import ParamsError

ROWS = {
    "path": [f"{k}.png" for k in range(40)],
    "patient_id": [f"p{k // 2}" for k in range(40)],
    "sex": ["F", "M"] * 20,
    "vendor": (["Siemens"] * 2 + ["GE"] * 2) * 10,
    "bmi": [k // 2 * 1.0 + 15 for k in range(40)],
    "dx": [*["nv", "mel", "bcc"] * 13, "nv"],
}
SETTINGS = {"name": "table", "sex": None, "age": None, "race": None, "size": 32, "unit": "image"}
SETTINGS["split"] = [0.4, 0.3, 0.3]
DX = {"dx": {"column": "dx", "labels": {"nv": 0, "mel": 1, "bcc": 2}}}


def hospital(root, rows=ROWS, **settings):
    """A study of a table in `root`, whose images are of one colour each."""
    table = pd.DataFrame(rows)
    table.to_csv(root / "cohort.csv", index=False)
    for k, name in enumerate(table.path):
        Image.new("RGB", (40, 40), (200, k, 10)).save(root / name)
    dataset = {**SETTINGS, "root": str(root), "attributes": {"scanner": "vendor"}, "tasks": DX} | settings
    return params.study(dataset=dataset, noise="none")


def test_groups_of_one_column_and_of_numbers(tmp_path):
    attributes = {"scanner": "vendor", "bmi": {"column": "bmi", "cuts": [18.5, 25]}}
    study = hospital(tmp_path, attributes=attributes)
    assert study.attributes() == ("scanner", "bmi")
    table = study.dataset.read_table()
    assert set(table.scanner) == {"Siemens", "GE"}
    assert table.bmi.value_counts().to_dict() == {"up to 18.5": 8, "18.5 to 25": 14, "above 25": 18}
    assert (table.bmi_value == ROWS["bmi"]).all()
    listed = splits.cases(data.cohort_table(study), [], ["bmi"])
    assert listed.group.tolist() == ["up to 18.5", "18.5 to 25", "above 25"]


@pytest.mark.parametrize(("cuts", "whole"), [("median", ()), ("none", ("bmi",))])
def test_the_median_over_patients_is_the_end_of_the_lower_group(tmp_path, cuts, whole):
    rows = ROWS | {"bmi": [20.0] * 38 + [30.0] * 2}
    rows["bmi"][:2] = [None, 10.0]  # a missing number is taken from the other row of the patient
    study = hospital(tmp_path, rows, attributes={"bmi": {"column": "bmi", "cuts": cuts}})
    table = study.dataset.read_table()
    assert table.bmi.value_counts().to_dict() == {"up to 20": 38, "above 20": 2} and table.bmi_value.iloc[0] == 10
    assert study.dataset.about.whole == whole


def test_cuts_outside_the_numbers_are_named(tmp_path):
    for cuts, group in (([100, 200], "up to 100"), ([3], "above 3")):
        with pytest.raises(ValueError, match=rf"'bmi'.*15 to 34.*{group}.*dataset\.attributes\.bmi\.cuts"):
            data.cohort_table(hospital(tmp_path, attributes={"bmi": {"column": "bmi", "cuts": cuts}}))
    study = hospital(tmp_path, attributes={"bmi": {"column": "bmi", "cuts": [18.5, 25, 40]}})
    notes = " ".join(study.dataset.read_table().attrs["notes"])
    assert "above 40" in notes and "15 to 34" in notes and "25 to 40" not in notes
    same = hospital(tmp_path, ROWS | {"bmi": [20] * 40}, attributes={"bmi": {"column": "bmi", "cuts": "median"}})
    with pytest.raises(ValueError, match=r"'bmi': all numbers are 20, .*expected different ones"):
        data.cohort_table(same)
    few = hospital(
        tmp_path, ROWS | {"bmi": [10] * 2 + [20] * 38}, attributes={"bmi": {"column": "bmi", "cuts": "median"}}
    )
    with pytest.raises(ValueError, match=r"'bmi'.*10 to 20.*'up to 20'; .*cuts: \[15\]"):
        data.cohort_table(few)


@pytest.mark.parametrize("cuts", ["median", "none", [20, 25]])
def test_numbers_that_stand_for_unknown_are_declared_beside_cuts(tmp_path, cuts):
    rows = ROWS | {"bmi": ["-999", "-999.0", *ROWS["bmi"][2:]]}
    bmi = {"column": "bmi", "cuts": cuts, "values": {-999: None}}
    table = hospital(tmp_path, rows, attributes={"bmi": bmi}).dataset.read_table()
    assert table.bmi.isna().sum() == table.bmi_value.isna().sum() == 2 and table.bmi_value.min() == 16


def test_two_numbers_of_a_patient_are_refused(tmp_path):
    rows = ROWS | {"bmi": [17.0, 15.0, *ROWS["bmi"][2:]]}
    study = hospital(tmp_path, rows, attributes={"bmi": {"column": "bmi", "cuts": "none"}})
    with pytest.raises(ValueError, match=r"row 3, column 'bmi': '15\.0' is not what another row says of this patient"):
        data.cohort_table(study)


@pytest.mark.parametrize("entry", ["", "NaN", "unknown"])
def test_a_column_of_which_nothing_is_known_is_refused(tmp_path, entry):
    rows = ROWS | {"empty": [entry] * 40}
    for settings in (
        {"attributes": {"x": {"column": "empty", "cuts": "none"}}},
        {"attributes": {"x": "empty"}},
        {"sex": "empty"},
        {"age": "empty"},
    ):
        key = "dataset.attributes.x" if "attributes" in settings else f"dataset.{next(iter(settings))}: null"
        study = hospital(tmp_path, rows, **settings)
        with pytest.raises(ValueError, match=rf"^\S*cohort\.csv, column 'empty': no entry is known; .*{key}.*column$"):
            data.cohort_table(study)
        with pytest.raises(ValueError, match=r"no entry is known"):
            data.preview(study)


def test_classes_that_yaml_reads_as_truth_values_are_refused(tmp_path):
    labels = params.parsed("{yes: 0, no: 1, maybe: 2}")
    with pytest.raises(ParamsError, match=r"^dataset\.tasks\.dx: labels: YAML reads yes and no.*in quotes"):
        hospital(tmp_path, tasks={"dx": {"column": "dx", "labels": labels}})
    quoted = {"dx": {"column": "dx", "labels": params.parsed("{'yes': 0, 'no': 1, maybe: 2}")}}
    assert hospital(tmp_path, tasks=quoted).tasks == dict.fromkeys(["dx: yes", "dx: no", "dx: maybe"], "classify")


def test_numbers_without_cuts_are_no_groups(tmp_path):
    rows = ROWS | {"dose": [k // 2 + 0.5 for k in range(40)], "fine": [k // 2 for k in range(40)]}
    many = {**rows, "dose": [k * 1.5 for k in range(40)], "patient_id": [f"p{k}" for k in range(40)]}
    with pytest.raises(ValueError, match=r"'dose'.*40 different.*dataset\.attributes\.dose.*cuts: median"):
        data.cohort_table(hospital(tmp_path, many, attributes={"dose": "dose"}))
    assert hospital(tmp_path, rows, attributes={"fine": "fine"}).dataset.read_table().fine.nunique() == 20
    dates = many | {"visit": [f"2020-01-{k + 1:02d}" if k < 30 else f"2020-02-{k - 29:02d}" for k in range(40)]}
    with pytest.raises(ValueError, match=r"'visit'.*40 different values.*attributes\.visit\.values.*fewer groups"):
        data.cohort_table(hospital(tmp_path, dates, attributes={"visit": "visit"}))


def test_values_of_one_column_are_named(tmp_path):
    study = hospital(tmp_path, attributes={"scanner": {"column": "vendor", "values": {"GE": "new", "Siemens": "old"}}})
    assert set(study.dataset.read_table().scanner) == {"new", "old"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attributes": {"group": "vendor"}}, ["'group'", "another name"]),
        ({"attributes": {"sex": "vendor"}}, ["'sex'", "another name"]),
        ({"attributes": {"dx": "vendor"}}, ["'dx'", "another name"]),
        ({"attributes": {"bmi": {"column": "bmi", "cuts": [25, 18]}}}, ["cuts", "rise", "18"]),
        ({"attributes": {"bmi": {"column": "bmi", "cuts": "medain"}}}, ["cuts", "median"]),
        ({"attributes": {"bmi": {"column": "bmi", "cuts": [25], "values": {"1": "a"}}}}, ["values", "cuts"]),
        ({"attributes": {}}, ["sex, age and race, or attributes"]),
        ({"tasks": {"dx": {"column": "dx", "labels": {"nv": 0, "mel": 2}}}}, ["labels", "no entry is 1"]),
        ({"tasks": {"dx": {"column": "dx", "labels": {"nv": 0, "mel": 1}, "ordinal": True}}}, ["ordinal"]),
        ({"tasks": {"dx": {**DX["dx"], "values": {"nv": 0}}}}, ["labels", "values"]),
        ({"channels": 2}, ["channels", "1, 3"]),
        ({"channels": 3, "channel": 1}, ["channel", "channels: 3"]),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, words):
    with pytest.raises(ParamsError) as error:
        hospital(tmp_path, **settings)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_patient_of_two_groups_is_refused(tmp_path):
    study = hospital(tmp_path, ROWS | {"vendor": ["Siemens", "GE"] * 20})
    with pytest.raises(ValueError, match="'p0' is in two groups of scanner"):
        data.cohort_table(study)


def test_an_unknown_column_or_class_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="'vendr' is missing; did you mean 'vendor'"):
        hospital(tmp_path, attributes={"scanner": "vendr"}).dataset.read_table()
    with pytest.raises(ValueError, match=r"'melanoma'"):
        hospital(tmp_path, ROWS | {"dx": ["nv", "mel", "bcc", "melanoma"] * 10}).dataset.read_table()
    stage = {"dx": {"column": "dx", "labels": {"I": 0, "II": 1}}}
    with pytest.raises(ValueError, match=r"'III'.*; did you mean 'II'\?"):
        hospital(tmp_path, ROWS | {"dx": ["I", "II", "III", "I"] * 10}, tasks=stage).dataset.read_table()


def test_every_class_is_a_column_and_one_absent_from_a_split_is_named(tmp_path):
    study = hospital(tmp_path)
    table = data.cohort_table(study)
    assert (table[["dx: nv", "dx: mel", "dx: bcc"]].sum(axis=1) == 1).all() and "dx" not in table
    assert study.tasks == dict.fromkeys(["dx: nv", "dx: mel", "dx: bcc"], "classify")
    assert [(network.name, network.classes) for network in study.networks] == [("dx", True)]
    rare = ["bcc"] * 2 + ["nv", "nv", "mel", "mel"] * 9 + ["nv"] * 2
    with pytest.raises(ValueError, match="task 'dx': no case of class 'bcc' in split"):
        data.cohort_table(hospital(tmp_path, ROWS | {"dx": rare}))


def test_files_are_named_by_other_columns(tmp_path):
    study = hospital(tmp_path, ROWS | {"number": range(40)}, image="{number}.png")
    assert study.dataset.read_table().path.iloc[3] == f"{tmp_path}/3.png"
    with pytest.raises(ValueError, match="'nmber' is missing; did you mean 'number'"):
        hospital(tmp_path, ROWS | {"number": range(40)}, image="{nmber}.png").dataset.read_table()


def test_colours_are_kept_and_grey_files_refused(tmp_path, outputs):
    study = hospital(tmp_path, channels=3, window=[0, 255])
    cohort = data.prepare(study)
    assert cohort.images.shape == (40, 3, 32, 32) and study.dataset.shape == (3, 32, 32)
    first = cohort.images[0].mean(axis=(1, 2)) * 255
    assert first == pytest.approx([200, 0, 10], abs=0.5)
    Image.new("L", (40, 40), 7).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match="one channel"):
        study.dataset.read_image(next(study.dataset.read_table().itertuples()))


def test_settings_of_earlier_cohorts_are_as_they_were():
    grey = params.study(dataset={"name": "phantom_mri", "patients": 20, "size": 64})
    assert not {"attributes", "channels"} & data.product(grey).parameters["dataset"].keys()
    assert "class_weights" not in grey.diagnosis.settings(grey.networks[0])


def test_a_phantom_draws_groups_and_numbers_and_plants_bias_in_them():
    attributes = {"scanner": {"north": 0.7, "south": 0.3}, "bmi": {"mean": 27, "sd": 4, "cuts": [22, 27]}}
    dials = {"contrast": {"scanner": {"south": -0.5}}}
    dataset = {"name": "phantom_mri", "patients": 1000, "size": 64, "slices": 1}
    study = params.study(dataset=dataset | {"attributes": attributes, "dials": dials})
    table, plain = study.dataset.read_table(), params.study(dataset=dataset).dataset.read_table()
    assert study.attributes() == ("sex", "age_group", "race", "scanner", "bmi")
    assert (table.scanner == "south").mean() == pytest.approx(0.3, abs=0.05)
    assert set(table.bmi) == set(traits.groups((22, 27))) and table.bmi_value.mean() == pytest.approx(27, abs=0.4)
    south = (table.scanner == "south").to_numpy()
    assert table.z_contrast.to_numpy() == pytest.approx(plain.z_contrast.to_numpy() * np.where(south, 0.5, 1))


def test_numbers_of_a_phantom_that_are_all_in_one_group_are_refused():
    bmi = {"mean": 27, "sd": 4, "cuts": [100, 200]}
    study = params.study(dataset={"name": "phantom_mri", "patients": 40, "size": 64, "attributes": {"bmi": bmi}})
    with pytest.raises(ValueError, match=r"^dataset\.attributes\.bmi: all numbers .*'up to 100'; .*cuts: \["):
        data.preview(study)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attributes": {"scanner": {"a": 0.5, "b": 0.6}}}, ["dataset.attributes.scanner", "add up to 1"]),
        ({"attributes": {"grade": {"a": 0.5, "b": 0.5}}}, ["'grade'", "another name"]),
        ({"attributes": {"bmi": {"mean": 1, "sd": 0}}}, ["dataset.attributes.bmi", "sd"]),
        ({"dials": {"contrast": {"sx": {"female": 0.1}}}}, ["dataset.dials", "'sex'"]),
        (
            {"attributes": {"scanner": {"ge": 0.5, "b": 0.5}}, "dials": {"contrast": {"scanner": {"gee": 0.1}}}},
            ["contrast.scanner", "'ge'"],
        ),
    ],
)
def test_wrong_attributes_of_a_phantom_are_refused(settings, words):
    with pytest.raises(ParamsError) as error:
        params.study(dataset={"name": "phantom_mri", "patients": 20, "size": 64, **settings})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_tables_follow_the_order_of_classes():
    study = params.study(dataset={"name": "phantom_mri", "patients": 20, "size": 64})
    table = pd.DataFrame({"task": ["image", "type", "grade"], "source": "original", "strategy": "standard"})
    assert judge.ordered(table.assign(reader="standard"), study).task.tolist() == ["grade", "type", "image"]
