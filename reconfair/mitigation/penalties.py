"""How remedies enter a reconstructor's training: L = L_recon + sum of lambda F EMA(L_recon) / EMA(F)."""

import lightning as L
import numpy as np
import torch

from reconfair import data, diagnosis, remedies, training
from reconfair.keyed import seed_of
from reconfair.params import Study
from reconfair.remedies.remedy import Panel

LEAST = 0.25  # of what the standard weights have on validation images: what a penalty is divided by is never less


def panel_of(study: Study, against: str = "standard") -> Panel:
    """The frozen readers of strategy `against`, and what is known of every image of the cohort."""
    cohort, device = data.load(study), training.device_of(study.compute)
    readers = study.networks_of(against)
    tasks = {task: study.tasks[task] for network in readers for task in network.tasks}

    def networks():
        return {network: diagnosis.load(study, network, against).to(device) for network in readers}

    attributes, thresholds = study.attributes("mitigation"), diagnosis.thresholds(study, against)
    shape = (1, *study.dataset.shape)[-3:]  # channels first
    regions = study.dataset.about.regions
    return Panel(cohort.table, cohort.masks, tasks, attributes, thresholds, networks, shape, device, regions)


class Penalties(L.Callback):
    """What remedies add to the loss of reconstructor `module`, and how they choose the epoch to keep.

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
    strengths : dict of float
        Strength lambda by remedy.
    against : str
        Strategy of the readers that the penalties see.

    Attributes
    ----------
    extras : list of ndarray
        What a batch holds after noisy images and originals: row numbers, and masks where there are any.
    """

    def __init__(self, study: Study, module, strengths: dict[str, float], against: str = "standard"):
        settings, self.module, self.panel = study.mitigation, module, panel_of(study, against)
        masks = self.panel.masks
        self.extras = [np.arange(len(self.panel.labels))] + ([] if masks is None else [masks])
        self.averages, self.units, self.measured = {}, {}, {}
        rows = data.rows(data.load(study).table, "recon")
        options = settings.model_dump() | {"seed": seed_of(settings.seed, "adversary")}
        self.remedies = {
            word: remedies.find(word)(self.panel, rows, strength, options) for word, strength in strengths.items()
        }
        self.terms = {word: remedy for word, remedy in self.remedies.items() if remedy.terms}
        self.plain, module.objective = module.objective, self.objective

    def shares(self) -> np.ndarray | None:
        """Relative probability of drawing each training image; None: all alike."""
        given = [remedy.shares() for remedy in self.remedies.values() if remedy.strength]
        return next((shares for shares in given if shares is not None), None)

    def objective(self, batch, *drawn):
        """Losses (n,) with penalties where the module trains, and reconstructions (n, 1, s, s)."""
        noisy, original, rows, *masks = batch
        losses, x_hat = self.plain((noisy, original), *drawn)
        if not self.module.training:
            return losses, x_hat
        given, rows, level = as_read(x_hat, rows, *masks), rows.long(), self.average("loss", losses.mean(), 0.96)
        for remedy in self.remedies.values():
            losses = remedy.weigh(losses, rows)
        for word, remedy in self.terms.items() if len(given[0]) else ():
            with torch.autocast(x_hat.device.type, enabled=False):  # rates of few patients are not to be rounded
                measured = remedy.measure(*given)
            F = 0.0
            for name, weight in remedy.terms.items():  # what divides a penalty: its moving average, or the least
                least = LEAST * self.units.get(f"val_{name}", 0)
                F = F + weight * measured[name] / max(self.average(name, measured[name], 0.9), least)
            least = sum(remedy.terms.values())  # what F is while the averages follow
            losses = losses + remedy.strength * F * level / max(self.average(word, F, 0.96), least)
            self.measured |= {name: value.detach() for name, value in measured.items()}
        return losses, x_hat

    def average(self, name: str, value: torch.Tensor, decay: float) -> float:
        """Moving average of what `name` was until now, this time included."""
        value = float(value.detach())
        self.averages[name] = decay * self.averages.get(name, value) + (1 - decay) * value
        return max(self.averages[name], 1e-12)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        outputs |= self.measured  # the log takes their means as it does that of the loss

    def on_validation_epoch_start(self, trainer, module):
        self.watched = {word: remedy.afresh() for word, remedy in self.terms.items()}
        self.seen, self.errors = [], torch.zeros(2, int(self.panel.joint.max()) + 1, device=self.panel.device)

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
        _, original, rows, *masks = batch
        x_hat, rows, original, *masks = as_read(outputs, rows, original, *masks)
        if len(rows) == 0:
            return
        errors = (training.narrow(x_hat) - original).square().mean(tuple(range(1, original.ndim)))
        known = self.panel.joint[rows] >= 0
        errors, of = errors[known], self.panel.joint[rows][known]
        self.errors.index_add_(1, of, torch.stack([errors, torch.ones_like(errors)]))
        watched = [remedy.measure(x_hat, rows, *masks) for remedy in self.watched.values()]
        self.seen.append({name: float(value) for measured in watched for name, value in measured.items()})

    def on_validation_epoch_end(self, trainer, module):
        if not self.seen:
            raise ValueError(
                "dataset.split: no validation image was seen at a time of guessing; validation needs more images"
            )
        last = {name: value for name, value in self.seen[-1].items() if name != "bce"}  # these are of all so far
        if "bce" in self.seen[-1]:
            last["bce"] = np.mean([measured["bce"] for measured in self.seen])
        sums, counts = self.errors[:, self.errors[1] > 0]
        if not len(counts):
            raise ValueError(
                "mitigation.attributes: no validation image has all of them, so no group can be judged; name fewer"
            )
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
        criteria = {remedy.criterion for remedy in self.remedies.values() if remedy.strength}
        loss = next(name for name in ("worst", "balanced", "loss") if name in criteria or name == "loss")
        penalties = (
            remedy.strength
            * sum(w * share[f"val_{name}"] for name, w in remedy.terms.items())
            / sum(remedy.terms.values())
            for remedy in self.terms.values()
        )
        shares = {name.replace("val_", "share_"): value for name, value in share.items()}
        return {"val_total": share[f"val_{loss}"] + sum(penalties), **shares}

    def state_dict(self) -> dict:
        states = {word: remedy.state_dict() for word, remedy in self.remedies.items()}
        return {"remedies": states, "averages": self.averages, "units": self.units}

    def load_state_dict(self, state: dict) -> None:
        self.averages, self.units = state["averages"], state["units"]
        for word, remedy in self.remedies.items():
            remedy.load_state_dict(state["remedies"][word])


def as_read(x_hat: torch.Tensor, rows: torch.Tensor, *extras: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Reconstructions as the readers will see them, their rows, and what belongs to these; without missing ones.

    They are float32 (where training is in mixed precision `x_hat` is not) within [0, 1], with the gradient of those
    before clamping.
    """
    known = ~x_hat[:, 0, 0, 0].isnan()
    x_hat = x_hat[known].float()
    return x_hat + (x_hat.clamp(0, 1) - x_hat).detach(), *(values[known] for values in (rows.long(), *extras))
