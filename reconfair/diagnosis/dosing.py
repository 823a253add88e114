"""How remedies that change the dose of attention of a group enter the training of a reader."""

import lightning as L
import numpy as np
import torch

from reconfair.training import widen


class Doses(L.Callback):
    """Brings remedies that weigh images or draw them into the training of a diagnostic network.

    A network's criterion C is made of sums s over the images of a batch: the overlap and the areas of soft Dice, the
    cross-entropies and the number of labels. Weights w of images enter these sums, and the loss of a batch is

        L(w) = mean(w) C(sum of w_i s_i),

    so that equal weights are plain training, and the share of an image in the gradient is its weight. What a remedy
    sees as the loss of image i is n dL/dw_i at w = 1: the mean of these is the loss of the batch. Of a cross-entropy
    it is that of the image. A slice without a mask and without an answer has no Dice, and gets that of the batch.

    An epoch is judged by the criterion of each joint group's validation images: by the mean over groups where these are
    balanced, and by the worst where DRO weighs them.

    Parameters
    ----------
    module : networks.Learner
        Its ``loss`` is replaced.
    parts : dict of Remedy
    groups : ndarray
        (images,) joint group; -1: none.
    rows : ndarray
        Images that are trained on.
    """

    def __init__(self, module, parts: dict, groups: np.ndarray, rows: np.ndarray):
        self.module, self.parts, self.groups = module, parts, torch.tensor(groups)
        counts = np.bincount(groups[rows][groups[rows] >= 0], minlength=groups.max() + 1)
        self.rarest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
        self.share, self.dose, self.seen = float(counts[self.rarest] / len(rows)), {}, []
        module.loss = self.loss

    def loss(self, batch) -> torch.Tensor:
        """Weighed loss of a batch (images, target, rows) in training; else the plain one, and sums are kept."""
        images, target, rows = batch
        rows = rows.long().cpu()
        sums = self.module.summands(self.module(widen(images)), target)
        if not self.module.training:
            self.seen.append((self.groups[rows], sums.detach().double().cpu()))
            return self.module.of_sums(sums.sum(0))
        weights = self.weights(sums.detach(), rows)
        rare = weights[(self.groups[rows] == self.rarest).to(weights.device)].sum()
        self.dose = {"minority": rare / len(rows), "weight": weights.mean()}
        return self.weighed(weights, sums)

    def weighed(self, weights: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
        """L(w) of weights (n,) and summands (n, k)."""
        return weights.mean() * self.module.of_sums((weights[:, None] * sums).sum(0))

    def weights(self, sums: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Weights (n,) that the remedies give to the images of a batch."""
        ones = torch.ones(len(rows), device=sums.device, requires_grad=True)
        (losses,) = torch.autograd.grad(len(rows) * self.weighed(ones, sums), ones)
        weighed = losses.requires_grad_()
        for word in ("dro", "reweight"):  # DRO is to know the losses as they are
            weighed = self.parts[word].weigh(weighed, rows) if word in self.parts else weighed
        return torch.autograd.grad(weighed.sum(), losses)[0]  # a remedy multiplies losses by weights

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        outputs |= {name: value.to(outputs["loss"].device) for name, value in self.dose.items()}

    def on_validation_epoch_start(self, trainer, module):
        self.seen = []

    def total(self, measured: dict[str, float]) -> dict[str, float]:
        """What the epoch to be kept has least of, ``val_total``, and ``minority_share`` of the epoch."""
        of, sums = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        groups = [sums[of == group].sum(0) for group in of[of >= 0].unique()] or [sums.sum(0)]
        by_group = self.module.of_sums(torch.stack(groups))
        losses = {"balanced": float(by_group.mean()), "worst": float(by_group.max())}
        criteria = {remedy.criterion for remedy in self.parts.values() if remedy.strength}
        name = next((name for name in ("worst", "balanced") if name in criteria), "")
        share = measured["train_minority"] / max(measured["train_weight"], 1e-12) / self.share
        return {"val_total": losses.get(name, measured["val_loss"]), "minority_share": share}

    def state_dict(self) -> dict:
        return {word: remedy.state_dict() for word, remedy in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        for word, remedy in self.parts.items():
            remedy.load_state_dict(state[word])
