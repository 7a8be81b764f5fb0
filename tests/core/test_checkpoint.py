"""Killed in the middle of a task and started again: the same rows and the same weights, to the bit."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from toys import SIZE, ToyAutoencoder, stream

from continuad.benchmark.folder import HALF
from continuad.benchmark.run import run
from continuad.core import checkpoint as module
from continuad.core.checkpoint import Checkpoint, Half, pack_optimiser, unpack_optimiser
from continuad.core.fit import Budget
from continuad.core.state import Stats
from continuad.core.strategy import Strategy
from continuad.errors import ContinuadError
from continuad.strategies.multitask import Multitask
from continuad.strategies.naive import Naive
from continuad.strategies.pertask import PerTask
from continuad.strategies.replay import Replay
from continuad.strategies.single import Single

TIMES = ("train_seconds", "inference_ms", "task_inference_ms_pooled", "task_inference_ms_lowest")


class NoisyAutoencoder(ToyAutoencoder):
    """Batch normalisation, dropout, noise on its input, a rate that falls and a statistic of its own."""

    def __init__(self, image_size: int | tuple[int, int] = SIZE, seed: int = 0):
        super().__init__(image_size, seed)
        self.dropout = nn.Dropout(0.2)
        self.to(memory_format=torch.channels_last)

    def step(self, images: Tensor) -> Tensor:
        x = images.float() / 255
        self.stats["images"] = torch.tensor(len(x)) + self.stats.under("").get("images", 0)
        return F.mse_loss(self.decode(self.dropout(self.encode(x + 0.1 * torch.randn_like(x)))), x)

    def validation_loss(self, images: Tensor) -> Tensor:
        x = images.float() / 255
        return F.mse_loss(self(images)[0], x)

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.weights().values(), 0.01)

    def learning_rate(self, progress: float) -> float:
        return 1 - progress


class Remembering(Naive):
    """Keeps a running sum of gradients, as a strategy that weighs weights would, and pulls by it."""

    def penalty(self, images: Tensor) -> Tensor | float:
        named = self.detector.weights().items()
        return sum((p * self.kept[k.replace(".", "_")]).sum() for k, p in named if k.replace(".", "_") in self.kept)

    def on_gradients(self) -> None:
        for name, p in self.detector.weights().items():
            key = name.replace(".", "_")
            assert p.grad is not None
            self.kept[key] = self.kept.under("").get(key, 0) + p.grad.detach()


class Killed(BaseException):
    """Not an Exception, so that nothing on the way may swallow it."""


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)


def walk(kind: type[Strategy], folder: Path, budget: Budget, **given: Any) -> tuple[pd.DataFrame, Strategy]:
    strategy = kind(NoisyAutoencoder())
    strategy.budget = budget
    rows = run(stream(2), strategy, folder, **given)
    return rows[~rows.metric.isin(TIMES)].reset_index(drop=True), strategy


def killed(kind: type[Strategy], folder: Path, budget: Budget, task: str, step: int) -> None:
    def die(what: str, done: int, total: int) -> None:
        if what == f"learning {task}" and done == step:
            raise Killed

    with pytest.raises(Killed):
        walk(kind, folder, budget, notify=die)


def untaught() -> Half:
    detector = NoisyAutoencoder()
    return Half(detector, detector.optimiser(), Stats())


def same(one: Strategy, two: Strategy) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


CASES = [
    *((kind, Budget(steps=7)) for kind in (Naive, Remembering, Replay, Multitask, Single, PerTask)),
    *((kind, Budget(epochs=4, patience=3)) for kind in (Replay, Remembering)),
]


@pytest.mark.parametrize(("task", "step"), [("zebra", 4), ("chess", 2), ("chess", 7)])
@pytest.mark.parametrize(("kind", "budget"), CASES)
def test_killed_at_a_step_ends_the_same(
    kind: type[Strategy], budget: Budget, task: str, step: int, tmp_path: Path
) -> None:
    whole = walk(kind, tmp_path / "whole", budget)
    killed(kind, tmp_path / "cut", budget, task, step)
    seen: list[int] = []

    def note(what: str, done: int, total: int) -> None:
        if what == f"learning {task}":
            seen.append(done)

    again = walk(kind, tmp_path / "cut", budget, notify=note)
    assert seen[0] == step  # the step it was killed in, which had not been written down
    pd.testing.assert_frame_equal(again[0], whole[0])
    assert same(again[1], whole[1])
    assert not (tmp_path / "cut" / HALF).exists()


def test_early_stopping_goes_on_with_what_it_knew(tmp_path: Path) -> None:
    """The best state lies before the kill, the last check after it."""

    class Worsening(NoisyAutoencoder):
        checks = 0

        def validation_loss(self, images: Tensor) -> Tensor:
            Worsening.checks += 1
            return torch.tensor(float(Worsening.checks))

    def learned(into: Path, until: int | None) -> Strategy:
        Worsening.checks = 2 if into.exists() else 0
        strategy = Naive(Worsening())
        strategy.budget = Budget(steps=90, patience=3)

        def die(done: int, total: int) -> None:
            if done == until:
                raise Killed

        with contextlib.suppress(Killed):
            assert (
                strategy.learn(stream(1)[0], die, Checkpoint(into, {"of": "this"})) == 12
            )  # an epoch is 3 steps; the first check is the best
        return strategy

    whole = learned(tmp_path / "whole.safetensors", None)
    learned(tmp_path / "cut.safetensors", 8)
    again = learned(tmp_path / "cut.safetensors", None)
    assert same(again, whole)


def test_a_damaged_checkpoint_is_logged_and_the_task_begun_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = walk(Naive, tmp_path / "whole", Budget(steps=5))
    killed(Naive, tmp_path / "cut", Budget(steps=5), "chess", 3)
    file = tmp_path / "cut" / HALF
    file.write_bytes(file.read_bytes()[:-100])
    again = walk(Naive, tmp_path / "cut", Budget(steps=5))
    assert "is damaged" in caplog.text
    pd.testing.assert_frame_equal(again[0], whole[0])
    assert same(again[1], whole[1])


def test_a_checkpoint_of_another_run_is_not_continued(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    whole = walk(Naive, tmp_path / "whole", Budget(steps=5))
    killed(Naive, tmp_path / "cut", Budget(steps=6), "zebra", 3)
    again = walk(Naive, tmp_path / "cut", Budget(steps=5))
    assert "another task or run" in caplog.text
    assert same(again[1], whole[1])


def test_time_before_the_kill_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    first = Checkpoint(tmp_path / HALF, {})
    now = 100.0
    first.keep(untaught())
    second = Checkpoint(tmp_path / HALF, {})
    now = 130.0
    second.load(half := untaught())
    second.keep(half)
    third = Checkpoint(tmp_path / HALF, {})
    third.load(half)
    assert third.earlier == 130.0


def test_a_checkpoint_holds_tensors_and_plain_values(tmp_path: Path) -> None:
    strategy = Naive(NoisyAutoencoder())
    strategy.budget = Budget(steps=3)
    strategy.learn(stream(1)[0], checkpoint=Checkpoint(tmp_path / HALF, {"of": "this"}))
    with safe_open(tmp_path / HALF, "pt") as file:
        names, header = set(file.keys()), json.loads(file.metadata()["half"])
    assert {"learned/encode.0.weight", "learned/encode.1.running_mean", "optimiser/0/exp_avg"} <= names
    assert header["step"] == 3
    assert header["identity"] == {"of": "this"}


def test_memory_formats_stay(tmp_path: Path) -> None:
    """Another layout adds up in another order, and the last bits differ."""
    strategy = Naive(NoisyAutoencoder())
    checkpoint = Checkpoint(tmp_path / HALF, {})
    strategy.learn(stream(1)[0], checkpoint=checkpoint)
    half = untaught()
    checkpoint.load(half)
    assert half.step == ToyAutoencoder.steps
    weight = half.detector.encode[0].weight  # type: ignore[index,union-attr]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert half.optimiser.state[weight]["exp_avg"].stride() == weight.stride()
    assert half.optimiser.param_groups[0]["betas"] == (0.9, 0.999)


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ContinuadError, match="cannot save the checkpoint"):
        Checkpoint(tmp_path / "file" / HALF, {}).keep(untaught())


class Plain:
    """Something half done that is no detector."""

    def __init__(self, **tensors: Tensor) -> None:
        self.tensors, self.values = tensors, {"step": 3}

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return dict(self.tensors), dict(self.values)

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.tensors, self.values = tensors, values


def test_what_shares_storage_or_lies_scattered_is_kept_all_the_same(tmp_path: Path) -> None:
    x = torch.arange(6.0).view(2, 3)
    Checkpoint(tmp_path / HALF, {}).keep(Plain(whole=x, same=x, turned=x.T, leaf=x.clone().requires_grad_()))
    Checkpoint(tmp_path / HALF, {}).load(found := Plain())
    assert {name: value.tolist() for name, value in found.tensors.items()} == {
        "whole": [[0, 1, 2], [3, 4, 5]],
        "same": [[0, 1, 2], [3, 4, 5]],
        "turned": [[0, 3], [1, 4], [2, 5]],
        "leaf": [[0, 1, 2], [3, 4, 5]],
    }
    assert found.values["step"] == 3


def test_a_checkpoint_with_other_settings_is_refused_where_it_must_not_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / HALF
    Checkpoint(file, {"rate": 1}).keep(Plain(x=torch.ones(1)))
    found = Plain()
    with pytest.raises(ContinuadError, match=f"{HALF} was begun with other settings; remove it or choose another file"):
        Checkpoint(file, {"rate": 2}, refuse_others=True).load(found)
    Checkpoint(file, {"rate": 2}).load(found)
    assert not found.tensors  # by default it is passed over
    same = Checkpoint(file, {"rate": 1}, refuse_others=True)
    same.load(found)
    assert found.tensors["x"].tolist() == [1]
    same.remove()
    assert not file.exists()
    same.remove()  # nothing is there: nothing to do
    same.load(found)
    assert found.tensors["x"].tolist() == [1]


def test_a_checkpoint_is_written_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 60.0)
    now = 5.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    checkpoint = Checkpoint(tmp_path / HALF, {})
    written = []
    for now in (10.0, 64.0, 65.0, 120.0, 125.0, 184.0):
        checkpoint.keep(Plain(x=torch.ones(1)))
        if (tmp_path / HALF).exists():
            written.append(now)
            (tmp_path / HALF).unlink()
    assert written == [65.0, 125.0]
    assert checkpoint.seconds == 184.0 - 5.0


@pytest.mark.parametrize(
    "half", [None, "{}", "[]", "7", "[" * 10**5, '{"identity": {}}', '{"identity": {}, "seconds": []}']
)
def test_a_damaged_checkpoint_leaves_what_is_there(
    half: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if half is None:
        (tmp_path / HALF).write_bytes(b"not a checkpoint")
    else:
        save_file({"x": torch.zeros(1)}, tmp_path / HALF, {"half": half})
    found = Plain(x=torch.ones(1))
    checkpoint = Checkpoint(tmp_path / HALF, {})
    checkpoint.load(found)
    assert found.tensors["x"].tolist() == [1]
    assert checkpoint.earlier == 0
    assert f"{tmp_path / HALF} is damaged" in caplog.text
    assert "the task is learned from its beginning" in caplog.text


def stepped(*, groups: int = 2) -> torch.optim.Optimizer:
    """SGD with momentum on two weights, after a step along the gradients 1 and 2."""
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    parts = [{"params": [weight]} for weight in weights] if groups == 2 else [{"params": weights}]
    optimiser = torch.optim.SGD(parts, 0.5, momentum=0.9)
    for i, weight in enumerate(weights):
        weight.grad = torch.full_like(weight, i + 1.0)
    optimiser.step()
    return optimiser


def test_an_optimiser_goes_on_with_its_memory_and_its_settings() -> None:
    old, new = stepped(), stepped()
    old.param_groups[1].update(lr=0.25, momentum=0.5)
    for state in old.state.values():
        state["momentum_buffer"] += 4
    tensors, values = pack_optimiser(old)
    unpack_optimiser(new, tensors, json.loads(json.dumps(values)))
    assert [(group["lr"], group["momentum"]) for group in new.param_groups] == [(0.5, 0.9), (0.25, 0.5)]
    assert [state["momentum_buffer"].tolist() for state in new.state.values()] == [[5, 5], [6, 6, 6]]
    assert new.param_groups[1]["params"][0] is list(new.state)[1]


def test_a_half_is_put_back_where_the_detector_is() -> None:
    """A file is read on the CPU. Shapes suffice to see where its tensors go."""

    def half(device: str) -> Half:
        detector = NoisyAutoencoder().to(device)
        return Half(detector, torch.optim.Adam(detector.weights().values()), Stats())

    old, new = half("cpu"), half("meta")
    old.detector.step(torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)).backward()  # type: ignore[union-attr]
    old.optimiser.step()
    old.kept["sum"], old.best = torch.ones(2), old.detector.learned()
    new.unpack(*old.pack())
    assert new.detector.stats["images"].device.type == "meta"
    assert new.kept["sum"].device.type == "meta"
    assert {value.device.type for value in new.best.values()} == {"meta"}
    assert new.best.keys() == old.best.keys()
    moments = [state[name] for state in new.optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert len(moments) == 2 * len(new.detector.weights())
    assert {value.device.type for value in moments} == {"meta"}


def test_an_optimiser_with_other_groups_is_not_filled_by_halves() -> None:
    tensors, values = pack_optimiser(stepped(groups=1))
    with pytest.raises(ValueError, match="zip"):
        unpack_optimiser(stepped(groups=2), tensors, values)
