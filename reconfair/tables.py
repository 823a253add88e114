"""The tables that cross between chapters: one schema each, stored as Parquet.

Each is tidy: one row per observation, one column per variable. A cohort has further columns,
one per finding (1.0, 0.0, or missing where unknown).
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_numeric_dtype

from reconfair.store import PACKAGE

PUBLISHED = PACKAGE / "published"
FORMULA = tuple("=+-@\t\r\n")  # what begins a formula in a spreadsheet
NUMERIC = re.compile(r"[-+]?\.?\d([\d.,;()%\s+-]|e|to|dB)*")  # a number, or one with limits
TEXT, NUMBER, COUNT = pa.string(), pa.float64(), pa.int64()

SCHEMAS = {
    # one row per image; age in years; a missing attribute is left missing
    "cohort": {
        "image_id": TEXT, "patient_id": TEXT, "split": TEXT, "sex": TEXT, "age": NUMBER,
        "age_group": TEXT, "race": TEXT, "race_merged": TEXT,
    },
    # one row per image x source x strategy; PSNR in dB, SSIM within [-1, 1]
    "quality": {
        "image_id": TEXT, "patient_id": TEXT, "split": TEXT, "source": TEXT, "strategy": TEXT,
        "psnr": NUMBER, "ssim": NUMBER,
    },
    # one row per unit (patient or image) x task x source x strategy x reader; score (classify) or dice (segment)
    "predictions": {
        "unit": TEXT, "patient_id": TEXT, "split": TEXT, "task": TEXT, "kind": TEXT, "source": TEXT,
        "strategy": TEXT, "reader": TEXT, "label": NUMBER, "score": NUMBER, "dice": NUMBER,
    },
    # one row per task x source x strategy x reader x attribute x group x metric
    "performance": {
        "task": TEXT, "source": TEXT, "strategy": TEXT, "reader": TEXT, "attribute": TEXT, "group": TEXT,
        "metric": TEXT, "value": NUMBER, "low": NUMBER, "high": NUMBER, "se": NUMBER, "pooled": NUMBER,
        "pooled_low": NUMBER, "pooled_high": NUMBER, "change": NUMBER, "change_low": NUMBER, "change_high": NUMBER,
        "change_bound": NUMBER, "margin": NUMBER, "kept": NUMBER, "verdict": TEXT, "compared": NUMBER, "n": COUNT,
        "patients": COUNT, "positives": NUMBER, "missing": COUNT, "note": TEXT, "change_standard": NUMBER,
        "change_standard_low": NUMBER, "change_standard_high": NUMBER,
    },
    # one row per task x source x strategy x reader x attribute x metric
    "fairness": {
        "task": TEXT, "source": TEXT, "strategy": TEXT, "reader": TEXT, "attribute": TEXT, "metric": TEXT,
        "value": NUMBER, "low": NUMBER, "high": NUMBER, "se": NUMBER, "expected": NUMBER, "p": NUMBER,
        "p_adjusted": NUMBER, "sd_between": NUMBER, "worst": TEXT, "best": TEXT, "shift": NUMBER,
        "shift_low": NUMBER, "shift_high": NUMBER, "shift_percent": NUMBER, "shift_se": NUMBER, "p_shift": NUMBER,
        "p_shift_adjusted": NUMBER, "verdict": TEXT, "p_unequal": NUMBER, "p_unequal_adjusted": NUMBER,
        "p_swap": NUMBER, "gamma": NUMBER, "bound": NUMBER, "margin": NUMBER, "no_change": NUMBER,
        "shift_standard": NUMBER, "shift_standard_low": NUMBER, "shift_standard_high": NUMBER,
        "p_shift_standard": NUMBER, "verdict_standard": TEXT, "p_unequal_standard": NUMBER,
        "p_unequal_standard_adjusted": NUMBER, "p_swap_standard": NUMBER, "gamma_standard": NUMBER,
        "bound_standard": NUMBER, "no_change_standard": NUMBER, "groups": TEXT, "left_out": TEXT,
        "n_smallest": NUMBER, "missing": COUNT, "note": TEXT,
    },
    # one row per generator x classifier x attribute x group x metric; of a generator's images the classifier is empty
    "synthesis": {
        "generator": TEXT, "classifier": TEXT, "attribute": TEXT, "group": TEXT, "metric": TEXT, "value": NUMBER,
        "low": NUMBER, "high": NUMBER, "change": NUMBER, "change_low": NUMBER, "change_high": NUMBER, "n": COUNT,
        "note": TEXT,
    },
    # one row per task x source x reader x attribute x group x metric: measures of chapter 07
    "measures": {
        "task": TEXT, "source": TEXT, "strategy": TEXT, "reader": TEXT, "attribute": TEXT, "group": TEXT,
        "metric": TEXT, "value": NUMBER, "low": NUMBER, "high": NUMBER, "change": NUMBER, "change_low": NUMBER,
        "change_high": NUMBER, "expected": NUMBER, "n": NUMBER, "patients": NUMBER, "empty_truth": NUMBER,
        "empty_answer": NUMBER, "note": TEXT,
    },
    # one row per split x task x attribute x row x reader: the grid of chapter 09
    "grid": {
        "split": TEXT, "task": TEXT, "attribute": TEXT, "row": TEXT, "reader": TEXT, "performance_metric": TEXT,
        "gap_metric": TEXT, "performance": NUMBER, "performance_low": NUMBER, "performance_high": NUMBER,
        "worst_group": NUMBER, "worst_group_low": NUMBER, "worst_group_high": NUMBER, "gap": NUMBER,
        "gap_low": NUMBER, "gap_high": NUMBER, "expected": NUMBER, "change": NUMBER, "change_low": NUMBER,
        "change_high": NUMBER, "gap_change": NUMBER, "gap_change_low": NUMBER, "gap_change_high": NUMBER,
        "brought": NUMBER, "added": NUMBER, "added_low": NUMBER, "added_high": NUMBER, "interaction": NUMBER,
        "front": NUMBER, "seeds": NUMBER, "share_seeds": NUMBER,
    },
    # one row per split x task x attribute x group x metric x effect x row x reader
    "effects": {
        "split": TEXT, "task": TEXT, "attribute": TEXT, "group": TEXT, "metric": TEXT, "effect": TEXT, "row": TEXT,
        "reader": TEXT, "value": NUMBER, "se": NUMBER, "low": NUMBER, "high": NUMBER, "seeds": NUMBER,
        "share_seeds": NUMBER,
    },
    # one row per task x attribute: the cell that validation chose, and what test says of it
    "decisions": {
        "task": TEXT, "attribute": TEXT, "row": TEXT, "reader": TEXT, "gap": NUMBER, "gap_validation": NUMBER,
        "shrinkage": NUMBER, "gap_change": NUMBER, "gap_change_low": NUMBER, "gap_change_high": NUMBER,
        "change": NUMBER, "best_rival": TEXT, "rival_gap": NUMBER, "verdict": TEXT, "seeds": NUMBER,
        "share_seeds": NUMBER,
    },
    # one row per task x attribute x row x reader x metric: means over seeds
    "replicates": {
        "task": TEXT, "attribute": TEXT, "row": TEXT, "reader": TEXT, "metric": TEXT, "value": NUMBER, "low": NUMBER,
        "high": NUMBER, "seeds": NUMBER, "sd_seeds": NUMBER, "sd_patients": NUMBER, "share_seeds": NUMBER,
    },
}  # fmt: skip

# columns that a table has where they are needed: of tasks of several classes, the class that a row tells from the rest,
# and whether the unit is given to it (1, 0)
OPTIONAL = {
    "predictions": {"class": TEXT, "decision": NUMBER},
    "quality": {"lpips": NUMBER, "lite0_distance": NUMBER},
}


def write(table: pd.DataFrame, name: str, folder: Path) -> None:
    """Write `table` as ``<folder>/<name>.parquet`` after checking it against its schema.

    Raises
    ------
    ValueError
        A column is missing or holds something of another type; the column is named.
    """
    pq.write_table(pa.Table.from_pandas(_typed(table, name), preserve_index=False), Path(folder) / f"{name}.parquet")


def read(name: str, *folders: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read table `name` from each of `folders`, one below the other."""
    parts = [pd.read_parquet(Path(folder) / f"{name}.parquet", columns=columns) for folder in folders]
    return pd.concat(parts, ignore_index=True)


def to_csv(table: pd.DataFrame, path: Path, index: bool = False) -> None:
    """Write a table as CSV for spreadsheets: text that one would take for a formula begins with an apostrophe.

    Such text begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end. Numbers, also with their unit or limits,
    stay as they are.
    """

    def quoted(cell):
        formula = isinstance(cell, str) and cell[:1] in FORMULA and not NUMERIC.fullmatch(cell)
        return f"'{cell}" if formula else cell

    texts = table.apply(lambda column: column if is_numeric_dtype(column) else column.map(quoted))
    texts.rename(index=quoted, columns=quoted).to_csv(path, index=index, encoding="utf-8")


def published(name: str) -> pd.DataFrame:
    """Read values of the paper and its slides, transcribed as printed; ``cited`` says from which table.

    ``performance`` is by dataset, level, source, task and metric, ``strategies`` by strategy as well;
    ``fairness``, by attribute; ``summaries``, of several tasks or models; ``cohorts``, patients by group. Of chapter
    07, ``cmr_strategies, cmr_groups, cmr_cohorts`` (Lee et al., MELBA 2025) and ``fairread_strategies,
    fairread_cohorts`` (FairREAD and FCRO, second-hand: from reading notes of a third party). A value that is given as
    a bound, such as ``<0.05``, has ``bound`` True.

    Examples
    --------
    >>> rows = published("performance")
    >>> rows[(rows.level == "x4") & (rows.metric == "psnr")].set_index("source").value.to_dict()
    {'unet': 42.94, 'pix2pix': 37.71, 'sde': 40.23}
    """
    table = pd.read_csv(PUBLISHED / f"{name}.csv", comment="#", keep_default_na=False, dtype={"value": str})
    if "value" not in table:
        return table
    bound = table.value.str.startswith("<")
    table["value"] = table.value.str.lstrip("<").astype(float)
    return table.assign(bound=bound) if bound.any() else table


def _typed(table: pd.DataFrame, name: str) -> pd.DataFrame:
    typed = table.reset_index(drop=True)
    if "synthetic" in typed and typed.synthetic.fillna(False).astype(bool).any():
        raise ValueError(f"table '{name}': it holds synthetic images, which train and are never judged; leave them out")
    optional = {column: kind for column, kind in OPTIONAL.get(name, {}).items() if column in table}
    for column, kind in (SCHEMAS[name] | optional).items():
        if column not in table:
            raise ValueError(f"table '{name}': column '{column}' is missing; it has {', '.join(table.columns)}")
        try:
            typed[column] = pa.Array.from_pandas(typed[column], type=kind).to_pandas()
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"table '{name}': column '{column}' should hold {kind}: {error}") from None
    return typed
