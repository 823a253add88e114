"""The runner: mistakes before any kernel starts, failures kept, kills survived."""

import argparse
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import psutil
import pytest
import torch
import yaml
from smallest import PARAMS, SMALLEST

from reconfair import data, noise, params, recon, run
from reconfair.run import warm

DATA_ALONE = ["dataset.patients=80", "diagnosis.classify.size=32"]


def process(*words, **settings):
    """The command line in a process and a session of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen([sys.executable, "-m", "reconfair.run", *map(str, words)], env=environment, **pipes)


def write(folder, name, **changes):
    """A params file like the smallest demo, with changed sections."""
    study = params.load(PARAMS / "demo.yaml", SMALLEST["demo"]).model_dump(mode="json", exclude_unset=True)
    for section, values in changes.items():
        study[section] = values if isinstance(values, str) else {**study.get(section, {}), **values}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


TORN = '''
from typing import ClassVar

import pandas as pd

from reconfair.params import About, Dataset


class Torn(Dataset):
    """Eighty patients whose films are torn: nothing is wrong before the first image is read."""

    about: ClassVar[About] = About("mri", "patient", {"grade": "classify"}, attributes=("sex",))

    def read_table(self):
        names = [f"p{k:02d}" for k in range(80)]
        people = {"image_id": names, "patient_id": names, "sex": ["female", "male"] * 40, "age": 50.0}
        return pd.DataFrame({**people, "race": pd.Series([None] * 80, dtype="str"), "grade": [0.0, 0.0, 1.0, 1.0] * 20})

    def read_image(self, row):
        raise ValueError(f"{row.image_id}: the film is torn")
'''


def torn(folder, **changes):
    """A params file whose first notebook fails; its dataset lies beside it."""
    (folder / "torn.py").write_text(TORN)
    path = folder / "bad.yaml"
    dataset = {"name": "torn.py:Torn", "label": "bad", "size": 64}
    diagnosis = {"classify": {"architecture": "test_resnet", "pretrained": False, "epochs": 1}}
    sections = {"dataset": dataset, "diagnosis": diagnosis, "reconstruction": {"models": ["unet"]}, **changes}
    path.write_text(yaml.safe_dump(sections))
    return path


def test_all_mistakes_are_named_before_anything_starts(outputs, tmp_path, capsys):
    good = write(tmp_path, "good")
    wrong = [
        write(tmp_path, "one", noise={"kind": "kspace", "accelerate": 4}),
        write(tmp_path, "two", reconstruction={"models": ["unett"]}),
    ]
    assert run.main(["run", str(good), *map(str, wrong)]) == 2
    said = capsys.readouterr().err
    assert "one.yaml: noise.accelerate: unknown key" in said and "did you mean 'acceleration'?" in said
    assert "two.yaml: reconstruction.models" in said and "'unett'" in said and "did you mean 'unet'?" in said
    assert not any(outputs.rglob("*.npy"))


def test_check_validates_and_runs_nothing(outputs, capsys):
    assert run.main(["check", str(PARAMS / "demo.yaml")]) == 0
    assert "valid" in capsys.readouterr().out and not any(outputs.iterdir())


def test_too_little_memory_is_one_sentence(outputs, monkeypatch, capsys):
    def check(arguments):
        raise MemoryError("scan.nii: there is too little memory to read it")

    monkeypatch.setattr(run, "_check", check)
    assert run.main(["check", str(PARAMS / "demo.yaml")]) == 2
    assert capsys.readouterr().err == "scan.nii: there is too little memory to read it\n"


@pytest.mark.parametrize(
    ("name", "kind", "usual"), [("phantom_mri", "sinogram", "kspace"), ("phantom_xray", "kspace", "sinogram")]
)
def test_noise_of_another_modality_is_allowed_with_a_sentence(outputs, tmp_path, capsys, name, kind, usual):
    paths = [tmp_path / f"{noise}.yaml" for noise in (kind, usual)]
    for path in paths:
        path.write_text(
            f"dataset: {{name: {name}, size: 64}}\nnoise: {{kind: {path.stem}}}\n"
            "diagnosis: {classify: {pretrained: false}, segment: {pretrained: false}}\n"
        )
    assert run.main(["check", *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "noise.kind" in line] == [
        line for line in lines if kind in line and usual in line
    ]
    assert sum("noise.kind" in line for line in lines) == 1


def test_every_params_file_passes_check_where_its_scans_are(outputs, monkeypatch, capsys):
    monkeypatch.setenv("RECONFAIR_DATA", str(outputs / "nowhere"))
    paths = sorted(PARAMS.glob("*.yaml"))
    simulated = [path for path in paths if hasattr(params.load(path).dataset, "dials")]
    assert run.main(["check", *map(str, simulated)]) == 0
    others = [path for path in paths if path not in simulated]
    assert run.main(["check", *map(str, others)]) == 2
    mistakes = capsys.readouterr().err.splitlines()
    assert len(mistakes) == len(others) > 5 and all("dataset.root" in line for line in mistakes)


# Sections of a study that would fail after hours, and what the error names.
LATER = {
    "size of Pix2Pix": ({"dataset": {"size": 96}}, ["reconstruction.pix2pix", "96"]),
    "depth and patch of the U-Net": (
        {"reconstruction": {"models": ["unet"], "unet": {"depth": 6, "patch": 4}}},
        ["reconstruction.unet", "depth 6", "patch 4", "64"],
    ),
    "depth of the SDE": (
        {"reconstruction": {"models": ["sde"], "sde": {"depth": 6, "patch": 4}}, "mitigation": {"models": ["sde"]}},
        ["reconstruction.sde"],
    ),
    "architecture": (
        {"diagnosis": {"classify": {"architecture": "resnet19"}}},
        ["diagnosis.classify.architecture", "'resnet19'", "did you mean 'resnet1"],
    ),
    "size of a transformer": (
        {"diagnosis": {"classify": {"architecture": "vit_tiny_patch16_224", "size": 96}}},
        ["diagnosis.classify", "224", "96"],
    ),
    "encoder": (
        {"diagnosis": {"segment": {"encoder": "resnet19"}}},
        ["diagnosis.segment.encoder", "'resnet19'", "did you mean 'resnet1"],
    ),
    "device": ({"compute": {"device": "cuda"}}, ["compute.device", "'cuda'", "cpu"]),
    "model of one's own": ({"reconstruction": {"models": ["nowhere.py:Mine"]}}, ["nowhere.py:Mine"]),
    "remedy of one's own": ({"mitigation": {"strategies": ["nowhere.py:Mine"]}}, ["nowhere.py:Mine"]),
}


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(("sections", "words"), LATER.values(), ids=LATER)
def test_what_would_fail_later_is_refused_before_anything_is_made(
    outputs, tmp_path, capsys, monkeypatch, command, sections, words
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = write(tmp_path, "later", **sections)
    assert run.main([command, str(path)]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ["later.yaml", *words]), said
    assert not list(outputs.rglob("*.product.json")) and not list(outputs.rglob("*.npy"))


@pytest.mark.parametrize("command", ["check", "run"])
def test_studies_that_want_one_product_made_differently_are_refused(outputs, tmp_path, capsys, command):
    first = write(tmp_path, "first")
    other = write(tmp_path, "other", noise={"acceleration": 4}, diagnosis={"seed": 1})
    assert run.main([command, str(first), str(other)]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("first.yaml", "other.yaml", "readers/grade", "dataset.label")), said
    assert not list(outputs.rglob("*.product.json"))


def test_mistakes_of_all_studies_are_reported_together(outputs, tmp_path, capsys):
    paths = [
        write(tmp_path, "unknown", noise={"accelerate": 4}),
        tmp_path / "absent.yaml",
        write(tmp_path, "size", dataset={"size": 96, "label": "size"}),
        write(tmp_path, "encoder", dataset={"label": "encoder"}, diagnosis={"segment": {"encoder": "vgg17"}}),
        tmp_path,
    ]
    assert run.main(["check", *map(str, paths)]) == 2
    said = capsys.readouterr().err
    words = ["accelerate", "absent.yaml", "size.yaml: reconstruction.pix2pix", "size.yaml: synthesis.attention"]
    for word in [*words, "encoder.yaml: diagnosis.segment"]:
        assert word in said, said
    assert len(said.splitlines()) == 6


def test_a_reconstructor_that_was_trained_is_not_built_again(outputs, tmp_path, monkeypatch):
    study = params.load(write(tmp_path, "study"))
    assert recon.check(study) == []
    monkeypatch.setattr(recon, "build", lambda *_: 1 / 0)
    for model in study.models:
        trained = recon.weights(study, params.Source(model))
        trained.folder.mkdir(parents=True)
        replace(trained, work=None).mark([], 1)
    assert recon.check(study) == []


def test_without_noise_a_study_is_checked_and_planned(outputs, capsys):
    demo = [str(PARAMS / "demo.yaml"), "--set", "noise=none"]
    assert run.main(["check", *demo]) == 0
    assert run.main(["run", *demo, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"cohort +missing", said) and "cohort/cohort" not in said
    for name in ("readers/grade/weights", "originals/predictions", "judged", "01_data", "10_report"):
        assert name in said
    left_out = "06_mitigation is not run"
    assert left_out in said
    rest = said.replace(left_out, "")
    assert not any(name in rest for name in ("noisy", "sources", "02_noising", "03_recon", "06_mitigation"))
    assert run.main(["run", *demo, "--only", "03"]) == 2
    refused = capsys.readouterr().err
    assert "--only 03" in refused and "01, 04, 05, 07, 08, 10" in refused


def test_a_missing_dataset_is_named_with_its_source(outputs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RECONFAIR_DATA", str(tmp_path / "nowhere"))
    assert run.main(["run", str(PARAMS / "lgg_x8_small.yaml"), "--only", "01"]) == 2
    said = capsys.readouterr().err
    assert "nowhere/lgg/kaggle_3m/data.csv" in said and "kaggle.com" in said


def test_the_same_label_with_other_settings_names_the_key(outputs, tmp_path, capsys):
    assert run.main(["run", str(write(tmp_path, "first")), "--only", "01"]) == 0
    assert run.main(["run", str(write(tmp_path, "second", dataset={"patients": 100}))]) == 2
    said = capsys.readouterr().err
    assert "dataset.patients" in said and "80" in said and "100" in said and "dataset.label" in said


def test_a_dry_run_says_what_would_be_made(outputs, capsys):
    assert run.main(["run", str(PARAMS / "demo.yaml"), "--dry-run", "--only", "03"]) == 0
    said = capsys.readouterr().out
    assert "unet/weights" in said and "missing" in said and "cohort" not in said
    assert not any(outputs.rglob("*.npy"))


@pytest.mark.parametrize("option", ["--only", "--until"])
@pytest.mark.parametrize("chapter", ["11", "0", "data"])
def test_an_unknown_chapter_is_refused(outputs, capsys, option, chapter):
    assert run.main(["run", str(PARAMS / "demo.yaml"), option, chapter]) == 2
    assert f"{option} {chapter}" in (said := capsys.readouterr().err) and "01, 02, 03" in said


def test_the_chapters_up_to_one_are_chosen(outputs):
    study = params.load(PARAMS / "demo.yaml")
    assert run.chosen(study, until="3") == ["01_data", "02_noising", "03_reconstruction"]
    assert run.chosen(study, only="04") == ["04_diagnosis"] and len(run.chosen(study)) == 10


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        run.main(["--version"])
    assert re.fullmatch(r"reconfair \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_kernel_that_dies_is_a_failed_notebook(outputs, monkeypatch, capsys):
    from nbclient.exceptions import DeadKernelError

    def dies(*_, **__):
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr("papermill.execute_notebook", dies)
    assert run.main(["run", str(PARAMS / "demo.yaml"), "--only", "1"]) == 1
    said = capsys.readouterr().out
    assert "died" in said and "01_data.ipynb" in said


def test_a_failed_notebook_is_kept_and_the_next_file_still_runs(outputs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bad = torn(tmp_path)
    good = write(tmp_path, "good", dataset={"label": "good"})
    assert run.main(["run", str(bad), str(good), "--only", "01"]) == 1
    said = capsys.readouterr().out
    kept = outputs / "bad" / "x8" / "chapters" / "01_data.ipynb"
    assert str(kept) in said and "the film is torn" in said and "the film is torn" in kept.read_text()
    assert (outputs / "good" / "x8" / "chapters" / "01_data.html").exists()
    assert run.main(["status", str(bad)]) == 0
    assert "failed" in capsys.readouterr().out


def test_a_chapter_without_those_before_it_says_what_to_run(outputs, capsys):
    assert run.main(["run", str(PARAMS / "demo.yaml"), "--set", "dataset.patients=20000", "--only", "05"]) == 1
    said = capsys.readouterr().out
    assert "ParamsError" in said and "reconfair run" in said and "--until 0" in said


# --- machines ---


def test_outputs_that_are_a_file_are_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "outputs").write_text("mine")
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path / "outputs"))
    assert run.main(["run", str(PARAMS / "demo.yaml")]) == 2
    said = capsys.readouterr().err
    assert "RECONFAIR_OUTPUTS" in said and str(tmp_path / "outputs") in said and len(said.splitlines()) == 1
    assert (tmp_path / "outputs").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_outputs_that_cannot_be_written_are_named_in_a_sentence(outputs, monkeypatch, capsys, number):
    def refuse(*_, dir=None, **__):
        raise OSError(number, os.strerror(number), str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert run.main(["run", str(PARAMS / "demo.yaml")]) == 2
    assert capsys.readouterr().err == f"{outputs}: {os.strerror(number)}\n"


def test_a_disk_that_fills_up_stops_one_study_and_not_the_next(outputs, tmp_path, monkeypatch, capsys):
    paths = [write(tmp_path, label, dataset={"label": label}) for label in ("first", "second")]

    def execute(study, copy, say=print):
        if study.label == "first":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "01_data.ipynb")
        return "ran"

    monkeypatch.setattr(run.notebooks, "execute", execute)
    assert run.main(["run", *map(str, paths), "--only", "01"]) == 1
    out, err = capsys.readouterr()
    assert err == f"01_data.ipynb: {os.strerror(errno.ENOSPC)}\n"
    assert re.search(r"first/x8 .*failed", out) and re.search(r"second/x8 +01_data +ran", out)


def test_status_names_what_it_cannot_read_and_shows_the_others(outputs, tmp_path, monkeypatch, capsys):
    paths = [write(tmp_path, label, dataset={"label": label}) for label in ("first", "second")]
    paths += [tmp_path / "absent.yaml", write(tmp_path, "wrong", noise={"accelerate": 4})]
    every = run.batch.every_product

    def every_product(study):
        if study.label == "first":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "first/cohort")
        return every(study)

    monkeypatch.setattr(run.batch, "every_product", every_product)
    assert run.main(["status", *map(str, paths)]) == 2
    out, err = capsys.readouterr()
    assert re.search("first/x8 +unreadable.*first/cohort", out) and re.search("second/x8 +missing", out)
    assert len(err.splitlines()) == 2 and "absent.yaml" in err and "wrong.yaml: noise.accelerate" in err


def test_damage_is_named_by_run_and_by_status(outputs, tmp_path, monkeypatch, capsys):
    path = write(tmp_path, "study")
    study = params.load(path)
    damaged = {}
    for product in run.every_product(study):
        if product.key.endswith(("x8/noisy", "x8/sources/unet/weights", "standard/judged")):
            product.folder.mkdir(parents=True)
            file = (
                product.folder
                / {"noisy": "noisy.npy", "weights": "best.ckpt", "judged": "fairness.parquet"}[product.name]
            )
            file.write_bytes(bytes(1000))
            replace(product, work=None).mark([file], 1)
            damaged[product] = file
    assert len(damaged) == 3 and run.main(["status", str(path), "--verify"]) == 0
    capsys.readouterr()
    for file in damaged.values():
        file.write_bytes(bytes(500) + b"damaged!" + bytes(492 - 9 * (file.name == "best.ckpt")))  # and one is cut short
    assert run.main(["status", str(path), "--verify"]) == 1
    said = capsys.readouterr().out
    assert "3 damaged" in said
    assert all(f"\n  {product.key}, {file.name}\n" in said for product, file in damaged.items())
    monkeypatch.setattr(run.notebooks, "execute", lambda study, copy, say: "ran")
    assert run.main(["run", str(path)]) == 0
    said = capsys.readouterr().out
    assert all(f"{file.relative_to(outputs)}: " in said for file in damaged.values())


def test_results_of_an_earlier_layout_are_mentioned_once(outputs, capsys, monkeypatch):
    monkeypatch.setattr(run.notebooks, "execute", lambda study, copy, say: "ran")
    for name in ("cohort", "x8/unet/model"):
        stamp = outputs / "phantom_mri" / f"{name}.product.json"
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(json.dumps({"fingerprint": "of then", "files": {}, "seconds": 1}))
    demo = str(PARAMS / "demo.yaml")
    for command in (["status", demo], ["run", demo, "--only", "01"]):
        assert run.main(command) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "earlier layout" in line]
        assert "phantom_mri" in line and " 2 " in line
    assert len(list(outputs.rglob("*.product.json"))) == 2


@pytest.fixture
def narrow(tmp_path, monkeypatch):
    """A machine whose temporary folder has a long path, and another kernel by the name of ours."""
    folder = tmp_path / "t"
    folder /= "x" * (94 - len(str(folder)) - 1)
    folder.mkdir(parents=True)
    assert len(str(folder)) == 94
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["/bin/false", "{connection_file}"], "display_name": "of somebody else", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    return {"TMPDIR": str(folder), "JUPYTER_PATH": str(tmp_path / "jupyter")}


@pytest.mark.usefixtures("outputs")
def test_a_notebook_runs_with_a_long_temporary_folder_and_beside_a_foreign_kernel(narrow):
    sets = [word for override in DATA_ALONE for word in ("--set", override)]
    with process("run", PARAMS / "demo.yaml", "--only", "01", *sets, **narrow) as running:
        out, err = running.communicate(timeout=300)
    assert running.returncode == 0 and re.search("01_data +ran", out), out + err


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("chapters", ["--only=01", "--until=02"])  # of several, kernels are forks of a server
def test_an_interrupted_run_says_one_line_and_leaves_no_process(outputs, end, chapters):
    words = ["run", PARAMS / "demo.yaml", chapters, "--set", "dataset.patients=3000"]
    with process(*words) as running:
        deadline = time.monotonic() + 240
        while not list(outputs.rglob("images.npy")) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        children = psutil.Process(running.pid).children(recursive=True)
        assert chapters == "--only=01" or any(str(warm.__file__) in child.cmdline() for child in children)
        os.kill(running.pid, end)
        out, err = running.communicate(timeout=60)
    assert children and list(outputs.rglob("images.npy"))
    left = psutil.wait_procs(children, timeout=30)[1]
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
    if end == signal.SIGINT:
        assert running.returncode == 130 and "Traceback" not in out + err
        assert len([line for line in err.splitlines() if "unknown parameter" not in line]) == 1


def test_a_part_is_refused_on_a_machine_without_its_device(outputs, capsys):
    words = ["run", str(PARAMS / "demo.yaml"), "--only", "01", "--part", "cohort", "--set", "compute.device=mps"]
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    assert run.main(words) == 2 and "compute.device" in capsys.readouterr().err and not list(outputs.rglob("*.npy"))


# --- anyone's scores ---


def test_anyones_scores_are_judged_from_the_command_line(tmp_path, capsys):
    rows = [f"p{k},{k % 2},{(k * 37 % 100) / 100},{'f' if k % 4 < 2 else 'm'},{k % 9}" for k in range(200)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["patient,label,score,sex,site", *rows]))
    out = tmp_path / "found"
    options = ["--attributes", "sex", "--threshold", "mine=0.5", "--min-cases", "5", "--out", str(out)]
    assert run.main(["judge", str(path), *options]) == 0
    said = capsys.readouterr().out
    assert "200 patients" in said and "0.500" in said and "EODD" in said
    assert "sex" in said and "mine" in said and "50 negatives" in said
    tables = {f"{name}.{suffix}" for name in ("performance", "fairness") for suffix in ("csv", "parquet")}
    assert {path.name for path in out.iterdir()} == tables
    assert run.main(["judge", str(path), "--inference", "bootstrap"]) == 2
    assert "mine.csv" in (said := capsys.readouterr().err) and "--threshold mine=0.5" in said


@pytest.mark.parametrize("text", ["grade", "grade=5", "grade=nan"])
def test_a_threshold_that_is_none_is_refused(capsys, text):
    with pytest.raises(SystemExit):
        run.main(["judge", "mine.csv", "--threshold", text])
    assert "--threshold" in (said := capsys.readouterr().err) and "task=0.5" in said and f"'{text}'" in said


def test_the_help_names_every_column(capsys):
    from reconfair.run.judge import COLUMNS

    with pytest.raises(SystemExit):
        run.main(["judge", "--help"])
    said = capsys.readouterr().out
    assert all(f"\n  {column} " in said for column in COLUMNS)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_killed_run_goes_on_from_the_last_whole_product(outputs, tmp_path):
    path = write(tmp_path, "long", reconstruction={"unet": {"epochs": 40, "channels": 4, "depth": 2}})
    study = params.load(path)
    cohort, noisy, weights = data.product(study), noise.product(study), recon.weights(study, params.Source("unet"))
    command = [sys.executable, "-m", "reconfair.run", "run", str(path)]
    begun = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    log = weights.draft / "log.csv"
    deadline = time.monotonic() + 240
    while not log.exists() and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    assert log.exists() and noisy.fresh and not weights.fresh
    assert not (weights.folder / "best.ckpt").exists()
    made = cohort.read_stamp()["made"]
    before = len(log.read_text().splitlines())

    assert before < 35
    again = subprocess.run([*command, "--only", "03"], start_new_session=True, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert weights.fresh and cohort.read_stamp()["made"] == made
    assert len((weights.folder / "log.csv").read_text().splitlines()) == 41


def test_every_word_of_the_command_line_has_a_help(monkeypatch):
    seen = []
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda parser, _: seen.append(parser) or exit(0))
    with pytest.raises(SystemExit):
        run.main([])
    [subparsers] = [action for action in seen[0]._actions if isinstance(action, argparse._SubParsersAction)]
    assert {"run", "check", "judge", "plan", "init"} <= {*subparsers.choices}
    for name, command in subparsers.choices.items():
        assert [action.dest for action in command._actions if not action.help] == [], name
