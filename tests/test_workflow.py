"""The batch under Snakemake: its plan, and a whole run of two levels that was killed on the way."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from test_run import write

from reconfair import params, store

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
    }
    return write(folder, f"tiny_x{level}", **{**sections, **changes})


def test_the_plan_has_each_job_once_and_none_when_all_is_fresh(outputs, tmp_path):
    for level in (4, 8):
        path = small(tmp_path, level)
    said = snakemake(tmp_path, "--dry-run", params=tmp_path / "tiny_*.yaml")
    # Two levels of seven notebooks and two models, and cohort, network and originals for both.
    assert said.returncode == 0 and "total" in said.stdout + said.stderr, said.stderr
    counts = dict(
        line.split() for line in (said.stdout + said.stderr).splitlines() if line.startswith(("notebook ", "part "))
    )
    assert counts == {"notebook": "14", "part": "7"}
    for product in store.flow(params.load(path)).values():
        product.folder.mkdir(parents=True, exist_ok=True)
        product.mark([], 1)
    said = snakemake(tmp_path, "--dry-run", params=path)
    assert "Nothing to be done" in said.stdout + said.stderr


def test_a_job_that_uses_networks_takes_one_of_the_gpus_that_are_named(outputs, tmp_path):
    said = snakemake(tmp_path, "--dry-run", "--printshellcmds", params=small(tmp_path, 8), config=["gpus=0,1,1"])
    told = said.stdout + said.stderr
    assert told.count("RECONFAIR_GPUS=0,1,1 ") == 6, told  # four parts, and notebooks 03 and 04
    assert told.count("LOKY_MAX_CPU_COUNT=1 ") == 12  # of all


def test_a_mistake_is_one_sentence_and_nothing_runs(outputs, tmp_path):
    said = snakemake(tmp_path, params=small(tmp_path, 8, noise={"kind": "kspace", "accelerate": 4}))
    assert said.returncode == 1 and "noise.accelerate: unknown key" in said.stderr and "Traceback" not in said.stderr
    assert "name them" in snakemake(tmp_path).stderr


@pytest.mark.timeout(900)
def test_two_levels_share_a_dataset_survive_a_kill_and_the_failure_of_another(outputs, tmp_path):
    for level in (4, 8):
        path = small(tmp_path, level)
    bad = write(tmp_path, "tiny_bad", dataset={"label": "bad", "patients": 20, "split": [0.9, 0.05, 0.05]})
    every, flow = tmp_path / "tiny_*.yaml", store.flow(params.load(path))
    begun = subprocess.Popen(command(params=every), cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not flow["cohort"].fresh and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    made = flow["cohort"].read_stamp()

    said = snakemake(tmp_path, params=every)
    for level in (4, 8):
        states = {
            key: product.state for key, product in store.flow(params.load(tmp_path / f"tiny_x{level}.yaml")).items()
        }
        assert set(states.values()) == {"done"}, (states, said.stderr)
    assert flow["cohort"].read_stamp() == made
    assert said.returncode == 1 and "no case of class" in said.stdout
    assert "no case of class" in (outputs / "bad" / "x8" / "notebooks" / "01_data.ipynb").read_text()
    resolved = yaml.safe_load((outputs / "tiny" / "x4" / "study.yaml").read_text())
    assert resolved["noise"]["acceleration"] == 4

    # Fresh now; a finished run tells within a factor of two what another level costs.
    assert "Nothing to be done" in snakemake(tmp_path, params=f"{path} {tmp_path / 'tiny_x4.yaml'}").stderr
    from reconfair import batch, estimate

    costs = estimate.estimate([params.load(small(tmp_path, 16))])
    chapters = {notebook[:2]: [p for p in flow.values() if p.chapter == notebook[:2]] for notebook in store.CHAPTERS}
    took = sum(batch.seconds_of(products) for products in chapters.values())
    once = sum(flow[key].read_stamp()["seconds"] for key in ("cohort", "diagnosis/grade", "original/predictions"))
    assert {cost.basis for cost in costs} == {"measured"}
    assert 0.5 < sum(cost.seconds for cost in costs) / (took - once) < 2
    assert bad.exists()
