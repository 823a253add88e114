"""HAM10000, photographs in colour with five classes: chapters 01 to 05 on a few of them."""

import numpy as np
import pandas as pd
import pytest
from smallest import PARAMS

from reconfair import data, diagnosis, judge, mitigation, noise, params, recon

CLASSES = ["nv", "mel", "bkl", "bcc", "akiec"]


@pytest.fixture(scope="module")
def lesions(real_data, tmp_path_factory):
    """A study of 150 lesions at 32 pixels, with tiny networks."""
    if not (real_data / "ham10000").is_dir():
        pytest.skip("RECONFAIR_DATA has no folder ham10000")
    folder = tmp_path_factory.mktemp("ham10000")
    table = pd.read_csv(real_data / "ham10000" / "HAM10000_metadata.csv")
    few = pd.concat([table[table.dx == name].iloc[:30] for name in CLASSES])
    few.assign(age=few.age.where(few.index != few.index[3])).to_csv(folder / "HAM10000_metadata.csv", index=False)
    (folder / "images").symlink_to(real_data / "ham10000" / "images")
    small = [
        f"dataset.root={folder}", "dataset.links=follow", "dataset.size=32", "dataset.split=[0.4, 0.2, 0.4]",
        "reconstruction.models=[unet]", "reconstruction.unet={channels: 4, depth: 2, epochs: 1}",
        "diagnosis.classify={architecture: resnet18, pretrained: false, size: 0, epochs: 1, batch_size: 32, lr: 1e-3}",
        "fairness.min_cases=2", "fairness.resamples=99", "compute.device=cpu", "compute.workers=1",
        "mitigation={strategies: [eodd, thresholds], epochs: 1}",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(folder / "outputs"))
        patch.setenv("RECONFAIR_DATA", str(real_data))
        yield params.load(PARAMS / "ham10000_sigma-0.2_small.yaml", small)


def test_the_params_file_reads_all_lesions(real_data, monkeypatch):
    monkeypatch.setenv("RECONFAIR_DATA", str(real_data))
    table = params.load(PARAMS / "ham10000_sigma-0.2_small.yaml").dataset.read_table()
    assert len(table) == 1847 and table.patient_id.is_unique
    assert table.sex.isna().sum() == 10 and table.age.isna().sum() == 11 and table.age.median() == 60
    assert table.dx.value_counts().sort_index().tolist() == [600, 400, 400, 264, 183]
    assert table.malignant.sum() == 400 + 264 + 183


@pytest.mark.slow
def test_chapters_one_to_five_judge_colour_and_classes(lesions):
    cohort = data.prepare(lesions)
    assert cohort.images.shape == (150, 3, 32, 32)
    assert noise.prepare(lesions).shape == cohort.images.shape
    assert recon.reconstruct(lesions, "unet").shape[1:] == (3, 32, 32)
    predictions = pd.concat([diagnosis.predict(lesions, source) for source in lesions.sources])
    of_classes = predictions[predictions["class"].notna()]
    assert set(of_classes["class"]) == set(CLASSES)
    sums = of_classes.groupby(["source", "unit"])[["score", "decision", "label"]].sum()
    assert sums.to_numpy() == pytest.approx(1)
    performance, fairness = judge.judge(lesions)
    assert performance.task.unique().tolist() == ["malignant", "dx", *(f"dx: {name}" for name in CLASSES), "image"]
    whole = performance[(performance.task == "dx") & (performance.attribute == "all")]
    assert set(whole.metric) == {"accuracy", "auroc"} and whole.value.between(0, 1).all()
    metrics = set(fairness[fairness.task == "dx"].metric)
    assert {"eodd", "eodd_worst", "eop", "demographic_parity", "accuracy_gap", "essp", "nar"} <= metrics


@pytest.mark.slow
def test_mitigation_meets_colour_and_classes(lesions):
    performance, _ = judge.judge(lesions, mitigation.judged(lesions))
    rows = performance[(performance.source == "unet") & (performance.group == "all")]
    values = rows.pivot(index=["task", "metric"], columns="strategy", values="value")
    assert {"standard", "eodd", "thresholds"} <= set(values)
    whole = values.loc["dx"]
    assert (whole.thresholds == whole.standard).all()  # no threshold enters the decision of several classes
    assert (whole.eodd != whole.standard).any() and np.isfinite(whole.eodd).all()
