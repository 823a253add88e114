"""The notebooks themselves, executed for both demos at their smallest size."""

import json
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
import yaml
from nbclient import NotebookClient
from smallest import PARAMS, SMALLEST

from reconfair import params, run, store, tables

FIGURES = {
    "01": ["groups", "ages", "montage", "prevalence"],
    "02": ["physics", "texture", "published", "as_published", "psnr_by_group", "ssim_by_group"],
    "03": ["adversaries", "path", "learning", "reconstructions", "tradeoff"],
    "04": ["learning", "threshold", "roc", "calibration", "groups", "errors"],
    "05": [
        "performance",
        "decisions",
        "chance",
        "swap",
        "p_values",
        "shift_eodd",
        "histogram",
        "groups",
        "groups_psnr",
    ],
    "06": ["reweight", "dro", "soft", "adversary", "strengths", "performance", "shift_eodd", "groups_psnr"],
    "10": [
        "framework",
        "examples",
        "verdicts",
        "against_noise",
        "shift_histogram",
        "shift_eodd",
        "standard_errors",
        "cost",
    ],
}


@pytest.mark.parametrize("demo", SMALLEST)
def test_every_notebook_runs_and_leaves_its_products(demo, outputs, capsys):
    overrides = [word for override in SMALLEST[demo] for word in ("--set", override)]
    assert run.main(["run", str(PARAMS / f"{demo}.yaml"), *overrides]) == 0
    said = capsys.readouterr().out
    assert said.count(" ran ") == len(store.CHAPTERS) and "10_report.html" in said

    study = params.load(PARAMS / f"{demo}.yaml", SMALLEST[demo])
    states = {key: product.state for key, product in store.flow(study).items()}
    assert set(states.values()) == {"done"}, states
    folder = outputs / study.name
    for notebook in store.CHAPTERS:
        copy = nbformat.read(folder / "notebooks" / f"{notebook}.ipynb", 4)
        assert not any(output.output_type == "error" for cell in copy.cells for output in cell.get("outputs", ()))
        assert (folder / "notebooks" / f"{notebook}.html").stat().st_size > 10_000
        for figure in FIGURES[notebook[:2]]:
            assert (folder / "figures" / f"{notebook[:2]}_{figure}.png").stat().st_size > 2_000
    for name in tables.SCHEMAS:
        assert {path.suffix for path in (folder / "tables").glob(f"{name}.*")} == {".parquet", ".csv"}
    assert "In a minute" in (folder / "notebooks" / "10_report.html").read_text()
    assert "notebooks/10_report.html" in (outputs / "index.html").read_text()
    resolved = yaml.safe_load((folder / "study.yaml").read_text())
    assert resolved["dataset"]["seed"] == 0 and "torch" in resolved["versions"]

    # With nothing changed, nothing runs; with prose changed elsewhere, nothing is trained.
    assert run.main(["run", str(PARAMS / f"{demo}.yaml"), *overrides]) == 0
    assert capsys.readouterr().out.count(" fresh ") == len(store.CHAPTERS)


def test_a_notebook_runs_three_ways_to_the_same_product(outputs, tmp_path):
    """As it stands in Jupyter, by plain papermill with the demo's file, and by the runner."""
    source, path = store.NOTEBOOKS / "01_data.ipynb", PARAMS / "demo.yaml"
    execute = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to",
        "notebook",
        "--execute",
        str(source),
        "--output-dir",
        str(tmp_path),
    ]
    subprocess.run(execute, check=True, capture_output=True)
    cohort = store.flow(params.load(path))["cohort"]
    stamps = [cohort.read_stamp()]
    papermill = [sys.executable, "-m", "papermill", str(source), str(tmp_path / "out.ipynb"), "-f", str(path)]
    subprocess.run(papermill, check=True, capture_output=True, cwd=store.NOTEBOOKS)
    stamps.append(cohort.read_stamp())
    assert run.main(["run", str(path), "--only", "01"]) == 0
    stamps.append(cohort.read_stamp())
    assert cohort.fresh and stamps[0] == stamps[1] == stamps[2]


def test_the_appendix_shows_the_stored_studies_of_every_scenario():
    copy = nbformat.read(store.NOTEBOOKS / "A1_calibration.ipynb", 4)
    NotebookClient(copy, timeout=300).execute()
    outputs = [output for cell in copy.cells for output in cell.get("outputs", ())]
    studies = (
        pd.read_csv(store.PACKAGE.parent / "benchmarks" / "results" / "calibration.csv")
        .groupby("scenario")
        .studies.sum()
    )
    assert outputs[0].text.startswith(f"{len(studies)} scenarios, {min(studies):.0f} to")
    assert min(studies) >= 2000 and sum("image/png" in output.get("data", {}) for output in outputs) == 5


def test_the_appendix_on_mitigation_shows_what_the_experiment_left():
    copy = nbformat.read(store.NOTEBOOKS / "A2_mitigation.ipynb", 4)
    NotebookClient(copy, timeout=300).execute()
    outputs = [output for cell in copy.cells for output in cell.get("outputs", ())]
    results = store.PACKAGE.parent / "benchmarks" / "results"
    rows = pd.read_csv(results / "mitigation.csv")
    assert rows.seed.nunique() > 1 and "held-out seeds" in outputs[0].data["text/plain"]
    of_sde = sum((results / f"mitigation_{part}.csv").exists() for part in ("times", "path"))
    figures = 2 + of_sde + rows[rows.seed > 0].scenario.str.endswith("small").any()
    assert sum("image/png" in output.get("data", {}) for output in outputs) == figures


def test_pairing_of_a_changed_script_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "NOTEBOOKS", tmp_path)
    script = tmp_path / "01_data.py"
    script.write_text((run.store.PACKAGE.parent / "notebooks" / "01_data.py").read_text())
    assert run.main(["pairs"]) == 1 and "differs" in capsys.readouterr().out
    assert run.main(["pairs", "--write"]) == 0 and run.main(["pairs"]) == 0
    script.write_text(script.read_text().replace("who is in the study?", "who is here?"))
    assert run.main(["pairs"]) == 1
    assert json.loads(script.with_suffix(".ipynb").read_text())["nbformat"] == 4
