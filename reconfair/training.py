"""Training as every network of the study meets it: seeded, resumable, best weights kept."""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from reconfair import store
from reconfair.keyed import generator, seed_of
from reconfair.params import Compute
from reconfair.store import Work

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # silence its banner
PRECISION = {"cpu": "32-true", "mps": "32-true", "cuda": "bf16-mixed"}
BATCH = 32  # images that a frozen model sees at a time
# Seconds for 1e12 operations where no run was measured: of two CPU cores, and of an H100 in bfloat16 (docs/gpu.md).
CPU, H100 = 20.0, {"unet": 0.0044, "pix2pix": 0.0165, "sde": 0.02}
WAIT = 16  # steps after which losses are read: each reading waits for the device
SHARE, MOMENT = 0.05, 0.2  # of the time that writing checkpoints may take; seconds of one that is never too long


class Module(L.LightningModule):
    """A network that trains: batches travel to the device as they are stored, in half precision, and widen there.

    Its steps minimise the mean of ``objective(batch)``: losses (n,) of a batch, and the images or logits that they
    judge. A network with other steps has its own.

    Attributes
    ----------
    keep_last : bool
        Whether the weights of the last epoch are kept; else those of the epoch with the least validation loss.
    """

    keep_last = False

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return tuple(tensor.float() for tensor in batch)

    def training_step(self, batch, batch_idx):
        return self.objective(batch)[0].mean()

    def validation_step(self, batch, batch_idx):
        losses, answers = self.objective(batch)
        self.log("val_loss", losses.mean(), batch_size=len(batch[0]))
        return answers


class Batches:
    """Row numbers in batches, drawn anew each epoch by (seed, epoch) alone.

    Parameters
    ----------
    rows : ndarray of int
        Rows to train on.
    batch_size : int
    seed : int
    weights : ndarray, optional
        Relative probability of each row; then rows are drawn with replacement.
    """

    def __init__(self, rows, batch_size: int, seed: int, weights=None):
        self.rows, self.batch_size, self.seed, self.epoch = np.asarray(rows), batch_size, seed, 0
        self.shares = None if weights is None else np.asarray(weights) / np.sum(weights)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self):
        draw = generator(self.seed, "batches", self.epoch)
        order = draw.choice(self.rows, len(self.rows), replace=self.shares is not None, p=self.shares)
        return iter([order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)])


class Rows:
    """Arrays of one length, memory-mapped or not, read a batch of rows at a time as tensors of the same types."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, rows) -> tuple[torch.Tensor, ...]:
        order = np.argsort(rows)  # a file is read from front to back
        back = np.argsort(order)
        return tuple(torch.from_numpy(np.asarray(array[rows[order]])[back]) for array in self.arrays)


def widen(images):
    """Images with an axis of channels, (n, 1, s, s), where they have none; those of colour are as they were."""
    return images if images.ndim == 4 else images[:, None]


def narrow(images):
    """Images without their axis of channels where it has length 1, as they are stored."""
    return images[:, 0] if images.shape[1] == 1 else images


def loader(
    arrays, rows, batch_size: int, seed: int = 0, weights=None, shuffle: bool = True, batches=None
) -> DataLoader:
    """Batches of the given `rows` of `arrays`, or those of `batches`; images get a channel axis in the networks."""
    batches = batches or Batches(rows, batch_size, seed, weights)
    if not shuffle:
        batches = [np.asarray(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
    # With a generator of its own it takes nothing from the global stream, which a resumed run would miss.
    return DataLoader(Rows(*arrays), sampler=batches, batch_size=None, generator=torch.Generator())


class Keep(L.Callback):
    """Log each epoch, keep the best weights, and leave a checkpoint from which to go on.

    Every file is written aside and renamed, so that a kill leaves the last whole one. Random
    numbers are seeded by epoch: a resumed run goes on exactly as one that was never killed.
    Not every epoch is written where networks are large and epochs short.
    """

    def __init__(self, folder: Path, seed: int, what: str, total):
        self.folder, self.seed, self.what, self.total = folder, seed, what, total
        self.rows, self.steps, self.unread, self.best = [], [], [], None
        self.written, self.took = time.monotonic(), 0.0

    def on_train_start(self, trainer, module):
        steps = (trainer.max_epochs - trainer.current_epoch) * trainer.num_training_batches
        self.bar = store.progress(range(steps), f"{self.what} trains")

    def on_train_epoch_start(self, trainer, module):
        torch.manual_seed(seed_of(self.seed, "epoch", trainer.current_epoch))

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        next(self.bar, None)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        values = torch.stack([value.detach() for value in outputs.values()])
        self.unread.append((len(batch[0]), tuple(outputs), values))
        if len(self.unread) == WAIT:
            self.read(trainer.current_epoch)

    def read(self, epoch: int) -> None:
        """Read the losses of the last steps off the device, all at once."""
        values = iter(torch.cat([values for *_, values in self.unread]).tolist() if self.unread else [])
        for images, names, _ in self.unread:
            self.steps.append({"images": images} | dict(zip(names, values, strict=False)))
            if not np.isfinite(self.steps[-1]["loss"]):
                where = f"epoch {epoch + 1}, step {len(self.steps)}"
                raise FloatingPointError(f"{self.what}: the loss is not finite at {where}; try a smaller lr")
        self.unread = []

    def on_train_epoch_end(self, trainer, module):
        self.read(trainer.current_epoch)
        steps, self.steps = pd.DataFrame(self.steps), []
        means = steps.drop(columns="images").mul(steps.images, axis=0).sum(skipna=False) / steps.images.sum()
        measured = means.add_prefix("train_").to_dict()
        measured |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.total:
            measured |= self.total(measured)
        judged = "val_total" if self.total else "val_loss"
        best = min((row[judged] for row in self.rows), default=np.inf)
        self.rows.append({"epoch": trainer.current_epoch + 1, **measured})
        if module.keep_last or measured[judged] < best or len(self.rows) == 1:
            weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
            self.best = {"state_dict": weights, "settings": module.settings, **self.rows[-1]}
        self.checkpoint(trainer)

    def checkpoint(self, trainer) -> None:
        """Write all from which to go on, unless the last time took too much of what has passed since."""
        begun = time.monotonic()
        if self.took <= MOMENT or self.took <= SHARE * (begun - self.written):
            self.write()
            _whole(self.folder / ".last.ckpt", trainer.save_checkpoint)
            self.written = time.monotonic()
            self.took = self.written - begun

    def write(self) -> None:
        """Write the log, and the best weights since these were last written."""
        if self.best:
            _whole(self.folder / "best.ckpt", lambda path: torch.save(self.best, path))
        if self.rows:
            pd.DataFrame(self.rows).to_csv(self.folder / "log.csv", index=False)
        self.best = None

    def on_train_end(self, trainer, module):
        self.bar.close()
        self.write()

    def on_exception(self, trainer, module, exception):
        self.write()

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict) -> None:
        self.rows = state_dict["rows"]


def fit(
    module,
    train: DataLoader,
    val: DataLoader,
    folder: Path,
    epochs: int,
    compute: Compute,
    what: str,
    penalties: L.Callback | None = None,
) -> None:
    """Train `module` and leave ``best.ckpt`` and ``log.csv`` in `folder`, going on where a kill left off.

    Parameters
    ----------
    module : Module
        With a dict ``settings`` (its ``seed`` among them) that rebuilds it.
    train, val : DataLoader
    folder : Path
        Of the product being made.
    epochs : int
    compute : params.Compute
    what : str
        Names the work in messages.
    penalties : Callback, optional
        Its ``total`` adds ``val_total`` to the means of an epoch: the best has least of that; left out: of
        ``val_loss``. Before the first epoch it sees a whole validation.

    Raises
    ------
    FloatingPointError
        The loss is not finite; best weights and the last checkpoint are kept.
    """
    device, guides = device_of(compute), [penalties] if penalties else []
    limit_threads(compute)
    module.to(memory_format=layout(module, device, compute.compile))
    train.pin_memory = val.pin_memory = device == "cuda"  # it fetches a batch while it still works on the last
    for network in module.children() if compute.compile else ():
        network.compile()
    last = folder / ".last.ckpt"
    if last.exists():  # Lightning draws the first resumed epoch before it tells the sampler which one it is
        train.sampler.set_epoch(torch.load(last, map_location="cpu", weights_only=True)["epoch"] + 1)
    trainer = L.Trainer(
        accelerator=device,
        devices=1,
        precision=precision_of(compute),
        max_epochs=epochs,
        callbacks=[*guides, Keep(folder, module.settings["seed"], what, penalties and penalties.total)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=-1 if guides else 0,
        plugins=[LightningEnvironment()],  # one process trains, also where a job of Slurm has room for more
    )
    with warnings.catch_warnings():
        # Batches are read from memory-mapped arrays in one go: worker processes would only add copies.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message="The `srun` command is available.*")
        warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode.*")  # frozen normalisation
        trainer.fit(module, train, val, ckpt_path=last if last.exists() else None, weights_only=True)


def save(module: Module, row: dict, folder: Path) -> None:
    """Leave ``best.ckpt`` and ``log.csv`` of a network that is not trained by `fit`, with the one `row` of its log."""
    torch.save({"state_dict": module.state_dict(), "settings": module.settings, **row}, folder / "best.ckpt")
    pd.DataFrame([row]).to_csv(folder / "log.csv", index=False)


def load(path: Path, module: torch.nn.Module) -> torch.nn.Module:
    """Put the best weights of `path` into `module`, in eval mode, frozen.

    Raises
    ------
    ValueError
        The file is truncated, or belongs to another network.
    """
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not the weights of this network ({reason}); remove it and run again") from None
    return module.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def limit_threads(compute: Compute) -> None:
    """Compute with as many threads as the parameters name: another number gives other last digits."""
    if compute.workers:
        torch.set_num_threads(compute.workers)


def device_of(compute: Compute) -> str:
    """``cuda`` or ``mps`` where there is one, else ``cpu``, unless the parameters name it."""
    if compute.device != "auto":
        return compute.device
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def check(compute: Compute) -> list[str]:
    """Name a device that the parameters ask for and this machine lacks."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there.get(compute.device, True):
        return []
    usable = ", ".join(["auto", "cpu", *(device for device, usable in there.items() if usable)])
    return [f"compute.device: this machine has no '{compute.device}'; valid here: {usable}"]


def precision_of(compute: Compute) -> str:
    """Of a training, in Lightning's words: mixed on a GPU, unless the parameters name it."""
    return PRECISION[device_of(compute)] if compute.precision == "auto" else compute.precision


def layout(module: torch.nn.Module, device: str, compiled: bool = False) -> torch.memory_format:
    """Channels last, in which convolutions are faster, unless a GPU would turn images round for group normalisation.

    Where networks are compiled, group normalisation works in either layout.
    """
    grouped = not compiled and any(isinstance(layer, torch.nn.GroupNorm) for layer in module.modules())
    return torch.contiguous_format if grouped and device == "cuda" else torch.channels_last


def placed(module: torch.nn.Module, compute: Compute) -> torch.nn.Module:
    """Move a network to where it works fastest."""
    device = device_of(compute)
    return module.to(device, memory_format=layout(module, device))


@torch.inference_mode()
def apply(function, images, rows, compute: Compute, what: str, *extras, batch_size: int = BATCH):
    """Yield (rows, function(images of these rows)) in batches, with progress.

    `function` maps (n, 1 or 3, size, size) float32 on the device to (n, ...); it yields NumPy arrays.
    Of each sequence in `extras`, one entry per row, it is given the batch too.
    """
    limit_threads(compute)
    device = device_of(compute)
    starts = range(0, len(rows), batch_size)
    for start in store.progress(starts, what):
        batch = rows[start : start + batch_size]
        tensor = widen(torch.from_numpy(np.asarray(images[batch], np.float32))).to(device)
        answer = function(tensor, *(values[start : start + batch_size] for values in extras))
        yield batch, answer.float().cpu().numpy()


def work(kind: str, build, settings: dict, size: int, images: float, compute: Compute, trains: bool = False) -> Work:
    """Return the work that a network has with images, counted on tensors without data.

    Parameters
    ----------
    kind : str
        As in `store.Work`.
    build : callable
        Returns the untrained network.
    settings : dict
        All that the network depends on.
    size : int
        Pixels a side.
    images : float
        How many it looks at; of a training, in all epochs.
    compute : params.Compute
    trains : bool
        Whether gradients are taken as well.
    """
    key = json.dumps([settings, size], sort_keys=True)
    if key not in _MEASURED:
        _MEASURED[key] = _operations(build(), size)
    operations, remembered, weights = _MEASURED[key]
    memory = 1100 + (4 * weights + 1.5 * remembered * settings["batch_size"] if trains else 0)
    passes = 3 if trains else 1  # a gradient costs about as much as two looks
    disk = weights if trains else 0.1
    rate, on_gpu = rate_of(kind, compute)
    return Work(kind, passes * operations * images, rate, memory, disk, on_gpu)


def rate_of(kind: str, compute: Compute) -> tuple[float, bool]:
    """Seconds for 1e12 operations of a kind of work where no run was measured, and whether a GPU does them."""
    on_gpu = device_of(compute) == "cuda"
    network = kind.split()[1].split("-")[0]  # of "train unet-eodd"
    return (H100.get(network, max(H100.values())) if on_gpu else CPU), on_gpu


_MEASURED: dict[str, tuple[float, float, float]] = {}


def _operations(module, size: int) -> tuple[float, float, float]:
    """1e12 operations of one image, MB that its gradient remembers, and MB of weights."""
    module, remembered = module.to("meta"), []
    look = (lambda noisy: module.noise_hat(noisy, noisy, 1)) if hasattr(module, "noise_hat") else module
    hooks = saved_tensors_hooks(lambda tensor: remembered.append(tensor.nbytes), lambda nothing: nothing)
    inputs = getattr(module, "settings", {}).get("inputs", 1)
    two = torch.empty(2, inputs, size, size, device="meta")  # one alone would not do for batch normalisation
    with FlopCounterMode(display=False) as counter, hooks:
        look(two)
    weights = sum(parameter.nbytes for parameter in module.parameters()) / 1e6
    return counter.get_total_flops() / 2e12, sum(remembered) / 2e6, weights


def _whole(path: Path, save) -> None:
    draft = path.with_suffix(".draft")
    save(draft)
    os.replace(draft, path)
