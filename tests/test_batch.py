"""The batch: what is a job, what it waits for, and what a change makes anew."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest
from filelock import FileLock
from smallest import PARAMS, SMALLEST

from reconfair import data, judge, noise, params, recon, run, store
from reconfair.run import batch, warm
from reconfair.run.products import CHAPTERS, every_product

pytestmark = pytest.mark.usefixtures("outputs")
MODELS = ("unet", "pix2pix", "sde")
REWEIGHT = "mitigation.strategies=[reweight]"
ROOM = import_module("reconfair.run.products")
SHARED = {"tiny/01.cohort", "tiny/04.originals"} | {f"tiny/04.readers/{t}" for t in ("grade", "type", "tumour")}
LEVEL = {"tiny/02.noise/x8", "tiny/04.noise/x8"}  # of the dataset too, but of one level
NOTEBOOKS = {f"tiny/x8/{notebook}" for notebook in CHAPTERS if notebook[:2] not in ("07", "08", "09")}
PARTS = {"tiny/x8/06.unet-reweight"} | {f"tiny/x8/{chapter}.{model}" for chapter in ("03", "04") for model in MODELS}


def study(level=8, *changes):
    return params.load(
        PARAMS / "demo.yaml",
        [
            *SMALLEST["demo"],
            "dataset.label=tiny",
            f"noise.acceleration={level}",
            REWEIGHT,
            "readers=none",
            "synthesis=none",
            *changes,
        ],
    )


def jobs(*studies):
    return batch.jobs({f"{number}.yaml": each for number, each in enumerate(studies)})


def finish(study, *names):
    """Stamp all products, or those of some jobs, as if they had been made."""
    for name, job in jobs(study).items():
        for product in job.products.values() if not names or name in names else ():
            product.folder.mkdir(parents=True, exist_ok=True)
            replace(product, work=None).mark([], 10)  # its amount of work stands in files that nobody wrote


def unfinished(*studies):
    return {name for name, job in jobs(*studies).items() if not job.fresh}


def test_every_notebook_and_model_is_a_job_and_what_levels_share_is_one_for_all():
    assert set(jobs(study())) == SHARED | LEVEL | NOTEBOOKS | PARTS
    others = {name.replace("x8", "x4") for name in LEVEL | NOTEBOOKS | PARTS}
    assert set(jobs(study(), study(4))) - set(jobs(study())) == others


def test_a_job_waits_for_those_that_make_what_it_needs():
    waits = batch.waits(jobs(study(), study(4)))
    assert waits["tiny/01.cohort"] == []
    assert waits["tiny/04.readers/grade"] == waits["tiny/x4/01_data"] == ["tiny/01.cohort"]
    assert waits["tiny/x8/03.unet"] == ["tiny/01.cohort", "tiny/02.noise/x8"]
    assert {"tiny/x8/03.unet", "tiny/04.readers/tumour"} <= set(waits["tiny/x8/06.unet-reweight"])
    assert "tiny/x8/03_reconstruction" not in waits["tiny/x8/04_diagnosis"]  # a picture is no product
    assert not any("x4" in name for name in waits["tiny/x8/10_report"])


def test_fairer_readers_train_side_by_side_and_share_the_sensitive_network():
    reader = "readers={strategies: [oversample, dro, crop, fairread], attributes: [sex]}"
    waits = batch.waits(jobs(study(8, reader, "two_stages=none")))
    trained = {name: needed for name, needed in waits.items() if name.startswith("tiny/07.readers/")}
    alone = {f"tiny/07.readers/{task}-{word}" for task in ("grade", "type", "tumour") for word in ("oversample", "dro")}
    alone |= {"tiny/07.readers/sensitive", "tiny/07.readers/tumour-crop"}
    assert all(trained[name] == ["tiny/01.cohort"] for name in alone)
    second = {f"tiny/07.readers/{task}-fairread": f"tiny/07.readers/{task}-fcro" for task in ("grade", "type")}
    for name, first in second.items():
        assert {first, "tiny/07.readers/sensitive"} <= set(trained[name])
    assert set(trained) == alone | {*second, *second.values()}


def test_a_report_of_all_runs_waits_for_all_levels():
    every = [study(level, "report.runs=all") for level in (4, 8)]
    waits = batch.waits(jobs(*every))
    assert {"tiny/x4/06_mitigation", "tiny/x8/06_mitigation"} <= set(waits["tiny/x8/10_report"])


def test_another_level_runs_that_level_alone():
    finish(study())
    assert not unfinished(study())
    assert unfinished(study(), study(4)) == {name.replace("x8", "x4") for name in LEVEL | NOTEBOOKS | PARTS}
    assert not any(batch.waits(jobs(study())).values())


def test_other_prose_runs_that_notebook_alone(tmp_path, monkeypatch):
    folder = shutil.copytree(ROOM.FOLDER, tmp_path / "notebooks")
    monkeypatch.setattr(ROOM, "FOLDER", folder)
    finish(study())
    notebook = folder / "03_reconstruction.ipynb"
    notebook.write_text(notebook.read_text() + " ")
    assert unfinished(study()) == {"tiny/x8/03_reconstruction"}


def test_other_code_of_a_model_runs_all_that_rests_on_it_and_no_other_model(monkeypatch):
    finish(study())
    source = store.source
    monkeypatch.setattr(store, "source", lambda module: source(module) + "#" * (module == "reconfair.recon.unet"))
    reached = {name for name in NOTEBOOKS if name[8:10] not in ("01", "02")}
    assert unfinished(study()) == reached | {"tiny/x8/03.unet", "tiny/x8/04.unet", "tiny/x8/06.unet-reweight"}


def test_two_files_for_one_run_are_refused():
    with pytest.raises(params.ParamsError, match=r"0.yaml and 1.yaml .*tiny/x8.*dataset.label"):
        jobs(study(), study())


def test_levels_that_share_a_label_share_its_settings():
    with pytest.raises(params.ParamsError, match=r"0.yaml and 1.yaml share tiny/readers/grade.*dataset.label"):
        jobs(study(), study(4, "diagnosis.classify.epochs=2"))


def test_flags_say_what_the_store_says(tmp_path):
    finish(study(), "tiny/01.cohort")
    flags = tmp_path / "flags"
    batch.write_flags(jobs(study()), flags)
    assert [path.name for path in flags.rglob("*") if path.is_file()] == ["01.cohort"]
    data.product(study()).stamp.unlink()
    batch.write_flags(jobs(study()), flags)
    assert not any(path.is_file() for path in flags.rglob("*"))


def test_the_grid_shows_every_state_with_time_and_memory():
    finish(study())
    finish(study(4), "tiny/x4/01_data", "tiny/x4/02_noising")
    copies = {made.name: made for made in every_product(study())}
    stamp = judge.product(study()).stamp
    changed = json.loads(stamp.read_text()) | {"fingerprint": "of another day", "seconds": 1}
    stamp.write_text(json.dumps(changed | {"made": "2026-01-01T00:00:00"}))
    copies["06_mitigation"].stamp.unlink()
    (copies["06_mitigation"].folder / "06_mitigation.ipynb").touch()
    other = recon.weights(study(4), params.Source("unet"))
    other.folder.mkdir(parents=True)
    with FileLock(other.lock):
        head, x8, x4 = (line.split("  ") for line in batch.grid([study(), study(4)]).splitlines())
    x8, x4 = ([cell.strip() for cell in row if cell] for row in (x8, x4))
    assert x8[1:6] == ["done 10 s", "done 10 s", "done 10 s", "done 10 s", "stale 11 s"]
    assert x8[6].startswith("failed") and {*x8[7:10]} == {"-"} and x8[10].startswith("done")
    assert x4[3] == "running" and x4[5:7] == ["missing"] * 2 and {*x4[7:10]} == {"-"} and x4[10] == "missing"
    assert head[0] == "run" and x8[0] == "tiny/x8" and x8[-1].endswith("GB")


def test_what_a_notebook_made_while_it_ran_is_counted_once():
    noisy, copy = noise.product(study()), next(made for made in every_product(study()) if made.name == "02_noising")
    noisy, copy = (replace(product, work=None) for product in (noisy, copy))
    for product, seconds, made in ((noisy, 30, "2026-01-01T00:00:40"), (copy, 50, "2026-01-01T00:00:55")):
        product.folder.mkdir(parents=True)
        product.mark([], seconds)
        product.stamp.write_text(json.dumps(product.read_stamp() | {"made": made}))
    assert batch.seconds_of([noisy, copy]) == 50
    noisy.stamp.write_text(json.dumps(noisy.read_stamp() | {"made": "2025-01-01T00:00:00"}))
    assert batch.seconds_of([noisy, copy]) == 80


def test_a_part_is_made_by_its_name(monkeypatch):
    made = []
    monkeypatch.setattr(store, "make", lambda product: made.append(product.key.removeprefix("tiny/")))
    for chapter, part in (("03", "sde"), ("04", "readers/grade"), ("04", "originals"), ("06", "unet-reweight")):
        wanted = [product for product in every_product(study()) if product.chapter == chapter]
        assert run.make_part(wanted, part) == "ran"
    tuned = [f"x8/sources/unet-reweight/{name}" for name in ("weights", "reconstructed", "predictions")]
    standard = ["x8/sources/sde/weights", "x8/sources/sde/reconstructed"]
    assert made[:2] == standard and made[2:4] == ["readers/grade/weights", "originals/predictions"]
    assert made[4:] == tuned


def test_a_part_that_fails_leaves_its_notebook_with_the_error(monkeypatch, outputs, capsys):
    def diverges(*_):
        raise FloatingPointError("unet: the loss is not finite")

    monkeypatch.setattr(store, "make", diverges)
    arguments = [str(PARAMS / "demo.yaml"), "--only", "03", "--part", "unet"]
    assert run.main(["run", *arguments]) == 1
    copy = outputs / "phantom_mri" / "x8" / "chapters" / "03_reconstruction.ipynb"
    assert "FloatingPointError: unet: the loss is not finite" in capsys.readouterr().out
    assert "the loss is not finite" in copy.read_text() and '"output_type": "error"' in copy.read_text()
    (made,) = [made for made in every_product(params.load(PARAMS / "demo.yaml")) if made.name == "03_reconstruction"]
    assert made.state == "failed"


@pytest.mark.parametrize(
    "arguments, message",
    [(["--only", "03", "--part", "unett"], "did you mean 'unet'?"), (["--part", "unet"], "name its chapter")],
)
def test_an_unknown_part_is_refused(arguments, message, capsys):
    code = run.main(["run", str(PARAMS / "demo.yaml"), *arguments])
    said = "".join(capsys.readouterr())
    assert code and message in said


GPU = """
import os, sys, tempfile
from reconfair import run
run.preflight = lambda *_, **__: []
run.run_study = lambda *_: print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True) or sys.stdin.readline() or []
sys.exit(run.main(["run", sys.argv[1]]))
"""


def test_jobs_take_different_gpus(tmp_path):
    environment = {**os.environ, "RECONFAIR_GPUS": "3,3,5", "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", GPU, str(PARAMS / "demo.yaml")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    every = [subprocess.Popen(command, **pipes) for _ in range(3)]
    taken = []
    for process in every:
        while not (line := process.stdout.readline()).strip().isdigit():
            assert line
        taken.append(line.strip())
    for process in every:
        process.communicate("\n")
    assert sorted(taken) == ["3", "3", "5"]


def test_the_command_of_a_job_names_outputs_threads_and_gpus(outputs):
    every = jobs(study())
    unet, judged = (every[name].command(3, ["0", "1"]) for name in ("tiny/x8/03.unet", "tiny/x8/05_fairness"))
    assert f"RECONFAIR_OUTPUTS={outputs} LOKY_MAX_CPU_COUNT=3 RECONFAIR_GPUS=0,1 " in unet
    assert unet.endswith("run 0.yaml --only 03 --part unet")
    assert judged.endswith("run 0.yaml --only 05") and "GPU" not in judged


def test_gpus_are_those_that_cuda_may_see(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert batch.gpus_here() == ["2", "5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(batch, "which", lambda name: None)
    assert batch.gpus_here() == []


@pytest.fixture
def server(tmp_path):
    path = str(tmp_path / "server")
    with subprocess.Popen([*warm.COMMAND, path]) as process:
        yield path
        process.terminate()


def ask(server, *words, **settings):
    command = [*warm.COMMAND, server, *words]
    return subprocess.run(command, capture_output=True, text=True, **settings)


def test_a_warm_process_answers_as_the_runner_does(server, outputs):
    path = str(PARAMS / "demo.yaml")
    said = ask(server, "check", path)
    assert said.returncode == 0 and said.stdout.startswith(f"{path}: valid; writes {outputs / 'phantom_mri' / 'x8'}\n")
    elsewhere = {**os.environ, "RECONFAIR_OUTPUTS": str(outputs / "elsewhere")}
    assert str(outputs / "elsewhere") in ask(server, "check", path, env=elsewhere).stdout
    wrong = ask(server, "check", path, "--set", "noise.accelerate=4")
    assert wrong.returncode == 2 and "unknown key" in wrong.stderr


def test_without_a_warm_process_the_work_is_done_all_the_same(outputs, tmp_path, capsys):
    assert warm.ask(str(tmp_path / "none"), ["check", str(PARAMS / "demo.yaml")], patience=0) == 0
    assert "valid" in capsys.readouterr().out
