"""How remedies that change the dose of attention of a group enter the training of a reader."""

import lightning as L
import numpy as np
import torch


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
