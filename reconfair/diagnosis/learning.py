"""How readers are trained by a strategy: what is drawn, how it is weighed, and which network learns.

`train` writes the product of `strategies.weights`.
"""

from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import torch

from reconfair import data, diagnosis, remedies, store, training
from reconfair.diagnosis import crop, groupwise
from reconfair.diagnosis.strategies import SENSITIVE, build, joint, sensitive, training_set, weights
from reconfair.params import ALONE, DOSES, Reader, Study

# --- doses ---


class Doses(L.Callback):
    """Brings remedies that weigh images or draw them into the training of a diagnostic network.

    The loss of each image is the network's criterion on that image alone. An epoch is judged by the mean of the joint
    groups' validation losses where they are balanced, and by the worst where DRO weighs them.

    Parameters
    ----------
    module : training.Module
        Its ``loss`` is replaced.
    parts : dict of Remedy
    groups : ndarray
        (images,) joint group.
    rows : ndarray
        Images that are trained on.
    """

    def __init__(self, module, parts: dict, groups: np.ndarray, rows: np.ndarray):
        self.module, self.parts, self.groups = module, parts, torch.tensor(groups)
        counts = np.bincount(groups[rows], minlength=groups.max() + 1)
        self.rarest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
        self.share, self.dose = float(counts[self.rarest] / len(rows)), {}
        self.sums = torch.zeros(2, len(counts), dtype=torch.float64)
        self.plain, module.loss = module.loss, self.loss

    def loss(self, batch) -> torch.Tensor:
        """Weighed loss of a batch (images, target, rows) in training; else the plain one, and those of the groups."""
        images, target, rows = batch
        rows = rows.long().cpu()
        weighing = {word: remedy for word, remedy in self.parts.items() if word != "oversample"}
        if self.module.training and not weighing:
            self._take(torch.ones(len(rows)), rows)
            return self.plain((images, target))
        logits = self.module(images[:, None])
        losses = self.module.losses(logits, target)
        if not self.module.training:
            added = torch.stack([losses.detach().double().cpu(), torch.ones(len(rows), dtype=torch.float64)])
            self.sums.index_add_(1, self.groups[rows], added)
            return self.module.criterion(logits, target)
        weighed = losses
        for word in ("dro", "reweight"):  # DRO is to know the losses as they are
            weighed = weighing[word].weigh(weighed, rows) if word in weighing else weighed
        self._take((weighed / losses.clamp(min=1e-12)).detach().cpu(), rows)
        return weighed.mean()

    def _take(self, weights: torch.Tensor, rows: torch.Tensor) -> None:
        rare = weights[self.groups[rows] == self.rarest].sum()
        self.dose = {"minority": rare / len(rows), "weight": weights.mean()}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        outputs |= {name: value.to(outputs["loss"].device) for name, value in self.dose.items()}

    def on_validation_epoch_start(self, trainer, module):
        self.sums.zero_()

    def total(self, measured: dict[str, float]) -> dict[str, float]:
        """What the epoch to be kept has least of, ``val_total``, and ``minority_share`` of the epoch."""
        sums, counts = self.sums[:, self.sums[1] > 0]
        losses = {"balanced": float((sums / counts).mean()), "worst": float((sums / counts).max())}
        criteria = {remedy.criterion for remedy in self.parts.values() if remedy.strength}
        name = next((name for name in ("worst", "balanced") if name in criteria), "")
        share = measured["train_minority"] / max(measured["train_weight"], 1e-12) / self.share
        return {"val_total": losses.get(name, measured["val_loss"]), "minority_share": share}

    def state_dict(self) -> dict:
        return {word: remedy.state_dict() for word, remedy in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        for word, remedy in self.parts.items():
            remedy.load_state_dict(state[word])


# --- training ---


def train(study: Study, reader: Reader, folder: Path) -> None:
    """Train a reader and leave its weights, log and thresholds in `folder`."""
    words, module = study.readers.parts(reader.strategy), build(study, reader)
    if reader.network == SENSITIVE:
        _train_sensitive(study, module, folder)
        return
    if {*words} & {*ALONE}:
        _train_alone(study, reader, module, folder)
    else:
        if module.settings["pretrained"]:
            module.start_pretrained()
        found = training_set(study, reader)
        if "crop" in words:
            if found.target is None:
                raise ValueError(f"readers.strategies: crop and cascade need masks, and {study.label} has none")
            found = crop.training_windows(study, found, folder)
        _train_doses(study, reader, module, found, folder)
    diagnosis.write_threshold(study, reader, folder)


def _train_doses(study: Study, reader: Reader, module, found, folder: Path) -> None:
    groups = joint(found.table, study.attributes("readers"))
    if len(np.unique(groups[found.rows])) < 2:
        groupwise.zeros(study)  # names the attribute that is the same for all
    options = {"dro": study.readers.dro, "reweight": study.readers.reweight}
    if study.readers.as_published:
        options = dict.fromkeys(options, "as_published")
    panel, parts = SimpleNamespace(joint=torch.tensor(groups)), {}
    for word, strength in study.readers.parts(reader.strategy).items():
        if word in DOSES:
            parts[word] = remedies.of_reader(word, options)(panel, found.rows, strength, options)
    guide = Doses(module, parts, groups, found.rows)
    batch_size, seed = module.settings["batch_size"], module.settings["seed"]
    batches = parts["oversample"].batches(batch_size, seed) if "oversample" in parts else None
    extras = (np.arange(len(found.table)),)
    diagnosis.fit(study, module, found, folder, str(reader), extras=extras, batches=batches, guide=guide)


def _known(study: Study, found, attributes: np.ndarray):
    """The training set without images of unknown attributes or label: those cannot teach."""
    known = ~np.isnan(attributes[found.rows]).any(1)
    if found.target.ndim == 2 and found.target.shape[1]:
        known &= ~np.isnan(found.target[found.rows]).any(1)
    return found._replace(rows=found.rows[known])


def _train_sensitive(study: Study, module, folder: Path) -> None:
    cohort = data.load(study)
    attributes = groupwise.coded(cohort.table, groupwise.zeros(study))
    rows, val = data.rows(cohort.table, "diag"), data.rows(cohort.table, "val")
    found = diagnosis.TrainingSet(cohort.images, attributes, rows, val, cohort.table)
    if module.settings["pretrained"]:
        module.start_pretrained()
    diagnosis.fit(study, module, _known(study, found, attributes), folder, "sensitive")


def _train_alone(study: Study, reader: Reader, module, folder: Path) -> None:
    """Train a network of FCRO, FairREAD or an adversary on one finding, half of each batch positive."""
    found = training_set(study, reader)
    attributes = groupwise.coded(found.table, groupwise.zeros(study))
    found = _known(study, found, attributes)
    labels = found.target[found.rows, 0]
    if len(np.unique(labels)) < 2:
        raise ValueError(f"{reader.network.name}: all {len(labels)} training images have one label; FCRO needs both")
    latents = np.zeros((len(found.table), module.settings["latent"]), np.float32)
    if "adversary" not in reader.strategy:
        first = store.ready(sensitive(study)) / "best.ckpt"
        frozen = training.load(first, build(study, Reader(SENSITIVE, "fcro")))
        seen = diagnosis.look(study, frozen, found.images, found.rows, "sensitive latents", see="features")
        latents[found.rows] = seen
    if "fairread" in reader.strategy:
        first = store.ready(weights(study, reader._replace(strategy="fcro"))) / "best.ckpt"
        module.load_state_dict(torch.load(first, map_location="cpu", weights_only=True)["state_dict"], strict=False)
    elif module.settings["pretrained"]:
        module.start_pretrained()
    if "fcro" in reader.strategy:
        module.take_bases(torch.tensor(latents[found.rows]), torch.tensor(labels[:, None]))
    rarity = 1 / np.bincount(labels.astype(int))[labels.astype(int)]
    halves = training.Batches(found.rows, module.settings["batch_size"], module.settings["seed"], rarity)
    diagnosis.fit(study, module, found, folder, str(reader), extras=(attributes, latents), batches=halves)
