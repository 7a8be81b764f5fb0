"""A transistor, its three legs in a copper strip board."""

from __future__ import annotations

import math

import numpy as np

from continuad.demo.tools import (
    Array,
    Grid,
    Light,
    Points,
    bell,
    blank,
    blot,
    box,
    cloud,
    cover,
    darken,
    disc,
    dome,
    grain,
    lamp,
    lattice,
    paint,
    path,
    polygon,
    relief,
    rgb,
    shadow,
    strokes,
)

DEFECTS = ("bent_lead", "cut_lead", "damaged_case", "misplaced")

_PITCH = 0.46


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The transistor's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    light = lamp(rng)
    board = base.moved(rng.normal(0, 0.012), rng.normal(0, 0.025), rng.normal(0, 0.025), rng.uniform(0.97, 1.03))
    drawing = blank(base, rgb("b9795c"), 1 + 0.05 * cloud(values, base, 7.0) + 0.05 * cloud(values, base, 40, 1))
    _board(drawing, board)

    tilt, dx, dy = rng.normal(0, 0.02), rng.normal(0, 0.015), rng.normal(0, 0.02)
    if defect == "misplaced":
        tilt += float(flaw.choice([-1, 1])) * flaw.uniform(0.12, 0.35)
        dx, dy = dx + flaw.uniform(-0.12, 0.12), dy + flaw.uniform(-0.3, -0.08)
    case = board.moved(tilt, dx, dy - 0.3)
    legs = [_leg(k, rng) for k in (-1, 0, 1)]
    wounded = int(flaw.integers(3))
    if defect == "bent_lead":
        legs[wounded] = _bent(legs[wounded], flaw)
    if defect == "cut_lead":
        legs[wounded] = _cut(legs[wounded], flaw)
    for leg in legs:
        _draw_leg(drawing, case, leg, values, light)
    _case(drawing, case, values, light)
    if defect == "damaged_case":
        _chip(drawing, case, flaw)
    return drawing


def _board(drawing: Array, g: Grid) -> None:
    """Holes on a square raster, and the grooves that part the copper into strips."""
    column, row = np.round(g.x / _PITCH), np.round(g.y / _PITCH + 0.13)
    dx, dy = g.x - column * _PITCH, g.y - (row - 0.13) * _PITCH
    groove = np.abs(np.abs(dx) - _PITCH / 2) - 0.032
    paint(drawing, g, cover(groove, g.step), rgb("3a2c22"))
    paint(drawing, g, 0.5 * bell(groove, 0.012, 0.02), rgb("d69a78"))
    away = np.sqrt(dx * dx + dy * dy) - 0.088
    paint(drawing, g, 0.6 * cover(np.abs(away - 0.012) - 0.012, g.step), rgb("d8a07e"))
    paint(drawing, g, cover(away, g.step), rgb("1c1613"))


def _leg(k: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """The line of one leg in the case's coordinates: straight down, outwards, down into its hole."""
    bow, reach = rng.normal(0, 0.012), 0.3 - 0.13 * _PITCH + 2 * _PITCH
    return [
        (0.19 * k, 0.36),
        (0.19 * k + bow, 0.52),
        (0.34 * k + bow, 0.72),
        (_PITCH * k * 0.98, 0.86),
        (_PITCH * k, reach),
    ]


def _bent(leg: list[tuple[float, float]], flaw: np.random.Generator) -> list[tuple[float, float]]:
    """The leg leaves its course and misses its hole."""
    side, far = float(flaw.choice([-1, 1])), flaw.uniform(0.12, 0.34)
    (x1, y1), (x2, y2) = leg[1], leg[2]
    tip = (x2 + side * far, y2 + flaw.uniform(0.12, 0.28))
    return [leg[0], (x1, y1), (x2 + 0.45 * side * far, y2 + 0.02), tip]


def _cut(leg: list[tuple[float, float]], flaw: np.random.Generator) -> list[tuple[float, float]]:
    """The leg ends early."""
    keep = int(flaw.integers(1, 4))
    (ax, ay), (bx, by) = leg[keep], leg[keep + 1]
    t = flaw.uniform(0.1, 0.5)
    return [*leg[: keep + 1], (ax + t * (bx - ax), ay + t * (by - ay))]


def _draw_leg(drawing: Array, g: Grid, leg: Points, values: Array, light: Light) -> None:
    xs, ys = [x for x, _ in leg], [y for _, y in leg]
    middle, wide = (min(xs) + max(xs)) / 2, (max(xs) - min(xs)) / 2 + 0.13
    near = g.near(middle, (ys[0] + ys[-1]) / 2, wide, (ys[-1] - ys[0]) / 2 + 0.13)
    shadow(drawing, near, path(near, [(x + 0.03, y + 0.035) for x, y in leg]) - 0.04, 0.05, 0.6)
    edge = path(near, leg) - 0.044
    height = dome(edge, 0.03) + 0.004 * cloud(values, near, 16, 1)
    matt, gloss = relief(height, near.step, light, 4)
    streak = 1 + 0.22 * cloud(values, near, 9, 1)
    paint(
        drawing,
        near,
        cover(edge, near.step),
        rgb("a9a59e"),
        (0.2 + 0.75 * matt) * streak,
        0.6 * gloss * gloss,
    )
    into = bell(near.y, leg[-1][1], 0.08) * (leg[-1][1] > 1.1)
    darken(drawing, near, 0.75 * np.clip(into * 1.5, 0, 1) * cover(edge, near.step))


def _case(drawing: Array, g: Grid, values: Array, light: Light) -> None:
    """The black moulding with its ejector mark and a narrow bevel at the lower edge."""
    g = g.near(0, 0, 0.57, 0.57)
    body = box(g, 0, 0, 0.41, 0.40, 0.03)
    shadow(drawing, g, box(g, 0.04, 0.05, 0.41, 0.40, 0.03), 0.1, 0.6)
    grainy = 0.0012 * cloud(values, g, 38, 1)
    mark = disc(g, 0.0, 0.02, 0.115)
    height = dome(body, 0.045) + 0.012 * np.clip(mark / 0.02 + 0.5, 0, 1) + grainy
    height -= 0.03 * (g.x * g.x)
    matt, gloss = relief(height, g.step, light, 4)
    band = 0.5 * bell(g.y, 0.345, 0.03) + 0.25 * bell(g.y, -0.36, 0.02)
    lit = (0.25 + 0.9 * matt) * (1 + band)
    paint(
        drawing,
        g,
        cover(body, g.step),
        rgb("27282c"),
        lit,
        0.16 * gloss * gloss + 0.04 * bell(g.x, -0.22, 0.14),
    )
    paint(drawing, g, 0.5 * cover(np.abs(mark) - 0.007, g.step), rgb("0c0c0e"))


def _chip(drawing: Array, g: Grid, flaw: np.random.Generator) -> None:
    """A piece has broken off the case's edge, or a crack runs into it."""
    angle = flaw.uniform(0, 2 * math.pi)
    reach = 0.38 / max(abs(math.cos(angle)), abs(math.sin(angle)))
    x, y, size = reach * math.cos(angle), reach * math.sin(angle), flaw.uniform(0.06, 0.15)
    g = g.near(0, 0, 0.5, 0.5)
    inside = cover(box(g, 0, 0, 0.41, 0.40, 0.03), g.step)
    values = lattice(flaw)
    near = g.near(x, y, 2 * size)
    part = inside[near.within(g)]
    shape = polygon(near, blot(flaw, x, y, size, 0.6)) * part
    rough = 1 + 0.45 * grain(values, near.x * 22, near.y * 22)
    paint(drawing, near, shape * flaw.uniform(0.55, 0.95), rgb("7d7f80"), rough * flaw.uniform(0.5, 1))
    crack = [(x, y), (0.75 * x + flaw.normal(0, 0.05), 0.75 * y), (0.5 * x, 0.5 * y + flaw.normal(0, 0.06))]
    paint(drawing, g, 0.8 * strokes(g, [crack], 0.012) * inside, rgb("85878a"))
