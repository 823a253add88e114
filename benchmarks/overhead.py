"""What orchestration costs, and what running side by side gains.

    python benchmarks/overhead.py [--configurations 12] [--few 1] [--patients 80] [--epochs 1] [--cores 2]
    python benchmarks/overhead.py --fingerprints    # only what it takes to know which products of the demo are fresh
    python benchmarks/overhead.py --threads         # only what one thread costs, in two minutes
    python benchmarks/overhead.py --status 1000     # only what it takes to show the state of so many finished runs

Configurations like params/demo.yaml, at as many noise levels of one cohort, are run from nothing, in more than an
hour; with fewer patients and epochs, in less:

work
    The notebooks' code in one process that has imported everything, with no kernel, papermill or Snakemake.
one at a time
    Snakemake on one core, one thread a job.
all cores
    ``reconfair run``: one notebook after the other, each on all cores.
batch
    Snakemake on `cores` cores, one thread a job: the only one that runs all configurations. Of the others there are
    the first, which makes what levels share, and then `--few` more, which stand for the rest of them.

overhead_seconds_per_notebook
    What one at a time takes more than the work, over the number of notebooks; the processes of models and of what
    levels share count as well.
speedup_over_one_core
    Time one at a time over time of the batch: the same jobs on one core and on `cores` of them.
parallel_speedup
    Time on all cores over time of the batch. Networks train nearly twice as fast on two threads as on one, so that
    what is left to gain are imports, drawing, and the serial part of training.
fingerprints_seconds
    Processor time for the products of params/demo.yaml and their fingerprints, in a process that asks the first time.
status_seconds
    Time of ``reconfair status`` over finished runs, four noise levels of each dataset. The runs are stamps
    beside files of a byte, and cohorts of a hundred phantoms; no network is trained.
one_thread_unet, one_thread_sde
    Time to train the network of params/demo.yaml on one thread over that on all cores: what it costs that results do
    not depend on the number of threads. It is the best of two of each, in processes of their own.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from reconfair import params, run, store
from reconfair.run.products import CHAPTERS

ROOT = Path(__file__).parents[1]
TRAIN = """
import sys, time
from reconfair import noise, params, recon, store
study = params.load(sys.argv[1], [f"compute.workers={sys.argv[2]}"])
noise.prepare(study)
for model in ("unet", "sde"):
    begun = time.monotonic()
    store.make(recon.weights(study, params.Source(model)))
    print(time.monotonic() - begun)
"""
DEMO = yaml.safe_load((ROOT / "params" / "demo.yaml").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=12)
    parser.add_argument("--few", type=int, default=1)
    parser.add_argument("--patients", type=int, default=DEMO["dataset"]["patients"])
    parser.add_argument("--epochs", type=int, help="of every network")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--fingerprints", action="store_true", help="run nothing")
    parser.add_argument("--threads", action="store_true", help="train two networks of the demo, nothing else")
    parser.add_argument("--status", type=int, metavar="RUNS", help="show so many finished runs, nothing else")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)  # this very script in the process that only works
    arguments = parser.parse_args()
    if arguments.work:
        return print(work(arguments.work))
    if arguments.threads:
        return one_thread()
    if arguments.status:
        return status(arguments.status)
    print(f"fingerprints_seconds={fingerprints():.3g}", flush=True)
    if arguments.fingerprints:
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = [write(Path(folder), level, arguments) for level in range(2, 2 + arguments.configurations)]
        few = [paths[:1], paths[1 : 1 + arguments.few]]
        reconfair = [sys.executable, "-m", "reconfair.run", "run"]
        batch = timed(folder, "batch", snakemake(paths, arguments.cores))[0]
        single = [timed(folder, "one at a time", snakemake(some, 1), threads=1)[0] for some in few]
        alone = timed(folder, "work", [sys.executable, __file__, "--work", *few[0], *few[1]], threads=1)[1]
        cores = [timed(folder, "all cores", [*reconfair, *some])[0] for some in few]
    notebooks = len(run.chapters(params.load(ROOT / "params" / "demo.yaml"))) * (1 + len(few[1]))
    of_all = lambda first, more: first + more / len(few[1]) * (len(paths) - 1)  # noqa: E731
    print(f"{len(paths)} configurations one at a time {of_all(*single):.0f} s, on all cores {of_all(*cores):.0f} s")
    print(f"overhead_seconds_per_notebook={(sum(single) - float(alone.splitlines()[-1])) / notebooks:.3g}")
    print(f"speedup_over_one_core={of_all(*single) / batch:.3g}")
    return print(f"parallel_speedup={of_all(*cores) / batch:.3g}")


def fingerprints() -> float:
    """Seconds of processor time for all fingerprints of the demo."""
    study, begun = params.load(ROOT / "params" / "demo.yaml"), time.process_time()
    assert all(product.fingerprint for product in run.every_product(study))
    return time.process_time() - begun


def status(runs: int) -> None:
    """Print what it takes to show the state of many finished runs."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "params").mkdir()
        os.environ["RECONFAIR_OUTPUTS"] = str(Path(folder) / "outputs")
        finish(Path(folder) / "params", runs)
        begun = time.monotonic()
        command = [sys.executable, "-m", "reconfair.run", "status"]
        shown = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
        print(f"status_seconds={time.monotonic() - begun:.3g}  ({runs} runs)")
    assert len(shown.splitlines()) == 1 + runs and "missing" not in shown and "stale" not in shown


def finish(folder: Path, runs: int) -> None:
    """Write params files, and leave all products of each as a finished run would."""
    study = {"noise": {"kind": "kspace"}, "mitigation": {"strategies": ["reweight"], "models": ["unet"]}}
    first = None
    for number in range(runs):
        path, label = folder / f"{number:05d}.yaml", f"site{number // 4:04d}"
        study["dataset"] = {"name": "phantom_mri", "label": label, "patients": 100, "size": 64, "seed": number // 4}
        study["noise"]["acceleration"] = 2 + number % 4
        path.write_text(yaml.safe_dump(study))
        every = run.every_product(params.load(path))
        cohort = every[0].folder
        first = first or store.make(every[0])
        for file in first.glob("*") if not cohort.exists() else ():
            cohort.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, cohort)
        for product in every:
            if not product.fresh:
                product.folder.mkdir(parents=True, exist_ok=True)
                file = product.folder / f"{product.name}.bin"
                file.write_bytes(b"1")
                product.mark([file], 1.0)


def one_thread() -> None:
    """Print what one thread costs."""
    seconds = {}
    for workers in (1, 0, 1, 0):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"RECONFAIR_OUTPUTS": folder, "RECONFAIR_PROGRESS": os.devnull}
            command = [sys.executable, "-c", TRAIN, str(ROOT / "params" / "demo.yaml"), str(workers)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        seconds.setdefault(workers, []).append([float(word) for word in done.stdout.split()[-2:]])
    for name, one, every in zip(
        ("unet", "sde"), *(map(min, zip(*seconds[w], strict=True)) for w in (1, 0)), strict=True
    ):
        print(f"one_thread_{name}={one / every:.3g}  ({one:.1f} s against {every:.1f} s on {os.cpu_count()} cores)")


def write(folder: Path, level: int, arguments) -> str:
    """A params file like the demo's, at another noise level."""
    study = {**DEMO, "noise": {"kind": "kspace", "acceleration": level}}
    study["dataset"] = {**DEMO["dataset"], "label": "overhead", "patients": arguments.patients}
    for network in (*study["reconstruction"].values(), *study["diagnosis"].values()):
        if isinstance(network, dict) and arguments.epochs:
            network["epochs"] = arguments.epochs
    path = folder / f"overhead_x{level}.yaml"
    path.write_text(yaml.safe_dump(study))
    return str(path)


def snakemake(paths: list[str], cores: int) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "workflow" / "Snakefile"), "--cores", str(cores)]
    return [*command, "--config", f"params={' '.join(paths)}", "threads=1"]


def timed(folder: str, what: str, command: list[str], threads: int = 0) -> tuple[float, str]:
    """Seconds that a command takes, and what it prints; what goes by one name goes on where the first of it ended."""
    outputs = Path(folder) / what.replace(" ", "_")
    environment = {
        **os.environ,
        "RECONFAIR_OUTPUTS": str(outputs),
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    environment |= {"OMP_NUM_THREADS": str(threads), "LOKY_MAX_CPU_COUNT": str(threads)} if threads else {}
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - begun
    print(f"{what}: {seconds:.0f} s", flush=True)
    return seconds, done.stdout


def work(paths: list[str]) -> float:
    """Seconds that the code of all notebooks takes in this process, once everything is imported."""
    import matplotlib

    matplotlib.use("agg")
    import jupytext
    import seaborn  # noqa: F401

    from reconfair import judge, report  # noqa: F401
    from reconfair.diagnosis import classify, segment  # noqa: F401
    from reconfair.recon import pix2pix, sde, unet  # noqa: F401

    os.environ["RECONFAIR_PROGRESS"] = os.devnull
    begun = time.perf_counter()
    for study in (params.load(path) for path in paths):
        for notebook in run.chapters(study):
            sections = study.model_dump(mode="json", include=set(CHAPTERS[notebook]))
            names = {"display": lambda *_: None, "base": "", **sections}
            for cell in jupytext.read(run.FOLDER / f"{notebook}.py").cells:
                if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", ()):
                    exec(cell.source, names)
        assert all(product.fresh for product in run.every_product(study) if product.folder.name != "chapters")
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
