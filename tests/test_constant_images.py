"""Black slices: an image of one value passes through every chapter, is counted, and enters no mean."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from reconfair import params, run

PATIENTS, BLACK = 90, 18
SECTIONS = {
    "noise": {"kind": "kspace", "acceleration": 4},
    "reconstruction": {"models": ["unet"], "unet": {"channels": 4, "depth": 2, "epochs": 2}},
    "diagnosis": {
        "classify": {"architecture": "test_resnet", "pretrained": False, "size": 32, "epochs": 2, "lr": 5e-3}
    },
    "fairness": {"resamples": 99, "min_cases": 2},
    "mitigation": {"strategies": ["reweight", "thresholds"], "attributes": ["sex"], "epochs": 1},
    "compute": {"device": "cpu", "workers": 1},
}


@pytest.fixture
def scans(tmp_path):
    """A table of discs, bright in the ill; every fifth image is black."""
    draw, (x, y) = np.random.default_rng(0), np.mgrid[:32, :32] / 32 - 0.5
    ill, black = np.arange(PATIENTS) % 2, np.arange(PATIENTS) % (PATIENTS // BLACK) == 0
    for k in range(PATIENTS):
        disc = np.where(np.hypot(x, y) < 0.3, 100 + 100 * ill[k] + draw.integers(-20, 20), 0) * (not black[k])
        Image.fromarray(disc.astype(np.uint8)).save(tmp_path / f"{k}.png")
    people = {"sex": draw.choice(["female", "male"], PATIENTS), "age": draw.integers(20, 90, PATIENTS), "label": ill}
    names = {"path": [f"{k}.png" for k in range(PATIENTS)], "patient_id": [f"p{k}" for k in range(PATIENTS)]}
    pd.DataFrame(names | people).to_csv(tmp_path / "cohort.csv", index=False)
    return {
        "name": "table",
        "label": "black",
        "root": str(tmp_path),
        "size": 32,
        "split": [0.5, 0.2, 0.3],
        "race": None,
    }


@pytest.mark.slow
def test_black_images_pass_through_every_chapter(scans, tmp_path, monkeypatch):
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(tmp_path / "outputs"))
    file = tmp_path / "black.yaml"
    file.write_text(yaml.safe_dump({"dataset": scans, **SECTIONS}))
    assert run.main(["run", str(file)]) == 0
    study = params.load(file)
    cohort = tmp_path / "outputs" / "black" / "cohort" / "cohort.parquet"
    images = pd.read_parquet(cohort)
    test, dark = images[images.split == "test"], np.load(cohort.with_name("images.npy")).max(axis=(1, 2)) == 0
    black = images.image_id[dark & (images.split == "test")]
    assert dark.sum() == BLACK and len(black) > 0
    performance = pd.read_parquet(tmp_path / "outputs" / study.name / "export" / "performance.parquet")
    psnr = performance.query("metric == 'psnr' and attribute == 'all'")
    assert set(psnr.source) == {"noisy", "unet"} and np.isfinite(psnr.value).all()
    assert set(psnr.n) == {len(test) - len(black)}  # every source on the same images
    assert psnr.note.str.contains(f"{len(black)} images").all()
    auroc = performance.query("metric == 'auroc' and attribute == 'all'")
    assert len(auroc) > 0 and set(auroc.n) == {len(test)}  # a black image is diagnosed like any other
    page = (tmp_path / "outputs" / study.name / "chapters" / "02_noising.html").read_text()
    assert "infinite" in page
