"""Tables that people bring: opened without guesses, and one reader for every text entry in every door.

A table is read as text. Entries are stripped, and compared without upper and lower case. Nothing is dropped or merged
without a note, and a mistake names the file, the column, the rows and the nearest valid entry.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import pandas as pd

from reconfair.words import nearest

MISSING = ("", "unknown", "not available", "not recorded", "not reported", "not stated", "missing", "na", "n/a", "n.a.")
MISSING += ("nan", "none", "null", "<na>", "nat", "-", "--", ".", "?")
MISSING += ("unavailable", "undisclosed", "not applicable", "not asked", "not collected", "not disclosed")
MISSING += (
    "not documented",
    "not given",
    "not provided",
    "no data",
    "no information",
    "declined",
    "declined to answer",
)
MISSING += ("refused", "patient refused", "prefer not to say", "unknown or not reported", "unknown/not reported")
MISSING += ("unk", "unk.", "not known", "not specified", "unspecified", "undefined", "n.a", "na.", "n/d", "n.d.")
MISSING += (
    "(null)",
    "<null>",
    "[null]",
    "(none)",
    "<none>",
    "(blank)",
    "(empty)",
    "\\n",
    "..",
    "...",
    "??",
    "???",
    "---",
)
MISSING += ("#na", "#n/a n/a", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan")  # of pandas and C
MISSING += ("#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!", "#spill!", "#calc!", "#getting_data")
NOBODY = ("anonymous", "anonymised", "anonymized", "anonym", "anon", "de-identified", "deidentified", "redacted")
HIDDEN = r"[#*_]{2,}|x{3,}"  # a column too narrow for its numbers, or what was made unreadable
DITTO = ('"', '""', "''", "\u201c", "\u201d", "\u3003", "\u00bb", "\u2033", "ditto", "Ditto", "do.")
UNITS = dict.fromkeys(("y", "yr", "yrs", "year", "years", "yo"), 1)
UNITS |= dict.fromkeys(("m", "mo", "mos", "month", "months"), 12)
UNITS |= dict.fromkeys(("w", "wk", "wks", "week", "weeks"), 365.25 / 7)
UNITS |= dict.fromkeys(("d", "day", "days"), 365.25)
MAX_BYTES, MAX_ENTRIES = 2 * 2**30, 100_000_000  # of a table
SHEET_BYTES, SHEET_SECONDS = 4 * 2**30, 300  # of memory and time that an Excel file may take
EXACT = 2**53  # whole numbers beyond it are not told apart in floating point
# Letters that show nothing, beside control and format characters.
INVISIBLE = {*"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0", *map(chr, range(0xFE00, 0xFE10))}
# What looks like another letter, once it is small: Cyrillic; Greek without mu, since 5 ug are not 5 mg; a dot over i.
ALIKE = str.maketrans("авекмнорстухіјѕһԁԛԝ" + "αβεζηικνορτυχ", "abekmhopctyxijshdqw" + "abezhiknoptyx", "\u0307")
ALIKE |= str.maketrans("\u2018\u2019\u02bc\u2032`\u2212\u2043", "'" * 5 + "--")
LISTED = 20  # different entries that a message lists

# Writes the first sheet that is not hidden as CSV, within a limit of memory; each row of merged cells has their value.
# It runs in a process of its own, since a small file may unpack to anything.
_READ_SHEET = """
import csv, re, resource, sys, zipfile
from xml.etree import ElementTree
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
from python_calamine import CalamineWorkbook
book = CalamineWorkbook.from_path(sys.argv[1])
seen = [at for at, sheet in enumerate(book.sheets_metadata) if str(sheet.visible).endswith(".Visible")]
sheet = book.get_sheet_by_index(seen[0] if seen else 0)
rows = sheet.to_python(skip_empty_area=False)
for (top, left), (bottom, right) in getattr(sheet, "merged_cell_ranges", None) or ():
    for row in rows[top : bottom + 1]:
        row[left : right + 1] = [rows[top][left]] * len(row[left : right + 1])
archive = zipfile.ZipFile(sys.argv[1])
named = [each for each in ElementTree.fromstring(archive.read("xl/workbook.xml")).iter() if each.tag.endswith("}sheet")]
key = next(value for name, value in named[seen[0] if seen else 0].attrib.items() if name.endswith("}id"))
places = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
place = next(each.get("Target") for each in places if each.get("Id") == key).removeprefix("/xl/")
cells = archive.read(f"xl/{place}").decode("utf-8")  # an empty text of a formula is of the type str
bare = '<c r="([A-Z]+[0-9]+)"(?![^>]*t="str")[^>]*><f(?: [^>]*)?(?:/>|>[^<]*</f>)(?:<v ?/>|<v></v>)?</c>'
never = re.search(bare, cells)
if never:
    print(f"cell {never[1]} holds a formula that was never computed; open it in a spreadsheet, and save it",
          file=sys.stderr)
    sys.exit(3)
sys.stdout.reconfigure(encoding="utf-8", newline="")
exact = lambda entry: isinstance(entry, float) and entry.is_integer() and abs(entry) < 2**53
csv.writer(sys.stdout).writerows([int(entry) if exact(entry) else entry for entry in row] for row in rows)
"""

_collector: ContextVar[list[str] | None] = ContextVar("collector", default=None)


def text(entries: pd.Series, written=None) -> pd.Series:
    """Entries as text: stripped, runs of blanks as one, a missing one empty, and whole numbers without decimals.

    Parameters
    ----------
    entries : Series
        Text, numbers or truth values; floats only where a Parquet file holds them.
    written : callable, optional
        Makes text of an entry in another way; equal entries are looked at once.

    Examples
    --------
    >>> text(pd.Series([" a  b\\u00a0", None, 2.0, True], dtype=object)).tolist()
    ['a b', '', '2', 'True']
    """
    codes, different = pd.factorize(entries)
    words = np.array([*map(written or _written, different), ""], dtype=object)  # the last for what is missing
    return pd.Series(words[codes], entries.index, dtype="str", name=entries.name)


def _written(entry) -> str:
    if pd.api.types.is_float(entry) and float(entry).is_integer() and abs(entry) < EXACT:
        entry = int(entry)
    entry = entry.decode() if isinstance(entry, bytes) else entry
    if not isinstance(entry, str):
        return "" if pd.api.types.is_scalar(entry) and pd.isna(entry) else str(entry)
    visible = (letter for letter in unicodedata.normalize("NFC", entry) if letter.isspace() or _shows(letter))
    return " ".join("".join(visible).split())


def _shows(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cf", "Cc") and letter not in INVISIBLE


def folded(entries: pd.Series) -> pd.Series:
    """Entries as they are compared: as `text`, in lower case, and ``2.0`` as ``2``.

    Examples
    --------
    >>> folded(pd.Series(["Female ", "2.0", None], dtype=object)).tolist()
    ['female', '2', '']
    """
    return text(entries, fold)


def fold(word) -> str:
    """One entry as `folded` has it: forms of one letter, dash or apostrophe are the same, as are 2, 2.0 and 2,0.

    Examples
    --------
    >>> fold("\\u041c") == fold("M"), fold("O\\u00b4Neill"), fold("\\u0661")
    (True, "o'neill", '1')
    """
    plain = unicodedata.normalize("NFKC", _written(word).replace("\u00b4", "'")).casefold().translate(ALIKE)
    plain = "".join("-" if unicodedata.category(letter) == "Pd" else letter for letter in plain)
    plain = "".join(str(unicodedata.decimal(letter)) if letter.isdecimal() else letter for letter in plain)
    return re.sub(r"^(-?\d+)(?:\.0+|,0{1,2})$", r"\1", plain)


def read(path: Path) -> pd.DataFrame:
    """Read a table as text; its index holds the numbers of the rows, as a spreadsheet counts them.

    Parameters
    ----------
    path : Path
        Parquet, Excel (``.xlsx``, the first sheet that is not hidden), else text whose columns are parted by commas,
        semicolons or tabs, in UTF-8 or, as Excel writes it, UTF-16. Upper and lower case of the suffix are the same.

    Returns
    -------
    DataFrame
        Missing entries are empty. Blank rows, and columns without name and entries, are left out. A header may name
        two columns alike: `Sheet.need` refuses to choose between them.

    Raises
    ------
    ValueError
        It is no table, or a row has more or fewer entries than the header has names.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES / 2**30:g} GB")
        if path.suffix.lower() == ".parquet":
            return _parquet(path)
        if path.suffix.lower() == ".xlsx":
            return _table(path, csv.reader(io.StringIO(_sheet(path), newline=""), strict=True))
        raw = path.read_bytes()
        lines = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        if "\0" in lines:
            raise ValueError("it holds bytes that are no text")
        named = re.match(r"(?i)sep=(.)\r?\n", lines)
        lines = lines[named.end() if named else 0 :].rstrip("\x1a")  # the end of a file of DOS

        def rows(mark, strict=True):
            return csv.reader(io.StringIO(lines, newline=""), delimiter=mark, strict=strict, skipinitialspace=True)

        mark = named[1] if named else max(",;\t", key=lambda mark: len(next(rows(mark, strict=False), [])))
        return _table(path, _without_lone_quotes(rows(mark), mark), 1 + bool(named))
    except (OSError, ValueError, TypeError, csv.Error, zipfile.BadZipFile) as error:
        if str(error).startswith(str(path)):
            raise
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        expected = "expected CSV in UTF-8, Excel or Parquet"
        raise ValueError(f"{path}: cannot be read as a table; {expected} ({why})") from None


def _without_lone_quotes(rows, mark: str):
    """Refuse a lone quote, which stands for the entry above: all up to the next quote would be one entry."""
    for number, row in enumerate(rows, 1):
        ends = [{entry[0], entry[-1]} for entry in row if "\n" in entry or "\r" in entry]
        if any(mark in pair and pair <= {mark, "\n", "\r"} for pair in ends):
            raise ValueError(f"the entry of a lone quote in row {number} runs over several rows; write each entry out")
        yield row


def _table(path: Path, rows, first: int = 1) -> pd.DataFrame:
    """Rows of text below their header; `first` is the number of the header's row."""
    numbered = [(number, row) for number, row in enumerate(rows, first) if "".join(row).strip()]
    if not numbered:
        raise ValueError("it is empty")
    (_, header), *body = numbered
    if not body:
        raise ValueError("it has a header and no rows")
    header = text(pd.Series(header, dtype=object)).tolist()
    while header and not header[-1]:  # trailing commas
        header.pop()
    width = len(header)
    ragged = [n for n, row in body if len(row) < width or "".join(row[width:]).strip()]
    if ragged:
        entries = len(dict(body)[ragged[0]])
        raise ValueError(
            f"{path}, row {ragged[0]}: {entries} entries below a header of {width} names; expected {width} "
            f"({len(ragged)} such rows; an entry that holds the separator must stand in quotes)"
        )
    # ="007" is how a spreadsheet is told that an entry is text.
    entries = ([re.sub('^="(.*)"$', r"\1", one) if one[:2] == '="' else one for one in row[:width]] for _, row in body)
    columns = zip(*entries, strict=True)
    table = pd.DataFrame({at: pd.array(column, dtype="str") for at, column in enumerate(columns)})
    return table.set_axis(header, axis=1).set_axis([n for n, _ in body])


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    shape = pq.ParquetFile(path).metadata
    if shape.num_rows * shape.num_columns > MAX_ENTRIES:
        raise ValueError(f"it has {shape.num_rows} rows of {shape.num_columns} columns; {MAX_ENTRIES} entries are read")
    table = pd.read_parquet(path)
    named = table.index.names if any(table.index.names) else []
    table = table.reset_index() if named else table
    # As NumPy holds them, floats of 32 bits are written as they are meant: 0.7, not 0.699999988.
    columns = []
    for at, name in enumerate(table):
        column = pd.Series(list(table.iloc[:, at].to_numpy()), dtype=object)
        if column.map(lambda entry: isinstance(entry, list | dict | np.ndarray)).any():
            raise ValueError(f"column '{name}' holds lists or records; expected one entry in each row, or leave it out")
        columns.append(text(column))
    plain = pd.DataFrame(dict(enumerate(columns))).set_axis(range(1, len(table) + 1))  # there is no header's row
    plain.columns = text(pd.Series(table.columns, dtype=object)).tolist()
    return plain


def _sheet(path: Path) -> str:
    zipfile.ZipFile(path).close()  # a file that is no archive is named at once
    command = [sys.executable, "-c", _READ_SHEET, str(path.resolve()), str(SHEET_BYTES)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SHEET_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it takes longer than {SHEET_SECONDS} s to read; save the sheet as CSV") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = "".join(last) if done.returncode > 0 else "its reader was stopped"
        if done.returncode == 3:
            raise ValueError(why)
        raise ValueError(f"no Excel file, or one that takes more than {SHEET_BYTES / 2**30:g} GB to read: {why}")
    return done.stdout.decode("utf-8")


@contextmanager
def collected():
    """Within it, `Sheet.check` raises nothing; what it would raise is appended to the list that is given."""
    mistakes: list[str] = []
    token = _collector.set(mistakes)
    try:
        yield mistakes
    finally:
        _collector.reset(token)


class Sheet:
    """A table and the one reader of its entries. Mistakes gather until `check`; notes say what was merged or left out.

    Parameters
    ----------
    table : DataFrame
        As `read` returns it; the index holds row numbers.
    path : Path
        Named in messages.

    Attributes
    ----------
    mistakes, notes : list of str
    """

    def __init__(self, table: pd.DataFrame, path: Path):
        self.table, self.path = table, path
        self.mistakes: list[str] = []
        self.notes: list[str] = []

    @classmethod
    def open(cls, path: Path) -> Sheet:
        return cls(read(path), path)

    def check(self) -> None:
        """Raise one error that lists all mistakes so far."""
        mistakes, self.mistakes = self.mistakes, []
        if mistakes and _collector.get() is None:
            raise ValueError("\n".join(mistakes))
        if mistakes:
            _collector.get().extend(mistakes)

    def need(self, columns, others=()) -> None:
        """Refuse a table that lacks one of `columns`, or has two of one name but for upper and lower case.

        What was meant is none of these columns, and none of the `others`, which have a meaning of their own.

        Raises
        ------
        ValueError
            At once, since nothing can be read from a column that is not there.
        """
        self.table = self.table.rename(columns={_written(column): column for column in columns})  # otherwise composed
        names = list(self.table.columns)
        folds = folded(pd.Series(names, dtype=object)).tolist()
        for column in dict.fromkeys(columns):
            alike = [name for name, one in zip(names, folds, strict=True) if one == fold(column)]
            if column not in names:
                meant = nearest(column, [name for name in names if name not in (*columns, *others)], "it also has")
                self.mistakes.append(f"{self.path}: column '{column}' is missing; {meant}")
            elif len(alike) > 1:
                self.mistakes.append(
                    f"{self.path}: {len(alike)} columns are called '{column}' ({', '.join(alike)}); rename all but one"
                )
        if self.mistakes:
            raise ValueError("\n".join(self.mistakes))

    def keep(self, rows: pd.Series, why: str) -> None:
        """Leave out all other rows, with a note."""
        if not rows.all():
            self.notes.append(f"{self.path.name}: {(~rows).sum()} of {len(rows)} rows are left out ({why})")
        self.table = self.table[rows.to_numpy()]

    def distinct(self) -> None:
        """Leave out rows that repeat another in every column."""
        self.keep(~self.table.set_axis(range(self.table.shape[1]), axis=1).duplicated(), "they repeat another row")

    def refuse(self, column: str, bad: pd.Series, why: str) -> None:
        """Refuse the rows in which an entry is `bad`; the first is named."""
        if bad.any():
            row = self.table.index[bad.to_numpy().argmax()]
            others = f" ({bad.sum() - 1} more rows like it)" if bad.sum() > 1 else ""
            entry = self.table[column].to_numpy()[bad.to_numpy().argmax()]
            self.mistakes.append(f"{self.path}, row {row}, column '{column}': '{entry}' {why}{others}")

    def names(self, column: str, what: str = "patient") -> pd.Series:
        """Names of patients or other units. Those that differ in blanks or upper case are one, by a note.

        An empty entry, or one such as ``nan`` or ``unknown``, names nobody and is refused, as is ``1.23E+11``.
        """
        entries = self.table[column]
        folds = folded(entries)
        nobody = folds.isin((*MISSING, *NOBODY)) | folds.str.fullmatch(HIDDEN)
        self.refuse(column, nobody, f"names no {what}; every row needs one")
        shortened = text(entries).str.fullmatch(r"\d([.,]\d+)?[eE]\+\d+")
        why = (
            f"is a number that a spreadsheet has shortened, so that it may stand for several {what}s; store ids as text"
        )
        self.refuse(column, shortened, why)
        self._refuse_zeros(column, folds, what)
        return self._merged(column, text(entries), f"are taken for one {what}")

    def _refuse_zeros(self, column: str, folds: pd.Series, what: str) -> None:
        """Refuse names such as 007 beside 7: a spreadsheet drops leading zeros, so that one may be the other."""
        digits = folds[folds.str.fullmatch(r"\d+")].drop_duplicates()
        bare = digits.str.lstrip("0")
        if (twice := bare.duplicated(keep=False)).any():
            alike = digits[bare == bare[twice].iloc[0]]
            why = f"and '{alike.iloc[1]}' differ by leading zeros alone; write the name of each {what} in one way"
            self.refuse(column, folds == alike.iloc[0], why)

    def groups(self, column: str, values: dict | None = None, key: str = "") -> pd.Series:
        """Groups by `values`, or as they are written; missing where the entry says so.

        Parameters
        ----------
        column : str
        values : dict, optional
            As for `coded`.
        key : str
            As for `coded`.
        """
        if values:
            return self.coded(column, values, key)
        entries = text(self.table[column])
        unknown = self._unknown(column, folded(entries).replace(f"^(?:{HIDDEN})$", "unknown", regex=True), ())
        return self._merged(column, entries.mask(unknown), "are one group")

    def coded(self, column: str, values: dict, key: str = "", missing: tuple[str, ...] = MISSING) -> pd.Series:
        """Read the meaning of each entry.

        Parameters
        ----------
        column : str
        values : dict
            Meaning by entry, None being unknown; upper and lower case are the same.
        key : str
            Of the params file, such as ``dataset.sex``, where `values` can be completed; empty: nowhere.
        missing : tuple of str
            Entries that mean nothing unless `values` says otherwise.

        Returns
        -------
        Series
            Missing where unknown. Entries without meaning are a mistake that lists them all, with their number and
            the line that would explain them.

        Examples
        --------
        >>> Sheet(pd.DataFrame({"sex": ["F", "m ", "Unknown"]}), Path("a.csv")).coded("sex", {"f": 1, "M": 0}).tolist()
        [1.0, 0.0, nan]
        """
        entries, known = folded(self.table[column]), {fold(word): meaning for word, meaning in values.items()}
        unknown = self._unknown(column, entries, known, missing)
        strange = ~(entries.isin(list(known)) | unknown)
        if strange.any():
            expected = f"{', '.join(str(word) for word in values if str(word))} or empty"
            self.mistakes.append(self._unexplained(column, strange, values, key, expected))
        return entries.map({word: meaning for word, meaning in known.items() if meaning is not None})

    def years(self, column: str, values: dict | None = None, key: str = "", oldest: float = 120) -> pd.Series:
        """Ages in years, from numbers or as DICOM writes them (058Y, 006M, 003W, 010D); unknown ones are missing.

        `values` and `key` are as for `coded`; an age beyond `oldest`, or of nothing, is refused.

        Examples
        --------
        >>> Sheet(pd.DataFrame({"age": ["58", "058Y", "006M", "unknown"]}), Path("a.csv")).years("age").tolist()
        [58.0, 58.0, 0.5, nan]
        """
        entries, named = folded(self.table[column]), {fold(word): age for word, age in (values or {}).items()}
        parts = entries.str.replace(",", ".").str.extract(r"^(\d+\.?\d*|\.\d+) ?([a-z]*)$")
        age = parts[0].astype(float) / parts[1].map({"": 1, **UNITS}).astype(float)
        age = age.mask(entries.isin(list(named)), entries.map(named).astype(float))
        unknown = self._unknown(column, entries, named)
        strange = age.isna() & ~unknown & ~entries.isin(list(named))
        beyond = ((age <= 0) | (age > oldest)) & ~entries.isin(list(named))
        if (strange | beyond).any():
            expected = f"an age up to {oldest:g} years, such as 58, 058Y, 006M, 003W or 010D, or empty"
            self.mistakes.append(self._unexplained(column, strange | beyond, values or {}, key, expected))
        return age.mask(beyond)

    def numbers(self, column: str, low: float = -np.inf, high: float = np.inf, unknown: Iterable = ()) -> pd.Series:
        """Numbers within [low, high], with a point or a comma; missing where the entry says so, or is in `unknown`.

        Where every comma stands before the last three of four to six digits, as in 12,500, it may part thousands.
        """
        entries = folded(self.table[column])
        entries = entries.mask(entries.isin([fold(word) for word in unknown]), "")
        commas = entries[entries.str.contains(",")]
        if len(commas) and commas.str.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}").all():
            first = commas.iloc[0]
            why = f"may be {first.replace(',', '')} or {first.replace(',', '.')}; write it without a comma"
            self.refuse(column, entries.str.contains(","), why)
            return pd.Series(np.nan, entries.index)
        numbers = pd.to_numeric(entries.str.replace(r"^([-+]?\d*),(\d+)", r"\1.\2", regex=True), errors="coerce")
        missing = self._unknown(column, entries, ())
        bounds = f" from {low:g} to {high:g}" if np.isfinite([low, high]).all() else ""
        wrong = ~missing & ~(numbers.between(low, high) & np.isfinite(numbers))
        self.refuse(column, wrong, f"is no number{bounds}, and not empty")
        return numbers.astype(float)

    def where(self, wanted: dict[str, list[tuple[str, ...]]]) -> None:
        """Keep the rows whose entries are among those wanted, by column; what that leaves out is noted.

        An entry that is wanted is given as the words that may stand for it, such as ``("true", "yes")``.

        Raises
        ------
        ValueError
            At once where no row is left.
        """
        for column, choices in wanted.items():
            entries, words = folded(self.table[column]), [[fold(word) for word in choice] for choice in choices]
            for choice, folds in zip(choices, words, strict=True):
                if not entries.isin(folds).any():
                    there = nearest(choice[0], self.table[column].value_counts().index, "there is")
                    self.mistakes.append(f"{self.path}, column '{column}': no row says '{choice[0]}'; {there}")
            listed = ", ".join(choice[0] for choice in choices)
            self.keep(entries.isin([word for folds in words for word in folds]), f"column '{column}': not {listed}")
        if self.table.empty:
            raise ValueError("\n".join([*self.mistakes, f"{self.path}: no row is left"]))

    def _unknown(self, column: str, entries: pd.Series, known, missing: tuple[str, ...] = MISSING) -> pd.Series:
        """Which of the folded entries mean that a value is unknown; words for it are noted."""
        unknown = entries.isin([word for word in missing if word not in known])
        words = self.table[column][(unknown & (entries != "")).to_numpy()].value_counts()
        if len(words):
            listed = ", ".join(f"'{word}' ({n})" for word, n in words.items())
            self.notes.append(
                f"{self.path.name}, column '{column}': {words.sum()} rows count as unknown: {listed}; "
                "where it is a group, write it in another way, or list it under values in the params file"
            )
        return unknown

    def _merged(self, column: str, entries: pd.Series, what: str) -> pd.Series:
        """Entries that differ in blanks or case alone, all spelt as the most frequent of them."""
        self.refuse(column, entries.isin(DITTO), "means what stands above it; write that out in every row")
        keys, written = folded(entries).where(entries.notna()), self.table[column].fillna("").astype("str")
        spelt = pd.DataFrame({"key": keys, "text": entries, "written": written}).dropna()
        usual = spelt.groupby(["key", "text"], sort=False).size().sort_values(ascending=False, kind="stable")
        usual = usual.reset_index().drop_duplicates("key").set_index("key").text
        spellings = spelt.groupby(["key", "written"], sort=False).size().rename("rows").reset_index()
        for key, several in spellings[spellings.key.duplicated(keep=False)].groupby("key", sort=False):
            listed = ", ".join(f"'{one.written}' ({one.rows})" for one in several.itertuples())
            self.notes.append(f"{self.path.name}, column '{column}': {listed} {what}, '{usual[key]}'")
        return keys.map(usual)

    def _unexplained(self, column: str, strange: pd.Series, values: dict, key: str, expected: str) -> str:
        """Say which entries have no meaning, and write the line that would give them one."""
        entries = text(self.table[column])[strange.to_numpy()]
        counts, valid = entries.value_counts(), [str(word) for word in values if str(word)]
        rows = {word: entries.index[entries == word][0] for word in counts.index[:LISTED]}
        listed = ", ".join(f"'{word}' ({counts[word]}, first in row {row})" for word, row in rows.items())
        listed += f" and {len(counts) - LISTED} more" if len(counts) > LISTED else ""
        hints = {word: nearest(word, valid, "") for word in rows}
        hint = next((f"; {hint}" for hint in hints.values() if hint.startswith("did")), "")
        sentence = f"{self.path}, column '{column}': nothing explains the entries of {strange.sum()} rows: {listed}"
        sentence = f"{sentence}; expected {expected}{hint}"
        if not key:
            return sentence
        section, _, name = key.rpartition(".")
        every = {**{str(word): meaning for word, meaning in values.items()}, **dict.fromkeys(counts.index)}
        line = ", ".join(f"{json.dumps(w, ensure_ascii=False)}: {json.dumps(m)}" for w, m in every.items())
        return (
            f"{sentence}{'' if hint else '.'} Paste into {section}, with your meanings in place of null (unknown): "
            f"{name}: {{column: {json.dumps(column, ensure_ascii=False)}, values: {{{line}}}}}"
        )
