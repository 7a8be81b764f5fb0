"""The fast greedy coreset chooses what the slow one does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from continuad.memory import coreset
from continuad.memory.coreset import covering_radius, greedy_coreset


def one_at_a_time(points: Tensor, size: int, first: int) -> list[int]:
    taken, nearest = [first], (points - points[first]).norm(dim=1)
    while len(taken) < size:
        taken.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[taken[-1]]).norm(dim=1))
    return taken


@pytest.mark.parametrize("together", [1, 7, 64, 10_000])
def test_same_choice_as_one_at_a_time(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "TOGETHER", together)
    monkeypatch.setattr(coreset, "ROWS", 100)
    points = torch.randn(700, 12, generator=torch.Generator().manual_seed(3)).double()
    found = greedy_coreset(points, 300, seed=5).tolist()
    assert found == one_at_a_time(points, 300, found[0])
    assert greedy_coreset(points, 40, seed=5).tolist() == found[:40]


def test_equal_points_and_all_points() -> None:
    points = torch.ones(9, 3)
    assert sorted(greedy_coreset(points, 9).tolist()) == list(range(9))
    assert greedy_coreset(points, 1).shape == (1,)
    with pytest.raises(ValueError, match="10"):
        greedy_coreset(points, 10)


def test_corners_come_first() -> None:
    """On a line from 0 to 8: an end, the other end, the middle, the quarters."""
    points = torch.arange(9.0)[:, None]
    found = one_at_a_time(points, 5, 0)
    assert found[:3] == [0, 8, 4]
    assert covering_radius(points, points[found]) == 1.0
