"""CheXpert: small files in its layout, with every quirk that is known of the published ones."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconfair import data, params
from reconfair.data import chexpert
from reconfair.params import ParamsError

TASKS = list(chexpert.TASKS)
OTHERS = {"No Finding": "", **dict.fromkeys(TASKS, ""), "Support Devices": ""}
# Path without folder, Sex, Age, view, labels
TRAIN = [
    ("patient00001/study1/view1_frontal", "Female", "68", "AP", {"Edema": "1.0", "Cardiomegaly": "-1.0", "Fracture": "0.0"}),
    ("patient00002/study2/view1_frontal", "Female", "88", "PA", {"No Finding": "1.0", "Edema": "-1.0"}),
    ("patient00002/study1/view1_frontal", "Female", "87", "AP", {"Pneumonia": "1.0"}),
    ("patient00002/study1/view2_lateral", "Female", "87", "", {"Pneumonia": "1.0"}),
    ("patient00002/study10/view1_frontal", "Female", "90", "LL", {}),
    ("patient00003/study1/view1_frontal", "Unknown", "0", "AP", {}),
    ("patient00004/study1/view1_frontal", "Male", "41", "AP", {"Pleural Effusion": "1.0"}),
]  # fmt: skip
RACES = {"patient00001": "White, non-Hispanic", "patient00002": "Asian - Historical Conv", "patient00003": "Unknown"}


def frame(entries, release):
    rows = [
        {"Path": f"CheXpert-{release}/train/{path}.jpg", "Sex": sex, "Age": age,
         "Frontal/Lateral": "Lateral" if "lateral" in path else "Frontal", "AP/PA": view, **OTHERS, **labels}
        for path, sex, age, view, labels in entries
    ]  # fmt: skip
    return pd.DataFrame(rows)


def demographics(root, races):
    demo = pd.DataFrame({"PATIENT": list(races), "GENDER": "Female", "AGE_AT_CXR": 60, "PRIMARY_RACE": races.values()})
    demo.assign(ETHNICITY="Unknown").to_excel(root / "CHEXPERT DEMO.xlsx", index=False)


@pytest.fixture
def write(tmp_path):
    """Write the two tables, with changed entries of ``train.csv``."""

    def files(release="v1.0-small", races=RACES, entries=TRAIN, **changes):
        folder = tmp_path / f"CheXpert-{release}"
        folder.mkdir(exist_ok=True)
        table = frame(entries, release)
        for column, value in changes.items():
            table.loc[1, column.replace("_", " ")] = value
        table.to_csv(folder / "train.csv", index=False)
        demographics(tmp_path, races)
        return tmp_path

    return files


def dataset(root, **settings):
    return chexpert.CheXpert(name="chexpert", root=str(root), size=64, **settings)


def table(root, **settings):
    return dataset(root, **settings).read_table().set_index("image_id")


# --- labels ---


def test_there_are_the_twelve_findings_of_the_paper():
    assert len(TASKS) == 12 and not {"No Finding", "Support Devices"} & set(TASKS)


def test_a_finding_is_what_the_report_says_and_unknown_otherwise(write):
    first = table(write()).loc["patient00001_study1_view1_frontal", TASKS]
    assert first.dropna().to_dict() == {"Edema": 1, "Fracture": 0}  # Cardiomegaly is uncertain


def test_no_finding_is_the_absence_of_them_all(write):
    assert (table(write()).loc["patient00002_study2_view1_frontal", TASKS] == 0).all()


def test_a_finding_that_is_not_mentioned_may_count_as_absent(write):
    first = table(write(), blank="zero").loc["patient00001_study1_view1_frontal", TASKS]
    assert first.isna().sum() == 1 and np.isnan(first.Cardiomegaly) and first.sum() == 1


# --- who ---


def test_only_frontal_views_are_kept_and_the_projection_is_told(write):
    rows = table(write())
    assert len(rows) == 6 and not rows.index.str.contains("lateral").any()
    assert rows["view"].tolist() == ["AP", "AP", "PA", "LL", "AP", "AP"]


def test_age_is_that_of_the_first_study_and_studies_follow_each_other_by_number(write):
    rows = table(write())
    assert rows.age["patient00002_study10_view1_frontal"] == 87
    assert rows.index[1:4].str.split("_").str[1].tolist() == ["study1", "study2", "study10"]


def test_unknown_sex_and_age_zero_are_missing(write):
    patient = table(write()).loc["patient00003_study1_view1_frontal"]
    assert pd.isna(patient.sex) and pd.isna(patient.age)


def test_a_patient_in_another_case_is_the_same(write):
    """As a spreadsheet may write it: the demographics say Patient00001."""
    there = table(write(races={name.capitalize(): race for name, race in RACES.items()}))
    assert there.race.dropna().to_dict() == table(write()).race.dropna().to_dict() != {}


def test_patients_of_unknown_race_stay_unless_they_are_dropped(write):
    root = write()
    assert table(root).drop_duplicates("patient_id").race.fillna("?").tolist() == ["White", "Asian", "?", "?"]
    assert set(table(root, unknown_race="drop").patient_id) == {"patient00001", "patient00002"}


@pytest.mark.parametrize(
    ("raw", "race"),
    [
        ("White", "White"), ("White or Caucasian", "White"), ("White, Hispanic", "White"),
        ("Black or African American", "Black"), ("Black, non-Hispanic", "Black"),
        ("Asian", "Asian"), ("Asian, non-Hispanic", "Asian"), ("Asian - Historical Conv", "Asian"),
        ("Other", "Other"), ("Other, Hispanic", "Other"),
        ("Native Hawaiian or Other Pacific Islander", "Native Hawaiian/Pacific Islander"),
        ("Pacific Islander, non-Hispanic", "Native Hawaiian/Pacific Islander"),
        ("American Indian or Alaska Native", "American Indian/Alaska Native"),
        ("Native American, Hispanic", "American Indian/Alaska Native"),
        ("Patient Refused", None), ("Race and Ethnicity Unknown", None), ("Unknown", None), ("0", None), (None, None),
    ],
)  # fmt: skip
def test_every_published_word_for_race_is_one_of_six_groups_or_unknown(tmp_path, raw, race):
    demographics(tmp_path, {"patient00001": raw})
    read = chexpert.read_races(tmp_path / "CHEXPERT DEMO.xlsx")["patient00001"]
    assert read == race if race else pd.isna(read)
    assert race is None or race in params.RACES


@pytest.mark.parametrize("release", ["v1.0-small", "v1.0"])
def test_images_of_either_release_are_found(write, release):
    root = write(release)
    path = table(root, release=release).path["patient00001_study1_view1_frontal"]
    assert path == f"{root}/CheXpert-{release}/train/patient00001/study1/view1_frontal.jpg"


def test_a_radiograph_is_read(write):
    root = write()
    row = next(dataset(root).read_table().itertuples())
    grey = np.tile(np.arange(128, dtype=np.uint8), (100, 1))
    (root / "CheXpert-v1.0-small/train/patient00001/study1").mkdir(parents=True)
    Image.fromarray(grey).save(row.path)
    image, mask = dataset(root).read_image(row)
    assert image.shape == (64, 64) and mask is None and np.abs(np.diff(image[32])[2:-2] - 1 / 64).max() < 0.02


def test_the_cohort_carries_a_study_and_its_age_boundary_can_be_the_papers(write):
    entries = [
        (
            f"patient{n:05d}/study1/view1_frontal",
            ["Male", "Female"][n % 2],
            str(40 + n % 50),
            "AP",
            {"Edema": f"{n // 2 % 2}.0"},
        )
        for n in range(200)
    ]
    root = write(entries=entries, races={f"patient{n:05d}": "White" for n in range(200)})
    section = {"name": "chexpert", "root": str(root), "age_boundary": 62}
    cohort = data.cohort_table(params.study(dataset=section, diagnosis={"tasks": ["Edema"]}))
    assert cohort.split.value_counts().to_dict() == {"train_recon": 98, "train_diag": 42, "val": 20, "test": 40}
    assert cohort.groupby("age_group").age.agg(["min", "max"]).to_dict("list") == {"min": [63, 40], "max": [89, 62]}


# --- mistakes ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Edema": "2.0"}, r"train\.csv, column 'Edema': .*'2\.0' \(1, first in row 3\); expected 1, 0, -1 or empty"),
        ({"No_Finding": "yes"}, r"column 'No Finding': .*'yes' \(1, first in row 3\)"),
        ({"Edema": "unknown"}, r"column 'Edema': .*'unknown' \(1"),
        ({"Sex": "Femal"}, r"column 'Sex': .*'Femal' \(1, first in row 3\).*'Female'"),
        ({"Age": "old"}, r"column 'Age': .*'old' \(1, first in row 3\); expected an age"),
        ({"Frontal/Lateral": "Front"}, r"column 'Frontal/Lateral': .*'Front' \(1, first in row 3\); expected Frontal, Lateral"),
        ({"Path": "../../etc/passwd"}, r"row 3, column 'Path': '\.\./\.\./etc/passwd' is no path such as 'CheXpert-v1\.0-small/train/patient00001"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named_with_its_row(write, change, message):
    with pytest.raises(ValueError, match=message):
        table(write(**change))


def test_paths_of_the_other_release_are_refused_with_the_setting_that_reads_them(write):
    root = write("v1.0-small")
    text = (root / "CheXpert-v1.0-small" / "train.csv").read_text()
    (root / "CheXpert-v1.0-small" / "train.csv").write_text(text.replace("v1.0-small", "v1.0"))
    message = (
        r"row 2, column 'Path': 'CheXpert-v1\.0/train.* is no path such as 'CheXpert-v1\.0-small.*: v1\.0 \(6 more"
    )
    with pytest.raises(ValueError, match=message):
        table(root)


@pytest.mark.parametrize("missing", ["CHEXPERT DEMO.xlsx", "CheXpert-v1.0-small/train.csv"])
def test_a_missing_table_is_named_with_where_to_get_it(write, missing):
    root = write()
    (root / missing).unlink()
    with pytest.raises(ParamsError) as error:
        table(root)
    for said in (f"{root / missing}", "aimi.stanford.edu", "dataset.root"):
        assert said in str(error.value)


def test_a_table_under_another_name_is_pointed_out(write):
    root = write()
    (root / "CHEXPERT DEMO.xlsx").rename(root / "CHEXPERT_DEMO.xlsx")
    with pytest.raises(ParamsError, match=r"CHEXPERT DEMO\.xlsx .*'CHEXPERT_DEMO\.xlsx'"):
        table(root)


def test_demographics_of_other_patients_are_refused(write):
    with pytest.raises(ValueError, match=r"CHEXPERT DEMO\.xlsx: it knows the race of no patient of .*train\.csv"):
        table(write(races={"patient77777": "White"}))


def test_an_unheard_of_race_is_named(write):
    with pytest.raises(ValueError, match=r"DEMO\.xlsx, row 3, column 'PRIMARY_RACE': 'Martian' is none of the known"):
        table(write(races={"patient00001": "White", "patient00002": "Martian"}))


def test_either_table_changes_the_signature(write):
    root = write()
    seen = {dataset(root).signature}
    seen.add(dataset(write(Age="89")).signature)
    seen.add(dataset(write(races={"patient00001": "Black"}, Age="89")).signature)
    assert len(seen) == 3
