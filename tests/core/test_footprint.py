"""Bytes are counted once, wherever a tensor lies and however often it is found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from continuad.core.footprint import footprint, held_bytes, learning_peak
from continuad.core.state import Stats
from continuad.core.undo import Before


def test_what_is_held_is_counted_once() -> None:
    """100 float32 are 400 bytes; a view of them costs nothing, a gradient as much again."""
    x = torch.zeros(100)
    assert held_bytes(x, x[:3], [x], {"x": (x,)}) == 400
    assert held_bytes(x, torch.zeros(2)) == 408
    weight = nn.Parameter(torch.zeros(10))
    weight.grad = torch.zeros(10)
    assert held_bytes([weight]) == 80
    assert held_bytes((weight * 2,)) == 40  # not a leaf, which has no gradient of its own
    assert held_bytes("nothing", 3, None) == 0


def test_things_that_hold_each_other_are_walked_through_once() -> None:
    ring: list[object] = [torch.zeros(5)]
    ring.append({"again": ring})
    assert held_bytes(ring) == 20


def test_attributes_of_modules_and_optimisers_count() -> None:
    module = nn.Linear(3, 2)
    module.spare = [torch.zeros(4)]  # type: ignore[assignment]
    assert held_bytes(module) == 4 * (3 * 2 + 2 + 4)
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    module(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    assert held_bytes(optimiser) == 3 * 4 * 8  # weights, gradients and momenta


def test_what_a_failed_task_would_be_put_back_from_is_held() -> None:
    """A copy of the layer's 3 x 2 weights and 2 offsets."""
    module = nn.Linear(3, 2)
    assert held_bytes(module, Before(module)) == 2 * 4 * (3 * 2 + 2)


def test_statistics_are_additional_and_the_rest_is_architecture() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.BatchNorm1d(50)  # 4 vectors of 50 float32 and a count of 8 bytes
            self.stats, self.kept = Stats(), Stats()
            self.stats["mean"], self.stats["same"] = (x := torch.zeros(1000)), x[:10]
            self.kept["images"] = torch.zeros(200, dtype=torch.uint8)

    found = footprint(Model())
    assert found.architecture == pytest.approx((4 * 50 * 4 + 8) / 1e6)
    assert found.additional == pytest.approx((4000 + 200) / 1e6)


def test_the_peak_is_that_of_learning_unless_the_model_holds_more_now() -> None:
    class Model(nn.Module):
        def __init__(self, learning_bytes: int) -> None:
            super().__init__()
            self.detector, self.beside, self.learning_bytes = nn.Linear(9, 1), nn.Linear(4, 1), learning_bytes

    assert learning_peak(Model(1000)) == pytest.approx(1000 / 1e6)
    assert learning_peak(Model(1)) == pytest.approx((40 + 20) / 1e6)
