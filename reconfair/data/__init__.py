"""Chapter 01: cohorts. Who is in the study, with which images, labels and attributes.

A dataset is a module of this folder with two functions: ``table(dataset)`` returns one row per
image, and ``image(row, dataset)`` returns an image within [0, 1] and its mask or None.
"""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from reconfair import store, tables
from reconfair.data import splits
from reconfair.params import Study

CHUNK = 32  # images per piece of work: long enough to be worth sending to a process


class Cohort(NamedTuple):
    """A prepared dataset: rows of `table`, `images` and `masks` belong together.

    `images` is (n, size, size) float16 within [0, 1], `masks` of the same shape is 0 or 1, or None
    where the dataset has none; both are memory-mapped.
    """

    table: pd.DataFrame
    images: np.ndarray
    masks: np.ndarray | None


def prepare(study: Study) -> Cohort:
    """Make the cohort unless it is fresh, and load it."""
    store.check_label(study)
    store.make(store.flow(study)["cohort"], partial(_write, study))
    cohort = load(study)
    check(cohort.table, _classified(study))  # a cohort made for other tasks may lack a class of these
    return cohort


def load(study: Study) -> Cohort:
    """Open the prepared cohort of `study`; arrays are read when they are used."""
    folder = store.flow(study)["cohort"].folder
    masks = folder / "masks.npy"
    return Cohort(
        tables.read("cohort", folder),
        np.load(folder / "images.npy", mmap_mode="r"),
        np.load(masks, mmap_mode="r") if masks.exists() else None,
    )


def cohort_table(study: Study) -> pd.DataFrame:
    """One row per image: identity, split, attributes and labels, checked.

    Raises
    ------
    ValueError
        The cohort cannot carry the study: repeated images, an attribute that differs within a
        patient, an empty split, or a class with no case in one.
    """
    dataset = study.dataset
    table = import_module(f"reconfair.data.{dataset.name}").table(dataset)
    table = splits.assign(splits.derive(table), dataset.split, dataset.seed, dataset.about.modality)
    check(table, _classified(study))
    return table


def check(table: pd.DataFrame, tasks: list[str]) -> None:
    """Refuse a cohort that cannot carry the study, naming what is wrong.

    Examples
    --------
    >>> rows = {"image_id": ["a", "b"], "patient_id": ["p", "p"], "split": ["train", "test"]}
    >>> check(pd.DataFrame(rows), [])
    Traceback (most recent call last):
        ...
    ValueError: patient 'p' is in two splits: train, test
    """
    repeated = table.image_id[table.image_id.duplicated()]
    if len(repeated):
        raise ValueError(f"image '{repeated.iloc[0]}' occurs more than once ({len(repeated)} repeated images)")
    for column in ("split", "sex", "age_group", "race"):
        values = table.get(column, pd.Series(dtype=object)).groupby(table.patient_id).unique()
        several = values[values.str.len() > 1]
        if len(several):
            found = ", ".join(map(str, several.iloc[0]))
            kind = "splits" if column == "split" else f"groups of {column}"
            raise ValueError(f"patient '{several.index[0]}' is in two {kind}: {found}")
    for split in splits.names("train_diag" in set(table.split)):
        part = table[table.split == split]
        if part.empty:
            raise ValueError(f"split '{split}' is empty: {table.patient_id.nunique()} patients are too few")
        for task in tasks:
            absent = {0.0, 1.0} - set(part[task].dropna())
            if absent:
                raise ValueError(f"task '{task}': no case of class {int(min(absent))} in split '{split}'")


def rows(table: pd.DataFrame, use: str) -> np.ndarray:
    """Row numbers of `table` for a use: ``recon`` or ``diag`` training, ``val``, ``test`` or ``eval`` (both)."""
    wanted = {"recon": ("train", "train_recon"), "diag": ("train", "train_diag"), "eval": ("val", "test")}
    return np.flatnonzero(table.split.isin(wanted.get(use, (use,))))


def _classified(study: Study) -> list[str]:
    return [task for task, kind in study.tasks.items() if kind == "classify"]


def _write(study: Study, part: Path) -> None:
    table = cohort_table(study)
    shape = (len(table), study.dataset.size, study.dataset.size)
    files = [store.Growing(part / "images.npy", shape, np.float16)]
    if "segment" in study.dataset.about.tasks.values():
        files.append(store.Growing(part / "masks.npy", shape, np.uint8))
    starts = range(store.resume(CHUNK, *files), len(table), CHUNK)
    chunks = [table.iloc[start : start + CHUNK] for start in starts]
    for arrays in store.parallel(partial(images_of, dataset=study.dataset), chunks, "images", study.compute.workers):
        for file, rows in zip(files, arrays, strict=False):  # masks are None where there are none
            file.append(rows)
    tables.write(table, "cohort", part)


def images_of(chunk: pd.DataFrame, dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """Images of some rows of a cohort table, and their masks or None: (n, size, size)."""
    image = import_module(f"reconfair.data.{dataset.name}").image
    drawn = [image(row, dataset) for row in chunk.itertuples()]
    masks = None if drawn[0][1] is None else np.stack([mask for _, mask in drawn])
    return np.stack([picture for picture, _ in drawn]), masks
