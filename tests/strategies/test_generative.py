"""Generative replay: what it draws, when, and that drawing repeats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys import ToyAutoencoder, stream

from continuad.core.fit import Budget
from continuad.core.footprint import footprint
from continuad.errors import ContinuadError
from continuad.models.store import load_model, save_model
from continuad.strategies.generative import Generative

TASKS = stream()


def generative(**options: object) -> Generative:
    small = {"drawn": 12, "steps": 4, "latent": 8, "width": 0.125} | options
    strategy = Generative(ToyAutoencoder(), **small)  # type: ignore[arg-type]
    strategy.budget = Budget(steps=3)
    return strategy


def test_nothing_is_drawn_for_the_first_task() -> None:
    strategy = generative()
    assert strategy.data(TASKS[0])[1] is None
    strategy.learn(TASKS[0])
    old = strategy.data(TASKS[1])[1]
    assert old is not None
    assert len(old) == 12
    assert old.__getitems__([0, 5]).image.shape == (2, 3, 64, 64)


def test_the_same_index_is_the_same_image() -> None:
    strategy = generative()
    strategy.learn(TASKS[0])
    old = strategy.data(TASKS[1])[1]
    assert old is not None
    a, b = old.__getitems__([3, 4]).image, old.__getitems__([4, 3]).image
    assert torch.equal(a, b.flip(0))
    assert not torch.equal(a[0], a[1])


def test_memory_is_constant_and_counted() -> None:
    strategy = generative()
    sizes = []
    for task in TASKS:
        strategy.learn(task)
        sizes.append(footprint(strategy))
    assert sizes[2].architecture == sizes[0].architecture
    assert sizes[2].additional - sizes[0].additional == pytest.approx(2 * 12 / 1e6)  # thresholds of two tasks
    own = sum(p.numel() for p in strategy.generator.parameters()) * 4 / 1e6
    assert sizes[0].architecture == pytest.approx(own + footprint(strategy.detector).architecture)


def test_it_draws_images_like_those_it_learned() -> None:
    """Closer to the mean good image of its task than to that of another."""
    strategy = generative(steps=60, width=0.25)
    strategy.learn(TASKS[0])
    old = strategy.data(TASKS[1])[1]
    assert old is not None
    drawn = old.__getitems__(list(range(12))).image.float().mean(0)
    own, other = (torch.from_numpy(TASKS[t].train.images).float().mean(0) for t in (0, 1))
    assert (drawn - own).square().mean() < (drawn - other).square().mean()


def test_a_reloaded_model_goes_on_the_same(tmp_path: Path) -> None:
    whole = generative()
    whole.learn(TASKS[0])
    save_model(whole, tmp_path)
    again, _ = load_model(tmp_path, ["toys:ToyAutoencoder"])
    for strategy in (whole, again):
        strategy.learn(TASKS[1])
    images = torch.from_numpy(TASKS[0].test.images)
    assert torch.equal(whole.predict(images).map, again.predict(images).map)


def test_refusals() -> None:
    with pytest.raises(ContinuadError, match="steps=0"):
        generative(steps=0)


def test_the_generator_learns_earlier_tasks_from_what_it_drew_before_it_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn from the generator as it is being changed, the pictures of earlier tasks would follow its drift."""
    strategy = generative(steps=6)
    strategy.learn(TASKS[0])
    pictures = strategy._pictures().__getitems__(list(range(12))).image
    seen: list[torch.Tensor] = []
    real = strategy.generator.loss

    def note(x: torch.Tensor) -> torch.Tensor:
        seen.append((255 * x).round().to(torch.uint8))
        return real(x)

    monkeypatch.setattr(strategy.generator, "loss", note)
    strategy.after(TASKS[1])
    replayed = torch.cat([batch[len(batch) // 2 :] for batch in seen[1:] if len(batch) == 16])
    assert len(replayed) >= 16
    distance = (replayed[:, None].float() - pictures[None].float()).abs().flatten(2).amax(2).amin(1)
    assert float(distance.max()) == 0
