"""Tables that people bring: nothing is guessed, merged or dropped without a word."""

import re
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest

from reconfair import entries
from reconfair.entries import Sheet


def sheet(tmp_path, text="", name="a.csv", **columns):
    path = tmp_path / name
    if columns:
        pd.DataFrame(columns).to_csv(path, index=False)
    else:
        path.write_text(text, encoding="utf-8")
    return Sheet.open(path)


# --- text ---


def test_entries_are_stripped_and_blanks_within_are_one():
    given = pd.Series([" a  b ", "a\u00a0b", "a\u200bb", "e\u0301", None, np.nan, 2.0, 2.5, 7, True], dtype=object)
    assert entries.text(given).tolist() == ["a b", "a b", "ab", "\u00e9", "", "", "2", "2.5", "7", "True"]


def test_entries_are_compared_without_case_and_decimals():
    given = pd.Series([" F", "f", 2, 2.0, "2.0", None, "02", "2.50", "STRASSE"], dtype=object)
    assert entries.folded(given).tolist() == ["f", "f", "2", "2", "2", "", "02", "2.50", "strasse"]


# --- files ---


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_spreadsheets_text_is_the_same_table(tmp_path, mark, encoding, end):
    rows = [["id", "name, long", "x"], ["007", "M\u00fcller; A", "NA"], ["8", "", "None"]]
    lines = [mark.join(f'"{one}"' for one in row) for row in rows]
    (tmp_path / "a.CSV").write_bytes((end.join(lines) + end).encode(encoding))
    table = entries.read(tmp_path / "a.CSV")
    assert table.columns.tolist() == rows[0] and table.to_numpy().tolist() == rows[1:]
    assert table.index.tolist() == [2, 3]  # as a spreadsheet counts


def test_trailing_separators_and_blank_rows_shift_nothing(tmp_path):
    table = sheet(tmp_path, "patient,label,score\np1,1,0.5,\n,,\n\np2,0,0.25,,\n").table
    assert table.to_numpy().tolist() == [["p1", "1", "0.5"], ["p2", "0", "0.25"]] and table.index.tolist() == [2, 5]


def test_a_line_that_names_the_separator_is_no_header(tmp_path):
    table = sheet(tmp_path, "sep=;\na;b\n1,5;2\n").table
    assert table.to_dict("list") == {"a": ["1,5"], "b": ["2"]} and table.index.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n1,2,3\n1,2,4\n", r"row 3: 3 entries below a header of 2 names; .*2 such rows"),
        ("a,b\n1\n", r"row 2: 1 entries below a header of 2"),
        ("", "it is empty"),
        ("\n,,\n", "it is empty"),
        ("a,b\n,\n", "a header and no rows"),
        ('a,b\n"1,2\n', "cannot be read as a table"),
        ("a,b\n1,\0\n", "bytes that are no text"),
    ],
)
def test_text_that_is_no_table_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"a\.csv.*{message}"):
        sheet(tmp_path, text)


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx", "a.csv"])
def test_bytes_that_are_no_table_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\x00\xe4no table")
    with pytest.raises(ValueError, match=rf"{name}: cannot be read as a table"):
        entries.read(tmp_path / name)


def test_typed_columns_of_parquet_and_excel_are_read_as_they_would_be_written(tmp_path):
    typed = pd.DataFrame({"id": ["007", "8"], "age": [58.0, np.nan], "score": [0.5, 0.25], "n": [1, 2]})
    typed.to_parquet(tmp_path / "a.parquet")
    typed.to_excel(tmp_path / "a.xlsx", index=False)
    for name in ("a.parquet", "a.xlsx"):
        assert entries.read(tmp_path / name).to_numpy().tolist() == [["007", "58", "0.5", "1"], ["8", "", "0.25", "2"]]


def test_an_index_of_parquet_is_a_column(tmp_path):
    pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="id")).to_parquet(tmp_path / "a.parquet")
    assert entries.read(tmp_path / "a.parquet").id.tolist() == ["a", "b"]


# --- bombs ---

SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)


def excel(path, sheet_xml):
    """Replace the sheet of a small Excel file."""
    pd.DataFrame({"a": [1]}).to_excel(path.with_suffix(".ok.xlsx"), index=False)
    with (
        zipfile.ZipFile(path.with_suffix(".ok.xlsx")) as small,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as big,
    ):
        for member in small.namelist():
            with big.open(member, "w", force_zip64=True) as file:
                if member.endswith("sheet1.xml"):
                    for piece in sheet_xml:
                        file.write(piece)
                else:
                    file.write(small.read(member))


@pytest.mark.parametrize("kind", ["far corner", "endless text"])
def test_a_small_excel_file_cannot_take_all_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(entries, "SHEET_BYTES", 2**29)
    if kind == "far corner":
        rows = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
        excel(tmp_path / "a.xlsx", [SHEET.format(rows).encode()])
    else:
        start, end = SHEET.split("{}")
        cell = '<row r="1"><c r="A1" t="inlineStr"><is><t>'
        excel(
            tmp_path / "a.xlsx",
            [start.encode(), cell.encode(), *[b"x" * 2**24] * 64, b"</t></is></c></row>", end.encode()],
        )
    assert (tmp_path / "a.xlsx").stat().st_size < 2**21
    with pytest.raises(ValueError, match=r"a\.xlsx: cannot be read as a table"):
        entries.read(tmp_path / "a.xlsx")


def test_a_parquet_file_of_too_many_entries_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "MAX_ENTRIES", 1000)
    pd.DataFrame({"a": np.zeros(1001)}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: .*1001 rows of 1 columns; 1000 entries"):
        entries.read(tmp_path / "a.parquet")


def test_a_table_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(entries, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match=r"a\.csv: .*it is larger than"):
        sheet(tmp_path, "a,b\n1,2\n3,4\n")


def test_floats_of_32_bits_are_written_as_they_are_meant(tmp_path):
    pd.DataFrame({"score": np.array([0.7, 0.1, np.nan], np.float32)}).to_parquet(tmp_path / "a.parquet")
    read = Sheet.open(tmp_path / "a.parquet")
    assert read.numbers("score", 0, 1).fillna(-1).tolist() == [0.7, 0.1, -1] and not read.notes


# --- columns ---


def test_missing_columns_are_all_named_with_the_nearest(tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.csv: column 'Sex' is missing.*'sex'.*\n.*column 'race' is missing"
    ) as error:
        sheet(tmp_path, sex=["f"], age=["3"]).need(["Sex", "race", "age"])
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("header", ["sex,Sex ,x", "sex,sex,x"])
def test_two_columns_of_one_name_are_refused_where_one_is_needed(tmp_path, header):
    columns = sheet(tmp_path, f"{header}\nf,m,1\n")
    columns.need(["x"])
    with pytest.raises(ValueError, match="2 columns are called 'sex'"):
        columns.need(["sex"])


# --- what entries mean ---


def test_patients_that_differ_in_blanks_or_case_are_one_and_that_is_noted(tmp_path):
    read = sheet(tmp_path, id=["P000", "P000 ", "p000", "P000", "P001"])
    assert read.names("id").tolist() == ["P000"] * 4 + ["P001"]
    assert len(read.notes) == 1 and "'P000 ' (1)" in read.notes[0] and "'p000' (1)" in read.notes[0]


@pytest.mark.parametrize("entry", ["", "  ", "nan", "None", "NA", "unknown"])
def test_nobody_is_no_patient(tmp_path, entry):
    read = sheet(tmp_path, id=["p", entry, "q", entry], x=["1"] * 4)
    read.names("id")
    with pytest.raises(ValueError, match=r"a\.csv, row 3, column 'id': .* names no patient.*\(1 more rows"):
        read.check()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("African-American", "African\u2011American"),
        ("30-40", "30\u201340"),
        ("Int'l", "Int\u2019l"),
        ("White", "\uff37hite"),
        ("White", "Wh\u00adite"),
        ("White", "\u200eWhite\ufeff"),
        ("White", "\u2003White\u00a0"),
        ("2", "2,0"),
        ("White", "Whit\u0435"),  # a Cyrillic letter
        ("O'Neill", "O\u00b4Neill"),
        ("izmir", "\u0130zmir"),
        ("White", "Whi\x07te\x7f"),
        ("White", "White\ufe0f\u3164"),
    ],
)
def test_groups_that_look_the_same_are_one(tmp_path, one, other):
    read = sheet(tmp_path, race=[one, one, other, "Other"])
    assert read.groups("race").tolist() == [one, one, one, "Other"]
    assert len(read.notes) == 1 and "are one group" in read.notes[0]


@pytest.mark.parametrize(
    "entry", ["#N/A", "#REF!", "-", ".", "?", "n.a.", "not reported", "\\N", "(null)", "1.#QNAN", "\u2026", "unk"]
)
def test_errors_of_a_spreadsheet_and_marks_for_nothing_are_no_group_and_no_patient(tmp_path, entry):
    read = sheet(tmp_path, race=["White", entry])
    assert read.groups("race").isna().tolist() == [False, True] and f"'{entry}' (1)" in read.notes[0]
    read.names("race")
    assert f"'{entry}'" in read.mistakes[0]


@pytest.mark.parametrize("entry", ["1.23457E+11", "1e+05", "1,2e+11"])
def test_ids_that_a_spreadsheet_has_shortened_are_refused(tmp_path, entry):
    read = sheet(tmp_path, patient=["12345", entry])
    read.names("patient")
    with pytest.raises(ValueError, match=rf"row 3, column 'patient': '{re.escape(entry)}'"):
        read.check()


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx"])
def test_ids_beyond_what_floating_point_tells_apart_are_refused(tmp_path, name):
    table = pd.DataFrame({"patient": [1.2345678901234567e17, 5.0]})
    table.to_parquet(tmp_path / name) if name == "a.parquet" else table.to_excel(tmp_path / name, index=False)
    read = Sheet.open(tmp_path / name)
    read.names("patient")
    assert len(read.mistakes) == 1 and "'1.23456789012345" in read.mistakes[0]


def test_bytes_of_parquet_are_text(tmp_path):
    pd.DataFrame({"id": [b"a", b"\xc3\xa9"]}).to_parquet(tmp_path / "a.parquet")
    assert entries.read(tmp_path / "a.parquet").id.tolist() == ["a", "\u00e9"]
    pd.DataFrame({"id": [b"\xff"]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet: "):
        entries.read(tmp_path / "b.parquet")


def test_a_column_may_be_composed_otherwise_than_the_params_file_has_it(tmp_path):
    read = sheet(tmp_path, **{"Gr\u00f6\u00dfe": ["A"], "x": ["1"]})
    read.need(["Gro\u0308\u00dfe", "x\u00a0"])
    assert read.groups("Gro\u0308\u00dfe").tolist() == ["A"] and read.groups("x\u00a0").tolist() == ["1"]


def test_a_hidden_sheet_is_not_the_first(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["notes"])
    book.active.sheet_state = "hidden"
    seen = book.create_sheet("seen")
    for row in (["a", "b"], [1, 2.5]):
        seen.append(row)
    book.active = 1
    book.save(tmp_path / "a.xlsx")
    read = entries.read(tmp_path / "a.xlsx")
    assert read.columns.tolist() == ["a", "b"] and read.to_numpy().tolist() == [["1", "2.5"]]


def test_every_row_of_merged_cells_has_their_value(tmp_path):
    book = openpyxl.Workbook()
    for row in (["id", "race"], ["a", "White"], ["b", None], ["c", "Asian"], ["d", None]):
        book.active.append(row)
    book.active.merge_cells("B2:B3")
    book.save(tmp_path / "merged.xlsx")
    assert Sheet.open(tmp_path / "merged.xlsx").table.race.tolist() == ["White", "White", "Asian", ""]


@pytest.mark.parametrize("at", [0, 1])
def test_a_formula_that_was_never_computed_is_no_empty_entry(tmp_path, at):
    book = openpyxl.Workbook()
    sheets = [book.active, book.create_sheet("other")]
    for each in sheets:
        each.append(["id", "label"])
        each.append(["a", 1])
    sheets[at]["B2"] = "=IF(A2>5,1,0)"
    book.save(tmp_path / "computed.xlsx")
    if at:  # nobody asks for that sheet
        assert Sheet.open(tmp_path / "computed.xlsx").table.label.tolist() == ["1"]
        return
    with pytest.raises(ValueError, match=r"computed\.xlsx.*cell B2.*never computed"):
        Sheet.open(tmp_path / "computed.xlsx")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_quote_for_the_entry_above_does_not_swallow_rows(tmp_path, place):
    rows = [["p1", "here", "x"], ["p2", "here", "x"], ["p3", "here", "x"], ["p4", "here", "x"]]
    for row in rows[1:3]:
        row[["first", "middle", "last"].index(place)] = '"'
    text = "".join(",".join(row) + "\n" for row in [["id", "site", "view"], *rows])
    with pytest.raises(ValueError, match=r"a\.csv.*quote in row 3"):
        sheet(tmp_path, text)


@pytest.mark.parametrize("mark", ['""""', "\u3003", "ditto", "''"])
def test_a_mark_for_the_entry_above_is_no_group(tmp_path, mark):
    read = sheet(tmp_path, f"site\nhere\n{mark}\n")
    read.groups("site")
    with pytest.raises(ValueError, match=r"row 3, column 'site'.*above it"):
        read.check()


@pytest.mark.parametrize("entry", ["Anonymous", "ANON", "####", "***", "xxx"])
def test_a_name_that_was_made_unreadable_is_no_patient_and_no_group(tmp_path, entry):
    read = sheet(tmp_path, id=["a", entry, "axxx"], site=["here", "####", "x"])
    assert read.groups("site").isna().tolist() == [False, True, False] and "'####' (1)" in read.notes[0]
    read.names("id")
    with pytest.raises(ValueError, match=rf"row 3, column 'id': '{re.escape(entry)}' names no patient.*one$"):
        read.check()


def test_text_for_a_spreadsheet_and_the_end_of_a_dos_file_are_no_part_of_entries(tmp_path):
    table = sheet(tmp_path, 'id,x\n="007",=1+1\n="8",\n\x1a').table
    assert table.to_numpy().tolist() == [["007", "=1+1"], ["8", ""]]


def test_a_column_of_lists_is_named(tmp_path):
    pd.DataFrame({"id": ["a", "b"], "site": [["x"], None]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet.*column 'site' holds lists"):
        Sheet.open(tmp_path / "a.parquet")


@pytest.mark.parametrize("word", ["Not applicable", "declined", "Unknown or Not Reported", "no data"])
def test_words_for_no_answer_are_no_group(tmp_path, word):
    assert sheet(tmp_path, race=["White", word]).groups("race").isna().tolist() == [False, True]


def test_groups_that_differ_in_blanks_or_case_are_one_by_their_usual_spelling(tmp_path):
    read = sheet(tmp_path, race=["White", "white ", "WHITE", "White", "Black"])
    assert read.groups("race").tolist() == ["White"] * 4 + ["Black"]
    assert "'white ' (1)" in read.notes[0] and "are one group, 'White'" in read.notes[0]


def test_a_group_that_looks_missing_is_missing_by_a_note_or_a_group_by_its_values(tmp_path):
    read = sheet(tmp_path, race=["NA", "None", "A", "NA", ""], x="1")
    assert read.groups("race").fillna("?").tolist() == ["?", "?", "A", "?", "?"]
    assert "3 rows count as unknown: 'NA' (2), 'None' (1)" in read.notes[0]
    again = sheet(tmp_path, race=["NA", "None", "A", "NA", ""], x="1")
    values = {"na": "Native American", "none": "None", "A": "A"}
    assert again.groups("race", values).fillna("?").tolist() == ["Native American", "None", "A", "Native American", "?"]
    assert not again.notes


def test_all_entries_without_meaning_are_listed_with_the_line_that_explains_them(tmp_path):
    read = sheet(tmp_path, Gender=["F", "K", "div", "K", "Femal"])
    read.coded("Gender", {"F": "female", "female": "female", "M": "male"}, "dataset.sex")
    with pytest.raises(ValueError) as error:
        read.check()
    message = str(error.value)
    for piece in (
        "4 rows",
        "'K' (2, first in row 3)",
        "'div' (1, first in row 4)",
        "'Femal' (1, first in row 6)",
        "'female'",
    ):
        assert piece in message
    assert 'sex: {column: "Gender", values: {"F": "female", "female": "female", "M": "male", "K": null' in message


def test_the_pasted_line_explains_the_entries(tmp_path):
    import yaml

    read = sheet(tmp_path, age=["000Y", "old", "58"])
    read.years("age", key="dataset.age")
    line = read.mistakes[0].rpartition("null (unknown): ")[2]
    values = yaml.safe_load(line)["age"]["values"]
    assert values == {"000Y": None, "old": None}
    again = sheet(tmp_path, age=["000Y", "old", "58"])
    assert again.years("age", values).fillna(-1).tolist() == [-1, -1, 58] and not again.mistakes


@pytest.mark.parametrize(
    ("entry", "age"),
    [
        ("58", 58),
        ("58.5", 58.5),
        ("58,5", 58.5),
        (".5", 0.5),
        ("58.", 58),
        ("\u0665\u0668", 58),
        ("058Y", 58),
        ("18M", 1.5),
        ("026W", 0.4983),
        ("10 d", 0.0274),
        (" 58 ", 58),
        ("45 years", 45),
        ("45yr", 45),
        ("6 Months", 0.5),
        ("6 mos", 0.5),
        ("45yo", 45),
        ("52 wks", 0.9966),
        ("\uff14\uff15\u00a0Y", 45),
    ],
)
def test_ages_are_read_as_hospitals_write_them(tmp_path, entry, age):
    assert sheet(tmp_path, age=[entry]).years("age").tolist() == pytest.approx([age], abs=1e-4)


@pytest.mark.parametrize("entry", ["unknown", "N/A", ""])
def test_an_unknown_age_is_missing(tmp_path, entry):
    assert sheet(tmp_path, age=[entry, "3"], x="1").years("age").isna().tolist() == [True, False]


@pytest.mark.parametrize("entry", ["old", "-3", "58X", "90+", ">89", "45 yards", "5 8", "0", "000Y", "121", "inf"])
def test_what_is_no_age_is_named(tmp_path, entry):
    read = sheet(tmp_path, Age=["3", entry])
    read.years("Age")
    with pytest.raises(
        ValueError, match=rf"a\.csv, column 'Age': .*'{re.escape(entry)}' \(1, first in row 3\); expected an age"
    ):
        read.check()


def test_numbers_have_a_point_or_a_comma_and_bounds(tmp_path):
    read = sheet(tmp_path, "score;x\n0,75;1\n.5;1\n;1\n1e-1;1\n")
    assert read.numbers("score", 0, 1).fillna(-1).tolist() == [0.75, 0.5, -1, 0.1]
    for entry in ("1.5", "high", "inf", "1,234,5"):
        read = sheet(tmp_path, score=["0.5", entry])
        read.numbers("score", 0, 1)
        with pytest.raises(ValueError, match=rf"row 3, column 'score': '{entry}' is no number from 0 to 1"):
            read.check()


@pytest.mark.parametrize("entry", ["inf", "-inf", "1e400"])
def test_numbers_are_finite(tmp_path, entry):
    read = sheet(tmp_path, bmi=["25", entry])
    read.numbers("bmi")
    assert f"row 3, column 'bmi': '{entry}'" in read.mistakes[0]


def test_a_comma_that_may_part_thousands_is_refused_unless_another_one_is_decimal(tmp_path):
    read = sheet(tmp_path, "x;y\n12,500;1\n3;1\n")
    read.numbers("x")
    assert "row 2, column 'x': '12,500' may be 12500 or 12.500" in read.mistakes[0]
    for other in ("0,125", "3,5"):
        read = sheet(tmp_path, f"x;y\n12,500;1\n{other};1\n")
        assert read.numbers("x")[2] == 12.5 and not read.mistakes


def test_rows_may_be_chosen_by_their_entries(tmp_path):
    read = sheet(tmp_path, view=["PA", "ap ", "LL", "PA"], kind=["x-ray", "X-Ray", "X-ray", "CT"])
    read.where({"view": [("PA",), ("AP", "a.p.")], "kind": [("X-ray",)]})
    assert read.table.index.tolist() == [2, 3]
    assert ["1 of 4" in read.notes[0], "1 of 3" in read.notes[1]] == [True, True]
    with pytest.raises(ValueError, match=r"column 'view': no row says 'AB'.*'PA'.*\n.*no row is left"):
        read.where({"view": [("AB",)]})


def test_rows_that_repeat_another_are_left_out_by_a_note(tmp_path):
    read = sheet(tmp_path, a=["1", "1", "2"], b=["x", "x", "x"])
    read.distinct()
    assert read.table.index.tolist() == [2, 4] and "1 of 3 rows are left out" in read.notes[0]


def test_mistakes_of_several_columns_are_one_error_or_are_collected(tmp_path):
    def wrong():
        read = sheet(tmp_path, sex=["x", "f"], age=["old", "3"])
        read.coded("sex", {"f": "female"})
        read.years("age")
        read.check()

    with pytest.raises(ValueError) as error:
        wrong()
    with entries.collected() as mistakes:
        wrong()
    assert str(error.value).splitlines() == mistakes and len(mistakes) == 2
