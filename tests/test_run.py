"""The runner: mistakes before any kernel starts, failures kept, kills survived."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from smallest import PARAMS, SMALLEST

from reconfair import params, run, store


def write(folder, name, **changes):
    """A params file like the smallest demo, with changed sections."""
    study = params.load(PARAMS / "demo.yaml", SMALLEST["demo"]).model_dump(mode="json", exclude_unset=True)
    for section, values in changes.items():
        study[section] = {**study.get(section, {}), **values}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(study))
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
    assert "two.yaml: reconstruction.models.0: 'unett'" in said and "did you mean 'unet'?" in said
    assert not any(outputs.rglob("*.npy"))


def test_check_validates_and_runs_nothing(outputs, capsys):
    assert run.main(["check", str(PARAMS / "demo.yaml")]) == 0
    assert "valid" in capsys.readouterr().out and not any(outputs.rglob("*.npy"))


def test_every_params_file_passes_check(outputs):
    assert run.main(["check", *map(str, sorted(PARAMS.glob("*.yaml")))]) == 0


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
    assert "unet/model" in said and "missing" in said and "cohort" not in said
    assert not any(outputs.rglob("*.npy"))


@pytest.mark.parametrize("chapter", ["9", "0", "data"])
def test_an_unknown_chapter_is_refused(outputs, capsys, chapter):
    assert run.main(["run", str(PARAMS / "demo.yaml"), "--only", chapter]) == 2
    assert f"--only {chapter}" in capsys.readouterr().err


def test_a_kernel_that_dies_is_a_failed_notebook(outputs, monkeypatch, capsys):
    from nbclient.exceptions import DeadKernelError

    def dies(*_, **__):
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr("papermill.execute_notebook", dies)
    assert run.main(["run", str(PARAMS / "demo.yaml"), "--only", "1"]) == 1
    said = capsys.readouterr().out
    assert "process died" in said and "01_data.ipynb" in said


def test_a_failed_notebook_is_kept_and_the_next_file_still_runs(outputs, tmp_path, capsys):
    # Four patients in five have label noise of one half: some split has no case of a class with so few patients.
    bad = write(tmp_path, "bad", dataset={"label": "bad", "patients": 20, "split": [0.9, 0.05, 0.05]})
    good = write(tmp_path, "good", dataset={"label": "good"})
    assert run.main(["run", str(bad), str(good), "--only", "01"]) == 1
    said = capsys.readouterr().out
    kept = outputs / "bad" / "x8" / "notebooks" / "01_data.ipynb"
    assert str(kept) in said and "no case of class" in said and "no case of class" in kept.read_text()
    assert (outputs / "good" / "x8" / "notebooks" / "01_data.html").exists()
    assert run.main(["status", str(bad)]) == 0
    assert "failed" in capsys.readouterr().out


def test_a_chapter_without_those_before_it_says_which_to_run(outputs, capsys):
    assert run.main(["run", str(PARAMS / "demo.yaml"), "--only", "10"]) == 1
    assert "run chapter 06 first" in capsys.readouterr().out


def test_anyones_scores_are_judged_from_the_command_line(tmp_path, capsys):
    rows = [f"p{k},{k % 2},{(k * 37 % 100) / 100},{'f' if k % 4 < 2 else 'm'},{k % 9}" for k in range(200)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["patient,label,score,sex,site", *rows]))
    out = tmp_path / "found"
    options = ["--attributes", "sex", "--threshold", "mine=0.5", "--min-cases", "5", "--out", str(out)]
    assert run.main(["judge", str(path), *options]) == 0
    said = capsys.readouterr().out
    assert "200 patients" in said and "threshold 0.500" in said and "mine, sex, original:\n  EODD" in said
    tables = {f"{name}.{suffix}" for name in ("performance", "fairness") for suffix in ("csv", "parquet")}
    assert {path.name for path in out.iterdir()} == tables
    assert run.main(["judge", str(path), "--inference", "bootstrap"]) == 2
    assert "mine.csv: no threshold for task 'mine': give --threshold mine=0.5" in capsys.readouterr().err


def test_a_threshold_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["judge", "mine.csv", "--threshold", "grade"])
    assert "--threshold: expected task=0.5, not 'grade'" in capsys.readouterr().err


def test_the_help_names_every_column(capsys):
    from reconfair.judge import COLUMNS

    with pytest.raises(SystemExit):
        run.main(["judge", "--help"])
    said = capsys.readouterr().out
    assert all(f"\n  {column} " in said for column in COLUMNS)


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_killed_run_goes_on_from_the_last_whole_product(outputs, tmp_path):
    path = write(tmp_path, "long", reconstruction={"unet": {"epochs": 40, "channels": 4, "depth": 2}})
    study = params.load(path)
    flow = store.flow(study)
    command = [sys.executable, "-m", "reconfair.run", "run", str(path)]
    begun = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    log = flow["unet/model"].part / "log.csv"
    deadline = time.monotonic() + 240
    while not log.exists() and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    assert log.exists() and flow["noisy"].fresh and not flow["unet/model"].fresh
    assert not (flow["unet/model"].folder / "best.ckpt").exists()
    made = flow["cohort"].read_stamp()["made"]
    before = len(log.read_text().splitlines())

    assert before < 35
    again = subprocess.run([*command, "--only", "03"], start_new_session=True, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert flow["unet/model"].fresh and flow["cohort"].read_stamp()["made"] == made
    assert len((flow["unet/model"].folder / "log.csv").read_text().splitlines()) == 41
