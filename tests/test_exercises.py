"""Teaching edition: quizzes, exercises with solutions, and the copies for students that are derived from them."""

import contextlib
import io
import re

import nbformat
import numpy as np
import pytest

import reconfair
from reconfair import run
from reconfair.report import pages
from reconfair.run import notebooks
from reconfair.run.products import CHAPTERS, FOLDER

TAUGHT = tuple(CHAPTERS)  # chapters with solutions and a quiz
each_chapter = pytest.mark.parametrize("name", TAUGHT)


def cells(name, *tags, kind=None):
    """Cells of a chapter with all these tags, in order."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    tagged = [cell for cell in notebook.cells if {*tags} <= {*cell.metadata.get("tags", ())}]
    return [cell for cell in tagged if kind in (None, cell.cell_type)]


@each_chapter
def test_each_exercise_has_a_solution_and_one_is_open(name):
    exercises = [cell.source for cell in cells(name, "exercise")]
    starts = [at for at, text in enumerate(exercises) if text.startswith("**Exercise ")]
    assert len(starts) >= 4
    solutions = [cell.source for cell in cells(name, "solution")]
    for start, end in zip(starts, [*starts[1:], len(exercises)], strict=True):
        assert any(text in solutions for text in exercises[start:end]), exercises[start]
    kinds = re.findall(r"\*\*Exercise \d+ \((.*?)\)", "\n".join(exercises))
    assert kinds[-1].startswith("open") and {"predict, then run", "write"} <= {*kinds}
    for cell in cells(name, "solution", kind="code"):
        assert cell.source.startswith("# Hint: ")


@each_chapter
def test_a_quiz_has_five_questions_and_a_reason_for_each_answer(name):
    questions = cells(name, "quiz", kind="markdown")
    assert [re.match(r"\*\*(\d)\. ", cell.source)[1] for cell in questions] == list("12345")
    places = []
    for cell in questions:
        answers = re.findall(r"<details><summary>(.+?)</summary>(.+?)</details>", cell.source, re.S)
        assert len(answers) == cell.source.count("<details>") >= 3
        right = [reason.startswith("Yes") for _, reason in answers]
        assert sum(right) == 1 and all(re.match(r"(Yes|No)[.,] \S+", reason) for _, reason in answers)
        assert all(len(reason.split()) >= 6 for _, reason in answers)
        places.append(right.index(True))
    assert len({*places}) > 1  # the right answer does not always stand in one place


@each_chapter
def test_the_guide_has_the_minutes_and_the_needs_of_each_chapter(name):
    first = nbformat.read(FOLDER / f"{name}.ipynb", 4).cells[0].source
    minutes, needs = re.search(r"about (\d+) minutes\. You need (.+)\.\*", first).groups()
    guide = (FOLDER.parent / "docs" / "teaching.md").read_text(encoding="utf-8")
    [row] = re.findall(rf"^\| {name[:2]} \| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", guide, re.M)
    assert row[0] == minutes and any(word in needs for word in re.findall(r"[a-z]{4,}|\d+", row[1]))


@each_chapter
def test_a_check_gives_a_hint_and_no_verdict(name):
    checks = [cell for cell in cells(name, "exercise", kind="code") if "solution" not in cell.metadata.tags]
    assert len(checks) >= 2
    for cell in checks:
        [answer] = re.findall(r'if "(\w+)" not in globals\(\)', cell.source)
        for value in ({}, {answer: np.nan}, {answer: lambda *_: (np.nan, np.nan)}):
            known = {"np": np, "images": np.zeros((1, 4, 4)), "example": 0, "samples": np.zeros((2, 1, 4, 4))} | value
            with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(AttributeError, TypeError):
                exec(cell.source, known)
                assert printed.getvalue().startswith("Hint: ") and printed.getvalue().count("\n") == 1
        assert not re.search(r"\b([Cc]orrect|[Rr]ight!|[Ww]rong|[Pp]ass(ed)?|[Ff]ail(ed)?)\b", cell.source)


def test_the_copy_for_students_has_hints_and_no_solutions(tmp_path, capsys):
    assert run.main(["exercises", str(tmp_path)]) == 0
    listed = [path.stem for path in sorted((tmp_path / "student").glob("*.ipynb"))]
    assert {*TAUGHT} <= {*listed} and all(name in capsys.readouterr().out for name in listed[:1])
    for name in listed:
        student, solved = (nbformat.read(tmp_path / kind / f"{name}.ipynb", 4) for kind in ("student", "solutions"))
        for copy in (student, solved):
            assert copy.cells.pop(1).metadata.tags == ["install"]
        assert solved == nbformat.read(FOLDER / f"{name}.ipynb", 4)
        nbformat.validate(student)
        for one, other in zip(student.cells, solved.cells, strict=True):
            if other.source.startswith("## Exercises"):
                assert "Solutions" not in one.source and "Write your answers" in one.source
            elif "solution" not in other.metadata.get("tags", ()):
                assert one == other
            elif other.cell_type == "markdown":
                assert one.source == "*Your answer:*"
            else:
                lines = one.source.splitlines()
                assert lines[0] == other.source.splitlines()[0] and lines[-1] == "# Your code:"
                assert all(line.startswith("#") for line in lines) and len(other.source.splitlines()) > len(lines)


def test_hosted_copies_open_elsewhere_and_name_the_release(tmp_path, capsys):
    assert run.main(["exercises", str(tmp_path), "--hosted", "school/course/2026"]) == 0
    title, badges, install, *_ = nbformat.read(tmp_path / "student" / "05_fairness.ipynb", 4).cells
    assert title.source.startswith("# 05")
    for address in (
        "https://colab.research.google.com/github/school/course/blob/2026/student/05_fairness.ipynb",
        "https://mybinder.org/v2/gh/school/course/2026?labpath=student/05_fairness.ipynb",
    ):
        assert f"]({address})" in badges.source
    release = f"reconfair=={reconfair.__version__}"
    assert release in install.source and (tmp_path / "requirements.txt").read_text() == f"{release}\n"
    for wrong in ("course", "school/", "https://github.com/school/course"):
        assert run.main(["exercises", str(tmp_path), "--hosted", wrong]) == 2
        assert "OWNER/NAME" in capsys.readouterr().err


def test_an_empty_answer_keeps_the_comment_at_its_start():
    code = nbformat.v4.new_code_cell(
        "# Hint: add.\n# Twice.\nx = 1  # done\n# later", metadata={"tags": ["exercise", "solution"]}
    )
    [cell] = notebooks.for_students(nbformat.v4.new_notebook(cells=[code])).cells
    assert cell.source == "# Hint: add.\n# Twice.\n# Your code:\n" and cell.metadata.tags == ["exercise"]
    assert code.source.endswith("later")  # the original is as it was


@each_chapter
def test_a_page_has_the_exercises_and_the_quiz_and_no_solution(name):
    text = pages.html_of(FOLDER / f"{name}.ipynb", name)
    assert text.count("<details>") >= 15 and "Exercise 5" in text and "Hint: " not in text
    for cell in cells(name, "solution", kind="markdown"):
        assert cell.source.split(". ")[0][:40].replace("'", "") not in re.sub("&#39;|&#x27;|'", "", text)
