"""Sphinx configuration: built from this folder and the package alone, and readable without internet."""

import base64
import html
import io
from typing import Any

from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image
from sphinx.application import Sphinx

import continuad

project = "continuad"
author = "the continuad developers"
release = continuad.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "continuad"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_use_ivar = True
html_math_renderer = "mathtext"
suppress_warnings = ["myst.xref_missing"]


def _picture(formula: str) -> str:
    """A formula as an inline SVG image: MathJax would be fetched from the internet when the page is read."""
    drawn = io.BytesIO()
    line = " ".join(formula.split())
    math_to_image(f"${line}$", drawn, prop=FontProperties(size=12), dpi=72, format="svg", color="#3b7ab5")
    data = base64.b64encode(drawn.getvalue()).decode()
    return f'<img style="vertical-align: middle" alt="{html.escape(formula)}" src="data:image/svg+xml;base64,{data}">'


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_picture(node.astext()))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f"<p>{_picture(node.astext())}</p>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Let formulas be drawn when the site is built."""
    app.add_html_math_renderer("mathtext", (_inline, None), (_display, None))
