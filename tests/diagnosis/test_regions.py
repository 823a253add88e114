"""Masks of several regions: each is a task, with a segmenter and rows of its own."""

import numpy as np
import pandas as pd
import pytest
import torch

from reconfair import data, diagnosis, fair_diagnosis, params
from reconfair.params import ORIGINAL, Reader
from reconfair.remedies.eodd import SoftEODD
from reconfair.remedies.remedy import Panel

SEGMENT = {"encoder": "tu-test_resnet", "decoder": [8] * 5, "pretrained": False, "epochs": 1, "batch_size": 8}


def heart(folder, patients=20, values=(1, 2)):
    """A bright disc (of the first value) within a grey ring (of the second), and the table that lists them."""
    draw, (y, x) = np.random.default_rng(0), np.mgrid[:32, :32]
    for k in range(patients):
        apart = np.hypot(y - 16, x - 16 - k % 3)
        mask = np.where(apart < 5, values[0], np.where(apart < 8, values[1], 0)).astype(np.uint8)
        mask[:2, :2] = 7  # a value that no label names
        np.save(folder / f"i{k}.npy", 0.1 * draw.random((32, 32)) + 0.8 * (apart < 5) + 0.4 * (apart < 8))
        np.save(folder / f"m{k}.npy", mask)
    rows = {"path": [f"i{k}.npy" for k in range(patients)], "mask": [f"m{k}.npy" for k in range(patients)]}
    rows |= {"patient_id": range(patients), "sex": ["f", "m"] * (patients // 2)}
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)


def study(folder, labels=None, **sections):
    mask = {"column": "mask", "labels": labels or {1: "lv", 2: "myo"}}
    dataset = {"name": "table", "label": "heart", "root": str(folder), "size": 32, "split": [0.4, 0.3, 0.3]}
    dataset |= {"age": None, "race": None, "tasks": {}, "mask": mask}
    how = {"fairness": {"min_cases": 2, "resamples": 99}, "diagnosis": {"segment": SEGMENT}}
    return params.study(dataset=dataset, noise="none", **how, **sections)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny study of two regions with all its readers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(tmp_path_factory.mktemp("regions")))
        folder = tmp_path_factory.mktemp("scans")
        heart(folder)
        chosen = study(folder, readers={"strategies": ["oversample", "crop", "cascade"], "attributes": ["sex"]})
        fair_diagnosis.train(chosen)
        yield chosen


def test_each_region_is_a_task_that_learns_from_its_own_pixels(made):
    assert made.tasks == {"lv": "segment", "myo": "segment"}
    cohort = data.load(made)
    assert cohort.masks.shape == (20, 2, 32, 32) and not (cohort.masks[:, 0] & cohort.masks[:, 1]).any()
    for network, pixels in zip(made.networks, ([1, 0], [0, 1]), strict=True):
        target = diagnosis.training_set(made, network).target
        assert [target[0, 16, 16], target[0, 16, 22]] == pixels and not target[:, :2, :2].any()


def test_readers_answer_for_each_region(made):
    cohort = data.load(made)
    rows = data.rows(cohort.table, "eval")
    truth = {task: made.dataset.region(cohort.masks, task)[rows].sum((1, 2)) for task in made.tasks}
    for strategy in ("standard", "oversample", "crop", "cascade"):
        table = diagnosis.predict(made, "original", strategy)
        for task in made.tasks:
            some = table[table.task == task].set_index("unit").loc[cohort.table.image_id.iloc[rows]]
            assert some.outlined.to_numpy() == pytest.approx(truth[task])
    windows = fair_diagnosis.windows(made).set_index(["network", "reader"])
    assert windows.height["lv", "crop"] < windows.height["myo", "crop"]
    measures = fair_diagnosis.measured(made)
    assert {*measures.task} == {"lv", "myo"} and measures.value[measures.metric == "dice_median"].notna().all()


def test_frozen_readers_find_the_region_of_the_same_name_elsewhere(made, tmp_path):
    heart(tmp_path, values=(2, 1))
    other = study(tmp_path, {1: "myo", 2: "lv"})
    other = other.model_copy(update={"dataset": other.dataset.model_copy(update={"label": "elsewhere"})})
    assert other.dataset.about.regions == ("myo", "lv")
    inside, outside = (diagnosis.evaluate_on(made, one, "crop") for one in (made, other))
    for task in made.tasks:
        pixels = [table[table.task == task].outlined.median() for table in (inside, outside)]
        assert pixels[0] == pytest.approx(pixels[1], abs=2)


def test_the_soft_dice_of_mitigation_is_that_of_the_region(made):
    cohort, rows = data.load(made), torch.arange(6)
    seen = cohort.table.assign(sex=["female", "male"] * 10)

    def networks():
        return {network: diagnosis.load(made, network) for network in made.networks}

    regions = made.dataset.about.regions
    panel = Panel(seen, cohort.masks, made.tasks, ["sex"], {}, networks, (1, 32, 32), "cpu", regions)
    masks, images = torch.tensor(np.asarray(cohort.masks[:6], np.float32)), torch.rand(6, 1, 32, 32)
    both = SoftEODD(panel, rows, 1.0).measure(images, rows, masks)["bce"].item()
    alone = [
        network.criterion(network(images), masks[:, k]).item() for k, network in enumerate(panel.networks.values())
    ]
    assert both == pytest.approx(np.mean(alone), rel=1e-4) and alone[0] != pytest.approx(alone[1], rel=1e-3)
    cohort_masks = np.array(cohort.masks)
    cohort_masks[3, 1] = 0
    panel = Panel(seen, cohort_masks, made.tasks, ["sex"], {}, networks, (1, 32, 32), "cpu", regions)
    assert panel.labels[3].isnan().tolist() == [False, True]


def test_a_region_that_no_mask_has_is_named_with_the_values_there_are(tmp_path, outputs):
    heart(tmp_path)
    with pytest.raises(ValueError, match=r"dataset\.mask\.labels.*'rv'.*0, 1, 2, 7"):
        data.prepare(study(tmp_path, {1: "lv", 3: "rv"}))


def test_cohorts_of_one_region_are_as_they_were(made):
    mask = params.study(dataset={"name": "sunnybrook"}, noise="none").dataset.settings["mask"]
    assert "labels" not in mask and made.dataset.settings["mask"]["labels"] == {"1": "lv", "2": "myo"}
    product = diagnosis.weights(made, Reader(made.networks[0]))
    assert product.parameters["tasks"] == ["lv"] and diagnosis.images_of(made, ORIGINAL) == data.product(made)
