"""Generative replay: what it draws, when, and that drawing repeats."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import ToyAutoencoder, stream

from continuad.core.fit import Budget
from continuad.core.footprint import footprint, held_bytes
from continuad.errors import ContinuadError
from continuad.models.registry import make_strategy
from continuad.models.store import load_model, save_model
from continuad.strategies.generative import DrawnImages, Generative

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
    assert sizes[2].additional - sizes[0].additional == pytest.approx(2 * (3 + 4) * 4 / 1e6)  # thresholds
    own = sum(p.numel() for p in strategy.generator.parameters()) * 4 / 1e6
    assert sizes[0].architecture == pytest.approx(own + footprint(strategy.detector).architecture)


def test_the_peak_of_learning_is_the_generators_optimiser_and_what_it_learns_from() -> None:
    """While the generator learns: the model twice (once to go back to), the generator's gradients and Adam's two
    moments and counts, and from the second task on a decoder that draws as before."""
    strategy = generative(latent=64, width=0.25)
    strategy.learn(TASKS[0])
    first, thresholds = strategy.learning_bytes, held_bytes(strategy.calibration)
    strategy.learn(TASKS[1])
    generator, trained, known = strategy.generator, 1, 8
    weights = list(generator.parameters())
    own = sum(weight.nbytes for weight in weights)
    untrained = held_bytes(generator, strategy.detector) - trained
    assert first == 2 * untrained + trained + 3 * own + 4 * len(weights)
    assert strategy.learning_bytes == first + held_bytes(generator.decoder) + trained + known + thresholds


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
    for name in ("steps", "drawn", "latent"):
        with pytest.raises(ContinuadError, match=f"option {name} is 0; allowed: a whole number, 1 to"):
            generative(**{name: 0})
    assert generative(steps=1, drawn=1, latent=1).drawn == 1


class Fixed(torch.nn.Module):
    """Draws the same three values whatever its latent numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.values = torch.nn.Parameter(torch.tensor([-0.1, 0.501, 1.2]))
        self.asked: list[torch.Tensor] = []

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        self.asked.append(latent)
        return self.values[None, :, None, None].expand(len(latent), -1, 2, 2)


def test_drawn_images_are_rounded_bytes_of_latent_numbers_of_their_own() -> None:
    decoder = Fixed()
    images = DrawnImages(decoder, 5, 6, seed=1)  # type: ignore[arg-type]
    assert len(images) == 5
    batch = images.__getitems__([4, 0, 4])
    assert batch.image.dtype == torch.uint8
    assert batch.image[:, :, 0, 0].tolist() == [[0, 128, 255]] * 3
    assert not batch.image.requires_grad
    assert not batch.mask.any()
    assert not batch.label.any()
    (latent,) = decoder.asked
    assert latent.shape == (3, 6)
    assert torch.equal(latent[0], latent[2])
    assert len({tuple(row) for row in latent.tolist()}) == 2
    DrawnImages(decoder, 5, 6, seed=2).__getitems__([4])  # type: ignore[arg-type]
    assert not torch.equal(decoder.asked[1][0], latent[0])


def test_pictures_of_the_generator_as_it_is_follow_it_and_frozen_ones_do_not() -> None:
    strategy = generative()
    now, frozen = strategy._pictures(), strategy._pictures(frozen=True)
    before = now.__getitems__([0]).image
    assert torch.equal(frozen.__getitems__([0]).image, before)
    with torch.no_grad():
        for weight in strategy.generator.decoder.parameters():
            weight += 0.5
    assert not torch.equal(now.__getitems__([0]).image, before)
    assert torch.equal(frozen.__getitems__([0]).image, before)


def test_the_generator_starts_from_its_seed_and_leaves_others_draws_alone() -> None:
    torch.manual_seed(7)
    first = generative(seed=3)
    drawn = torch.rand(2)
    torch.manual_seed(7)
    ToyAutoencoder()
    assert torch.equal(torch.rand(2), drawn)
    again, other = generative(seed=3), generative(seed=4)
    weights = [next(iter(each.generator.decoder.parameters())) for each in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_generator_takes_as_many_steps_as_asked_for_and_rests_in_evaluation_mode() -> None:
    strategy = generative(steps=5)
    sizes: list[int] = []
    real = strategy.generator.loss

    def note(x: torch.Tensor) -> torch.Tensor:
        assert strategy.generator.training
        assert 0 <= float(x.min()) <= float(x.max()) <= 1
        sizes.append(len(x))
        return real(x)

    strategy.generator.loss = note  # type: ignore[method-assign]
    strategy.after(TASKS[0])
    assert sizes == [8, 4, 8, 4, 8]  # 12 images
    assert not strategy.generator.training
    sizes.clear()
    strategy.after(TASKS[1])
    assert sizes == [16, 8, 16, 8, 16]  # as many drawn ones as new
    assert strategy.kept["tasks"].item() == 2


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


def test_each_task_and_seed_shows_the_generator_its_images_in_an_order_of_its_own() -> None:
    def first_batch(index: int, seed: int) -> torch.Tensor:
        strategy, seen = generative(steps=1, seed=seed), []
        real = strategy.generator.loss
        strategy.generator.loss = lambda x: seen.append(x) or real(x)  # type: ignore[method-assign, func-returns-value]
        strategy.after(replace(TASKS[0], index=index))
        return seen[0]

    one = first_batch(0, 0)
    assert torch.equal(first_batch(0, 0), one)
    assert not torch.equal(first_batch(1, 0), one)
    assert not torch.equal(first_batch(0, 1), one)


def test_the_generator_learns_from_drawn_latent_numbers() -> None:
    """Two looks at the same images differ by what is drawn."""
    generator = generative().generator.eval()
    x = torch.from_numpy(TASKS[0].train.images[:2]).float() / 255
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(float(generator.loss(x).detach()))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(("own", "given", "taken"), [(None, 7, 7), (4, 7, 4), (None, None, 1000)])
def test_the_generator_takes_its_own_steps_or_the_detectors_and_shows_them(
    own: int | None, given: int | None, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = generative(steps=own)
    strategy.budget = Budget(steps=given)
    if taken == 1000:  # these many would take long: a generator that learns nothing
        weight = next(strategy.generator.parameters())
        monkeypatch.setattr(strategy.generator, "loss", lambda x: 0 * weight.sum())
    seen: list[tuple[int, int]] = []
    strategy.learn(TASKS[0], lambda done, total: seen.append((done, total)))
    detectors = given or ToyAutoencoder.steps
    assert seen[:detectors] == [(i + 1, detectors) for i in range(detectors)]
    assert seen[detectors:] == [(i + 1, taken) for i in range(taken)]


def test_in_a_combination_the_generator_follows_the_whole() -> None:
    strategy = make_strategy("generative:latent=8:width=0.125+lwf", ToyAutoencoder())
    strategy.budget = Budget(steps=3)
    seen: list[tuple[int, int]] = []
    strategy.learn(TASKS[0], lambda done, total: seen.append((done, total)))
    assert seen == 2 * [(1, 3), (2, 3), (3, 3)]
    pickle.dumps(strategy)
