"""A countersunk wood screw lying slantwise on grey paper."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from continuad.demo.tools import (
    Array,
    Grid,
    bell,
    blank,
    cloud,
    cover,
    grain,
    lamp,
    lattice,
    paint,
    relief,
    rgb,
    shadow,
    strokes,
    wander,
)

DEFECTS = ("manipulated_front", "scratch_head", "scratch_neck", "thread_side", "thread_top")

_HEAD, _NECK, _THREAD, _TIP = -0.80, -0.55, -0.10, 0.82  # where along x each section starts; the point
_PITCH = 0.118


@dataclass(frozen=True)
class _Harm:
    """What is wrong with the screw's form.

    Attributes:
        side, side_width, which: where along x the thread's outline is worn, how far, and on which side (±1).
        top, top_width: where the turns on the visible face are worn flat, and how far.
        tip: where the screw ends.
        bent: how far the point is bent away.
    """

    side: float = 0.0
    side_width: float = 0.0
    which: float = 1.0
    top: float = 0.0
    top_width: float = 0.0
    tip: float = _TIP
    bent: float = 0.0


def draw(base: Grid, rng: np.random.Generator, defect: str | None, flaw: np.random.Generator) -> Array:
    """The screw's drawing; see `continuad.demo.draw`."""
    values = lattice(rng)
    drawing = blank(base, rgb("c4c3c0"), 1 + 0.018 * cloud(values, base, 9.0))
    light = lamp(rng, 0.6)
    # Not all the way round, as in MVTec AD: few training pictures must do for a demonstration.
    turned = base.moved(
        0.75 + rng.uniform(-0.4, 0.4), rng.normal(0, 0.04), rng.normal(0, 0.04), rng.uniform(0.93, 1.04)
    )
    g = turned.near(0, 0, 0.99, 0.40)
    harm = _harm(defect, flaw)
    phase = rng.uniform(0, 1)
    y = g.y - harm.bent * np.clip((g.x - 0.45) * 2.5, 0, 1) ** 2
    width, ridge = _profile(g.x, y, phase, harm)
    edge = 0.8 * np.maximum(np.abs(y) - width, np.maximum(_HEAD - g.x, g.x - harm.tip))
    shadow(drawing, g, edge - 0.01, 0.10, 0.32)

    level = np.clip(y / np.maximum(width, 1e-3), -1, 1)
    height = np.maximum(width, 0) * np.sqrt(1 - level * level) + ridge + 0.002 * grain(values, g.x * 9, g.y * 30)
    matt, gloss = relief(height, g.step, light, 4)
    tone = (0.10 + 0.85 * matt) * (1 + 0.10 * grain(values, g.x * 5, g.y * 22 + 9))
    rim = bell(g.x, _HEAD + 0.015, 0.03)
    paint(drawing, g, cover(edge, g.step), rgb("76777c"), tone + 0.35 * rim, 0.55 * gloss * gloss)
    if defect == "scratch_head":
        _scratch(drawing, g, flaw, edge, flaw.uniform(-0.76, -0.63), 0.14)
    if defect == "scratch_neck":
        _scratch(drawing, g, flaw, edge, flaw.uniform(-0.5, -0.16), 0.055)
    return drawing


def _harm(defect: str | None, flaw: np.random.Generator) -> _Harm:
    if defect == "thread_side":
        return _Harm(
            side=flaw.uniform(0.05, 0.5),
            side_width=flaw.uniform(0.08, 0.22),
            which=float(flaw.choice([-1, 1])),
        )
    if defect == "thread_top":
        return _Harm(top=flaw.uniform(0.05, 0.5), top_width=flaw.uniform(0.09, 0.2))
    if defect == "manipulated_front":
        if flaw.random() < 0.5:
            return _Harm(tip=_TIP - flaw.uniform(0.07, 0.22))
        return _Harm(bent=float(flaw.choice([-1, 1])) * flaw.uniform(0.05, 0.13))
    return _Harm()


def _profile(x: Array, y: Array, phase: float, harm: _Harm) -> tuple[Array, Array]:
    """Half the screw's width at x (on the side where y lies), and the thread's height on the visible face."""
    places = (-1.0, _HEAD, _HEAD + 0.03, _NECK, _NECK + 0.04, _THREAD - 0.02, _THREAD + 0.03, 0.58, _TIP, 1.0)
    widths = (0.215, 0.215, 0.215, 0.092, 0.085, 0.085, 0.068, 0.062, 0.004, 0.0)
    core = np.interp(x, places, widths).astype(np.float32)
    threaded = np.clip((x - _THREAD) * 14, 0, 1) * np.clip((_TIP - 0.03 - x) * 7, 0, 1)
    side = np.where(y > 0, np.float32(1), np.float32(-1))
    turn = x / _PITCH + phase
    crest = _crest(turn - 0.25 * side)
    if harm.side_width:
        crest = crest * (1 - np.clip(3 * bell(x, harm.side, harm.side_width), 0, 1) * (side == harm.which))
    width = core + 0.058 * crest * threaded
    # On the visible face the turns run slanted from one side to the other.
    reach = np.clip(y / (core + 0.058), -1, 1)
    face = _crest(turn - 0.25 * reach * (1.5 - 0.5 * reach * reach))
    if harm.top_width:
        face = face * (1 - np.clip(3 * bell(x, harm.top, harm.top_width), 0, 1))
    return width, 0.05 * face * threaded


def _crest(turn: Array) -> Array:
    """A thread's profile along one turn: narrow ridges, wide valleys."""
    t = np.abs(turn - np.round(turn))
    ridge = np.clip(1 - t / 0.30, 0, 1)
    return ridge * (2 - ridge)


def _scratch(drawing: Array, g: Grid, flaw: np.random.Generator, edge: Array, x: float, half: float) -> None:
    """Bright grooves in the dark steel."""
    angle, body = flaw.uniform(0, math.pi), cover(edge + 0.01, g.step)
    for _ in range(int(flaw.integers(1, 4))):
        chain = wander(
            flaw,
            x + flaw.normal(0, 0.02),
            flaw.uniform(-half, half) * 0.8,
            angle,
            flaw.uniform(0.06, 0.18),
            0.15,
        )
        wide = flaw.uniform(0.015, 0.028)
        paint(drawing, g, flaw.uniform(0.5, 0.95) * strokes(g, [chain], wide) * body, rgb("d9d9d8"))
