"""The numbers of a small study are held: a change of the code that should not change a number does not change one.

The frozen files are in ``tests/held``. ``study.yaml`` is the study, with every reconstructor and every strategy;
``cohort``, ``predictions`` and ``quality`` are what its training leaves; ``performance`` and ``fairness`` are computed
from these committed files; ``made.json`` names the processor and the packages. Training is repeatable to the last
digit on one kind of processor only, so elsewhere that test is skipped. The judged tables hold on every machine.

A change that is meant to change the numbers writes the files anew, and its commit says why:

    python tests/test_held.py --write           train, predict and judge: every file
    python tests/test_held.py --write judged    performance and fairness alone, from the committed predictions
"""

import argparse
import json
import os
import platform
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import torch
from smallest import HELD, make_everything

from reconfair import params
from reconfair.fairness import INFERENCES, assess

TRAINED = {
    "cohort": ["image_id"],
    "predictions": ["task", "source", "strategy", "unit"],
    "quality": ["source", "strategy", "image_id"],
}  # with the columns that identify a row
_ROW = ["inference", "eodd", "task", "source", "strategy", "reader", "attribute"]
JUDGED = {"performance": [*_ROW, "group", "metric"], "fairness": [*_ROW, "metric"]}
ARMS = ("original", "noisy", "unet", "unet-eodd", "unet-thresholds", "sde")  # those judged; all would be large files
ATTRIBUTES = ("sex", "race_merged", "sex*age_group")
WAYS = [*((inference, "mean") for inference in INFERENCES), ("closed_form", "worst_case")]


def frozen(name: str) -> pd.DataFrame:
    return pd.read_parquet(HELD / f"{name}.parquet")


def processor() -> dict[str, str]:
    """Kind of this processor: its name, family and model, and the vector instructions that torch uses."""
    cpuinfo, known = Path("/proc/cpuinfo"), {"model name": platform.processor() or platform.machine()}
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().split("\n\n")[0].splitlines())
        known |= {key.strip(): value.strip() for key, _, value in lines}
    kind = {key: known[key] for key in ("model name", "cpu family", "model") if key in known}
    return kind | {"instructions": torch.backends.cpu.get_cpu_capability()}


def judged(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables ``performance`` and ``fairness`` of some sources, by every inference; thresholds are the median scores."""
    rows = {}
    for name in ("predictions", "quality"):
        arm = tables[name].source + ("-" + tables[name].strategy).where(tables[name].strategy != "standard", "")
        rows[name] = tables[name][arm.isin(ARMS) & tables[name].split.isin(["val", "test"])]
    original = rows["predictions"].query("source == 'original' and kind == 'classify'")
    settings = {"thresholds": original.groupby("task").score.median().to_dict(), "attributes": ATTRIBUTES}
    settings |= {"min_cases": 2, "resamples": 199, "seed": 3, "margins": {"eodd": 0.2, "psnr_gap": 1.5}}
    found = {"performance": [], "fairness": []}
    for inference, eodd in WAYS:
        how = {"inference": inference, "eodd": eodd}
        answer = assess(rows["predictions"], tables["cohort"], quality=rows["quality"], **settings, **how)
        for name, table in zip(found, answer, strict=True):
            if name == "fairness" or eodd == "mean":  # performance knows no EODD
                found[name].append(table.assign(**how))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


def compare(table: pd.DataFrame, name: str, absolute=0.0, relative=0.0, **tolerance: float) -> None:
    """Fail where a table differs from the frozen one: in rows, in text, or in numbers by more than the tolerance."""
    expected, keys = frozen(name), (TRAINED | JUDGED)[name]
    now, expected = (some[list(expected)].sort_values(keys, ignore_index=True) for some in (table, expected))
    pd.testing.assert_frame_equal(now[keys], expected[keys], check_dtype=False)
    for column in expected.columns.difference(keys):
        if pd.api.types.is_numeric_dtype(expected[column]):
            pair = now[column].to_numpy(float), expected[column].to_numpy(float)
            same = np.isclose(*pair, rtol=relative, atol=tolerance.get(column, absolute), equal_nan=True)
        else:
            same = (now[column] == expected[column]) | (now[column].isna() & expected[column].isna())
        differing = expected[keys].assign(now=now[column], frozen=expected[column])[~same]
        assert differing.empty, f"{name}.{column}, {len(differing)} of {len(same)} rows:\n{differing.head(10)}"


MADE = json.loads((HELD / "made.json").read_text())


@pytest.mark.skipif(
    MADE.get("processor") != processor(), reason=f"numbers were made on {MADE.get('processor')}, this is {processor()}"
)
def test_training_gives_the_frozen_predictions_and_quality(made):
    _, tables = made
    compare(tables["cohort"], "cohort")
    compare(tables["predictions"], "predictions", absolute=1e-3)
    compare(tables["quality"], "quality", ssim=1e-3, relative=1e-3)


def test_judging_the_committed_predictions_gives_the_frozen_tables():
    tables = judged({name: frozen(name) for name in TRAINED})
    for name in JUDGED:
        compare(tables[name], name, absolute=1e-9, relative=1e-9)


@pytest.mark.parametrize("model", ["unet", "pix2pix", "sde"])
def test_the_tolerance_tells_every_strategy_from_every_other(model):
    rows = frozen("predictions").query("source == @model")
    values = rows.assign(value=rows.score.fillna(rows.dice)).pivot(
        index=["task", "unit"], columns="strategy", values="value"
    )
    strategies = params.load(HELD / "study.yaml").mitigation.strategies
    for one, other in combinations(("standard", *strategies), 2):
        assert (values[one] - values[other]).abs().max() > 1e-2, f"{one} and {other}"


def write(tables: str) -> None:
    """Write the frozen files: all of them, or the judged tables alone."""
    if tables == "all":
        with TemporaryDirectory() as folder:
            os.environ["RECONFAIR_OUTPUTS"] = folder
            for name, table in make_everything(params.load(HELD / "study.yaml")).items():
                table.to_parquet(HELD / f"{name}.parquet", index=False, compression="zstd")
        versions = {package.__name__: package.__version__ for package in (torch, np)}
        (HELD / "made.json").write_text(json.dumps({"processor": processor()} | versions, indent=1) + "\n")
    for name, table in judged({name: frozen(name) for name in TRAINED}).items():
        table.to_parquet(HELD / f"{name}.parquet", index=False, compression="zstd")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the frozen files anew.")
    parser.add_argument("--write", nargs="?", const="all", choices=["all", "judged"], required=True)
    write(parser.parse_args().write)
