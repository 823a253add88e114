"""LGG: the published files as they are, and small ones in their layout."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scans import stored

from reconfair import data, params
from reconfair.data import lgg

CLINICAL = {
    "Patient": ["TCGA_AA_0001", "TCGA_AA_0002", "TCGA_AA_0003"],
    "gender": [1, 2, np.nan],
    "age_at_initial_pathologic": [30, 60, np.nan],
    "race": [2, 3, np.nan],
    "neoplasm_histologic_grade": [1, 2, np.nan],
    "histological_type": [1, 3, np.nan],
}
SHAPE = (48, 48)


@pytest.fixture
def root(tmp_path):
    """Three patients with slices 2 and 10; the tumour is in FLAIR, the second channel."""
    for patient in CLINICAL["Patient"]:
        folder = tmp_path / "kaggle_3m" / f"{patient}_19990101"
        folder.mkdir(parents=True)
        for number in (2, 10):
            slice_, outline = np.zeros((*SHAPE, 3), np.uint8), np.zeros(SHAPE, np.uint8)
            slice_[..., 0], slice_[10:20, 10:30, 1], outline[10:20, 10:30] = 50, 200, 255
            Image.fromarray(slice_).save(folder / f"{folder.name}_{number}.tif")
            Image.fromarray(outline).save(folder / f"{folder.name}_{number}_mask.tif")
    pd.DataFrame(CLINICAL).to_csv(tmp_path / "kaggle_3m" / "data.csv", index=False)
    return tmp_path


def dataset(root, size=32):
    return lgg.LGG(name="lgg", root=str(root), size=size)


def rows(root, **settings):
    settings = dataset(root, **settings)
    return settings, list(settings.read_table().itertuples())


@cache
def real(root):
    return dataset(root, 256).read_table()


# --- the published files ---


def test_every_published_patient_and_slice_is_found(real_data):
    table = real(real_data / "lgg")
    assert (table.patient_id.nunique(), len(table)) == (110, 1760)
    assert table.image_id.is_unique and not table.image_id.str.contains("mask").any()


def test_published_attributes_are_decoded(real_data):
    patients = real(real_data / "lgg").drop_duplicates("patient_id").set_index("patient_id")
    assert patients.sex.value_counts().to_dict() == {"female": 56, "male": 53}
    assert patients.race.value_counts().to_dict() == {"White": 98, "Black": 10}
    assert (patients.age.min(), patients.age.median(), patients.age.max()) == (20, 47, 75)
    assert patients.loc["TCGA_HT_A61B", ["sex", "age", "race", "grade", "type"]].isna().all()
    assert pd.isna(patients.race["TCGA_CS_6290"]) and patients.sex["TCGA_CS_6290"] in params.SEXES


def test_published_masks_show_the_known_number_of_tumours(real_data):
    assert sum(stored(path).any() for path in real(real_data / "lgg").mask_path) == 695


def test_a_published_slice_and_its_mask_are_read(real_data):
    row = next(real(real_data / "lgg").iloc[[8]].itertuples())
    image, mask = dataset(real_data / "lgg", 128).read_image(row)
    assert image.shape == mask.shape == (128, 128) and mask.dtype == bool
    assert 0 <= image.min() < 0.01 and 0.8 < image.max() <= 1  # scaled, then made smaller


def test_the_published_cohort_carries_the_study(real_data):
    study = params.study(dataset={"name": "lgg", "root": str(real_data / "lgg")})
    patients = data.cohort_table(study).drop_duplicates("patient_id")
    assert patients.split.value_counts().to_dict() == {"train": 77, "val": 11, "test": 22}
    assert patients.age_group.value_counts().to_dict()["younger"] >= 55
    assert patients.grade.isna().sum() >= 1  # kept: their slices teach the segmenter


# --- files in that layout ---


def test_codes_become_words_and_labels(root):
    patients = dataset(root).read_table().drop_duplicates("patient_id").set_index("patient_id")
    known = patients.loc[CLINICAL["Patient"][:2]]
    assert known.sex.tolist() == ["female", "male"] and known.race.tolist() == ["Black", "White"]
    assert known.grade.tolist() == [0, 1] and known.type.tolist() == [1, 0]
    assert patients.loc["TCGA_AA_0003", ["sex", "age", "race", "grade", "type"]].isna().all()


def test_slices_follow_each_other_by_number(root):
    numbers = dataset(root).read_table().image_id.str.rsplit("_", n=1).str[-1]
    assert numbers.tolist() == ["2", "10"] * 3


def test_a_patient_without_clinical_row_keeps_the_slices(root):
    clinical = pd.DataFrame(CLINICAL).iloc[1:]
    clinical.to_csv(root / "kaggle_3m" / "data.csv", index=False)
    table = dataset(root).read_table()
    assert len(table) == 6 and table[table.patient_id == "TCGA_AA_0001"].sex.isna().all()
    assert table.attrs["notes"] == ["1 patients have slices and no row in data.csv"]


@pytest.mark.parametrize("size", [32, 48, 64])
def test_image_is_flair_and_fits_its_mask(root, size):
    settings, (row, *_) = rows(root, size=size)
    image, mask = settings.read_image(row)
    assert image.shape == mask.shape == (size, size) and mask.mean() == pytest.approx(200 / 48**2, rel=0.15)
    assert image[mask].mean() > 0.9 and image[~mask].mean() < 0.05


def test_a_mask_of_another_shape_is_named(root):
    settings, (row, *_) = rows(root)
    Image.fromarray(np.zeros((20, 48), np.uint8)).save(row.mask_path)
    with pytest.raises(ValueError, match=r"_2_mask\.tif: mask of \(20, 48\) for an image of \(48, 48\) pixels"):
        settings.read_image(row)


def test_an_absent_mask_is_named(root):
    settings, (row, *_) = rows(root)
    (root / "kaggle_3m" / "TCGA_AA_0001_19990101" / "TCGA_AA_0001_19990101_2_mask.tif").unlink()
    with pytest.raises(ValueError, match=r"_2_mask\.tif: cannot be read as an image"):
        settings.read_image(row)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of the directory that is cut off
def test_a_truncated_slice_is_named(root):
    settings, (row, *_) = rows(root)
    with open(row.path, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match=r"TCGA_AA_0001_19990101_2\.tif: cannot be read as an image"):
        settings.read_image(row)


def test_a_slice_without_channels_is_named(root):
    settings, (row, *_) = rows(root)
    Image.fromarray(np.full(SHAPE, 9, np.uint8)).save(row.path)
    with pytest.raises(ValueError, match=r"TCGA_AA_0001_19990101_2\.tif"):
        settings.read_image(row)


@pytest.mark.parametrize("column", ["gender", "histological_type"])
def test_a_missing_column_is_named(root, column):
    pd.DataFrame(CLINICAL).drop(columns=column).to_csv(root / "kaggle_3m" / "data.csv", index=False)
    with pytest.raises(ValueError, match=rf"data\.csv: column '{column}' is missing"):
        dataset(root).read_table()


def test_a_folder_without_slices_is_named(tmp_path):
    (tmp_path / "kaggle_3m").mkdir()
    pd.DataFrame(CLINICAL).to_csv(tmp_path / "kaggle_3m" / "data.csv", index=False)
    with pytest.raises(ValueError, match=r"kaggle_3m: no folder TCGA_\*/ with slices was found there"):
        dataset(tmp_path).read_table()


def test_words_in_place_of_codes_are_read_and_what_is_neither_is_named(root):
    words = CLINICAL | {"gender": ["Female", "m", ""], "race": ["black", "White ", ""]}
    pd.DataFrame(words).to_csv(root / "kaggle_3m" / "data.csv", index=False)
    patients = dataset(root).read_table().drop_duplicates("patient_id")
    assert patients.sex.fillna("?").tolist() == ["female", "male", "?"]
    assert patients.race.fillna("?").tolist() == ["Black", "White", "?"]
    pd.DataFrame(words | {"gender": ["Female", "7", ""]}).to_csv(root / "kaggle_3m" / "data.csv", index=False)
    with pytest.raises(ValueError, match=r"data\.csv, column 'gender': .*'7' \(1, first in row 3\)"):
        dataset(root).read_table()


def test_patients_are_known_by_their_barcodes_too(root):
    barcodes = [patient.replace("_", "-").lower() for patient in CLINICAL["Patient"]]
    right = dataset(root).read_table()
    pd.DataFrame(CLINICAL | {"Patient": barcodes}).to_csv(root / "kaggle_3m" / "data.csv", index=False)
    assert right.sex.notna().any()
    pd.testing.assert_frame_equal(dataset(root).read_table(), right)


def test_a_patient_with_two_rows_is_named(root):
    twice = pd.DataFrame(CLINICAL)
    pd.concat([twice, twice[:1]]).to_csv(root / "kaggle_3m" / "data.csv", index=False)
    assert len(dataset(root).read_table()) == 6
    pd.concat([twice, twice[:1].assign(race=3)]).to_csv(root / "kaggle_3m" / "data.csv", index=False)
    with pytest.raises(ValueError, match=r"row 5, column 'Patient': 'TCGA_AA_0001' has two rows"):
        dataset(root).read_table()


@pytest.mark.parametrize("value", [0, 9])
def test_a_slice_whose_channel_is_constant_is_black_and_stays(root, value):
    settings, (row, *_) = rows(root)
    constant = np.zeros((*SHAPE, 3), np.uint8)
    constant[..., 0], constant[..., 1] = np.arange(48), value
    Image.fromarray(constant).save(row.path)
    image, mask = settings.read_image(row)
    assert (image == 0).all() and mask.any()
