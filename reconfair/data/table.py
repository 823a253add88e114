"""A cohort of one's own: a CSV or Parquet table with a row per image or volume, mapped by the params file."""

import os
from glob import escape
from pathlib import Path, PureWindowsPath
from string import Formatter
from typing import Annotated, Generic, Literal, TypeVar

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, field_validator, model_serializer, model_validator

from reconfair.data import files, traits
from reconfair.entries import Sheet, fold
from reconfair.params import SEXES, About, Scans, Section

SEX = {"f": "female", "female": "female", "m": "male", "male": "male"}
MANY = 20  # groups of an attribute that consists of numbers, at most
LABELS = {"0": 0, "1": 1, "-1": None, "false": 0, "true": 1}
YAML_WORDS = {"True": ("true", "yes", "on"), "False": ("false", "no", "off")}  # YAML reads an unquoted yes as true

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
        entries = {str(entry): meaning for entry, meaning in given["values"].items()}
        values = {word: entries[entry] for entry in entries for word in YAML_WORDS.get(entry, (entry,))}
        return {**given, "values": values}

    @model_validator(mode="after")
    def _one_meaning(self):
        meanings = {}
        for word, meaning in self.values.items():
            if meanings.setdefault(fold(word), meaning) != meaning:
                raise ValueError(f"values: '{word}' has two meanings; upper and lower case are the same")
        return self


Sexes, Ages, Races = Column[Literal[SEXES]], Column[Annotated[float, Field(ge=0, le=120)]], Column[str]


class Labels(Column[Annotated[int, Field(ge=0, le=99)]]):
    """The labels of a task: 1 and 0, or the numbers of several classes from 0, each named by its first entry here."""

    ordinal: bool = False  # whether the classes go from low to high

    @model_validator(mode="before")
    @classmethod
    def _labels(cls, given):
        if not isinstance(given, dict):
            return given
        if {"labels", "values"} <= given.keys():
            raise ValueError("labels and values mean the same; give one of them")
        given = {"values" if key == "labels" else key: value for key, value in given.items()}
        labels = given["values"] if isinstance(given.get("values"), dict) else {}
        for word, number in labels.items():
            if isinstance(number, str) and not number.isdecimal():
                expected = "expected the number of a class from 0, or null (unknown)"
                raise ValueError(f"labels: '{word}' is '{number}', {expected}")
        classes = {str(number) for number in labels.values() if number is not None}
        if len(classes) > 2 and any(isinstance(word, bool) for word in labels):
            raise ValueError("labels: YAML reads yes and no as true and false; write the names of classes in quotes")
        return given

    @model_validator(mode="after")
    def _numbered(self):
        numbers = {meaning for meaning in self.values.values() if meaning is not None}
        lacking = sorted(set(range(max(numbers, default=0) + 1)) - numbers)
        if max(numbers, default=0) > 1 and lacking:
            word = max(self.values, key=lambda word: self.values[word] or 0)
            numbered = f"labels: '{word}' is {max(numbers)}, and no entry is {lacking[0]}"
            raise ValueError(f"{numbered}; classes are numbered from 0 without gaps")
        if self.ordinal and not self.classes:
            raise ValueError("ordinal: only a task of more than two classes has an order; give its labels 0, 1, 2, ...")
        for name in self.classes:
            if ": " in name or not name.strip():
                raise ValueError(f"labels: '{name}' cannot name a class; write it without a colon")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of several classes, in order; empty of a task of two."""
        first = {}
        for word, meaning in self.values.items():
            if meaning is not None:
                first.setdefault(meaning, word)
        return tuple(first[number] for number in sorted(first)) if len(first) > 2 else ()

    @model_serializer(mode="wrap")
    def _as_before(self, dump):
        return {key: value for key, value in dump(self).items() if key != "ordinal" or value}


class Trait(Column[str]):
    """A column that is an attribute: its entries are groups, or, with `cuts`, numbers that are cut into groups.

    With `cuts`, `values` name the entries that stand for unknown, as in ``{-999: null}``, and no others.
    """

    cuts: traits.Cuts | None = None  # median, the upper ends of all groups but the last, or none: kept whole

    @model_validator(mode="after")
    def _numbers_have_no_values(self):
        named = [word for word, meaning in self.values.items() if meaning is not None]
        if self.cuts is not None and named:
            raise ValueError(
                f"values: '{named[0]}' names a group, and cuts make groups from numbers; beside cuts, values can only "
                "be null (unknown)"
            )
        return self


def columns_of(place: str) -> list[str]:
    """The columns that name a file: one, or those in braces, as in ``images/{image_id}.jpg``.

    Examples
    --------
    >>> columns_of("path"), columns_of("images/{image_id}.jpg")
    (['path'], ['image_id'])
    """
    return [name for _, name, _, _ in Formatter().parse(place) if name] if "{" in place else [place]


def _of_columns(place: str) -> str:
    """Refuse braces that hold no name of a column."""
    try:
        fields = [field for field in Formatter().parse(place) if field[1] is not None]
    except ValueError:
        fields = [("", "", "", "")]
    if any(not name or layout or conversion for _, name, layout, conversion in fields):
        raise ValueError("expected a column, or a path with columns in braces, such as images/{image_id}.jpg")
    return place


Place = Annotated[str, AfterValidator(_of_columns)]


Region = Annotated[str, Field(pattern=r"^\w[\w-]*$", max_length=80)]


class Mask(Section):
    """A column with the files that outline something, and the task to segment it; or several regions, each a task."""

    column: Place
    task: Region = "tumour"
    blank: Literal["error", "background"] = "error"  # background: a row without a file has nothing to outline
    inside: tuple[float, ...] | None = Field(None, min_length=1)  # values inside; None: as files.outline finds
    labels: dict[Annotated[int, Field(ge=1)], Region] = {}  # region by value, {1: lv, 2: myo}; other values lie outside

    @model_validator(mode="after")
    def _one_or_several(self):
        for key in ("task", "inside"):
            if self.labels and key in self.model_fields_set and getattr(self, key) not in ("tumour", None):
                raise ValueError(f"labels name the regions of a mask and their values, so that {key} says nothing more")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump):
        return {key: value for key, value in dump(self).items() if key != "labels" or value}

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """The values of each region that ``labels`` name."""
        values = {}
        for value, name in self.labels.items():
            values[name] = (*values.get(name, ()), value)
        return values

    @property
    def tasks(self) -> tuple[str, ...]:
        """What there is to segment."""
        return tuple(self.regions) or (self.task,)


class Slices(Section):
    """The slices of each volume that are images of the cohort, counted from 0, `last` included."""

    first: Annotated[int, Field(ge=0, le=9999)]
    last: Annotated[int, Field(ge=0, le=9999)]
    step: Annotated[int, Field(ge=1)] = 1
    axis: Annotated[int, Field(ge=0, le=2)] = 0  # NIfTI: 0 axial, 1 coronal, 2 sagittal; else as stored

    @model_validator(mode="after")
    def _in_order(self):
        if self.first > self.last:
            raise ValueError(f"slices from {self.first} to {self.last} are none; first must not exceed last")
        return self


def look_at_ranges(window: tuple[float, float] | None, percentiles: tuple[float, float]) -> None:
    """Refuse a window or percentiles that are no range of values, and percentiles that are given as shares."""
    for low, high in (window or (0, 1), percentiles):
        if low >= high:
            raise ValueError(f"[{low:g}, {high:g}] is no range of values; the lower end comes first")
    if percentiles[1] <= 1:
        low, high = (f"{100 * share:g}" for share in percentiles)
        raise ValueError(f"percentiles lie from 0 to 100; did you mean [{low}, {high}]?")


def leaves(path: str) -> bool:
    """Whether a path may lead out of the folder that it is relative to; either kind of slash."""
    path = PureWindowsPath(path)
    return bool(path.anchor) or ".." in path.parts


def _name_files(sheet: Sheet, place: str) -> None:
    """Add a column with the names of files where the params file says how they are made of others."""
    if "{" in place:
        rows = sheet.table[columns_of(place)].apply(lambda column: column.str.strip()).to_dict("records")
        sheet.table[place] = pd.array([place.format(**row) for row in rows], dtype="str")


def _within(sheet: Sheet, column: str, root: Path, blank: bool = False) -> pd.Series:
    """Paths of files within `root`; only their ends are stripped, since a folder may spell a name as it likes."""
    names = sheet.table[column].str.strip()
    sheet.refuse(column, (names == "") & (not blank), "names no file; every row needs one")
    why = f"may lead out of {root}; write paths relative to that folder, without '..'"
    sheet.refuse(column, names.map(leaves).astype(bool), why)
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
    # In root, and paths in it are relative to root. Commas, semicolons or tabs part the columns of text.
    file: str = Field("cohort.csv", pattern=r"(?i)\.(csv|tsv|txt|xlsx|parquet)$")
    where: dict[str, tuple[str, ...]] = {}  # rows that count, by column: {view: [PA, AP]}; all others are left out
    modality: Literal["mri", "xray"] = "mri"
    unit: Literal["patient", "image"] | None = None  # what is decided; None: a patient by MRI, an image by X-ray

    image: Place = "path"
    patient: str = "patient_id"  # column
    sex: Sexes | None = Sexes(column="sex")  # None: not recorded
    age: Ages | None = Ages(column="age")  # years, or as DICOM writes them (058Y, 006M)
    race: Races | None = Races(column="race")  # any groups
    # Further ones, by name: a column of groups, or of numbers with cuts.
    attributes: dict[Annotated[str, Field(pattern=r"^[A-Za-z]\w*$", max_length=80)], Trait] = {}
    tasks: dict[Annotated[str, Field(pattern=r"^\w[\w -]*$", max_length=80)], Labels] = {
        "label": Labels(column="label")
    }
    mask: Mask | None = None
    keep: tuple[Annotated[str, Field(min_length=1)], ...] = ()  # columns to carry along, such as the scanner
    slices: Slices | None = None
    fit: Literal["squash", "pad", "crop"] = "pad"  # an image that is not square: squeezed, or padded, or cut
    geometry: Literal["check", "ignore"] = "check"  # whether image and mask must say that they lie in the same place
    channels: Literal[1, 3] = 1  # 3: red, green and blue are kept
    channel: Annotated[int, Field(ge=0, le=2)] | None = None  # of colour images; None: their grey
    window: tuple[float, float] | None = None  # stored values shown as 0 and 1; None: by percentiles
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0, 100)

    @field_validator("where", mode="before")
    @classmethod
    def _words(cls, given):
        if not isinstance(given, dict):
            return given
        several = {column: words if isinstance(words, list | tuple) else [words] for column, words in given.items()}
        return {str(column): tuple(map(str, words)) for column, words in several.items()}

    @model_validator(mode="after")
    def _can_be_studied(self):
        whole = [f"{name}_value" for name, trait in self.attributes.items() if trait.cuts is not None]
        names = (*self.tasks, *(self.mask.tasks if self.mask else ()), *self.keep, *self.attributes, *whole)
        folds = [fold(name) for name in names]
        for name in names:
            if folds.count(fold(name)) > 1:
                raise ValueError(f"'{name}' names two tasks or columns of the cohort; choose another name")
            if fold(name) in traits.RESERVED or name.startswith("z_"):
                raise ValueError(f"'{name}' has a meaning of its own in the tables of a study; choose another name")
        if not self.about.tasks or not self.about.attributes:
            raise ValueError("name at least one of tasks and mask, and one of sex, age and race, or attributes")
        if self.channels == 3 and self.channel is not None:
            raise ValueError("channel picks one of three, and channels: 3 keeps them all; leave one of them out")
        if leaves(self.file):
            raise ValueError(f"file '{self.file}' must lie in root; write it relative to that folder, without '..'")
        look_at_ranges(self.window, self.percentiles)
        return self

    @property
    def about(self) -> About:
        """What the params file says of this table."""
        recorded = {"sex": self.sex, "age_group": self.age, "race": self.race}
        outlined = self.mask.tasks if self.mask else ()
        return About(
            self.modality,
            unit=self.unit or {"mri": "patient", "xray": "image"}[self.modality],
            tasks=dict.fromkeys(self.tasks, "classify") | dict.fromkeys(outlined, "segment"),
            attributes=(*(attribute for attribute, column in recorded.items() if column), *self.attributes),
            folder="table",
            metadata=(escape(self.file),),
            where="a table of your own images ready (README, Your own scans)",
            classes={name: labels.classes for name, labels in self.tasks.items() if labels.classes},
            ordinal=tuple(name for name, labels in self.tasks.items() if labels.ordinal),
            whole=tuple(name for name, trait in self.attributes.items() if trait.cuts == "none"),
        )

    def read_table(self) -> pd.DataFrame:
        """One row per image or slice: what the params file names, under the names that the study knows.

        Sex, age, race and further attributes are constants of a patient: a missing one is taken from the patient's
        other rows, and of several ages the first.
        """
        root, (path,) = self.find(), self.metadata()
        sheet = Sheet.open(path)
        columns = {"sex": self.sex, "age": self.age, "race": self.race, **self.tasks, **self.attributes}
        places = [self.image, *([self.mask.column] if self.mask else [])]
        named = [*(name for place in places for name in columns_of(place)), self.patient]
        sheet.need([*named, *(column.column for column in columns.values() if column), *self.keep, *self.where])
        self._look_at_split(sheet)
        sheet.where({column: [YAML_WORDS.get(word, (word,)) for word in words] for column, words in self.where.items()})
        sheet.distinct()
        for place in places:
            _name_files(sheet, place)
        patient, image = sheet.names(self.patient), sheet.table[self.image].str.strip()
        rows = pd.DataFrame({"image_id": image, "patient_id": patient, "path": _within(sheet, self.image, root)})
        twice = rows.path.map(os.path.normpath).duplicated()
        sheet.refuse(self.image, twice, "occurs more than once; every row needs an image of its own")
        if self.mask:
            rows["mask_path"] = _within(sheet, self.mask.column, root, self.mask.blank == "background")
            itself = rows.mask_path.map(os.path.normpath) == rows.path.map(os.path.normpath)
            sheet.refuse(self.mask.column, itself, "is the image itself; expected the file that outlines something")
        for name, column in columns.items():
            rows[name] = self._entries(sheet, name, column) if column else np.nan
            if column and name not in self.tasks and rows[name].isna().all():
                self._refuse_unknown(sheet, name, column.column)
                continue
            first = rows[name].groupby(patient).transform("first")
            if name in self.attributes and column.cuts is not None:
                why = "is not what another row says of this patient; an attribute belongs to a patient"
                sheet.refuse(column.column, rows[name].notna() & (rows[name] != first), why)
                rows[f"{name}_value"] = first
                rows[name] = traits.cut(first, column.cuts, patient)
                self._look_at_groups(sheet, name, column, rows[name], first)
            elif name in ("sex", "race", *self.attributes):
                rows[name] = rows[name].fillna(first).astype("str")
                self._look_at_number(sheet, name, column, rows[name])
            elif name == "age":
                rows[name] = first
            elif self.about.unit == "patient":
                why = "is not what another row says of this patient; it must be, unless dataset.unit is image"
                sheet.refuse(column.column, rows[name].notna() & (rows[name] != first), why)
        for column in self.keep:
            rows[column] = sheet.groups(column)
        sheet.check()
        rows = _sliced(rows, self.slices)
        if self.patient != type(self).model_fields["patient"].default:
            sheet.notes.append(f"{path.name}: what is counted as a patient is a '{self.patient}'")
        rows.attrs["notes"] = sheet.notes
        return rows

    def _look_at_split(self, sheet: Sheet) -> None:
        """Refuse folds beside a split of the table's own, and note that a split of its own is not used."""
        if self.folds and "split" in sheet.table:
            sheet.mistakes.append(
                f"{sheet.path}: column 'split' gives the set a split, and dataset.folds: {self.folds} makes others; "
                "leave out folds, or rename the column"
            )
        elif "split" in sheet.table and "split" not in self.where:
            how = f"dataset.split and dataset.seed: {self.seed} part the patients anew"
            sheet.notes.append(f"{sheet.path.name}: column 'split' is not used; {how}")

    def _refuse_unknown(self, sheet: Sheet, name: str, column: str) -> None:
        """Refuse an attribute of which no entry is known, unless its entries have been refused."""
        if not any(f"column '{column}'" in mistake for mistake in sheet.mistakes):
            without = (
                f"leave out dataset.attributes.{name}" if name in self.attributes else f"write dataset.{name}: null"
            )
            sheet.mistakes.append(
                f"{sheet.path}, column '{column}': no entry is known; {without}, or name another column"
            )

    def _look_at_number(self, sheet: Sheet, name: str, column, groups: pd.Series) -> None:
        """Refuse an attribute of many values: each would be a group."""
        numbers, many = pd.to_numeric(groups.dropna(), errors="coerce").notna().all(), groups.nunique()
        if name in self.attributes and many > MANY:
            cut = f'write dataset.attributes.{name}: {{column: "{column.column}", cuts: median}}'
            merge = f"say under dataset.attributes.{name}.values which are one group, or name a column of fewer groups"
            sheet.mistakes.append(
                f"{sheet.path}, column '{column.column}' has {many} different {'numbers' if numbers else 'values'}, "
                f"expected {MANY} groups at most; {cut if numbers else merge}"
            )

    def _look_at_groups(self, sheet: Sheet, name: str, column: Trait, groups: pd.Series, numbers: pd.Series) -> None:
        """Refuse numbers that all fall into one group, and note groups into which none falls."""
        key = f"dataset.attributes.{name}.cuts"
        if text := traits.together(groups, numbers):
            sheet.mistakes.append(f"{sheet.path}, column '{column.column}': {text} ({key})")
        elif not isinstance(column.cuts, str):
            empty = [group for group in traits.groups(column.cuts) if group not in set(groups)]
            if empty:
                span = f"{numbers.min():g} to {numbers.max():g}"
                sheet.notes.append(f"{key}: no patient is in the group {', '.join(empty)}; numbers are {span}")

    def _entries(self, sheet: Sheet, name: str, column: Column) -> pd.Series:
        """Read an attribute, or the labels of a task."""
        place, meanings = column.column, dict(column.values)
        if name == "sex":
            return sheet.coded(place, meanings or SEX, "dataset.sex")
        if name == "age":
            return sheet.years(place, meanings, "dataset.age")
        if name == "race":
            return sheet.groups(place, meanings, "dataset.race")
        if name in self.attributes:
            groups = column.cuts is None
            key = f"dataset.attributes.{name}"
            return sheet.groups(place, meanings, key) if groups else sheet.numbers(place, unknown=meanings)
        return sheet.coded(place, meanings or LABELS, f"dataset.tasks.{name}").astype(float)

    def read_image(self, row) -> tuple[np.ndarray, np.ndarray | None]:
        """Image within [0, 1], (size, size) or (3, size, size), and its mask (`mask_shape`) or None."""
        cut = {"number": row.slice, "axis": self.slices.axis} if self.slices else {}
        values = {"channel": self.channel, "window": self.window, "percentiles": self.percentiles}
        values["colour"] = self.channels == 3
        drawn = {"mask_path": getattr(row, "mask_path", "")}
        drawn |= {"inside": self.mask.inside, "regions": tuple(self.mask.regions.values())} if self.mask else {}
        image, outline = files.picture(
            row.path, self.size, fit=self.fit, geometry=self.geometry, **cut, **values, **drawn
        )
        nothing = np.zeros(self.mask_shape, bool)
        return image, nothing if self.mask and outline is None else outline
