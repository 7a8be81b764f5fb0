"""A steel hexagon nut with a flange, turned any way round, on dark rubber."""

from __future__ import annotations

import math

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
    dome,
    grain,
    lamp,
    lattice,
    level,
    norm,
    paint,
    polygon,
    relief,
    rgb,
    shadow,
    strokes,
    wander,
)

DEFECTS = ("bent", "color", "flip", "scratch")

_FLANGE, _FLAT, _CHAMFER, _BORE = 0.83, 0.575, 0.625, 0.31
_STEEL, _SHINE = rgb("a9abb0"), rgb("fff9ee")


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The nut's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    drawing = blank(base, rgb("2c3440"), 1 + 0.09 * cloud(values, base, 22.0, 2) + 0.06 * cloud(values, base, 3.0, 1))
    light = lamp(rng)
    turned = base.moved(
        rng.uniform(0, 2 * math.pi), rng.normal(0, 0.025), rng.normal(0, 0.025), rng.uniform(0.95, 1.05)
    )
    g = turned.near(0, 0, 1.0)
    r = norm(g.x, g.y)
    rim = r - _FLANGE
    if defect == "bent":
        rim = rim + _bend(g, r, flaw)
    fan = _fan(g, r, rng.uniform(0, math.pi), values)
    shadow(drawing, g, rim - 0.02, 0.15, 0.65)
    height = dome(rim, 0.06) + 0.35 * np.maximum(-rim - 0.06, 0) * (r < _FLANGE)
    _metal(drawing, g, cover(rim, g.step), height, light, 0.72 * fan)
    if defect == "flip":
        _underside(drawing, g, r, fan, light)
    else:
        _hexagon(drawing, g, r, fan, light)
    _bore(drawing, g, r, light, rng.uniform(0, 6))
    if defect == "color":
        _stain(drawing, g, flaw)
    if defect == "scratch":
        _scratch(drawing, g, flaw)
    return drawing


def _fan(g: Grid, r: Array, spin: float, values: Array) -> Array:
    """Turned steel: fine rings, and the bright bow-tie that a lamp makes on them."""
    rings = values.ravel().take((r * 170).astype(np.int32) & 4095)
    double = ((g.x * g.x - g.y * g.y) * math.cos(2 * spin) + 2 * g.x * g.y * math.sin(2 * spin)) / (r * r + 1e-3)
    return 1 + 0.045 * rings + 0.16 * double + 0.04 * cloud(values, g, 6.0, 1)


def _metal(drawing: Array, g: Grid, amount: Array, height: Array, light: Light, tone: Array) -> None:
    matt, gloss = relief(height, g.step, light, 3)
    paint(drawing, g, amount, _STEEL, (0.18 + 0.78 * matt) * tone, 0.22 * gloss * gloss * tone)


def _hexagon(drawing: Array, g: Grid, r: Array, fan: Array, light: Light) -> None:
    """The six flats, their upper corners turned off by the chamfer."""
    smaller = g.near(0, 0, 0.8)
    r, fan, g = r[smaller.within(g)], fan[smaller.within(g)], smaller
    slant = math.sin(math.pi / 3) * np.abs(g.x)
    flat = np.maximum(np.abs(g.y), slant + 0.5 * np.abs(g.y))
    edge = flat - _FLAT
    shadow(drawing, g, edge, 0.12, 0.7)
    height = np.minimum(dome(edge, 0.03) + 0.16, 0.16 + 0.03 - 0.55 * np.maximum(r - _CHAMFER + 0.03, 0))
    height = np.minimum(height, 0.19 - 0.5 * np.maximum(_BORE + 0.06 - r, 0))
    _metal(drawing, g, cover(edge, g.step), height, light, 1.05 * fan)
    paint(drawing, g, 0.35 * bell(r, _CHAMFER - 0.03, 0.018) * cover(edge, g.step), _SHINE, fan)


def _underside(drawing: Array, g: Grid, r: Array, fan: Array, light: Light) -> None:
    """The bearing face: flat, with a ring of serrations."""
    around = np.arctan2(g.y, g.x)
    teeth = 0.012 * np.abs((around * 18 / math.pi) % 2 - 1) * bell(r, 0.66, 0.13)
    _metal(drawing, g, cover(r - 0.80, g.step), teeth + 0.03 * dome(r - 0.8, 0.04), light, fan)


def _bore(drawing: Array, g: Grid, r: Array, light: Light, phase: float) -> None:
    """The threaded hole; one looks through it on the table."""
    g = g.near(0, 0, _BORE + 0.06)
    near_r = norm(g.x, g.y)
    lx, ly = light[0], light[1]
    depth = np.clip((near_r - 0.20) / (_BORE - 0.20), 0, 1)
    turns = 0.5 + 0.5 * np.cos(depth * 19 + phase)
    # The wall away from the lamp is the one it lights; the part is turned, so ask the samples' own places.
    rows, columns = level(g)
    facing = -(columns * lx + rows[:, None] * ly) / (near_r + 0.05)
    paint(
        drawing,
        g,
        cover(near_r - _BORE, g.step),
        _STEEL,
        (0.12 + 0.6 * turns * depth) * (0.75 + 0.5 * facing),
    )
    paint(drawing, g, cover(near_r - 0.20, g.step, 0.02), rgb("171b21"))


def _bend(g: Grid, r: Array, flaw: np.random.Generator) -> Array:
    """The flange is knocked in over part of its rim."""
    angle, half, deep = flaw.uniform(0, 2 * math.pi), flaw.uniform(0.3, 0.6), flaw.uniform(0.05, 0.16)
    cosine = (g.x * math.cos(angle) + g.y * math.sin(angle)) / (r + 1e-3)
    return deep * np.clip((cosine - math.cos(half)) / (1 - math.cos(half)), 0, 1) * np.clip(3 * r - 1.4, 0, 1)


def _somewhere(flaw: np.random.Generator) -> tuple[float, float]:
    angle, r = flaw.uniform(0, 2 * math.pi), flaw.uniform(0.4, 0.68)
    return r * math.cos(angle), r * math.sin(angle)


def _stain(drawing: Array, g: Grid, flaw: np.random.Generator) -> None:
    """A tarnish or a splash of paint."""
    x, y = _somewhere(flaw)
    size = flaw.uniform(0.08, 0.19)
    near = g.near(x, y, 2 * size)
    values = lattice(flaw)
    amount = polygon(near, blot(flaw, x, y, size, 0.7)) * flaw.uniform(0.25, 0.7)
    thin = np.clip(0.8 + 0.35 * grain(values, near.x * 11, near.y * 11), 0, 1)
    for plane, value in zip(
        drawing[:, near.at[0], near.at[1]],
        rgb(("a0522d", "3f63a8", "b08a2e")[int(flaw.integers(3))]),
        strict=True,
    ):
        plane += amount * thin * (1.5 * value * (0.25 + plane) - plane)


def _scratch(drawing: Array, g: Grid, flaw: np.random.Generator) -> None:
    """Bright grooves across the faces."""
    x, y = _somewhere(flaw)
    angle, long, wide = flaw.uniform(0, math.pi), flaw.uniform(0.2, 0.5), flaw.uniform(0.01, 0.022)
    steel = g.near(x, y, 0.6)
    r = norm(steel.x, steel.y)
    on_top = (r > _BORE + 0.02) & (r < _FLANGE - 0.03)
    for _ in range(int(flaw.integers(1, 4))):
        chain = wander(flaw, x - long / 2 * math.cos(angle), y - long / 2 * math.sin(angle), angle, long, 0.08)
        gap = [(u + 0.012, v + 0.012) for u, v in chain]
        paint(drawing, steel, 0.6 * strokes(steel, [gap], wide) * on_top, rgb("3c3e42"))
        paint(drawing, steel, flaw.uniform(0.5, 0.9) * strokes(steel, [chain], wide) * on_top, rgb("f1f1f0"))
        x, y, long = x + flaw.normal(0, 0.05), y + flaw.normal(0, 0.05), long * flaw.uniform(0.5, 1)
