"""The notebooks themselves: run for both demos at their smallest size, opened alone, and one after the other."""

import ast
import json
import re
import subprocess
import sys
from itertools import product

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from nbclient import NotebookClient
from PIL import Image
from smallest import PARAMS, SMALLEST

from reconfair import noise, params, run, store, tables
from reconfair.run import notebooks
from reconfair.run.products import CHAPTERS, FOLDER, chapters, every_product

FIGURES = {
    "01": ["groups", "ages", "montage", "prevalence"],
    "02": ["physics", "texture", "published", "as_published", "psnr_by_group", "ssim_by_group"],
    "03": ["adversaries", "forward", "path", "learning", "reconstructions", "tradeoff"],
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
    "06": ["reweight", "dro", "soft", "adversary", "strengths", "performance", "shift_eodd", "tradeoff", "groups_psnr"],
    "07": ["game", "spaces", "readers"],
    "08": ["cells", "diffusion", "guidance", "balance", "pair", "nearest", "ratio"],
    "09": ["grid_grade_sex", "front_grade_sex"],
    "10": [
        "framework",
        "examples",
        "verdicts",
        "against_noise",
        "shift_histogram",
        "shift_eodd",
        "interval_lengths",
        "group_changes",
        "cost",
    ],
}
NOTHING_MENDED = [  # params files without mitigation
    "gallery_1e4",
    "ham10000_originals_synthesis",
    "ham10000_sigma-0.2_small",
    "lgg_originals_synthesis",
    "nih_originals_synthesis",
    "sunnybrook_x8_pathology",
]
# The base of a notebook opened by hand, made smaller still: the same code in seconds.
TINY = {
    "dataset": {"label": "tiny", "patients": 80},
    "reconstruction": {
        "unet": {"channels": 4, "epochs": 1},
        "pix2pix": {"channels": 4, "epochs": 1},
        "sde": {"epochs": 1, "evaluations": 3},
    },
    "diagnosis": {"classify": {"epochs": 1, "size": 32}, "segment": {"epochs": 1}},
    "fairness": {"resamples": 99, "min_cases": 2},
    "mitigation": {"epochs": 1},
    "readers": {"strategies": ["fairread", "cascade"], "fairread": {"epochs": 1, "refusion_epochs": 1, "latent": 8}},
    "synthesis": {"baselines": [], "min_images": 1, "iterations": 4, "tuning": 2, "pairs": 4, "judged": 4, "steps": 2},
}


def opened(chapter, folder):
    """Execute a notebook as one does who opens it, but for the settings in its parameters cell; return the copy."""
    [path] = FOLDER.glob(f"{chapter}_*.ipynb")
    copy = nbformat.read(path, 4)
    [cell] = [cell for cell in copy.cells if "parameters" in cell.metadata.get("tags", ())]
    lines = cell.source.splitlines()
    for k, line in enumerate(lines):
        key, value = line.split(" = ")
        if key in TINY and isinstance(changes := ast.literal_eval(value), dict):
            lines[k] = f"{key} = {changes | TINY[key]!r}"
    cell.source = "\n".join(lines)
    NotebookClient(copy, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return copy


@pytest.mark.parametrize("demo", ["demo", pytest.param("demo_xray", marks=pytest.mark.slow)])
def test_every_notebook_runs_and_leaves_its_products(demo, outputs, capsys):
    """All cells run, those of the exercises as well, although a run leaves these out."""
    overrides = [word for override in SMALLEST[demo] for word in ("--set", override)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "EXERCISE", "no tag")
        assert run.main(["run", str(PARAMS / f"{demo}.yaml"), *overrides]) == 0
    printed = capsys.readouterr().out
    study = params.load(PARAMS / f"{demo}.yaml", SMALLEST[demo])
    assert printed.count(" ran ") == len(chapters(study)) and "10_report.html" in printed
    states = {one.key: one.state for one in every_product(study)}
    assert set(states.values()) == {"done"}, states
    folder = outputs / study.name
    for notebook in chapters(study):
        copy = nbformat.read(folder / "chapters" / f"{notebook}.ipynb", 4)
        assert not any(output.output_type == "error" for cell in copy.cells for output in cell.get("outputs", ()))
        assert all(cell.execution_count for cell in copy.cells if cell.cell_type == "code")
        assert (folder / "chapters" / f"{notebook}.html").stat().st_size > 10_000
        for figure in FIGURES[notebook[:2]]:
            drawn = folder / ("exhibits" if notebook == "10_report" else "chapters/figures")
            name = figure if notebook == "10_report" else f"{notebook[:2]}_{figure}"
            assert (drawn / f"{name}.png").stat().st_size > 2_000
    for name in tables.SCHEMAS if study.grid and study.synthesis else ():
        assert {path.suffix for path in (folder / "export").glob(f"{name}.*")} == {".parquet", ".csv"}
    resolved = yaml.safe_load((folder / "run.yaml").read_text())
    assert resolved["dataset"]["seed"] == 0 and "torch" in resolved["versions"]

    # With nothing changed, nothing runs.
    assert run.main(["run", str(PARAMS / f"{demo}.yaml"), *overrides]) == 0
    assert capsys.readouterr().out.count(" fresh ") == len(chapters(study))

    # A run leaves the exercises out.
    copy = next(one for one in every_product(study) if one.name == "01_data")
    copy.stamp.unlink()
    assert run.main(["run", str(PARAMS / f"{demo}.yaml"), *overrides, "--only", "01"]) == 0
    cells = nbformat.read(copy.folder / "01_data.ipynb", 4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.execution_count is None] == [
        cell for cell in code if "exercise" in cell.metadata.get("tags", ())
    ]


UNUSUAL = {  # a study that misses what most have, and the chapters that would notice
    "masks alone, no noise": (
        {
            "dataset": {"name": "phantom_mri", "size": 64, "patients": 60, "slices": 1, "split": [0.5, 0.25, 0.25]},
            "noise": "none",
            "diagnosis": {
                "tasks": ["tumour"],
                "segment": {"encoder": "tu-test_resnet", "decoder": [8] * 5, "pretrained": False, "epochs": 1},
            },
        },
        ("01", "04", "05"),
    ),
    "Gaussian noise": (
        {
            "dataset": {"name": "phantom_mri", "size": 64, "patients": 40, "slices": 1, "split": [0.5, 0.25, 0.25]},
            "noise": {"kind": "gaussian", "sigma": 0.1},
            "reconstruction": {"models": ["unet"], "unet": {"channels": 4, "depth": 2, "epochs": 1}},
            "diagnosis": {"tasks": ["grade"], "classify": {"architecture": "test_resnet", "pretrained": False}},
        },
        ("02",),
    ),
    "no sex, no age, no race": (
        {
            "dataset": {"name": "table", "size": 32, "sex": None, "age": None, "race": None}
            | {"attributes": {"hospital": "site"}, "training": "shared", "split": [0.4, 0.3, 0.3]},
            "noise": "none",
            "diagnosis": {"classify": {"architecture": "test_resnet", "pretrained": False, "epochs": 1}},
        },
        ("01", "05"),
    ),
}


@pytest.mark.parametrize(("sections", "asked"), UNUSUAL.values(), ids=UNUSUAL)
def test_chapters_run_for_studies_that_miss_what_most_have(sections, asked, outputs, tmp_path, capsys):
    draw, table = np.random.default_rng(0), pd.DataFrame({"patient_id": [f"p{k}" for k in range(60)]})
    table = table.assign(path=table.patient_id + ".png", site=list("ABC") * 20, label=draw.integers(2, size=60))
    for row in table.itertuples():
        Image.fromarray(np.uint8(draw.integers(60, 120, (32, 32)) + 90 * row.label)).save(tmp_path / row.path)
    table.to_csv(tmp_path / "cohort.csv", index=False)
    sections = sections | {"fairness": {"min_cases": 2, "resamples": 99}}
    root = {"root": str(tmp_path)} if sections["dataset"]["name"] == "table" else {}
    path = tmp_path / "unusual.yaml"
    path.write_text(yaml.safe_dump(sections | {"dataset": sections["dataset"] | root}))
    for chapter in asked:
        assert run.main(["run", str(path), "--only", chapter]) == 0, capsys.readouterr()


@pytest.mark.slow
def test_a_chapter_opened_alone_makes_all_it_needs_and_the_others_use_it(outputs):
    """Three chapters in an empty store each, then the rest over what the last of them left."""
    folder = FOLDER
    for chapter in ("02", "04", "06", "07"):
        root = outputs / chapter
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RECONFAIR_OUTPUTS", str(root))
            copy = opened(chapter, folder)
        assert "Making" in "".join(text_of(copy)) and tables_in_a_row(copy) == []
        assert (root / "tiny" / "cohort" / "cohort.product.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(outputs / "06"))
        stamps = {path: path.read_text() for path in (outputs / "06").rglob("weights.product.json")}
        for chapter in ("01", "03", "05", "08", "09", "10"):
            copy = opened(chapter, folder)
            assert chapter in ("05", "09", "10") or tables_in_a_row(copy) == []
        assert stamps and all(path.read_text() == text for path, text in stamps.items())


@pytest.mark.slow
def test_a_notebook_runs_three_ways_to_the_same_product(outputs, tmp_path):
    """As it stands in Jupyter, by plain papermill with the file of its base, and by the runner."""
    source, path = FOLDER / "01_data.ipynb", PARAMS / "class.yaml"
    python = [sys.executable, "-m"]
    convert = ["nbconvert", "--to", "notebook", "--execute", str(source), "--output-dir", str(tmp_path)]
    subprocess.run([*python, *convert], check=True, capture_output=True)
    [cohort] = [one for one in every_product(params.load(path)) if one.name == "cohort"]
    stamps = [cohort.read_stamp()]
    papermill = ["papermill", str(source), str(tmp_path / "out.ipynb"), "-f", str(path)]
    subprocess.run([*python, *papermill], check=True, capture_output=True, cwd=FOLDER)
    stamps.append(cohort.read_stamp())
    assert run.main(["run", str(path), "--only", "01"]) == 0
    stamps.append(cohort.read_stamp())
    assert cohort.fresh and stamps[0] == stamps[1] == stamps[2]


@pytest.mark.parametrize("script", sorted(FOLDER.glob("0[1-9]_*.py")), ids=lambda path: path.stem)
def test_every_chapter_keeps_the_rhythm(script):
    """Goals and minutes first; then predictions, limits, three things to take away, and exercises."""
    cells = json.loads(notebooks.pair(script))["cells"]
    text = ["".join(cell["source"]) for cell in cells]
    first, tags = text[0], [cell["metadata"].get("tags", []) for cell in cells]
    assert 3 <= first.count("\n- ") <= 5 and re.search(r"\d+ minutes", first)
    assert "**Predict first:**" in "".join(text) and "\n1. " in "".join(text) and "not prove" in "".join(text)
    assert sum("exercise" in tag for tag in tags) >= 3
    parameters = [part for part, tag in zip(text, tags, strict=True) if "parameters" in tag]
    sections = [line.split(" = ")[0] for line in parameters[0].splitlines()]
    assert sections == ["base", *CHAPTERS[script.stem]] and parameters[0].startswith('base = "class"')


def test_every_params_file_is_valid_and_its_chapters_are_known():
    """Chapters 06 and 07 are run where the file names mitigation and readers; class.yaml has all chapters."""
    studies = {path.stem: params.load(path) for path in PARAMS.glob("*.yaml")}
    assert sorted(name for name, study in studies.items() if study.mitigation is None) == NOTHING_MENDED
    assert chapters(studies["class"]) == list(CHAPTERS) and "06_mitigation" not in chapters(studies["gallery_1e4"])
    paper = ("reweight", "eodd", "adv")
    assert all(studies[name].mitigation.strategies == paper for name in ("lgg_x8", "nih_1e4", "chexpert_1e4"))


def test_none_leaves_a_section_out_in_a_cell_as_on_the_command_line():
    """Without mitigation there is no chapter 06 and no grid; without noise there is nothing to reconstruct either."""
    cell, line = params.study("class", mitigation="none"), params.load(PARAMS / "class.yaml", ["mitigation=none"])
    assert (
        cell.model_dump() == line.model_dump() and cell.mitigation is None and "--set mitigation=none" in cell.command
    )
    assert chapters(cell) == [name for name in CHAPTERS if name not in ("06_mitigation", "09_two_stages")]
    clean = params.study("class", noise="none")
    assert clean.models == () and "03_reconstruction" not in chapters(clean)
    with pytest.raises(params.ParamsError, match="noise: none"):
        noise.load(clean)


def test_the_appendix_shows_the_stored_studies_of_every_scenario():
    copy = nbformat.read(FOLDER / "A1_calibration.ipynb", 4)
    NotebookClient(copy, timeout=300).execute()
    shown = [output.get("data", {}) for cell in copy.cells for output in cell.get("outputs", ())]
    results = pd.read_csv(store.PACKAGE.parent / "benchmarks" / "results" / "calibration.csv")
    scenarios = results.scenario.nunique()
    assert shown[0]["text/markdown"].startswith(f"{scenarios} scenarios") and scenarios > 100
    assert sum("image/png" in data for data in shown) == 3


def test_the_appendix_on_mitigation_shows_what_the_experiment_left():
    copy = nbformat.read(FOLDER / "A2_mitigation.ipynb", 4)
    NotebookClient(copy, timeout=300).execute()
    shown = [output for cell in copy.cells for output in cell.get("outputs", ())]
    results = store.PACKAGE.parent / "benchmarks" / "results"
    rows = pd.read_csv(results / "mitigation.csv")
    assert rows.seed.nunique() > 1 and "held-out seeds" in shown[0].data["text/plain"]
    of_sde = sum((results / f"mitigation_{kind}.csv").exists() for kind in ("times", "path"))
    figures = 2 + of_sde + rows[rows.seed > 0].scenario.str.endswith("small").any()
    assert sum("image/png" in output.get("data", {}) for output in shown) == figures


def test_the_appendix_on_two_stages_shows_what_is_kept_and_what_is_missing():
    copy = nbformat.read(FOLDER / "A5_two_stages.ipynb", 4)
    NotebookClient(copy, timeout=300).execute()
    outputs = [output.get("data", {}) for cell in copy.cells for output in cell.get("outputs", ())]
    texts = [data["text/markdown"] for data in outputs if "text/markdown" in data]
    path = store.PACKAGE.parent / "benchmarks" / "results" / "two_stages.csv"
    kept = pd.read_csv(path, keep_default_na=False) if path.exists() else pd.DataFrame({"scenario": []})
    for scenario in ("null", "rare", "scarce", "both", "erased"):
        measured = scenario in set(kept.scenario)
        assert measured == (f"`{scenario}`: the standard reader brings" in texts[1])
        assert measured == (f"{scenario} 0" not in texts[0])
    assert sum("image/png" in data for data in outputs) == 2


def readers_measured(*scenarios) -> pd.DataFrame:
    """Invented results of `benchmarks/readers.py`: of a gap of 0.2, each reader leaves a share that is known."""
    shares = {"standard": 1.0, "crop": 0.1, "cascade": 0.5, "oversample@1": 0.7, "dro@0.01": 0.9}
    xray = {
        "oversample@0": (0.2, 0.8, 0.9),
        "oversample@0+thresholds": (0.1, 0.8, None),
        "fairread@0.5": (0.3, 0.795, 0.8),
        "fairread@0.5+thresholds": (0.05, 0.795, None),
    }
    rows = []
    for scenario in scenarios:
        if scenario in ("decoy", "contrast"):
            for seed, (reader, share) in product((0, 1, 2), shares.items()):
                gap = 0.2 * (share if scenario == "decoy" else 1) * (1 + seed / 10)
                values = {"gap": gap, "dice_male": 0.8, "dice_female": 0.8 - gap, "minority_share": 1 / share}
                rows += [
                    (scenario, seed, reader, metric, value, gap - 0.01, gap + 0.01, "")
                    for metric, value in values.items()
                ]
        elif scenario == "remaining":
            for seed, (reader, gap) in product((1, 2), {"standard": 0.2, "oversample@1": 0.05}.items()):
                rows.append((scenario, seed, reader, "gap 0.95", gap * seed, None, None, f"{10 + seed} women"))
        elif scenario == "null":
            rows += [("null", seed, "all", "false_gains", 0.02, None, None, "2 of 100 cohorts") for seed in (1, 2, 3)]
        elif scenario == "xray":
            for reader, values in xray.items():
                for metric, value in zip(("eodd_worst_case", "auroc", "probe_auroc"), values, strict=True):
                    rows.append(("xray", 1, reader, metric, value, None, None, ""))
        elif scenario == "costs":
            rows += [
                ("costs", 0, reader, "cost", 1.3, None, None, "") for reader in ("dro", "reweight", "fcro", "fairread")
            ]
        else:
            rows.append((scenario, 0, "standard", "fairness_gap male", 0.2, 0.1, 0.3, "against female"))
            rows.append((scenario, 0, "crop", "fairness_gap male change", -0.1, -0.2, -0.01, ""))
            rows.append((scenario, 0, "dro", "fairness_gap male change", -0.1, -0.3, 0.1, ""))
    return pd.DataFrame(rows, columns=["scenario", "seed", "reader", "metric", "value", "low", "high", "note"])


def appendix(name: str, results=None) -> tuple[list[str], int]:
    """Execute an appendix, over a file of results in place of the kept one; return its sentences and number of figures."""
    copy = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    for cell in copy.cells if results else ():
        cell.source = re.sub(r"(?m)^path = .*$", f"path = rf.store.Path({str(results)!r})", cell.source)
    NotebookClient(copy, timeout=300).execute()
    outputs = [output.get("data", {}) for cell in copy.cells for output in cell.get("outputs", ())]
    texts = [data["text/markdown"] for data in outputs if "text/markdown" in data]
    return texts, sum("image/png" in data for data in outputs)


@pytest.mark.parametrize(
    "kept", [None, ("decoy",), ("decoy", "remaining", "contrast", "null", "xray", "costs", "sunnybrook")]
)
def test_the_appendix_on_readers_says_what_the_numbers_are_and_what_is_missing(kept, tmp_path):
    path = store.PACKAGE.parent / "benchmarks" / "results" / "readers.csv"
    if kept:
        readers_measured(*kept).to_csv(path := tmp_path / "readers.csv", index=False)
    rows = pd.read_csv(path, keep_default_na=False) if path.exists() else readers_measured()
    held_out = (rows.seed > 0) | ~rows.scenario.isin(["decoy", "contrast", "null", "xray"])  # seed 0 chose strengths
    there = {*rows.scenario[held_out]}
    texts, figures = appendix("A3_readers", path if kept else None)
    assert figures == 2 and not re.search(r"\bnan\b", "\n".join(texts))
    every = ("decoy", "contrast", "null", "xray", "costs", "sunnybrook", "lgg", "nih")
    listed = (re.findall(r"Not measured yet: ([^.]*)\.", texts[0]) or [""])[0].split(", ")
    assert {*listed} - {""} == {name for name in every if name not in there}
    if not kept:
        return
    assert "`crop` leaves: 0.10, by seed 0.10, 0.10; aim: at most 0.25, met." in texts[1]
    assert "`oversample` leaves: 0.70, by seed 0.70, 0.70; aim: at most 0.6, missed." in texts[1]
    lessons = texts[-1].splitlines()
    assert "leaves least of the gap: 50%. Of all, 1 of 3 leave less than 60 %." in lessons[1]
    if "xray" not in kept:
        assert "not measured yet" in lessons[0] and "not measured yet" in lessons[2]
        return
    assert "0.95 hidden, plain training has a gap of 0.300 and oversampling one of 0.075." in "\n".join(texts)
    assert "10% of a gap that lies outside the tumour, and 100% of one that lies inside. So it can tell" in lessons[0]
    assert (
        "FairREAD leaves 25% of D_EO, and thresholds by group with plain training leave 50%. FairREAD leaves less with "
        "every seed" in lessons[2]
    )
    whole = "\n".join(texts)
    assert "Share of cohorts with a false gain: 0.020, by seed 0.020, 0.020, 0.020; aim: at most 0.07, met." in whole
    assert "Loss of AUROC: 0.005; aim: at most 0.01, met." in whole and whole.count("1.30; aim") == 4
    assert "FairREAD without its thresholds leaves 1.50" in whole
    assert "female minus male +0.200 (+0.100 to +0.300). 1 of 2 intervals exclude 0 (`crop` -0.100)" in whole


@pytest.mark.parametrize("measured", [False, True])
def test_the_appendix_on_synthesis_says_what_is_left_of_the_gap(measured, tmp_path):
    gaps = {
        "standard": 0.4,
        "oversample": 0.3,
        "plain": 0.3,
        "sqrs": 0.2,
        "diversity": 0.2,
        "fairgen": 0.1,
        "seen": 0.0,
    }
    rows = [("rare", seed, arm, "gap", gap) for seed, (arm, gap) in product((1, 2), gaps.items())]
    rows += [("rare", seed, arm, "lesion_law_error", 0.5) for seed, arm in product((1, 2), gaps)]
    rows += [("null", 1, "all", "false_gains", 0.03)]
    columns = ["scenario", "seed", "arm", "metric", "value"]
    if measured:
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "synthesis.csv", index=False)
        changes = {"shift_standard": -0.1, "shift_standard_low": -0.2, "shift_standard_high": [-0.05, 0.1]}
        known = {
            "study": "s",
            "generator": ["plain", "sqrs"],
            "classifier": "reader",
            "attribute": "sex",
            "group": "all",
        }
        judged = pd.DataFrame(
            known | {"metric": "eodd", "value": 0.2} | changes | {"verdict_standard": ["fell", "not shown"]}
        )
        judged.to_csv(tmp_path / "synthesis_real.csv", index=False)
    texts, figures = appendix("A4_synthesis", tmp_path / "synthesis.csv")
    assert figures == 1 and ("2 seeds were run" in texts[0]) == measured == ("No full run" not in texts[0])
    if measured:
        assert "alone the gap is 0.40 (by seed 0.40, 0.40)" in texts[1] and "`oversample`: 0.75; the gap" in texts[1]
        assert "`fairgen`: 0.25; aim: at most 0.6; the gap is 0.10 (by seed 0.10, 0.10)" in texts[1]
        assert "`seen`: 0.00" in texts[1] and "+0.00 (by seed +0.00, +0.00) SD, and the gap by -0.100" in texts[2]
        assert "In 3.0% of the cohorts any arm" in texts[3] and "Of 2 changes, 1 are shown to be smaller" in texts[4]
    appendix("A4_synthesis")  # over what is kept


def test_pairing_of_a_changed_script_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    script = tmp_path / "01_data.py"
    script.write_text((FOLDER / "01_data.py").read_text())
    assert run.main(["pairs"]) == 1 and "differs" in capsys.readouterr().out
    assert run.main(["pairs", "--write"]) == 0 and run.main(["pairs"]) == 0
    script.write_text(script.read_text().replace("who is in the study?", "who is here?"))
    assert run.main(["pairs"]) == 1
    assert json.loads(script.with_suffix(".ipynb").read_text())["nbformat"] == 4


def text_of(copy) -> list[str]:
    """What the cells of an executed notebook printed."""
    return [output.text for cell in copy.cells for output in cell.get("outputs", ()) if output.output_type == "stream"]


def tables_in_a_row(copy) -> list[str]:
    """Code of cells of an executed notebook that show a table right after a table, without a sentence between."""
    after, repeated = False, []
    for cell in copy.cells:
        kinds = [output.get("data", {}) for output in cell.get("outputs", ())]
        if cell.cell_type == "markdown" or any("text/markdown" in data for data in kinds):
            after = False
        elif any("text/html" in data for data in kinds):
            repeated += [cell.source] if after else []
            after = True
    return repeated
