"""One bank for all tasks: each task's part is in the order of a greedy coreset, so cutting its end is choosing anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from continuad.errors import ContinuadError
from continuad.memory.replay import equal_shares


def bank_shares(available: Sequence[int], room: int, bank: object) -> list[int]:
    """Equal shares of the room for parts that have so many; `bank` is the option that set it.

    Raises:
        ContinuadError: less room than parts.
    """
    if room < len(available):
        raise ContinuadError(f"bank={bank} has room for {room}, fewer than the {len(available)} tasks; enlarge it")
    shares = equal_shares(dict(enumerate(available)), room)
    return [shares[part] for part in range(len(available))]


def with_share(bank: Tensor | None, sizes: Sequence[int], shares: Sequence[int], new: Tensor) -> Tensor:
    """A bank of parts of these sizes, each cut to its share, and a new part behind them."""
    earlier = bank.split(list(sizes)) if bank is not None else ()
    return torch.cat([*(part[:share] for part, share in zip(earlier, shares, strict=False)), new])
