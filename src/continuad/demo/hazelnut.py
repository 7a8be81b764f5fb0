"""A hazelnut in its shell on a dark table, turned any way round."""

from __future__ import annotations

import math

import numpy as np

from continuad.demo.tools import (
    Array,
    Grid,
    bell,
    blank,
    blot,
    cloud,
    cover,
    disc,
    grain,
    lamp,
    lattice,
    letters,
    paint,
    polygon,
    relief,
    rgb,
    shadow,
    strokes,
    wander,
)

DEFECTS = ("crack", "cut", "hole", "print")


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The nut's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    drawing = blank(base, rgb("22262b"), 1 + rng.uniform(0.05, 0.2) * cloud(values, base, 12.0))
    dust = np.clip((cloud(values, base.moved(dx=0.37), 34, 1) - rng.uniform(1.15, 1.9)) * 2, 0, 1)
    paint(drawing, base, rng.uniform(0.1, 0.55) * dust, rgb("a8a49a"))
    light = lamp(rng)
    turned = base.moved(rng.uniform(0, 2 * math.pi), rng.normal(0, 0.05), rng.normal(0, 0.05), rng.uniform(0.94, 1.06))
    g = turned.near(0, 0, 0.88)
    a, b = 0.74, rng.uniform(0.60, 0.69)
    seat, roll = rng.uniform(0.36, 0.52), rng.uniform(0, 60)

    # From the pointed tip (-x) to the flat seat (+x); `left` is what remains of 1 for y.
    far = np.abs(g.x) / np.where(g.x < 0, np.float32(a), np.float32(0.88 * a))
    ahead = far * np.sqrt(far * np.sqrt(far))
    ahead *= np.where(g.x < 0, np.float32(1), far)
    left = np.maximum(1 - ahead, 1e-3)
    across = g.y / b
    level = ahead + across * across - 1
    edge = 0.3 * level
    shadow(drawing, g, edge - 0.015, 0.16, 0.65)
    side = np.clip(across / np.sqrt(left), -1, 1)
    around = side * (1 + 0.22 * side * side)
    coarse = grain(values, around * 5 + roll, g.x * 0.9 + 3)
    ribs = coarse + 0.7 * grain(values, around * 13 + roll, g.x * 1.6)
    ribs *= rng.uniform(0.5, 1.4)
    ribs += rng.uniform(0, 0.5) * grain(values, around * 31 + roll, g.x * 5)
    height = 0.62 * np.sqrt(np.maximum(-level, 0)) + 0.006 * ribs
    matt, gloss = relief(height, g.step, light, 3)
    shell = np.clip(0.5 + 0.42 * ribs, 0, 1)
    warm, deep = rgb("c2743a"), rgb("6d3518")
    colour = [d + shell * (w - d) for w, d in zip(warm, deep, strict=True)]
    body = cover(edge, g.step)
    paint(drawing, g, body, colour, 0.22 + 0.9 * matt, 0.14 * gloss)
    _seat(drawing, g, body, seat, matt, rng.uniform(0.1, 0.42) * cloud(values, g, 13, 2), values)
    tip = bell(g.x, -a, 0.3) * (0.6 + 0.4 * np.clip(2 * coarse, -1, 1))
    paint(drawing, g, 0.6 * np.clip(tip, 0, 1) * body, rgb("b59a78"), 0.25 + 0.85 * matt)

    if defect is not None:
        x, y = flaw.uniform(-0.42, 0.2), flaw.uniform(-0.3, 0.3)
        tools = {"crack": _crack, "cut": _cut, "hole": _hole, "print": _print}
        tools[defect](drawing, g, x, y, flaw)
    return drawing


def _seat(drawing: Array, g: Grid, body: Array, seat: float, matt: Array, rough: Array, values: Array) -> None:
    """The rough pale patch where the nut sat in its cup."""
    rim = g.x - seat + 0.32 * g.y * g.y + 0.02 * cloud(values, g, 8, 1)
    paint(drawing, g, 0.7 * body * bell(rim, 0.0, 0.035), rgb("3a1c0e"))
    paint(drawing, g, body * cover(-rim, g.step, 0.02), rgb("a9835a"), (0.2 + 0.85 * matt) * (1 + rough))


def _crack(drawing: Array, g: Grid, x: float, y: float, flaw: np.random.Generator) -> None:
    """The shell has split along its length; wide ones show the kernel."""
    angle, long, wide = flaw.normal(0, 0.4), flaw.uniform(0.3, 0.7), flaw.uniform(0.0, 0.08)
    chain = wander(flaw, x - 0.5 * long, y, angle, long, 0.45)
    if wide > 0.025:
        back = [(px + flaw.normal(0, 0.01), py + wide * bell_at(i / 7)) for i, (px, py) in enumerate(chain)]
        hole = [*chain, *reversed(back)]
        paint(drawing, g, strokes(g, [[*hole, hole[0]]], 0.022), rgb("d2a56c"), 0.85)
        paint(drawing, g, np.maximum(polygon(g, hole), strokes(g, [chain], 0.012)), rgb("2a130a"))
    else:
        paint(drawing, g, 0.6 * strokes(g, [[(px, py + 0.014) for px, py in chain]], 0.02), rgb("d5a878"))
        paint(drawing, g, 0.9 * strokes(g, [chain], flaw.uniform(0.012, 0.026)), rgb("1f0e07"))


def bell_at(t: float) -> float:
    """A bump over 0..1 that is 1 in the middle."""
    return 4 * t * (1 - t)


def _cut(drawing: Array, g: Grid, x: float, y: float, flaw: np.random.Generator) -> None:
    """A pale gouge in the shell."""
    angle, long, wide = flaw.uniform(0, math.pi), flaw.uniform(0.14, 0.34), flaw.uniform(0.018, 0.05)
    c, s = math.cos(angle), math.sin(angle)
    along = [(t * long / 2, wide * (1 - t * t) * flaw.uniform(0.5, 1)) for t in np.linspace(-1, 1, 7).tolist()]
    outline = along + [(u, -0.5 * v) for u, v in reversed(along)]
    near = g.near(x, y, 0.3)
    shape = polygon(near, [(x + c * u - s * v, y + s * u + c * v) for u, v in outline])
    paint(drawing, near, shape * flaw.uniform(0.6, 0.95), rgb("d8a869"))
    slit = strokes(near, [[(x - c * long / 2, y - s * long / 2), (x + c * long / 2, y + s * long / 2)]], 0.01)
    paint(drawing, near, slit * 0.8, rgb("4a2712"))


def _hole(drawing: Array, g: Grid, x: float, y: float, flaw: np.random.Generator) -> None:
    """A weevil's exit: a dark hole with pale dust on its rim."""
    size = flaw.uniform(0.03, 0.075)
    near = g.near(x, y, 3 * size)
    paint(drawing, near, polygon(near, blot(flaw, x, y, size * 1.5, 0.5)) * 0.75, rgb("cfa06a"))
    paint(drawing, near, cover(disc(near, x, y, size), near.step), rgb("150a06"))


def _print(drawing: Array, g: Grid, x: float, y: float, flaw: np.random.Generator) -> None:
    """White ink on the shell, partly rubbed off."""
    values = lattice(flaw)
    near = g.near(x, y, 0.5).moved(flaw.uniform(0, 2 * math.pi), x, y)
    ink = strokes(near, letters(("K0", "F5", "0K5")[int(flaw.integers(3))], 0, 0, flaw.uniform(0.16, 0.26)), 0.035)
    rubbed = np.clip(0.75 + 0.6 * grain(values, near.x * 14, near.y * 14), 0, 1)
    paint(drawing, near, ink * rubbed * flaw.uniform(0.4, 0.8), rgb("e9e6e0"))
