"""The store: what is taken for fresh is whole, and was made from today's parameters, code and inputs."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reconfair import params, store
from reconfair.params import ParamsError

DEMO = {
    "dataset": {"name": "phantom_mri"},
    "noise": {"kind": "kspace", "acceleration": 8},
    "mitigation": {"strategies": ["reweight"]},
}


def study(**sections):
    """A study like DEMO; what is given is merged into its sections."""
    merged = {key: DEMO.get(key, {}) | sections.get(key, {}) for key in {**DEMO, **sections}}
    return params.study(**merged)


def product(folder, name="numbers", seed=1, **settings):
    return store.Product("01", Path(folder), name, {"seed": seed}, **settings)


def put(text="whole"):
    """A writer of one small file, which counts how often it wrote."""

    def write(part):
        (part / "file.txt").write_text(text)
        write.times += 1

    write.times = 0
    return write


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A module ``room`` in a package of the test's own; to be given another text."""
    monkeypatch.setattr(store, "PACKAGE", tmp_path)

    def rewrite(text):
        (tmp_path / "room.py").write_text(text)
        store.source.cache_clear()

    yield rewrite
    store.source.cache_clear()


# --- where ---


def test_outputs_lie_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path / "elsewhere"))
    assert store.outputs() == tmp_path / "elsewhere"


def test_outputs_lie_beside_the_nearest_params_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("RECONFAIR_OUTPUTS", raising=False)
    (tmp_path / "project" / "params").mkdir(parents=True)
    (tmp_path / "params").mkdir()
    inner = tmp_path / "project" / "notebooks" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert store.outputs() == tmp_path / "project" / "outputs"


def test_outputs_outside_a_project_are_refused(monkeypatch):
    monkeypatch.delenv("RECONFAIR_OUTPUTS", raising=False)
    monkeypatch.chdir("/")
    with pytest.raises(
        ParamsError, match="no folder 'params' at or above /; run inside the project or set RECONFAIR_OUT"
    ):
        store.outputs()


# --- fresh or not ---


def test_a_product_is_written_once(tmp_path):
    write = put()
    assert product(tmp_path).state == "missing"
    for _ in range(2):
        assert store.make(product(tmp_path), write) == tmp_path
    assert write.times == 1 and (tmp_path / "file.txt").read_text() == "whole"
    assert product(tmp_path).state == "done" and not product(tmp_path).part.exists()


def test_other_parameters_make_it_stale_and_anew(tmp_path):
    store.make(product(tmp_path), put("old"))
    assert product(tmp_path, seed=2).state == "stale"
    store.make(product(tmp_path, seed=2), put("new"))
    assert (tmp_path / "file.txt").read_text() == "new"
    assert product(tmp_path, seed=2).fresh and not product(tmp_path).fresh


def test_the_stamp_tells_what_was_made_from_what(tmp_path):
    store.make(product(tmp_path), put())
    stamp = product(tmp_path).read_stamp()
    assert stamp["parameters"] == {"seed": 1} and stamp["files"] == {"file.txt": len("whole")}
    assert stamp["seconds"] >= 0 and stamp["peak_mb"] > 0


@pytest.mark.parametrize("harm", ["cut", "grown", "gone", "no stamp", "broken stamp"])
def test_what_was_harmed_after_the_fact_is_not_fresh(tmp_path, harm):
    store.make(product(tmp_path), put())
    file, stamp = tmp_path / "file.txt", product(tmp_path).stamp
    {
        "cut": lambda: file.write_text("who"),
        "grown": lambda: file.write_text("whole and more"),
        "gone": file.unlink,
        "no stamp": stamp.unlink,
        "broken stamp": lambda: stamp.write_text(stamp.read_text()[:20]),
    }[harm]()
    assert not product(tmp_path).fresh
    store.make(product(tmp_path), put())
    assert product(tmp_path).fresh and file.read_text() == "whole"


def test_other_code_makes_it_stale_but_other_prose_does_not(tmp_path, room):
    def made():
        return product(tmp_path / "made", code=("room",))

    room("def double(x):\n    return 2 * x\n")
    store.make(made(), put())
    room('"""A room."""\n\ndef double(x):\n    """Twice x."""\n    # because\n    return 2 * x  # so\n')
    assert made().fresh
    room("def double(x):\n    return x + x\n")
    assert made().state == "stale"


@pytest.mark.parametrize("text", ['"""Only prose."""', 'class A:\n    """Prose."""', 'def f():\n    """Prose."""'])
def test_prose_is_no_code(room, text):
    room(text)
    assert "rose" not in store.source("room")


def test_text_that_is_no_docstring_is_code(room):
    room('def f():\n    return "prose"\n')
    assert "prose" in store.source("room")


def test_what_it_is_made_from_makes_it_stale(tmp_path):
    store.make(product(tmp_path), put())
    old = product(tmp_path, "made", needs=(product(tmp_path),))
    store.make(old, put())
    assert old.fresh and not product(tmp_path, "made", needs=(product(tmp_path, seed=2),)).fresh


@pytest.mark.parametrize("state", ["missing", "stale"])
def test_nothing_is_made_from_what_is_not_there(tmp_path, state):
    # Else it would bear the fingerprint of what it should have been made from, and stay fresh for ever.
    need = product(tmp_path, "need", seed=2)
    if state == "stale":
        store.make(product(tmp_path, "need", seed=1), put())
    made, write = product(tmp_path, "made", needs=(need,)), put()
    with pytest.raises(ParamsError, match=f"need.* {state}"):
        store.make(made, write)
    assert write.times == 0 and made.state == "missing"


# --- cut short ---


def test_a_failing_write_leaves_no_product_and_keeps_what_it_had(tmp_path):
    def fail(part):
        (part / "file.txt").write_text("hal")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        store.make(product(tmp_path), fail)
    assert product(tmp_path).state == "begun" and not (tmp_path / "file.txt").exists()
    assert (product(tmp_path).part / "file.txt").read_text() == "hal"


def test_a_failing_write_leaves_the_old_product_stale(tmp_path):
    store.make(product(tmp_path), put("old"))
    with pytest.raises(ZeroDivisionError):
        store.make(product(tmp_path, seed=2), lambda part: 1 / 0)
    assert product(tmp_path, seed=2).state == "stale" and product(tmp_path).fresh
    assert (tmp_path / "file.txt").read_text() == "old"


def test_a_move_cut_short_leaves_neither_the_old_product_nor_the_new(tmp_path):
    # Files of both have the same names and sizes: were the old stamp left, the mixture would pass for the old.
    store.make(product(tmp_path), put("old"))
    (tmp_path / "other.txt" / "in the way").mkdir(parents=True)

    def write(part):
        (part / "file.txt").write_text("new")
        (part / "other.txt").write_text("new")

    with pytest.raises(OSError, match="directory"):
        store.make(product(tmp_path, seed=2), write)
    assert not product(tmp_path).fresh and not product(tmp_path, seed=2).fresh


def test_leftovers_of_other_parameters_are_removed_and_those_of_others_kept(tmp_path):
    for begun in (product(tmp_path, seed=2), product(tmp_path, "letters")):
        begun.part.mkdir()
    store.make(product(tmp_path), put())
    assert not product(tmp_path, seed=2).part.exists() and product(tmp_path, "letters").part.exists()


def test_hidden_files_of_the_writer_are_no_part_of_the_product(tmp_path):
    def write(part):
        (part / ".scratch").write_text("mine")
        (part / "file.txt").write_text("whole")

    store.make(product(tmp_path), write)
    assert list(product(tmp_path).read_stamp()["files"]) == ["file.txt"] and not (tmp_path / ".scratch").exists()


HALF_WAY = """
import sys, time
from pathlib import Path
from reconfair import store

def write(part):
    (part / "first.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(60)

store.make(store.Product("01", Path(sys.argv[1]), "numbers", {"seed": 1}), write)
"""


def test_a_killed_write_holds_its_product_until_then_and_is_gone_on_with_after(tmp_path):
    mine = product(tmp_path)
    command = [sys.executable, "-c", HALF_WAY, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "writing\n"
        assert mine.state == "running"
        with pytest.raises(ParamsError, match=r"numbers: another run is writing this product; start again when"):
            store.make(mine, put())
        other.send_signal(signal.SIGKILL)
    assert mine.state == "begun" and not (tmp_path / "first.txt").exists()

    def go_on(part):
        assert (part / "first.txt").read_text() == "half"
        (part / "second.txt").write_text("other half")

    store.make(mine, go_on)
    assert mine.fresh and list(mine.read_stamp()["files"]) == ["first.txt", "second.txt"]


# --- the flow of a study ---


def changed(**sections):
    """Names of the products of DEMO that are others once these sections are changed."""
    before, after = store.flow(study()), store.flow(study(**sections))
    assert before.keys() == after.keys()
    return {key for key in before if before[key].fingerprint != after[key].fingerprint}


def made_by(*keys):
    return {f"{key}/{made}" for key in keys for made in ("model", "reconstructed", "predictions")}


TUNED = made_by("unet-reweight")
EVERY_TUNED = made_by("unet-reweight", "pix2pix-reweight", "sde-reweight")


def notebooks(first):
    """Copies of this chapter and all later ones, of which the last makes the report."""
    return {"report"} | {f"notebooks/{name}" for name in store.CHAPTERS if name >= first}


@pytest.mark.usefixtures("outputs")
def test_every_product_is_made_from_earlier_ones_and_stands_alone():
    seen, places = [], set()
    for key, made in store.flow(study()).items():
        assert all(any(need is earlier for earlier in seen) for need in made.needs), key
        assert all(need.chapter <= made.chapter for need in made.needs), key
        seen.append(made)
        places.add(made.stamp)
    assert len(places) == len(seen)


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize(
    ("sections", "products"),
    [
        ({"compute": {"device": "cpu", "workers": 2}}, set()),
        (
            {"reconstruction": {"unet": {"epochs": 3}}},
            made_by("unet", "unet-reweight") | {"fairness", "mitigation"} | notebooks("03"),
        ),
        (
            {"reconstruction": {"sde": {"sampler": "posterior"}}},
            made_by("sde", "sde-reweight") - {"sde/model", "sde-reweight/model"}
            | {"fairness", "mitigation"}
            | notebooks("03"),
        ),
        ({"fairness": {"resamples": 200}}, {"fairness", "mitigation"} | notebooks("04")),
        ({"mitigation": {"epochs": 3}}, EVERY_TUNED | {"mitigation"} | notebooks("06")),
        ({"report": {"runs": "all"}}, notebooks("10")),
    ],
    ids=["compute", "reconstruction", "sampling", "fairness", "mitigation", "report"],
)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(sections, products):
    assert changed(**sections) == products


@pytest.mark.usefixtures("outputs")
def test_another_word_in_a_notebook_reaches_its_copy_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "NOTEBOOKS", shutil.copytree(store.NOTEBOOKS, tmp_path / "notebooks"))
    before = store.flow(study())
    text = store.NOTEBOOKS / "02_noising.ipynb"
    text.write_text(text.read_text() + " ")
    after = store.flow(study())
    assert {key for key in before if before[key].fingerprint != after[key].fingerprint} == {"notebooks/02_noising"}


@pytest.mark.usefixtures("outputs")
def test_another_diagnosis_leaves_the_images_alone():
    kept = {"cohort", "noisy", "unet/model", "unet/reconstructed"}
    names = changed(diagnosis={"seed": 1})
    assert not kept & names and {"diagnosis/grade", "diagnosis/tumour", "original/predictions", *TUNED} <= names


@pytest.mark.usefixtures("outputs")
def test_another_cohort_changes_everything():
    assert changed(dataset={"seed": 1}) == set(store.flow(study()))


@pytest.mark.usefixtures("outputs")
def test_another_noise_level_shares_what_belongs_to_the_dataset():
    shared = {"cohort", "diagnosis/grade", "diagnosis/type", "diagnosis/tumour", "original/predictions"}
    x8, x4 = store.flow(study()), store.flow(study(noise={"acceleration": 4}))
    assert {key for key in x8 if x8[key].fingerprint == x4[key].fingerprint} == shared
    assert {key for key in x8 if x8[key].stamp == x4[key].stamp} == shared


def test_products_lie_in_the_folders_of_dataset_and_level(outputs):
    flow = store.flow(study())
    assert flow["cohort"].folder == outputs / "phantom_mri"
    assert flow["noisy"].folder == outputs / "phantom_mri" / "x8" / "noisy"
    assert flow["diagnosis/grade"].folder == outputs / "phantom_mri" / "diagnosis" / "grade"
    assert flow["unet-reweight/model"].folder == outputs / "phantom_mri" / "x8" / "unet-reweight"


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize("name", params.DATASETS)
def test_a_default_written_out_is_the_same_study(name):
    short = params.study(dataset={"name": name}, noise={"kind": "sinogram"})
    whole = store.flow(params.study(**short.model_dump(mode="json")))
    assert all(made.fingerprint == whole[key].fingerprint for key, made in store.flow(short).items())


@pytest.mark.usefixtures("outputs")
def test_other_metadata_on_disk_is_another_cohort(tmp_path):
    scans = params.study(dataset={"name": "nih", "root": str(tmp_path)})
    seen = set()
    for text in (None, "Image Index", "Image Index,Finding Labels"):
        if text:
            (tmp_path / "Data_Entry_2017_v2020.csv").write_text(text)
        seen.add(store.flow(scans)["cohort"].fingerprint)
    assert len(seen) == 3


@pytest.mark.usefixtures("outputs")
def test_another_table_on_disk_is_another_cohort(tmp_path):
    def cohort(**settings):
        return store.flow(params.study(dataset={"name": "table", "root": str(tmp_path), **settings}))[
            "cohort"
        ].fingerprint

    seen = {cohort()}
    (tmp_path / "cohort.csv").write_text("path")
    seen |= {cohort(), cohort(tasks={"a": "b"}), cohort(sex={"column": "sex", "values": {"F": "female"}})}
    assert len(seen) == 4


@pytest.mark.usefixtures("outputs")
def test_what_to_do_with_bad_images_is_no_other_cohort():
    study = {skip: params.study(dataset={"name": "nih", "on_bad_image": skip}) for skip in ("skip", "error")}
    assert store.flow(study["skip"])["cohort"].fingerprint == store.flow(study["error"])["cohort"].fingerprint


# --- one label, one cohort ---


@pytest.mark.usefixtures("outputs")
def test_a_label_stands_for_one_set_of_settings():
    first = study(dataset={"patients": 100})
    store.check_label(first)  # nothing stands there yet
    store.make(store.flow(first)["cohort"], put())
    store.check_label(study(dataset={"patients": 100}, noise={"acceleration": 4}))
    with pytest.raises(
        ParamsError, match=r"dataset\.patients: .*phantom_mri was made with 100, this study says 200.*label"
    ):
        store.check_label(study(dataset={"patients": 200}))
    store.check_label(study(dataset={"patients": 200, "label": "larger"}))


@pytest.mark.usefixtures("outputs")
def test_scans_may_move_to_another_folder():
    def scans(root):
        return params.study(dataset={"name": "lgg", "root": root})

    store.make(store.flow(scans("here"))["cohort"], put())
    store.check_label(scans("there"))
    assert store.flow(scans("there"))["cohort"].fresh


# --- long work ---


def test_work_in_parallel_comes_back_in_order(capfd):
    assert list(store.parallel(abs, [-3, 1, -2], "counting", workers=1)) == [3, 1, 2]


def test_nothing_to_do_is_no_error():
    assert list(store.parallel(abs, [], "counting", workers=1)) == []


def test_the_runner_is_told_how_far_the_work_has_come(tmp_path, monkeypatch, capfd):
    told = tmp_path / "told"
    monkeypatch.setenv("RECONFAIR_PROGRESS", str(told))
    seen = [(item, told.read_text()) for item in store.progress(["a", "b"], "noise x8")]
    assert seen == [("a", "noise x8 0/2"), ("b", "noise x8 1/2")]
    assert told.read_text() == "" and capfd.readouterr().err == ""


def test_without_a_runner_nothing_is_told(monkeypatch):
    monkeypatch.delenv("RECONFAIR_PROGRESS", raising=False)
    store.report("noise x8 1/2")


def test_a_fine_tuned_source_has_its_own_name():
    assert (store.variant("unet"), store.variant("unet", "reweight")) == ("unet", "unet-reweight")


def test_a_growing_file_is_a_plain_array_when_whole_and_is_cut_to_whole_chunks(tmp_path):
    array = np.arange(60, dtype=np.float16).reshape(10, 2, 3)
    file = store.Growing(tmp_path / "array.npy", array.shape, np.float16)
    file.append(array[:7].astype(float))
    with (tmp_path / "array.npy").open("ab") as half_a_row:
        half_a_row.write(b"12345")
    again, other = (store.Growing(tmp_path / name, array.shape, np.float16) for name in ("array.npy", "other.npy"))
    other.append(array[:5])
    assert again.done == 7
    assert store.resume(2, again, other) == again.done == other.done == 4
    again.append(array[4:])
    assert (np.load(tmp_path / "array.npy") == array).all()


def test_a_growing_file_killed_in_its_header_begins_anew(tmp_path):
    (tmp_path / "array.npy").write_bytes(b"\x93NUMPY")
    file = store.Growing(tmp_path / "array.npy", (2, 3), np.uint8)
    assert file.done == 0
    file.append(np.ones((2, 3)))
    assert np.load(tmp_path / "array.npy").sum() == 6


def test_a_growing_file_may_end_with_fewer_rows(tmp_path):
    for rows in (0, 1, 7, 10):
        file = store.Growing(tmp_path / f"{rows}.npy", (10, 2, 3), np.float16)
        file.append(np.arange(60).reshape(10, 2, 3))
        file.cut(rows)
        file.end()
        assert (np.load(file.path) == np.arange(rows * 6).reshape(rows, 2, 3)).all()
        assert (file.read() == np.load(file.path)).all() and file.done == rows


@pytest.mark.parametrize("threads", [False, True])
def test_work_side_by_side_comes_back_in_order(threads):
    assert list(store.parallel(abs, range(-20, 0), "numbers", 2, threads)) == list(range(20, 0, -1))
