"""The batch under Snakemake: its plan, and a whole run of two levels that was killed on the way."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
import yaml
from test_run import torn, write

from reconfair import data, params, store
from reconfair.run import batch, chosen, estimate
from reconfair.run.products import CHAPTERS, every_product

pytest.importorskip("snakemake", reason="needs the extra 'workflow'")
ROOT = store.PACKAGE.parent


def command(*arguments, params="", config=()):
    snakefile = ["-s", str(ROOT / "workflow" / "Snakefile"), "--cores", "2"]
    return [
        sys.executable,
        "-m",
        "snakemake",
        *snakefile,
        *arguments,
        "--config",
        f"params={params}",
        "threads=1",
        *config,
    ]


def snakemake(folder, *arguments, **settings):
    return subprocess.run(command(*arguments, **settings), capture_output=True, text=True, cwd=folder)


def small(folder, level, **changes):
    """A params file with one model and one task, of a dataset that all levels share."""
    sections = {
        "dataset": {"label": "tiny"},
        "noise": {"kind": "kspace", "acceleration": level},
        "reconstruction": {"models": ["unet"]},
        "diagnosis": {"tasks": ["grade"]},
        "mitigation": {"strategies": ["reweight"]},
        **dict.fromkeys(("readers", "synthesis", "two_stages"), "none"),
    }
    return write(folder, f"tiny_x{level}", **{**sections, **changes})


def test_the_plan_has_each_job_once_and_none_when_all_is_fresh(outputs, tmp_path):
    for level in (4, 8):
        path = small(tmp_path, level)
    said = snakemake(tmp_path, "--dry-run", params=tmp_path / "tiny_*.yaml")
    # Two levels of seven notebooks, and of noise, its predictions, the model, its predictions, and its fine-tuning;
    # cohort, network and originals for both.
    assert said.returncode == 0 and "total" in said.stdout + said.stderr, said.stderr
    counts = dict(
        line.split() for line in (said.stdout + said.stderr).splitlines() if line.startswith(("notebook ", "part "))
    )
    assert counts == {"notebook": "14", "part": "13"}
    for product in every_product(params.load(path)):
        product.folder.mkdir(parents=True, exist_ok=True)
        replace(product, work=None).mark([], 1)  # its amount of work stands in files that nobody wrote
    said = snakemake(tmp_path, "--dry-run", params=path)
    assert "Nothing to be done" in said.stdout + said.stderr


def test_a_job_that_uses_networks_takes_one_of_the_gpus_that_are_named(outputs, tmp_path):
    path = small(tmp_path, 8)
    said = snakemake(tmp_path, "--dry-run", "--printshellcmds", params=path, config=["gpus=0,1,1"])
    told = said.stdout + said.stderr
    # Seven parts (all but cohort and noise), and notebooks 03 and 04.
    jobs = batch.jobs({path: params.load(path)})
    assert told.count("RECONFAIR_GPUS=0,1,1 ") == sum(job.gpu for job in jobs.values()), told
    assert told.count("LOKY_MAX_CPU_COUNT=1 ") == len(jobs)


@pytest.mark.slow
def test_params_files_may_have_blanks_in_their_paths(outputs, tmp_path):
    (tmp_path / "my studies").mkdir()
    x4, x8 = (small(tmp_path / "my studies", level) for level in (4, 8))
    for params_files, notebooks in ((x4, 7), (f'["{x4}", "{x8}"]', 14)):
        said = snakemake(tmp_path, "--dry-run", params=params_files)
        assert f"notebook {notebooks}" in re.sub(" +", " ", said.stdout + said.stderr), said.stderr


def test_a_mistake_is_one_sentence_and_nothing_runs(outputs, tmp_path):
    said = snakemake(tmp_path, params=small(tmp_path, 8, noise={"kind": "kspace", "accelerate": 4}))
    assert said.returncode == 1 and "noise.accelerate" in said.stderr and "Traceback" not in said.stderr
    assert "name them" in snakemake(tmp_path).stderr


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_batch_that_is_ended_leaves_no_process(outputs, tmp_path, end):
    path = small(tmp_path, 8, dataset={"label": "tiny", "patients": 3_000})
    begun = subprocess.Popen(command(params=path), cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(outputs.rglob("images.npy")) and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    children = psutil.Process(begun.pid).children(recursive=True)
    if end == signal.SIGINT:
        os.killpg(begun.pid, end)  # as a terminal does
    else:
        os.kill(begun.pid, end)
    begun.wait(60)
    left = psutil.wait_procs(children, timeout=20)[1]
    assert len(children) > 2 and list(outputs.rglob("images.npy"))
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_levels_share_a_dataset_survive_a_kill_and_the_failure_of_another(outputs, tmp_path):
    for level in (4, 8):
        path = small(tmp_path, level)
    bad = torn(tmp_path)
    every, cohort = f"{tmp_path}/tiny_*.yaml {bad}", data.product(params.load(path))
    begun = subprocess.Popen(command(params=every), cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not cohort.fresh and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    made = cohort.read_stamp()

    said = snakemake(tmp_path, params=every)
    for level in (4, 8):
        states = {
            product.key: product.state for product in every_product(params.load(tmp_path / f"tiny_x{level}.yaml"))
        }
        assert set(states.values()) == {"done"}, (states, said.stderr)
    assert cohort.read_stamp() == made
    assert said.returncode == 1 and "the film is torn" in said.stdout
    assert "the film is torn" in (outputs / "bad" / "x8" / "chapters" / "01_data.ipynb").read_text()
    resolved = yaml.safe_load((outputs / "tiny" / "x4" / "run.yaml").read_text())
    assert resolved["noise"]["acceleration"] == 4

    # Fresh now; a finished run shows within a factor of two what another level costs.
    assert "Nothing to be done" in snakemake(tmp_path, params=f"{path} {tmp_path / 'tiny_x4.yaml'}").stderr
    study, other = params.load(path), params.load(small(tmp_path, 16))
    costs = estimate.costs([(other, chosen(other))]).values()
    made = every_product(study)
    chapters = [[product for product in made if product.chapter == notebook[:2]] for notebook in CHAPTERS]
    took = sum(map(batch.seconds_of, filter(None, chapters)))
    shared = [product for product in made if product.run == study.label and "/noise/" not in product.key]
    once = sum(product.read_stamp()["seconds"] for product in shared)
    assert {cost.basis for cost in costs} == {"measured"}
    assert 0.5 < sum(cost.seconds for cost in costs) / (took - once) < 2
    assert bad.exists()
