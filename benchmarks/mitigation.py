"""What fairness costs a training step: evaluations of the network, and memory.

    python benchmarks/mitigation.py [--size 256] [--batch 2]

The paper's networks (nothing is trained: cost does not depend on weights) take two steps of plain fine-tuning, and
two with each remedy, each in a process of its own. Memory is the peak of the resident set over what the process
held before, weights of all networks counted. Last come

sde_evaluations_per_step
    Evaluations of the SDE's network in a step with ``eodd``.
memory_vs_plain
    Peak memory with ``eodd`` over that of plain fine-tuning, the largest over the reconstructors.
"""

import os

os.environ["RECONFAIR_PROGRESS"] = os.devnull

import argparse
import multiprocessing
import resource
import tempfile

import torch

from reconfair import data, diagnosis, noise, params, recon, training
from reconfair.mitigation.penalties import Penalties

MODELS, STRATEGIES = ("unet", "pix2pix", "sde"), ("dro@0", "dro", "eodd", "adv")  # the first is plain


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--batch", type=int, default=2, help="images a step; the ratio hardly depends on it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECONFAIR_OUTPUTS"] = folder
        data.prepare(study(arguments.size)), noise.prepare(study(arguments.size))
        spawn, found = multiprocessing.get_context("spawn"), {}
        for model in MODELS:
            for strategy in STRATEGIES:
                with spawn.Pool(1) as alone:
                    found[model, strategy] = alone.apply(step, (model, strategy, arguments.size, arguments.batch))
                print(f"{model:8} {strategy:6} {found[model, strategy][0]:6.0f} MB")
    ratios = [found[model, "eodd"][0] / found[model, "dro@0"][0] for model in MODELS]
    print(f"sde_evaluations_per_step={found['sde', 'eodd'][1]:g}")
    print(f"memory_vs_plain={max(ratios):.3g}")


def study(size: int):
    return params.study(
        dataset={"name": "phantom_mri", "size": size, "patients": 40, "slices": 1},
        diagnosis={"classify": {"pretrained": False}, "segment": {"pretrained": False}},
        mitigation={},
    )


def step(model: str, strategy: str, size: int, batch: int) -> tuple[float, float]:
    """Peak memory in MB over what was there before, and evaluations of the SDE's network, of one step in two."""
    chosen = study(size)
    diagnosis.load = lambda study, network: diagnosis.build(study, network).eval().requires_grad_(False)
    diagnosis.thresholds = lambda study: {}
    held, evaluations = peak(), []
    module = recon.build(chosen, model).to(memory_format=torch.channels_last)
    added = Penalties(chosen, module, chosen.mitigation.parts(strategy))
    module.log_dict = lambda *args, **kwargs: None  # there is no trainer
    if model == "sde":
        module.net.register_forward_hook(lambda *_: evaluations.append(1))
    rows = data.rows(data.load(chosen).table, "recon")[:batch]
    images = training.Rows(noise.load(chosen), data.load(chosen).images, *added.extras)[rows]
    images = module.on_after_batch_transfer(images, 0)
    optimizer = torch.optim.Adam(module.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        module.objective(images)[0].mean().backward()
        optimizer.step()
    return peak() - held, len(evaluations) / 2


def peak() -> float:
    """Largest resident set of this process until now, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
