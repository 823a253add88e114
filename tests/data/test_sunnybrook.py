"""Sunnybrook on its real scans: the table is read, and a small study of two sizes runs up to chapter 05."""

import pytest
from smallest import PARAMS, one_thread

from reconfair import data, judge, params, run, store

BRIEF = [
    "dataset.folds=2",
    "reconstruction.models=[unet]",
    "reconstruction.unet={channels: 4, depth: 2, epochs: 1}",
    "diagnosis.segment={encoder: tu-test_resnet, decoder: [8, 8, 8, 4, 4], pretrained: false, epochs: 1}",
    "fairness.resamples=99",
    "mitigation=none",
]


@pytest.fixture
def small(real_data, outputs):
    if not (real_data / "sunnybrook").is_dir():
        pytest.skip("RECONFAIR_DATA holds no folder sunnybrook")
    return lambda name, *more: params.load(PARAMS / f"{name}.yaml", [*(BRIEF if more else []), *more])


def test_patients_are_those_of_the_table(small):
    table = small("sunnybrook_x4").dataset.read_table()
    patients = table.drop_duplicates("patient_id")
    assert len(table) == 805 and patients.sex.value_counts().to_dict() == {"male": 32, "female": 13}
    assert patients.age.between(23, 88).all()
    assert patients.pathology.value_counts().sort_index().tolist() == [9, 12, 12, 12]


def test_pathology_is_a_task_of_four_classes_where_it_is_named(small):
    assert list(small("sunnybrook_x4").tasks) == ["ventricle"]
    shares = "dataset.split=[0.5, 0.25, 0.25]"
    study = small(
        "sunnybrook_x4_small", shares, "diagnosis.tasks=[pathology]", "diagnosis.classify={pretrained: false}"
    )
    assert list(study.tasks.values()) == ["classify"] * 4 and "pathology: Normal" in study.tasks
    table = data.cohort_table(study)
    patients = table.drop_duplicates("patient_id")
    assert patients["pathology: Normal"].sum() == 9 and patients["pathology: Hypertrophy"].sum() == 12


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("sunnybrook_x8_small", 64), ("sunnybrook_x4", 96)])
def test_the_ventricle_is_outlined_in_originals_and_reconstructions(small, name, size):
    study = small(name, f"dataset.size={size}")
    with one_thread():
        for product in run.every_product(study):
            if product.chapter <= "05" and product.folder.name != "chapters":
                store.make(product)
    cohort = data.load(study)
    vanished = 805 - cohort.masks.any(axis=(1, 2)).sum()  # at 64 pixels, two outlines of 10 and 20 pixels
    assert cohort.images.shape == (805, size, size) and vanished == (2 if size == 64 else 0)
    performance, fairness = judge.judge(study)
    dice = performance.query("metric == 'dice' and group == 'all'").set_index("source")
    assert set(dice.index) == {"original", "noisy", "unet"} and (dice.patients == 45).all()
    assert dice.value.between(0, 1).all() and set(fairness.task) == {"ventricle", "image"}
