"""The estimate: work is counted rightly, scales as it should, and agrees with a run that was made."""

import numpy as np
import pytest
from smallest import HELD, PARAMS
from torch import nn

from reconfair import estimate, params, run, store

DEMO_SECONDS = 276  # of the README's run, on the machine of the table


def seconds(costs, *keys):
    return {cost.key: cost.seconds for cost in costs if cost.key in keys or not keys}


def test_operations_memory_and_weights_of_a_convolution_are_those_by_hand():
    operations, remembered, weights = estimate._measure(nn.Conv2d(1, 8, 3, padding=1, bias=False), 64)
    assert operations == pytest.approx(2 * 9 * 8 * 64 * 64 / 1e12)
    assert weights == pytest.approx(4 * 9 * 8 / 1e6)
    assert remembered == pytest.approx((4 * 64 * 64 + 4 * 9 * 8 / 2) / 1e6)  # its input, and half its weights


def test_the_demo_takes_what_its_finished_run_took(outputs):
    study = params.load(PARAMS / "demo.yaml", ["compute.device=cpu"])
    costs = estimate.estimate([study])
    assert {cost.basis for cost in costs} == {"table"} and {cost.state for cost in costs} == {"missing"}
    assert DEMO_SECONDS / 2 < sum(cost.seconds for cost in costs) < DEMO_SECONDS * 2


def test_time_grows_with_epochs_and_levels_share_the_cohort(outputs):
    def load(*changes):
        return params.load(PARAMS / "demo.yaml", ["compute.device=cpu", *changes])

    once, twice = (seconds(estimate.estimate([load(f"reconstruction.unet.epochs={n}")])) for n in (4, 8))
    assert twice["unet/model"] == pytest.approx(2 * once["unet/model"])
    assert twice["unet/reconstructed"] == once["unet/reconstructed"]
    levels = [load(), load("noise.acceleration=4")]
    keys = [cost.key for cost in estimate.estimate(levels, ["01_data", "02_noising"])]
    assert keys.count("cohort") == 1 and keys.count("noisy") == 2


def test_a_gpu_that_was_never_measured_is_called_a_guess(outputs):
    costs = estimate.estimate([params.load(PARAMS / "demo.yaml", ["compute.device=cuda"])])
    assert {cost.basis for cost in costs if cost.gpu} == {"guess"}
    assert {"unet/model", "sde/reconstructed", "diagnosis/grade"} <= {cost.key for cost in costs if cost.gpu}
    assert "supposed" in estimate.table(costs)


def test_a_finished_run_tells_what_another_level_will_cost(smallest, monkeypatch):
    run._write_resolved(smallest)
    pace = {"cohort": 2, "noisy": 3, "train": 50, "apply": 70, "judge": 0.2}  # seconds a unit, of a known machine
    took = {
        store.flow(smallest)[key]: pace.get(of.kind.split()[0], 1) * of.work
        for key, of in estimate.works(smallest).items()
    }
    real = store.Product.read_stamp
    slowed = lambda product: real(product) and {**real(product), "seconds": took[product]}  # noqa: E731
    monkeypatch.setattr(store.Product, "read_stamp", slowed)
    other = params.load(HELD / "study.yaml", ["noise.acceleration=4"])
    costs = estimate.estimate([other], ["02_noising", "03_reconstruction"])
    made = {cost.key: cost for cost in costs if not cost.key.startswith("notebooks")}
    assert {cost.basis for cost in made.values()} == {"measured"}
    for key, cost in made.items():
        product = store.flow(smallest)[key]
        assert cost.seconds == pytest.approx(took[product])
        arrays = [np.load(path, mmap_mode="r").nbytes for path in product.folder.glob(f"{product.name}*.npy")]
        assert not arrays or cost.disk == pytest.approx(sum(arrays) / 1e6, rel=0.01)


def test_a_far_smaller_run_tells_nothing(smallest):
    run._write_resolved(smallest)
    paper = params.load(
        PARAMS / "phantom_mri_x8.yaml", ["dataset.size=256", "compute.device=cpu", "reconstruction.unet.channels=64"]
    )
    bases = {cost.key: cost.basis for cost in estimate.estimate([paper], ["03_reconstruction"])}
    assert bases["unet/model"] == "table"
