"""Pages as a reader meets them: in a browser, from disk, on a phone and on a desk; and tables for LaTeX."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import runs

from reconfair import report
from reconfair.report import pages

CHROMIUM = shutil.which("chromium")
browser = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
# Run within the page: does it reach beyond the window, do pictures have size and text, is the text large enough?
PROBE = """<script>addEventListener("load", () => {
  const pictures = [...document.images], texts = [...document.querySelectorAll("dd, p, td, th, figcaption, small, li")];
  document.title = JSON.stringify({
    window: innerWidth, page: document.documentElement.scrollWidth,
    pictures: pictures.length, drawn: pictures.filter(p => p.complete && p.naturalWidth).length,
    named: pictures.filter(p => p.alt.length > 20).length, narrowest: Math.min(...pictures.map(p => p.width)),
    smallest: Math.min(...texts.map(t => parseFloat(getComputedStyle(t).fontSize))),
    inside: [...document.querySelectorAll("section, dl, figure, .wide")].every(e => e.getBoundingClientRect().right <= innerWidth),
    requests: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length});
});</script>"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Page of a run of invented radiographs under the paper's name, and the index."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONFAIR_OUTPUTS", str(folder))
        study = runs.chexpert(diagnosis={"tasks": ["Edema", "Fracture", "Pneumonia", "Cardiomegaly"]})
        runs.finish(study, 160, ("reweight", "adv"))
        yield report.page(report.gather(study)), folder / "index.html"


def opened(page: Path, width: int, tmp_path: Path) -> tuple[dict, str]:
    """What the probe found in a page opened from disk in a window of some width, and what the console said."""
    probed = tmp_path / "probed.html"
    # A headless window cannot be narrower than 500 pixels: the page stands in a frame of the width that is wanted.
    probed.write_text(page.read_text().replace("</head>", PROBE + "</head>"))
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
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", [0, 1], ids=["run", "index"])
def test_a_page_opens_from_disk_without_error_and_fits_the_window(written, which, width, tmp_path):
    seen, console = opened(written[which], width, tmp_path)
    assert console == ""
    assert seen["window"] == width and seen["page"] <= width and seen["inside"]
    assert seen["pictures"] == seen["drawn"] == seen["named"] >= (1 if which else 9)
    assert seen["requests"] == 0
    assert seen["smallest"] >= 12 and seen["narrowest"] >= 300  # pictures keep their size and scroll in their own box


@browser
def test_the_browser_check_notices_what_it_looks_for(written, tmp_path):
    page = tmp_path / "broken.html"
    broken = '<p style="width:900px">wide</p><img src="http://example.invalid/a.png"><script>console.error("no")</script></main>'
    page.write_text(written[0].read_text().replace("</main>", broken))
    seen, console = opened(page, 390, tmp_path)
    assert "no" in console and seen["page"] > 390 and seen["requests"] == 1
    assert seen["named"] == seen["drawn"] == seen["pictures"] - 1


def test_a_page_asks_for_nothing_from_anywhere(written):
    for page in written:
        text = re.sub(r"base64,[^\"]*", "", page.read_text())
        assert "<script" not in text and "@import" not in text and "http" not in text
        assert all(link.startswith("data:") for link in re.findall(r'(?:src|link[^>]*href)="([^"]*)"', text))
        assert text.count("<img") == text.count('alt="')
    links = re.findall(r'<a href="([^"]*)"', written[1].read_text())
    assert links == ["chexpert/1e4/report/report.html"] and (written[1].parent / links[0]).samefile(written[0])
    assert "<a " not in written[0].read_text()


def test_what_a_page_says_is_escaped():
    def exhibit():
        """A caption with <b>.

        A note & more.
        """

    page = pages.render("<t>", {"a<b": {"q": "p < 0.05"}}, {"Q?": {"x": (exhibit, "x < y")}}, ["<gone>"])
    for text in ("&lt;t&gt;", "a&lt;b", "p &lt; 0.05", "x &lt; y", "&lt;gone&gt;", "A note &amp; more."):
        assert text in page


def test_latex_needs_booktabs_alone_and_has_as_many_cells_in_every_line(written):
    table = pd.DataFrame(
        {"a_b": ["5 % & more", "x_1"], "ΔDice": ["~", "{}"]}, index=pd.Index(["r_1", "#2"], name="task_1")
    )
    text = pages.latex(table, "Caption, 5 %.\n\nNot this.")
    assert (
        r"\toprule" in text
        and r"\multirow" not in text
        and r"\caption{Caption, 5 \%.}" in text
        and "Not this" not in text
    )
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}
    assert (
        r"a\_b" in text
        and r"5 \% \& more" in text
        and r"\#2" in text
        and r"\$\Delta" not in text
        and r"$\Delta$Dice" in text
    )
    for path in written[0].parent.glob("*.tex"):
        text = path.read_text()
        assert r"\multirow" not in text
        assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1 and text.isascii(), path.name
        assert not re.search(r"(?<!\\)[%_#]", text.replace("@{}", "")), path.name
        assert path.with_suffix(".csv").exists()
