"""The batch on a Slurm cluster: one node that is started here, where Debian's slurm-wlm and munge are installed."""

import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest
from test_run import write

from reconfair import noise, params, store

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
ROOT, HERE = store.PACKAGE.parent, Path(__file__).parent
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(which(name, path="/usr/sbin:/usr/bin") for name in NEEDED),
    reason="needs root, and slurm-wlm and munge: apt-get install --no-install-recommends slurm-wlm munge",
)


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra 'workflow'")
    folder = tmp_path / "cluster"
    try:
        subprocess.run([HERE / "slurm.sh", "start", folder], check=True, timeout=120)
        yield folder
    finally:
        subprocess.run([HERE / "slurm.sh", "stop", folder], check=True, timeout=60)


@pytest.mark.slow  # a cluster of its own: minutes of waiting between its states
@pytest.mark.timeout(1800)
def test_jobs_are_submitted_with_their_resources_and_a_failure_is_reported(cluster, outputs, tmp_path):
    good = write(tmp_path, "good", dataset={"label": "good"})
    bad = write(tmp_path, "bad", dataset={"label": "bad"}, reconstruction={"models": ["unet"], "unet": {"lr": 1e30}})
    flags = [outputs / ".batch" / name for name in ("good/x8/02_noising", "bad/x8/03.unet")]
    options = f"""--workflow-profile {ROOT}/workflow/profiles/slurm --jobs 2 --latency-wait 5 --keep-going
        --default-resources mem_mb=900 runtime=20 --set-resources part:mem_mb=1200 part:runtime=30
        --set-threads notebook=1 part=2 --seconds-between-status-checks 5
        --slurm-init-seconds-before-status-checks 3 --slurm-status-command squeue"""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "workflow" / "Snakefile", *flags, *options.split()]
    command += ["--config", f"params={good} {bad}", "gpus=none"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=1500)
    told = said.stdout + said.stderr
    assert said.returncode == 1, told
    assert noise.product(params.load(good)).fresh and (outputs / "good/x8/chapters/02_noising.html").exists(), told
    assert "the loss is not finite" in (outputs / "bad/x8/chapters/03_reconstruction.ipynb").read_text()
    assert re.search(r"Error in rule part", told) and "bad" in told

    # What Slurm remembers of the jobs: cohorts and noise with the resources of a part, and one notebook with its own.
    shown = subprocess.run(["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True).stdout
    jobs = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in shown.splitlines()]
    asked = sorted((job["JobState"], job["NumCPUs"], job["MinMemoryNode"], job["TimeLimit"]) for job in jobs)
    part, notebook = ("2", "1200M", "00:30:00"), ("1", "900M", "00:20:00")
    assert asked == sorted([("FAILED", *part), *4 * [("COMPLETED", *part)], ("COMPLETED", *notebook)]), shown
