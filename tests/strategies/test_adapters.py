"""Adapters: what is learned by whom, what stays for ever, and what a task costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys import SIZE, ToyAutoencoder, stream

from continuad.core.checkpoint import Checkpoint
from continuad.core.fit import Budget
from continuad.detectors.fastflow import FastFlow
from continuad.errors import ContinuadError
from continuad.strategies.adapters import Adapters, LowRank
from continuad.strategies.naive import Naive

TASKS = stream()
KERNEL = "encode.0.parametrizations.weight"


def taught(tasks: int, **options: object) -> Adapters:
    strategy = Adapters(ToyAutoencoder(), **options)  # type: ignore[arg-type]
    strategy.budget = Budget(steps=8)
    for task in TASKS[:tasks]:
        strategy.learn(task)
    return strategy


def test_a_matrix_changes_by_the_product() -> None:
    """W = 1 and U V = (0, 2)^T (1, 3): the second row alone changes, by (2, 6)."""
    adapter = LowRank(2, 2, 1)
    adapter.u.data, adapter.v.data = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0, 3.0]])
    assert adapter(torch.eye(2)).tolist() == [[1.0, 0.0], [2.0, 7.0]]


def test_the_first_task_is_learned_as_by_naive() -> None:
    naive = Naive(ToyAutoencoder())
    naive.budget = Budget(steps=8)
    naive.learn(TASKS[0])
    strategy = taught(1)
    images = torch.from_numpy(TASKS[0].test.images)
    assert torch.equal(strategy.snapshot(0).predict(images).map, naive.predict(images).map)


def test_an_earlier_task_stays_bit_for_bit_and_a_later_one_learns() -> None:
    images = torch.from_numpy(TASKS[0].test.images)
    strategy = taught(1)
    before = strategy.predict(images, 0)
    base = strategy.detector.weights()[f"{KERNEL}.original"].clone()
    for task in TASKS[1:]:
        strategy.learn(task)
        assert torch.equal(strategy.detector.weights()[f"{KERNEL}.original"], base)
        after = strategy.predict(images, 0)
        assert torch.equal(after.map, before.map)
        assert torch.equal(after.score, before.score)
        change = strategy.snapshot(task.index).encode[0].weight - base  # type: ignore[union-attr]
        assert int(torch.linalg.matrix_rank(change.flatten(1))) == 4


def test_a_step_moves_a_weight_about_as_far_as_without_an_adapter() -> None:
    """One step of gradient descent along G from U = 0 gives U V = -G V^T V, of about G's length."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(64, 400, generator=generator)
    adapter = LowRank(64, 400, 4)
    adapter.restart(generator)
    moved = gradient @ adapter.v.T.detach() @ adapter.v.detach()
    assert float(moved.norm() / gradient.norm()) == pytest.approx(1, rel=0.1)


def test_a_task_costs_its_adapters() -> None:
    """Two kernels of 6 x 48 cost 4 (6 + 48) numbers each, beside what has one dimension."""
    kept = taught(2).kept.under("1/")
    large = [value for value in kept.values() if value.dim() > 1]
    assert sum(value.numel() for value in large) == 2 * 4 * (6 + 48)
    assert f"{KERNEL}.original" not in kept


def test_killed_inside_a_task_it_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = taught(2)
    stopped = taught(1)
    monkeypatch.setattr("continuad.core.checkpoint.EVERY", 0.0)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.learn(TASKS[1], stop, Checkpoint(tmp_path / "half.safetensors", {}))
    resumed = taught(1)
    resumed.learn(TASKS[1], checkpoint=Checkpoint(tmp_path / "half.safetensors", {}))
    images = torch.from_numpy(TASKS[1].test.images)
    assert torch.equal(resumed.predict(images, 1).map, whole.predict(images, 1).map)


def test_flows_take_adapters() -> None:
    strategy = Adapters(FastFlow(SIZE, strides=(16,), flow_steps=2))
    strategy.budget = Budget(steps=1)
    for task in TASKS[:2]:
        strategy.learn(task)
    assert any("subnet" in name for name in strategy.base)
    assert torch.isfinite(strategy.predict(torch.from_numpy(TASKS[1].test.images), 1).map).all()


def test_where_no_layer_is_large_enough_it_is_refused() -> None:
    with pytest.raises(ContinuadError, match="smaller rank"):
        Adapters(ToyAutoencoder(), rank=6)
    with pytest.raises(ContinuadError, match="option rank is 0; allowed: a whole number, 1 to"):
        Adapters(ToyAutoencoder(), rank=0)


def test_only_matrices_large_enough_are_adapted() -> None:
    """4 (6 + 48) = 216 numbers against 288; at rank 5 there are 270, at rank 6 as many as 324."""
    strategy = taught(0, rank=5)
    assert strategy.base == {f"{KERNEL}.original", "decode.parametrizations.weight.original"}
    assert strategy.added == {
        f"{layer}.parametrizations.weight.0.{name}" for layer in ("encode.0", "decode") for name in ("u", "v")
    }
    adapters = list(strategy._adapters())
    assert [(tuple(each.u.shape), tuple(each.v.shape)) for each in adapters] == [((6, 5), (5, 48))] * 2


def test_a_matrix_of_two_dimensions_is_adapted_and_one_that_is_frozen_is_not() -> None:
    detector = ToyAutoencoder()
    detector.head, detector.still = torch.nn.Linear(20, 20), torch.nn.Linear(20, 20).requires_grad_(False)
    base = Adapters(detector).base
    assert "head.parametrizations.weight.original" in base
    assert len(base) == 3


def test_a_fresh_adapter_changes_nothing_and_learns_through_random_rows() -> None:
    one, other = LowRank(3, 8, 2), LowRank(3, 8, 2)
    one.u.data += 1
    for adapter, seed in ((one, 0), (other, 1)):
        adapter.restart(torch.Generator().manual_seed(seed))
        assert not adapter.u.any()
        assert adapter.v.any(1).all()
        assert torch.equal(adapter(torch.ones(3, 2, 4)), torch.ones(3, 2, 4))
    assert not torch.equal(one.v, other.v)
    wide = LowRank(2, 4000, 4)
    wide.restart(torch.Generator().manual_seed(0))
    assert float(wide.v.detach().norm(dim=1).mean()) == pytest.approx((4000 / 4) ** 0.25, rel=0.05)


def test_the_first_task_moves_the_base_and_later_ones_their_adapters() -> None:
    strategy = taught(0)
    for index, still, moving in ((0, strategy.added, strategy.base), (1, strategy.base, strategy.added)):
        for weight in strategy.detector.weights().values():
            weight.grad = torch.ones_like(weight)
        strategy.on_gradients()
        without = {name for name, weight in strategy.detector.weights().items() if weight.grad is None}
        assert without == still
        assert not without & moving
        if index == 0:
            strategy.learn(TASKS[0])


def test_a_later_task_starts_from_the_first_ones_own_tensors() -> None:
    strategy = taught(2)
    first = {name: value.clone() for name, value in strategy.kept.under("0/").items()}
    assert first["encode.1.weight"].ne(strategy.kept["1/encode.1.weight"]).any()
    strategy.before(TASKS[2])
    state = strategy.detector.learned()
    assert all(torch.equal(state[name], value) for name, value in first.items() if name not in strategy.added)
    assert all(not adapter.u.any() and adapter.v.any() for adapter in strategy._adapters())
    drawn = next(strategy._adapters()).v.clone()
    strategy.before(TASKS[2])
    assert torch.equal(next(strategy._adapters()).v, drawn)  # of the task's seed
