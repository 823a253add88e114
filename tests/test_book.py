"""The reading edition as a reader meets it: built without a warning, whole, and opened from disk in a browser."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat.v4 as v4
import pytest

from reconfair import play, store
from reconfair.fairness import two_groups
from reconfair.words import p_value

ROOT = store.PACKAGE.parent
CHROMIUM = shutil.which("chromium")
browser = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
PAGES = [
    "index",
    "notebooks/02_noising",
    "notebooks/03_reconstruction",
    "docs/tables",
    "docs/play",
    "reference/fairness",
]
# Of the page in the frame: what it loaded, whether it is as wide as the window, formulas, pictures, results of a search.
PROBE = """setInterval(() => {
  const page = document.querySelector('iframe').contentDocument, view = page?.defaultView;
  if (!view || page.readyState !== 'complete') return;
  const pictures = [...page.images].filter(p => p.checkVisibility());
  document.title = JSON.stringify({
    title: page.title, window: view.innerWidth, width: page.documentElement.scrollWidth,
    loaded: view.performance.getEntriesByType('resource').filter(e => /^https?:/.test(e.name)).length,
    formulas: page.querySelectorAll('.math').length, drawn: page.querySelectorAll('.math svg').length,
    pictures: pictures.length, whole: pictures.filter(p => p.complete && p.naturalWidth).length,
    results: [...page.querySelectorAll('#search-results li a')].map(a => a.getAttribute('href'))});
}, 50)"""


def module():
    """`docs/book.py`, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("book", ROOT / "docs" / "book.py")
    spec.loader.exec_module(loaded := importlib.util.module_from_spec(spec))
    return loaded


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Folder of the built site."""
    if not importlib.util.find_spec("myst_nb"):
        pytest.skip("the extra 'book' is not installed")
    folder = tmp_path_factory.mktemp("book")
    done = subprocess.run([sys.executable, ROOT / "docs" / "book.py", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # a warning is an error
    return folder / "html"


class Page(HTMLParser):
    """What a page loads, where it links to, and which anchors it has."""

    def __init__(self, path: Path):
        super().__init__()
        self.loaded, self.links, self.anchors, self.unnamed = [], [], {""}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if (
            tag in LOADED
            and attributes.get(LOADED[tag])
            and attributes.get("rel") not in ("index", "search", "next", "prev")
        ):
            self.loaded.append(attributes[LOADED[tag]])
        if tag == "img" and not attributes.get("alt"):
            self.unnamed.append(attributes.get("src"))


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere_and_every_link_leads_somewhere(site):
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 50
    lost = []
    for path, page in pages.items():
        elsewhere = [url for url in page.loaded if urlsplit(url).scheme not in ("", "data") or url.startswith("//")]
        assert elsewhere == [], path
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (target in pages and anchor not in pages[target].anchors):
                lost.append((path.name, link))
    assert lost == []
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style
    assert [page.unnamed for page in pages.values() if page.unnamed] == []


@pytest.mark.slow
def test_the_site_has_every_chapter_guide_and_room(site):
    book = module()
    names = [f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")]
    names += [f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")] + ["index", "reference/index"]
    assert [name for name in names if not (site / f"{name}.html").is_file()] == []
    start = (site / "index.html").read_text(encoding="utf-8")
    assert [name for name in names if f'href="{name}.html"' not in start and name != "index"] == []
    fairness = (site / "reference" / "fairness.html").read_text(encoding="utf-8")
    assert 'id="reconfair.fairness.metrics.eodd"' in fairness and "array_like" in fairness
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert index.startswith("Search.setIndex(") and "docs/tables" in index and "eodd" in index
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        text = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert ("without results" in text) == (book.executed(path) is None)


def opened(page: Path, width: int, folder: Path, query: str = "") -> tuple[dict, str]:
    """What the probe sees in a page opened from disk in a frame of some width, and what the console says."""
    frame = folder / "frame.html"
    size = f"border:0;width:{width}px;height:900px"
    frame.write_text(f'<iframe src="{page.as_uri()}{query}" style="{size}"></iframe><script>{PROBE}</script>')
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width + 40},1000", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=15000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    return json.loads(title[1].replace("&quot;", '"').replace("&amp;", "&")), "\n".join(
        re.findall(r".*CONSOLE.*", done.stderr)
    )


@pytest.mark.slow
@browser
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_from_disk_whole_and_fits_the_window(site, name, width, tmp_path):
    seen, console = opened(site / f"{name}.html", width, tmp_path)
    assert console == "" and seen["loaded"] == 0
    assert seen["window"] == width and seen["width"] <= width
    assert seen["pictures"] == seen["whole"] and seen["formulas"] == seen["drawn"]
    assert (seen["formulas"] > 3) == name.startswith("notebooks/0")


@pytest.mark.slow
@browser
@pytest.mark.parametrize(("words", "page"), [("EODD", "docs/which-metric.html"), ("Wilson", "notebooks/01_data.html")])
def test_a_search_leads_to_the_page(site, words, page, tmp_path):
    seen, console = opened(site / "search.html", 1400, tmp_path, f"?q={words}")
    assert console == "" and any(result.startswith(page) for result in seen["results"])
    seen, _ = opened(site / "search.html", 1400, tmp_path, "?q=zzzqqq")
    assert seen["results"] == []


@pytest.mark.slow
@browser
def test_the_browser_check_notices_what_it_looks_for(site, tmp_path):
    broken = site / "broken.html"
    wide = '<p style="width:900px">wide</p><img src="http://example.invalid/a.png"><script>console.error("no")</script></body>'
    broken.write_text((site / "index.html").read_text(encoding="utf-8").replace("</body>", wide), encoding="utf-8")
    seen, console = opened(broken, 390, tmp_path)
    broken.unlink()
    assert "no" in console and seen["width"] > 390 and seen["loaded"] == 1 and seen["whole"] < seen["pictures"]


@browser
def test_the_sliders_of_the_page_show_the_numbers_of_the_package(tmp_path):
    book, names = module(), list(play.GAP)
    (tmp_path / "eodd-numbers.js").write_text(book.numbers_of_sliders())
    assert (tmp_path / "eodd-numbers.js").stat().st_size < 100_000
    settings = [(10, 0.0, 0.5), (50, 0.5, 0.7), (1000, 1.5, 0.1)]
    places = [[play.GAP[name][1].index(value) for name, value in zip(names, one, strict=True)] for one in settings]
    move = f"""const read = [];
      for (const places of {places}) {{
        {names}.forEach((name, k) => {{
          const slider = document.getElementById("eodd-" + name);
          slider.value = places[k];
          slider.dispatchEvent(new Event("input"));
        }});
        read.push(document.getElementById("eodd-numbers").textContent);
      }}
      document.title = JSON.stringify(read) + document.querySelectorAll("#eodd svg circle").length;"""
    (tmp_path / "page.html").write_text(
        f'<title></title><div id="eodd"></div><script src="eodd-numbers.js"></script>'
        f'<script src="{(ROOT / "docs" / "eodd.js").as_uri()}"></script><script>{move}</script>'
    )
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=240)
    assert "CONSOLE" not in done.stderr
    read = re.search(r"<title>(.*?)</title>", done.stdout)[1]
    assert read.endswith("]3")
    for setting, text in zip(settings, json.loads(unescape(read[:-1])), strict=True):
        seen = two_groups.compare(**dict(zip(names, setting, strict=True)))
        expected = [*seen["tpr"], seen["fpr"][0], *(seen[key] for key in ("eodd", "low", "high", "expected"))]
        text, _, p = text.partition(", p ")
        shown = [float(number) for number in re.findall(r"\d\.\d{3}", text)]
        assert shown == pytest.approx(expected, abs=0.0006) and f"p {p}" == f"{p_value(seen['p'])}."


def test_a_page_keeps_its_links_and_takes_along_what_it_links_to(tmp_path, monkeypatch):
    book = module()
    monkeypatch.setattr(book, "ROOT", root := tmp_path / "project")
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text("start")
    (root / "docs" / "numbers.csv").write_text("1")
    page = root / "docs" / "page.md"
    page.write_text("[a](../README.md#top) [b](numbers.csv) [c](../docs) [d](page.md#x) [e](https://example.org/a)")
    book.gather_page(page, tmp_path / "source")
    text = (tmp_path / "source" / "docs" / "page.md").read_text()
    assert text == "[a](../index.md#top) [b](numbers.csv) c [d](page.md#x) [e](https://example.org/a)"
    assert (tmp_path / "source" / "docs" / "numbers.csv").read_text() == "1"
    page.write_text("[lost](nowhere.md)")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.md"):
        book.gather_page(page, tmp_path / "source")


def test_a_chapter_says_where_its_results_come_from_and_when_its_text_is_newer(tmp_path, monkeypatch):
    book = module()
    monkeypatch.setattr(book, "GALLERY", tmp_path / "gallery")
    monkeypatch.setattr(book, "ROOT", tmp_path)
    path, copy = tmp_path / "01_data.ipynb", tmp_path / "gallery" / "phantom" / "x8" / "chapters" / "01_data.ipynb"
    picture = v4.new_output("display_data", {"image/png": "aGk=", "application/vnd.jupyter.widget-view+json": {}})
    cells = [v4.new_markdown_cell("# Title\n\nText"), v4.new_code_cell("1 + 1", outputs=[picture])]
    path.write_text(v4.writes(v4.new_notebook(cells=cells)))
    assert "without results" in book.chapter(path).cells[0].source
    copy.parent.mkdir(parents=True)
    copy.write_text(path.read_text())
    (copy.parents[1] / "run.yaml").write_text("versions: {reconfair: 9.8.7}")
    chapter = book.chapter(path)
    first = chapter.cells[0].source
    assert first.startswith("# Title\n") and "phantom/x8" in first and "9.8.7" in first and "changed since" not in first
    assert list(chapter.cells[1].outputs[0].data) == ["image/png"] and chapter.cells[1].metadata.mystnb["image"]["alt"]
    path.write_text(path.read_text().replace("1 + 1", "1 + 2"))
    assert "changed since" in book.chapter(path).cells[0].source


def test_the_executed_chapters_are_of_today():
    book = module()
    notes = {path.stem: book.chapter(path).cells[0].source for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    assert all("Executed by" in note or "without results" in note for note in notes.values())
    older = [name for name, note in notes.items() if "changed since" in note or "without results" in note]
    if older:
        pytest.skip(f"older than their text, refresh with make gallery: {', '.join(older)}")
