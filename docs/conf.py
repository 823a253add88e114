"""Sphinx: how the reading edition looks. `docs/book.py` gathers its pages and builds it."""

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

import reconfair

lexers["csv"] = TextLexer()  # Pygments has no colours for it

project, author, release = "ReconFair", "The ReconFair maintainers", reconfair.__version__
copyright = author
extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
nitpicky = True
nitpick_ignore = []

# Pages. Notebooks are shown as they were executed; nothing runs here.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]  # levels that a notebook skips; states of widgets

# Reference, from the docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings state types, with shapes and units
autodoc_inherit_docstrings = False
numpydoc_show_class_members = False

# Everything that a page loads lies beside it, so that the site opens from disk: no server, no network.
mathjax_path = "mathjax.js"
html_theme = "furo"
html_title = f"ReconFair {release}"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_copy_source = html_show_sourcelink = False
html_show_search_summary = False  # a browser does not let a page that lies on a disk fetch another
