"""Training: keyed batches, resuming after a kill, weights that are what they say."""

import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair import training
from reconfair.params import Compute
from reconfair.recon.unet import Reconstructor

SETTINGS = {"epochs": 3, "batch_size": 4, "lr": 1e-2, "channels": 2, "depth": 2, "seed": 0}

# Trains a small U-Net on noise; with an argument it kills itself in the second epoch, after the first batch.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
from reconfair import training
from reconfair.params import Compute
from reconfair.recon.unet import Reconstructor

class Mortal(Reconstructor):
    def training_step(self, batch, batch_idx):
        if len(sys.argv) > 2 and self.current_epoch == 1 and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)

settings = {settings}
torch.manual_seed(0)
module = Mortal(settings, 16)
x = np.random.default_rng(0).random((16, 16, 16), np.float32)
rows = np.arange(12)
train = training.loader((x, x ** 2), rows, 4, 0)
val = training.loader((x, x ** 2), np.arange(12, 16), 4, shuffle=False)
training.fit(module, train, val, Path(sys.argv[1]), 3, Compute(device="cpu", workers=1), "test")
"""


def run(folder, *arguments) -> int:
    folder.mkdir(exist_ok=True)
    script = SCRIPT.format(settings=SETTINGS)
    return subprocess.run([sys.executable, "-W", "ignore", "-c", script, str(folder), *arguments]).returncode


def test_a_killed_training_ends_with_the_weights_of_one_never_killed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(whole) == 0
    assert run(killed, "die") == -signal.SIGKILL
    assert len(pd.read_csv(killed / "log.csv")) == 1
    assert run(killed) == 0
    for name in ("best.ckpt", ".last.ckpt"):
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (whole, killed))
        for key, value in ours["state_dict"].items():
            assert torch.equal(value, theirs["state_dict"][key]), key
    pd.testing.assert_frame_equal(pd.read_csv(whole / "log.csv"), pd.read_csv(killed / "log.csv"))


def test_batches_depend_on_seed_and_epoch_alone():
    batches = training.Batches(np.arange(10), 4, seed=3)
    first = [batch.tolist() for batch in batches]
    assert [batch.tolist() for batch in batches] == first
    assert sorted(np.concatenate(list(batches))) == list(range(10))
    batches.set_epoch(1)
    assert [batch.tolist() for batch in batches] != first
    assert len(batches) == 3


def test_weights_draw_rows_in_their_shares():
    weights = np.array([1, 1, 2, 4])
    batches, drawn = training.Batches(np.arange(4), 4, 0, weights), []
    for epoch in range(2000):
        batches.set_epoch(epoch)
        drawn += list(batches)
    drawn = np.concatenate(drawn)
    share = np.bincount(drawn) / len(drawn)
    assert np.abs(share - weights / 8).max() < 4 * np.sqrt(0.25 / len(drawn))


def test_rows_come_in_the_order_asked_for():
    values = np.arange(20.0)
    (got,) = training.Rows(values)[np.array([7, 3, 3, 19])]
    assert got.tolist() == [7, 3, 3, 19]


def test_a_loss_that_is_not_finite_stops_with_its_place_and_keeps_the_last_epoch(tmp_path):
    class Diverges(Reconstructor):
        def objective(self, batch):
            loss, x_hat = super().objective(batch)
            return loss * (float("nan") if self.training and self.current_epoch == 1 else 1), x_hat

    x = np.zeros((8, 16, 16), np.float32)
    loaders = [training.loader((x, x), np.arange(8), 4, shuffle=False) for _ in range(2)]
    with pytest.raises(FloatingPointError, match="epoch 2, step 1"):
        training.fit(Diverges(SETTINGS, 16), *loaders, tmp_path, 3, Compute(device="cpu"), "unet")
    assert pd.read_csv(tmp_path / "log.csv").epoch.tolist() == [1]
    training.load(tmp_path / "best.ckpt", Reconstructor(SETTINGS, 16))


@pytest.mark.parametrize("damage", ["truncated", "other network"])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, damage):
    path, other = tmp_path / "best.ckpt", {**SETTINGS, "channels": 4}
    torch.save({"state_dict": Reconstructor(SETTINGS, 16).state_dict()}, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"best\.ckpt: not the weights of this network"):
        training.load(path, Reconstructor(other if damage == "other network" else SETTINGS, 16))


def test_loaded_weights_are_frozen_and_in_eval_mode(tmp_path):
    torch.save({"state_dict": Reconstructor(SETTINGS, 16).state_dict()}, tmp_path / "best.ckpt")
    module = training.load(tmp_path / "best.ckpt", Reconstructor(SETTINGS, 16))
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())
