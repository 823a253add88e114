"""Are jobs lost when a cluster's controller dies? A hundred tiny jobs on a Slurm of one node, killed once.

    python benchmarks/cluster.py            # as root, with Debian's slurm-wlm and munge; see tests/workflow/slurm.sh
    python benchmarks/cluster.py --keep     # adds the lines to results/cluster.txt

Fifty studies of 60 patients each have two jobs: the cohort, and its noise, which waits for the cohort. Snakemake sends
them through the profile in workflow/profiles/slurm. When twenty have ended, the controller (slurmctld) is killed with
SIGKILL. It is started again half a minute later. Where Snakemake reports failures, or waits although no job is left in
the queue, it is stopped, and the same command is given again, as the guide to clusters says, up to three times. Ends
with lines NAME=VALUE:

slurm_jobs             jobs
slurm_commands         how often the command was given (1: Snakemake went on by itself)
slurm_jobs_lost        jobs whose product is missing at the end (aim: 0)
slurm_jobs_twice       products that were written more than once: work that was lost
slurm_seconds          from the first command to the end
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import yaml

from reconfair import data, noise, params

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cluster.txt"
SLURM = ROOT / "tests" / "workflow" / "slurm.sh"
STUDIES, ENDED, AWAY = 50, 20, 30  # studies; jobs that end before the kill; seconds without a controller
IDLE = 60  # seconds with an empty queue, after which Snakemake waits for nothing
OPTIONS = f"""--workflow-profile {ROOT}/workflow/profiles/slurm --latency-wait 5 --set-threads part=1
    --default-resources mem_mb=900 runtime=20 --set-resources part:mem_mb=900 part:runtime=20
    --seconds-between-status-checks 5 --slurm-init-seconds-before-status-checks 3 --slurm-status-command squeue"""


def written(folder: Path) -> list[Path]:
    """Params files of the studies."""
    paths = [folder / f"d{number}.yaml" for number in range(STUDIES)]
    for path in paths:
        dataset = {"name": "phantom_mri", "label": path.stem, "patients": 60}
        path.write_text(yaml.safe_dump({"dataset": dataset}), encoding="utf-8")
    return paths


def sent(paths: list[Path], folder: Path, log) -> subprocess.Popen:
    """Snakemake, which sends all jobs to the cluster."""
    flags = [f"{folder}/outputs/.batch/{path.stem}/{job}" for path in paths for job in ("01.cohort", "02.noise/x8")]
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "workflow" / "Snakefile"), *flags, *OPTIONS.split()]
    command += ["--config", f"params={folder}/d*.yaml", "gpus=none"]
    return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def restarted(folder: Path) -> None:
    """Kill the controller, and start it again after a while."""
    os.kill(int((folder / "cluster" / "slurmctld.pid").read_text()), signal.SIGKILL)
    time.sleep(AWAY)
    subprocess.run(["/usr/sbin/slurmctld"], check=True)


def queued() -> bool:
    """Whether Slurm has a job that waits or runs."""
    return bool(subprocess.run(["squeue", "--noheader"], capture_output=True, text=True).stdout.strip())


def stamps(products) -> dict[str, float]:
    """When each product was made, by its key."""
    return {product.key: product.stamp.stat().st_mtime for product in products if product.stamp.exists()}


def measured(folder: Path) -> dict[str, float]:
    """Run the jobs with a controller that dies, and count."""
    os.environ["RECONFAIR_OUTPUTS"] = str(folder / "outputs")
    paths = written(folder)
    studies = [params.load(path) for path in paths]
    products = [product for study in studies for product in (data.product(study), noise.product(study))]
    start, commands, code, killed, seen, twice = time.monotonic(), 0, 1, False, {}, set()
    with (folder / "log.txt").open("w") as log:
        while code and commands < 4:
            running, commands, busy = sent(paths, folder, log), commands + 1, time.monotonic()
            while running.poll() is None:
                now = stamps(products)
                twice |= {key for key in seen if key in now and now[key] != seen[key]}
                seen |= now
                if len(seen) >= ENDED and not killed:
                    restarted(folder)
                    killed = True
                busy = time.monotonic() if queued() else busy
                if time.monotonic() > busy + IDLE:
                    running.kill()  # asked to end, it would wait for jobs that it no longer sees
                    busy = time.monotonic()
                time.sleep(1)
            code = running.returncode
    return {
        "slurm_jobs": len(products),
        "slurm_commands": commands,
        "slurm_jobs_lost": sum(not product.fresh for product in products),
        "slurm_jobs_twice": len(twice),
        "slurm_seconds": round(time.monotonic() - start),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="add the lines to results/cluster.txt")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cluster-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            subprocess.run([SLURM, "start", folder / "cluster"], check=True)
            lines = [f"{key}={value}" for key, value in measured(folder).items()]
        finally:
            subprocess.run([SLURM, "stop", folder / "cluster"], check=True)
            print((folder / "log.txt").read_text()[-3000:] if (folder / "log.txt").exists() else "", file=sys.stderr)
    print(*lines, sep="\n")
    if arguments.keep:
        head = f"# {os.cpu_count()} cores of a virtual {platform.machine()} machine, Slurm of Debian 12, {date.today()}"
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n".join([head, *lines, ""]))


if __name__ == "__main__":
    main()
