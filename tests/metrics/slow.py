"""The definitions, word for word and slowly: what the fast metrics are held to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage


def pro_curve(maps: Sequence, masks: Sequence) -> list[tuple[float, float]]:
    """(FPR, PRO) at every distinct score, from (0, 0) on; flagged is score >= threshold."""
    regions = []
    for scores, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [scores[labels == k] for k in range(1, count + 1)]
    good = np.concatenate([scores[mask == 0] for scores, mask in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for t in sorted(set(np.concatenate([np.ravel(m) for m in maps]).tolist()), reverse=True):
        points.append((float(np.mean(good >= t)), float(np.mean([np.mean(r >= t) for r in regions]))))
    return points


def aupro(maps: Sequence, masks: Sequence, limit: float = 0.3) -> float:
    """Trapezoids up to the limit, the last one cut there, divided by the limit."""
    area, points = 0.0, pro_curve(maps, masks)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + y1) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def aupro_stretched(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3, steps: int = 200) -> float:
    """As published code does it: evenly spaced thresholds, FPR below the limit, min-max-stretched."""
    regions = []
    for scores, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [scores[labels == k] for k in range(1, count + 1)]
    low, high = float(maps.min()), float(maps.max())
    points = []
    for i in range(steps):
        t = low + (high - low) * i / steps
        fpr = np.mean(maps[masks == 0].astype(np.float64) > t)
        if fpr < limit:
            points.append((fpr, np.mean([np.mean(r.astype(np.float64) > t) for r in regions])))
    x, y = np.array(sorted(points)).T
    return float(np.trapezoid(y, (x - x.min()) / (x.max() - x.min())))


def drawn_masks(rng: np.random.Generator, number: int, size: int) -> np.ndarray:
    """(number, size, size) bool: the first image good, the others with up to three boxes."""
    masks = np.zeros((number, size, size), bool)
    for mask in masks[1:]:
        for _ in range(3):
            y, x = rng.integers(0, size - 2, 2)
            mask[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = True
    return masks
