"""Training: keyed batches, resuming after a kill, weights that are what they say."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair import store, training
from reconfair.params import Compute
from reconfair.recon.scorenet import ScoreNet
from reconfair.recon.unet import Reconstructor

SETTINGS = {"epochs": 3, "batch_size": 4, "lr": 1e-2, "channels": 2, "depth": 2, "seed": 0}

# Trains a small U-Net on noise in processes of their own: to the end; then killed in the second epoch, after the first
# batch; then again, to go on. The processes are forked where nothing was computed yet: importing torch takes longest.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
from reconfair import training
from reconfair.params import Compute
from reconfair.recon.unet import Reconstructor

training.MOMENT = float("inf")  # no checkpoint is skipped, however slow the disk

def train(folder, dies):
    class Mortal(Reconstructor):
        def training_step(self, batch, batch_idx):
            if dies and self.current_epoch == 1 and batch_idx == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().training_step(batch, batch_idx)

    torch.manual_seed(0)
    module = Mortal({settings}, 16)
    x = np.random.default_rng(0).random((16, 16, 16), np.float32)
    rows = np.arange(12)
    train = training.loader((x, x ** 2), rows, 4, 0)
    val = training.loader((x, x ** 2), np.arange(12, 16), 4, shuffle=False)
    training.fit(module, train, val, Path(folder), 3, Compute(device="cpu", workers=1), "test")

for folder, dies in ((sys.argv[1], False), (sys.argv[2], True), (sys.argv[2], False)):
    Path(folder).mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        train(folder, dies)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len((Path(folder) / "log.csv").read_text().splitlines()) - 1)
"""


def test_a_killed_training_ends_with_the_weights_of_one_never_killed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    script = SCRIPT.replace("{settings}", str(SETTINGS))
    command = [sys.executable, "-W", "ignore", "-c", script, str(whole), str(killed)]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    ended = [[int(number) for number in line.split()] for line in ran.stdout.splitlines()]
    assert ended == [[0, 3], [-signal.SIGKILL, 1], [0, 3]], ran.stderr  # exit status and epochs logged
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


def fitted(folder, module=None, epochs=4, **compute):
    x = np.random.default_rng(0).random((16, 16, 16), np.float32)
    train, val = (
        training.loader((x, x**2), rows, 4, shuffle=len(rows) > 4) for rows in (np.arange(12), np.arange(12, 16))
    )
    torch.manual_seed(0)
    module = module or Reconstructor(SETTINGS, 16)
    training.fit(module, train, val, folder, epochs, Compute(device="cpu", workers=1, **compute), "test")
    return torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]


def test_epochs_shorter_than_their_checkpoints_do_not_each_write_one(tmp_path, monkeypatch):
    each, seldom, resumed = (tmp_path / name for name in ("each", "seldom", "resumed"))
    for folder in (each, seldom, resumed):
        folder.mkdir()
    best = fitted(each)
    monkeypatch.setattr(training, "MOMENT", 0)
    monkeypatch.setattr(training, "SHARE", 0)
    rare = fitted(seldom)
    ends = [torch.load(folder / ".last.ckpt", weights_only=True)["epoch"] for folder in (each, seldom)]
    assert ends == [3, 0]
    (seldom / ".last.ckpt").rename(resumed / ".last.ckpt")
    again = fitted(resumed)
    for name, value in best.items():
        assert torch.equal(rare[name], value) and torch.equal(again[name], value), name
    logs = [pd.read_csv(folder / "log.csv") for folder in (each, seldom, resumed)]
    for log in logs[1:]:
        pd.testing.assert_frame_equal(logs[0], log)


def test_what_was_best_is_written_also_when_training_fails_between_checkpoints(tmp_path, monkeypatch):
    class Diverges(Reconstructor):
        def objective(self, batch):
            loss, x_hat = super().objective(batch)
            return loss * (float("nan") if self.training and self.current_epoch == 3 else 1), x_hat

    monkeypatch.setattr(training, "MOMENT", 0)
    monkeypatch.setattr(training, "SHARE", 0)
    with pytest.raises(FloatingPointError, match="epoch 4, step 1"):
        fitted(tmp_path, Diverges(SETTINGS, 16))
    log = pd.read_csv(tmp_path / "log.csv")
    assert log.epoch.tolist() == [1, 2, 3]
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == log.epoch[log.val_loss.idxmin()] > 1


def test_a_loss_that_is_not_finite_is_named_by_its_own_step_however_late_it_is_read(tmp_path):
    class Diverges(Reconstructor):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * (float("inf") if batch_idx == 1 else 1)

    with pytest.raises(FloatingPointError, match=r"epoch 1, step 2\b"):
        fitted(tmp_path, Diverges(SETTINGS, 16))


def test_networks_are_compiled_where_that_is_asked_for(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: compiled.append(type(network).__name__))
    fitted(tmp_path, epochs=1)
    assert not compiled
    (tmp_path / ".last.ckpt").unlink()
    fitted(tmp_path, epochs=1, compile=True)
    assert compiled == ["UNet"]


def test_a_gpu_turns_no_images_round_for_group_normalisation():
    plain, grouped = Reconstructor(SETTINGS, 16), ScoreNet(8, 2)
    assert training.layout(plain, "cuda") == training.layout(grouped, "cpu") == torch.channels_last
    assert training.layout(grouped, "cuda") == torch.contiguous_format
    assert training.layout(grouped, "cuda", compiled=True) == torch.channels_last


@pytest.mark.parametrize("damage", ["truncated", "other network"])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, damage):
    path, other = tmp_path / "best.ckpt", {**SETTINGS, "channels": 4}
    torch.save({"state_dict": Reconstructor(SETTINGS, 16).state_dict()}, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"best\.ckpt"):
        training.load(path, Reconstructor(other if damage == "other network" else SETTINGS, 16))


def test_loaded_weights_are_frozen_and_in_eval_mode(tmp_path):
    torch.save({"state_dict": Reconstructor(SETTINGS, 16).state_dict()}, tmp_path / "best.ckpt")
    module = training.load(tmp_path / "best.ckpt", Reconstructor(SETTINGS, 16))
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.fixture
def two_threads():
    """A machine on which torch computes with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("workers", "threads"), [(0, 2), (1, 1)])
def test_the_number_of_threads_can_be_fixed_and_is_in_the_stamp(tmp_path, workers, threads):
    def write(folder):
        answers = training.apply(lambda x: x.mean((1, 2, 3)), np.ones((5, 8, 8)), range(5), compute, "mean")
        np.save(folder / "answers.npy", np.concatenate([values for _, values in answers]))

    compute = Compute(device="cpu", workers=workers)
    made = store.Product("04", "run", tmp_path, "answers", write)
    store.make(made)
    assert made.read_stamp()["threads"] == torch.get_num_threads() == threads
