"""A cohort of one's own: a CSV or Parquet table with a row per image or volume, mapped by the params file."""

from glob import escape
from pathlib import PureWindowsPath
from typing import Annotated, Generic, Literal, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from reconfair.data import files
from reconfair.params import COHORT, SEXES, About, Scans, Section

SEX = {"f": "female", "female": "female", "m": "male", "male": "male"}
LABELS = {"0": 0, "1": 1, "-1": None}


Meaning = TypeVar("Meaning")


class Column(Section, Generic[Meaning]):
    """A column of one's own table and what its entries mean; its name alone will do.

    Where `values` are given, every entry must be listed there (upper or lower case, ``2`` or ``2.0``);
    null stands for unknown. Empty entries and words such as ``unknown`` are missing.
    """

    column: str
    values: dict[str, Meaning | None] = {}

    @model_validator(mode="before")
    @classmethod
    def _as_yaml_reads_it(cls, given):
        if isinstance(given, str):
            return {"column": given}
        if not isinstance(given, dict) or not isinstance(given.get("values"), dict):
            return given
        words = {"True": ("true", "yes"), "False": ("false", "no")}  # YAML reads an unquoted yes as true
        entries = {str(entry): meaning for entry, meaning in given["values"].items()}
        return {**given, "values": {word: entries[entry] for entry in entries for word in words.get(entry, (entry,))}}


Sexes, Labels = Column[Literal[SEXES]], Column[Literal[0, 1]]
Ages, Races = Column[float], Column[str]


class Mask(Section):
    """A column with the files that outline something, nonzero inside, and the task to segment it."""

    column: str
    task: str = Field("tumour", pattern=r"^\w[\w-]*$")
    blank: Literal["error", "background"] = "error"  # background: a row without a file has nothing to outline


class Slices(Section):
    """The slices of each volume that are images of the cohort, counted from 0, `last` included."""

    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]
    step: Annotated[int, Field(ge=1)] = 1
    axis: Annotated[int, Field(ge=0, le=2)] = 0  # NIfTI: 0 axial, 1 coronal, 2 sagittal; else as stored

    @model_validator(mode="after")
    def _in_order(self):
        if self.first > self.last:
            raise ValueError(f"slices from {self.first} to {self.last} are none; first must not exceed last")
        return self


def leaves(path: str) -> bool:
    """Whether a path may lead out of the folder that it is relative to; either kind of slash."""
    path = PureWindowsPath(path)
    return bool(path.anchor) or ".." in path.parts


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


class Table(Scans):
    """One's own images, listed in a CSV or Parquet file with a row per image or volume."""

    name: Literal["table"]
    file: str = Field("cohort.csv", pattern=r"\.(csv|parquet)$")  # in root; paths in it are relative to root
    modality: Literal["mri", "xray"] = "mri"
    unit: Literal["patient", "image"] | None = None  # what is decided; None: a patient by MRI, an image by X-ray
    image: str = "path"  # column with the file: PNG, JPEG, TIFF, NIfTI, NPY, or DICOM whatever its suffix
    patient: str = "patient_id"  # column
    sex: Sexes | None = Sexes(column="sex")  # None: not recorded
    age: Ages | None = Ages(column="age")  # years, or as DICOM writes them (058Y, 006M)
    race: Races | None = Races(column="race")  # any groups
    tasks: dict[Annotated[str, Field(pattern=r"^\w[\w -]*$")], Labels] = {"label": Labels(column="label")}
    mask: Mask | None = None
    keep: tuple[str, ...] = ()  # columns to carry along, such as the scanner
    slices: Slices | None = None
    channel: Annotated[int, Field(ge=0)] | None = None  # of colour images; None: their grey
    window: tuple[float, float] | None = None  # stored values shown as 0 and 1; None: by percentiles
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0, 100)

    @model_validator(mode="after")
    def _can_be_studied(self):
        names = (*self.tasks, *([self.mask.task] if self.mask else []), *self.keep)
        taken = [name for name in names if name in COHORT or names.count(name) > 1]
        if taken:
            raise ValueError(f"'{taken[0]}' is another task or column of the cohort already; choose another name")
        if not self.about.tasks or not self.about.attributes:
            raise ValueError("name at least one of tasks and mask, and one of sex, age and race")
        if leaves(self.file):
            raise ValueError(f"file '{self.file}' must lie in root; write it relative to that folder, without '..'")
        for low, high in (self.window or (0, 1), self.percentiles):
            if low >= high:
                raise ValueError(f"[{low:g}, {high:g}] is no range of values; the lower end comes first")
        return self

    @property
    def about(self) -> About:
        """What the params file says of this table."""
        recorded = {"sex": self.sex, "age_group": self.age, "race": self.race}
        return About(
            self.modality,
            unit=self.unit or {"mri": "patient", "xray": "image"}[self.modality],
            tasks=dict.fromkeys(self.tasks, "classify") | ({self.mask.task: "segment"} if self.mask else {}),
            attributes=tuple(attribute for attribute, column in recorded.items() if column),
            folder="table",
            metadata=(escape(self.file),),
            where="a table of your own images ready (README, Your own scans)",
        )

    def read_table(self) -> pd.DataFrame:
        """One row per image or slice: what the params file names, under the names that the study knows.

        Sex, age and race are constants of a patient: a missing one is taken from the patient's other rows,
        and of several ages the first.
        """
        root, (path,) = self.find(), self.metadata()
        raw = read_entries(path)
        columns = {"sex": self.sex, "age": self.age, "race": self.race, **self.tasks}
        named = [self.image, self.patient, *(column.column for column in columns.values() if column), *self.keep]
        files.need(raw, named + ([self.mask.column] if self.mask else []), path)
        image, patient = raw[self.image], raw[self.patient]
        files.refuse(patient, patient == "", path, "names no patient; every row needs one")
        files.refuse(image, image.duplicated(), path, "occurs more than once; every row needs an image of its own")
        rows = pd.DataFrame({"image_id": image, "patient_id": patient, "path": _within(root, image, path)})
        if self.mask:
            rows["mask_path"] = _within(root, raw[self.mask.column], path, self.mask.blank == "background")
        for name, column in columns.items():
            read = {"sex": _sexes, "age": _ages, "race": _races}.get(name, _labels)
            rows[name] = read(raw[column.column], column.values, path) if column else np.nan
            first = rows[name].groupby(patient).transform("first")
            if name in ("sex", "race"):
                rows[name] = rows[name].fillna(first).astype("str")
            elif name == "age":
                rows[name] = first
            elif self.about.unit == "patient":
                why = "is not what another row says of this patient; it must be, unless dataset.unit is image"
                files.refuse(raw[column.column], rows[name].notna() & (rows[name] != first), path, why)
        return _sliced(rows.join(raw[list(self.keep)]), self.slices)

    def read_image(self, row) -> tuple[np.ndarray, np.ndarray | None]:
        """Image within [0, 1] and its mask or None, both (size, size)."""
        cut = {"number": row.slice, "axis": self.slices.axis} if self.slices else {}
        shown = {"channel": self.channel, "window": self.window, "percentiles": self.percentiles}
        picture, outline = files.picture(row.path, self.size, mask_path=getattr(row, "mask_path", ""), **cut, **shown)
        return picture, np.zeros_like(picture, bool) if self.mask and outline is None else outline
