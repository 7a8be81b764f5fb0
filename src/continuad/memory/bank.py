"""One bank for all tasks, in parts. Each part is in the order of a greedy coreset: cut short, it is a coreset again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from continuad.errors import ContinuadError
from continuad.memory.replay import equal_shares


def bank_shares(available: Sequence[int], room: int, bank: object) -> list[int]:
    """How many entries each part may keep: equal shares of the room, none above what it has.

    Args:
        available: entries of each part. room: entries in all. bank: the option that set the room, for the message.

    Raises:
        ContinuadError: less room than parts.
    """
    if room < len(available):
        raise ContinuadError(f"bank={bank} has room for {room}, fewer than the {len(available)} tasks; enlarge it")
    shares = equal_shares(dict(enumerate(available)), room)
    return [shares[part] for part in range(len(available))]


def with_share(bank: Tensor | None, sizes: Sequence[int], shares: Sequence[int], new: Tensor) -> Tensor:
    """The bank (N, C) with each earlier part cut to its share, and the new part (M, C) behind them.

    Args:
        bank: parts of the given sizes, one after another; None where there is none yet.
    """
    earlier = bank.split(list(sizes)) if bank is not None else ()
    return torch.cat([*(part[:share] for part, share in zip(earlier, shares, strict=False)), new])
