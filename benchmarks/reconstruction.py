"""How fast reconstruction trains and samples, and what the few-step solver gives away.

    python benchmarks/reconstruction.py [params/lgg_x8_small.yaml] [--parts few_step inference training ways]

Reconstructors of the study are trained where they are not fresh (by default those of params/demo.yaml), with
all that a run does. Then, in one process and on test images:

few_step_evaluations, few_step_psnr_loss_db, few_step_power_ratio, few_step_spread_ratio, few_step_speedup
    The sampler ``few_step`` against 100 steps of ``reverse_sde`` by the same network: evaluations of the
    network, mean PSNR lost, power of a sample above half the Nyquist frequency, standard deviation between
    seeds, and time. The same against ``posterior`` is printed before.
train_vs_bare_loop
    Images per second in the training of a study over those of a bare PyTorch loop over the same batches,
    the smallest over the models. Epochs of the former include its checkpoints, logs and validation images.
    Of a phantom study there are ``--patients``: the demo's own epochs of 53 steps are shorter than any of real scans.
inference_growth
    Peak anonymous memory while reconstructing 1,600 images over that of 400: about 1 where images stream to disk.

The part ``ways``, which must be asked for, tells images per second of the bare loop as it stands, with channels last,
in bfloat16, and with ``torch.compile`` besides (the last two in the layout that a training has); of each the operations
per second, as a share of those of a large matrix product in bfloat16 on the same device.
"""

import os

os.environ["RECONFAIR_PROGRESS"] = os.devnull

import argparse
import tempfile
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from reconfair import data, noise, params, quality, recon, training

ROOT = Path(__file__).parents[1]
PARTS = ("few_step", "inference", "training", "ways")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="?", default=ROOT / "params" / "demo.yaml")
    parser.add_argument("--images", type=int, default=48, help="test images that are sampled")
    parser.add_argument("--patients", type=int, default=1200, help="phantoms in the training that is timed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:3])
    parser.add_argument("--repeats", type=int, default=2, help="of the training that is timed")
    arguments = parser.parse_args()
    study = params.load(arguments.params)
    data.prepare(study), noise.prepare(study)
    study = study.folds[0]
    results = {}
    if "ways" in arguments.parts:
        ways(study)
    if "few_step" in arguments.parts:
        recon.train(study, "sde")
        results |= few_step(study, arguments.images)
    if "inference" in arguments.parts:
        recon.train(study, study.models[0])
        results["inference_growth"] = inference(study)
    if "training" in arguments.parts:
        if study.dataset.name.startswith("phantom"):
            study = params.load(arguments.params, [f"dataset.patients={arguments.patients}", "dataset.label=timed"])
            data.prepare(study), noise.prepare(study)
        results["train_vs_bare_loop"] = training_speed(study, arguments.repeats)
    for name, value in results.items():
        print(f"{name}={value:.3g}")


def few_step(study, images: int) -> dict[str, float]:
    """The few-step solver against the others."""
    table, model = data.load(study).table, training.placed(recon.load(study, "sde"), study.compute)
    rows = data.rows(table, "test")
    rows = rows[np.linspace(0, len(rows) - 1, min(images, len(rows))).astype(int)]
    y = torch.from_numpy(noise.load(study)[rows].astype(np.float32))[:, None].to(training.device_of(study.compute))
    x = data.load(study).images[rows].astype(np.float32)
    found = {sampler: sampled(model, sampler, y, x) for sampler in ("reverse_sde", "posterior", "few_step")}
    for sampler, of in found.items():
        print(sampler.ljust(12), *(f"{name} {value:.4g}" for name, value in of.items()), sep="  ")
    few, full = found["few_step"], found["reverse_sde"]
    ratios = {f"few_step_{name}_ratio": few[name] / full[name] for name in ("power", "spread")}
    loss = {"few_step_psnr_loss_db": full["psnr"] - few["psnr"]}
    return {"few_step_evaluations": few["evaluations"]} | loss | ratios | {"few_step_speedup": full["ms"] / few["ms"]}


def sampled(model, sampler: str, y: torch.Tensor, x: np.ndarray) -> dict[str, float]:
    """Two samples of each image by one sampler: quality, texture, spread, evaluations and time of an image."""
    evaluations = []
    model.sampler, hook = sampler, model.average.register_forward_hook(lambda *_: evaluations.append(1))
    begun = time.perf_counter()
    with torch.inference_mode():
        samples = [model.reconstruct(y, range(start, start + len(y))).cpu().numpy()[:, 0] for start in (0, len(y))]
    seconds = (time.perf_counter() - begun) / 2 / len(y)
    hook.remove()
    frequency, power = noise.power_spectrum(samples[0])
    return {
        "psnr": np.mean([quality.psnr(*pair) for pair in zip(x, samples[0], strict=True)]),
        "power": np.sum(power[frequency > frequency.max() / 2]),
        "spread": np.sqrt(np.mean((samples[0] - samples[1]) ** 2) / 2),
        "evaluations": len(evaluations) / 2,
        "ms": 1000 * seconds,
    }


def training_speed(study, repeats: int) -> float:
    """Smallest ratio of images per second, a study's training over a bare loop; each the fastest of some in turn."""
    ratios, rows = [], data.rows(data.load(study).table, "recon")
    for model in study.models:
        took = [(bare_loop(study, model, rows), in_a_study(study, model)) for _ in range(repeats)]
        bare, ours = np.min(took, axis=0)
        print(
            f"{model:8} a bare loop {len(rows) / bare:7.1f}, a study {len(rows) / ours:7.1f} images a second",
            flush=True,
        )
        ratios.append(bare / ours)
    return min(ratios)


def in_a_study(study, model: str, epochs: int = 3) -> float:
    """Seconds of an epoch: what some more of them take, so that the start does not count."""
    took = []
    for n in (1, 1 + epochs):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            recon.fit(study, recon.build(study, model), Path(folder), model, n)
            took.append(time.perf_counter() - begun)
    return (took[1] - took[0]) / epochs


def bare_loop(study, model: str, rows: np.ndarray, epochs: int = 3) -> float:
    """Seconds of an epoch over tensors on the device, validation included: the mean of some after a first one."""
    cohort, noisy, device = data.load(study), noise.load(study), training.device_of(study.compute)
    module = training.placed(recon.build(study, model), study.compute)
    size, val = module.settings["batch_size"], data.rows(cohort.table, "val")
    loaded = [tensors(noisy, cohort.images, some).to(device).split(size, 1) for some in (rows, val)]
    step = STEPS.get(model, descend)(module)
    with torch.autocast(device, torch.bfloat16, enabled=training.precision_of(study.compute) == "bf16-mixed"):
        for epoch in range(1 + epochs):
            if epoch < 2:
                begun = now(device)
            module.train()
            for batch in loaded[0]:
                step(batch)
            module.eval()
            with torch.inference_mode():
                for batch in loaded[1]:
                    module.objective(batch)
        return (now(device) - begun) / epochs


def now(device: str) -> float:
    """Seconds on a clock, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ways(study, chosen=("plain", "channels_last", "bfloat16", "compile"), steps: int = 24) -> None:
    """Print images per second of a bare loop by the way in which a step is computed."""
    cohort, noisy, device = data.load(study), noise.load(study), training.device_of(study.compute)
    rows, peak = data.rows(cohort.table, "recon"), peak_of(device)
    print(f"a matrix product in bfloat16: {peak / 1e12:.3g} TFLOP/s")
    for way in chosen:
        for model in study.models:
            module = recon.build(study, model).to(device).train()
            size = module.settings["batch_size"]
            batches = tensors(noisy, cohort.images, rows[: steps * size]).to(device).split(size, 1)
            batches = batches[: len(rows) // size]
            if way != "plain":
                usual = training.layout(module, device, compiled=way == "compile")
                module.to(memory_format=torch.channels_last if way == "channels_last" else usual)
            step = STEPS.get(model, descend)(module)
            with FlopCounterMode(display=False) as counter:
                step(batches[0])
            if way == "compile":
                for network in module.children():
                    network.compile()
            mixed = way == "bfloat16" or (way == "compile" and device == "cuda")
            with torch.autocast(device, torch.bfloat16, enabled=mixed):
                begun = now(device)
                for batch in batches[:3]:
                    step(batch)
                started = now(device)
                for batch in batches:
                    step(batch)
            pace = len(batches) / (now(device) - started)
            share = pace * counter.get_total_flops() / peak
            print(
                f"{model:8} {way:14} batches of {size:2} {pace * size:7.1f} images a second, {share:.3f} of the "
                f"product's operations, {started - begun:.1f} s for the first three steps",
                flush=True,
            )


def peak_of(device: str) -> float:
    """Operations per second of a product of square matrices in bfloat16."""
    size = 1024 if device == "cpu" else 4096  # many processors do not know bfloat16, and take minutes for more
    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    took, number = [], 1 if device == "cpu" else 50
    for _ in range(3):
        begun = now(device)
        for _ in range(number):
            a @ b
        took.append(now(device) - begun)
    return 2 * number * size**3 / min(took)


def tensors(noisy, originals, rows) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(images[rows], np.float32) for images in (noisy, originals)]))


def descend(module):
    """A step of a network with one optimiser."""
    optimizer = module.configure_optimizers()

    def step(batch):
        optimizer.zero_grad()
        module.objective(batch)[0].mean().backward()
        optimizer.step()

    return step


def averaged(module):
    """The same, with the running average of the weights."""
    plain = descend(module)

    def step(batch):
        plain(batch)
        module.on_train_batch_end(None, batch, 0)

    return step


def adversarial(module):
    """A step of the generator, then of the discriminator."""
    from reconfair.recon.pix2pix import cross_entropy

    generator, discriminator = module.configure_optimizers()

    def step(batch):
        noisy, original = (images[:, None] for images in batch)
        module.discriminator.requires_grad_(False)
        losses, x_hat = module.objective(batch)
        generator.zero_grad()
        losses.mean().backward()
        generator.step()
        module.discriminator.requires_grad_(True)
        true, false = (module.discriminator(noisy, image) for image in (original, x_hat.detach()))
        discriminator.zero_grad()
        ((cross_entropy(true, 1) + cross_entropy(false, 0)).mean() / 2).backward()
        discriminator.step()

    return step


STEPS = {"pix2pix": adversarial, "sde": averaged}


def inference(study) -> float:
    """Growth of memory with the number of images that stream through a network."""
    model, noisy, peaks = study.models[0], noise.load(study), []
    module = training.placed(recon.load(study, model), study.compute)
    for count in (64, 400, 1600):  # the first fills caches
        rows, ended, seen = np.resize(np.arange(len(noisy)), count), Event(), []
        watching = Thread(target=watch, args=(ended, seen))
        watching.start()
        for _ in training.apply(module.reconstruct, noisy, rows, study.compute, model, range(count)):
            pass
        ended.set()
        watching.join()
        peaks.append(max(seen))
    print(f"reconstructing {1600} images with {model}: {peaks[-1]:.2f} GB")
    return peaks[-1] / peaks[-2]


def watch(ended: Event, seen: list[float]) -> None:
    while True:
        with open("/proc/self/status") as status:
            seen += [int(line.split()[1]) / 1024**2 for line in status if line.startswith("RssAnon")]
        if ended.wait(0.02):
            return


if __name__ == "__main__":
    main()
