"""A power cable cut across: three coloured wires with copper strands in a grey sheath."""

from __future__ import annotations

import math

import numpy as np

from continuad.demo.tools import (
    Array,
    Grid,
    Light,
    blank,
    cloud,
    cover,
    disc,
    dome,
    lamp,
    lattice,
    norm,
    paint,
    polygon,
    relief,
    rgb,
    shadow,
    stick,
)

DEFECTS = ("bent_wire", "cut_inner_insulation", "missing_cable", "missing_wire")

_INSULATION = ("3f8f4d", "2f5f9e", "8a4b2a")  # green, blue, brown
_FILLER = "2b2a29"
_OUT, _WIRE, _CORE, _PITCH = 0.40, 0.335, 0.215, 0.068  # wire's place, radii, and the strands' distance


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The cable's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    drawing = blank(base, rgb("b3a48c"), 1 + 0.05 * cloud(values, base, 9.0, 3, 2.5))
    light = lamp(rng)
    g = base.moved(rng.normal(0, 0.07), rng.normal(0, 0.02), rng.normal(0, 0.02), rng.uniform(0.95, 1.04))
    _sheath(drawing, g, values, light)

    wounded = int(flaw.integers(3))
    for k, code in enumerate(_INSULATION):
        angle = -math.pi / 2 + k * 2 * math.pi / 3 + rng.normal(0, 0.03)
        out, spin = _OUT + rng.normal(0, 0.008), rng.uniform(0, math.pi)
        x, y = out * math.cos(angle), out * math.sin(angle)
        tone = rng.uniform(0.92, 1.08)
        near = g.near(x, y, 0.5)
        damage = defect if k == wounded else None
        if damage == "missing_cable":
            _void(drawing, near, x, y, values)
            continue
        _insulate(drawing, near, x, y, rgb(code), tone, values, light)
        if damage == "cut_inner_insulation":
            _cut(drawing, near, x, y, angle, rgb(code), flaw)
        _strands(drawing, near.moved(spin, x, y), values, light, damage, flaw)
    return drawing


def _sheath(drawing: Array, g: Grid, values: Array, light: Light) -> None:
    """The outer tube, and the dark filler between the wires."""
    outer = disc(g, 0, 0, 0.86) + 0.008 * cloud(values, g, 3, 1)
    shadow(drawing, g, disc(g, 0.03, 0.05, 0.87), 0.13, 0.55)
    matt, _ = relief(dome(outer, 0.07) + 0.002 * cloud(values, g, 24, 1), g.step, light)
    paint(drawing, g, cover(outer, g.step), rgb("8f9396"), 0.25 + 0.9 * matt)
    inside = outer + 0.075
    sunk = np.clip(-inside * 9, 0, 1)
    paint(drawing, g, cover(inside, g.step), rgb(_FILLER), 1.5 - 0.6 * sunk + 0.3 * cloud(values, g, 18, 1))


def _insulate(
    drawing: Array,
    g: Grid,
    x: float,
    y: float,
    colour: tuple[float, ...],
    tone: float,
    values: Array,
    light: Light,
) -> None:
    edge = disc(g, x, y, _WIRE)
    shadow(drawing, g, edge, 0.06, 0.6)
    height = dome(edge, 0.05) + 0.003 * cloud(values, g, 15, 1)
    matt, gloss = relief(height, g.step, light, 5)
    paint(drawing, g, cover(edge, g.step), colour, tone * (0.2 + 0.95 * matt), 0.25 * gloss * gloss)


def _strands(
    drawing: Array, g: Grid, values: Array, light: Light, damage: str | None, flaw: np.random.Generator
) -> None:
    """A bundle of copper strands; `g` has the wire's middle at its origin."""
    g = g.near(0, 0, 0.36)
    paint(drawing, g, cover(disc(g, 0, 0, _CORE + 0.012), g.step), rgb("24150c"))
    row_height = _PITCH * math.sqrt(3) / 2
    row = np.round(g.y / row_height)
    odd = np.abs(row) % 2
    column = np.round(g.x / _PITCH - 0.5 * odd)
    mx, my = (column + 0.5 * odd) * _PITCH, row * row_height
    mark = values.ravel().take((row.astype(np.int32) & 63) * 64 + (column.astype(np.int32) & 63))
    distance = norm(g.x - mx, g.y - my) - 0.46 * _PITCH
    bundle = norm(mx, my) < _CORE - 0.3 * _PITCH
    if damage == "missing_wire":
        hx, hy = flaw.uniform(-0.09, 0.09), flaw.uniform(-0.09, 0.09)
        bundle &= norm(mx - hx, my - hy) > flaw.uniform(0.05, 0.115)
    if damage == "bent_wire":
        hx, hy = flaw.uniform(-0.1, 0.1), flaw.uniform(-0.1, 0.1)
        bundle &= norm(mx - hx, my - hy) > 0.05
    matt, gloss = relief(dome(distance, 0.03), g.step, light, 4)
    paint(
        drawing,
        g,
        cover(distance, g.step) * bundle,
        rgb("c8794a"),
        (0.3 + 0.75 * matt) * (1 + 0.13 * mark),
        0.35 * gloss,
    )
    if damage == "bent_wire":
        _bend(drawing, g, hx, hy, light, flaw)


def _bend(drawing: Array, g: Grid, x: float, y: float, light: Light, flaw: np.random.Generator) -> None:
    """Some strands stand out of the bundle and lie across it."""
    away = math.atan2(y, x) + flaw.normal(0, 0.5)
    for _ in range(int(flaw.integers(2, 5))):
        turn, length = away + flaw.normal(0, 0.35), flaw.uniform(0.14, 0.24)
        tip = (x + length * math.cos(turn), y + length * math.sin(turn))
        from_strand = stick(g, x, y, *tip)
        matt, gloss = relief(dome(from_strand - 0.028, 0.028), g.step, light, 4)
        shadow(drawing, g, from_strand - 0.02, 0.05, 0.5)
        paint(drawing, g, cover(from_strand - 0.028, g.step), rgb("d58a58"), 0.3 + 0.8 * matt, 0.4 * gloss)


def _cut(
    drawing: Array,
    g: Grid,
    x: float,
    y: float,
    angle: float,
    colour: tuple[float, ...],
    flaw: np.random.Generator,
) -> None:
    """A notch in the insulation: from a fine slit to a torn-out piece."""
    turn = angle + flaw.uniform(-2.2, 2.2)
    half = flaw.uniform(0.05, 0.26)
    points = [
        (x + r * math.cos(turn + t * half), y + r * math.sin(turn + t * half))
        for r, t in ((0.20, -0.7), (0.26, -0.9), (0.35, -1.2), (0.35, 1.1), (0.28, 0.8), (0.2, 0.8))
    ]
    paint(drawing, g, polygon(g, points), rgb(_FILLER), 0.8)
    lip = [
        (x + r * math.cos(turn + t * half), y + r * math.sin(turn + t * half))
        for r, t in ((0.20, 0.8), (0.28, 0.8), (0.35, 1.1), (0.34, 1.4), (0.27, 1.2), (0.2, 1.1))
    ]
    paint(drawing, g, polygon(g, lip) * 0.7, [min(1.0, 1.35 * c + 0.1) for c in colour])


def _void(drawing: Array, g: Grid, x: float, y: float, values: Array) -> None:
    """The bed of a wire that isn't there."""
    edge = disc(g, x, y, _WIRE)
    paint(drawing, g, cover(edge, g.step, 0.04), rgb("191817"), 1 + 0.3 * cloud(values, g, 14, 1))
