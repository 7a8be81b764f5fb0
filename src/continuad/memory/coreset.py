"""Greedy minimax coresets, many points at a time (Sener, Savarese 2018, for PatchCore's memory bank)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TOGETHER = 256  # candidates compared among each other before all distances are brought up to date
ROWS = 2048  # points whose distances to newly taken ones are computed at once: they stay in the cache


@torch.no_grad()
def greedy_coreset(points: Tensor, size: int, seed: int = 0) -> Tensor:
    """Indices (size,) of points, each the farthest from all before it; the first is drawn by `seed`.

    Any beginning of the answer is the coreset of that smaller size. Taking one point at a time reads all points
    from memory for each. Here the farthest few points are compared among each other, and taken as long as none
    of the others can be farther; only then are all distances brought up to date, by one matrix product. What is
    chosen is the same, but for ties and rounding.

    Args:
        points: (N, C) float. size: from 1 to N. seed: of the first point.

    Raises:
        ValueError: size out of range.
    """
    count = len(points)
    if not 1 <= size <= count:
        raise ValueError(f"size={size} must lie between 1 and the {count} points")
    points = points - points.mean(0)  # smaller numbers round less where squares are subtracted
    squares = points.square().sum(1)
    first = int(torch.randint(count, (1,), generator=torch.Generator().manual_seed(seed)))
    taken = [first]
    nearest = torch.full_like(squares, torch.inf)  # squared distance to the nearest taken point
    fresh = torch.tensor([first], device=points.device)
    while len(taken) < size:
        _bring_up_to_date(nearest, points, squares, fresh)
        bounds, candidates = nearest.topk(min(TOGETHER + 1, count))
        others = float(bounds[-1]) if len(bounds) < count else -1.0
        picked = _greedy_among(points[candidates], bounds, others, size - len(taken))
        fresh = candidates[picked]
        taken += fresh.tolist()
    return torch.tensor(taken, device=points.device)


def _bring_up_to_date(nearest: Tensor, points: Tensor, squares: Tensor, fresh: Tensor) -> None:
    """Lower `nearest` in place by the distances to the fresh points; taken ones have -1, behind equal ones."""
    chosen, half = points[fresh].T.contiguous(), -0.5 * squares[fresh]
    for start in range(0, len(points), ROWS):
        part = slice(start, start + ROWS)
        closest = torch.addmm(half, points[part], chosen).amax(1)
        torch.minimum(nearest[part], (squares[part] - 2 * closest).clamp_min(0), out=nearest[part])
    nearest[fresh] = -1.0


def _greedy_among(candidates: Tensor, bounds: Tensor, others: float, most: int) -> list[int]:
    """Greedy choice among candidates (K, C) with squared distances `bounds`, while none is below `others`."""
    between = torch.cdist(candidates, candidates).square().cpu().numpy()
    distances = bounds.cpu().numpy().copy()
    picked: list[int] = []
    while len(picked) < most:
        best = int(distances.argmax())
        if picked and distances[best] < others:
            break
        picked.append(best)
        np.minimum(distances, between[best], out=distances)
        distances[best] = -2.0  # never twice, even among equal points
    return picked


def covering_radius(points: Tensor, chosen: Tensor) -> float:
    """Largest distance of a point (N, C) from its nearest chosen one (K, C)."""
    exact = "donot_use_mm_for_euclid_dist"  # products of large numbers would hide small distances
    return max(float(torch.cdist(part, chosen, compute_mode=exact).amin(1).max()) for part in points.split(ROWS))
