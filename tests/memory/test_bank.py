"""One bank for all tasks: shares of its room, and parts cut at their end."""

from __future__ import annotations

import pytest
import torch

from continuad.errors import ContinuadError
from continuad.memory.bank import bank_shares, with_share


@pytest.mark.parametrize(
    ("available", "room", "shares"),
    [
        ([200, 20, 300], 100, [40, 20, 40]),
        ([300, 200], 100, [50, 50]),
        ([3, 900], 100, [3, 97]),
        ([5, 5], 100, [5, 5]),
        ([9, 9], 2, [1, 1]),
    ],
)
def test_shares_by_hand(available: list[int], room: int, shares: list[int]) -> None:
    assert bank_shares(available, room, "unused") == shares


def test_less_room_than_tasks_is_refused_by_the_name_of_the_option() -> None:
    with pytest.raises(ContinuadError, match=r"^bank=2 has room for 2, fewer than the 3 tasks; enlarge it$"):
        bank_shares([9, 9, 9], 2, 2)


def test_the_first_part_is_the_bank() -> None:
    new = torch.tensor([[1.0], [2.0]])
    assert torch.equal(with_share(None, [], [2], new), new)


def test_every_part_keeps_its_beginning_and_the_new_one_comes_last() -> None:
    bank = torch.tensor([[10.0], [11.0], [12.0], [20.0], [21.0]])  # parts of 3 and of 2
    kept = with_share(bank, [3, 2], [2, 1, 2], torch.tensor([[30.0], [31.0]]))
    assert kept.flatten().tolist() == [10, 11, 20, 30, 31]
