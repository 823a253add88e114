"""Cohorts: what cannot carry a study is refused; what is prepared is what was drawn."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconfair import data, params
from reconfair.data import files, splits
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
    assert list(data.faults(table, ["nodule"])) == []


def test_a_repeated_image_is_named(table):
    table.loc[[2, 4], "image_id"] = "i1"
    assert any(
        re.search(r"image 'i1' occurs more than once \(2 repeated images\)", fault) for fault in data.faults(table, [])
    )


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
    assert any(re.search(message, fault) for fault in data.faults(table, []))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split_is_named(table, split):
    assert any(
        re.search(f"split '{split}' is empty: 4 patients are too few", fault)
        for fault in data.faults(table[table.split != split], [])
    )


def test_an_empty_part_of_the_training_is_named(table):
    assert any(
        re.search("split 'train_recon' is empty", fault)
        for fault in data.faults(table.replace({"split": {"train": "train_diag"}}), [])
    )


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("missing", [False, True])
def test_a_class_without_a_case_is_named(table, label, missing):
    hit = (table.split == "val") & (table.nodule == label)
    table.loc[hit, "nodule"] = np.nan if missing else 1.0 - label
    message = f"task 'nodule': no case of class {label} in split 'val'; leave it out of diagnosis.tasks"
    assert any(re.search(message, fault) for fault in data.faults(table, ["nodule"]))


def test_too_few_patients_are_refused_before_anything_is_drawn(outputs):
    with pytest.raises(ValueError, match="split 'val' is empty: 20 patients are too few"):
        data.prepare(mri(split=(0.79, 0.01, 0.2)))
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
    drawn = study.dataset.read_table()
    assert cohort.table.image_id.tolist() == drawn.image_id.tolist()
    for at in (0, 33, 39):  # the last two are in the second piece of work
        image, mask = study.dataset.read_image(next(drawn.iloc[[at]].itertuples()))
        assert np.abs(cohort.images[at] - image).max() < 1e-3 and (cohort.masks[at] == mask).all()


def test_a_prepared_cohort_is_not_drawn_again(outputs):
    data.prepare(mri())
    before = (outputs / "phantom_mri" / "cohort" / "images.npy").stat().st_mtime_ns
    again = data.prepare(mri())
    assert (outputs / "phantom_mri" / "cohort" / "images.npy").stat().st_mtime_ns == before
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable


def test_a_radiograph_has_no_mask_and_two_training_sets(outputs):
    cohort = data.prepare(xray())
    assert cohort.masks is None and not (outputs / "phantom_xray" / "cohort" / "masks.npy").exists()
    assert cohort.table.groupby("split").patient_id.nunique().to_dict() == {
        "train_recon": 20,
        "train_diag": 8,
        "val": 4,
        "test": 8,
    }  # of 40 patients: 49, 21, 10 and 20 %


def test_other_settings_under_the_same_label_are_refused(outputs):
    data.prepare(mri())
    before = data.product(mri()).read_stamp()
    with pytest.raises(ParamsError, match=r"dataset\.slices: .* was made with 2, this study says 1"):
        data.prepare(mri(slices=1))
    assert data.product(mri()).read_stamp() == before


def test_a_fresh_cohort_is_checked_for_the_tasks_of_the_study(outputs):
    few = mri(split=(0.9, 0.05, 0.05))
    data.prepare(few)  # segmentation needs no classes
    with pytest.raises(ValueError, match=r"task 'grade': no case of class \d in split 'val'"):
        data.prepare(params.study(dataset=few.dataset.model_dump(), compute=CHAPTER["compute"]))


# --- images that cannot be read ---

BAD = (3, 40, 41, 99)  # of 100; the third piece of work begins with row 64, the fourth with 96


@pytest.fixture
def scans(tmp_path):
    """A table of 100 patients; image i is a ramp that ends in grey level 155 + i, of a patient of i + 1 years."""
    root = tmp_path / "scans"
    root.mkdir()
    people = pd.DataFrame({"path": [f"{i:02d}.png" for i in range(100)], "patient_id": range(100)})
    people = people.assign(sex=["F", "F", "M", "M"] * 25, age=range(1, 101), race="White", label=[0, 1] * 50)
    people.to_csv(root / "cohort.csv", index=False)
    for i in range(100):
        Image.fromarray(np.linspace(0, 155 + i, 32**2, dtype=np.uint8).reshape(32, 32)).save(root / f"{i:02d}.png")
    return root


def spoil(scans, numbers=BAD):
    for number in numbers:
        (scans / f"{number:02d}.png").write_text("no image")


def listed(scans, on_bad_image="skip", workers=1):
    section = {"name": "table", "root": str(scans), "size": 32, "window": [0, 255], "on_bad_image": on_bad_image}
    return params.study(dataset=section, compute={"workers": workers})


def numbers(cohort):
    return [int(age) - 1 for age in cohort.table.age]  # image_id is a pseudonym


def belongs(cohort):
    """Whether each image is that of its row."""
    return np.allclose(cohort.images.max((1, 2)), (155 + np.array(numbers(cohort))) / 255, atol=1e-3)


def test_a_bad_image_stops_the_work_and_is_named_with_what_to_do(outputs, scans):
    spoil(scans)
    with pytest.raises(ValueError, match=r"03\.png: cannot be read as an image .*; dataset\.on_bad_image: skip would"):
        data.prepare(listed(scans, "error"))


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_images_are_left_out_if_that_is_said_and_the_others_belong_to_their_rows(outputs, scans, workers):
    spoil(scans)
    cohort = data.prepare(listed(scans, workers=workers))
    assert numbers(cohort) == [i for i in range(100) if i not in BAD]
    assert cohort.images.shape == (96, 32, 32) and belongs(cohort)


def test_images_left_out_are_listed_with_their_groups_and_the_reason(outputs, scans):
    spoil(scans)
    cohort = data.prepare(listed(scans))
    lost = data.skipped(listed(scans))
    assert lost.image_id.tolist() == [f"{i:02d}.png" for i in BAD] and lost.sex.tolist() == [
        "male",
        *["female"] * 2,
        "male",
    ]
    assert lost.reason.str.contains(r"\.png: cannot be read as an image").all() and lost.split.notna().all()
    counted = splits.losses(cohort.table, lost, ["sex", "race"]).set_index(["attribute", "group"])
    assert counted.loc[("sex", "female")].tolist() == counted.loc[("sex", "male")].tolist() == [50, 2, 0.04]
    assert counted.loc[("race", "White")].tolist() == [100, 4, 0.04]


def test_nothing_is_listed_where_everything_could_be_read(outputs, scans):
    cohort = data.prepare(listed(scans))
    assert len(cohort.table) == 100 and data.skipped(listed(scans)).empty
    assert data.skipped(listed(scans)).columns.tolist() == data.listed(listed(scans).dataset)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_killed_preparation_goes_on_with_the_next_piece_whatever_was_skipped(outputs, scans, monkeypatch, done):
    spoil(scans)
    attempt, pieces = data.images_of, []

    def killed(chunk, dataset):
        pieces.append(chunk.index[0])
        if len(pieces) > done:
            raise KeyboardInterrupt
        return attempt(chunk, dataset)

    monkeypatch.setattr(data, "images_of", killed)
    with pytest.raises(KeyboardInterrupt):
        data.prepare(listed(scans))
    part = data.product(listed(scans)).draft
    with (part / "images.npy").open("ab") as half_a_piece:  # images of a piece that is not yet known to be whole
        half_a_piece.write(b"1" * 5000)
    pieces, done_before = [], 32 * done
    done = 9  # nothing is killed any more
    cohort = data.prepare(listed(scans))
    assert pieces == list(range(done_before, 100, 32))
    assert numbers(cohort) == [i for i in range(100) if i not in BAD] and belongs(cohort)
    assert len(data.skipped(listed(scans))) == 4


def test_a_preparation_stopped_by_a_bad_image_goes_on_when_it_may_be_skipped(outputs, scans, monkeypatch):
    spoil(scans)
    (scans / "03.png").write_bytes((scans / "04.png").read_bytes())
    with pytest.raises(ValueError, match="40"):
        data.prepare(listed(scans, "error"))
    spoil(scans, [5])  # of the first piece, which is done: it is not read again
    assert numbers(data.prepare(listed(scans)))[:6] == [0, 1, 2, 3, 4, 5]


def test_a_cohort_made_without_bad_images_is_refused_where_they_are_an_error(outputs, scans):
    spoil(scans, [7])
    data.prepare(listed(scans))
    with pytest.raises(
        ValueError, match=r"07\.png: cannot .* made without 1 such images; set dataset\.on_bad_image: skip"
    ):
        data.prepare(listed(scans, "error"))


def test_a_folder_in_which_nothing_can_be_read_is_no_cohort(outputs, scans):
    spoil(scans, range(100))
    with pytest.raises(ValueError, match=r"none of the 100 images can be read: .*00\.png: cannot be read as an image"):
        data.prepare(listed(scans))


def test_a_class_lost_with_bad_images_is_named(outputs, scans):
    study = listed(scans)
    table = data.cohort_table(study)
    spoil(scans, table.index[(table.split == "val") & (table.label == 1)])
    with pytest.raises(ValueError, match="task 'label': no case of class 1 in split 'val'"):
        data.prepare(study)


# --- before anything is made ---


def test_a_preview_says_who_is_there_and_what_cannot_be_compared(scans):
    lines = data.preview(listed(scans))
    assert lines[0] == "100 patients, 100 images"
    text = "\n".join(lines)
    header, female = (next(line for line in lines if word in line).split() for word in ("attribute", "female"))
    assert header[:6] == ["attribute", "group", "train", "val", "test", "label"]
    women = data.cohort_table(listed(scans)).query("sex == 'female'")
    assert female[2:5] == [str((women.split == split).sum()) for split in ("train", "val", "test")]
    test = women[women.split == "test"]
    assert female[5] == f"{(test.label == 1).sum()}/{(test.label == 0).sum()}"
    assert "label, sex: left out are groups with fewer than 20 patients of each label in test: female (" in text
    assert "Nothing is left to compare" in text


def test_a_preview_says_whether_thresholds_by_group_can_be_fitted(scans):
    study = listed(scans)
    mitigated = params.study(dataset=study.dataset.model_dump(), mitigation={"strategies": ["thresholds"]})
    assert any(line.startswith("label, sex: thresholds by group") for line in data.preview(mitigated))


def test_a_preview_reads_no_pixels(scans):
    spoil(scans, range(100))
    assert data.preview(listed(scans))[0] == "100 patients, 100 images"


def test_a_preview_raises_all_mistakes_at_once(scans):
    table = pd.read_csv(scans / "cohort.csv", dtype=str)
    table.loc[3, "sex"], table.loc[4, "age"] = "div", "old"
    table.to_csv(scans / "cohort.csv", index=False)
    for number in range(10, 17):
        (scans / f"{number}.png").unlink()
    with pytest.raises(ValueError) as error:
        data.preview(listed(scans, "error"))
    sex, age, files = str(error.value).splitlines()
    assert "'div' (1, first in row 5)" in sex and "'old' (1, first in row 6)" in age
    assert files.startswith("7 files are not there:") and files.count(".png") == 5


def test_missing_files_stop_a_cohort_before_it_is_begun_or_are_left_out(outputs, scans):
    for number in (5, 50):
        (scans / f"{number:02d}.png").unlink()
    with pytest.raises(ValueError, match=r"2 files are not there: .*05\.png, .*50\.png; dataset\.on_bad_image: skip"):
        data.prepare(listed(scans, "error"))
    assert not any(outputs.rglob("images.npy"))
    assert any("2 files are not there" in line for line in data.preview(listed(scans)))
    assert len(data.prepare(listed(scans)).table) == 98


def test_a_file_with_another_ending_is_named(scans):
    (scans / "05.png").rename(scans / "05.PNG")
    with pytest.raises(ValueError, match=r"1 files are not there: .*05\.png; 1 of them are .*another ending.*05\.PNG"):
        data.preview(listed(scans, "error"))


@pytest.mark.parametrize(("window", "noted"), [([0, 5000], "nearly all pixels lie from 0"), ([0, 20], "quite white")])
def test_a_window_that_hardly_fits_is_noted(outputs, scans, capsys, window, noted):
    study = params.study(dataset=listed(scans).dataset.model_dump() | {"window": window}, compute={"workers": 1})
    data.prepare(study)
    assert f"dataset.window: {list(map(float, window))} may not fit" in capsys.readouterr().out
    assert data.log(study).note.str.contains(noted).any()


def test_what_was_decided_about_masks_and_entries_is_in_the_log(outputs, scans):
    table = pd.read_csv(scans / "cohort.csv", dtype=str).assign(mask="mask.png")
    table.loc[0, "race"] = "white "
    table.to_csv(scans / "cohort.csv", index=False)
    Image.fromarray(np.eye(32, dtype=np.uint8) * 7).save(scans / "mask.png")
    section = {"name": "table", "root": str(scans), "size": 32, "mask": {"column": "mask"}}
    study = params.study(dataset=section, compute={"workers": 2})
    data.prepare(study)
    log = data.log(study).set_index("note").times
    assert log["masks of 0, 7: inside is 7"] == 100
    assert log[log.index.str.contains("one group, 'White'")].tolist() == [1]


def test_a_value_inside_that_no_mask_has_is_refused(outputs, scans):
    table = pd.read_csv(scans / "cohort.csv").assign(mask="mask.png")
    table.to_csv(scans / "cohort.csv", index=False)
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(scans / "mask.png")
    section = {"name": "table", "root": str(scans), "size": 32, "mask": {"column": "mask", "inside": [1]}}
    with pytest.raises(ValueError, match=r"dataset\.mask\.inside.*'tumour'.*0, 255"):
        data.prepare(params.study(dataset=section, compute={"workers": 1}))


def test_a_mask_that_is_the_image_itself_is_refused_before_it_is_read(scans):
    table = pd.read_csv(scans / "cohort.csv")
    table.assign(mask="./" + table.path).to_csv(scans / "cohort.csv", index=False)
    section = {"name": "table", "root": str(scans), "mask": {"column": "mask"}}
    with pytest.raises(ValueError, match=r"row 2, column 'mask': '\./00\.png' is the image itself"):
        data.preview(params.study(dataset=section))


def test_a_preview_says_that_a_split_of_the_table_is_not_used(scans):
    pd.read_csv(scans / "cohort.csv").assign(split="test").to_csv(scans / "cohort.csv", index=False)
    assert any("'split' is not used" in line for line in data.preview(listed(scans)))


def test_a_preview_names_links_that_lead_out_and_rows_of_which_none_is_left(scans, tmp_path):
    (tmp_path / "away.png").write_bytes((scans / "00.png").read_bytes())
    (scans / "00.png").unlink()
    (scans / "00.png").symlink_to(tmp_path / "away.png")
    with pytest.raises(ValueError, match=r"1 files are links that lead out of dataset\.root: .*00\.png"):
        data.preview(listed(scans))
    section = listed(scans).dataset.model_dump() | {"where": {"sex": ["F"], "label": 7}}
    with pytest.raises(ValueError, match=r"column 'label': no row says '7'.*\n.*no row is left"):
        data.preview(params.study(dataset=section))


def test_a_cohort_of_another_study_under_the_same_label_is_kept_whoever_asks(outputs):
    sections = {"name": "phantom_mri", "size": 64, "patients": 60, "slices": 1}
    data.prepare(params.study(dataset=sections))
    folder = outputs / "phantom_mri" / "cohort"
    before = (folder / "cohort.parquet").read_bytes()
    with pytest.raises(params.ParamsError, match=r"dataset\.seed"):
        data.load(params.study(dataset=sections | {"seed": 1}))
    assert (folder / "cohort.parquet").read_bytes() == before


@pytest.mark.parametrize("name", ["table", "nih", "lgg", "chexpert", "ucsf_pdgm"])
def test_links_that_lead_out_of_any_dataset_are_refused_unless_told(tmp_path, monkeypatch, name):
    root, away = tmp_path / "root", tmp_path / "away.png"
    root.mkdir()
    for path in (root / "there.png", away):
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
    (root / "out.png").symlink_to(away)
    (root / "within.png").symlink_to(root / "there.png")
    kind = params.DATASETS[name]
    monkeypatch.setattr(kind, "find", lambda self: root)
    monkeypatch.setattr(kind, "read_image", lambda self, row: files.picture(row.path, self.size))
    rows = pd.DataFrame({"path": [str(root / f"{at}.png") for at in ("there", "within", "out")]})
    dataset = params.study(dataset={"name": name, "size": 64}).dataset
    assert len(data.images_of(rows[:2], dataset)[0]) == 2
    with pytest.raises(ValueError, match=r"out\.png: .*dataset\.links: follow"):
        data.images_of(rows, dataset)
    follows = params.study(dataset={"name": name, "size": 64, "links": "follow"}).dataset
    images = data.images_of(rows, follows)[0]
    assert (images == images[0]).all()
