"""One style for all figures, and how a figure becomes PNG, SVG or part of a page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from continuad.files import replace_file

# Two colours that a page replaces by its own, so that figures follow light and dark.
INK, GRID = "#1f2a37", "#d8dee6"
DPI = 150

_STYLE = {
    # Names of products are data: "$" must not start a formula.
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # Text stays text in SVG: small, searchable, and in the reader's own font.
    "svg.fonttype": "none",
    "svg.hashsalt": "continuad",
}


@contextmanager
def styled() -> Iterator[None]:
    """The figures' style, for drawing and for saving; nothing outside is changed."""
    with matplotlib.rc_context(cast(Any, _STYLE)), warnings.catch_warnings():
        # A script that the font lacks shows as boxes in PNG; the SVG in the page uses the reader's fonts.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*missing")
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of that size in inches, outside pyplot: nothing stays behind in the process."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG (150 dpi), replaced in one step."""
    with styled():
        return replace_file(path, lambda new: figure.savefig(new, format="png", dpi=DPI))


def to_svg(figure: Figure) -> str:
    """The figure as text of an SVG file; equal figures give equal text."""
    out = io.StringIO()
    with styled():
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def inline_svg(svg: str, key: str, description: str) -> str:
    """An <svg> element for a page from the text of a figure's file.

    Args:
        svg: from `to_svg`.
        key: unique in the page; ids are prefixed with it, or one figure would borrow another's clipping.
        description: read aloud instead of the figure.

    Returns:
        The element without declarations and background, in colours that follow the page.
    """
    text = svg[svg.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r"url\(#", f"url(#{key}-", text)
    text = re.sub(r'href="#', f'href="#{key}-', text)
    text = text.replace("fill: #ffffff", "fill: none").replace(INK, "currentColor").replace(GRID, "var(--line)")
    label = description.translate({ord(sign): f"&#{ord(sign)};" for sign in '&<>"'})
    head = re.search(r'<svg\s[^>]*?viewBox="([^"]*)"[^>]*>', text)
    assert head is not None
    return f'<svg viewBox="{head[1]}" role="img" aria-label="{label}">' + text[head.end() :]


def spread(values: np.ndarray, gap: float) -> np.ndarray:
    """Positions for labels near `values` (N,) that keep at least `gap` between each other, in the same order.

    Labels that collide are merged into a block centred on the mean of what it labels, until none collide.
    """
    order = np.argsort(values, kind="stable")
    blocks = [[float(values[i]), 1] for i in order]  # centre, number of labels
    at = 0
    while at + 1 < len(blocks):
        (low, few), (high, many) = blocks[at], blocks[at + 1]
        if high - low < gap * (few + many) / 2 - 1e-12:
            blocks[at : at + 2] = [[(low * few + high * many) / (few + many), few + many]]
            at = max(at - 1, 0)
        else:
            at += 1
    placed = [centre + gap * (i - (count - 1) / 2) for centre, count in blocks for i in range(int(count))]
    result = np.empty(len(values))
    result[order] = placed
    return result


def label_ends(axes: Axes, x: float, labels: list[tuple[str, float, str]], lines: int) -> None:
    """Write (text, y, colour) at the right ends of curves; labels nearer than a line of text are moved apart.

    `lines` of text would fill the axes from top to bottom.
    """
    low, high = axes.get_ylim()
    gap = (high - low) / lines
    for (text, y, colour), place in zip(labels, spread(np.array([y for _, y, _ in labels]), gap), strict=True):
        axes.annotate(
            text,
            (x, y),
            (x + 0.12, place),
            color=colour,
            va="center",
            ha="left",
            fontsize=9,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 1, "shrinkB": 3},
        )
