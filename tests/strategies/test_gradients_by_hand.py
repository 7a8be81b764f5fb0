"""Importance, penalties, projected gradients and chosen exemplars, in numbers that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from two_weights import TwoWeights, image_set, set_weights, task

from continuad.strategies._importance import importance, own_loss, quadratic_penalty
from continuad.strategies.agem import Agem
from continuad.strategies.der import Der
from continuad.strategies.ewc import Ewc
from continuad.strategies.gem import Gem
from continuad.strategies.herding import Herding, herd
from continuad.strategies.mas import Mas


def test_importance_is_taken_from_as_many_random_images_as_asked_for() -> None:
    """The gradients of the two images are (-4, 0) and (0, -6): one of them at a time, and their mean size."""
    detector, images = TwoWeights(), image_set((1, 0, 2), (0, 1, 3))
    one = {tuple(importance(detector, images, own_loss(detector), 1, 2, seed)["w"].tolist()) for seed in range(8)}
    assert one == {(16.0, 0.0), (0.0, 36.0)}
    assert importance(detector, images, own_loss(detector), 2, 1, seed=0)["w"].tolist() == [2, 3]
    assert len({float(importance(detector, images, own_loss(detector), 1, 2, 5)["w"][0]) for _ in range(4)}) == 1


def test_the_quadratic_penalty_by_hand() -> None:
    """3 / 2 (2 (1 - 0)^2 + 5 (2 - 4)^2) = 33; nothing without strength or before the first task."""
    strategy = Ewc(TwoWeights(), strength=3.0)
    assert quadratic_penalty(strategy.detector, strategy.kept, 3.0) == 0.0
    strategy.kept["importance/w"], strategy.kept["anchor/w"] = torch.tensor([2.0, 5.0]), torch.tensor([0.0, 4.0])
    set_weights(strategy, 1, 2)
    assert strategy.penalty(torch.empty(0)).item() == 33  # type: ignore[union-attr]
    assert quadratic_penalty(strategy.detector, strategy.kept, 0.0) == 0.0


def test_a_weight_that_never_mattered_is_anchored_where_it_is() -> None:
    strategy = Ewc(TwoWeights())
    set_weights(strategy, 0, 9)
    strategy.after(task(0, (1, 0, 2)))
    assert strategy.kept["anchor/w"].tolist() == [0, 9]
    set_weights(strategy, 0, 7)
    strategy.after(task(1, (1, 0, 2)))
    assert strategy.kept["anchor/w"].tolist() == [0, 7]
    assert strategy.kept["importance/w"].tolist() == [32, 0]


def test_mas_holds_weights_where_the_newest_task_left_them() -> None:
    strategy = Mas(TwoWeights(), strength=4.0)
    for values in ((1, 2), (2, 1)):
        set_weights(strategy, *values)
        strategy.after(task(values[0], (1, 1, 0)))  # answer 3, its square has the slope 6 (1, 1)
    assert strategy.kept["anchor/w"].tolist() == [2, 1]
    set_weights(strategy, 3, 1)
    assert strategy.penalty(torch.empty(0)).item() == 4 / 2 * 12  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [Agem, Gem])
@pytest.mark.parametrize(("sample", "looked_at"), [(3, 3), (0, 2), (50, 5)])
def test_a_step_looks_at_so_many_exemplars(kind: type[Agem | Gem], sample: int, looked_at: int) -> None:
    """Or at as many as a batch has, which is 2 here, and never at more than there are."""
    seen: list[int] = []

    class Noting(TwoWeights):
        batch_size = 2

        def step(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().step(images)

    strategy = kind(Noting(), exemplars=6, sample=sample)
    strategy.memory.add(task(0, *((1, 0, 0),) * 9))  # five to look at, and one val image
    strategy.detector.w.grad = torch.tensor([-1.0, 0.0])  # type: ignore[assignment]
    strategy.on_gradients()
    assert seen == [min(looked_at, len(strategy.memory.part(val=False)))]


@pytest.mark.parametrize("kind", [Agem, Gem])
def test_without_exemplars_the_gradient_stays(kind: type[Agem | Gem]) -> None:
    strategy = kind(TwoWeights(), exemplars=2)
    strategy.detector.w.grad = torch.tensor([-1.0, 2.0])  # type: ignore[assignment]
    strategy.on_gradients()
    assert strategy.detector.w.grad.tolist() == [-1, 2]  # type: ignore[union-attr]
    assert strategy.data(task(0, (1, 0, 2)))[1] is None  # exemplars are looked at, not learned
    strategy.memory.add(task(0, (1, 0, 0)))
    assert strategy.data(task(1, (1, 0, 2)))[1] is None


def test_gem_favours_earlier_tasks_by_its_margin() -> None:
    """The exemplar's gradient at w = (1, 0) is (2, 0): without a margin (-1, 1) is
    brought to (0, 1), by half of it; a margin of 1 brings it to (1, 1)."""
    for margin, expected in ((0.0, 0.0), (0.5, 0.0), (1.0, 1.0)):
        strategy = Gem(TwoWeights(), exemplars=2, margin=margin)
        strategy.memory.add(task(0, (1, 0, 0)))
        set_weights(strategy, 1, 0)
        strategy.detector.w.grad = torch.tensor([-1.0, 1.0])  # type: ignore[assignment]
        strategy.on_gradients()
        assert strategy.detector.w.grad.tolist() == pytest.approx([expected, 1], abs=1e-5)  # type: ignore[union-attr]
    assert Gem(TwoWeights()).margin == 0.5


def test_each_next_exemplar_brings_the_mean_closest() -> None:
    """No other image left would have brought the mean of those chosen closer to the mean of all."""
    features = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    order = herd(features).tolist()
    assert sorted(order) == list(range(9))
    unit = (features / features.norm(dim=1, keepdim=True)).double()

    def apart(chosen: list[int]) -> float:
        return float((unit[chosen].mean(0) - unit.mean(0)).norm())

    for k in range(8):
        assert apart(order[: k + 1]) <= min(apart([*order[:k], other]) for other in order[k:]) + 1e-6
    assert herd(torch.tensor([[9.0, 0.0], [0.0, 1.0], [3.0, 3.0]])).tolist()[0] == 2  # lengths do not count


def test_der_asks_a_batch_of_exemplars_a_step() -> None:
    strategy = Der(TwoWeights(), exemplars=4, strength=2.0)
    assert strategy.penalty(torch.zeros(1, 3, 32, 32)) == 0.0
    set_weights(strategy, 1, 1)
    strategy.after(task(0, (1, 0, 0), (0, 2, 0), (0, 2, 0), (1, 0, 0)))
    set_weights(strategy, 2, 1)  # answers 2 and 2 where they were 1 and 2
    torch.manual_seed(0)
    found = {float(torch.as_tensor(strategy.penalty(torch.zeros(1, 3, 32, 32))).detach()) for _ in range(20)}
    assert found == {0.0, 2.0}  # one exemplar at a time


def test_gem_asks_each_task_for_the_gradient_of_its_own_exemplars() -> None:
    """At w = (1, 1) the tasks' gradients are (2, 0) and (0, 2). The step (-1, 3) disagrees with the first alone, though
    not with the mean of both."""
    strategy = Gem(TwoWeights(), exemplars=8, sample=4, margin=0.0)
    strategy.memory.add(task(0, (1, 0, 0), (1, 0, 0)))
    strategy.memory.add(task(1, (0, 1, 0), (0, 1, 0)))
    set_weights(strategy, 1, 1)
    strategy.detector.w.grad = torch.tensor([-1.0, 3.0])  # type: ignore[assignment]
    strategy.on_gradients()
    assert strategy.detector.w.grad.tolist() == pytest.approx([0, 3], abs=1e-6)  # type: ignore[union-attr]


def test_herding_keeps_what_lies_nearest_to_the_mean_whatever_the_seed() -> None:
    """Features are an image's first two pixels: the directions (1, 1) lie at the mean of all, in whatever batch."""

    class Looking(TwoWeights):
        def features(self, images: Tensor) -> Tensor:
            return images[:, 0, 0, :2].float()

    rows = [(9, 0, 1), (0, 9, 2), (9, 1, 3), (4, 4, 4), (1, 9, 5), (8, 0, 6), (0, 8, 7)]
    for seed in range(4):
        strategy = Herding(Looking(), exemplars=2, seed=seed)
        strategy.after(task(0, *rows))
        (kept,) = [part.image[:, 0, 0, :3].tolist() for part in [strategy.memory.part(val=False).__getitems__([0])]]
        assert kept == [[4, 4, 4]]
    assert herd(torch.ones(1, 2)).tolist() == [0]


@pytest.mark.parametrize("kind", [Ewc, Mas])
def test_each_task_and_seed_draws_the_images_its_importance_is_taken_from(
    kind: type[Ewc | Mas], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two images, of which each leaves the other's weight alone."""
    for module in ("ewc", "mas"):
        monkeypatch.setattr(f"continuad.strategies.{module}.SAMPLES", 1)

    def chosen(index: int, seed: int) -> list[bool]:
        strategy = kind(TwoWeights(), seed=seed)
        set_weights(strategy, 1, 1)
        strategy.after(task(index, (1, 0, 3), (0, 1, 3)))
        return [value > 0 for value in strategy.kept["importance/w"].tolist()]

    for found in ([chosen(index, 0) for index in range(8)], [chosen(0, seed) for seed in range(8)]):
        assert [True, False] in found
        assert [False, True] in found
    assert all(chosen(index, 0) == chosen(index, 0) for index in range(4))
