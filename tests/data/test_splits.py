"""Splits and groups: by patient, exact in the whole, in proportion within the strata."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, chi2

from reconfair import params
from reconfair.data import splits

SHARES = (0.7, 0.1, 0.2)


def cohort(n=400, images=3, seed=0):
    """Patients of two sexes, two ages and three races, with 1 to `images` images each, in mixed order."""
    rng = np.random.default_rng(seed)
    patients = pd.DataFrame(
        {
            "patient_id": [f"P{i:04d}" for i in range(n)],
            "sex": rng.choice(["female", "male"], n, p=[0.4, 0.6]),
            "age": rng.integers(20, 91, n).astype(float),
            "race": rng.choice(["White", "Black", "Native Hawaiian/Pacific Islander"], n, p=[0.7, 0.2, 0.1]),
        }
    )
    table = patients.loc[np.repeat(np.arange(n), rng.integers(1, images + 1, n))]
    table = table.sample(frac=1, random_state=seed).reset_index(drop=True)
    return splits.derive(table.assign(image_id=[f"i{i}" for i in range(len(table))]))


def by_patient(table):
    return table.drop_duplicates("patient_id").set_index("patient_id").sort_index()


def sizes(table):
    counted = by_patient(table).split.value_counts()
    return {name: int(counted.get(name, 0)) for name in splits.names("train_diag" in counted)}


# --- groups ---


def test_younger_is_at_or_below_the_median_over_patients():
    # Were images counted, the patient of 80 with five of them would move the median from 60 to 80.
    ages = {"a": [50], "b": [60], "c": [80] * 5}
    rows = [{"patient_id": patient, "age": age, "race": "White"} for patient, shown in ages.items() for age in shown]
    derived = splits.derive(pd.DataFrame(rows))
    assert derived.groupby("patient_id").age_group.first().to_dict() == {"a": "younger", "b": "younger", "c": "older"}


def test_the_boundary_of_age_may_be_given():
    table = pd.DataFrame({"patient_id": list("abc"), "age": [58.0, 59.0, np.nan], "race": "White"})
    assert splits.derive(table, 58).age_group.fillna("?").tolist() == ["younger", "older", "?"]
    assert splits.derive(table, 57).age_group.fillna("?").tolist() == ["older", "older", "?"]


def test_two_small_groups_of_race_join_other():
    table = pd.DataFrame({"patient_id": range(len(params.RACES)), "age": 50.0, "race": params.RACES})
    merged = dict(zip(params.RACES, splits.derive(table).race_merged, strict=True))
    kept = {race: race for race in ("White", "Other", "Asian", "Black")}
    joined = {"Native Hawaiian/Pacific Islander": "Other", "American Indian/Alaska Native": "Other"}
    assert merged == kept | joined


def test_a_missing_attribute_stays_missing():
    race = pd.Series(["White", None, "Black"], dtype="str")
    table = pd.DataFrame({"patient_id": list("abc"), "age": [50.0, 60.0, np.nan], "race": race})
    derived = splits.derive(table)
    assert derived.race_merged.isna().tolist() == [False, True, False]
    assert derived.age_group.isna().tolist() == [False, False, True]


@pytest.mark.parametrize("column", ["age", "race"])
def test_a_dataset_may_record_none_of_an_attribute(column):
    missing = np.full(2, np.nan) if column == "age" else pd.Series([None, None], dtype="str")
    table = pd.DataFrame({"patient_id": list("ab"), "age": [50.0, 60.0], "race": "White"}).assign(**{column: missing})
    derived = splits.derive(table)
    assert derived[{"age": "age_group", "race": "race_merged"}[column]].isna().all()


# --- splits ---


@pytest.mark.parametrize("parted", [False, True])
def test_a_patient_is_in_one_split(parted):
    table = splits.assign(cohort(), SHARES, 0, parted)
    assert (table.groupby("patient_id").split.nunique() == 1).all() and table.split.notna().all()


@pytest.mark.parametrize(
    ("n", "parted", "expected"),
    [
        (10, False, {"train": 7, "val": 1, "test": 2}),
        (400, False, {"train": 280, "val": 40, "test": 80}),
        (100, True, {"train_recon": 49, "train_diag": 21, "val": 10, "test": 20}),
        (1000, True, {"train_recon": 490, "train_diag": 210, "val": 100, "test": 200}),
    ],
)
def test_shares_of_the_whole_are_exact(n, parted, expected):
    assert sizes(splits.assign(cohort(n), SHARES, 3, parted)) == expected


@pytest.mark.parametrize("n", [23, 57, 111, 264])
def test_shares_that_do_not_come_out_even_are_off_by_less_than_one(n):
    counted = sizes(splits.assign(cohort(n), SHARES, 0, False))
    assert all(abs(counted[split] - share * n) < 1 for split, share in zip(counted, SHARES, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_every_stratum_is_shared_out_in_proportion(seed):
    table = by_patient(splits.assign(cohort(1000), SHARES, seed, False))
    shares = pd.crosstab([table.sex, table.age_group, table.race], table.split, normalize="index")
    members = table.groupby(["sex", "age_group", "race"]).size()
    off = (shares[["train", "val", "test"]] - np.array(SHARES)).mul(members, axis=0).abs()
    assert off.max(axis=None) < 4  # patients; drawn at random, strata of 250 would be off by 7 to 20
    assert len(members) == 12 and members.max() > 150


@pytest.mark.parametrize("parted", [False, True])
def test_a_split_depends_on_seed_and_patients_alone(parted):
    table = cohort()
    first = by_patient(splits.assign(table, SHARES, 0, parted)).split
    again = by_patient(splits.assign(table.sample(frac=1, random_state=9), SHARES, 0, parted)).split
    other = by_patient(splits.assign(table, SHARES, 1, parted)).split
    assert first.equals(again) and 0.2 < (first != other).mean() < 0.8


def test_chance_decides_even_for_a_patient_alone_in_the_stratum():
    table = cohort(100)
    table.loc[table.patient_id == "P0042", "race"] = "Asian"
    drawn = pd.DataFrame({seed: by_patient(splits.assign(table, SHARES, seed, False)).split for seed in range(50)})
    in_train = (drawn == "train").mean(axis=1)
    assert in_train["P0042"] == pytest.approx(0.7, abs=0.25)
    assert in_train.min() > 0.4 and in_train.max() < 0.97  # 0.7 +- 0.065 for each patient


def test_patients_without_an_attribute_are_split_too():
    table = cohort(200)
    table.loc[table.patient_id < "P0050", ["sex", "race"]] = np.nan
    counted = by_patient(splits.assign(table, SHARES, 0, False)).loc[:"P0049"].split.value_counts()
    assert counted.sum() == 50 and abs(counted["train"] - 35) < 4


def test_an_attribute_that_nobody_has_is_no_obstacle():
    table = cohort(100)
    table["race"] = pd.Series(np.nan, table.index, dtype="str")
    assert sizes(splits.assign(table, SHARES, 0, False)) == {"train": 70, "val": 10, "test": 20}


# --- what a chapter shows ---


@pytest.fixture
def small():
    """Five patients, seven images; p5 has no recorded sex."""
    images = ["p1", "p1", "p2", "p3", "p4", "p4", "p5"]
    sex = {"p1": "female", "p2": "female", "p3": "male", "p4": "male", "p5": None}
    split = {"p1": "train", "p2": "test", "p3": "train", "p4": "train", "p5": "train"}
    return pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(7)],
            "patient_id": images,
            "sex": pd.Series([sex[p] for p in images], dtype="str"),
            "split": [split[p] for p in images],
            "nodule": [1.0, 0.0, 1.0, 0.0, 1.0, np.nan, 1.0],
        }
    )


def test_counts_are_of_patients(small):
    counted = splits.counts(small, ["sex"]).set_index(["attribute", "group", "split"]).patients.to_dict()
    assert counted == {
        ("sex", "female", "train"): 1,
        ("sex", "female", "test"): 1,
        ("sex", "male", "test"): 0,  # nobody is there, which is what a reader must see
        ("sex", "not recorded", "test"): 0,
        ("sex", "male", "train"): 2,
        ("sex", "not recorded", "train"): 1,
    }


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("image", {"female": (2, 3), "male": (1, 2)}), ("patient", {"female": (2, 2), "male": (1, 2)})],
)
def test_prevalence_counts_known_labels_of_known_groups(small, unit, expected):
    rates = splits.prevalence(small, ["nodule"], ["sex"], unit)
    assert {row.group: (row.sum, row.count) for row in rates.rename(columns=str).itertuples()} == expected
    for row in rates.itertuples():
        wilson = binomtest(*map(int, expected[row.group])).proportion_ci(method="wilson")
        assert (row.share, row.low, row.high) == pytest.approx(
            (expected[row.group][0] / expected[row.group][1], wilson.low, wilson.high)
        )


def test_prevalence_has_a_row_for_every_task_and_group():
    table = cohort(200).assign(a=1.0, b=0.0)
    rates = splits.prevalence(table, ["a", "b"], ["sex", "race"], "patient")
    assert set(zip(rates.task, rates.attribute, rates.group, strict=True)) == set(
        product("ab", ["sex"], table.sex.unique())
    ) | set(product("ab", ["race"], table.race.unique()))
    assert (rates[rates.task == "a"].share == 1).all() and (rates[rates.task == "b"].low.abs() < 1e-12).all()


def test_losses_count_images_by_group(small):
    lost = small.iloc[[0, 6]]
    counted = splits.losses(small.drop(index=[0, 6]), lost, ["sex"]).set_index("group")
    assert counted[["images", "skipped"]].T.to_dict("list") == {
        "female": [3, 1],
        "male": [3, 0],
        "not recorded": [1, 1],
    }
    assert counted.share["female"] == pytest.approx(1 / 3)


def test_examples_are_middle_images_of_every_group_that_is_large_enough(small):
    assert splits.examples(small, ["sex"], each=2) == {"female": [1, 2], "male": [3, 5]}
    assert splits.examples(small.drop(index=2), ["sex"], each=2) == {"male": [3, 5]}


def test_examples_of_joint_groups_are_named_by_both():
    table = cohort(200)
    chosen = splits.examples(table, ["sex", "age_group"], each=3)
    assert set(chosen) == {", ".join(pair) for pair in product(["female", "male"], ["younger", "older"])}
    for group, rows in chosen.items():
        shown = table.loc[rows]
        assert len(rows) == 3 and shown.patient_id.is_unique
        assert set(shown.sex + ", " + shown.age_group) == {group}


def test_associations_are_phi_of_two_by_two_tables_and_leave_missing_values_and_constants_out():
    counts = {("f", 1.0): 30, ("f", 0.0): 10, ("m", 1.0): 20, ("m", 0.0): 40}
    rows = [{"sex": sex, "grade": grade, "race": "White"} for (sex, grade), n in counts.items() for _ in range(n)]
    patients = pd.DataFrame([*rows, {"sex": None, "grade": 1.0, "race": "White"}])
    (found,) = splits.associations(patients, ["sex", "grade", "race"]).itertuples()
    assert found.v == pytest.approx((30 * 40 - 10 * 20) / np.sqrt(40 * 60 * 50 * 50))
    assert (found.one, found.other, found.patients, found.expected) == ("sex", "grade", 100, pytest.approx(0.1))
    assert found.p == pytest.approx(chi2.sf(100 * found.v**2, 1))
