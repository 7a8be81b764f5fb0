"""A closed brass zipper on navy tape."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from continuad.demo.tools import (
    Array,
    Grid,
    Light,
    bell,
    blank,
    blot,
    cloud,
    cover,
    darken,
    dome,
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

DEFECTS = ("broken_teeth", "fabric_hole", "split_teeth", "squeezed_teeth")

_PITCH, _TAPE, _BRASS, _NAVY = 0.125, 0.62, rgb("c4a052"), rgb("2c3a63")


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The zipper's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    drawing = blank(base, rgb("c9c6bf"), 1 + 0.012 * cloud(values, base, 6.0))
    light = lamp(rng)
    g = base.moved(rng.normal(0, 0.025), rng.normal(0, 0.03), rng.uniform(0, _PITCH), rng.uniform(0.95, 1.04))
    g = replace(g, x=g.x + rng.uniform(0.004, 0.012) * np.sin(2.3 * g.y + rng.uniform(0, 6)))
    if defect == "squeezed_teeth":
        g = _squeeze(g, flaw)
    gap = _gap(g, flaw) if defect == "split_teeth" else np.zeros_like(g.y[:, :1])
    across = np.abs(g.x) - gap
    _tape(drawing, g, across, values, light)
    missing = _missing(flaw) if defect == "broken_teeth" else (0.0, 0, 0)
    end = float(np.abs(g.y[[0, -1]]).max()) + 0.1
    near = g.near(0, 0, 0.48, end)
    slid = gap if gap.shape[1] == 1 else gap[near.within(g)]
    for side in (-1.0, 1.0):
        _teeth(drawing, near, side * near.x - slid, side, values, light, missing)
    if defect == "fabric_hole":
        _hole(drawing, g, flaw)
    return drawing


def _tape(drawing: Array, g: Grid, across: Array, values: Array, light: Light) -> None:
    """Two bands of ribbed cloth, each with a cord along the teeth; `across` is the distance from the middle."""
    edge = np.maximum(-0.004 - across, across - _TAPE)
    shadow(drawing, g, edge, 0.07, 0.45)
    cord = 0.03 * np.sqrt(bell(across, 0.215, 0.075))
    ribs = 0.0035 * np.sin(across * 62) * (across > 0.28) + 0.0015 * cloud(values, g, 45, 1)
    threads = 0.5 + 0.5 * np.sin((g.y + 0.35 * across) * 110)
    matt, _ = relief(cord + ribs + 0.02 * dome(edge, 0.04), g.step, light)
    tone = (0.35 + 0.85 * matt) * (0.90 + 0.16 * threads + 0.06 * cloud(values, g, 9, 2))
    paint(drawing, g, cover(edge, g.step), _NAVY, tone)


def _teeth(
    drawing: Array,
    g: Grid,
    across: Array,
    side: float,
    values: Array,
    light: Light,
    missing: tuple[float, int, int],
) -> None:
    """One row of teeth: a clasp on the cord and a narrower head that reaches over the middle."""
    row = np.round(g.y / _PITCH - 0.25 * side)
    dy = g.y - (row + 0.25 * side) * _PITCH
    edge = np.minimum(_block(across - 0.155, dy, 0.075, 0.042), _block(across - 0.04, dy, 0.085, 0.029))
    mark = values.ravel().take((row.astype(np.int32) & 63) * 64 + (7 if side > 0 else 29))
    there = np.ones_like(edge)
    if side == missing[0]:
        there -= (row >= missing[1]) & (row < missing[1] + missing[2])
    fade = np.clip(1 - np.maximum(edge, 0) / 0.035, 0, 1) * there
    darken(drawing, g, 0.55 * fade)
    matt, gloss = relief(dome(edge, 0.03) + 0.012 * bell(across, 0.0, 0.05), g.step, light, 4)
    lit = (0.2 + 0.85 * matt) * (1 + 0.07 * mark)
    paint(drawing, g, cover(edge, g.step) * there, _BRASS, lit, 0.5 * gloss * gloss)


def _block(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    """A rectangle with slightly round corners."""
    outside_x, outside_y = np.abs(x) - half_width, np.abs(y) - half_height
    return np.maximum(np.maximum(outside_x, outside_y), 0.72 * (outside_x + outside_y + 0.012))


def _missing(flaw: np.random.Generator) -> tuple[float, int, int]:
    """Side (±1), first and number of the teeth that have broken off."""
    return float(flaw.choice([-1, 1])), int(flaw.integers(-6, 5)), int(flaw.integers(1, 4))


def _gap(g: Grid, flaw: np.random.Generator) -> Array:
    """How far either half has slipped from the middle where the zipper has come open."""
    middle, long, wide = flaw.uniform(-0.5, 0.5), flaw.uniform(0.25, 0.55), flaw.uniform(0.06, 0.16)
    return wide * bell(g.y, middle, long)


def _squeeze(g: Grid, flaw: np.random.Generator) -> Grid:
    """Some teeth are pressed together and lean."""
    middle, long = flaw.uniform(-0.55, 0.55), flaw.uniform(0.16, 0.3)
    push = float(flaw.choice([-1, 1])) * flaw.uniform(0.035, 0.06)
    lean = flaw.uniform(-0.35, 0.35)
    fold = bell(g.y, middle, long) * np.clip(1.4 - np.abs(g.x) / 0.2, 0, 1)
    return replace(g, y=g.y + fold * (push + lean * g.x))


def _hole(drawing: Array, g: Grid, flaw: np.random.Generator) -> None:
    """A hole in the cloth with torn threads hanging into it."""
    x, y = float(flaw.choice([-1, 1])) * flaw.uniform(0.33, 0.56), flaw.uniform(-0.7, 0.7)
    size = flaw.uniform(0.04, 0.1)
    near = g.near(x, y, 2.2 * size)
    rim, inner = blot(flaw, x, y, size, 0.9), []
    for px, py in rim:
        inner.append((x + 0.1 * size + 0.85 * (px - x), y + 0.12 * size + 0.85 * (py - y)))
    paint(drawing, near, polygon(near, rim), rgb("4c4b4d"))
    paint(drawing, near, polygon(near, inner), rgb("b3afa6"))
    for px, py in rim[::2]:
        inwards = math.atan2(y - py, x - px) + flaw.normal(0, 0.6)
        thread = wander(flaw, px, py, inwards, size * flaw.uniform(0.2, 0.8), 0.4, 3)
        paint(drawing, near, strokes(near, [thread], 0.011), rgb("5a6ca0"))
