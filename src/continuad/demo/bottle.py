"""A brown glass bottle, seen from above on a light table."""

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
    lattice,
    norm,
    paint,
    polygon,
    rgb,
    shadow,
)

DEFECTS = ("broken_large", "broken_small", "contamination", "scratched_rim")

# Radius, and the glass's colour there: the dark mouth, the lip, the groove below it, the collar, the shoulder.
_RINGS = (
    (0.00, "060302"),
    (0.24, "0a0504"),
    (0.315, "1b0e06"),
    (0.33, "6a3a16"),
    (0.36, "9a5a22"),
    (0.40, "6e3d17"),
    (0.445, "3a1f0c"),
    (0.46, "0c0603"),
    (0.49, "120904"),
    (0.505, "4a270f"),
    (0.53, "65360f"),
    (0.56, "25130a"),
    (0.575, "090402"),
    (0.64, "160b05"),
    (0.73, "311a0a"),
    (0.79, "6e3d14"),
    (0.83, "b4702a"),
    (0.85, "6d3c13"),
    (0.87, "2a1507"),
    (1.00, "1d0e05"),
)
_FINE = 512  # steps a unit of the look-up table


def _table() -> Array:
    radii = [radius for radius, _ in _RINGS]
    at = np.arange(_FINE + 1) / _FINE
    planes = zip(*(rgb(code) for _, code in _RINGS), strict=True)
    return np.stack([np.interp(at, radii, plane) for plane in planes]).astype(np.float32)


_GLASS = _table()


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The bottle's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    drawing = blank(base, rgb("e6e5e1"), 1 + 0.012 * cloud(values, base, 3.0))
    g = base.moved(dx=rng.normal(0, 0.02), dy=rng.normal(0, 0.02), scale=rng.uniform(0.95, 1.04))
    r = norm(g.x, g.y)
    east, south = g.x / (r + 1e-4), g.y / (r + 1e-4)

    lean, spin = rng.uniform(0.05, 0.14), rng.uniform(0, 2 * math.pi)
    shadow(drawing, g, disc(g, 0.03, 0.05, 0.87), 0.14, 0.5)
    glass = _GLASS.take((np.minimum(r, 1) * _FINE).astype(np.int32), axis=1)
    glass *= 1 + lean * (east * math.cos(spin) + south * math.sin(spin)) + 0.10 * cloud(values, base, 5, 1)
    _reflect(glass, r, east, south, rng)
    _bottom(glass, g, rng)
    if defect == "scratched_rim":
        _scratch(glass, r, east, south, flaw)
    if defect in ("broken_large", "broken_small"):
        _break(glass, g, r, flaw, large=defect == "broken_large")
    if defect == "contamination":
        _soil(glass, g, flaw, lattice(flaw))
    paint(drawing, g, cover(r - 0.87, g.step), glass)
    return drawing


def _facing(east: Array, south: Array, angle: float, half: float) -> Array:
    """1 in direction `angle`, falling to 0 at `half` radians beside it."""
    cosine = east * math.cos(angle) + south * math.sin(angle)
    return np.clip((cosine - math.cos(half)) / (1 - math.cos(half)), 0, 1)


def _reflect(glass: Array, r: Array, east: Array, south: Array, rng: np.random.Generator) -> None:
    """Two lamps mirrored on every ring of the glass."""
    first = -2.3 + rng.normal(0, 0.15)
    shine = np.zeros_like(r)
    for lamp, gain in ((first, 1.0), (first + rng.normal(2.75, 0.1), 0.5)):
        gain *= rng.uniform(0.75, 1.15)
        narrow = _facing(east, south, lamp, 0.6)
        window = np.clip(6 * _facing(east, south, lamp + 0.1, 0.42), 0, 1)
        shine += gain * narrow * (1.3 * bell(r, 0.375, 0.022) + 0.6 * bell(r, 0.525, 0.014))
        shine += gain * window * (0.34 * bell(r, 0.685, 0.055) + 0.35 * bell(r, 0.845, 0.012))
    for plane, value in zip(glass, rgb("fff0d8"), strict=True):
        plane += value * shine


def _bottom(glass: Array, g: Grid, rng: np.random.Generator) -> None:
    """A glimpse of the bottom, deep in the bottle."""
    x, y, gain = rng.normal(0, 0.03), rng.normal(0, 0.03), rng.uniform(0.25, 0.6)
    near = g.near(x, y, 0.25)
    deep = bell(norm(near.x - x, near.y - y), 0.16, 0.06) * (0.6 + 2 * near.x)
    paint(glass, near, gain * np.clip(deep, 0, 1), rgb("5c3a1a"))


def _break(glass: Array, g: Grid, r: Array, flaw: np.random.Generator, *, large: bool) -> None:
    """A piece is missing from the lip: a dark gap with bright, sharp edges."""
    middle = flaw.uniform(0, 2 * math.pi)
    half = flaw.uniform(0.22, 0.5) if large else flaw.uniform(0.07, 0.14)
    depth = flaw.uniform(0.46, 0.60) if large else flaw.uniform(0.40, 0.46)
    outer = [(depth + flaw.normal(0, 0.02) - 0.1 * abs(t) ** 3, t) for t in np.linspace(-1, 1, 9 if large else 5)]
    inner = [(0.29 + flaw.normal(0, 0.01), t) for t in (0.85, 0.3, -0.3, -0.85)]
    gap = [(q * math.cos(middle + t * half), q * math.sin(middle + t * half)) for q, t in outer + inner]
    away = (0.022 * math.cos(middle), 0.022 * math.sin(middle))
    facets = [(x + away[0] + flaw.normal(0, 0.006), y + away[1] + flaw.normal(0, 0.006)) for x, y in gap]
    paint(glass, g, polygon(g, facets) * 0.9, rgb("e3c69c"), flaw.uniform(0.65, 1.05))
    deep = np.clip((r - 0.33) * 5, 0, 1)
    paint(glass, g, polygon(g, gap), rgb("3a2110"), 0.25 + 0.9 * deep)


def _soil(glass: Array, g: Grid, flaw: np.random.Generator, values: Array) -> None:
    """A crumb or a smear of something pale lies in the mouth or on the glass."""
    angle, size = flaw.uniform(0, 2 * math.pi), flaw.uniform(0.04, 0.15)
    r = flaw.uniform(0.05, 0.28) if flaw.random() < 0.6 else flaw.uniform(0.36, 0.75)
    x, y = r * math.cos(angle), r * math.sin(angle)
    near = g.near(x, y, 2 * size)
    texture = 1 + 0.25 * grain(values, near.x * 30, near.y * 30)
    shape = polygon(near, blot(flaw, x, y, size, 0.6))
    colour = rgb(("c9c2b4", "8d7a5c", "5d6b66")[int(flaw.integers(3))])
    paint(glass, near, shape * flaw.uniform(0.35, 0.95), colour, texture)


def _scratch(glass: Array, r: Array, east: Array, south: Array, flaw: np.random.Generator) -> None:
    """The lip or the collar is worn matt along an arc."""
    worn = _facing(east, south, flaw.uniform(-math.pi, math.pi), flaw.uniform(0.25, 0.5))
    ring = (0.365, 0.405, 0.53)[int(flaw.integers(3))]
    amount = flaw.uniform(0.6, 0.9) * np.clip(3 * worn, 0, 1) * bell(r + 0.008 * np.sin(east * 41), ring, 0.03)
    for plane, value in zip(glass, rgb("b5a08a"), strict=True):
        plane += amount * (value - plane)
