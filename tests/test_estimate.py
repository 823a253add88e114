"""The estimate: work is counted rightly, scales as it should, and agrees with a run that was made."""

from pathlib import Path

import numpy as np
import pytest
from smallest import HELD, PARAMS
from torch import nn

from reconfair import params, run, store, training
from reconfair.run import chosen, estimate
from reconfair.run.products import every_product

DEMO_SECONDS = 240  # of `make demo` on two quiet cores


def costs(*studies, until=""):
    """Costs of the chapters up to one of some studies."""
    return [*planned(*studies, until=until).values()]


def planned(*studies, until=""):
    return estimate.costs([(study, chosen(study, until=until)) for study in studies])


def seconds(every):
    return {cost.product: cost.seconds for cost in every}


def test_operations_and_memory_of_a_convolution_are_those_by_hand():
    def build():
        return nn.Conv2d(1, 8, 3, padding=1, bias=False)

    settings, compute = {"batch_size": 10}, params.Compute(device="cpu")
    looks, trains = (training.work("of a test", build, settings, 64, 5, compute, trains) for trains in (False, True))
    assert looks.amount == pytest.approx(5 * 2 * 9 * 8 * 64 * 64 / 1e12)
    assert trains.amount == pytest.approx(3 * looks.amount)
    remembered = (4 * 64 * 64 + 4 * 9 * 8 / 2) / 1e6  # its input, and half its weights
    weights = 4 * 9 * 8 / 1e6
    assert trains.memory - looks.memory == pytest.approx(4 * weights + 1.5 * 10 * remembered)
    assert trains.disk == pytest.approx(weights) and not looks.gpu


def test_the_demo_takes_what_its_finished_run_took(outputs):
    every = costs(params.load(PARAMS / "demo.yaml", ["compute.device=cpu"]))
    assert {cost.basis for cost in every} == {"table"} and {cost.state for cost in every} == {"missing"}
    assert DEMO_SECONDS / 2 < sum(cost.seconds for cost in every) < DEMO_SECONDS * 2


def test_time_grows_with_epochs_and_levels_share_the_cohort(outputs):
    def load(*changes):
        return params.load(PARAMS / "demo.yaml", ["compute.device=cpu", *changes])

    once, twice = (seconds(costs(load(f"reconstruction.unet.epochs={n}"))) for n in (4, 8))
    assert twice["sources/unet/weights"] == pytest.approx(2 * once["sources/unet/weights"])
    assert twice["sources/unet/reconstructed"] == once["sources/unet/reconstructed"]
    names = [cost.product.rpartition("/")[2] for cost in costs(load(), load("noise.acceleration=4"), until="02")]
    assert names.count("cohort") == 1 and names.count("noisy") == 2


def test_a_gpu_that_was_never_measured_is_taken_for_an_h100(outputs):
    study = params.load(PARAMS / "demo.yaml", ["compute.device=cuda"])
    every = costs(study)
    assert {cost.basis for cost in every if cost.work.gpu} == {"H100"}
    on_gpu = {cost.product.removeprefix("phantom_mri/") for cost in every if cost.work.gpu}
    assert {"sources/unet/weights", "sources/sde/reconstructed", "readers/grade/weights"} <= on_gpu
    assert "H100:" in estimate.table(planned(study))


def test_a_finished_run_shows_what_another_level_will_cost(smallest, monkeypatch):
    pace = {"cohort": 2, "noisy": 3, "train": 50, "apply": 70, "judge": 0.2}  # seconds a unit, of a known machine
    made = {product for product in every_product(smallest) if product.fresh and product.work}
    rates = {}
    for product in made:
        work = product.work()
        rates.setdefault((work.kind, work.gpu), []).append((work.amount, pace[work.kind.split()[0]]))
    monkeypatch.setattr(store, "throughputs", lambda: rates)
    other = params.load(HELD / "study.yaml", ["noise.acceleration=4"])
    every = [cost for cost in costs(other, until="03") if "chapters" not in cost.product]
    assert {cost.basis for cost in every} == {"measured"} and len(every) == 7
    for cost in every:
        assert cost.seconds == pytest.approx(pace[cost.work.kind.split()[0]] * cost.work.amount)
    named = {(product.folder.name, product.name): product for product in made}
    for cost in every:
        folder, name = cost.product.split("/")[-2:]
        product = named[folder.replace("x4", "x8"), name]
        arrays = [np.load(path, mmap_mode="r").nbytes for path in product.folder.glob(f"{name}*.npy")]
        assert not arrays or cost.work.disk == pytest.approx(sum(arrays) / 1e6, rel=0.01)


def test_a_far_smaller_run_says_nothing(smallest):
    changes = ["dataset.size=256", "compute.device=cpu", "reconstruction.unet.channels=64"]
    bases = {cost.product: cost.basis for cost in costs(params.load(PARAMS / "phantom_mri_x8.yaml", changes))}
    assert bases["sources/unet/weights"] == "table"


def made(name, *needs, gpu=True):
    """A product of ten seconds, and what it costs."""
    product = store.Product("03", "run", Path("nowhere"), name, None, {}, needs=needs, command="")
    return product, estimate.Cost("run", name, "missing", 10.0, store.Work("kind", 1, 10.0, gpu=gpu), "H100")


def test_more_gpus_shorten_all_but_the_longest_chain():
    first = made("first", gpu=False)
    second = made("second", first[0])
    third = made("third", second[0])
    others = [made(f"other {k}", first[0]) for k in range(4)]
    every = dict([first, second, third, *others])
    # By hand: 10 s without a GPU, then six jobs of 10 s, of which the third waits for the second.
    for gpus, seconds in ((1, 70), (2, 40), (3, 30), (8, 30)):
        lines = estimate.what_if(every, [gpus]).splitlines()
        assert lines[1].split()[:3] == [str(gpus), str(seconds), "s"]
    at = lines.index("critical path, 30 s:")
    assert [line.split()[1] for line in lines[at + 1 :]] == ["first", "second", "third"]


def test_a_grid_of_many_gpus_is_estimated_on_the_command_line(outputs, capsys):
    command = ["run", str(PARAMS / "chexpert_1e4.yaml"), "--set", "compute.device=cuda"]
    assert run.main([*command, "--dry-run", "--gpus", "1,8"]) == 0
    printed = capsys.readouterr().out
    assert "critical path" in printed and "sde" in printed.split("critical path")[1]
    for wrong in ("0", "1;8", "many", "1,-8"):
        assert run.main([*command, "--dry-run", "--gpus", wrong]) == 2
        assert "--gpus" in (said := capsys.readouterr().err) and wrong in said
    assert run.main([*command, "--gpus", "8"]) == 2 and "--dry-run" in capsys.readouterr().err
