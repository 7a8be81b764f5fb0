"""The order in which images reach a detector, and how many steps it gets."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor
from toys import ToyAutoencoder, images_of, stream

from continuad.core.batches import one_pass, steps_of
from continuad.core.detector import Detector, validation_loss_of
from continuad.core.fit import Budget, TaskImages, fit, seed_of
from continuad.core.state import Policy
from continuad.core.types import Prediction
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError, Diverged
from continuad.strategies.naive import Naive


def sizes(new: int, old: int, batch: int, steps: int) -> list[int]:
    sets = [images_of(0, n, defects=False, seed=0, size=32) if n else None for n in (new, old)]
    assert sets[0] is not None
    generator = torch.Generator().manual_seed(0)
    return [len(x) for x in steps_of(sets[0], sets[1], batch, range(steps), generator)]


def test_a_large_buffer_adds_as_many_images_a_step_as_are_new() -> None:
    assert sizes(new=10, old=200, batch=10, steps=3) == [20, 20, 20]


def test_fewer_images_than_a_batch_give_one_short_batch_an_epoch() -> None:
    assert sizes(new=3, old=0, batch=8, steps=2) == [3, 3]


def test_statistics_see_every_image_once() -> None:
    new, old = (images_of(k, n, defects=False, seed=0, size=32) for k, n in ((0, 5), (1, 3)))
    assert [len(x) for x in one_pass(new, old, 4)] == [4, 1, 3]


@pytest.mark.parametrize("images", [2, 30])
def test_budget_counts_optimiser_steps_whatever_the_amount_of_data(images: int) -> None:
    detector = ToyAutoencoder(image_size=32)
    taken = 0

    class Counting(Naive):
        def on_step(self) -> None:
            nonlocal taken
            taken += 1

        def penalty(self, images: Tensor) -> Tensor | float:
            return 0.0

    data = images_of(0, images, defects=False, seed=0, size=32)
    hooks = Counting(detector)
    steps = fit(detector, TaskImages(data, None, data), hooks, statistics="restart", seed=0, budget=Budget(steps=7))
    assert steps.steps == taken == 7


def learn(detector: ToyAutoencoder, budget: Budget, *, new: int = 10, old: int = 0) -> int:
    """Teach the detector, with 4 val images; returns the steps taken."""
    sets = [images_of(0, n, defects=False, seed=s, size=32) for s, n in enumerate((new, old, 4))]
    hooks = Naive(detector)
    return fit(detector, TaskImages(*sets), hooks, statistics="restart", seed=0, budget=budget).steps


def test_epochs_follow_the_new_images_whatever_the_buffer() -> None:
    assert learn(ToyAutoencoder(32), Budget(epochs=3), new=10) == 9  # batches of 4, 4 and 2
    assert learn(ToyAutoencoder(32), Budget(epochs=3), new=10, old=50) == 9
    assert learn(ToyAutoencoder(32), Budget()) == ToyAutoencoder.steps


def test_a_budget_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ContinuadError, match="exclude each other"):
        Budget(steps=10, epochs=1)
    for wrong in ({"steps": 0}, {"epochs": -1}, {"patience": 0}):
        with pytest.raises(ContinuadError, match="allowed: a whole number, 1 to"):
            Budget(**wrong)


class Scripted(ToyAutoencoder):
    """Its val losses are given; notes its weights at every check."""

    def __init__(self, losses: list[float]):
        super().__init__(32)
        self.losses, self.seen = list(losses), []  # type: ignore[var-annotated]

    def validation_loss(self, images: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(self.encode[0].weight.detach().clone())
        return torch.tensor(self.losses[len(self.seen) - 1])


def test_early_stopping_keeps_the_best_state_and_counts_the_steps_taken() -> None:
    detector = Scripted([3.0, 1.0, 2.0, 1.0, 0.5])
    assert learn(detector, Budget(steps=60, patience=2)) == 12  # an epoch is 3 steps; checks 3 and 4 do not improve
    assert len(detector.seen) == 4
    assert torch.equal(detector.encode[0].weight, detector.seen[1])
    assert not torch.equal(detector.encode[0].weight, detector.seen[3])


def test_early_stopping_looks_at_the_end_of_the_budget_too() -> None:
    detector = Scripted([3.0, 2.0, 1.0])
    assert learn(detector, Budget(steps=7, patience=5)) == 7
    assert torch.equal(detector.encode[0].weight, detector.seen[2])


def test_the_val_loss_is_that_of_the_step_unless_a_detector_says_otherwise() -> None:
    detector = ToyAutoencoder(32).eval()
    x = torch.from_numpy(images_of(0, 4, defects=False, seed=0, size=32).images)
    assert float(validation_loss_of(detector, x).detach()) == float(detector.step(x).detach())
    statistics = Padim(image_size=32, channels=4)
    with pytest.raises(ContinuadError, match="no loss"):
        validation_loss_of(statistics, x)


def test_the_learning_rate_follows_the_share_of_steps_done() -> None:
    class Fading(ToyAutoencoder):
        def learning_rate(self, progress: float) -> float:
            asked.append(progress)
            return 1.0 if progress < 0.5 else 0.0

    asked: list[float] = []
    faded, stopped = Fading(32), ToyAutoencoder(32)
    before = faded.encode[0].weight.detach().clone()
    learn(faded, Budget(steps=8))
    learn(stopped, Budget(steps=4))
    assert asked == [i / 8 for i in range(8)]
    assert torch.equal(faded.encode[0].weight, stopped.encode[0].weight)
    assert not torch.equal(faded.encode[0].weight, before)


def test_the_order_can_be_entered_in_the_middle() -> None:
    new, old = (images_of(k, n, defects=False, seed=0, size=32) for k, n in ((0, 7), (1, 5)))
    orders = [list(steps_of(new, old, 3, range(k, 9), torch.Generator().manual_seed(1))) for k in (0, 5)]
    assert len(orders[1]) == 4
    assert all(torch.equal(a, b) for a, b in zip(orders[0][5:], orders[1], strict=True))


def test_seeds_of_neighbours_are_unrelated() -> None:
    seeds = {seed_of(seed, task, step) for seed in range(4) for task in range(4) for step in range(4)}
    assert len(seeds) == 64
    assert seed_of(1, 2) == seed_of(1, 2)


def test_learning_lowers_the_reconstruction_error() -> None:
    data = images_of(0, 12, defects=False, seed=0)
    detector = ToyAutoencoder()
    x = torch.from_numpy(data.images)
    before = float(detector.step(x).detach())
    fit(
        detector,
        TaskImages(data, None, data),
        Naive(detector),
        statistics="restart",
        seed=0,
        budget=Budget(steps=150),
    )
    assert float(detector.predict(x).map.mean()) < 0.5 * before


class Steep(ToyAutoencoder):
    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e38)


class Lost(ToyAutoencoder):
    def step(self, images: Tensor) -> Tensor:
        return super().step(images) * float("nan")


class Hard(Naive):
    def penalty(self, images: Tensor) -> float:
        return float("inf")


@pytest.mark.parametrize(
    ("strategy", "steps", "message"),
    [
        (Naive(Lost(32)), 5, "^the loss is nan"),
        (Hard(ToyAutoencoder(32)), 5, "the penalty is inf.* lower the strategy's strength"),
        (Naive(Steep(32)), 2, "not finite|loss is"),
    ],
)
def test_a_loss_that_is_no_number_stops_learning(strategy: Naive, steps: int, message: str) -> None:
    strategy.budget = Budget(steps=steps)
    with pytest.raises(Diverged, match=message):
        strategy.learn(stream(1, size=32)[0])


class Counting(Detector):
    """Learns by statistics: notes the batches it is given and what it would draw at random."""

    learns_by, batch_size = "statistics", 4

    def __init__(self) -> None:
        super().__init__(32)
        self.sizes: list[int] = []
        self.draws: list[float] = []

    def step(self, images: Tensor) -> None:
        self.sizes.append(len(images))
        self.draws.append(float(torch.rand(())))


def test_a_statistics_detector_reports_every_batch_and_draws_anew_in_each() -> None:
    new, old = (images_of(k, n, defects=False, seed=0, size=32) for k, n in ((0, 9), (1, 5)))
    drawn = []
    for seed in (1, 1, 2):
        detector, calls = Counting(), []  # type: ignore[var-annotated]
        found = fit(
            detector,
            TaskImages(new, old, new),
            Naive(detector),
            statistics="restart",
            seed=seed,
            budget=Budget(),
            progress=lambda done, total, calls=calls: calls.append((done, total)),
        )
        assert detector.sizes == [4, 4, 1, 4, 1]
        assert found.steps == 5
        assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
        drawn.append(detector.draws)
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 10  # every batch of every task has numbers of its own


def test_every_check_draws_the_same_numbers_which_are_the_tasks_own() -> None:
    class Drawing(Scripted):
        def validation_loss(self, images: Tensor) -> Tensor:
            drawn.append(float(torch.rand(())))
            return super().validation_loss(images)

    found = []
    for seed in (0, 1):
        drawn: list[float] = []
        detector = Drawing([3.0, 2.0, 1.0])
        data = TaskImages(*(images_of(0, n, defects=False, seed=0, size=32) for n in (4, 1, 4)))
        fit(detector, data, Naive(detector), statistics="restart", seed=seed, budget=Budget(steps=3, patience=1))
        assert len(drawn) == 3
        assert len(set(drawn)) == 1
        found.append(drawn[0])
    assert found[0] != found[1]


def test_the_best_state_keeps_statistics_that_later_steps_change_in_place() -> None:
    class Tallying(Scripted):
        def begin(self, images: object, statistics: object) -> None:
            self.stats["steps"] = torch.zeros(())

        def step(self, images: Tensor) -> Tensor:
            self.stats["steps"] += 1
            return super().step(images)

    detector = Tallying([3.0, 1.0, 2.0, 2.0])
    assert learn(detector, Budget(steps=60, patience=2)) == 12
    assert float(detector.stats["steps"]) == 6  # the second check is the best: two epochs of three steps


def test_the_val_loss_is_the_mean_over_images_however_they_fall_into_batches() -> None:
    """Batches of 4 and 1 with losses 1 and 6: the mean over five images is 2, and below 2.5 of the first check."""
    detector = Scripted([2.5, 2.5, 1.0, 6.0])
    data = TaskImages(*(images_of(0, n, defects=False, seed=0, size=32) for n in (4, 1, 5)))
    budget = Budget(steps=2, patience=1)
    assert fit(detector, data, Naive(detector), statistics="restart", seed=0, budget=budget).steps == 2
    assert torch.equal(detector.encode[0].weight, detector.seen[3])  # the mean over batches, 3.5, would be no better


def test_a_first_look_walks_through_new_and_replayed_images_once() -> None:
    class Looking(Counting):
        def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
            self.looked = [batch[:, 0, 0, 0].tolist() for batch in images], statistics

    new, old = (images_of(0, n, defects=False, seed=0, size=32) for n in (5, 3))
    new.images[:], old.images[:] = 1, 2
    detector = Looking()
    data = TaskImages(new, old, new)
    fit(detector, data, Naive(detector), statistics="accumulate", seed=0, budget=Budget())
    assert detector.looked == ([[1, 1, 1, 1], [1], [2, 2, 2]], "accumulate")


def test_every_task_and_every_seed_of_a_strategy_draw_numbers_of_their_own() -> None:
    drawn = []
    for seed in (0, 0, 1):
        strategy = Naive(Counting(), seed=seed)
        strategy.detector._predict = lambda x: Prediction(x[:, 0, 0, 0].float(), x[:, 0].float())  # type: ignore
        for one in stream(2, size=32):
            strategy.learn(one)
        drawn.append(strategy.detector.draws)
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 2 * len(drawn[0]) == 12  # type: ignore[arg-type]


def test_after_the_last_step_a_detector_finishes_in_evaluation_mode_and_calibrates_on_val_images() -> None:
    """What it draws in finishing is the task's own, and other than in any step."""

    class Finishing(Counting):
        def step(self, images: Tensor) -> None:
            assert self.training
            super().step(images)

        def finish(self) -> None:
            assert not self.training
            assert "trained" not in self.stats
            self.draws.append(float(torch.rand(())))

        def calibrate(self, images: Iterable[Tensor]) -> None:
            assert self.stats["trained"].item() is True
            self.calibrated = [batch[:, 0, 0, 0].tolist() for batch in images]

    draws = []
    for seed, new in ((0, 5), (0, 9), (1, 5)):
        detector = Finishing()
        val = images_of(0, 6, defects=False, seed=0, size=32)
        val.images[:] = torch.arange(6).view(6, 1, 1, 1).numpy()
        data = TaskImages(images_of(0, new, defects=False, seed=0, size=32), None, val)
        fit(detector, data, Naive(detector), statistics="restart", seed=seed, budget=Budget())
        assert detector.calibrated == [[0, 1, 2, 3], [4, 5]]
        assert not detector.training
        assert len(set(detector.draws)) == len(detector.draws)
        draws.append(detector.draws[-1])
    assert len(set(draws)) == 3


def test_the_best_state_of_early_stopping_is_held_beside_the_rest() -> None:
    """It is one more copy of everything that learning changes."""
    held = []
    for budget in (Budget(steps=6), Budget(steps=6, patience=9)):
        detector = Scripted([3.0, 2.0])
        data = TaskImages(*(images_of(0, n, defects=False, seed=s, size=32) for s, n in enumerate((10, 1, 4))))
        held.append(fit(detector, data, Naive(detector), statistics="restart", seed=0, budget=budget).bytes)
    # the notes that `Scripted` takes of its weights are held in both cases, and counted where there were checks
    notes = sum(note.nbytes for note in detector.seen)
    assert held[1] - held[0] == notes + sum(value.nbytes for value in detector.learned().values()) - 1
