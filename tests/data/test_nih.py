"""ChestX-ray14: the published files as they are, and small ones in their layout."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scans import stored

from reconfair import data, params
from reconfair.data import files, nih

ENTRIES = pd.DataFrame(
    {
        "Image Index": ["00000002_000.png", "00000001_001.png", "00000001_000.png", "00000003_000.png"],
        "Finding Labels": ["No Finding", "Effusion|Hernia", "Effusion|Infiltration", "Hernia"],
        "Follow-up #": [0, 1, 0, 0],
        "Patient ID": [2, 1, 1, 3],
        "Patient Age": ["060Y", "058Y", "057Y", "033Y"],
        "Patient Gender": ["M", "F", "F", "M"],
        "View Position": ["PA", "AP", "PA", "PA"],
    }
)
GREY = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)


@pytest.fixture
def root(tmp_path):
    """Three patients, four radiographs, in two of the publisher's folders."""
    for number, name in enumerate(ENTRIES["Image Index"]):
        folder = tmp_path / f"images_{number % 2 + 1:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY).save(folder / name)
    write(tmp_path, ENTRIES)
    return tmp_path


def write(root, entries):
    entries.to_csv(root / "Data_Entry_2017_v2020.csv", index=False)


def dataset(root, size=64):
    return nih.NIH(name="nih", root=str(root), size=size)


def table(root):
    return dataset(root).read_table().set_index("image_id")


@cache
def real(root):
    return dataset(root).read_table()


def test_a_name_in_two_folders_is_refused(root):
    Image.fromarray(255 - GREY).save(root / "images_002" / "images" / "00000002_000.png")
    with pytest.raises(ValueError, match=r"00000002_000\.png lies in several folders"):
        table(root)


def test_the_images_that_are_there_are_counted_not_those_of_the_published_set(root):
    there, nowhere = (
        params.study(dataset={"name": "nih", "root": str(place), "size": 64}) for place in (root, root / "nowhere")
    )
    assert data.sizes(there)["all"] == 4 and data.sizes(nowhere)["all"] == data.IMAGES["nih"]


# --- the published files ---


def test_every_published_patient_and_image_is_found(real_data):
    rows = real(real_data / "nih")
    assert (len(rows), rows.patient_id.nunique()) == (1000, 264) and rows.image_id.is_unique


def test_published_findings_are_counted(real_data):
    rows = real(real_data / "nih")
    known = {"Effusion": 170, "Infiltration": 162, "Atelectasis": 95, "Cardiomegaly": 83}
    assert rows[list(known)].sum().to_dict() == known
    assert rows.Abnormal.isin([0, 1]).all() and (rows.Abnormal >= rows[list(known)].max(axis=1)).all()


def test_published_patients_have_one_sex_and_one_age_and_no_race(real_data):
    rows = real(real_data / "nih")
    assert (rows.groupby("patient_id")[["sex", "age"]].nunique() == 1).all(axis=None)
    assert set(rows.sex) == set(params.SEXES) and rows.race.isna().all() and rows.age.between(0, 100).all()


def test_published_images_with_four_channels_are_read(real_data):
    rows = real(real_data / "nih")
    coloured = [row for row in rows.itertuples() if stored(row.path).shape[-1] == 4]
    assert len(coloured) == 21
    for row in coloured[:5]:
        image, mask = dataset(real_data / "nih").read_image(row)
        assert image.shape == (64, 64) and (image.min(), image.max()) == (0, 1) and mask is None


def test_the_published_cohort_carries_the_study(real_data):
    study = params.study(dataset={"name": "nih", "size": 64, "root": str(real_data / "nih")})
    patients = data.cohort_table(study).drop_duplicates("patient_id")
    counted = patients.split.value_counts().to_dict()
    expected = {"train_recon": 129, "train_diag": 55, "val": 26, "test": 53}  # of 264: 49, 21, 10 and 20 %
    assert all(abs(counted[split] - n) <= 1 for split, n in expected.items()) and sum(counted.values()) == 264


# --- files in that layout ---


def test_findings_become_labels(root):
    rows = table(root)
    assert rows.loc["00000001_000", ["Abnormal", "Effusion", "Infiltration", "Cardiomegaly"]].tolist() == [1, 1, 1, 0]
    assert rows.loc["00000002_000", ["Abnormal", "Effusion"]].tolist() == [0, 0]
    assert rows.loc["00000003_000", ["Abnormal", "Effusion"]].tolist() == [1, 0]  # a finding that is no task


def test_a_report_without_entry_is_unknown(root):
    entries = ENTRIES.copy()
    entries.loc[3, "Finding Labels"] = np.nan
    write(root, entries)
    assert table(root).loc["00000003_000", ["Abnormal", "Effusion"]].isna().all()


def test_age_and_sex_are_those_of_the_first_study(root):
    rows = table(root)
    assert rows.age.to_dict() == {"00000001_000": 57, "00000001_001": 57, "00000002_000": 60, "00000003_000": 33}
    assert rows.sex.to_dict()["00000001_001"] == "female" and rows["view"].to_dict()["00000001_001"] == "AP"


def test_numbers_for_ages_and_no_view_are_read_too(root):
    ages = ENTRIES["Patient Age"].str.strip("Y").astype(int)
    write(root, ENTRIES.assign(**{"Patient Age": ages}).drop(columns="View Position"))
    rows = table(root)
    assert rows.age["00000002_000"] == 60 and rows["view"].isna().all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_grey_stays_grey_whatever_its_channels(root, mode):
    row = next(dataset(root).read_table().itertuples())
    Image.fromarray(GREY).convert(mode).save(row.path)
    image, _ = dataset(root).read_image(row)
    assert image == pytest.approx(files.scaled(GREY, 64), abs=0.01)


def test_absent_images_are_all_named(root):
    for name in ("00000002_000.png", "00000003_000.png"):
        next(root.rglob(name)).unlink()
    assert [path.rpartition("/")[2] for path in data.absent(dataset(root).read_table())] == [
        "00000002_000.png",
        "00000003_000.png",
    ]


def test_an_absent_image_is_one_that_cannot_be_read_where_such_are_skipped(root):
    next(root.rglob("00000002_000.png")).unlink()
    skipping = nih.NIH(name="nih", root=str(root), size=64, on_bad_image="skip")
    absent = next(row for row in skipping.read_table().itertuples() if row.patient_id == "2")
    with pytest.raises(ValueError, match=r"00000002_000\.png: cannot be read as an image .*No such file"):
        skipping.read_image(absent)


def test_an_age_that_nobody_reaches_is_missing(root):
    write(root, ENTRIES.assign(**{"Patient Age": [414, "058Y", "057Y", "033Y"]}))
    assert table(root).age.isna().to_dict()["00000002_000"] and table(root).age.notna().sum() == 3
    assert "1 ages above 120" in table(root).attrs["notes"][0]


def test_a_truncated_image_is_named(root):
    row = next(dataset(root).read_table().itertuples())
    with open(row.path, "r+b") as file:
        file.truncate(2000)
    with pytest.raises(ValueError, match=r"00000001_000\.png: cannot be read as an image"):
        dataset(root).read_image(row)


@pytest.mark.parametrize("column", ["Patient Gender", "Finding Labels"])
def test_a_missing_column_is_named(root, column):
    write(root, ENTRIES.drop(columns=column))
    with pytest.raises(ValueError, match=rf"v2020\.csv: column '{column}' is missing"):
        dataset(root).read_table()


def test_words_for_sex_are_read_and_what_is_none_is_named(root):
    write(root, ENTRIES.assign(**{"Patient Gender": ["Male", "female ", "f", "m"]}))
    assert table(root).sex.to_dict() == {
        "00000001_000": "female",
        "00000001_001": "female",
        "00000002_000": "male",
        "00000003_000": "male",
    }
    write(root, ENTRIES.assign(**{"Patient Gender": ["Mal", "F", "F", "M"]}))
    with pytest.raises(ValueError, match=r"column 'Patient Gender': .*'Mal' \(1, first in row 2\).*'Male'"):
        table(root)


def test_findings_are_read_whatever_their_case_and_unknown_ones_named(root):
    write(root, ENTRIES.assign(**{"Finding Labels": ["no finding ", "effusion | Hernia", "Effusion", "Hernia"]}))
    assert table(root).Effusion.tolist() == [1, 1, 0, 0] and table(root).Abnormal.tolist() == [1, 1, 0, 1]
    write(root, ENTRIES.assign(**{"Finding Labels": ["No Finding", "Effusion|No Finding", "Effusion", "Hernia"]}))
    with pytest.raises(ValueError, match=r"row 3, column 'Finding Labels': 'Effusion\|No Finding'.*either"):
        table(root)
    write(root, ENTRIES.assign(**{"Finding Labels": ["No Finding", "Effusions", "Effusion", "Hernia"]}))
    with pytest.raises(ValueError, match=r"row 3, column 'Finding Labels': 'Effusions' holds a finding that is none"):
        table(root)
