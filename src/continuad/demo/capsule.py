"""A medicine capsule, half black and half orange-brown with a white "500", on pale paper."""

from __future__ import annotations

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
    disc,
    lamp,
    lattice,
    letters,
    paint,
    polygon,
    relief,
    rgb,
    shadow,
    stick,
    strokes,
    wander,
)

DEFECTS = ("crack", "faulty_imprint", "poke", "squeeze")

_HALF, _RADIUS, _JOINT = 0.50, 0.285, -0.04


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The capsule's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    drawing = blank(base, rgb("c3c9cd"), 1 + 0.014 * cloud(values, base, 10.0))
    light = lamp(rng)
    g = base.moved(rng.normal(0, 0.06), rng.normal(0, 0.025), rng.normal(0, 0.04), rng.uniform(0.94, 1.04))
    g = g.near(0.02, 0.03, 1.0, 0.55)
    shadow(drawing, g, stick(g, -_HALF + 0.03, 0.07, _HALF + 0.04, 0.07) - _RADIUS, 0.17, 0.5)
    if defect == "squeeze":
        g = _squeezed(g, flaw)
    axis = stick(g, -_HALF, 0, _HALF, 0)

    _half(drawing, g, axis, _RADIUS, rgb("a8501f"), values, light)
    granules = 0.5 + 0.5 * np.clip(2 * cloud(values, g, 21, 1), -1, 1)
    inside = cover(axis - _RADIUS + 0.03, g.step, 0.06) * np.clip((g.x - _JOINT) * 20, 0, 1)
    paint(drawing, g, 0.16 * granules * inside, rgb("e2a35c"))
    _print(drawing, g, rng.normal(0.0, 0.025), values, defect == "faulty_imprint", flaw)
    cap = np.maximum(axis - _RADIUS - 0.014, g.x - _JOINT)
    darken(drawing, g, 0.45 * bell(g.x, _JOINT + 0.012, 0.03) * cover(axis - _RADIUS, g.step))
    _half(drawing, g, cap, 0, rgb("2a2629"), values, light, axis)

    if defect == "crack":
        _crack(drawing, g, flaw)
    if defect == "poke":
        _poke(drawing, g, flaw)
    return drawing


def _half(
    drawing: Array,
    g: Grid,
    shape: Array,
    grow: float,
    colour: tuple[float, ...],
    values: Array,
    light: Light,
    axis: Array | None = None,
) -> None:
    """A glossy half-tube: `shape` - `grow` is its outline, `axis` its distance from the capsule's axis."""
    axis = shape if axis is None else axis
    radius = _RADIUS + 0.014
    height = np.sqrt(np.maximum(radius * radius - axis * axis, 0)) + 0.0015 * cloud(values, g, 9, 1)
    matt, gloss = relief(height, g.step, light, 5)
    rim = np.clip(axis / radius, 0, 1) ** 4
    shine = 0.75 * gloss * gloss + 0.22 * bell(g.y, 0.17, 0.035) * (axis < 0.24)
    paint(drawing, g, cover(shape - grow, g.step), colour, 0.35 + 0.8 * matt + 0.25 * rim, shine)


def _print(drawing: Array, g: Grid, dy: float, values: Array, faulty: bool, flaw: np.random.Generator) -> None:
    """The strength, printed in white; when faulty it is smeared, worn away in part, or misplaced."""
    near = g.near(0.27, 0, 0.36)
    ink = strokes(near, letters("500", 0.27, dy, 0.19), 0.032)
    if faulty:
        kind = int(flaw.integers(3))
        x = flaw.uniform(0.12, 0.42)
        if kind == 0:
            ink = ink * np.clip(disc(near, x, dy, 0) / flaw.uniform(0.1, 0.2) - 0.3, 0, 1)
        elif kind == 1:
            ink = strokes(
                near,
                letters("500", 0.27 + flaw.uniform(0.03, 0.09), dy + flaw.uniform(-0.09, 0.09), 0.19),
                0.03,
            )
        else:
            smear = strokes(near, letters("500", 0.27, dy + flaw.uniform(0.03, 0.07), 0.19), 0.04)
            ink = np.maximum(ink, flaw.uniform(0.4, 0.75) * smear)
    worn = 0.82 + 0.18 * np.clip(2 * cloud(values, near, 30, 1), -1, 1)
    paint(drawing, near, 0.88 * ink * worn, rgb("ece4d8"))


def _squeezed(g: Grid, flaw: np.random.Generator) -> Grid:
    """Bends the coordinates so that the tube is dented from one or both sides."""
    x, width, depth = flaw.uniform(-0.45, 0.45), flaw.uniform(0.12, 0.28), flaw.uniform(0.05, 0.16)
    dent = depth * bell(g.x, x, width)
    both = flaw.random() < 0.4
    side = 1 if flaw.random() < 0.5 else -1
    if both:
        return replace(g, y=g.y * (1 + 2.5 * dent))
    return replace(g, y=g.y + side * dent * np.clip(0.5 + side * g.y / _RADIUS, 0, 1.5))


def _crack(drawing: Array, g: Grid, flaw: np.random.Generator) -> None:
    """A split in the shell, dark with a bright lip."""
    x, y = flaw.uniform(-0.55, 0.55), flaw.uniform(-0.2, 0.05)
    chain = wander(flaw, x, y, flaw.uniform(0.3, 2.6), flaw.uniform(0.14, 0.36), 0.5)
    near = g.near(x, y, 0.45)
    wide = flaw.uniform(0.014, 0.045)
    gap = strokes(near, [chain], wide)
    lip = strokes(near, [[(a + 0.014, b + 0.012) for a, b in chain]], wide)
    body = cover(stick(near, -_HALF, 0, _HALF, 0) - _RADIUS, near.step)
    paint(drawing, near, lip * body * 0.65, rgb("d9b48c"))
    paint(drawing, near, gap * body * 0.9, rgb("140a08"))


def _poke(drawing: Array, g: Grid, flaw: np.random.Generator) -> None:
    """A small hole, pushed in with a pin."""
    x, y, size = flaw.uniform(-0.6, 0.6), flaw.uniform(-0.17, 0.17), flaw.uniform(0.022, 0.05)
    near = g.near(x, y, 3 * size)
    paint(drawing, near, polygon(near, blot(flaw, x + 0.008, y + 0.01, size * 1.4, 0.3)) * 0.6, rgb("e0c09a"))
    paint(drawing, near, polygon(near, blot(flaw, x, y, size, 0.4)) * 0.92, rgb("120b0a"))
