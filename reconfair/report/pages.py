"""Pages and tables for readers without Python: executed notebooks as HTML that needs no network, and LaTeX."""

import re
from base64 import b64encode
from copy import deepcopy
from functools import lru_cache, partial
from inspect import cleandoc
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from matplotlib.figure import Figure

from reconfair import figures
from reconfair.words import latex, markdown

CSS = """
body { margin: 0 auto; max-width: 70rem; padding: 1rem; color: #1a1a1a; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; }
h2 { margin-top: 2.5rem; border-top: 2px solid #0072B2; padding-top: .5rem; }
a { color: #0b5a8a; }
p, ul, ol, blockquote { max-width: 46rem; }
pre { overflow-x: auto; font-size: .8125rem; line-height: 1.4; }
.input_area { background: #f6f6f6; padding: .1rem .8rem; border-radius: .3rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
nav { font-size: .875rem; border-left: 4px solid #0072B2; padding-left: .8rem; }
nav ul { columns: 16rem; padding-left: 1.2rem; }
.wide img { display: block; max-width: none; }
.celltag_summary { background: #f2f7fb; padding: .2rem 1rem; border-radius: .3rem; }
.celltag_summary h2 { border: 0; margin-top: .5rem; }
table { border-collapse: collapse; font-size: .8125rem; overflow-wrap: normal; }
th, td { padding: .2rem .5rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid #ddd; }
.text_cell table { display: block; overflow-x: auto; }
.text_cell p > img { max-width: 100%; }
.math { display: block; overflow-x: auto; }
@media (max-width: 40rem) {
  .wide::before { content: "Scroll sideways to see all of it."; position: sticky; left: 0; font-size: .75rem;
    color: #555; }
}
@page { size: A4; margin: 12mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  p, ul, ol, blockquote { max-width: none; }
  pre { white-space: pre-wrap; font-size: 8pt; }
  table { font-size: 7pt; }
  th, td { white-space: normal; padding: .1rem .25rem; }
  .wide, .text_cell table, .math { overflow: visible; }
  .wide::before { content: none; }
  .wide img { width: auto; height: auto; max-width: 100%; max-height: 220mm; }
  h2, h3, .output_area:has(.output_markdown) { break-after: avoid; }
  p, tr, img { break-inside: avoid; }
}
"""
# The policy lets a page load nothing and run nothing, whatever its cells hold.
TEMPLATE = """{%- extends 'classic/base.html.j2' -%}
{% macro wide(label) %}
<div class="wide" tabindex="0" role="region" aria-label="{{ label | escape_html }}">
{% endmacro %}
{% block header %}<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ resources.title | escape_html }} - reconfair</title>
<style>{{ resources.css }}</style>
</head>
<body>
<main>
{% endblock %}
{% block data_html scoped %}
{{ wide(output | get_metadata("alt", "text/html") or "Table") }}{{ super() }}</div>{% endblock %}
{% block data_png scoped %}{{ wide(output | get_metadata('alt', 'image/png')) }}{{ super() }}</div>{% endblock %}
{% block footer %}
</main>
</body>
</html>
{% endblock %}"""
SHOWN = ("text/html", "text/markdown", "image/png", "text/plain")  # the first of these that an output has
# What Matplotlib's TeX lacks, in its own words.
TEX = [
    (r"\\[bB]igg?[lr]\b", ""),
    (r"\\[lr]Vert\b", r"\\Vert "),
    (r"\\[lr]vert\b", r"\\vert "),
    (r"\\le\b", r"\\leq "),
    (r"\\[td]?frac\s*(\w)\s*(\w)", r"\\frac{\1}{\2}"),
    (r"\\(mathcal|mathrm|sqrt|overline)\s*([A-Za-z0-9])(?![a-z])", r"\\\1{\2}"),
    (r"\\tfrac", r"\\frac"),
]


def html_of(notebook, title: str, hide_code: bool = False, links: dict[str, dict[str, str]] | None = None) -> str:
    """Return an executed notebook as one HTML page that asks for nothing from anywhere.

    Contents follow the title. Formulas become pictures, every picture has a text, and what is wide scrolls in
    its own box.

    Parameters
    ----------
    notebook : Path or NotebookNode
    title : str
        Of the browser's tab; the heading is the notebook's own.
    hide_code : bool
        Leave out the code, and show text and outputs alone.
    links : dict of dict, optional
        Before the contents: by a word, texts and the addresses to which they lead.
    """
    from html import escape

    import nbformat
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter
    from traitlets.config import Config

    content = nbformat.read(notebook, as_version=4) if isinstance(notebook, Path) else deepcopy(notebook)
    content.cells = [cell for cell in content.cells if not is_answer(cell)]
    describe_pictures(content)
    content.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        template_name="basic",
        raw_template=TEMPLATE,
        exclude_input=hide_code,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        config=Config({"NbConvertBase": {"display_data_priority": list(SHOWN)}}),
    )
    headings = {}
    exporter.register_filter("markdown2html", partial(_html_of_markdown, headings=headings))
    css = CSS + HtmlFormatter().get_style_defs(".highlight")
    page = exporter.from_notebook_node(content, {"title": title, "css": css})[0]
    lines = [
        f"<p>{escape(word)}: "
        + ", ".join(f'<a href="{quote(at)}">{escape(text)}</a>' for text, at in some.items())
        + "</p>"
        for word, some in (links or {}).items()
        if some
    ]
    entries = [f'<li><a href="#{anchor}">{text}</a></li>' for anchor, text in headings.items()]
    lines += ["<ul>", *entries, "</ul>"] * bool(entries)
    nav = "\n".join(['<nav aria-label="Contents">', *lines, "</nav>\n"]) * bool(lines)
    before = "</h1>\n" if "</h1>\n" in page else "<main>\n"
    return page.replace(before, before + nav, 1)


def is_answer(cell) -> bool:
    """Whether a cell is a solution, or code that checks one; of an exercise its text alone is for all readers."""
    tags = cell.metadata.get("tags", ())
    return "solution" in tags or (cell.cell_type == "code" and "exercise" in tags)


def caption(exhibit) -> tuple[str, str]:
    """Return an exhibit's caption and note, from its docstring."""
    first, _, rest = cleandoc(exhibit.__doc__).partition("\n\n")
    return " ".join(first.split()), " ".join(rest.split())


def show(exhibit, runs) -> None:
    """Display an exhibit in a notebook, below its caption and note."""
    from IPython.display import display

    for data, metadata in outputs(exhibit, runs):
        display(data, metadata=metadata, raw=True)


@lru_cache(maxsize=64)  # a figure takes up to a second, and a report shows it and writes it
def drawn(exhibit, runs) -> str | pd.DataFrame | bytes:
    """An exhibit as a sentence, a table or a PNG."""
    content = exhibit(runs)
    if isinstance(content, Figure):
        content.savefig(png := BytesIO(), format="png", dpi=150)
        return png.getvalue()
    return content


def outputs(exhibit, runs):
    """Yield data and metadata of an exhibit's outputs, by MIME type: its caption, then a picture, table or sentence."""
    (first, note), content = caption(exhibit), drawn(exhibit, runs)
    yield {"text/markdown": f"**{markdown(first)}** {markdown(f'{note} {runs.simulated}'.strip())}"}, {}
    if isinstance(content, str):
        yield {"text/markdown": markdown(content)}, {}
    elif isinstance(content, bytes):
        width = int.from_bytes(content[16:20], "big") * 80 // 150  # of pixels at 150 an inch
        yield {"image/png": b64encode(content).decode()}, {"image/png": {"alt": first, "width": width}}
    else:
        with pd.option_context("display.max_colwidth", None, "display.html.use_mathjax", False):
            table = {"text/html": content.to_html(border=0), "text/plain": content.to_string()}
        yield table, {"text/html": {"alt": first}}


def latex_table(table: pd.DataFrame, text: str) -> str:
    """Return a table with a caption as LaTeX that needs the package booktabs alone."""
    styled = table.rename_axis(index=None, columns=None) if table.index.nlevels == 1 else table

    def escaped(cell) -> str:
        return latex(str(cell))

    styled = styled.style.format(escaped)
    for axis in (0, 1):
        styled = styled.format_index(escaped, axis=axis).format_index_names(escaped, axis=axis)
    return styled.to_latex(hrules=True, multicol_align="l", multirow_align="naive", caption=latex(text))


def describe_pictures(notebook) -> None:
    """Give each picture without a text one from the function that drew it and the heading above it."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#+ (.*)", cell.source, re.M)][-1]
        drawn = [getattr(figures, each, None) for each in re.findall(r"figures\.(\w+)\(", cell.source)]
        texts = [caption(each)[0].split(": ")[0].rstrip(".") for each in drawn if getattr(each, "__doc__", None)]
        texts = [text[5:6].upper() + text[6:] for text in texts if text.startswith("Draw ")]
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                text = f"{'; '.join(texts) or 'Figure'}, in the section '{heading}'"
                output.metadata.setdefault("image/png", {}).setdefault("alt", text)


def _html_of_markdown(text: str, headings: dict[str, str]) -> str:
    """Markdown as HTML; headings of the second level are added to `headings`, by their anchor."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        """Markdown with formulas as pictures and with anchors at its headings."""

        def heading(self, text: str, level: int, **attributes) -> str:
            if level != 2:
                return super().heading(text, level, **attributes)
            anchor = f"section-{len(headings) + 1}"
            headings[anchor] = re.sub("<[^>]*>", "", text)
            return f'<h2 id="{anchor}">{text}</h2>\n'

        def inline_math(self, body: str) -> str:
            return _picture_of_formula(body)

        def block_math(self, body: str) -> str:
            return f'<span class="math">{_picture_of_formula(body)}</span>'

    return MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True)).render(text)


def _picture_of_formula(tex: str) -> str:
    """Draw a formula as Matplotlib does, or show its TeX if that cannot."""
    from html import escape

    from matplotlib.mathtext import math_to_image

    drawn = tex = " ".join(tex.split())
    for pattern, replacement in TEX:
        drawn = re.sub(pattern, replacement, drawn)
    try:
        depth = math_to_image(f"${drawn}$", svg := BytesIO(), format="svg")
    except ValueError:
        return f"<code>{escape(tex)}</code>"
    source = b64encode(svg.getvalue()).decode()
    return f'<img src="data:image/svg+xml;base64,{source}" alt="{escape(tex)}" style="vertical-align: -{depth:.1f}pt">'
