"""A study of real scans at 256 pixels on one GPU: the speed of the SDE, then chapters 01 to 05 and 10 in turn.

    python benchmarks/gpu.py            # LGG (RECONFAIR_DATA), within ten minutes on an H100
    python benchmarks/gpu.py --keep     # adds the lines to results/gpu.txt
    python benchmarks/gpu.py --quick    # phantoms and tiny networks, on any machine: shows that it runs

First a bare training loop of the SDE of the paper, as it stands in mixed precision and compiled, in batches of 8 (the
paper's) and of 32: images per second, and operations per second as a share of those of a large matrix product. Then
`reconfair run` makes the cohort, noise at one level, U-Net, Pix2Pix and SDE, the readers, all tables, notebooks and the
report, one after the other. Last, the generator of chapter 08 at 128 pixels, on phantoms. Printed at the end are lines
NAME=VALUE: the seconds of each product, those of each notebook besides what it made, ``gpu_run_seconds`` of all, the
quality and performance that came of it, and of the generator ``generator_images_per_second`` of training in mixed
precision, ``generator_share`` of the operations of a large matrix product, and ``generator_samples_per_second``.
"""

import argparse
import io
import os
import platform
import tempfile
import time
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path

import numpy as np
import torch
from real import measured
from reconstruction import now, peak_of, ways
from torch.utils.flop_counter import FlopCounterMode

from reconfair import data, noise, params, run, synthesis, training

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu.txt"
LGG = {"mitigation": "none", "reconstruction.unet.epochs": 20, "reconstruction.pix2pix.epochs": 30}
LGG |= {"reconstruction.sde.epochs": 8, "reconstruction.sde.sampler": "few_step"}
QUICK = {"dataset.label": "gpu", "dataset.patients": 60, "readers": "none", "two_stages": "none", "synthesis": "none"}
QUICK |= {"mitigation": "none"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="phantoms and tiny networks; nothing is kept")
    parser.add_argument("--keep", action="store_true", help="add the lines to results/gpu.txt")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECONFAIR_OUTPUTS"] = folder
        chosen = ("class", QUICK, (8, 16)) if arguments.quick else ("lgg_x8", LGG, (8, 32))
        lines = [f"# {hardware()}, Python {platform.python_version()}, torch {torch.__version__}, {date.today()}"]
        lines += measure(*chosen)
        lines += generator(64 if arguments.quick else 128, 2 if arguments.quick else 30)
    print(*lines, sep="\n")
    if arguments.keep and not arguments.quick:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))


def hardware() -> str:
    """The GPU, or the processor where there is none, and the number of cores."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else f"no GPU, {platform.machine()}"
    return f"{gpu}, {len(os.sched_getaffinity(0))} cores"


def measure(name: str, settings: dict, batches: tuple[int, ...]) -> list[str]:
    """Lines of a params file: paces of the SDE, then seconds and values of the run."""
    path, given = ROOT / "params" / f"{name}.yaml", [f"{key}={value}" for key, value in settings.items()]
    study, told, begun = params.load(path, given), io.StringIO(), time.monotonic()
    data.prepare(study), noise.prepare(study)
    for size in batches:
        alone = ["reconstruction.models=[sde]", f"reconstruction.sde.batch_size={size}"]
        with redirect_stdout(told):
            ways(params.load(path, given + alone), ("bfloat16", "compile"))
        print(f"batches of {size} after {time.monotonic() - begun:.0f} s", flush=True)
    begun = time.monotonic()
    status = run.main(["run", str(path), *(word for change in given for word in ("--set", change))])
    took, products = time.monotonic() - begun, run.every_product(study)
    if status:
        raise SystemExit(f"reconfair run ended with status {status}")
    seconds = [f"gpu_seconds {one.key}={one.read_stamp()['seconds']:.1f}" for one in products]
    return [*told.getvalue().splitlines(), *seconds, *measured(name, study, products), f"gpu_run_seconds={took:.0f}"]


def generator(size: int, steps: int) -> list[str]:
    """Lines of a bare training loop of the generator of chapter 08 with its usual settings, and of its sampling."""
    dataset = {"name": "phantom_mri", "size": size, "patients": 120, "slices": 1, "label": "generator"}
    few = {"channels": 8, "batch_size": 4, "steps": 2} if size < 128 else {}
    study = params.study(dataset=dataset, noise="none", synthesis={"cells": "sex*grade", "min_images": 1} | few)
    module, device = synthesis.build(study), training.device_of(study.compute)
    module.to(device, memory_format=training.layout(module, device, compiled=False)).train()
    images, n = data.load(study).images, study.synthesis.batch_size
    some = torch.from_numpy(np.resize(images, (n, size, size)).astype(np.float32)).to(device)
    cell, optimizer = torch.arange(n, device=device) % 4, module.configure_optimizers()

    def step():
        loss = module.training_step((some, cell), 0)["loss"]
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        module.on_train_batch_end(None, None, 0)

    with FlopCounterMode(display=False) as counter:
        step()
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        for _ in range(3):  # the first steps are slow
            step()
        begun = now(device)
        for _ in range(steps):
            step()
        pace = steps / (now(device) - begun)
        module.eval()
        with torch.inference_mode():
            begun = now(device)
            module.sample(cell, list(range(n)))
            sampled = n / (now(device) - begun)
    share = pace * counter.get_total_flops() / peak_of(device)
    lines = [f"generator_images_per_second={pace * n:.3g}", f"generator_share={share:.3g}"]
    return [*lines, f"generator_samples_per_second={sampled:.3g}"]


if __name__ == "__main__":
    main()
