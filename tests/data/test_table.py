"""A table of one's own: mapped by parameters alone; every mistake in it is named by row and column."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scans import dicom, nifti
from smallest import PARAMS

from reconfair import data, params
from reconfair.data import files
from reconfair.params import ParamsError

GREY = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
ROWS = {
    "path": ["a.png", "sub/b.png", "c.png", "d.png"],
    "patient_id": ["p1", "p1", "007", "p3"],
    "sex": ["F", "", "male", "Unknown"],
    "age": ["58", "59", "061Y", ""],
    "race": ["White", "White", "none", "Roma"],
    "label": ["1", "1", "0", "-1"],
}


@pytest.fixture
def write(tmp_path):
    """Write the table, with changed columns."""

    def csv(**columns):
        pd.DataFrame(ROWS | columns).to_csv(tmp_path / "cohort.csv", index=False)
        return tmp_path

    return csv


def dataset(root, **settings):
    sections = {"dataset": {"name": "table", "root": str(root), "size": 32, **settings}}
    return params.study(**sections).dataset


def rows(root, **settings):
    return dataset(root, **settings).read_table()


def image(root, at=0, **settings):
    return dataset(root, **settings).read_image(next(rows(root, **settings).iloc[[at]].itertuples()))


# --- what entries mean ---


def test_a_table_in_the_studys_own_words_needs_no_mapping(write):
    read = rows(write())
    assert read.image_id.tolist() == ROWS["path"] and read.patient_id.tolist() == ROWS["patient_id"]
    assert read.sex.fillna("?").tolist() == ["female", "female", "male", "?"]  # p1's other row says so
    assert read.age.fillna(-1).tolist() == [58, 58, 61, -1]  # of p1 the first
    assert read.race.fillna("?").tolist() == ["White", "White", "?", "Roma"]
    assert read.label.fillna(-1).tolist() == [1, 1, 0, -1]


def test_columns_and_entries_are_mapped_by_parameters(write):
    root = write(Gender=["K", "K", "M", "div"], years=["0", "0", "50", "< 1"], grade=["2.0", "2.0", "4", "?"])
    read = rows(
        root,
        sex={"column": "Gender", "values": {"k": "female", "M": "male", "div": None}},
        age={"column": "years", "values": {0: None, "< 1": 0.5}},
        race={"column": "race", "values": {"white": "Majority", "Roma": "Minority"}},
        tasks={"high": {"column": "grade", "values": {2: 0, 4.0: 1, "?": None}}},
    )
    assert read.sex.fillna("?").tolist() == ["female", "female", "male", "?"]
    assert read.age.fillna(-1).tolist() == [-1, -1, 50, 0.5]
    assert read.race.fillna("?").tolist() == ["Majority", "Majority", "?", "Minority"]
    assert read.high.fillna(-1).tolist() == [0, 0, 1, -1] and "label" not in read


def test_yes_and_no_are_words_though_yaml_takes_them_for_truth_values(write):
    for said in (["yes", "yes", "No", ""], ["True", "True", "False", ""]):
        read = rows(write(label=said), tasks={"label": {"column": "label", "values": {True: 1, False: 0}}})
        assert read.label.fillna(-1).tolist() == [1, 1, 0, -1]


def test_attributes_that_are_not_recorded_are_named_as_such(write):
    settings = {"sex": None, "race": None}
    read = rows(write(), **settings)
    assert read.sex.isna().all() and read.race.isna().all()
    assert dataset(write(), **settings).about.attributes == ("age_group",)


def test_other_columns_are_carried_along(write):
    assert rows(write(site=list("NNSS")), keep=["site"]).site.tolist() == list("NNSS")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_may_be_parted_as_spreadsheets_do(tmp_path, separator):
    pd.DataFrame(ROWS).to_csv(tmp_path / "cohort.csv", index=False, sep=separator, encoding="utf-8-sig")
    assert rows(tmp_path).patient_id.tolist() == ROWS["patient_id"]


def test_a_parquet_file_with_numbers_is_read_alike(tmp_path):
    typed = pd.DataFrame(ROWS).assign(
        age=[58.0, 59.0, 61.0, np.nan], label=[1.0, 1.0, 0.0, np.nan], sex=[*list("FFM"), None]
    )
    typed.to_parquet(tmp_path / "all.parquet")
    read = rows(tmp_path, file="all.parquet")
    assert read.age.fillna(-1).tolist() == [58, 58, 61, -1] and read.label.fillna(-1).tolist() == [1, 1, 0, -1]
    assert read.sex.fillna("?").tolist() == ["female", "female", "male", "?"]


def test_modality_decides_noise_classifier_and_unit_unless_they_are_named():
    studies = {modality: params.study(dataset={"name": "table", "modality": modality}) for modality in ("mri", "xray")}
    said = {m: (s.noise.kind, s.diagnosis.classify.architecture, s.dataset.about.unit) for m, s in studies.items()}
    assert said == {"mri": ("kspace", "resnet50", "patient"), "xray": ("sinogram", "densenet121", "image")}
    assert dataset(".", modality="xray", unit="patient").about.unit == "patient"


def test_findings_share_a_network_and_a_mask_has_its_own():
    section = {
        "name": "table",
        "modality": "xray",
        "mask": {"column": "m", "task": "lesion"},
        "tasks": {"a": "a", "b": "b"},
    }
    networks = params.study(dataset=section).networks
    assert [(n.name, n.kind, n.tasks) for n in networks] == [
        ("findings", "classify", ("a", "b")),
        ("lesion", "segment", ("lesion",)),
    ]


# --- images ---


def test_images_masks_and_slices_are_those_of_the_row(write):
    volume, outline = np.zeros((16, 16, 6), np.float32), np.zeros((16, 16, 6), np.uint8)
    volume[:] = np.arange(6) * 10
    outline[:8, :, 4] = 3  # the patient's left
    root = write(path=[f"{p}.nii.gz" for p in "abcd"], mask=[f"{p}_mask.nii.gz" for p in "abcd"])
    nifti(root / "b.nii.gz", volume)
    nifti(root / "b_mask.nii.gz", outline)
    settings = {"slices": {"first": 2, "last": 5, "step": 2}, "mask": {"column": "mask"}}
    read = rows(root, **settings)
    assert len(read) == 8 and read.image_id.iloc[[2, 3]].tolist() == ["b.nii.gz_002", "b.nii.gz_004"]
    assert read.path.iloc[3] == f"{root}/b.nii.gz" and read.label.iloc[3] == 1
    for at, value, share in ((2, 0.4, 0), (3, 0.8, 0.5)):
        seen, inside = image(root, at, **settings)
        assert seen == pytest.approx(np.full((32, 32), value), abs=1e-6) and inside.mean() == share
    assert inside[:, 16:].all()


def test_a_row_without_mask_has_nothing_outlined_if_that_is_said(write):
    root = write(path=["a.npy", "b.npy", "c.npy", "d.npy"], mask=["m.npy", "", "", ""])
    for name in ("a", "b"):
        np.save(root / f"{name}.npy", GREY)
    np.save(root / "m.npy", np.ones((32, 32), np.uint8))
    settings = {"mask": {"column": "mask", "task": "lesion", "blank": "background"}}
    assert image(root, 0, **settings)[1].mean() > 0.9 and not image(root, 1, **settings)[1].any()
    assert dataset(root, **settings).about.tasks == {"label": "classify", "lesion": "segment"}


def test_formats_mix_and_values_are_seen_as_the_parameters_say(write):
    root = write(path=["sub\\a.png", "b.dcm", "IM0001", "d.npy"])  # as Windows writes it
    (root / "sub").mkdir()
    Image.fromarray(GREY).save(root / "sub" / "a.png")
    dicom(root / "b.dcm", GREY.astype(np.int16), RescaleSlope=2, RescaleIntercept=-100)
    dicom(root / "IM0001", GREY)
    np.save(root / "d.npy", GREY)
    whole = [image(root, at)[0] for at in range(4)]
    assert all(one == pytest.approx(files.scaled(GREY, 32), abs=1e-6) for one in whole)
    assert image(root, 1, window=[0, 200])[0] == pytest.approx(np.clip((2.0 * GREY - 100) / 200, 0, 1), abs=1e-6)
    assert image(root, 3, percentiles=[25, 75])[0].mean() == pytest.approx(0.5, abs=0.05)


def test_the_documented_example_is_a_study(tmp_path):
    text = (PARAMS / "table_example_x8.yaml").read_text()
    header, first, second = re.findall(r"^#   (\S.*,.*)$", text, re.MULTILINE)
    patients = [(first, second)[n % 2].replace("P-1", f"P-{n}").replace("000", f"{n:03d}") for n in range(40)]
    (tmp_path / "patients.csv").write_text("\n".join([header, *patients]))
    study = params.load(PARAMS / "table_example_x8.yaml", [f"dataset.root={tmp_path}"])
    cohort = data.cohort_table(study)
    assert study.name == "my_hospital/x8" and len(cohort) == 40 * 71 and cohort.patient_id.nunique() == 40
    one = cohort.drop_duplicates("patient_id").set_index("patient_id").loc[["P-07", "P-18"]]
    assert (
        one.sex.tolist() == ["female", "male"]
        and one.age.tolist() == [58, 61]
        and one.Site.tolist() == ["North", "South"]
    )
    assert (
        one.race.fillna("?").tolist() == ["White", "?"] and one.grade.tolist() == [1, 0] and one.idh.tolist() == [0, 1]
    )


# --- what strangers bring ---


def test_the_shortest_table_is_a_study(tmp_path, monkeypatch):
    people = [
        {"path": f"{n}.png", "patient_id": f"p{n}", "sex": "FM"[n % 2], "age": 40 + n, "race": "A"} for n in range(40)
    ]
    pd.DataFrame(people).assign(label=[0, 1, 1, 0] * 10).to_csv(tmp_path / "cohort.csv", index=False)
    for n in range(40):
        Image.fromarray(GREY).save(tmp_path / f"{n}.png")
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path / "outputs"))
    study = params.study(dataset={"name": "table", "root": str(tmp_path)}, compute={"workers": 1})
    cohort = data.prepare(study)
    assert len(cohort.table) == 40 and cohort.images.shape == (40, 256, 256)
    rates = data.splits.prevalence(cohort.table, ["label"], ["sex", "age_group"], "patient")
    assert rates[rates.attribute == "sex"]["count"].sum() == 40 and (rates.task == "label").all()
    assert data.preview(study)[0] == "40 patients, 40 images"


@pytest.mark.parametrize(
    "name", ["image", "findings", "all", "kind", "group", "Split", "path", "score", "patient_id", "z_age", "evaluated"]
)
def test_a_task_or_column_of_a_reserved_name_is_refused_before_anything_is_read(name):
    for settings in ({"tasks": {name: "label"}}, {"keep": [name]}, {"mask": {"column": "m", "task": name}}):
        with pytest.raises(ParamsError, match=rf"'{name}' has a meaning of its own"):
            dataset(".", **settings)


def test_names_that_differ_in_case_alone_are_refused():
    with pytest.raises(ParamsError, match="'Grade' names two tasks or columns"):
        dataset(".", tasks={"Grade": "a"}, keep=["grade"])


def test_patients_and_groups_that_differ_in_blanks_or_case_are_one(write):
    root = write(patient_id=["p1", "p1 ", "P1", "p3"], race=["White", "white ", "WHITE", "Roma"], sex=["F", "f ", "F", "M"],
                 age=["58", "58", "58", "3"], label=["1", "1", "1", "0"])  # fmt: skip
    read = rows(root)
    assert read.patient_id.tolist() == ["p1"] * 3 + ["p3"] and set(read.race) == {"White", "Roma"}
    notes = " ".join(read.attrs["notes"])
    assert "one patient, 'p1'" in notes and "one group, 'White'" in notes


def test_opacity_that_is_ignored_is_noted(write, tmp_path):
    root = write()
    for opacity, noted in ((255, False), (0, True)):
        pixels = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
        pixels[:4, :, 3] = opacity
        Image.fromarray(pixels, "RGBA").save(root / "a.png")
        files.notes()
        image(root)
        assert any("opacity: it is ignored" in note for note in files.notes()) == noted


def test_what_is_counted_as_a_patient_is_said_where_it_may_be_something_else(write):
    root = write(lesion=["l1", "l2", "l3", "l4"])
    notes = [rows(root, patient=column).attrs["notes"] for column in ("patient_id", "lesion")]
    assert "what is counted as a patient is a 'lesion'" in notes[1][-1] and not any(
        "counted" in note for note in notes[0]
    )


@pytest.mark.parametrize("patient", ["nan", " ", "None"])
def test_nobody_is_no_patient(write, patient):
    with pytest.raises(ValueError, match=r"row 4, column 'patient_id': .* names no patient"):
        rows(write(patient_id=["p1", "p1", patient, "p3"]))


def test_the_line_that_a_message_says_to_paste_is_right(write):
    root = write(age=["000Y", "59", "061Y", "x"])
    with pytest.raises(ValueError, match="'000Y'") as error:
        rows(root)
    line = str(error.value).rpartition("null (unknown): ")[2]
    read = rows(root, **params.parsed(line))
    assert read.age.fillna(-1).tolist() == [59, 59, 61, -1]  # the first that is known, by patient


def test_every_mistake_is_in_one_error(write):
    root = write(sex=["div", "x", "male", "F"], label=["1", "1", "2", "0"], patient_id=["a", "b", "", "d"])
    with pytest.raises(ValueError) as error:
        rows(root)
    assert len(str(error.value).splitlines()) == 3 and "'div' (1" in str(error.value) and "'x' (1" in str(error.value)


def test_two_meanings_of_one_entry_are_refused():
    with pytest.raises(ParamsError, match="'m' has two meanings"):
        dataset(".", sex={"column": "s", "values": {"M": "male", "m": "female"}})


def test_rows_are_those_that_the_parameters_want(write):
    root = write(view=["PA", "AP ", "lateral", "ap"], modality=["X-ray"] * 4, digital=["true", "true", "true", "no"])
    wanted = {"view": ["PA", "AP"], "modality": "x-ray", "digital": True}
    read = rows(root, where=wanted)
    assert read.image_id.tolist() == ["a.png", "sub/b.png"]
    assert [n for n in read.attrs["notes"] if "1 of 4 rows" in n and "'view'" in n]
    with pytest.raises(ValueError, match="column 'view': no row says 'LAT'"):
        rows(root, where={"view": "LAT"})
    with pytest.raises(ValueError, match=r"column 'View' is missing.*'view'"):
        rows(root, where={"View": "PA"})


def test_a_column_is_kept_whatever_its_case_and_its_groups_are_read_as_all_others(write):
    read = rows(write(Site=["N", "n ", "NA", "S"]), keep=["Site"])
    assert read.Site.fillna("?").tolist() == ["N", "N", "?", "S"]


def test_repeated_rows_are_left_out_and_repeated_images_refused(write):
    root = write()
    table = pd.read_csv(root / "cohort.csv", dtype=str, keep_default_na=False)
    pd.concat([table, table[1:2]]).to_csv(root / "cohort.csv", index=False)
    assert len(rows(root)) == 4
    pd.concat([table, table[1:2].assign(age="60")]).to_csv(root / "cohort.csv", index=False)
    with pytest.raises(ValueError, match=r"row 6, column 'path': 'sub/b\.png' occurs more than once"):
        rows(root)


def test_images_that_are_not_square_are_padded_unless_told(write):
    root = write()
    Image.fromarray(np.full((16, 32), 200, np.uint8)).save(root / "a.png")
    assert image(root, 0, window=[0, 200])[0].mean() == pytest.approx(0.5, abs=0.02)
    assert image(root, 0, window=[0, 200], fit="squash")[0].mean() == pytest.approx(1)


def test_values_inside_a_mask_may_be_given(write):
    root = write(path=["a.npy", "b.npy", "c.npy", "d.npy"], mask=["m.npy"] * 4)
    np.save(root / "a.npy", GREY)
    np.save(root / "m.npy", np.repeat([0, 128, 255, 255], 8)[:, None] * np.ones((1, 32), np.uint8))
    with pytest.raises(ValueError, match="ambiguous"):
        image(root, 0, mask={"column": "mask"})
    assert image(root, 0, mask={"column": "mask", "inside": [128]})[1].mean() == 0.25
    with pytest.raises(ParamsError, match=r"dataset\.mask\.inside"):
        dataset(root, mask={"column": "mask", "inside": []})


def test_a_mask_may_outline_several_regions_of_one_value_or_more(write):
    root = write(path=["a.npy", "b.npy", "c.npy", "d.npy"], mask=["m.npy", "", "", ""])
    for name in ("a", "b"):
        np.save(root / f"{name}.npy", GREY)
    np.save(root / "m.npy", np.repeat([0, 1, 2, 4], 8)[:, None] * np.ones((1, 32), np.uint8))
    settings = {"mask": {"column": "mask", "blank": "background", "labels": {1: "core", 4: "core", 2: "oedema"}}}
    core, oedema = image(root, 0, **settings)[1]
    assert core.mean() == 0.5 and core[8:16].all() and core[24:].all() and oedema.mean() == 0.25
    nothing = image(root, 1, **settings)[1]
    assert nothing.shape == (2, 32, 32) and not nothing.any()
    made = dataset(root, **settings)
    assert made.about.tasks == {"label": "classify", "core": "segment", "oedema": "segment"}
    one = {"mask": {"column": "mask", "blank": "background", "labels": {4: "core"}}}
    assert image(root, 0, **one)[1].shape == (32, 32) and image(root, 0, **one)[1][24:].all()
    for change, words in (({"inside": [1]}, "inside"), ({"task": "x"}, "task"), ({"labels": {0: "core"}}, "labels")):
        with pytest.raises(ParamsError, match=rf"dataset\.mask.*{words}"):
            dataset(root, mask=settings["mask"] | change)
    with pytest.raises(ParamsError, match="'label' names two tasks"):
        dataset(root, mask={"column": "mask", "labels": {1: "label"}})


# --- mistakes ---


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"path": ["a", "/etc/b", "c", "d"]}, {}, r"row 3, column 'path': '/etc/b' may lead out of .*; write paths relative"),
        ({"path": ["a", "b", "../c", "d"]}, {}, r"row 4, column 'path': '\.\./c' may lead out of"),
        ({"path": ["a", "b", "x/../../c", "d"]}, {}, r"row 4, column 'path': 'x/\.\./\.\./c' may lead out of"),
        ({"path": ["a", "b", "c", r"x\..\d"]}, {}, r"row 5, column 'path': .* may lead out of"),
        ({"path": ["a", r"C:\scans\b", "c", "d"]}, {}, r"row 3, column 'path': .* may lead out of"),
        ({"m": ["a", "/b", "c", "d"]}, {"mask": {"column": "m"}}, r"row 3, column 'm': '/b' may lead out of"),
        ({"m": ["a", "", "c", "d"]}, {"mask": {"column": "m"}}, r"row 3, column 'm': '' names no file; every row needs one"),
        ({"path": ["a", "", "c", "d"]}, {}, r"row 3, column 'path': '' names no file"),
        ({"path": ["a", "b", "a", "b"]}, {}, r"row 4, column 'path': 'a' occurs more than once.*\(1 more rows"),
        ({"path": ["x/a", "b", "x//a", "x\\a"]}, {}, r"row 4, column 'path': 'x//a' occurs more than once.*\(1 more"),
        ({"patient_id": ["p", "p", "", "q"]}, {}, r"row 4, column 'patient_id': '' names no patient"),
        ({"sex": ["F", "F", "Mael", "F"]}, {}, r"column 'sex': .*'Mael' \(1, first in row 4\).*'male'"),
        ({"age": ["0", "5", "6", "7"]}, {}, r"column 'age': .*'0' \(1, first in row 2\).*age: \{column: \"age\", values: \{\"0\": null\}\}"),
        ({"age": ["5", "5", "999", "7"]}, {}, r"column 'age': .*'999' \(1, first in row 4\)"),
        ({"age": ["5", "5", "x", "7"]}, {}, r"column 'age': .*'x' \(1, first in row 4\)"),
        ({"label": ["1", "1", "2", "0"]}, {}, r"column 'label': .*'2' \(1, first in row 4\); expected 0, 1, -1"),
        ({"label": ["1", "0", "1", "0"]}, {}, r"row 3, column 'label': '0' is not what another row says of this patient.*dataset\.unit is image"),
        ({"race": ["Whit", "Whit", "", ""]}, {"race": {"column": "race", "values": {"White": "W"}}}, r"column 'race': .*'Whit' \(2, first in row 2\); expected White.*'White'"),
        ({}, {"race": "Race"}, r"cohort\.csv: column 'Race' is missing.*'race'"),
        ({}, {"keep": ["site"]}, r"cohort\.csv: column 'site' is missing"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named_with_its_row(write, change, settings, message):
    with pytest.raises(ValueError, match=message):
        rows(write(**change), **settings)


def test_labels_of_images_may_differ_within_a_patient(write):
    assert rows(write(label=["1", "0", "1", "0"]), unit="image").label.tolist() == [1, 0, 1, 0]


def test_two_sexes_of_a_patient_are_refused(write):
    study = params.study(dataset={"name": "table", "root": str(write(sex=["F", "M", "F", "F"]))})
    with pytest.raises(ValueError, match="patient 'p1' is in two groups of sex: female, male"):
        data.cohort_table(study)


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "cohort.csv").write_bytes("path;männlich".encode("latin-1"))
    with pytest.raises(ValueError, match=r"cohort\.csv: cannot be read as a table; expected CSV in UTF-8"):
        rows(tmp_path)
    (tmp_path / "cohort.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"cohort\.parquet: cannot be read as a table"):
        rows(tmp_path, file="cohort.parquet")


def test_a_missing_table_is_named_with_the_nearest(tmp_path):
    (tmp_path / "cohorts.csv").write_text("")
    with pytest.raises(ParamsError, match=r"cohort\.csv is not there; .*'cohorts\.csv'.* Get a table"):
        rows(tmp_path)


def test_a_file_name_with_brackets_is_taken_as_it_is(write):
    root = write()
    (root / "cohort.csv").rename(root / "cohort [1].csv")
    assert len(rows(root, file="cohort [1].csv")) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"percentiles": [0.01, 0.99]}, r"percentiles.*\[1, 99\]"), ({"window": [9, 5]}, r"\[9, 5\]")],
)
def test_a_range_that_shows_nothing_is_refused_wherever_images_come_from(settings, words):
    given = {"noise": {"kind": "given", "folder": "theirs", **settings}}
    for sections in ({"dataset": {"name": "table", **settings}}, {"dataset": {"name": "table"}, **given}):
        with pytest.raises(ParamsError, match=words):
            params.study(**sections)
