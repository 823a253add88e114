"""Pages and tables for readers without Python: one HTML file each, that asks for nothing from anywhere, and LaTeX."""

from base64 import b64encode
from html import escape
from inspect import cleandoc
from io import BytesIO

import pandas as pd
from jinja2 import Environment
from matplotlib.figure import Figure

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }} - reconfair</title>
<style>
body { margin: 0 auto; max-width: 70rem; padding: 1rem; color: #1a1a1a; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.25; }
h2 { margin-top: 2.5rem; border-top: 2px solid #0072B2; padding-top: .5rem; }
dt { font-weight: 600; } dd { margin: 0 0 .6rem; }
a { color: #0b5a8a; }
figure { margin: 1.5rem 0; } figcaption { max-width: 46rem; } figcaption small { color: #505050; font-size: .875rem; }
.wide { overflow-x: auto; } .wide img { display: block; }
.summary { margin-bottom: 1rem; background: #f2f7fb; padding: .2rem 1rem; border-radius: .3rem; }
.summary h2 { border: 0; margin-top: .5rem; }
table { border-collapse: collapse; font-size: .8125rem; overflow-wrap: normal; }
th, td { padding: .2rem .5rem; text-align: left; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { vertical-align: top; }
summary { cursor: pointer; }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p>What reconstruction does to a diagnosis, and to whom: reconstructions are compared with originals, read by the same
frozen models.</p>
{% for label, sentences in said.items() %}
<section class="summary">
<h2>{{ label }}: in a minute</h2>
<dl>
{% for question, sentence in sentences.items() %}
<dt>{{ question | capitalize }}</dt><dd>{{ sentence }}</dd>
{% endfor %}
</dl>
{% if links.get(label) %}
<p>Reports: {% for level, to in links[label].items() %}<a href="{{ to }}">{{ level }}</a> {% endfor %}</p>
{% endif %}
</section>
{% endfor %}
<details open><summary>Not there ({{ missing | length }})</summary>
<ul>
{% for sentence in missing %}
<li>{{ sentence }}</li>
{% endfor %}
</ul></details>
{% for question, exhibits in answers.items() %}
<section>
<h2>{{ question }}</h2>
{% for name, (caption, note, body) in exhibits.items() %}
<figure id="{{ name }}">
<figcaption><b>{{ caption }}</b>{% if note %}<br><small>{{ note }}</small>{% endif %}</figcaption>
{{ body | safe }}
</figure>
{% endfor %}
</section>
{% endfor %}
<p><small>These are properties of the models and patients of this study. Nothing here says why groups differ, or what
would be found elsewhere. Published values: Wohlrapp et al., MIDL 2026, and its slides of April 2025; of other images
and other models.</small></p>
</main>
</body>
</html>
"""


def render(title: str, said: dict, answers: dict, missing: list[str], links: dict | None = None) -> str:
    """Return a page.

    Parameters
    ----------
    title : str
    said : dict
        By dataset or run: sentences by question.
    answers : dict
        By question, and by name: an exhibit's function and what it showed: a PNG, a table or a sentence.
    missing : list of str
    links : dict, optional
        As `said`: pages by noise level.
    """
    environment = Environment(autoescape=True, trim_blocks=True)
    shown = {
        question: {name: (*caption(draw), _body(what, caption(draw)[0])) for name, (draw, what) in exhibits.items()}
        for question, exhibits in answers.items()
    }
    page = environment.from_string(PAGE)
    return page.render(title=title, said=said, answers=shown, missing=missing, links=links or {})


def caption(exhibit) -> tuple[str, str]:
    """An exhibit's caption and what to mind, from its docstring."""
    first, _, rest = cleandoc(exhibit.__doc__).partition("\n\n")
    return " ".join(first.split()), " ".join(rest.split())


def latex(table: pd.DataFrame, text: str) -> str:
    """Return a table as LaTeX that needs the package booktabs alone."""
    styled = table.rename_axis(index=None, columns=None) if table.index.nlevels == 1 else table
    styled = styled.style.format(escape="latex")
    for axis in (0, 1):
        styled = styled.format_index(escape="latex", axis=axis).format_index_names(escape="latex", axis=axis)
    text = cleandoc(text).partition("\n\n")[0].replace("%", r"\%")
    return styled.to_latex(hrules=True, multicol_align="l", multirow_align="naive", caption=text).replace(
        "Δ", r"$\Delta$"
    )


def picture(what):
    """Return a figure as a PNG of 150 pixels an inch, and anything else as it is."""
    if not isinstance(what, Figure):
        return what
    what.savefig(png := BytesIO(), format="png", dpi=150)
    return png.getvalue()


def _body(what, alt: str):
    """A PNG within the page, a table, or a sentence."""
    if isinstance(what, str):
        return escape(what)
    if isinstance(what, pd.DataFrame):
        inside = what.to_html(border=0)
    else:
        width = int.from_bytes(what[16:20], "big") * 80 // 150  # of pixels at 150 an inch
        inside = f'<img src="data:image/png;base64,{b64encode(what).decode()}" width="{width}" alt="{escape(alt)}">'
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(alt)}">{inside}</div>'
