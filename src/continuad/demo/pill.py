"""A white speckled tablet with an embossed "FF", on dark green cloth."""

from __future__ import annotations

import math

import numpy as np

from continuad.demo.tools import (
    Array,
    Grid,
    blank,
    blot,
    cloud,
    cover,
    dome,
    grain,
    lamp,
    lattice,
    letters,
    paint,
    path,
    polygon,
    relief,
    rgb,
    shadow,
    strokes,
    wander,
)

DEFECTS = ("color", "contamination", "crack", "faulty_imprint")

_LONG, _SHORT = 0.76, 0.50


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The tablet's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    weave = np.sin(base.x[:1] * 95) * np.sin(base.y[:, :1] * 95)
    drawing = blank(base, rgb("1d4238"), 1 + 0.10 * weave + 0.10 * cloud(values, base, 8.0))
    light = lamp(rng, height=1.0)
    turned = base.moved(rng.normal(0, 0.08), rng.normal(0, 0.03), rng.normal(0, 0.03), rng.uniform(0.94, 1.05))
    g = turned.near(0.02, 0.02, 0.97, 0.70)
    edge = _outline(g)
    if defect == "crack" and flaw.random() < 0.5:
        edge = np.maximum(edge, _bite(g, flaw))
        defect = None
    shadow(drawing, g, edge - 0.03, 0.15, 0.7)
    height = 0.55 * dome(edge, 0.26) + 0.10 * dome(edge, 0.05) + 0.0016 * cloud(values, g, 34, 1)
    height -= _imprint(g, rng.normal(0, 0.01), flaw if defect == "faulty_imprint" else None)
    matt, gloss = relief(height, g.step, light, 3)
    body = cover(edge, g.step)
    shade = 0.2 + 0.92 * matt
    paint(drawing, g, body, rgb("e2ddd2"), shade, 0.06 * gloss)
    specks = np.clip((grain(values, g.x * 19 + 31, g.y * 19) - 0.95) * 3.0, 0, 1)
    paint(drawing, g, 0.5 * specks * body, rgb("a3604c"), shade)

    if defect == "color":
        _stain(drawing, g, flaw, shade)
    if defect == "contamination":
        _soil(drawing, g, flaw)
    if defect == "crack":
        _crack(drawing, g, flaw, body)
    return drawing


def _outline(g: Grid) -> Array:
    """About the distance from an oval that is a little fuller than an ellipse."""
    u, v = (g.x / _LONG) ** 2, (g.y / _SHORT) ** 2
    return (np.sqrt(np.sqrt(u * u + v * v + 1.3 * u * v)) - 1) * 0.55


def _imprint(g: Grid, dy: float, flaw: np.random.Generator | None) -> Array:
    """The depth of the two letters; a faulty one is shallow, doubled, shifted or half missing."""
    deep = np.zeros_like(g.x)
    texts = [("FF", 0.0, dy, 0.34, 0.028)]
    if flaw is not None:
        kind = int(flaw.integers(4))
        x, y = flaw.uniform(-0.06, 0.06), dy + flaw.uniform(0.03, 0.07)
        if kind == 0:
            texts = [("F", float(flaw.choice([-0.143, 0.143])), dy, 0.34, 0.028)]
        elif kind == 1:
            texts.append(("FF", x, y, 0.34, 0.018))
        elif kind == 2:
            texts = [("FF", 0.0, dy, 0.34, flaw.uniform(0.002, 0.010))]
        else:
            texts = [("FF", 1.5 * x + 0.05, dy + 0.05 + y, 0.34, 0.028)]
    near = g.near(0, 0, 0.4)
    window = near.within(g)
    for text, x, y, size, depth in texts:
        pen = path(near, letters(text, x, y, size)[0])
        for chain in letters(text, x, y, size)[1:]:
            np.minimum(pen, path(near, chain), out=pen)
        groove = np.clip(1 - pen / 0.042, 0, 1)
        np.maximum(deep[window], depth * groove * (2 - groove), out=deep[window])
    return deep


def _bite(g: Grid, flaw: np.random.Generator) -> Array:
    """The distance from a ragged line, beyond which the rim has broken away."""
    angle = flaw.uniform(0, 2 * math.pi)
    c, s = math.cos(angle), math.sin(angle)
    reach = 1 / math.sqrt((c / _LONG) ** 2 + (s / _SHORT) ** 2) - flaw.uniform(0.04, 0.13)
    values = lattice(flaw)
    ragged = 0.03 * grain(values, (g.y * c - g.x * s) * 12, g.x * 2)
    return (g.x * c + g.y * s - reach + ragged) * 0.8


def _stain(drawing: Array, g: Grid, flaw: np.random.Generator, shade: Array) -> None:
    """A yellow, pink or grey bloom, often faint."""
    x, y, size = flaw.uniform(-0.5, 0.5), flaw.uniform(-0.25, 0.25), flaw.uniform(0.07, 0.18)
    near = g.near(x, y, size)
    far = ((near.x - x) ** 2 + (near.y - y) ** 2) / (size * size)
    amount = np.clip(1 - far, 0, 1) * flaw.uniform(0.35, 0.9)
    colour = rgb(("d8b23e", "c9706a", "9a9384")[int(flaw.integers(3))])
    paint(drawing, near, amount, colour, shade[near.within(g)])


def _soil(drawing: Array, g: Grid, flaw: np.random.Generator) -> None:
    """Dark crumbs or a fibre on the tablet."""
    x, y = flaw.uniform(-0.45, 0.45), flaw.uniform(-0.25, 0.25)
    near = g.near(x, y, 0.35)
    if flaw.random() < 0.4:
        hair = wander(flaw, x, y, flaw.uniform(0, 2 * math.pi), flaw.uniform(0.2, 0.38), 0.6, 9)
        paint(drawing, near, 0.8 * strokes(near, [hair], 0.014), rgb("3d3a3a"))
        return
    colour = rgb(("33302e", "5a3a2a", "2f4a6b")[int(flaw.integers(3))])
    for _ in range(int(flaw.integers(1, 4))):
        shape = polygon(near, blot(flaw, x, y, flaw.uniform(0.02, 0.055), 0.7))
        paint(drawing, near, flaw.uniform(0.6, 0.95) * shape, colour)
        x, y = x + flaw.normal(0, 0.08), y + flaw.normal(0, 0.06)


def _crack(drawing: Array, g: Grid, flaw: np.random.Generator, body: Array) -> None:
    """A fine dark line that runs in from the rim."""
    angle = flaw.uniform(0, 2 * math.pi)
    x, y = 0.97 * _LONG * math.cos(angle), 0.97 * _SHORT * math.sin(angle)
    chain = wander(flaw, x, y, angle + math.pi + flaw.normal(0, 0.4), flaw.uniform(0.25, 0.6), 0.4)
    wide = flaw.uniform(0.01, 0.022)
    paint(drawing, g, 0.5 * strokes(g, [[(u + 0.012, v + 0.012) for u, v in chain]], wide) * body, rgb("ffffff"))
    paint(drawing, g, flaw.uniform(0.5, 0.9) * strokes(g, [chain], wide) * body, rgb("57504a"))
