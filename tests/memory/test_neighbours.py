"""Nearest neighbours are exact, in whatever blocks the bank is read."""

from __future__ import annotations

import pytest
import torch

from continuad.memory import neighbours
from continuad.memory.neighbours import nearest


def test_distance_and_index_by_hand() -> None:
    bank = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, -1.0]])
    queries = torch.tensor([[3.0, 4.0], [10.0, 2.0], [0.0, -9.0], [10.0, 0.0]])
    distances, index = nearest(queries, bank)
    assert distances.tolist() == [5.0, 2.0, 8.0, 0.0]
    assert index.tolist() == [0, 1, 2, 1]
    assert index.dtype == torch.int64


@pytest.mark.parametrize("at_once", [1, 7, 40, 1000])
def test_blocks_change_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(30, 5, generator=generator), torch.randn(40, 5, generator=generator)
    distances, index = nearest(queries, bank)
    slow = (queries[:, None] - bank).square().sum(2).sqrt()
    assert index.tolist() == slow.argmin(1).tolist()
    torch.testing.assert_close(distances, slow.amin(1))


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_of_equal_neighbours_the_first_is_taken(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "AT_ONCE", at_once)
    bank = torch.tensor([[7.0], [1.0], [1.0], [1.0]])
    assert nearest(torch.zeros(1, 1), bank)[1].tolist() == [1]


def test_small_distances_far_from_the_origin_are_not_rounded_away() -> None:
    """Squares are near 1e8 there, where float32 steps by 8."""
    bank = torch.tensor([[10_000.0, 0.0], [-10_000.0, 0.0]])
    distances, index = nearest(torch.tensor([[10_000.0, 0.25], [-10_000.0, 0.0]]), bank)
    assert distances.tolist() == [0.25, 0.0]
    assert index.tolist() == [0, 1]


def test_the_answer_lies_where_the_queries_lie_and_carries_no_gradient() -> None:
    queries = torch.zeros(6, 3, device="meta", requires_grad=True)
    distances, index = nearest(queries, torch.zeros(4, 3, device="meta"))
    assert distances.shape == index.shape == (6,)
    assert distances.device.type == index.device.type == "meta"
    assert not distances.requires_grad
