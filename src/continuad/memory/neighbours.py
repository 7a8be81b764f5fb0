"""Exact nearest neighbours by blocked matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 4096  # vectors of the bank compared at once: bounds the working memory


@torch.no_grad()
def nearest(queries: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance (Q,) of each query (Q, C) to the nearest vector of a bank (N, C), and its index (Q,)."""
    best = torch.full((len(queries),), -torch.inf, device=queries.device)
    index = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(bank), AT_ONCE):
        part = bank[start : start + AT_ONCE]
        closeness, where = torch.addmm(-0.5 * part.square().sum(1), queries, part.T).max(1)
        better = closeness > best
        best, index = torch.where(better, closeness, best), torch.where(better, where + start, index)
    # anew from the difference: subtracting large squares would leave rounding in small distances
    return (queries - bank[index]).norm(dim=1), index
