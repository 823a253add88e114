"""How a strategy meets a reconstructor's training: L = L_recon + sum of lambda F EMA(L_recon) / EMA(F)."""

from functools import cached_property

import lightning as L
import numpy as np
import torch

from reconfair import data, diagnosis, training
from reconfair.keyed import seed_of
from reconfair.mitigation.adv import Adversary
from reconfair.mitigation.dro import GroupDRO
from reconfair.mitigation.eodd import SoftEODD
from reconfair.params import Study

LEAST = 0.25  # of what the standard weights have on validation images: what a penalty is divided by is never less


class Panel:
    """The frozen networks, and what is known of every image of the cohort.

    Attributes
    ----------
    networks : dict
        Frozen networks by their `params.Network`.
    thresholds, rates : Tensor
        (tasks,): threshold of a decision; number of rates a disparity is the mean of (TPR and FPR, or Dice alone).
    labels : Tensor
        (images, tasks) 0, 1 or missing; of a segmentation 1 where there is something to find, else missing.
    groups : Tensor
        (images, groups) of zeros and ones, the groups of all attributes side by side; `spans` tell them apart.
    joint : Tensor
        (images,) joint group of the attributes, as numbers from 0.
    """

    def __init__(self, study: Study):
        cohort, device = data.load(study), training.device_of(study.compute)
        kept = cohort.table[list(study.attributes("mitigation"))]
        self.masks, self.size, self.device = cohort.masks, study.dataset.size, device
        self.study, self.tasks = study, [task for network in study.networks for task in network.tasks]
        cut = diagnosis.thresholds(study)
        decided = [study.tasks[task] == "classify" for task in self.tasks]
        found = None if all(decided) else np.where([mask.any() for mask in cohort.masks], 1, np.nan)
        labels = [cohort.table[task] if known else found for task, known in zip(self.tasks, decided, strict=True)]
        codes = [kept[attribute].astype("category").cat for attribute in kept]
        ends = np.cumsum([len(code.categories) for code in codes])
        self.spans = [slice(end - len(code.categories), end) for end, code in zip(ends, codes, strict=True)]
        hot = [np.eye(len(code.categories) + 1)[code.codes][:, :-1] for code in codes]  # the code of unknown is -1
        numbers = {"labels": np.stack(labels, 1), "groups": np.concatenate(hot, 1)}
        numbers |= {
            "thresholds": [cut.get(task, 0.5) for task in self.tasks],
            "rates": [1 + known for known in decided],
        }
        for name, values in numbers.items():
            setattr(self, name, torch.tensor(np.asarray(values, np.float32), device=device))
        self.joint = torch.tensor(kept.fillna("unknown").groupby(list(kept)).ngroup().to_numpy(), device=device)

    @cached_property
    def networks(self) -> dict:
        """Loaded when first asked for: some strategies look at no diagnosis."""
        return {network: diagnosis.load(self.study, network).to(self.device) for network in self.study.networks}

    def columns(self, network) -> slice:
        """Where the tasks of `network` stand among all."""
        first = self.tasks.index(network.tasks[0])
        return slice(first, first + len(network.tasks))

    @torch.no_grad()
    def features(self) -> list[int]:
        """How many features each network has."""
        blank = torch.zeros(1, 1, self.size, self.size, device=self.device)
        return [network.features(blank).shape[1] for network in self.networks.values()]


class Penalties(L.Callback):
    """What a strategy adds to the loss of reconstructor `module`, and how it chooses the epoch to keep.

    Averages EMA start at the first batch and carry no gradient. What divides a penalty is never under `LEAST`: the
    gradient of E^2 / EMA(E^2) is like 1 / E, so that it pushes the harder the less is left to mend, until the weights
    are thrown off to where everyone is called ill. An epoch is judged by its validation loss and penalties, each in
    units of what the standard weights have, weighed as in training; where images are reweighted the validation loss is
    the mean squared error of the joint groups' mean, and of the worst where DRO weighs them.

    Parameters
    ----------
    study : Study
    module : LightningModule
        Its ``objective`` is replaced by the one with penalties.
    parts : dict of float
        Strength lambda by part of the strategy.
    """

    def __init__(self, study: Study, module, parts: dict[str, float]):
        settings, self.module, self.parts = study.mitigation, module, parts
        self.panel = panel = Panel(study)
        self.beside = [np.arange(len(panel.labels))] + ([] if panel.masks is None else [panel.masks])
        self.terms, self.averages, self.units, self.beheld = {}, {}, {}, {}
        if "eodd" in parts:
            self.terms["eodd"] = SoftEODD(panel, settings.temperature)
        if "adv" in parts:
            self.terms["adv"] = Adversary(panel, settings.adversary_lr, seed=seed_of(settings.seed, "adversary"))
        rows = data.rows(data.load(study).table, "recon")
        self.dro = GroupDRO(panel.joint, rows, parts["dro"]) if "dro" in parts else None
        self.plain, module.objective = module.objective, self.objective

    def objective(self, batch, *drawn):
        """Losses (n,) with penalties where the module trains, and reconstructions (n, 1, s, s)."""
        noisy, original, rows, *masks = batch
        losses, x_hat = self.plain((noisy, original), *drawn)
        if not self.module.training:
            return losses, x_hat
        given, rows, level = shown(x_hat, rows, *masks), rows.long(), self.average("loss", losses.mean(), 0.96)
        if self.dro:
            losses = self.dro(losses, rows)
        for part, term in self.terms.items() if len(given[0]) else ():
            with torch.autocast(x_hat.device.type, enabled=False):  # rates of few patients are not to be rounded
                measured = term(*given)
            F = sum(w * measured[name] / self.scale(name, measured[name]) for name, w in term.weights.items())
            least = sum(term.weights.values())  # what F is while the averages follow
            losses = losses + self.parts[part] * F * level / max(self.average(part, F, 0.96), least)
            self.beheld |= {name: value.detach() for name, value in measured.items()}
        return losses, x_hat

    def average(self, name: str, value: torch.Tensor, decay: float) -> float:
        """Moving average of what `name` was until now, this time included."""
        value = float(value.detach())
        self.averages[name] = decay * self.averages.get(name, value) + (1 - decay) * value
        return max(self.averages[name], 1e-12)

    def scale(self, name: str, value: torch.Tensor) -> float:
        """What a penalty is divided by: its moving average, or the least."""
        return max(self.average(name, value, 0.9), LEAST * self.units.get(f"val_{name}", 0))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        outputs |= self.beheld  # the log takes their means as it does that of the loss

    def on_validation_epoch_start(self, trainer, module):
        self.watched = {part: term.afresh() for part, term in self.terms.items()}
        self.measured, self.errors = [], torch.zeros(2, int(self.panel.joint.max()) + 1, device=self.panel.device)

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
        _, original, rows, *masks = batch
        x_hat, rows, original, *masks = shown(outputs, rows, original, *masks)
        if len(rows) == 0:
            return
        errors = (x_hat[:, 0] - original).square().mean((1, 2))
        self.errors.index_add_(1, self.panel.joint[rows], torch.stack([errors, torch.ones_like(errors)]))
        terms = self.watched.values()
        self.measured.append({k: float(v) for term in terms for k, v in term(x_hat, rows, *masks).items()})

    def on_validation_epoch_end(self, trainer, module):
        if not self.measured:
            raise ValueError(
                "dataset.split: no validation image was seen at a time of guessing; validation needs more images"
            )
        last = {name: value for name, value in self.measured[-1].items() if name != "bce"}  # these are of all so far
        if "bce" in self.measured[-1]:
            last["bce"] = np.mean([measured["bce"] for measured in self.measured])
        sums, counts = self.errors[:, self.errors[1] > 0]
        last |= {"balanced": float((sums / counts).mean()), "worst": float((sums / counts).max())}
        self.log_dict({f"val_{name}": value for name, value in last.items()})

    def on_sanity_check_end(self, trainer, module):
        standard = {name: max(float(value), 1e-12) for name, value in trainer.callback_metrics.items()}
        self.units = self.units or standard  # a run that goes on remembers them

    def total(self, measured: dict[str, float]) -> dict[str, float]:
        """What the epoch to be kept has least of, ``val_total``, from the means of an epoch, and its parts as shares.

        The standard weights have shares of 1, and a total of 1 + lambda.
        """
        share = {name: value / self.units[name] for name, value in measured.items() if name in self.units}
        kinds = {"val_worst": "dro", "val_balanced": "reweight", "val_loss": None}
        loss = next(name for name, part in kinds.items() if part is None or self.parts.get(part))
        penalties = (
            self.parts[part]
            * sum(w * share[f"val_{name}"] for name, w in term.weights.items())
            / sum(term.weights.values())
            for part, term in self.terms.items()
        )
        shares = {name.replace("val_", "share_"): value for name, value in share.items()}
        return {"val_total": share[loss] + sum(penalties), **shares}

    def state_dict(self) -> dict:
        terms = {part: term.state_dict() for part, term in self.terms.items()}
        dro = {"dro": self.dro.state_dict()} if self.dro else {}
        return {"terms": terms, "averages": self.averages, "units": self.units, **dro}

    def load_state_dict(self, state: dict) -> None:
        self.averages, self.units = state["averages"], state["units"]
        for part, term in self.terms.items():
            term.load_state_dict(state["terms"][part])
        if self.dro:
            self.dro.load_state_dict(state["dro"])


def shown(x_hat: torch.Tensor, rows: torch.Tensor, *beside: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Reconstructions as the diagnosis will see them, their rows, and what is beside them; without missing ones.

    They are float32 (where training is in mixed precision `x_hat` is not) within [0, 1], with the gradient of those
    before clamping.
    """
    known = ~x_hat[:, 0, 0, 0].isnan()
    x_hat = x_hat[known].float()
    return x_hat + (x_hat.clamp(0, 1) - x_hat).detach(), *(part[known] for part in (rows.long(), *beside))
