"""What chapter 05 says of a table: the paper's and the slides' tables, and sentences."""

import numpy as np
import pandas as pd
import pytest

from reconfair import judge


def row(**changes):
    """A row of ``fairness``: EODD 0.20 on an original, 0.26 on a reconstruction."""
    columns = {"task": "grade", "source": "unet", "strategy": "standard", "attribute": "sex", "metric": "eodd"}
    columns |= {"value": 0.26, "expected": 0.03, "p_disparity": 0.001, "shift": 0.06, "shift_percent": 30.0}
    columns |= {"shift_se": 0.02, "p": 0.004, "p_adjusted": 0.01, "p_interaction": 0.002, "margin": 0.11}
    return columns | {"equivalent": 0.0, "detectable": 0.05, "left_out": ""} | changes


ORIGINAL = {"source": "original", "value": 0.2, "shift": np.nan, "shift_percent": np.nan, "p_adjusted": np.nan}


@pytest.mark.parametrize(
    ("changes", "cell"),
    [
        ({}, "0.260 ++"),
        ({"shift": -0.06}, "0.260 --"),
        ({"p_adjusted": 0.07}, "0.260 +"),
        ({"p_adjusted": 0.3}, "0.260"),
        ({"p_adjusted": 0.3, "shift_se": 0.07}, "0.260 ~"),
        (ORIGINAL, "0.200"),
    ],
)
def test_a_cell_of_the_slides_marks_direction_significance_and_a_large_standard_error(changes, cell):
    table = judge.by_attribute(pd.DataFrame([row(**changes)]), "sex")
    assert table.to_numpy().item() == cell


def test_a_table_of_the_slides_has_a_row_per_task_and_leaves_other_attributes_and_image_quality_out():
    rows = [row(**ORIGINAL), row(), row(task="type"), row(attribute="race"), row(task="image", metric="psnr_gap")]
    table = judge.by_attribute(pd.DataFrame(rows), "sex")
    assert list(table.index) == ["grade", "type"]
    assert list(table.columns) == [("original", "eodd"), ("unet", "eodd")]


def test_where_nothing_could_be_compared_there_is_an_empty_table():
    assert judge.by_attribute(pd.DataFrame([row(value=np.nan)]), "sex").empty


def test_tables_one_and_two_of_the_paper_are_medians_over_tasks():
    values = {"grade": (0.2, 10.0), "type": (0.4, -40.0), "survival": (0.3, 20.0)}
    rows = [row(**ORIGINAL | {"task": task, "value": value}) for task, (value, _) in values.items()]
    rows += [row(task=task, shift_percent=percent) for task, (_, percent) in values.items()]
    rows += [row(source="noisy", shift_percent=900.0), row(strategy="reweight", shift_percent=900.0)]
    assert judge.bias_on_originals(pd.DataFrame(rows)).loc["eodd", "sex"] == 0.3
    shifts = judge.shift_by_model(pd.DataFrame(rows))["unet"]
    assert shifts.to_dict() == {"comparisons": 3, "median": 10, "absolute_median": 20}


def test_sentences_never_call_a_missing_significance_no_change():
    said = " ".join(judge.sentences(pd.Series(row(p=0.6))))
    assert "too few patients to claim that nothing changed" in said and "finds shifts from 0.050" in said
    assert "60 % of draws" in said and "below 0.110" in said


def test_sentences_claim_no_change_only_within_the_margin_and_name_who_was_left_out():
    said = " ".join(judge.sentences(pd.Series(row(equivalent=1.0, margin=0.04, left_out="Other (3)"))))
    assert "this is within the margin" in said and "Not compared: Other (3)" in said
    assert "The change differs between groups" in said


def test_nothing_is_said_of_what_could_not_be_compared():
    nothing = dict.fromkeys(("value", "shift", "p"), np.nan)
    assert judge.sentences(pd.Series(row(**nothing))) == []
