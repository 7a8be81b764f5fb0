"""The head of a toothbrush from above, on a turquoise tile."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from continuad.demo.tools import (
    Array,
    Grid,
    Light,
    blank,
    blot,
    box,
    cloud,
    cover,
    dome,
    grain,
    lamp,
    lattice,
    paint,
    polygon,
    relief,
    rgb,
    shadow,
    strokes,
    wander,
)

DEFECTS = ("bent_bristles", "contamination", "missing_bristles")

_ROWS, _COLUMNS, _DX, _DY, _MIDDLE = 10, 4, 0.185, 0.145, -0.12
_BRISTLES, _DOTS, _WIDTH = 42, 12, 0.0135  # bristles a tuft, dots a bristle, how thick one is
_BLUE, _WHITE, _GREEN = rgb("3f7fdc"), rgb("f6f6f4"), rgb("46bd86")


@dataclass(frozen=True)
class _Tufts:
    """T bundles of B bristles, the farthest first.

    Attributes:
        feet, tips: (T, B, 2) where each bristle starts and ends.
        shade: (T, B) each bristle's brightness.
        colour: (T, 3).
    """

    feet: Array
    tips: Array
    shade: Array
    colour: Array


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The brush's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    drawing = blank(base, rgb("5c9c98"), 1 + 0.03 * cloud(values, base, 4.0))
    light = lamp(rng)
    g = base.moved(rng.normal(0, 0.05), rng.normal(0, 0.025), rng.normal(0, 0.03), rng.uniform(0.94, 1.04))
    _handle(drawing, g, light)
    tufts = _tufts(rng)
    if defect == "bent_bristles":
        tufts = _bent(tufts, flaw)
    if defect == "missing_bristles":
        tufts = _thinned(tufts, flaw)
    _bristles(drawing, g, tufts)
    if defect == "contamination":
        _soil(drawing, g, flaw)
    return drawing


def _handle(drawing: Array, g: Grid, light: Light) -> None:
    """The white body: an oval head and the neck that leaves the picture below."""
    end = float(np.abs(g.y[[0, -1]]).max()) + 1
    neck = box(g, 0, end, 0.15, end - 0.4, 0.1)
    edge = _melt(box(g, 0, _MIDDLE, 0.47, 0.80, 0.42), neck, 0.16)
    shadow(drawing, g, edge - 0.02, 0.16, 0.5)
    matt, gloss = relief(dome(edge, 0.12), g.step, light, 5)
    paint(drawing, g, cover(edge, g.step), rgb("d3d5d8"), 0.25 + 0.85 * matt, 0.35 * gloss * gloss)
    bed = g.near(0, _MIDDLE, 0.45, 0.8)
    paint(drawing, bed, 0.75 * cover(box(bed, 0, _MIDDLE, 0.38, 0.71, 0.34), bed.step, 0.06), rgb("39424f"))


def _melt(a: Array, b: Array, width: float) -> Array:
    """The union of two shapes with a fillet where they meet."""
    t = np.maximum(width - np.abs(a - b), 0) / width
    return np.minimum(a, b) - t * t * (0.25 * width)


def _tufts(rng: np.random.Generator) -> _Tufts:
    """All tufts of a sound brush: green at the tip, blue along the sides, white within."""
    places, colours = [], []
    for row in range(_ROWS):
        columns = _COLUMNS - 1 if row in (0, _ROWS - 1) else _COLUMNS
        for column in range(columns):
            places.append(((column - (columns - 1) / 2) * _DX, (row - (_ROWS - 1) / 2) * _DY))
            outer = column in (0, columns - 1)
            colours.append(_GREEN if row < 2 else _BLUE if outer else _WHITE)
    middle = np.array(places)
    count = len(places)
    lean = middle * (0.13, 0.07) + (0, -0.02) + rng.normal(0, 0.010, (count, 2))
    feet = middle[:, None] + (0, _MIDDLE) + rng.normal(0, 0.034, (count, _BRISTLES, 2)).clip(-0.062, 0.062)
    tips = feet + lean[:, None] + rng.normal(0, 1, (count, _BRISTLES, 2)) * rng.uniform(0.016, 0.026, (count, 1, 1))
    shade = rng.uniform(0.66, 1.08, (count, _BRISTLES)) * rng.uniform(0.93, 1.07, (count, 1))
    return _Tufts(feet, tips, shade, np.array(colours))


def _picked(tufts: _Tufts, flaw: np.random.Generator, reach: float) -> Array:
    """(T,) True for a few neighbouring tufts, at least one."""
    middle = tufts.feet.mean(axis=1)
    away = np.sqrt(((middle - middle[flaw.integers(len(middle))]) ** 2).sum(axis=1))
    return away < reach


def _bent(tufts: _Tufts, flaw: np.random.Generator) -> _Tufts:
    """A few tufts are splayed to one side."""
    hit = _picked(tufts, flaw, flaw.uniform(0.08, 0.24))[:, None, None]
    angle, far = flaw.uniform(0, 2 * math.pi), flaw.uniform(0.07, 0.2)
    push = far * np.array([math.cos(angle), math.sin(angle)]) * flaw.uniform(0.5, 1.1, (*tufts.shade.shape, 1))
    push += flaw.normal(0, 0.02, tufts.tips.shape)
    return _Tufts(tufts.feet, tufts.tips + hit * push, tufts.shade, tufts.colour)


def _thinned(tufts: _Tufts, flaw: np.random.Generator) -> _Tufts:
    """A few tufts are missing."""
    left = ~_picked(tufts, flaw, flaw.uniform(0.08, 0.22))
    return _Tufts(tufts.feet[left], tufts.tips[left], tufts.shade[left], tufts.colour[left])


def _bristles(drawing: Array, g: Grid, tufts: _Tufts) -> None:
    """Every bristle is a row of dots from its foot, in the shade, to its lit tip; later dots lie on top."""
    t = np.linspace(0, 1, _DOTS)[None, :, None]
    dots = tufts.feet[:, None] + t[..., None] * (tufts.tips - tufts.feet)[:, None]
    lit = (0.35 + 0.65 * t * t) * tufts.shade[:, None]
    inks = np.minimum(lit.reshape(-1, 1) * np.repeat(tufts.colour, _DOTS * _BRISTLES, axis=0), 1).T
    wide = max(1, round(_WIDTH / g.step))
    at = np.round(g.to_samples(dots.reshape(-1, 2)) - (wide - 1) / 2).astype(np.int32)
    height, width = drawing.shape[1:]
    for i in range(wide):
        for j in range(wide):
            column, row = np.clip(at[:, 0] + i, 0, width - 1), np.clip(at[:, 1] + j, 0, height - 1)
            for plane, ink in zip(drawing, inks, strict=True):
                plane[row, column] = ink


def _soil(drawing: Array, g: Grid, flaw: np.random.Generator) -> None:
    """Something brown has stuck between the bristles, or a hair lies across them."""
    x, y = flaw.uniform(-0.25, 0.25), _MIDDLE + flaw.uniform(-0.5, 0.5)
    if flaw.random() < 0.4:
        hair = wander(flaw, x, y, flaw.uniform(0, 2 * math.pi), flaw.uniform(0.3, 0.55), 0.5, 10)
        near = g.near(x, y, 0.6)
        paint(drawing, near, flaw.uniform(0.7, 0.95) * strokes(near, [hair], 0.016), rgb("2b211c"))
        return
    near = g.near(x, y, 0.3)
    values, size = lattice(flaw), flaw.uniform(0.05, 0.11)
    crumb = polygon(near, blot(flaw, x, y, size, 0.7)) * flaw.uniform(0.6, 0.95)
    paint(drawing, near, crumb, rgb("7a5230"), 1 + 0.3 * grain(values, near.x * 25, near.y * 25))
