"""PackNet: who owns which weights, what stays for ever, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys import ToyAutoencoder, stream

from continuad.core.checkpoint import Checkpoint
from continuad.core.fit import Budget
from continuad.core.footprint import footprint
from continuad.errors import ContinuadError
from continuad.strategies.packnet import PackNet

TASKS = stream()


def taught(tasks: int, **options: object) -> PackNet:
    strategy = PackNet(ToyAutoencoder(), **options)  # type: ignore[arg-type]
    strategy.budget = Budget(steps=8)
    for task in TASKS[:tasks]:
        strategy.learn(task)
    return strategy


def test_the_largest_free_weights_are_claimed() -> None:
    """Of 3, -4, 1 and 2 the second belongs to someone already: a share of 0.7 of three is two, 3 and 2."""
    strategy = PackNet(ToyAutoencoder(), share=0.7)
    strategy.newest = 1
    owner = torch.tensor([[-1, 0], [-1, -1]], dtype=torch.int8)
    assert strategy._claimed(torch.tensor([[3.0, -4.0], [1.0, 2.0]]), owner).tolist() == [[1, 0], [-1, 1]]


def test_shares_halve_and_nobody_owns_the_rest() -> None:
    owner = taught(3).kept["owner/encode.0.weight"]
    counts = [int((owner == t).sum()) for t in (0, 1, 2, -1)]
    assert counts == [144, 72, 36, 36]  # 6 x 3 x 4 x 4 = 288 in all


def test_an_earlier_task_stays_bit_for_bit() -> None:
    images = torch.from_numpy(TASKS[0].test.images)
    strategy = taught(1)
    before = strategy.predict(images, 0)
    mine = strategy.kept["owner/encode.0.weight"] == 0
    weights = strategy.kept["weights/encode.0.weight"][mine]
    for task in TASKS[1:]:
        strategy.learn(task)
        after = strategy.predict(images, 0)
        assert torch.equal(after.map, before.map)
        assert torch.equal(after.score, before.score)
        assert torch.equal(strategy.kept["weights/encode.0.weight"][mine], weights)


def test_a_task_builds_on_those_before_it() -> None:
    """Its own weights alone would give another answer: earlier ones are seen, later ones are not."""
    strategy = taught(2)
    shown = strategy.snapshot(1).get_parameter("encode.0.weight")
    owner = strategy.kept["owner/encode.0.weight"]
    assert (shown[owner >= 0] != 0).all()
    assert (shown[owner < 0] == 0).all()
    assert (strategy.snapshot(0).get_parameter("encode.0.weight")[owner == 1] == 0).all()


def test_it_finds_the_task_by_itself() -> None:
    strategy = taught(3, reject=None)
    for index, task in enumerate(TASKS):
        found = strategy.predict(torch.from_numpy(task.test.images))
        assert found.task is not None
        assert (found.task == index).all()


def test_its_true_cost() -> None:
    """One copy of the matrices, a byte each for the owner, and each task's own small tensors. Of task inference: mean,
    variance and 12 + 4 images in 176 features, and a count. Thresholds: three numbers and the scores of 4 images."""
    two, three = footprint(taught(2)).additional, footprint(taught(3)).additional
    matrices = sum(w.numel() for w in ToyAutoencoder().weights().values() if w.dim() > 1)
    task_inference, small, thresholds = 4 * (2 + 16) * 176 + 8, 4 * (5 * 6 + 3) + 8 + 1, 4 * (3 + 4)
    assert (three - two) * 1e6 == pytest.approx(task_inference + small + thresholds)
    assert two * 1e6 == pytest.approx(5 * matrices + 2 * (task_inference + small + thresholds) + thresholds)


def test_early_stopping_is_refused() -> None:
    strategy = PackNet(ToyAutoencoder())
    assert strategy.budget == Budget()
    strategy.budget = Budget(steps=8)
    with pytest.raises(ContinuadError, match="packnet prunes at half of the steps and cannot stop early"):
        strategy.budget = Budget(steps=8, patience=1)
    assert strategy.budget == Budget(steps=8)
    with pytest.raises(ContinuadError, match="share"):
        PackNet(ToyAutoencoder(), share=0.0)


@pytest.mark.parametrize("stop_at", [2, 6])
def test_killed_before_or_after_pruning_ends_the_same(
    stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("continuad.core.checkpoint.EVERY", 0.0)
    whole, broken = taught(2), taught(1)
    checkpoint = Checkpoint(tmp_path / "half.safetensors", {})

    def stop(done: int, _: int) -> None:
        if done == stop_at + 1:  # the checkpoint is written after this call
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.learn(TASKS[1], stop, checkpoint)
    broken.learn(TASKS[1], checkpoint=checkpoint)
    images = torch.from_numpy(TASKS[1].test.images)
    assert torch.equal(whole.predict(images, 1).map, broken.predict(images, 1).map)
    assert torch.equal(whole.kept["owner/decode.weight"], broken.kept["owner/decode.weight"])


def prepared(steps: int) -> PackNet:
    """About to learn the first task, with all weights of the encoder's kernel at 1."""
    strategy = PackNet(ToyAutoencoder(), share=0.5)
    strategy.budget = Budget(steps=steps)
    with torch.no_grad():
        strategy.detector.get_parameter("encode.0.weight").fill_(1.0)
    strategy.before(TASKS[0])
    return strategy


@pytest.mark.parametrize(("steps", "pruned_after"), [(8, 4), (9, 4), (1, 1), (2, 1)])
def test_half_of_the_weights_are_cut_at_half_of_the_steps(steps: int, pruned_after: int) -> None:
    strategy = prepared(steps)
    weight = strategy.detector.get_parameter("encode.0.weight")
    for step in range(1, steps + 1):
        with torch.no_grad():
            weight += torch.linspace(0.5, 1, 288).view_as(weight)
        strategy.on_step()
        owner = strategy.kept["owner/encode.0.weight"]
        if step < pruned_after:
            assert (owner == -1).all()
            assert (weight != 0).all()
        else:
            assert (owner.flatten() == 0).tolist() == [False] * 144 + [True] * 144  # the largest
            assert not weight.flatten()[:144].any()
            assert (weight.flatten()[144:] > 1).all()


def test_a_step_moves_neither_earlier_tasks_weights_nor_those_that_were_cut() -> None:
    strategy = taught(1)
    strategy.budget = Budget(steps=4)
    strategy.before(TASKS[1])
    weight, owner = strategy.detector.get_parameter("encode.0.weight"), strategy.kept["owner/encode.0.weight"]
    mine, before = owner == 0, weight.detach().clone()
    assert not before[~mine].any()
    with torch.no_grad():
        weight += 1
    strategy.on_step()
    assert torch.equal(weight[mine], before[mine])
    assert (weight[~mine] == 1).all()
    for _ in range(3):
        strategy.on_step()
    claimed = strategy.kept["owner/encode.0.weight"] == 1
    assert int(claimed.sum()) == 72
    assert (weight[claimed] == 1).all()
    assert not weight[strategy.kept["owner/encode.0.weight"] == -1].any()


def test_epochs_are_halved_in_steps() -> None:
    """12 images in batches of 4 are 3 steps an epoch: 2 epochs are 6 steps, pruned after 3. By default 12 steps."""
    strategy = PackNet(ToyAutoencoder())
    strategy.budget = Budget(epochs=2)
    strategy.before(TASKS[0])
    assert strategy.prune_at == 3
    strategy.budget = Budget()
    strategy.before(TASKS[0])
    assert strategy.prune_at == 6


def test_matrices_are_owned_and_vectors_are_each_tasks_own() -> None:
    detector = ToyAutoencoder()
    detector.head = torch.nn.Linear(4, 4)
    assert set(PackNet(detector)._matrices()) == {"encode.0.weight", "decode.weight", "head.weight"}


def test_a_share_lies_above_0_and_not_above_1() -> None:
    assert PackNet(ToyAutoencoder(), share=1.0).share == 1
    for share in (0.0, -0.5, 1.1):
        with pytest.raises(ContinuadError, match=f"option share is {share}; allowed: a number, above 0 and at most 1"):
            PackNet(ToyAutoencoder(), share=share)
