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
    from_the_end = next(seed for seed in range(100) if int(greedy_coreset(points, 1, seed)) == 0)
    found = greedy_coreset(points, 5, from_the_end).tolist()
    assert found[:3] == [0, 8, 4]
    assert set(found[3:]) == {2, 6}
    assert covering_radius(points, points[found]) == 1.0


def test_the_seed_draws_the_first_point_and_is_0_by_default() -> None:
    points = torch.arange(1000.0)[:, None]
    firsts = [int(greedy_coreset(points, 1, seed)) for seed in (0, 1, 2)]
    assert len(set(firsts)) == 3
    assert int(greedy_coreset(points, 1)) == firsts[0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_close_points_far_from_the_origin_are_different_points(scale: float) -> None:
    """In float32; around the origin of the coordinates squares would be a million times the distances."""
    generator = torch.Generator().manual_seed(0)
    points = scale * (torch.randn(500, 4, generator=generator) + torch.tensor([1000.0, -1000.0, 500.0, 0.0]))
    found = greedy_coreset(points, 100).tolist()
    assert found == one_at_a_time(points.double(), 100, found[0])


def test_all_points_are_read_far_less_often_than_points_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    update = coreset._bring_up_to_date
    monkeypatch.setattr(coreset, "_bring_up_to_date", lambda *given: (reads.append(1), update(*given)))
    points = 0.1 * torch.randn(3000, 8, generator=torch.Generator().manual_seed(0))
    greedy_coreset(points, 600)
    assert len(reads) < 600 / 20
    reads.clear()
    greedy_coreset(points[:200], 150)  # so few are all compared among each other at once
    assert len(reads) == 1


def test_the_covering_radius_by_hand() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [9.0, 9.0]])
    assert covering_radius(points, points[[0, 3]]) == 5.0
    assert covering_radius(points, points) == 0.0


def test_small_distances_far_from_the_origin_count() -> None:
    """In single precision |a|^2 - 2 a.b + |b|^2 of such points is 0, or far off."""
    points = 1000.0 + torch.arange(60.0)[:, None] / 128 * torch.ones(1, 4)
    assert covering_radius(points, points[::2]) == pytest.approx(2 / 128, rel=1e-4)


def test_the_covering_radius_looks_at_all_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "ROWS", 2)
    for far in range(5):
        points = torch.zeros(5, 1)
        points[far] = 7.0
        assert covering_radius(points, torch.zeros(1, 1)) == 7.0
