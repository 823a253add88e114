"""Images and diagnostic models made elsewhere: the way of a hospital, as the page in docs describes it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scans import nifti
from smallest import one_thread

from reconfair import data, diagnosis, judge, mitigation, noise, params, recon, run, store, tables
from reconfair.data import elsewhere, files
from reconfair.diagnosis import probe
from reconfair.params import ORIGINAL, ParamsError, Source

PAGE = store.PACKAGE.parent / "docs" / "images-made-elsewhere.md"
SIZE, PATIENTS = 32, 60
BRIEF = [f"dataset.size={SIZE}", "fairness.min_cases=2", "fairness.resamples=99", "compute.workers=1"]


def block(name: str) -> str:
    """The block of the page that stands for a file."""
    (text,) = re.findall(rf"^```\w+\n(# {re.escape(name)}\n.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return text


@pytest.fixture
def hospital(tmp_path, monkeypatch) -> Path:
    """Scans, a table of them, reconstructions that are darker, and a classifier: where the hospital works."""
    draw = np.random.default_rng(0)
    people = pd.DataFrame({"patient_id": [f"p{k:03d}" for k in range(PATIENTS)]})
    people["path"] = people.patient_id + "/scan.png"
    people["sex"], people["age"] = draw.choice(["F", "M"], PATIENTS), draw.integers(20, 90, PATIENTS)
    people["race"], people["pneumonia"] = draw.choice(["White", "Black"], PATIENTS), np.arange(PATIENTS) % 2
    for row in people.itertuples():
        image = draw.integers(60, 120, (SIZE, SIZE)) + 60 * row.pneumonia
        image[:2] = 255 if row.sex == "F" else 0
        for folder, scan in (("export", image), ("ai", image - 20)):
            (tmp_path / folder / row.patient_id).mkdir(parents=True)
            Image.fromarray(scan.clip(0, 255).astype(np.uint8)).save(tmp_path / folder / row.path)
    people.to_csv(tmp_path / "export" / "cohort.csv", index=False)
    text = block("hospital.yaml").replace("~", str(tmp_path))
    (tmp_path / "hospital.yaml").write_text(text)
    (tmp_path / "their_model.py").write_text(block("their_model.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path


def load(*overrides):
    return params.load("hospital.yaml", [*BRIEF, *overrides])


def originals(study):
    return tables.read("cohort", data.product(study).folder)


def test_the_whole_way_of_a_hospital(hospital, capsys):
    study = load()
    assert study.sources == (ORIGINAL, Source("vendor")) and study.trained == () and study.reader_names == ("standard",)
    assert run.main(["check", "hospital.yaml"]) == 0, capsys.readouterr().err
    with one_thread():
        for product in run.every_product(study):
            if product.folder.name != "chapters" and product.chapter < "06":
                store.make(product)
    assert not list((hospital / "outputs").rglob("best.ckpt"))
    given, cohort = recon.reconstruct(study, "vendor"), originals(study)
    rows = data.rows(cohort, "eval")
    for image, patient in zip(given, cohort.original_patient_id.iloc[rows], strict=True):
        stored = np.asarray(Image.open(hospital / "ai" / patient / "scan.png"))
        assert image == pytest.approx(stored / 255, abs=1e-3)
    answers = judge.collect("predictions", judge.predictions(study))
    assert set(answers.source) == {"original", "vendor"} and len(answers) == 2 * len(rows)
    scores = answers.pivot(index="unit", columns="source", values="score")
    middle = given[:, 8:24, 8:24].astype(float).mean((1, 2))
    units = cohort.patient_id.iloc[rows]
    assert scores.vendor[units].to_numpy() == pytest.approx(1 / (1 + np.exp(-20 * (middle - 0.5))), abs=1e-2)
    val = answers[(answers.split == "val") & (answers.source == "original")]
    assert diagnosis.thresholds(study) == {"pneumonia": pytest.approx(val.score[val.label == 1].min(), abs=1e-6)}
    performance, fairness = judge.judge(study)
    everyone = performance[(performance.attribute == "all") & (performance.task == "pneumonia")]
    tpr = everyone[everyone.metric == "tpr"].set_index("source").value
    assert tpr["original"] > 0.9 and tpr["vendor"] < 0.5  # darker images are called healthy at the same threshold
    assert set(performance[performance.task == "image"].source) == {"vendor"} and len(fairness)
    probed = probe.probe(study).set_index(["source", "attribute"])
    assert (probed.value[:, "sex"] == 1).all() and probed.low[:, "age_group"].max() < 0.5  # only the sex is drawn
    quality = tables.read("quality", recon.product(study, Source("vendor")).folder)
    assert quality.psnr.to_numpy() == pytest.approx(-20 * np.log10(20 / 255), abs=0.5)


def test_what_changes_a_file_makes_all_that_was_made_with_it_stale(hospital):
    predicted = diagnosis.product(load(), Source("vendor")).fingerprint
    original = diagnosis.product(load(), ORIGINAL).fingerprint
    elsewhere._listed.cache_clear()
    Image.new("L", (SIZE, SIZE)).save(hospital / "ai" / "p000" / "scan.png", compress_level=0)
    assert diagnosis.product(load(), Source("vendor")).fingerprint != predicted
    assert diagnosis.product(load(), ORIGINAL).fingerprint == original
    store.source.cache_clear()
    (hospital / "their_model.py").write_text(block("their_model.py").replace("20 *", "30 *"))
    assert diagnosis.product(load(), ORIGINAL).fingerprint != original


def test_files_behind_links_count_as_any_other(hospital, capsys):
    """A link to a folder is turned to another one: what was made with it is stale, and no file there is unknown."""
    (hospital / "ai").rename(hospital / "first")
    (hospital / "ai").mkdir()
    (hospital / "ai" / "loop").symlink_to(hospital / "ai")
    for name in ("first", "second"):
        shutil.copytree(hospital / "first", hospital / "ai" / name)
    (hospital / "ai" / "current").symlink_to("first")
    Image.new("L", (SIZE, SIZE)).save(hospital / "ai" / "second" / "p000" / "scan.png", compress_level=0)
    study = load("reconstruction.vendor.path=current/{path}")
    elsewhere._listed.cache_clear()
    before = recon.product(study, Source("vendor"))
    store.make(data.product(study))
    store.make(before)
    assert f"{PATIENTS} files have the id of no image" in capsys.readouterr().out  # those of the second folder
    assert recon.product(study, Source("vendor")).fresh
    (hospital / "ai" / "current").unlink()
    (hospital / "ai" / "current").symlink_to("second")
    elsewhere._listed.cache_clear()
    assert not recon.product(study, Source("vendor")).fresh


def test_missing_files_are_named_with_their_groups(hospital):
    for patient in ("p001", "p003"):
        (hospital / "ai" / patient / "scan.png").rename(hospital / "ai" / patient / "other.png")
    study = load("dataset.split=[0.1,0.45,0.45]")
    data.prepare(study)
    table = originals(study)
    lost = table[table.original_patient_id.isin(["p001", "p003"]) & table.split.isin(["val", "test"])]
    (mistake,) = recon.given.check(study)
    for part in ("reconstruction.vendor.path", f"{len(lost)} of", "p003/scan.png", "other.png", "on_bad_image: skip"):
        assert part in mistake
    assert "2 files have the id of no image" in mistake and "did you mean 'p001/scan.png'" in mistake
    for sex, number in lost.sex.value_counts().items():
        assert f"{sex} {number}" in mistake
    with pytest.raises(ValueError, match=r"p003/scan\.png"):
        store.make(recon.product(study, Source("vendor")))


def renamed(hospital, change):
    for patient in sorted((hospital / "ai").iterdir()):
        (patient / "scan.png").rename(hospital / "ai" / change(patient.name))


@pytest.mark.parametrize(
    ("change", "named"),
    {
        "ending": (
            lambda patient: f"{patient}/scan.PNG",
            r"54 of them are there with another ending or case, such as \S+/ai/p000/scan\.PNG;",
        ),
        "kind": (lambda patient: f"{patient}/scan.jpg", r"54 of them are there .*, such as \S+/ai/p000/scan\.jpg;"),
        "case": (lambda patient: f"{patient}/Scan.png", r"54 of them are there .*, such as \S+/ai/p000/Scan\.png;"),
        "name": (lambda patient: f"{patient}/image.tif", r"; did you mean 'p000/image\.tif'"),
    }.values(),
)
def test_what_lies_there_instead_of_missing_files_is_named(hospital, change, named):
    renamed(hospital, change)
    (mistake,) = recon.given.check(load("reconstruction.vendor.path='{patient_id}/scan.png'"))
    assert re.search(rf"54 of 54 images are not there.*{named}", mistake), mistake


def test_a_wrong_path_suggests_no_single_file(hospital):
    (mistake,) = recon.given.check(load("reconstruction.vendor.path='{patient_id}/{image_id}.png'"))
    assert "p000/scan.png" in mistake and "did you mean" not in mistake


def test_without_a_path_files_are_named_as_their_originals(hospital):
    text = (hospital / "hospital.yaml").read_text()
    (hospital / "hospital.yaml").write_text(text.replace('path: "{path}", ', ""))
    assert load().reconstruction.vendor.path == "{path}" and recon.given.check(load()) == []


def test_files_of_unknown_ids_and_a_scale_of_each_file_are_told(hospital, capsys):
    (hospital / "ai" / "p999").mkdir()
    Image.new("L", (SIZE, SIZE)).save(hospital / "ai" / "p999" / "scan.png")
    # Files of patients who train are needed by nobody, and known.
    study = load("dataset.split=[0.1,0.45,0.45]", "reconstruction.vendor.window=null")
    data.prepare(study)
    recon.reconstruct(study, "vendor")
    said = capsys.readouterr().out
    assert "vendor: 1 files have the id of no image of this cohort\n" in said and "p999" not in said
    assert "each file is scaled by its own values" in said and "window" in said
    recon.reconstruct(load("dataset.split=[0.1,0.45,0.45]", "reconstruction.vendor.window=[0,255]"), "vendor")
    assert "scaled by its own" not in capsys.readouterr().out


def test_a_window_that_shows_nothing_is_refused(hospital, capsys):
    data.prepare(load("dataset.split=[0.1,0.45,0.45]"))
    with pytest.raises(ValueError, match=r"vendor: (\d+) of \1 images.*window: \[1000\.0, 2000\.0\]"):
        recon.reconstruct(load("dataset.split=[0.1,0.45,0.45]", "reconstruction.vendor.window=[1000,2000]"), "vendor")
    recon.reconstruct(load("dataset.split=[0.1,0.45,0.45]", "reconstruction.vendor.window=[0,1]"), "vendor")
    assert re.search(r"vendor: \d+ of \d+ images have one value.*window: \[0\.0, 1\.0\]", capsys.readouterr().out)


FLAT = "dataset.split=[0.1,0.45,0.45]"


def photographs(hospital, change, suffix="png", window=(0, 255)):
    """Smooth originals, and reconstructions that are made of each by `change`; what is printed of them is returned."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    for number, patient in enumerate(sorted((hospital / "ai").iterdir())):
        image = 120 + 60 * np.sin(5 * x + number) * np.cos(4 * y) + 60 * x * y
        Image.fromarray(image.astype(np.uint8)).save(hospital / "export" / patient.name / "scan.png")
        given = change(image)
        if suffix == "npy":
            np.save(patient / "scan.npy", given)
        else:
            Image.fromarray(given).save(patient / "scan.png")
    path = f"reconstruction.vendor.path='{{patient_id}}/scan.{suffix}'"
    study = load(FLAT, path, f"reconstruction.vendor.window={list(window)}")
    data.prepare(study)
    recon.reconstruct(study, "vendor")


@pytest.mark.parametrize(
    ("change", "suffix", "noted"),
    {
        "shares": (
            lambda image: image / 255,
            "npy",
            r"vendor: nearly all pixels .*window: \[0\.0, 255\.0\] may not fit",
        ),
        "16 bits": (lambda image: (image * 257).astype(np.uint16), "png", r"vendor: 100% of the pixels .*white, of"),
    }.values(),
)
def test_a_window_that_hardly_fits_is_noted(hospital, capsys, change, suffix, noted):
    if suffix == "png":
        bright = change
        change = lambda image: np.where(image < 70, 0, bright(image)).astype(np.uint16)  # noqa: E731
    photographs(hospital, change, suffix)
    assert re.search(noted, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("change", "how"),
    {
        "as it is": (lambda image: image, ""),
        "darker": (lambda image: image * 0.7, ""),
        "mirrored": (np.fliplr, "mirrored from left to right"),
        "turned": (np.rot90, "turned by 90 degrees to the right"),
        "inverted": (lambda image: 255 - image, "inverted"),
        "both": (lambda image: 255 - np.flipud(image), "mirrored from top to bottom and inverted"),
    }.values(),
)
def test_images_that_lie_otherwise_than_their_originals_are_noted(hospital, capsys, change, how):
    photographs(hospital, lambda image: np.ascontiguousarray(change(image).astype(np.uint8)))
    text = capsys.readouterr().out
    assert ("fit their originals better" in text) == bool(how)
    assert f"vendor: {how}, the images" in text or not how


def test_one_file_for_several_images_is_refused(hospital):
    table = pd.read_csv(hospital / "export" / "cohort.csv")
    again = table.head(3).assign(path=[f"p00{k}/again.png" for k in range(3)])
    for path in again.path:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE)).astype(np.uint8)).save(
            hospital / "export" / path
        )
    pd.concat([table, again]).to_csv(hospital / "export" / "cohort.csv", index=False)
    (mistake,) = recon.given.check(load("reconstruction.vendor.path='{patient_id}/scan.png'"))
    assert re.search(r"vendor.*'\{patient_id\}/scan\.png'.*p000/scan\.png for .*again\.png", mistake)


def test_missing_files_are_skipped_for_their_source_alone(hospital):
    (hospital / "ai" / "p003" / "scan.png").unlink()
    Image.new("L", (SIZE, SIZE + 1)).save(hospital / "ai" / "p005" / "scan.png")
    study = load("dataset.on_bad_image=skip", "dataset.split=[0.1,0.45,0.45]")
    data.prepare(study)
    table = originals(study)
    lost = table[table.original_patient_id.isin(["p003", "p005"]) & table.split.isin(["val", "test"])]
    assert len(lost)
    made = recon.product(study, Source("vendor"))
    images = recon.reconstruct(study, "vendor")
    assert np.isnan(images[:, 0, 0]).sum() == len(lost)
    listed = pd.read_csv(made.folder / "skipped.csv", dtype="str")
    assert set(listed.image_id) == set(lost.image_id) and set(listed.sex) == set(lost.sex)
    reasons = " ".join(listed.reason)
    assert "p00" not in made.folder.joinpath("skipped.csv").read_text()  # pseudonyms alone
    assert ("not there" in reasons) == ("p003" in set(lost.original_patient_id))
    assert (f"{SIZE + 1} x {SIZE}" in reasons) == ("p005" in set(lost.original_patient_id))
    answers = judge.collect("predictions", judge.predictions(study))
    units = answers.groupby("source").unit.agg(set)
    assert units["original"] - units["vendor"] == set(lost.patient_id)
    performance, _ = judge.judge(study)
    tested = performance[(performance.attribute == "all") & (performance.metric == "auroc")].n
    whole = (table.split == "test").sum() - (lost.split == "test").sum()
    assert set(tested) == {whole}
    assert len(probe.probe(study))


@pytest.fixture
def series(hospital):
    """Five slices of each patient, of which the copies made elsewhere lack two of each woman."""
    people, draw = pd.read_csv(hospital / "export" / "cohort.csv"), np.random.default_rng(1)
    slices = people.loc[people.index.repeat(5)].assign(number=np.tile(np.arange(5), len(people)))
    slices["path"] = slices.patient_id + "/s" + slices.number.astype(str) + ".png"
    for row in slices.itertuples():
        image = draw.integers(100, 140, (SIZE, SIZE)) + 60 * row.pneumonia * (row.number < 3)
        for folder in ("export", "ai"):
            if folder == "export" or row.sex == "M" or row.number > 1:
                Image.fromarray(image.astype(np.uint8)).save(hospital / folder / row.path)
    slices.to_csv(hospital / "export" / "cohort.csv", index=False)
    return load(
        *["dataset.on_bad_image=skip", "dataset.unit=patient", "dataset.split=[0.1,0.4,0.5]"],
        *["dataset.window=[0,255]", "reconstruction.vendor.window=[0,255]", "reconstruction.vendor.path='{path}'"],
    )


def test_a_patient_is_judged_on_the_same_images_of_every_source(series, capsys):
    lost = recon.given.notes(series)
    assert len(lost) == 1 and "sex: female" in lost[0] and "they are left out" in lost[0]
    data.prepare(series)
    performance, _ = judge.judge(series)
    assert "patients are left out, since a source lacks some of their images (sex: female" in capsys.readouterr().out
    changes = performance[performance.source == "vendor"]
    changes = changes[changes.metric.isin(["tpr", "fpr", "auroc"]) & changes.change.notna()]
    assert len(changes) and (changes.change == 0).all() and "female" not in set(changes.group)
    table = probe.probe(series)
    copies = table[table.source == "vendor"]
    assert (copies.change == 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("dataset.window=null", ["images have a window", "originals is scaled by its own values"]),
        ("reconstruction.vendor.window=null", ["originals have a window", "images is scaled by its own values"]),
    ],
)
def test_a_window_on_one_side_alone_is_told_before_and_during_the_run(series, capsys, change, words):
    assert len(recon.given.notes(series)) == 1
    chosen = load(
        *["dataset.on_bad_image=skip", "dataset.unit=patient", "dataset.split=[0.1,0.4,0.5]"],
        *[
            "dataset.window=[0,255]",
            "reconstruction.vendor.window=[0,255]",
            "reconstruction.vendor.path='{path}'",
            change,
        ],
    )
    assert all(word in recon.given.notes(chosen)[0] for word in words)
    data.prepare(chosen)
    recon.reconstruct(chosen, "vendor")
    assert all(word in capsys.readouterr().out for word in words[:1])


def test_noisy_images_made_elsewhere_train_and_are_skipped(hospital):
    (hospital / "ai" / "p002" / "scan.png").unlink()
    study = load(
        "noise={kind: given, folder: ai, path: '{patient_id}/scan.png', window: [0, 255], level: quarter_dose}",
        "reconstruction.models=[unet]",
        "reconstruction.unet={epochs: 1, channels: 4, depth: 1}",
        "dataset.on_bad_image=skip",
        "dataset.split=[0.5,0.25,0.25]",
    )
    assert study.name == "hospital/quarter_dose"
    data.prepare(study)
    noisy, table = noise.prepare(study), originals(study)
    (lost,) = np.flatnonzero(np.isnan(noisy[:, 0, 0]))
    assert table.original_patient_id[lost] == "p002"
    with one_thread():
        answers = judge.collect("predictions", judge.predictions(study))
    assert np.isfinite(answers.score).all() and set(answers.source) == {"original", "noisy", "unet"}
    without, level = noise.ladder(study.noise)
    rows = np.array([0, 1])
    plain, dark = noise.at_levels(study, rows, [without, level])
    assert (plain - dark)[np.isfinite(dark)].mean() == pytest.approx(20 / 255, abs=0.02)
    with pytest.raises(ParamsError, match=r"noise\.kind"):
        noise.degrade(plain, ["a", "b"], study.noise)


@pytest.mark.parametrize(
    ("override", "named"),
    {
        "name in braces": (
            "reconstruction.vendor.path='{pathh}'",
            r"vendor\.path.*'pathh'|vendor\.path.*\{pathh\}.*'path'",
        ),
        "no name": ("reconstruction.vendor.path=scan.png", r"vendor\.path.*scan\.png.*\{image_id\}"),
        "layout": ("reconstruction.vendor.path='{stem:03d}.png'", r"vendor\.path.*stem:03d.*slice"),
        "conversion": ("reconstruction.vendor.path='{stem!x}.png'", r"vendor\.path.*stem!x"),
        "way out": ("reconstruction.vendor.path='../{path}'", r"vendor\.path.*\.\./"),
        "kind": ("reconstruction.vendor.kind=givn", r"vendor\.kind.*'givn'.*'given'"),
        "model": ("reconstruction.models=[vendr]", r"reconstruction\.models.*'vendr'.*did you mean 'vendor'\?"),
        "name of a model that learns": (
            "reconstruction.unet={kind: given, folder: ai}",
            r"reconstruction\.unet: unet is trained",
        ),
        "model that learns": (
            "reconstruction.models=[unet,vendor]",
            r"reconstruction\.models: without noise, unet has nothing to learn from.*gaussian",
        ),
        "channel": (
            "dataset.channels=3\nreconstruction.vendor.channel=1",
            r"reconstruction\.vendor\.channel.*dataset\.channels: 3",
        ),
        "channel of noise": (
            "dataset.channels=3\nnoise={kind: given, folder: ai, channel: 0}",
            r"noise\.channel.*dataset\.channels: 3",
        ),
        "level outside": ("noise={kind: given, folder: ai, level: ..}", "noise.level"),
        "level of a folder that is there": ("noise={kind: given, folder: ai, level: readers}", "'readers' is a folder"),
        "name of a source": ("reconstruction.noisy={kind: given, folder: ai}", "'noisy'"),
        "task": ("diagnosis.models={pneumonja: 'their_model.py:Reader'}", "diagnosis.models.*'pneumonja'.*'pneumonia'"),
        "class": ("diagnosis.models={pneumonia: 'their_model.py:Raeder'}", "'Raeder'.*'Reader'"),
        "ending": ("diagnosis.models={pneumonia: model.h5}", r"diagnosis\.models\.pneumonia.*'model\.h5'.*\.onnx"),
        "file": ("diagnosis.models={pneumonia: model.pt}", r"model\.pt"),
        "name of a class": (
            "dataset.tasks={stage: {column: pneumonia, labels: {1: 0, 2: 1, 3: 2}}}"
            "\ndiagnosis.models={'stage: 1': 'their_model.py:Reader'}",
            "diagnosis.models.*'stage: 1'.*'stage'",
        ),
    }.values(),
)
@pytest.mark.usefixtures("hospital")
def test_what_is_named_wrong_is_refused(override, named):
    with pytest.raises(ParamsError, match=named):
        load(*override.splitlines())


@pytest.mark.usefixtures("hospital")
def test_a_folder_that_is_not_there_is_named_with_the_nearest():
    (mistake,) = recon.given.check(load("reconstruction.vendor.folder=aj"))
    assert "reconstruction.vendor.folder" in mistake and "'ai'" in mistake
    (mistake,) = recon.given.check(load("reconstruction.vendor.folder=hospital.yaml"))
    assert "hospital.yaml is a file, expected a folder" in mistake and "did you mean" not in mistake


@pytest.mark.usefixtures("hospital")
def test_only_thresholds_apply_to_images_made_elsewhere():
    kspace = ["noise={kind: kspace}", "reconstruction.models=[unet,vendor]"]
    study = load(*kspace, "mitigation={strategies: [reweight, thresholds]}")
    assert study.mitigated == tuple(
        Source(*pair) for pair in [("unet", "reweight"), ("unet", "thresholds"), ("vendor", "thresholds")]
    )
    mitigation.products(study)
    with pytest.raises(ParamsError, match=r"mitigation\.models.*'vendor'"):
        load(*kspace, "mitigation={strategies: [reweight], models: [vendor]}")
    with pytest.raises(ParamsError, match=r"reconstruction\.vendor"):
        recon.weights(study, Source("vendor"))


@pytest.mark.usefixtures("hospital")
def test_folders_are_not_written_where_others_may_read_them():
    study = load()
    folder = study.reconstruction.vendor.folder
    assert folder not in str(study.sections())
    again = params.study(**study.sections("dataset", "noise", "reconstruction", "diagnosis"))
    assert params.folder_of(again.reconstruction.vendor.folder) == Path(folder)
    assert recon.product(again, Source("vendor")).fingerprint == recon.product(study, Source("vendor")).fingerprint


# --- what a file shows ---


class Dataset:
    size, on_bad_image, links, inputs = SIZE, "error", "follow", {}


def row(given, path="", **more):
    return pd.DataFrame([{"given": str(given), "path": str(path), **more}]).itertuples().__next__()


def given(folder, **settings):
    return elsewhere.Given(kind="given", folder=str(folder), **settings)


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PIR"])
def test_a_volume_is_turned_as_its_original(tmp_path, orientation):
    volume = np.random.default_rng(0).random((SIZE, SIZE, 5)).astype(np.float32)
    nifti(tmp_path / "a.nii.gz", volume)
    nifti(tmp_path / "b.nii.gz", volume, orientation)
    settings = given(tmp_path, path="{patient_id}.nii.gz")
    one, other = (
        elsewhere.read(Dataset(), settings, row(tmp_path / name, tmp_path / "a.nii.gz", slice=3))
        for name in ("a.nii.gz", "b.nii.gz")
    )
    assert (one == other).all() and one.std() > 0.1


def test_a_volume_elsewhere_in_the_patient_is_refused_unless_that_is_ignored(tmp_path):
    import nibabel

    volume = np.random.default_rng(0).random((SIZE, SIZE, 5)).astype(np.float32)
    nifti(tmp_path / "a.nii.gz", volume)
    moved = np.eye(4)
    moved[0, 3] = 7
    nibabel.save(nibabel.Nifti1Image(volume, moved), tmp_path / "b.nii.gz")
    asked = row(tmp_path / "b.nii.gz", tmp_path / "a.nii.gz", slice=3)
    with pytest.raises(ValueError, match=r"b\.nii\.gz: the given image lies up to 7 mm.*geometry: ignore"):
        elsewhere.read(Dataset(), given(tmp_path, path="{patient_id}.nii.gz"), asked)
    ignoring = given(tmp_path, path="{patient_id}.nii.gz", geometry="ignore")
    assert elsewhere.read(Dataset(), ignoring, asked).shape == (SIZE, SIZE)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_lies_where_its_volume_has_it(tmp_path, axis):
    nifti(tmp_path / "a.nii.gz", np.zeros((8, 7, 6), np.float32))
    whole, place = files.geometry(str(tmp_path / "a.nii.gz"))
    one, other = (files.place_of_slice(place, whole, number, axis) for number in (3, 4))
    # From the feet to the head, from front to back, and from the patient's right to the left.
    step = np.zeros(3)
    step[2 - axis] = {0: 1, 1: -1, 2: -1}[axis]
    assert other.corners[0] - one.corners[0] == pytest.approx(np.tile(step, (3, 1)))
    assert one.spacing == pytest.approx((1, 1))
    sides = np.linalg.norm(one.corners[0, [2, 1]] - one.corners[0, 0], axis=1)
    assert sides == pytest.approx([side - 1 for at, side in enumerate(whole) if at != axis])


def test_a_slice_in_a_file_of_its_own_must_lie_where_the_volume_has_it(tmp_path):
    import nibabel

    volume = np.random.default_rng(0).random((SIZE, SIZE, 5)).astype(np.float32)
    nifti(tmp_path / "a.nii.gz", volume)
    settings = given(tmp_path, path="{patient_id}_{slice:03d}.nii.gz")
    asked = row(tmp_path / "b.nii.gz", tmp_path / "a.nii.gz", slice=3)
    for feet, fits in ((3, True), (4, False)):
        affine = np.eye(4)
        affine[2, 3] = feet
        nibabel.save(nibabel.Nifti1Image(volume[..., 3:4], affine), tmp_path / "b.nii.gz")
        if fits:
            assert elsewhere.read(Dataset(), settings, asked).shape == (SIZE, SIZE)
        else:
            with pytest.raises(ValueError, match=r"b\.nii\.gz: the given image lies up to 1 mm"):
                elsewhere.read(Dataset(), settings, asked)


@pytest.mark.parametrize("name", ["1.2.840.7", "1.2.840.7.dcm", "1.2.840.7.nii.gz"])
def test_the_number_at_the_end_of_a_uid_is_no_ending(hospital, name):
    study = load("reconstruction.vendor.path='{stem}.png'")
    table = study.dataset.read_table().head(1).assign(path=f"{hospital}/export/{name}")
    assert elsewhere._with_files(study, study.reconstruction.vendor, table).given.iloc[0].endswith("/1.2.840.7.png")


# --- models of one's own ---


def settings_of(model, tasks=("pneumonia",), kind="classify"):
    return {"model": model, "kind": kind, "tasks": list(tasks)}


class Mean(torch.nn.Module):
    def __init__(self, shift: float, outputs: int):
        super().__init__()
        self.shift, self.outputs = shift, outputs

    def forward(self, images):
        return (images.mean((1, 2, 3)) + self.shift)[:, None].repeat(1, self.outputs)


def script(path, shift=0.0, outputs=1):
    torch.jit.save(torch.jit.trace(Mean(shift, outputs), torch.rand(2, 1, SIZE, SIZE)), path)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_read_and_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = torch.rand(3, 1, SIZE, SIZE)
    script("plain.pt"), script("logits.pt", -3.0), script("two.pt", outputs=2), Path("broken.pt").write_bytes(b"no")
    module = diagnosis.given.diagnoser(settings_of("plain.pt"))
    assert module.diagnose(images)[:, 0] == pytest.approx(images.mean((1, 2, 3)))
    assert module(images).sigmoid() == pytest.approx(module.diagnose(images), abs=1e-5)
    assert diagnosis.given.diagnoser(settings_of("two.pt", "ab")).diagnose(images).shape == (3, 2)
    for model, named in {"logits.pt": r"-2\.5.*\[0, 1\].*sigmoid", "two.pt": r"\(2, 2\).*\(2, 1\)"}.items():
        with pytest.raises(ValueError, match=rf"{model}.*{named}"):
            diagnosis.given.check(diagnosis.given.diagnoser(settings_of(model)), SIZE)
    with pytest.raises(ValueError, match=r"broken\.pt.*TorchScript.*torch\.jit\.save"):
        diagnosis.given.diagnoser(settings_of("broken.pt"))
    net = torch.nn.Conv2d(3, 1, 3)
    torch.save(net, "whole.pt"), torch.save(net.state_dict(), "state.pt"), torch.jit.script(net).save("colour.pt")
    for model in ("whole.pt", "state.pt"):
        with pytest.raises(ValueError, match=rf"{model}.*torch\.save.*expected what torch\.jit\.save"):
            diagnosis.given.diagnoser(settings_of(model))
    colour = diagnosis.given.diagnoser(settings_of("colour.pt"))
    with pytest.raises(ValueError, match=r"^colour\.pt: .*\(2, 1, 32, 32\).*3 channels.*expected prob") as error:
        diagnosis.given.check(colour, SIZE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["nan", "1.5", "-0.1"])
def test_what_is_no_probability_is_refused_by_name(hospital, value):
    text = block("their_model.py").replace("torch.sigmoid(20 * (middle - 0.5))", f"middle * 0 + float('{value}')")
    (hospital / "worse.py").write_text(text)
    study = load("diagnosis.models={pneumonia: 'worse.py:Reader'}")
    (mistake,) = diagnosis.check(study)
    assert "diagnosis.models.pneumonia" in mistake and "worse.py:Reader" in mistake and value in mistake


@pytest.mark.parametrize(
    ("answer", "named"),
    {
        "classes": ("torch.sigmoid(20 * (middle - 0.5)) > 0.5", "whole numbers.*probabilities"),
        "two": ("torch.sigmoid(middle), middle", r"a tuple of 2; expected probabilities \(2, 1\) as one tensor"),
        "list": ("middle[:, 0].tolist()", r"a list of 2; expected probabilities \(2, 1\) as one tensor"),
        "nothing": ("None", r"None; expected probabilities \(2, 1\)"),
        "colour": ("torch.nn.Conv2d(3, 1, 3)(images)", r"\(2, 1, 32, 32\).*fails \(RuntimeError: .*expected prob"),
        "argument": ("images\n\n    def __init__(self, weights):\n        pass", "weights.*without arguments"),
        "batch": ("torch.sigmoid(100 * (middle - middle.mean(0)))", r"beside it.*eval"),
        "random": ("torch.sigmoid(middle * torch.rand(1))", r"look to look.*eval"),
        "scale of a batch": ("(middle - images.min()) / (images.max() - images.min())", r"beside it.*eval"),
    }.values(),
)
def test_answers_that_are_no_frozen_model_s_probabilities_are_refused(hospital, answer, named):
    text = block("their_model.py").replace("torch.sigmoid(20 * (middle - 0.5))", answer)
    (hospital / "worse.py").write_text(text)
    (mistake,) = diagnosis.check(load("diagnosis.models={pneumonia: 'worse.py:Reader'}"))
    assert re.search(rf"diagnosis\.models\.pneumonia.*worse\.py:Reader.*{named}", mistake) and "\n" not in mistake


@pytest.mark.parametrize(("answer", "named"), [("None", "None"), ("images.mean((1, 2, 3))", r"shape \(2,\)")])
def test_features_that_are_none_are_refused(hospital, answer, named):
    text = block("their_model.py").replace("torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)", answer)
    (hospital / "worse.py").write_text(text)
    (mistake,) = diagnosis.check(load("diagnosis.models={pneumonia: 'worse.py:Reader'}"))
    assert re.search(rf"worse\.py:Reader.*{named}; expected features \(2, features\)", mistake)


def test_probabilities_of_one_task_may_have_one_axis(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat.py").write_text(
        "class Flat:\n    def diagnose(self, images):\n        return images.mean((1, 2, 3))\n"
    )
    module, images = diagnosis.given.diagnoser(settings_of("flat.py:Flat")), torch.rand(3, 1, SIZE, SIZE)
    diagnosis.given.check(module, SIZE)
    assert module.diagnose(images).equal(images.mean((1, 2, 3))[:, None])


def test_files_of_a_class_are_one_or_several_that_are_there(hospital):
    (hospital / "weights.pt").write_bytes(b"1")
    models = "diagnosis.models={pneumonia: 'worse.py:%s'}"
    (hospital / "worse.py").write_text(
        "class One:\n    files, diagnose = 'weights.pt', None\n"
        "class None_:\n    files, diagnose = ('weigths.pt',), None\n"
        "class Strange:\n    files, diagnose = 3, None\n"
    )
    assert load(models % "One") and diagnosis.given.files("worse.py:One")[1] == [store.checksum("weights.pt")]
    with pytest.raises(ParamsError, match=r"worse\.py:None_: files .*'weigths\.pt'.*did you mean 'weights\.pt'"):
        load(models % "None_")
    with pytest.raises(ParamsError, match=r"worse\.py:Strange: files .*3; expected names"):
        load(models % "Strange")


def test_radiographs_have_a_model_for_one_finding_and_one_for_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_model.py").write_text(block("their_model.py"))
    models = {"nodule": "their_model.py:Reader", "findings": "their_model.py:Reader"}
    study = params.study(dataset={"name": "phantom_xray", "size": 64}, diagnosis={"models": models})
    together, alone = study.networks
    assert together.name == "findings" and "nodule" not in together.tasks and together.model
    assert (alone.name, alone.tasks, alone.kind) == ("nodule", ("nodule",), "classify")


def test_a_segmenter_of_one_s_own_returns_masks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("class Same:\n    def diagnose(self, images):\n        return images\n")
    images = torch.rand(3, 1, SIZE, SIZE)
    module = diagnosis.given.diagnoser(settings_of("mine.py:Same", ["tumour"], "segment"))
    assert (module.diagnose(images) == (images[:, 0] >= 0.5)).all()
    assert (module(images) >= 0).equal(images >= 0.5)


def test_without_onnx_runtime_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.onnx.*reconfair\[onnx\]"):
        diagnosis.given.diagnoser(settings_of("model.onnx"))


def onnx(path, *, shape=("n", 1, SIZE, SIZE), kind=np.float32, outputs=("y",), beside=False):
    """Write an ONNX file: the mean of an image, weighted by a tensor that is 1, as a probability (n, 1)."""
    pytest.importorskip("onnxruntime", reason="reconfair[onnx] is not installed")
    package = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx import helper, numpy_helper

    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    inside = {"w": np.ones(shape[2:] if beside else (1, 1), kind), "axes": np.array([1, 2, 3])}
    nodes = [helper.make_node("Mul", ["x", "w"], ["z"])]
    nodes += [helper.make_node("ReduceMean", ["z", "axes"], ["m"], keepdims=0)]
    nodes += [helper.make_node("Reshape", ["m", "shape"], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("x", number, shape)],
        [helper.make_tensor_value_info(name, number, ("n", 1)) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (inside | {"shape": np.array([-1, 1])}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    how = {"save_as_external_data": True, "location": f"{path}.data", "size_threshold": 0} if beside else {}
    package.save_model(model, path, **how)


@pytest.mark.parametrize("batch", ["n", 1])
def test_onnx_is_run(tmp_path, monkeypatch, batch):
    monkeypatch.chdir(tmp_path)
    onnx("model.onnx", shape=(batch, 1, SIZE, SIZE))
    images = torch.rand(3, 1, SIZE, SIZE)
    module = diagnosis.given.diagnoser(settings_of("model.onnx"))
    assert module.diagnose(images)[:, 0] == pytest.approx(images.mean((1, 2, 3)), abs=1e-6)
    diagnosis.given.check(module, SIZE)
    with pytest.raises(ValueError, match=rf"model\.onnx.*\(2, 1, 64, 64\).*{SIZE} pixels.*\(2, 1\)"):
        diagnosis.given.check(module, 64)


@pytest.mark.parametrize(
    ("change", "named"),
    {
        "batch": (
            {"shape": (8, 1, SIZE, SIZE)},
            rf"\(8, 1, {SIZE}, {SIZE}\); expected a model that takes tensor\(float\).*any n",
        ),
        "float16": (
            {"kind": np.float16},
            r"tensor\(float16\).*expected a model that takes tensor\(float\), that is float32",
        ),
        "float64": (
            {"kind": np.float64},
            r"tensor\(double\).*expected a model that takes tensor\(float\), that is float32",
        ),
        "last": ({"shape": ("n", SIZE, SIZE, 1)}, rf"\(n, {SIZE}, {SIZE}, 1\); expected .*\(n, 1, size, size\)"),
        "colour": ({"shape": ("n", 3, SIZE, SIZE)}, r"\(n, 3, .*expected .*\(n, 1, size, size\).*class"),
        "outputs": ({"outputs": ("label", "probabilities")}, "2 outputs.*label, probabilities"),
    }.values(),
)
def test_onnx_that_takes_or_answers_something_else_is_refused_in_one_sentence(tmp_path, monkeypatch, change, named):
    monkeypatch.chdir(tmp_path)
    onnx("model.onnx", **change)
    with pytest.raises(ValueError, match=rf"^model\.onnx.*{named}") as error:
        diagnosis.given.diagnoser(settings_of("model.onnx"))
    assert "\n" not in str(error.value)


def test_what_is_no_onnx_is_refused_by_name(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="reconfair[onnx] is not installed")
    monkeypatch.chdir(tmp_path)
    for content in (b"", b"junk"):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=r"^model\.onnx.*cannot be loaded as ONNX"):
            diagnosis.given.diagnoser(settings_of("model.onnx"))


def test_weights_that_onnx_keeps_in_another_file_make_predictions_stale(hospital):
    onnx("model.onnx", beside=True)
    models = "diagnosis.models={pneumonia: model.onnx}"
    before = diagnosis.product(load(models), ORIGINAL).fingerprint
    content = (hospital / "model.onnx.data").read_bytes()
    (hospital / "model.onnx.data").write_bytes(content + b"\0")
    assert diagnosis.product(load(models), ORIGINAL).fingerprint != before
    (hospital / "model.onnx.data").unlink()
    (mistake,) = diagnosis.check(load(models))
    assert "model.onnx" in mistake and "cannot be loaded as ONNX" in mistake


@pytest.mark.parametrize("name", ["model.onnx.data", "weights/of a rather long name " + 130 * "x"])
def test_names_of_other_files_are_read_from_onnx_as_it_stores_them(tmp_path, monkeypatch, name):
    """Without ONNX: a tensor's field 13 holds pairs of a key (1) and a value (2), each after its length."""
    monkeypatch.chdir(tmp_path)

    def field(number, content):
        low, high = len(content) & 127, len(content) >> 7
        return bytes([8 * number + 2, *([low | 128, high] if high else [low])]) + content

    def pair(key, value):
        return field(1, key.encode()) + field(2, value.encode())

    tensor = b"\x08\x04" + field(13, pair("location", name)) + field(13, pair("offset", "0"))
    Path("model.onnx").write_bytes(field(14, pair("location", "ward 3")) + field(7, field(5, tensor)))
    assert diagnosis.given.files("model.onnx") == ([], [store.checksum("model.onnx"), ""])
    Path(name).parent.mkdir(exist_ok=True), Path(name).write_bytes(b"1")
    assert diagnosis.given.files("model.onnx")[1][1:] == [store.checksum(name)]
