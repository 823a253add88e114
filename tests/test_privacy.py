"""What leaves a cohort's folder names no patient and no place: pseudonyms, and roots as hashes."""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from reconfair import data, params, run, store

PATIENTS = [f"Mustermann-{number:03d}" for number in range(40)]


@pytest.fixture
def hospital(tmp_path):
    """A table of forty patients with one radiograph each, and the params file of its study."""
    root, draw = tmp_path / "ward seven", np.random.default_rng(0)
    root.mkdir()
    rows = []
    for number, patient in enumerate(PATIENTS):
        ill = number % 2
        image = draw.integers(0, 100, (64, 64)) + 100 * ill * (np.arange(64) > 40)
        Image.fromarray(image.astype(np.uint8)).save(root / f"{patient}.png")
        row = {
            "path": f"{patient}.png",
            "patient_id": patient,
            "sex": "FM"[number // 2 % 2],
            "age": 40 + number,
            "ill": ill,
        }
        rows.append(row)
    pd.DataFrame(rows).to_csv(root / "cohort.csv", index=False)
    path = tmp_path / "ward.yaml"
    dataset = {"name": "table", "label": "ward", "root": str(root), "modality": "xray", "size": 64, "race": None}
    dataset |= {"tasks": {"ill": "ill"}, "split": [0.5, 0.25, 0.25], "fit": "squash"}
    classify = {"architecture": "test_resnet", "pretrained": False, "size": 32, "epochs": 1}
    sections = {"dataset": dataset, "noise": "none", "diagnosis": {"classify": classify}}
    path.write_text(yaml.safe_dump(sections | {"fairness": {"min_cases": 2, "resamples": 99}}))
    return path


def test_a_finished_run_names_no_patient_and_no_place(hospital, outputs):
    assert run.main(["run", str(hospital), "--only", "01"]) == 0
    study = params.load(hospital)
    for product in run.every_product(study):
        if product.chapter in ("04", "05") and product.folder.name != "chapters":
            store.make(product)
    files = [path for path in (outputs / "ward").rglob("*") if path.is_file() and path.parent.name != "cohort"]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        assert b"Mustermann" not in content and b"ward seven" not in content, path


def test_pseudonyms_are_the_same_on_every_machine_and_lead_back_by_the_cohort_alone(hospital, outputs, monkeypatch):
    study = params.load(hospital)
    table = data.prepare(study).table
    assert not set(PATIENTS) & set(table.patient_id)
    whole = pd.read_parquet(data.product(study).folder / "cohort.parquet")
    assert set(whole.original_patient_id) <= set(PATIENTS)
    assert whole.groupby("original_patient_id").patient_id.nunique().max() == 1
    assert (data.product(study).folder / "pseudonyms.key").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(outputs / "elsewhere"))
    assert data.prepare(study).table.patient_id.tolist() == table.patient_id.tolist()


def test_a_replaced_radiograph_makes_its_cohort_and_what_rests_on_it_stale(hospital, outputs, tmp_path, capsys):
    study = params.load(hospital)
    cohort = data.product(study)
    reader = next(
        product for product in run.every_product(study) if cohort in product.needs and product.name == "weights"
    )
    store.make(cohort)
    reader.folder.mkdir(parents=True)
    replace(reader, work=None).mark([], 1)
    path = tmp_path / "ward seven" / f"{PATIENTS[7]}.png"
    before, times = path.read_bytes(), path.stat()
    assert cohort.state == reader.state == "done"
    Image.fromarray(np.full((64, 64), np.arange(64), np.uint8)).save(path)
    assert cohort.state == "stale"
    assert run.main(["status", str(hospital)]) == 0 and "stale" in capsys.readouterr().out
    store.make(cohort)
    assert cohort.state == "done" and reader.state == "stale"
    # Of the same date and size: only a reading of its content tells.
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    date = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(date, date))
    store._checksum.cache_clear()  # as in another process
    assert cohort.state == "done" and not cohort.verify()
    path.write_bytes(before)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    store.make(cohort)
    assert cohort.verify() and reader.state == "done"
