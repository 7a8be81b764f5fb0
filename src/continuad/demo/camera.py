"""From a drawing to a photograph: light in the room, lens, sensor; and the exact mask of a defect."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, label

from continuad.demo.tools import Array

FINENESS = 3
"""Samples a pixel, in each direction."""

VISIBLE = 3 / 255
"""A pixel belongs to the defect if it changed a channel by more than this before the sensor's noise."""


@dataclass(frozen=True)
class Shot:
    """How one photograph was taken; the same for a part and for its damaged twin.

    Attributes:
        brightness: factor on everything.
        tilt: (x, y) how much brighter the picture's right and lower edges are than its middle, as fractions.
        warmth: positive reddens, negative turns blue, as a fraction.
        falloff: share of light lost in the corners.
        blur: the lens' blur (standard deviation) as a share of the picture's shorter side.
        noise: the sensor's noise (standard deviation) at mid grey, 0..1.
    """

    brightness: float
    tilt: tuple[float, float]
    warmth: float
    falloff: float
    blur: float
    noise: float


def take_shot(rng: np.random.Generator) -> Shot:
    """Light, lens and noise of one photograph, at random."""
    direction, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.13)
    return Shot(
        brightness=math.exp(rng.normal(0, 0.085)),
        tilt=(strength * math.cos(direction), strength * math.sin(direction)),
        warmth=rng.normal(0, 0.03),
        falloff=rng.uniform(0.0, 0.14),
        blur=rng.uniform(0.0012, 0.0042),
        noise=rng.uniform(0.006, 0.016),
    )


def expose(drawing: Array, shot: Shot) -> Array:
    """A drawing as the lens throws it on the sensor: (3, H, W) float32 in 0..1, without noise."""
    k = FINENESS
    picture = drawing[:, ::k, ::k].copy()
    for i in range(k):
        for j in range(k):
            if i or j:
                picture += drawing[:, i::k, j::k]
    picture /= k * k
    height, width = picture.shape[1:]
    sigma = shot.blur * min(height, width)
    for axis in (1, 2):
        picture = gaussian_filter1d(picture, sigma, axis=axis, mode="nearest", truncate=3.0)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    light = 1 + shot.tilt[0] * x + shot.tilt[1] * y - (0.5 * shot.falloff) * (x * x + y * y)
    tint = np.array([1 + shot.warmth, 1, 1 - shot.warmth], np.float32)[:, None, None]
    return np.clip(picture * (light * shot.brightness) * tint, 0, 1)


def changed(good: Array, bad: Array) -> Array:
    """(H, W) bool, where a defect shows; holes of one pixel are closed, specks of a pixel or two beside it left out."""
    mask = np.abs(good - bad).max(axis=0) > VISIBLE
    mask[1:-1, 1:-1] |= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    regions, count = label(mask, structure=np.ones((3, 3)))
    if count > 1:
        sizes = np.bincount(regions.ravel())
        keep = sizes >= min(3, sizes[1:].max())
        keep[0] = False
        mask = keep[regions]
    return mask


def record(picture: Array, shot: Shot, rng: np.random.Generator) -> Array:
    """Adds the sensor's noise (brighter pixels are noisier) and rounds: (H, W, 3) uint8."""
    grainy = rng.standard_normal(picture.shape, dtype=np.float32)
    noisy = picture + grainy * (shot.noise * np.sqrt(0.25 + 1.5 * picture))
    return np.ascontiguousarray((np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
