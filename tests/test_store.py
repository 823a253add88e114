"""The store: what is taken for fresh is whole, and was made from today's parameters, code and inputs."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from reconfair import data, diagnosis, judge, noise, params, recon, store
from reconfair.params import ParamsError
from reconfair.run.products import CHAPTERS, every_product

ROOM = import_module("reconfair.run.products")
DEMO = {
    "dataset": {"name": "phantom_mri"},
    "noise": {"kind": "kspace", "acceleration": 8},
    "mitigation": {"strategies": ["reweight"]},
}
TINY = {
    "dataset": {"name": "phantom_mri", "size": 64, "patients": 60, "slices": 1},
    "noise": {"kind": "kspace", "acceleration": 8},
    "reconstruction": {"models": ["unet"], "unet": {"channels": 2, "depth": 1, "epochs": 1}},
    "diagnosis": {
        "tasks": ["grade"],
        "classify": {"architecture": "test_resnet", "pretrained": False, "epochs": 1},
    },
    "compute": {"device": "cpu", "workers": 1},
}


def study(**sections):
    """A study like DEMO; what is given is merged into its sections."""
    merged = {key: DEMO.get(key, {}) | sections.get(key, {}) for key in {**DEMO, **sections}}
    return params.study(**merged)


def put(text="whole"):
    """A writer of one small file, which counts how often it wrote."""

    def write(folder):
        (folder / "file.txt").write_text(text)
        write.times += 1

    write.times = 0
    return write


def product(folder, name="numbers", write=None, seed=1, **settings):
    command = "reconfair run study.yaml"
    return store.Product("01", "run", Path(folder), name, write or put(), {"seed": seed}, command=command, **settings)


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A module ``package.room`` of the test's own; to be given another text."""
    monkeypatch.setattr(store, "PACKAGE", tmp_path / "package")
    (tmp_path / "package").mkdir()

    def rewrite(text):
        (tmp_path / "package" / "room.py").write_text(text)
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


def test_outside_a_project_outputs_lie_where_the_package_stands(monkeypatch):
    monkeypatch.delenv("RECONFAIR_OUTPUTS", raising=False)
    monkeypatch.chdir("/")
    assert store.outputs() == store.PACKAGE.parent / "outputs"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RECONFAIR_OUTPUTS", "~/mine")
    monkeypatch.setenv("RECONFAIR_DATA", "~/scans")
    assert store.outputs() == tmp_path / "mine"
    with pytest.raises(ParamsError, match=f"{tmp_path}/scans/nih"):
        params.study(dataset={"name": "nih"}).dataset.find()


# --- fresh or not ---


def test_a_product_is_written_once(tmp_path):
    write = put()
    assert product(tmp_path).state == "missing"
    for _ in range(2):
        assert store.make(product(tmp_path, write=write)) == tmp_path
    assert write.times == 1 and (tmp_path / "file.txt").read_text() == "whole"
    assert product(tmp_path).state == "done" and not product(tmp_path).draft.exists()


def test_other_parameters_make_it_stale_and_anew(tmp_path):
    store.make(product(tmp_path, write=put("old")))
    assert product(tmp_path, seed=2).state == "stale"
    store.make(product(tmp_path, seed=2, write=put("new")))
    assert (tmp_path / "file.txt").read_text() == "new"
    assert product(tmp_path, seed=2).fresh and not product(tmp_path).fresh


def test_the_stamp_tells_what_was_made_from_what(tmp_path):
    store.make(product(tmp_path, write=put()))
    stamp = product(tmp_path).read_stamp()
    assert stamp["parameters"] == {"seed": 1} and stamp["files"] == {"file.txt": len("whole")}
    assert stamp["seconds"] >= 0 and stamp["peak_mb"] > 0 and stamp["layout"] == store.LAYOUT


@pytest.mark.parametrize("harm", ["cut", "grown", "gone", "a folder", "no stamp", "broken stamp", "empty stamp"])
def test_what_was_harmed_after_the_fact_is_not_fresh(tmp_path, harm):
    store.make(product(tmp_path, write=put()))
    file, stamp = tmp_path / "file.txt", product(tmp_path).stamp
    {
        "cut": lambda: file.write_text("who"),
        "grown": lambda: file.write_text("whole and more"),
        "gone": file.unlink,
        "a folder": lambda: (file.unlink(), file.mkdir()),
        "no stamp": stamp.unlink,
        "broken stamp": lambda: stamp.write_text(stamp.read_text()[:20]),
        "empty stamp": lambda: stamp.write_text("[]"),
    }[harm]()
    assert not product(tmp_path).fresh
    if harm == "a folder":
        file.rmdir()
    store.make(product(tmp_path, write=put()))
    assert product(tmp_path).fresh and file.read_text() == "whole"


@pytest.mark.parametrize(
    "key", ["fingerprint", "files", "sums", "inputs", "scans", "seconds", "work", "made", "layout"]
)
@pytest.mark.parametrize("value", [None, [1], {"file.txt": None}, "x", "left out"])
def test_a_stamp_of_another_shape_is_none(outputs, key, value):
    made = product(outputs / "run")
    store.make(made)
    stamp = json.loads(made.stamp.read_text())
    stamp.pop(key) if value == "left out" else stamp.update({key: value})
    made.stamp.write_text(json.dumps(stamp))
    assert not made.usable and made.state == "stale"
    assert store.throughputs() == {} and store.earlier("run") in ([], [made.stamp]) and made.verify() in (True, False)
    store.make(product(outputs / "run"))
    assert product(outputs / "run").usable


def flip(path, places=8):
    """Change some bytes in the middle of a file; its size stays."""
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + places):
        content[at] ^= 0xFF
    path.write_bytes(content)


def test_a_file_of_the_same_size_with_other_bytes_is_named_and_made_anew(outputs, capsys):
    made = product(outputs / "run", write=put("0123456789abcdef"))
    store.make(made)
    flip(outputs / "run" / "file.txt")
    assert made.fresh and not made.usable and not made.verify() and made.damaged == [outputs / "run" / "file.txt"]
    write = put("0123456789abcdef")
    store.ready(product(outputs / "run", write=write))
    assert write.times == 1 and made.usable and made.verify()
    assert "run/file.txt" in (said := capsys.readouterr().out) and str(outputs) not in said


def test_a_damaged_need_that_takes_long_is_named_with_its_file(outputs, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", -1)
    need = worked(outputs, "need", 3600.0)
    store.make(need)
    flip(outputs / "file.txt", 1)
    with pytest.raises(ParamsError, match=r"need is damaged \(file.txt\)"):
        store.ready(need)


@pytest.mark.parametrize("place", ["file.txt", ""])
def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_are_named(outputs, place):
    made, write = product(outputs / "run"), put()
    store.make(made)
    shutil.rmtree(outputs / "run") if not place else (outputs / "run" / place).unlink()
    (outputs / "run" / place).mkdir() if place else (outputs / "run").write_text("mine")
    assert made.state == ("stale" if place else "missing")
    with pytest.raises(ParamsError) as error:
        store.make(product(outputs / "run", write=write))
    assert str(outputs / "run" / place) in str(error.value) and write.times == 0


def test_what_was_made_from_other_scans_is_stale_once_its_cohort_is_made_anew(outputs):
    scan = outputs / "scan.png"

    def inputs(content):
        return store.checksum(scan) if content else str(scan.stat().st_mtime_ns)

    cohort = product(outputs, "cohort", inputs=inputs)
    noisy = product(outputs / "x8", "noisy", needs=(cohort,))
    weights = product(outputs / "x8", "weights", needs=(noisy,))
    scan.write_text("first")
    store.make(weights)
    assert cohort.fresh and noisy.fresh and weights.fresh and cohort.verify()
    scan.write_text("other")
    assert cohort.state == "stale" and not cohort.verify()
    assert store.missing(weights) == [cohort, noisy, weights]  # also where only the last is asked for
    store.make(cohort)
    assert [made.state for made in (cohort, noisy, weights)] == ["done", "stale", "stale"]
    store.make(weights)
    assert noisy.fresh and weights.fresh
    scan.touch()  # copied to another disk: read again, but the same
    made = weights.stamp.stat().st_mtime_ns
    store.make(weights)
    assert cohort.fresh and noisy.fresh and weights.fresh and weights.stamp.stat().st_mtime_ns == made


def test_other_code_makes_it_stale_but_other_prose_does_not(tmp_path, room):
    def made():
        return product(tmp_path / "made", code=("package.room",))

    room("def double(x):\n    return 2 * x\n")
    store.make(made())
    room('"""A room."""\n\ndef double(x):\n    """Twice x."""\n    # because\n    return 2 * x  # so\n')
    assert made().fresh
    room("def double(x):\n    return x + x\n")
    assert made().state == "stale"


@pytest.mark.parametrize("text", ['"""Only prose."""', 'class A:\n    """Prose."""', 'def f():\n    """Prose."""'])
def test_prose_is_no_code(room, text):
    room(text)
    assert "rose" not in store.source("package.room")


def test_text_that_is_no_docstring_is_code(room):
    room('def f():\n    return "prose"\n')
    assert "prose" in store.source("package.room")


def test_what_it_is_made_from_makes_it_stale(tmp_path):
    store.make(product(tmp_path, write=put()))
    old = product(tmp_path, "made", needs=(product(tmp_path),))
    store.make(old)
    assert old.fresh and not product(tmp_path, "made", needs=(product(tmp_path, seed=2),)).fresh


# --- made on demand ---


def worked(folder, name, seconds, **settings):
    """A product that takes so many seconds by the table of its room."""
    return product(folder, name, work=lambda: store.Work(f"kind of {name}", 1.0, seconds), **settings)


@pytest.mark.parametrize("state", ["missing", "stale"])
def test_what_is_needed_is_made_first_and_announced(outputs, capsys, state):
    # Else the stamp would vouch for inputs that were not the ones read.
    if state == "stale":
        store.make(product(outputs, "need", seed=1))
    need, write = worked(outputs, "need", 50.0, seed=2), put()
    made = product(outputs, "made", write, needs=(need,))
    assert need.state == state and store.missing(made) == [need, made]
    store.make(made)
    assert need.fresh and made.fresh and write.times == 1
    said = capsys.readouterr().out
    assert "need" in said and "50 s" in said and said.count("\n") == 1


def test_what_takes_long_is_refused_with_its_time_and_the_command(outputs):
    need = worked(outputs, "need", 3600.0)
    made = product(outputs, "made", needs=(need,))
    for refused in (lambda: store.make(made), lambda: store.ready(made), lambda: store.ready(need)):
        with pytest.raises(ParamsError) as error:
            refused()
        assert all(word in str(error.value) for word in ("need", "60 min", "reconfair run study.yaml --until 01"))
    assert made.state == need.state == "missing"
    store.make(need)  # asked for by name: however long it takes
    assert store.ready(made) == outputs and made.fresh


def test_what_takes_long_only_together_is_refused_too(outputs):
    needs = tuple(worked(outputs, name, 80.0) for name in ("one", "two"))
    made = product(outputs, "made", needs=needs)
    with pytest.raises(ParamsError, match="one, two"):
        store.make(made)
    assert not any(need.fresh for need in needs)


def test_a_product_that_was_made_here_tells_what_others_of_its_kind_will_take(outputs):
    def seconds(amount):
        wanted = product(outputs, "wanted", work=lambda: store.Work("kind of made", amount, 1.0))
        return store.estimate(wanted, store.throughputs())

    assert seconds(10) == (10, "table")
    worked(outputs, "made", 1.0).mark([], 7.0)
    assert seconds(10) == (70, "measured") and seconds(1e6) == (1e6, "table")


def test_a_time_without_a_measured_gpu_is_that_of_an_h100(outputs):
    on_gpu = product(outputs, "wanted", work=lambda: store.Work("kind", 2, 3.0, gpu=True))
    assert store.estimate(on_gpu, store.throughputs()) == (6, "H100")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A study that takes seconds, in an output root of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(tmp_path_factory.mktemp("tiny")))
        yield params.study(**TINY)


UNET = params.Source("unet")
LOADS = {
    "cohort": lambda study: data.load(study),
    "noisy": lambda study: noise.load(study),
    "sources/unet/weights": lambda study: recon.load(study, "unet"),
    "readers/grade/weights": lambda study: diagnosis.thresholds(study),
    "sources/unet/predictions": lambda study: judge.collect("predictions", [diagnosis.product(study, UNET)]),
}


@pytest.mark.parametrize("name", LOADS)
def test_where_it_would_take_long_a_room_says_what_to_run(outputs, monkeypatch, name):
    monkeypatch.setattr(store, "PATIENCE", 0)
    study = params.study(base="demo")
    with pytest.raises(ParamsError) as error:
        LOADS[name](study)
    assert all(word in str(error.value) for word in (name, " s", "reconfair run params/demo.yaml --until 0"))
    assert not list(outputs.rglob("*.product.json"))


def test_every_room_makes_what_is_missing_and_says_so_in_a_line(tiny, capsys):
    lines = {}
    for name, load in LOADS.items():
        load(tiny)
        lines[name] = capsys.readouterr().out.splitlines()
    for name, said in lines.items():
        assert any(name in line and " s" in line for line in said), said
    assert all(made.fresh for made in every_product(tiny) if made.chapter <= "03" and made.folder.name != "chapters")
    for load in LOADS.values():  # all is there now
        load(tiny)
    assert capsys.readouterr().out == ""


# --- an earlier layout ---


def test_what_an_earlier_layout_left_is_neither_used_nor_touched(outputs, capsys):
    old = outputs / "phantom_mri"
    stamps = ["cohort.product.json", "x8/noisy/noisy.product.json", "x8/unet/model.product.json"]
    for stamp in stamps:
        (old / stamp).parent.mkdir(parents=True, exist_ok=True)
        (old / stamp).write_text('{"fingerprint": "of then", "files": {}, "seconds": 3}')
        (old / stamp).with_name("images.npy").write_text("of then")
    (old / "x8" / "study.yaml").write_text("of then")
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    study = params.study(**TINY)
    assert store.earlier("phantom_mri") == sorted(old / stamp for stamp in stamps)
    assert not any(made.fresh for made in every_product(study)) and store.throughputs() == {}
    data.load(study), noise.load(study)
    assert {path: path.read_bytes() for path in before} == before
    assert store.earlier("phantom_mri") == sorted(old / stamp for stamp in stamps)


# --- cut short ---


def test_a_failing_write_leaves_no_product_and_keeps_what_it_had(tmp_path):
    def fail(folder):
        (folder / "file.txt").write_text("hal")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        store.make(product(tmp_path, write=fail))
    assert product(tmp_path).state == "begun" and not (tmp_path / "file.txt").exists()
    assert (product(tmp_path).draft / "file.txt").read_text() == "hal"


def test_a_failing_write_leaves_the_old_product_stale(tmp_path):
    store.make(product(tmp_path, write=put("old")))
    with pytest.raises(ZeroDivisionError):
        store.make(product(tmp_path, seed=2, write=lambda folder: 1 / 0))
    assert product(tmp_path, seed=2).state == "stale" and product(tmp_path).fresh
    assert (tmp_path / "file.txt").read_text() == "old"


def test_a_move_cut_short_leaves_neither_the_old_product_nor_the_new(tmp_path):
    # Files of both have the same names and sizes: were the old stamp left, the mixture would pass for the old.
    store.make(product(tmp_path, write=put("old")))
    (tmp_path / "other.txt" / "in the way").mkdir(parents=True)  # a folder of somebody else

    def write(folder):
        (folder / "file.txt").write_text("new")
        (folder / "other.txt").write_text("new")

    with pytest.raises(OSError, match="directory"):
        store.make(product(tmp_path, seed=2, write=write))
    assert not product(tmp_path).fresh and not product(tmp_path, seed=2).fresh


def test_leftovers_of_other_parameters_are_removed_and_those_of_others_kept(tmp_path):
    for begun in (product(tmp_path, seed=2), product(tmp_path, "letters")):
        begun.draft.mkdir()
    store.make(product(tmp_path, write=put()))
    assert not product(tmp_path, seed=2).draft.exists() and product(tmp_path, "letters").draft.exists()


def test_hidden_files_of_the_writer_are_no_part_of_the_product(tmp_path):
    def write(folder):
        (folder / ".scratch").write_text("mine")
        (folder / "file.txt").write_text("whole")

    store.make(product(tmp_path, write=write))
    assert list(product(tmp_path).read_stamp()["files"]) == ["file.txt"] and not (tmp_path / ".scratch").exists()


HALF_WAY = """
import sys, time
from pathlib import Path
from reconfair import store

def write(folder):
    (folder / "first.txt").write_text("half")
    print("writing", flush=True)
    time.sleep(60)

store.make(store.Product("01", "run", Path(sys.argv[1]), "numbers", write, {"seed": 1}))
"""


def test_a_killed_write_holds_its_product_until_then_and_is_gone_on_with_after(tmp_path):
    mine = product(tmp_path)
    command = [sys.executable, "-c", HALF_WAY, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "writing\n"
        assert mine.state == "running"
        with pytest.raises(ParamsError, match="numbers"):
            store.make(mine)
        other.send_signal(signal.SIGKILL)
    assert mine.state == "begun" and not (tmp_path / "first.txt").exists()

    def go_on(folder):
        assert (folder / "first.txt").read_text() == "half"
        (folder / "second.txt").write_text("other half")

    store.make(product(tmp_path, write=go_on))
    assert mine.fresh and list(mine.read_stamp()["files"]) == ["first.txt", "second.txt"]


# --- the products of a study ---


def named(study):
    """The products of a study by their names within the dataset's folder."""
    return {made.key.removeprefix(f"{study.label}/"): made for made in every_product(study)}


def changed(**sections):
    """Names of the products of DEMO that are others once these sections are changed."""
    before, after = named(study()), named(study(**sections))
    assert before.keys() == after.keys()
    return {key for key in before if before[key].fingerprint != after[key].fingerprint}


def made_by(*sources):
    return {f"x8/sources/{source}/{made}" for source in sources for made in ("weights", "reconstructed", "predictions")}


def notebooks(first):
    """The executed notebooks of this chapter and of all later ones; this study has no chapters 07 to 09."""
    return {f"x8/chapters/{name}" for name in CHAPTERS if name >= first and name[:2] not in ("07", "08", "09")}


MODELS = ("unet", "pix2pix", "sde")
TUNED = made_by("unet-reweight")
JUDGED = {"x8/judged/standard/judged", "x8/judged/mitigated/judged"}
READERS = {f"readers/{name}/weights" for name in ("grade", "type", "tumour")}


def without_report(names):
    """All but what chapter 10 makes."""
    return {name for name in names if "report" not in name and "exhibits" not in name}


@pytest.mark.usefixtures("outputs")
def test_every_product_is_made_from_earlier_ones_and_stands_alone():
    seen, places = [], set()
    for made in every_product(study()):
        assert set(made.needs) <= set(seen), made.key
        assert all(need.chapter <= made.chapter for need in made.needs), made.key
        assert made.command and (made.work is None or made.work().amount >= 0), made.key
        seen.append(made)
        places.add(made.stamp)
    assert len(places) == len(seen)


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize(
    ("sections", "names"),
    [
        ({"compute": {"device": "cpu", "workers": 2}}, set()),
        ({"reconstruction": {"unet": {"epochs": 3}}}, made_by("unet", "unet-reweight") | JUDGED | notebooks("03")),
        (
            {"reconstruction": {"sde": {"sampler": "posterior"}}},
            made_by("sde", "sde-reweight") - {f"x8/sources/{source}/weights" for source in ("sde", "sde-reweight")}
            | JUDGED
            | notebooks("03"),
        ),
        ({"fairness": {"resamples": 200}}, JUDGED | notebooks("04")),
        (
            {"mitigation": {"epochs": 3}},
            made_by(*(f"{model}-reweight" for model in MODELS)) | {"x8/judged/mitigated/judged"} | notebooks("06"),
        ),
        ({"report": {"runs": "all"}}, notebooks("10")),
    ],
    ids=["compute", "reconstruction", "sampling", "fairness", "mitigation", "report"],
)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(sections, names):
    assert without_report(changed(**sections)) == without_report(names)


@pytest.mark.usefixtures("outputs")
def test_another_word_in_a_notebook_reaches_its_copy_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(ROOM, "FOLDER", shutil.copytree(ROOM.FOLDER, tmp_path / "notebooks"))
    before = named(study())
    text = ROOM.FOLDER / "02_noising.ipynb"
    text.write_text(text.read_text() + " ")
    after = named(study())
    others = {key for key in before if before[key].fingerprint != after[key].fingerprint}
    assert others == {"x8/chapters/02_noising"}


@pytest.mark.usefixtures("outputs")
def test_another_diagnosis_leaves_the_images_alone():
    names, unet = changed(diagnosis={"seed": 1}), "x8/sources/unet"
    assert not {"cohort/cohort", "noise/x8/noisy", f"{unet}/weights", f"{unet}/reconstructed"} & names
    assert {*READERS, "originals/predictions", *TUNED} <= names


def test_a_table_of_thresholds_of_another_network_is_refused_and_not_made(outputs, monkeypatch):
    # Two files share a label: one trained the readers, and then the other trained them anew, with another seed.
    mine, theirs = study(), study(diagnosis={"seed": 1})
    for each in (mine, theirs):
        for made in every_product(each):
            if each is mine or "readers" in made.key:
                made.folder.mkdir(parents=True, exist_ok=True)
                replace(made, work=None).mark([], 1)
    judged = replace(judge.product(mine), parameters={"resamples": 7})  # asked for once more, in another way
    reader = diagnosis.weights(mine, params.Reader(mine.networks[0]))
    assert reader in judged.needs and reader.state == "stale"
    assert all(prediction.fresh for prediction in judge.predictions(mine))
    monkeypatch.setattr(store, "estimate", lambda product, rates: (3600.0, "table"))
    with pytest.raises(ParamsError, match="readers/grade/weights"):
        store.make(judged)


@pytest.mark.usefixtures("outputs")
def test_another_cohort_changes_everything():
    assert changed(dataset={"seed": 1}) == set(named(study()))


@pytest.mark.usefixtures("outputs")
def test_another_noise_level_shares_what_belongs_to_the_dataset():
    shared = {"cohort/cohort", *READERS, "originals/predictions"}
    x8, x4 = named(study()), named(study(noise={"acceleration": 4}))
    assert {key for key in x8 if key in x4} == shared
    assert all(x8[key].fingerprint == x4[key].fingerprint for key in shared)


@pytest.mark.usefixtures("outputs")
def test_a_replicate_shares_the_noise_and_what_is_said_about_it():
    first, second = named(study()), named(study(reconstruction={"seed": 1}))
    shared = {"cohort/cohort", *READERS, "originals/predictions", "noise/x8/noisy", "noise/x8/predictions"}
    assert {key for key in first if key in second} == shared
    assert all(first[key].fingerprint == second[key].fingerprint for key in shared)


@pytest.mark.usefixtures("outputs")
def test_without_noise_originals_alone_are_judged():
    alone = params.study(**{**DEMO, "noise": "none"})
    copies = {f"originals/chapters/{name}" for name in CHAPTERS if name[:2] in ("01", "04", "05", "10")}
    judged = "originals/judged/standard/judged"
    assert without_report(named(alone)) == {
        "cohort/cohort",
        *READERS,
        "originals/predictions",
        judged,
    } | without_report(copies)


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize("name", params.DATASETS)
def test_a_default_written_out_is_the_same_study(name):
    short = params.study(dataset={"name": name}, noise={"kind": "sinogram"}, mitigation={})
    written = {name: section for name, section in short.model_dump(mode="json").items() if section is not None}
    whole = named(params.study(**written))
    assert all(made.fingerprint == whole[key].fingerprint for key, made in named(short).items())


@pytest.mark.usefixtures("outputs")
def test_every_section_written_out_is_the_same_study():
    short = params.study(
        **{key: {} for key in ("mitigation", "readers", "synthesis", "two_stages")},
        dataset=DEMO["dataset"],
        noise=DEMO["noise"],
    )
    whole = named(params.study(**short.model_dump(mode="json")))
    assert len(whole) > 100 and not [
        key for key, made in named(short).items() if made.fingerprint != whole[key].fingerprint
    ]


@pytest.mark.usefixtures("outputs")
def test_other_metadata_on_disk_is_another_cohort(tmp_path):
    scans = params.study(dataset={"name": "nih", "root": str(tmp_path)})
    seen = set()
    for text in (None, "Image Index", "Image Index,Finding Labels"):
        if text:
            (tmp_path / "Data_Entry_2017_v2020.csv").write_text(text)
        seen.add(data.product(scans).fingerprint)
    assert len(seen) == 3


@pytest.mark.usefixtures("outputs")
def test_another_table_on_disk_is_another_cohort(tmp_path):
    def cohort(**settings):
        return data.product(params.study(dataset={"name": "table", "root": str(tmp_path), **settings})).fingerprint

    seen = {cohort()}
    (tmp_path / "cohort.csv").write_text("path")
    seen |= {cohort(), cohort(tasks={"a": "b"}), cohort(sex={"column": "sex", "values": {"F": "female"}})}
    assert len(seen) == 4


@pytest.mark.usefixtures("outputs")
def test_what_to_do_with_bad_images_is_no_other_cohort():
    studies = (params.study(dataset={"name": "nih", "on_bad_image": word}) for word in ("skip", "error"))
    assert len({data.product(each).fingerprint for each in studies}) == 1


# --- one label, one cohort ---


@pytest.mark.usefixtures("outputs")
def test_a_label_stands_for_one_set_of_settings():
    first = study(dataset={"patients": 100})
    data.check_label(first)  # nothing stands there yet
    cohort = data.product(first)
    cohort.folder.mkdir(parents=True)
    cohort.mark([], 0)
    data.check_label(study(dataset={"patients": 100}, noise={"acceleration": 4}))
    with pytest.raises(ParamsError) as error:
        data.check_label(study(dataset={"patients": 200}))
    assert all(word in str(error.value) for word in ("dataset.patients", "phantom_mri", "100", "200", "dataset.label"))
    data.check_label(study(dataset={"patients": 200, "label": "larger"}))


@pytest.mark.usefixtures("outputs")
def test_scans_may_move_to_another_folder():
    here, there = (params.study(dataset={"name": "lgg", "root": root}) for root in ("here", "there"))
    cohort = data.product(here)
    cohort.folder.mkdir(parents=True)
    cohort.mark([], 0)
    data.check_label(there)
    assert data.product(there).fresh


# --- long work ---


def test_work_in_parallel_comes_back_in_order(capfd):
    assert list(store.parallel(abs, [-3, 1, -2], "counting", workers=1)) == [3, 1, 2]


def test_nothing_to_do_is_no_error():
    assert list(store.parallel(abs, [], "counting", workers=1)) == []


def test_the_runner_reads_how_far_the_work_has_come(tmp_path, monkeypatch, capfd):
    line = tmp_path / "line"
    monkeypatch.setenv("RECONFAIR_PROGRESS", str(line))
    seen = []
    for item in store.progress(["a", "b"], "noise x8"):
        seen.append((item, line.read_text().split("|")[:3]))
        time.sleep(0.25)  # the line is written a few times a second
    assert seen == [("a", ["noise x8", "0", "2"]), ("b", ["noise x8", "1", "2"])]
    assert line.read_text() == "" and capfd.readouterr().err == ""


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


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_than_a_few_results_wait_for_a_slow_consumer(workers):
    begun = []
    results = store.parallel(lambda item: begun.append(item) or np.full(9, item), range(40), "arrays", workers, True)
    ahead = []
    for taken, array in enumerate(results, start=1):
        time.sleep(0.005)
        assert (array == taken - 1).all()
        ahead.append(len(begun) - taken)
    assert len(begun) == len(ahead) == 40 and max(ahead) <= 2 * workers


def test_long_looks_at_many_files_take_at_most_a_twentieth_of_the_time(monkeypatch):
    now, looks = [0.0], []
    monkeypatch.setattr(store.time, "monotonic", lambda: now[0])

    def look(what, seconds):
        now[0] += seconds
        looks.append(what)
        return len(looks)

    sparing, eager = store.sparingly(1)(look), store.sparingly()(look)
    assert [sparing("a", 3.0), sparing("a", 3.0), sparing("b", 3.0)] == [1, 1, 2]
    now[0] += 59
    assert sparing("a", 3.0) == 3  # 62 seconds after its first look
    assert sparing("b", 3.0) == 4
    assert [sparing("c", 0.1), sparing("c", 0.1)] == [5, 5]
    now[0] += 1.1
    assert sparing("c", 0.1) == 6
    assert [eager("c", 0.1), eager("c", 0.1)] == [7, 8]  # short looks see each change
    sparing.cache_clear()
    assert sparing("c", 0.1) == 9


@pytest.mark.parametrize("threads", [False, True])
def test_work_side_by_side_comes_back_in_order(threads):
    assert list(store.parallel(abs, range(-20, 0), "numbers", 2, threads)) == list(range(20, 0, -1))
