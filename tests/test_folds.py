"""Cross-fitting: every patient is tested once, by models that never saw that patient, and one set of tables says so."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import rankdata
from smallest import PARAMS, one_thread

from reconfair import data, diagnosis, judge, mitigation, params, recon, report, run, store
from reconfair.data import splits
from reconfair.diagnosis import probe
from reconfair.fairness import INFERENCES, assess
from reconfair.fairness.cells import Groups
from reconfair.params import NOISY, ORIGINAL, ParamsError, Reader, Source
from reconfair.run import batch

SECTIONS = {
    "dataset": {"name": "phantom_mri", "size": 64, "patients": 60, "slices": 1, "folds": 2},
    "noise": {"kind": "kspace", "acceleration": 8},
    "reconstruction": {"models": ["unet"], "unet": {"channels": 4, "depth": 2, "epochs": 1}},
    "diagnosis": {
        "tasks": ["grade", "tumour"],
        "classify": {"architecture": "test_resnet", "pretrained": False, "epochs": 1, "lr": 1e-3},
        "segment": {"encoder": "tu-test_resnet", "decoder": [8, 8, 8, 4, 4], "pretrained": False, "epochs": 1},
    },
    "fairness": {"min_cases": 2, "resamples": 99},
    "mitigation": {"strategies": ["reweight", "thresholds"], "epochs": 1},
}


def load(**dataset):
    return params.study(**{**SECTIONS, "dataset": SECTIONS["dataset"] | dataset})


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """A tiny study of two folds, run up to chapter 06."""
    study = load()
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setenv("RECONFAIR_OUTPUTS", str(tmp_path_factory.mktemp("crossed")))
        for product in run.every_product(study):
            if product.chapter <= "06" and product.folder.name != "chapters":
                store.make(product)
        yield study


def predictions(study):
    return judge.collect("predictions", judge.predictions(study))


# --- who is tested by whom ---


def people(n=90):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": np.repeat([f"p{k:03d}" for k in range(n)], 2)})
    table["sex"] = np.repeat(rng.choice(["female", "male"], n, p=[0.3, 0.7]), 2)
    return table.assign(age_group="older", race="White", split="test")


def test_folds_share_out_every_group_evenly_and_depend_on_the_seed():
    table = splits.fold(people(), 3, seed=0)
    patients = table.drop_duplicates("patient_id")
    assert (table.groupby("patient_id").fold.nunique() == 1).all()
    assert patients.fold.value_counts().tolist() == [30, 30, 30]
    counts = pd.crosstab(patients.sex, patients.fold)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 2
    assert (splits.fold(people(), 3, seed=1).fold != table.fold).any()


def test_within_a_fold_the_others_train_and_validate_in_the_stated_proportion():
    table = splits.fold(people(), 3, seed=0)
    for number in (1, 2, 3):
        inside = splits.within(table, number, (0.5, 0.25, 0.25), 0, False).drop_duplicates("patient_id")
        assert inside.split.value_counts().to_dict() == {"train": 40, "test": 30, "val": 20}
        assert (inside.fold[inside.split == "test"] == number).all()


def test_images_that_are_never_tested_only_train():
    table = splits.fold(people(), 3, seed=0)
    table.loc[::2, "split"] = "train"
    inside = splits.within(table, 1, (0.5, 0.25, 0.25), 0, False)
    trains = inside.split == "train"
    assert (inside.split[::2][~trains[::2]] == "unused").all() and "unused" not in set(inside.split[1::2])


def test_every_patient_is_tested_once_by_models_that_never_saw_him(crossed):
    everyone = set(data.load(crossed).table.patient_id)
    tested = []
    for fold in crossed.folds:
        table = data.load(fold).table
        seen = set(table.patient_id[table.split.isin(["train", "val"])])
        inside = set(table.patient_id[table.split == "test"])
        assert not seen & inside and seen | inside == everyone
        tested += inside
    assert sorted(tested) == sorted(everyone)
    rows = predictions(crossed).query("split == 'test' and task == 'grade'")
    assert set(rows.source) == {"original", "noisy", "unet"}
    for _, some in rows.groupby("source"):
        assert sorted(some.unit) == sorted(everyone)
        assert some.set_index("unit").fold.eq(data.load(crossed).table.set_index("patient_id").fold).all()


def test_each_fold_has_models_of_its_own_and_shares_cohort_and_noise(crossed):
    one, two = crossed.folds
    network = crossed.networks[0]
    for product in (recon.weights, lambda fold, source: diagnosis.weights(fold, Reader(network))):
        folders = [product(fold, Source("unet")).folder for fold in (one, two)]
        assert folders[0] != folders[1] and all((folder / "best.ckpt").exists() for folder in folders)
    assert data.product(one) == data.product(two) == data.product(crossed)
    assert recon.product(one, Source("unet")).folder != recon.product(two, Source("unet")).folder
    assert diagnosis.product(one, NOISY).folder != diagnosis.product(two, NOISY).folder
    assert diagnosis.product(one, ORIGINAL).folder.parts[-2:] == ("fold-1", "originals")
    with pytest.raises(ParamsError, match=r"dataset\.folds.*study\.folds\[0\]"):
        recon.train(crossed, "unet")


def test_a_fold_that_is_lost_is_made_again_and_no_other(crossed):
    path = diagnosis.product(crossed.folds[1], ORIGINAL).folder / "predictions.parquet"
    kept = path.read_bytes()
    path.unlink()
    try:
        every = [product for product in run.every_product(crossed) if product.chapter <= "06"]
        missing = [product.key for product in every if product.folder.name != "chapters" and not product.fresh]
        assert missing == ["phantom_mri/fold-2/originals/predictions"]
    finally:
        path.write_bytes(kept)


def test_a_batch_has_a_job_for_each_fold_and_it_can_be_run(crossed, capsys):
    jobs = batch.jobs({PARAMS / "demo.yaml": crossed})
    assert {"phantom_mri/x8/03.fold-1/unet", "phantom_mri/x8/03.fold-2/unet"} <= jobs.keys()
    assert "phantom_mri/04.fold-2/readers/grade" in jobs
    assert jobs["phantom_mri/x8/03.fold-2/unet"].command(1).endswith("--only 03 --part fold-2/unet")
    chapter = [product for product in run.every_product(crossed) if product.chapter == "03"]
    assert run.make_part(chapter, "fold-2/unet") == "fresh"
    with pytest.raises(ParamsError, match=r"fold-3/unet.*fold-[12]/unet"):
        run.make_part(chapter, "fold-3/unet")
    from reconfair.run import estimate

    path = diagnosis.product(crossed.folds[1], ORIGINAL).folder / "predictions.product.json"
    kept = path.read_text()
    path.unlink()
    try:
        assert "fold-2/originals/predictions" in estimate.table(estimate.costs([(crossed, ["04_diagnosis"])]))
    finally:
        path.write_text(kept)


# --- what the tables say ---


def pairs(rows):
    """Pairs of a positive and a negative of one fold: how many are in order, and how many there are."""
    wins = total = 0
    for _, some in rows.groupby("fold"):
        positive, negative = (some.score[some.label == y].to_numpy() for y in (1, 0))
        above = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        wins, total = wins + above.sum(), total + above.size
    return wins / total


def test_auroc_and_rates_of_the_tables_are_those_of_the_folds(crossed):
    performance, _ = judge.judge(crossed, mitigation.judged(crossed))
    thresholds = diagnosis.thresholds(crossed)
    assert thresholds.keys() == {1, 2}
    rows = predictions(crossed).query("split == 'test' and task == 'grade' and source == 'unet'").dropna(subset="label")
    everyone = performance.query("task == 'grade' and source == 'unet' and strategy == 'standard' and group == 'all'")
    value = everyone.set_index("metric").value
    assert value.auroc == pytest.approx(pairs(rows))
    called = rows.score >= [thresholds[fold]["grade"] for fold in rows.fold]
    assert value.tpr == pytest.approx(called[rows.label == 1].mean())
    assert called.equals(diagnosis.called(crossed, rows))
    assert set(performance.strategy) == {"standard", "reweight", "thresholds"}
    psnr = performance.query("task == 'image' and group == 'all' and source == 'noisy' and metric == 'psnr'")
    assert psnr.patients.item() == 60


def test_the_attribute_probe_counts_every_patient_once(crossed):
    probed = probe.probe(crossed)
    assert (probed.patients <= 60).all() and (probed.patients >= 50).all()
    rng = np.random.default_rng(0)
    member, folds, reader = np.arange(200) % 2 == 1, np.arange(200) // 2 % 5, np.arange(200) % 4 // 2
    features = rng.normal(size=(200, 4))
    features[:, 0] += member * np.where(reader, 2, -2)  # each reader tells the group, in opposite ways
    assert (
        probe.separation(features, member, folds, reader)[0] > 0.8 > probe.separation(features, member, folds)[0] + 0.1
    )


def test_the_report_counts_all_folds_and_says_what_its_intervals_lack(crossed):
    runs = report.gather(crossed)
    assert "one of 2 folds" in (said := report.summary(runs)["how sure"]) and "training" in said
    sizes = report.export(crossed)
    table = pd.read_csv(store.outputs() / crossed.name / "export" / "predictions.csv")
    assert sizes.rows.predictions == len(table) and set(table.fold) == {1, 2} and "unet" in set(table.source)
    assert isinstance(report.exhibits.examples(runs), Figure)
    moved = report.exhibits.own_thresholds(crossed)
    assert set(moved) == {"unet"}


def invented(n=240, seed=0):
    rng = np.random.default_rng(seed)
    cohort = pd.DataFrame({"patient_id": np.arange(n), "sex": rng.choice(["f", "m"], n)})
    rows = pd.DataFrame({"unit": np.arange(n), "patient_id": np.arange(n), "task": "t", "kind": "classify"})
    rows = rows.assign(label=rng.integers(0, 2, n).astype(float), fold=np.arange(n) % 3 + 1, strategy="standard")
    shared = rng.normal(size=n) + rows.label
    arms = [rows.assign(source=name, score=(shared + 0.3 * rng.normal(size=n))) for name in ("original", "unet")]
    table = pd.concat(arms, ignore_index=True)
    return table.assign(score=1 / (1 + np.exp(-table.score))), cohort


@pytest.mark.parametrize("inference", INFERENCES)
def test_a_scale_of_its_own_in_each_fold_changes_nothing(inference):
    rows, cohort = invented()
    how = {"attributes": ["sex"], "resamples": 99, "inference": inference}
    same = assess(rows, cohort, thresholds={fold: {"t": 0.5} for fold in (1, 2, 3)}, **how)
    bent = rows.assign(score=rows.score ** rows.fold.astype(float))
    other = assess(bent, cohort, thresholds={fold: {"t": 0.5**fold} for fold in (1, 2, 3)}, **how)
    for one, two in zip(same, other, strict=True):
        one, two = (table[~table.metric.str.contains("calibration")] for table in (one, two))
        pd.testing.assert_frame_equal(one, two)
    mixed = assess(bent.drop(columns="fold"), cohort, thresholds={"t": 0.5}, **how)[0].query("metric == 'auroc'")
    assert (mixed.value.to_numpy() != same[0].query("metric == 'auroc'").value.to_numpy()).all()
    value = same[0].query("metric == 'auroc' and group == 'all' and source == 'unet'").value.item()
    assert value == pytest.approx(pairs(rows[rows.source == "unet"]))


def test_one_fold_is_no_folds():
    rng = np.random.default_rng(0)
    score, label = rng.normal(size=80), rng.integers(0, 2, 80)
    units = Groups(np.arange(80), np.arange(80) // 40, ["a", "b"])
    with_fold, without = (units.auroc(score, label, fold) for fold in (np.ones(80), None))
    for one, two in zip(
        (with_fold.cells.value, with_fold.residual), (without.cells.value, without.residual), strict=True
    ):
        assert np.array_equal(one, two)


def test_the_error_of_auroc_within_folds_is_its_spread_over_studies():
    rng, values, errors = np.random.default_rng(0), [], []
    fold, label = np.arange(120) % 3, np.arange(120) // 3 % 4 == 0
    units = Groups(np.arange(120), np.zeros(120, int), ["a"])
    for _ in range(400):
        cells = units.auroc(rng.normal(size=120) + label + 5 * fold, label.astype(float), fold).cells
        values.append(cells.value[0])
        errors.append(cells.se[0])
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.12)
    ranks = rankdata(rng.normal(size=120))
    assert np.isnan(units.auroc(ranks, (fold == 0).astype(float), fold).cells.value[0])  # no fold has a pair


def test_an_unknown_fold_and_a_unit_in_two_folds_are_named():
    rows, cohort = invented(60)
    with pytest.raises(ValueError, match=r"fold 3.*'t'.*1, 2"):
        assess(rows, cohort, attributes=["sex"], thresholds={1: {"t": 0.5}, 2: {"t": 0.5}})
    rows.loc[rows.source == "unet", "fold"] = 1
    with pytest.raises(ValueError, match=r"fold of unit"):
        assess(rows, cohort, attributes=["sex"], thresholds={fold: {"t": 0.5} for fold in (1, 2, 3)})


# --- studies that cannot be ---


@pytest.mark.parametrize(
    ("dataset", "parts"),
    [
        ({"folds": 1}, ["dataset", "folds", "2 to 1000", "1"]),
        ({"folds": 2.5}, ["dataset.folds"]),
        ({"dials": {"scarce": {"sex": {"female": 0.5}}}}, ["scarce", "folds"]),
        ({"training": "apart"}, ["dataset.training", "shared", "parted"]),
    ],
)
def test_settings_that_cannot_be_are_named(dataset, parts):
    with pytest.raises(ParamsError) as error:
        load(**dataset)
    assert all(part in str(error.value) for part in parts)


def test_too_many_folds_and_a_fold_without_a_class_are_named(outputs):
    with pytest.raises(ValueError, match=r"dataset\.folds: 40 folds of 60 patients"):
        data.preview(load(folds=40))
    study = load(folds=20)
    with pytest.raises(ValueError, match=r"task 'grade': no case of class [01] in split 'test'.*fold \d+ of"):
        data.prepare(study)


def test_the_folds_that_lack_cases_for_thresholds_by_group_are_named():
    study = load(folds=3)
    table = data.cohort_table(study)
    seen = [data.seen(table, fold) for fold in study.folds]
    few = {least: [bool(splits.too_few(rows, "grade", "sex", least, "val")) for rows in seen] for least in (1, 2)}
    assert few == {1: [False, True, True], 2: [True, True, True]} and study.fairness.min_cases == 2
    (line,) = [line for line in data.preview(study) if line.startswith("grade, sex: thresholds by group")]
    assert "lack cases in fold 1, 2, 3: left out are groups" in line  # 2 cases are needed for a threshold


def test_folds_of_real_patients_are_those_that_were_checked(tmp_path, outputs):
    rows = pd.DataFrame(
        {"patient_id": [f"{k:02d}" for k in range(24)], "sex": ["F", "M"] * 12, "age": 50, "race": "White"}
    )
    rows = rows.assign(path=rows.patient_id + ".png", label=[0, 0, 1, 1] * 6)
    for path in rows.path:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)).save(tmp_path / path)
    rows.to_csv(tmp_path / "cohort.csv", index=False)
    dataset = {"name": "table", "root": str(tmp_path), "size": 32, "folds": 2, "split": [0.4, 0.4, 0.2]}
    study = params.study(dataset=dataset, noise="none")
    checked, cohort = data.cohort_table(study), data.prepare(study)
    stored = pd.read_parquet(data.product(study).folder / "cohort.parquet").set_index("patient_id").original_patient_id
    assert set(stored.index).isdisjoint(stored)  # in the cohort they have pseudonyms
    assert not cohort.table.columns.str.match("split_").any() and cohort.table.split.eq("test").all()
    for fold in study.folds:
        expected = data.seen(checked, fold).set_index("patient_id").split
        found = data.load(fold).table.set_index("patient_id").split
        assert found.rename(stored).sort_index().equals(expected.sort_index()) and set(found) == {
            "train",
            "val",
            "test",
        }


def test_a_table_that_brings_its_split_has_no_folds(tmp_path):
    rows = {"path": [f"{k}.png" for k in range(9)], "patient_id": range(9), "sex": "F", "age": 50, "race": "White"}
    pd.DataFrame(rows | {"label": 1, "split": "test"}).to_csv(tmp_path / "cohort.csv", index=False)
    study = params.study(dataset={"name": "table", "root": str(tmp_path), "folds": 3}, noise="none")
    with pytest.raises(ValueError, match=r"'split'.*dataset\.folds: 3"):
        study.dataset.read_table()
