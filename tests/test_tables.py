"""Tables: what is written is what is read, and what does not fit is named."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from reconfair import tables
from reconfair.tables import COUNT, SCHEMAS, TEXT

EXAMPLES = {TEXT: ["a", "b", None], COUNT: [1, 2, 3]}


def example(name):
    """Three rows that fit the schema; numbers and texts are missing here and there."""
    return pd.DataFrame({column: EXAMPLES.get(kind, [0.5, np.nan, np.inf]) for column, kind in SCHEMAS[name].items()})


@pytest.fixture
def quality():
    return pd.DataFrame(
        {"image_id": ["a", "b", "c"], "patient_id": ["p", "p", "q"], "split": "test", "source": "noisy"}
        | {"strategy": "standard", "psnr": [20.0, 25.0, np.nan], "ssim": [0.5, 0.75, 0.25]}
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_written_is_what_is_read(tmp_path, name):
    table = example(name)
    tables.write(table, name, tmp_path)
    read = tables.read(name, tmp_path)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    for column, kind in SCHEMAS[name].items():
        assert pd.api.types.is_string_dtype(read[column]) == (kind == TEXT)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_file_is_typed_as_the_schema_says(tmp_path, name):
    tables.write(example(name).iloc[:0], name, tmp_path)  # types must not depend on there being rows
    schema = pq.read_schema(tmp_path / f"{name}.parquet")
    assert schema.names == list(SCHEMAS[name])
    assert [schema.field(column).type for column in SCHEMAS[name] if SCHEMAS[name][column] != TEXT] == [
        kind for kind in SCHEMAS[name].values() if kind != TEXT
    ]


def test_rows_keep_their_values_whatever_their_index(tmp_path, quality):
    tables.write(quality[quality.ssim < 0.7].iloc[::-1], "quality", tmp_path)
    read = tables.read("quality", tmp_path)
    assert read.image_id.tolist() == ["c", "a"] and read.ssim.tolist() == [0.25, 0.5]


def test_further_columns_are_kept(tmp_path, quality):
    tables.write(quality.assign(effusion=[1.0, 0.0, np.nan]), "quality", tmp_path)
    assert tables.read("quality", tmp_path).effusion.isna().tolist() == [False, False, True]


def test_whole_numbers_become_numbers(tmp_path, quality):
    tables.write(quality.assign(psnr=[1, 2, 3]), "quality", tmp_path)
    assert tables.read("quality", tmp_path).psnr.dtype == np.float64


def test_several_folders_are_read_one_below_the_other(tmp_path, quality):
    folders = [tmp_path / "noisy", tmp_path / "unet"]
    for folder in folders:
        folder.mkdir()
        tables.write(quality.assign(source=folder.name), "quality", folder)
    read = tables.read("quality", *folders, columns=["image_id", "source"])
    assert list(read.columns) == ["image_id", "source"] and read.index.tolist() == list(range(6))
    assert read.source.tolist() == ["noisy"] * 3 + ["unet"] * 3


@pytest.mark.parametrize("column", ["image_id", "ssim"])
def test_a_missing_column_is_named(tmp_path, quality, column):
    with pytest.raises(ValueError, match=f"table 'quality': column '{column}' is missing; it has .*patient_id"):
        tables.write(quality.drop(columns=column), "quality", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [("psnr", ["a", "b", "c"], "double"), ("psnr", [1.0, [2.0], 3.0], "double"), ("source", [1, 2, 3], "string")],
)
def test_a_column_of_another_type_is_named(tmp_path, quality, column, values, kind):
    with pytest.raises(ValueError, match=f"table 'quality': column '{column}' should hold {kind}"):
        tables.write(quality.assign(**{column: pd.Series(values)}), "quality", tmp_path)


def test_a_count_that_is_not_whole_is_named(tmp_path):
    with pytest.raises(ValueError, match="table 'fairness': column 'missing' should hold int64"):
        tables.write(example("fairness").assign(missing=[1.0, 2.0, 2.5]), "fairness", tmp_path)


def test_a_spreadsheet_meets_no_formula_and_every_number(tmp_path):
    hostile = ["=1+1", "+cmd|' /C calc'!A0", "-2+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "=HYPERLINK(1)"]
    numbers = ["-0.03", "+0.25 (0.1 to 0.4)", "-1.5 dB", "-1e-05", "a=b", ""]
    table = pd.DataFrame({"group": hostile + numbers, "value": [-0.5 * k for k in range(12)]})
    tables.to_csv(table, tmp_path / "a.csv")
    read = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert read.group.tolist() == [f"'{cell}" for cell in hostile] + numbers
    assert read.value.tolist() == table.value.tolist()
    tables.to_csv(table.set_index("group").T, tmp_path / "b.csv", index=True)
    head = (tmp_path / "b.csv").read_text(encoding="utf-8").splitlines()[0]
    assert "'=1+1" in head and ",-0.03," in head
