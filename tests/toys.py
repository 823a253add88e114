"""A dataset, a reconstructor and a remedy of a user's own, in one file that the package does not know."""

from types import MappingProxyType
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from reconfair.params import About, Dataset, Training
from reconfair.remedies.remedy import Remedy
from reconfair.training import Module


class Discs(Dataset):
    """Discs that are bright in the ill, one image a patient."""

    patients: Annotated[int, Field(ge=10)] = 80
    about: ClassVar[About] = About("mri", "patient", {"bright": "classify"}, attributes=("sex", "age_group"))

    def read_table(self) -> pd.DataFrame:
        draw, n = np.random.default_rng(self.seed), self.patients
        names = [f"disc-{k:03d}" for k in range(n)]
        sex = draw.choice(["female", "male"], n)
        people = {"image_id": names, "patient_id": names, "sex": sex, "age": draw.integers(20, 90, n), "race": None}
        return pd.DataFrame({**people, "bright": np.arange(n) % 2})

    def read_image(self, row) -> tuple[np.ndarray, None]:
        x, y = np.mgrid[: self.size, : self.size] / self.size - 0.5
        return np.where(np.hypot(x, y) < 0.3, 0.4 + 0.4 * row.bright, 0.0), None


class Toy(Module):
    """A convolution that starts as a gain of the noisy image."""

    class Settings(Training):
        epochs: Annotated[int, Field(ge=1)] = 2
        batch_size: Annotated[int, Field(ge=1)] = 16
        lr: Annotated[float, Field(gt=0)] = 1e-2
        gain: Annotated[float, Field(gt=0)] = 0.9

    def __init__(self, settings: dict, size: int):
        super().__init__()
        self.settings, self.net = settings, torch.nn.Conv2d(1, 1, 3, padding=1)
        torch.nn.init.dirac_(self.net.weight)
        self.net.weight.data *= settings["gain"]

    def forward(self, noisy):
        return self.net(noisy)

    def reconstruct(self, noisy, seeds=None):
        return self(noisy).clamp(0, 1)

    def objective(self, batch):
        x_hat = self(batch[0][:, None])
        return (x_hat[:, 0] - batch[1]).square().mean((1, 2)), x_hat

    def training_step(self, batch, batch_idx):
        return self.objective(batch)[0].mean()

    def validation_step(self, batch, batch_idx):
        losses, x_hat = self.objective(batch)
        self.log("val_loss", losses.mean(), batch_size=len(losses))
        return x_hat

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.settings["lr"])


class Shrink(Remedy):
    """Wants dark images: useless, and easily seen."""

    terms = MappingProxyType({"brightness": 1})

    def measure(self, images, rows, masks=None):
        return {"brightness": images.square().mean()}
