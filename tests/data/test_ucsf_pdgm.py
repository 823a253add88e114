"""UCSF-PDGM: the published metadata as they are, and small volumes in its layout."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scans import nifti

from reconfair import data, params
from reconfair.data import ucsf_pdgm

METADATA = pd.DataFrame(
    {
        "ID": ["UCSF-PDGM-004", "UCSF-PDGM-005", "UCSF-PDGM-005_FU012d", "UCSF-PDGM-0541"],
        "Sex": ["M", "F", "F", "unknown"],
        "Age at MRI": ["66", "80", "81", ""],
        "WHO CNS Grade": ["4", "2", "2", "unknown"],
        "Final pathologic diagnosis (WHO 2021)": [
            "Glioblastoma, IDH-wildtype",
            "Astrocytoma, IDH-mutant",
            "",
            "unknown",
        ],
    }
)
BRAIN = slice(20, 140)  # slices that show any
SHAPE = (8, 8, 155)


def write(root, metadata, version="v5"):
    metadata.to_csv(root / f"UCSF-PDGM-metadata_{version}.csv", index=False)


@pytest.fixture
def root(tmp_path):
    """Three patients and a follow-up; the tumour, labels 1, 2 and 4, shines in slices 70 to 80."""
    write(tmp_path, METADATA)
    rng = np.random.default_rng(0)
    for name in ("0004", "0005", "0541", "0005_FU012d"):
        folder = tmp_path / "UCSF-PDGM-v5" / f"UCSF-PDGM-{name}_nifti"
        folder.mkdir(parents=True)
        flair, tumour = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.uint8)
        flair[1:7, 1:7, BRAIN] = rng.integers(50, 150, (6, 6, 120))
        tumour[2:4, 2:4, 70:81] = np.array([[1, 2], [4, 1]])[..., None]
        flair[tumour > 0] = 1000
        nifti(folder / f"UCSF-PDGM-{name}_FLAIR.nii.gz", flair, "LPS")
        nifti(folder / f"UCSF-PDGM-{name}_tumor_segmentation.nii.gz", tumour, "LPS")
    return tmp_path


def dataset(root, **settings):
    return ucsf_pdgm.UCSFPDGM(name="ucsf_pdgm", root=str(root), **{"size": 32, **settings})


def row(root, at):
    return next(dataset(root).read_table().iloc[[at]].itertuples())


@cache
def real(folder):
    return ucsf_pdgm.read_clinical(folder / "ucsf_pdgm" / "UCSF-PDGM-metadata_v2.csv").table


# --- the published metadata ---


def test_published_patients_are_counted(real_data):
    patients = real(real_data)
    assert len(patients) == 501 and patients.patient_id.is_unique and patients.patient_id.iloc[0] == "UCSF-PDGM-0004"
    assert patients.grade.sum() == 402 and patients.type.sum() == 374 and patients.notna().sum().grade == 501


def test_published_groups_are_those_of_the_papers_table_6(real_data):
    # Younger is at or below 58 years: 155 men, 92 women; older 144 and 110.
    patients = data.splits.derive(real(real_data), 58)
    assert patients.groupby(["age_group", "sex"]).size().to_dict() == {
        ("younger", "male"): 155,
        ("younger", "female"): 92,
        ("older", "male"): 144,
        ("older", "female"): 110,
    }


# --- files in that layout ---


def test_entries_become_labels_and_unknown_ones_are_missing(root):
    patients = dataset(root).read_table().drop_duplicates("patient_id").set_index("patient_id")
    assert patients.index.tolist() == ["UCSF-PDGM-0004", "UCSF-PDGM-0005", "UCSF-PDGM-0541"]  # no follow-up
    known = patients.iloc[:2]
    assert known.sex.tolist() == ["male", "female"] and known.age.tolist() == [66, 80]
    assert known.grade.tolist() == [1, 0] and known.type.tolist() == [1, 0]
    assert patients.loc["UCSF-PDGM-0541", ["sex", "age", "race", "grade", "type"]].isna().all()


def test_the_latest_version_of_the_metadata_is_read(root):
    write(root, METADATA.iloc[:1], "v2")
    assert dataset(root).read_table().patient_id.nunique() == 3
    (root / "UCSF-PDGM-metadata_v5.csv").unlink()
    assert dataset(root).read_table().patient_id.nunique() == 1


def test_folders_may_stand_beside_the_metadata(root):
    for folder in (root / "UCSF-PDGM-v5").iterdir():
        folder.rename(root / folder.name)
    assert row(root, 75).path == f"{root}/UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_FLAIR.nii.gz"
    assert dataset(root).read_image(row(root, 75))[1].any()


def test_a_slice_is_on_the_scale_of_its_volume_and_its_mask_is_any_tumour(root):
    image, mask = dataset(root, size=64).read_image(row(root, 75))
    assert mask.mean() == pytest.approx(4 / 64, rel=0.15) and image[mask].mean() > 0.8
    plain, nothing = dataset(root, size=64).read_image(row(root, 69))
    assert 0.04 < plain.max() < 0.16 and not nothing.any()


def test_a_slice_without_brain_shows_nothing(root):
    shown = [at for at in (0, 19, 20, 139, 140, 154) if dataset(root).read_image(row(root, at)) is not None]
    assert shown == [20, 139]


def test_training_sees_all_brain_and_evaluation_the_middle(root, tmp_path, monkeypatch):
    numbers = range(1, 21)
    many = pd.DataFrame({column: METADATA[column].iloc[0] for column in METADATA}, index=numbers)
    many = many.assign(ID=[f"UCSF-PDGM-{n:03d}" for n in numbers], Sex=["M", "F"] * 10)
    write(root, many)
    folders = root / "UCSF-PDGM-v5"
    for n in numbers:
        source, name = folders / "UCSF-PDGM-0541_nifti", f"UCSF-PDGM-{n:04d}"
        (folders / f"{name}_nifti").mkdir(exist_ok=True)
        for kind in ("FLAIR", "tumor_segmentation"):
            (folders / f"{name}_nifti" / f"{name}_{kind}.nii.gz").write_bytes(
                (source / f"UCSF-PDGM-0541_{kind}.nii.gz").read_bytes()
            )
    section = {"name": "ucsf_pdgm", "root": str(root), "size": 32, "split": [0.5, 0.25, 0.25]}
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path / "outputs"))
    cohort = data.prepare(params.study(dataset=section, diagnosis={"tasks": ["tumour"]}, compute={"workers": 1}))
    slices = cohort.table.groupby("split").slice.agg(["min", "max", "size"])
    assert slices.loc["train"].tolist() == [20, 139, 10 * 120]
    assert slices.loc["val"].tolist() == slices.loc["test"].tolist() == [60, 130, 5 * 71]
    assert cohort.images.shape == cohort.masks.shape == (len(cohort.table), 32, 32)
    outlined = cohort.masks.any((1, 2))
    assert (outlined == cohort.table.slice.between(70, 80)).all()  # rows, images and masks belong together
    assert (cohort.images.max((1, 2)) > 0.5).tolist() == outlined.tolist()


# --- mistakes ---


@pytest.mark.parametrize(
    ("column", "entry", "message"),
    [
        ("WHO CNS Grade", "5", r"column 'WHO CNS Grade': .*'5' \(1, first in row 3\); expected 2, 3, 4"),
        ("Sex", "W", r"column 'Sex': .*'W' \(1, first in row 3\); expected F, Female"),
        ("Age at MRI", "old", r"column 'Age at MRI': .*'old' \(1, first in row 3\); expected an age"),
        (ucsf_pdgm.DIAGNOSIS, "GBM", r"row 3, column 'Final .*': 'GBM' begins with none of glioblastoma"),
        ("ID", "PDGM 5", r"row 3, column 'ID': 'PDGM 5' is no patient such as UCSF-PDGM-004"),
    ],
)
def test_a_wrong_entry_is_named_with_its_row(root, column, entry, message):
    metadata = METADATA.copy()
    metadata.loc[1, column] = entry
    write(root, metadata)
    with pytest.raises(ValueError, match=rf"metadata_v5\.csv, {message}"):
        dataset(root).read_table()


def test_a_mask_of_another_shape_is_named(root):
    nifti(row(root, 75).mask_path, np.zeros((8, 8, 100), np.uint8))
    with pytest.raises(ValueError, match=r"segmentation\.nii\.gz: mask of \(100, 8, 8\) for an image of \(155, 8, 8\)"):
        dataset(root).read_image(row(root, 75))


def test_a_volume_that_cannot_be_read_is_named(root):
    path = row(root, 75).path
    with open(path, "r+b") as file:
        file.truncate(600)
    with pytest.raises(ValueError, match=r"UCSF-PDGM-0004_FLAIR\.nii\.gz: cannot be read as an image"):
        dataset(root).read_image(row(root, 75))


def test_metadata_without_images_say_what_was_looked_for(tmp_path):
    write(tmp_path, METADATA)
    with pytest.raises(ValueError, match=r"no folder UCSF-PDGM-\*_nifti was found there or one folder below"):
        dataset(tmp_path).read_table()
