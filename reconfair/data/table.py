"""A cohort of one's own: a CSV or Parquet table with a row per image or volume, mapped by the params file."""

import numpy as np
import pandas as pd

from reconfair.data import files
from reconfair.params import leaves

SEX = {"f": "female", "female": "female", "m": "male", "male": "male"}
LABELS = {"0": 0, "1": 1, "-1": None}


def table(dataset) -> pd.DataFrame:
    """One row per image or slice: what the params file names, under the names that the study knows.

    Sex, age and race are constants of a patient: a missing one is taken from the patient's other rows,
    and of several ages the first.
    """
    root, (path,) = dataset.find(), dataset.metadata()
    raw = read_entries(path)
    columns = {"sex": dataset.sex, "age": dataset.age, "race": dataset.race, **dataset.tasks}
    named = [dataset.image, dataset.patient, *(column.column for column in columns.values() if column), *dataset.keep]
    files.need(raw, named + ([dataset.mask.column] if dataset.mask else []), path)
    image, patient = raw[dataset.image], raw[dataset.patient]
    files.refuse(patient, patient == "", path, "names no patient; every row needs one")
    files.refuse(image, image.duplicated(), path, "occurs more than once; every row needs an image of its own")
    rows = pd.DataFrame({"image_id": image, "patient_id": patient, "path": _within(root, image, path)})
    if dataset.mask:
        rows["mask_path"] = _within(root, raw[dataset.mask.column], path, dataset.mask.blank == "background")
    for name, column in columns.items():
        read = {"sex": _sexes, "age": _ages, "race": _races}.get(name, _labels)
        rows[name] = read(raw[column.column], column.values, path) if column else np.nan
        first = rows[name].groupby(patient).transform("first")
        if name in ("sex", "race"):
            rows[name] = rows[name].fillna(first).astype("str")
        elif name == "age":
            rows[name] = first
        elif dataset.about.unit == "patient":
            why = "is not what another row says of this patient; it must be, unless dataset.unit is image"
            files.refuse(raw[column.column], rows[name].notna() & (rows[name] != first), path, why)
    return _sliced(rows.join(raw[list(dataset.keep)]), dataset.slices)


def read_entries(path) -> pd.DataFrame:
    """The table as text. In a CSV file commas, semicolons or tabs may part the columns."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path).astype("str").fillna("")
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(",;\t", key=header.count)
        return pd.read_csv(path, sep=separator, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a table; expected CSV in UTF-8 or Parquet ({error})") from None


def image(row, dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """Image within [0, 1] and its mask or None, both (size, size)."""
    cut = {"number": row.slice, "axis": dataset.slices.axis} if dataset.slices else {}
    shown = {"channel": dataset.channel, "window": dataset.window, "percentiles": dataset.percentiles}
    picture, outline = files.picture(row.path, dataset.size, mask_path=getattr(row, "mask_path", ""), **cut, **shown)
    return picture, np.zeros_like(picture, bool) if dataset.mask and outline is None else outline


def _sexes(entries: pd.Series, values: dict, path) -> pd.Series:
    return files.coded(entries, values or SEX, path)


def _ages(entries: pd.Series, values: dict, path) -> pd.Series:
    """Ages in years; those that `values` name are what they say."""
    text = files.plain(entries)
    named = text.isin(list(values))
    age = files.years(entries.mask(named, ""), path)
    why = "is no age between 0 and 120; if it stands for unknown, say so with values: {entry: null} for dataset.age"
    files.refuse(entries, (age <= 0) | (age > 120), path, why)
    return age.mask(named, text.map(values).astype(float))


def _races(entries: pd.Series, values: dict, path) -> pd.Series:
    """Groups by `values`, or as they are written."""
    if values:
        return files.coded(entries, values, path)
    return entries.str.strip().mask(files.plain(entries).isin(files.MISSING))


def _labels(entries: pd.Series, values: dict, path) -> pd.Series:
    return files.coded(entries, values or LABELS, path).astype(float)


def _within(root, names: pd.Series, path, blank: bool = False) -> pd.Series:
    """Paths of files within `root`."""
    files.refuse(names, (names == "") & (not blank), path, "names no file; every row needs one")
    why = f"may lead out of {root}; write paths relative to that folder, without '..'"
    files.refuse(names, names.map(leaves).astype(bool), path, why)
    return (f"{root}/" + names.str.replace("\\", "/")).mask(names == "", "")


def _sliced(rows: pd.DataFrame, slices) -> pd.DataFrame:
    """Rows of volumes repeated for each slice that is looked at."""
    if slices is None:
        return rows
    numbers = np.arange(slices.first, slices.last + 1, slices.step)
    rows = rows.loc[rows.index.repeat(len(numbers))].assign(slice=np.tile(numbers, len(rows)))
    return rows.assign(image_id=rows.image_id + "_" + rows.slice.astype("str").str.zfill(3)).reset_index(drop=True)
