"""What a grid will cost: time, memory and disk of all that is not fresh, from throughputs that were measured.

The work of networks is counted in floating-point operations, on tensors without data; that of the rest in
pixels or drawn decisions. The time for a unit of work is taken from the finished runs under the outputs: from the
product of the same kind, on the same device, whose work is nearest and no more than `APART` times another. Where there
is none it is taken from `DEFAULTS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import yaml

from reconfair import batch, data, diagnosis, params, recon, store, tables
from reconfair.params import ParamsError, Study

# Seconds per unit: 1e12 operations, 1e6 pixels, 1e6 decisions drawn anew, one notebook. Cohort, noisy and notebook are
# from one run of the demo on two cores of an AMD EPYC; train, apply and judge are round numbers that bring the whole of
# that run out right, single networks within a factor of two. An H100 trained the paper's networks, of 256 pixels, some
# 900 (Pix2Pix, SDE) to 4,000 times (U-Net) as fast as the table has it; nothing else was measured there.
DEFAULTS = {"train": 20.0, "apply": 20.0, "cohort": 1.2, "noisy": 1.1, "judge": 0.1, "notebook": 6.0}
GPU = 1000
IMAGES = {"lgg": 3_929, "nih": 112_120, "chexpert": 191_027, "ucsf_pdgm": 65_000, "table": 10_000}  # about
APART = 30


class Cost(NamedTuple):
    """What a product takes: operations and the like, then seconds, MB of memory and of disk."""

    kind: str  # family, and what else tells its throughput
    work: float
    memory: float = 300
    disk: float = 0.1
    run: str = ""
    key: str = ""
    state: str = ""
    seconds: float = 0.0
    gpu: bool = False
    basis: str = ""


def estimate(studies: Iterable[Study], chapters: Iterable[str] = tuple(store.CHAPTERS)) -> list[Cost]:
    """Return the cost of each product of some chapters that is not fresh; what configurations share, once."""
    measured, found = throughputs(), {}
    numbers = [notebook[:2] for notebook in chapters]
    for study in studies:
        costs = works(study)
        for key, product in store.flow(study).items():
            if product.chapter in numbers and product not in found and not product.fresh:
                rate, basis = _rate(costs[key], measured)
                told = {"run": study.name, "key": key, "state": product.state, "basis": basis}
                found[product] = costs[key]._replace(seconds=costs[key].work * rate, **told)
    return list(found.values())


def throughputs() -> list[tuple[Cost, float]]:
    """What each product of the finished runs under the outputs took: its cost, and seconds."""
    found = []
    for path in sorted(store.outputs().glob("*/*/study.yaml")):
        sections = yaml.safe_load(path.read_text())
        try:
            study = params.study(**{name: section for name, section in sections.items() if name != "versions"})
        except ParamsError:  # of another version
            continue
        flow, costs = store.flow(study), works(study)
        for key, product in flow.items():
            stamp = product.read_stamp()
            if key.startswith("notebooks/"):
                chapter = [other for other in flow.values() if other.chapter == product.chapter]
                alone = batch.seconds_of(chapter) - sum(other.read_stamp().get("seconds", 0) for other in chapter[:-1])
                stamp = stamp and {**stamp, "seconds": alone}
            if stamp:
                gpu = costs[key].gpu and stamp.get("device") == "cuda"
                found.append((costs[key]._replace(gpu=gpu), stamp["seconds"]))
    return found


def works(study: Study) -> dict[str, Cost]:
    """Work, memory and disk of every product of a study, by its name in `store.flow`."""
    images, gpu = _images(study), _device(study) == "cuda"
    pixels = {use: number * study.dataset.size**2 / 1e6 for use, number in images.items()}
    drawn = images["eval"] * len(study.tasks) * study.fairness.resamples / 1e6
    tuned = {store.variant(*pair): pair[0] for pair in study.mitigated}
    frozen = {f"diagnosis/{network.name}": network for network in study.networks}
    size = study.dataset.size
    sizes = {key: _measure(diagnosis.build(study, network), size) for key, network in frozen.items()}
    models = {model: _measure(recon.build(study, model), size) for model in study.reconstruction.models}
    looked = sum(operations for operations, *_ in sizes.values())

    def trained(kind, size, training, use, epochs):
        operations, remembered, weights = size
        memory = 1100 + 4 * weights + 1.5 * remembered * training.batch_size
        return Cost(f"train {kind}", 3 * operations * images[use] * epochs, memory, weights, gpu=gpu)

    found = {}
    for key in store.flow(study):
        folder, _, what = key.rpartition("/")
        model = tuned.get(folder, folder)
        if key in frozen:
            training = getattr(study.diagnosis, frozen[key].kind)
            found[key] = trained(frozen[key].kind, sizes[key], training, "diag", training.epochs)
        elif folder == "notebooks":
            found[key] = Cost(f"notebook {what}", 1, disk=2)
        elif what == "model":
            training = getattr(study.reconstruction, model)
            epochs = study.mitigation.epochs if folder in tuned else training.epochs
            found[key] = trained(folder, models[model], training, "recon", epochs)
        elif what == "reconstructed":
            work = models[model][0] * images["eval"] * _evaluations(study, model)
            found[key] = Cost(f"apply {model}", work, 1100, 2 * pixels["eval"], gpu=gpu)
        elif what == "predictions":
            found[key] = Cost("apply diagnosis", looked * images["eval"], 1500, gpu=gpu)
        elif what == "cohort":
            masks = "segment" in study.dataset.about.tasks.values()
            found[key] = Cost(f"cohort {study.dataset.name}", pixels["all"], disk=(2 + masks) * pixels["all"])
        elif what == "noisy":
            angles = study.dataset.size / 256 if study.noise.kind == "sinogram" else 1  # their number grows as well
            found[key] = Cost(f"noisy {study.noise.kind}", pixels["all"] * angles, 700, 2 * pixels["all"])
        else:
            read = 2 + len(models) + len(tuned) * (what == "mitigation")
            found[key] = Cost(f"judge {study.fairness.inference}", drawn * read)
    return found


def table(costs: list[Cost]) -> str:
    """One line for each product, one for each run, and the sum."""
    head = f"{'run':<24}{'product':<32}{'state':<9}{'time':>9}{'GPU h':>7}{'memory':>10}{'disk':>10}  throughput"
    lines = [head, *(_line(cost.run, cost.key, cost.state, [cost], cost.basis) for cost in costs)]
    lines += [
        _line(run, "", "", [cost for cost in costs if cost.run == run]) for run in dict.fromkeys(c.run for c in costs)
    ]
    lines.append(_line("in all", "one after the other", "", costs))
    if any(cost.basis == "table" for cost in costs):
        lines.append("table: no run of this kind was finished here; the package's table may be far from this machine")
    if any(cost.basis == "guess" for cost in costs):
        lines.append(f"guess: no GPU run was finished here; {GPU} times the table's CPU is supposed")
    return "\n".join(lines)


def _line(run: str, key: str, state: str, costs: list[Cost], basis: str = "") -> str:
    seconds, hours = (sum(cost.seconds for cost in some) for some in (costs, [c for c in costs if c.gpu]))
    memory, disk = max((cost.memory for cost in costs), default=0) / 1e3, sum(cost.disk for cost in costs) / 1e3
    numbers = f"{batch.clock(seconds):>9}{hours / 3600:>7.2f}{memory:>7.1f} GB{disk:>7.2f} GB"
    return f"{run:<24}{key:<32}{state:<9}{numbers}  {basis}".rstrip()


def _rate(cost: Cost, measured: list[tuple[Cost, float]]) -> tuple[float, str]:
    """Seconds per unit of work, and where they come from."""
    apart = [
        (abs(math.log(of.work / cost.work)), seconds / of.work)
        for of, seconds in measured
        if (of.kind, of.gpu) == (cost.kind, cost.gpu)
    ]
    nearest = min((distance for distance, _ in apart), default=math.inf)
    if nearest <= math.log(APART):
        return median(rate for distance, rate in apart if distance < nearest + 0.1), "measured"
    rate = DEFAULTS[cost.kind.split()[0]]
    return (rate / GPU, "guess") if cost.gpu else (rate, "table")


def _images(study: Study) -> dict[str, float]:
    """Number of images by use: those of the cohort, or as many as are to be expected."""
    cohort, dataset = store.flow(study)["cohort"], study.dataset
    if cohort.fresh:
        found = tables.read("cohort", cohort.folder)
        return {"all": len(found), **{use: len(data.rows(found, use)) for use in ("recon", "diag", "eval")}}
    mri = dataset.about.modality == "mri"
    simulated = getattr(dataset, "patients", 0) * (getattr(dataset, "slices", 0) if mri else 2)
    number = simulated if dataset.name.startswith("phantom") else IMAGES[dataset.name]
    train, val, test = dataset.split
    shares = {"all": 1, "recon": train * (1 if mri else 0.7), "diag": train * (1 if mri else 0.3), "eval": val + test}
    return {use: number * share for use, share in shares.items()}


def _evaluations(study: Study, model: str) -> int:
    """How often a network looks at an image until it is reconstructed."""
    if model != "sde":
        return 1
    sde = study.reconstruction.sde
    return sde.samples * (sde.evaluations if sde.sampler == "few_step" else sde.steps)


def _measure(module, size: int) -> tuple[float, float, float]:
    """1e12 operations of one image, MB that its gradient remembers, and MB of weights."""
    import torch
    from torch.autograd.graph import saved_tensors_hooks
    from torch.utils.flop_counter import FlopCounterMode

    module, remembered = module.to("meta"), []
    look = (lambda noisy: module.noise_hat(noisy, noisy, 1)) if hasattr(module, "noise_hat") else module
    hooks = saved_tensors_hooks(lambda tensor: remembered.append(tensor.nbytes), lambda nothing: nothing)
    two = torch.empty(2, 1, size, size, device="meta")  # one alone would not do for batch normalisation
    with FlopCounterMode(display=False) as counter, hooks:
        look(two)
    weights = sum(parameter.nbytes for parameter in module.parameters()) / 1e6
    return counter.get_total_flops() / 2e12, sum(remembered) / 2e6, weights


def _device(study: Study) -> str:
    from reconfair import training

    return training.device_of(study.compute)
