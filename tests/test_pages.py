"""Pages as a reader meets them: executed notebooks in a browser, from disk, on a phone and on a desk; and LaTeX."""

import html
import json
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import nbformat.v4 as v4
import pandas as pd
import pytest
import runs
import yaml
from pypdf import PdfReader

import reconfair
from reconfair import report
from reconfair.report import exhibits, pages
from reconfair.run import notebooks
from reconfair.run.products import FOLDER, every_product
from reconfair.words import latex, markdown

CHROMIUM = shutil.which("chromium")
browser = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
# Run within the page: does it reach beyond the window, do pictures have size and text, is the text large enough?
PROBE = """<script>addEventListener("load", () => {
  const pictures = [...document.images], texts = [...document.querySelectorAll("p, td, th, li, pre")];
  document.title = JSON.stringify({
    window: innerWidth, page: document.documentElement.scrollWidth,
    pictures: pictures.length, drawn: pictures.filter(p => p.complete && p.naturalWidth).length,
    named: pictures.filter(p => p.alt.length > 20).length, narrowest: Math.min(...pictures.map(p => p.width)),
    smallest: Math.min(...texts.map(t => parseFloat(getComputedStyle(t).fontSize))),
    hint: [...document.querySelectorAll(".wide")].filter(e => getComputedStyle(e, "::before").content.includes("sideways")).length,
    wide: document.querySelectorAll(".wide").length,
    inside: [...document.querySelectorAll(".cell, .output, .wide, p, pre")].every(e => e.getBoundingClientRect().right <= innerWidth),
    requests: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length});
});</script>"""


HOSTILE = r"<img src=x onerror=alert(1)> $\frac{a}$ a_b*c* [d](e) `f` 5 % & #g ~h^"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Page of a run of invented radiographs with a hostile group, its folder of tables, and the index."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(folder))
        patch.setattr(runs, "RACES", {"White": 0.5, HOSTILE: 0.5})
        study = runs.chexpert(
            diagnosis={"tasks": ["Edema", "Fracture", "Pneumonia", "Cardiomegaly"]}, fairness={"min_cases": 5}
        )
        runs.finish(study, 160, ("reweight", "adv"))
        [copy] = [product for product in every_product(study) if product.name == "10_report"]
        assert notebooks.execute(study, copy) == "ran"
        assert report.product(study).fresh and copy.fresh
    run_folder = folder / study.name
    return run_folder / "chapters" / "10_report.html", folder / "index.html", run_folder


def opened(page: Path, width: int, tmp_path: Path) -> tuple[dict, str]:
    """What the probe found in a page opened from disk in a window of some width, and what the console said."""
    probed = tmp_path / "probed.html"
    # A headless window cannot be narrower than 500 pixels: the page stands in a frame of the width that is wanted.
    content = re.sub("<meta[^>]*Content-Security-Policy[^>]*>", "", page.read_text())  # it would refuse the probe
    probed.write_text(content.replace("</head>", PROBE + "</head>"))
    frame = tmp_path / "frame.html"
    listen = (
        "const f = document.querySelector('iframe'); setInterval(() => document.title = f.contentDocument.title, 50)"
    )
    frame.write_text(
        f'<iframe src="probed.html" style="border:0;width:{width}px;height:900px"></iframe><script>{listen}</script>'
    )
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={max(width, 500) + 40},1000",
        "--enable-logging=stderr",
    ]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=8000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    return json.loads(title[1].replace("&quot;", '"')), "\n".join(re.findall(r".*CONSOLE.*", done.stderr))


@browser
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("which", [0, 1], ids=["run", "index"])
def test_a_page_opens_from_disk_without_error_and_fits_the_window(written, which, width, tmp_path):
    seen, console = opened(written[which], width, tmp_path)
    assert console == ""
    assert seen["window"] == width and seen["page"] <= width and seen["inside"]
    assert seen["pictures"] == seen["drawn"] == seen["named"] >= (1 if which else 9)
    assert seen["requests"] == 0
    assert seen["hint"] == (seen["wide"] if width == 390 else 0) and seen["wide"] > 0
    assert seen["smallest"] >= 12 and seen["narrowest"] >= 300  # pictures keep their size and scroll in their own box


@browser
def test_the_browser_check_notices_what_it_looks_for(written, tmp_path):
    page = tmp_path / "broken.html"
    broken = '<p style="width:900px">wide</p><img src="http://example.invalid/a.png"><script>console.error("no")</script></main>'
    page.write_text(written[0].read_text().replace("</main>", broken))
    seen, console = opened(page, 390, tmp_path)
    assert "no" in console and seen["page"] > 390 and seen["requests"] == 1
    assert seen["named"] == seen["drawn"] == seen["pictures"] - 1


@browser
def test_printed_to_a4_nothing_is_cut_and_each_figure_stands_below_its_caption(written, tmp_path):
    sheets = tmp_path / "page.pdf"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    subprocess.run([*command, f"--print-to-pdf={sheets}", written[0].as_uri()], check=True, capture_output=True)
    printed, right = [], []
    for sheet in PdfReader(sheets).pages:
        assert [round(float(side)) for side in sheet.mediabox[2:]] == [595, 842]  # points

        def place(text, outer, inner, *_):
            right.append((inner[4] * outer[0] + outer[4]) * bool(text.strip()))

        printed.append((letters(sheet.extract_text(visitor_text=place)), len(sheet.images)))
    assert max(right) < 595
    page = written[0].read_text(encoding="utf-8")
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", page)
    everything = "".join(text for text, _ in printed)
    assert len(cells) > 100 and not [cell for cell in cells if letters(html.unescape(cell)) not in everything]
    captions = [html.unescape(alt) for alt in re.findall(r'<img alt="([^"]*)" src="data:image/png', page)]
    assert sum(images for _, images in printed) == len(captions) > 5
    for text, images in printed:
        for caption in captions[:images]:
            assert letters(caption) in text
        captions = captions[images:]


def letters(text: str) -> str:
    """Text without blanks and tags, each ligature as its letters."""
    return re.sub(r"\s|<[^>]*>", "", unicodedata.normalize("NFKC", text))


def pieces(page: Path) -> str:
    """Text of a page without its pictures."""
    return re.sub(r"base64,[^\"]*", "", page.read_text())


def test_a_page_asks_for_nothing_from_anywhere(written):
    for page in written[:2]:
        text = pieces(page)
        assert "<script" not in text and "@import" not in text and "http:" not in text and "https:" not in text
        assert "default-src 'none'" in text and '<html lang="en">' in text and 'name="viewport"' in text
        assert all(link.startswith("data:") for link in re.findall(r'src="([^"]*)"', text))
        assert re.findall(r'<link href="([^"]*)" rel="icon"', text) == ["data:,"]
        assert text.count("<img") == len(re.findall(r'<img alt="[^"]{20,}"', text)) > 0
        assert page.stat().st_size < 10e6
    links = re.findall(r'<a href="([^"]*)"', pieces(written[1]))
    assert [link for link in links if not link.startswith("#")] == ["chexpert/1e4/chapters/10_report.html"]
    assert (written[1].parent / "chexpert/1e4/chapters/10_report.html").samefile(written[0])


def test_the_page_leads_to_all_runs_its_tables_and_each_of_its_sections(written, monkeypatch):
    text = pieces(written[0])
    links = re.findall(r'<a href="([^"]*)"', text)
    sections = [link.removeprefix("#") for link in links if link.startswith("#")]
    assert len(sections) == text.count("<h2") > 5 and all(text.count(f'id="{section}"') == 1 for section in sections)
    files = [(written[0].parent / link).resolve() for link in links if not link.startswith("#")]
    assert all(path.is_file() for path in files if path.name != "index.html")  # it is written after the page
    assert written[1].resolve() in files
    assert {"cohort.csv", "performance.csv", "fairness.csv"} <= {path.name for path in files}
    monkeypatch.setenv("RECONFAIR_OUTPUTS", str(written[1].parent))
    (written[0].parent / "01_data.html").write_text("")
    assert report.links(runs.chexpert())["Chapters of this run"] == {"01_data": "01_data.html"}
    (written[0].parent / "01_data.html").unlink()


def test_the_page_says_when_and_from_what_it_was_made_and_what_its_measures_mean(written):
    text = pieces(written[0])
    assert re.search(rf"Made on 20\d\d-\d\d-\d\d with reconfair {re.escape(reconfair.__version__)}", text)
    assert "Simulated data" not in text  # the run bears the name of a real dataset
    assert "<li>EODD: the equalised odds difference" in text and "Margin: 0.05.</li>" in text


def test_the_page_holds_every_exhibit_and_begins_with_the_summary(written):
    head, _, text = pieces(written[0]).partition("</nav>")
    assert text.index("In a minute") < text.index("For whom.") < text.index("What was done?")
    assert 'class="input' not in text and "<title>chexpert/1e4" in head
    for question, exhibit in exhibits.EVERY.values():
        assert question in text
        assert pages.caption(exhibit)[0].replace("'", "") in re.sub("&#x27;|'", "", text)
    folder = written[2]
    assert {path.suffix for path in (folder / "exhibits").glob("[!.]*") if "product" not in path.name} == {
        ".csv",
        ".png",
        ".tex",
    }
    assert len(list((folder / "export").iterdir())) == 10
    assert len(list((folder / "exhibits").glob("*.png"))) == text.count("<img")
    assert yaml.safe_load((folder / "run.yaml").read_text())["noise"]["photons"] == 1e4


def test_a_hostile_name_is_text_in_the_page_and_in_latex(written):
    for page in written[:1]:
        assert "<img src=x" not in page.read_text()
        assert "&lt;img src=x onerror=alert(1)&gt; $\\frac{a}$ a_b*c* [d](e) `f` 5 % &amp; #g ~h^" in page.read_text()
    cohort = (written[2] / "exhibits" / "cohort.tex").read_text()
    assert latex(HOSTILE) in cohort and r"\frac" not in cohort and "<" not in cohort


def test_markdown_shows_a_hostile_name_as_it_stands():
    for text in (markdown(HOSTILE), markdown([HOSTILE]), markdown({"question": HOSTILE})):
        page = pages.html_of(v4.new_notebook(cells=[v4.new_markdown_cell(text)]), HOSTILE)
        body = page[page.index("<main>") :]
        assert not re.search("<img|<code|<em|<a |<del", body)
        words = re.sub("<[^>]*>", "", body)
        assert "&lt;img src=x onerror=alert(1)&gt; $\\frac{a}$ a_b*c* [d](e) `f` 5 % &amp; #g ~h^" in words
        assert "$<" in body  # no formula can begin there and end in another element
        assert "<title>&lt;img src=x" in page


def test_any_chapter_becomes_a_page_with_code_formulas_and_named_pictures():
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    pictures = [v4.new_output("display_data", {"image/png": pixel, "text/plain": "<Figure>"}) for _ in range(2)]
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "50 %"}
    formula = r"$\tfrac12 \lVert x \rVert$ and $$\unknown{x}$$"
    cells = [
        v4.new_markdown_cell(f"# A chapter\n\n{formula}"),
        v4.new_code_cell("figures.learning(logs)", outputs=pictures[:1]),
        v4.new_code_cell("print(1)", outputs=[pictures[1], v4.new_output("display_data", widget)]),
        v4.new_code_cell("f()", outputs=[v4.new_output("display_data", {"text/html": "<table></table>"})]),
    ]
    for hidden in (False, True):
        text = pages.html_of(v4.new_notebook(cells=cells), "A chapter", hide_code=hidden)
        assert ('class="highlight' in text) != hidden and "<script" not in text and "50 %" in text
        assert r'alt="\tfrac12 \lVert x \rVert" src="data:image/svg+xml' in text and r"<code>\unknown{x}</code>" in text
        assert 'alt="Training (dashed) and validation loss by epoch; the kept epoch is marked, in the section' in text
        assert "alt=\"Figure, in the section 'A chapter'\"" in text
        assert '<div aria-label="Table" class="wide" role="region" tabindex="0">' in text


@pytest.mark.parametrize("notebook", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_is_drawn(notebook):
    text = "\n".join(cell.source for cell in v4.reads(notebook.read_text()).cells if cell.cell_type == "markdown")
    without = re.sub(r"\$\$.*?\$\$|\$[^$]*\$", "", text, flags=re.S)
    page = pages.html_of(v4.new_notebook(cells=[v4.new_markdown_cell(text)]), "t")
    kept = pages.html_of(v4.new_notebook(cells=[v4.new_markdown_cell(without)]), "t")
    assert page.count("<code") == kept.count("<code") and page.count("data:image/svg") >= text.count("$$") // 2


def test_latex_needs_booktabs_alone_and_has_as_many_cells_in_every_line(written):
    index = pd.Index(["r_1", "#2"], name="task_1")
    table = pd.DataFrame({"a_b": ["5 % & more", "x_1"], "ΔDice": ["~", "{}"]}, index=index)
    text = pages.latex_table(table, "Caption, 5 %.")
    assert r"\toprule" in text and r"\multirow" not in text and r"\caption{Caption, 5 \%.}" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}
    for cell in (r"a\_b", r"5 \% \& more", r"\#2", r"$\Delta$Dice"):
        assert cell in text
    assert r"\$\Delta" not in text
    for path in (written[2] / "exhibits").glob("*.tex"):
        text = path.read_text()
        assert r"\multirow" not in text
        assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1 and text.isascii(), path.name
        assert not re.search(r"(?<!\\)[%_#]", text.replace("@{}", "")), path.name
        assert path.with_suffix(".csv").exists()
