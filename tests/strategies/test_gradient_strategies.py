"""Strategies that edit losses and gradients, on a detector of two weights whose numbers can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import ToyAutoencoder, stream
from two_weights import TwoWeights, image_set, set_weights, task, weights

from continuad.core.checkpoint import Checkpoint
from continuad.core.fit import Budget
from continuad.core.strategy import Strategy
from continuad.errors import ContinuadError
from continuad.models.registry import make_strategy
from continuad.models.store import load_model, save_model
from continuad.strategies._importance import importance, own_loss
from continuad.strategies.agem import Agem
from continuad.strategies.der import Der
from continuad.strategies.ewc import Ewc, EwcOnline
from continuad.strategies.gem import Gem, project
from continuad.strategies.herding import herd
from continuad.strategies.lwf import Lwf
from continuad.strategies.mas import Mas

GRADIENT = ["ewc", "ewc-online", "mas", "lwf", "der", "agem", "gem", "replay+ewc", "replay:6+lwf"]
STRONG = ["ewc:0", "ewc-online:0", "mas:0", "lwf:0"]


def test_fisher_is_the_mean_of_squared_gradients() -> None:
    """At w = 0: loss (w0 a + w1 b - y)^2 has gradient -2 y (a, b): (-4, 0) and (0, -6) for the two images."""
    detector, images = TwoWeights(), image_set((1, 0, 2), (0, 1, 3))
    found = importance(detector, images, own_loss(detector), 10, 2, seed=0)
    assert found["w"].tolist() == [16 / 2, 36 / 2]


def test_ewc_adds_the_penalties_of_two_tasks() -> None:
    """Task 0 ties w0 alone (F = 16 at w* = 0), task 1 both (F = 4 each at w* = 1): pooled 20 at 0.2, and 4 at 1."""
    strategy = Ewc(TwoWeights(), strength=2.0)
    strategy.after(task(0, (1, 0, 2)))
    set_weights(strategy, 1, 1)
    strategy.after(task(1, (1, 1, 1)))  # answer 2, right 1: gradient 2 (1, 1)
    assert strategy.kept["importance/w"].tolist() == [20, 4]
    assert strategy.kept["anchor/w"].tolist() == pytest.approx([0.2, 1])
    set_weights(strategy, 2, 3)
    energy = strategy.penalty(torch.empty(0))
    assert energy.item() == pytest.approx(20 * 1.8**2 + 4 * 2**2)  # type: ignore[union-attr]
    # the sum over tasks, 16 w0^2 + 4 (w0 - 1)^2 + 4 (w1 - 1)^2, has the same slope: 2 F (w - a), lambda/2 = 1
    (slope,) = torch.autograd.grad(energy, strategy.detector.weights()["w"])  # type: ignore[arg-type]
    assert slope.tolist() == pytest.approx([32 * 2 + 8 * 1, 8 * 2])


def test_ewc_online_decays_and_moves_its_anchor() -> None:
    strategy = EwcOnline(TwoWeights(), decay=0.5)
    strategy.after(task(0, (1, 0, 2)))
    set_weights(strategy, 1, 1)
    strategy.after(task(1, (1, 1, 1)))
    assert strategy.kept["importance/w"].tolist() == [0.5 * 16 + 4, 4]
    assert strategy.kept["anchor/w"].tolist() == [1, 1]


def test_mas_asks_how_the_answer_changes() -> None:
    """The answer's square (w0 a + w1 b)^2 at w = (1, 2), a = 1, b = 3: 49, with slope 2 * 7 * (1, 3)."""
    strategy = Mas(TwoWeights())
    set_weights(strategy, 1, 2)
    strategy.after(task(0, (1, 3, 7)))  # the loss has no slope here, and EWC would see nothing
    assert strategy.kept["importance/w"].tolist() == [14, 42]
    strategy.after(task(1, (1, 3, 7)))
    assert strategy.kept["importance/w"].tolist() == [28, 84]


def test_lwf_holds_the_old_answers_on_new_images() -> None:
    strategy = Lwf(TwoWeights(), strength=3.0)
    images = torch.from_numpy(image_set((1, 2, 0)).images)
    assert strategy.penalty(images) == 0.0
    set_weights(strategy, 1, 1)
    strategy.after(task(0, (1, 0, 2)))
    assert float(strategy.penalty(images)) == 0.0
    set_weights(strategy, 2, 3)
    assert float(strategy.penalty(images)) == 3 * (8 - 3) ** 2


def test_der_holds_the_old_answers_on_exemplars() -> None:
    strategy = Der(TwoWeights(), exemplars=2, strength=0.5)
    set_weights(strategy, 1, 1)
    strategy.after(task(0, (1, 2, 0), (1, 2, 0)))
    set_weights(strategy, 2, 3)
    assert float(strategy.penalty(torch.zeros(1, 3, 32, 32))) == 0.5 * 25


@pytest.mark.parametrize(
    ("own", "projected"),
    [([1.0, 1.0], [1.0, 1.0]), ([-1.0, 1.0], [0.0, 1.0]), ([-3.0, -1.0], [0.0, -1.0])],
)
def test_agem_takes_out_what_disagrees(own: list[float], projected: list[float]) -> None:
    """The exemplar's gradient at w = (1, 0) is 2 (1 - 0) (1, 0) = (2, 0)."""
    strategy = Agem(TwoWeights(), exemplars=2)
    strategy.memory.add(task(0, (1, 0, 0)))
    set_weights(strategy, 1, 0)
    strategy.detector.w.grad = torch.tensor(own)  # type: ignore[assignment]
    strategy.on_gradients()
    assert strategy.detector.w.grad.tolist() == projected  # type: ignore[union-attr]


def test_gem_projects_by_hand() -> None:
    """Against (1, 0) and (0, 1) the nearest to (-1, -2) is 0; against (1, 0) alone (0, -2); a margin goes further."""
    both = torch.eye(2)
    torch.testing.assert_close(project(torch.tensor([-1.0, -2.0]), both, 0.0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(project(torch.tensor([-1.0, -2.0]), both[:1], 0.0), torch.tensor([0.0, -2.0]))
    torch.testing.assert_close(project(torch.tensor([-0.2, -2.0]), both[:1], 0.5), torch.tensor([0.3, -2.0]))
    assert project(torch.tensor([1.0, 2.0]), both, 0.5).tolist() == [1.0, 2.0]


def test_gem_is_the_nearest_that_agrees_with_all() -> None:
    """Against the definition, by a general solver."""
    scipy_optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(0)
    for _ in range(5):
        g, r = rng.normal(size=6), rng.normal(size=(3, 6))
        best = scipy_optimize.minimize(
            lambda x, g=g: ((x - g) ** 2).sum(), g, constraints=[{"type": "ineq", "fun": lambda x, r=r: r @ x}]
        )
        found = project(torch.from_numpy(g), torch.from_numpy(r), 0.0).numpy()
        np.testing.assert_allclose(found, best.x, atol=1e-4)


def test_gem_asks_every_earlier_task() -> None:
    strategy = Gem(TwoWeights(), exemplars=4, margin=0.0)
    strategy.memory.add(task(0, (1, 0, 0)))
    strategy.memory.add(task(1, (0, 1, 0)))
    set_weights(strategy, 1, 1)
    strategy.detector.w.grad = torch.tensor([-1.0, -2.0])  # type: ignore[assignment]
    strategy.on_gradients()
    assert strategy.detector.w.grad.tolist() == pytest.approx([0, 0], abs=1e-6)  # type: ignore[union-attr]


def test_herding_by_hand() -> None:
    """Of four directions with the mean at about 30 degrees: first 30, then the pair whose mean lies there."""
    angles = torch.tensor([0.0, 30.0, 60.0, 30.0]).deg2rad()
    order = herd(torch.stack([angles.cos(), angles.sin()], 1)).tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert order[:2] == [1, 3]


def learned(name: str) -> Strategy:
    strategy = make_strategy(name, ToyAutoencoder())
    strategy.budget = Budget(steps=6)
    for one in stream(2):
        strategy.learn(one)
    return strategy


def equal(a: Strategy, b: Strategy) -> bool:
    return all(torch.equal(v, b.detector.learned()[k]) for k, v in a.detector.learned().items() if "stats" not in k)


@pytest.mark.parametrize("name", [*GRADIENT, "herding:6", "reservoir:6", "replay:6"])
def test_it_changes_what_is_learned(name: str) -> None:
    if name not in ("agem", "gem"):  # these act only where tasks disagree: see the next test
        assert not equal(learned(name), learned("naive"))


@pytest.mark.parametrize("name", ["agem", "gem"])
def test_where_tasks_disagree_the_first_is_spared(name: str) -> None:
    """Task 0 wants w0 + w1 = 4, task 1 wants w0 = 0: a step that lowers w0 has to raise w1 as much."""
    found = {}
    for each in (name, "naive"):
        strategy = make_strategy(each, TwoWeights())
        strategy.budget = Budget(steps=20)
        strategy.learn(task(0, (1, 1, 4), (1, 1, 4)))
        strategy.learn(task(1, (1, 0, 0)))
        found[each] = weights(strategy)
    assert sum(found["naive"]) < 2.5
    assert sum(found[name]) > 3.9


def test_the_penalty_rises_when_a_weight_moves() -> None:
    strategy = Ewc(TwoWeights())
    strategy.after(task(0, (1, 0, 2)))
    assert float(strategy.penalty(torch.empty(0))) == 0.0
    set_weights(strategy, 0.1, 0)
    assert strategy.penalty(torch.empty(0)).item() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("training", [True, False])
def test_importance_leaves_mode_and_running_statistics(training: bool) -> None:
    detector = ToyAutoencoder().train(training)
    before = {name: b.clone() for name, b in detector.named_buffers()}
    importance(detector, stream(1)[0].train, own_loss(detector), 3, 2, seed=0)
    assert detector.training is training
    assert all(torch.equal(b, before[name]) for name, b in detector.named_buffers())


def test_lwf_is_naive_on_the_first_task() -> None:
    strategies = [make_strategy(name, ToyAutoencoder()) for name in ("lwf", "naive")]
    for strategy in strategies:
        strategy.budget = Budget(steps=3)
        strategy.learn(stream(1)[0])
    assert equal(*strategies)


@pytest.mark.parametrize("name", ["lwf", "ewc", "replay:6", "agem:6", "der:6"])
def test_a_saved_model_knows_what_its_strategy_knew(name: str, tmp_path: Path) -> None:
    first, second = stream(2)
    whole = make_strategy(name, ToyAutoencoder())
    whole.budget = Budget(steps=3)
    whole.learn(first)
    save_model(whole, tmp_path)
    again, _ = load_model(tmp_path, ["toys:ToyAutoencoder"])
    for strategy in (whole, again):
        strategy.learn(second)
    assert equal(whole, again)


@pytest.mark.parametrize("name", STRONG)
def test_strength_0_is_naive_exactly(name: str) -> None:
    assert equal(learned(name), learned("naive"))


def test_der_without_strength_is_replay() -> None:
    replay, der = learned("replay:6"), make_strategy("der:6", ToyAutoencoder(), strength=0.0)
    der.budget = Budget(steps=6)
    for one in stream(2):
        der.learn(one)
    assert equal(replay, der)


def test_more_strength_keeps_weights_closer() -> None:
    def moved(name: str) -> float:
        strategy = make_strategy(name, ToyAutoencoder())
        strategy.budget = Budget(steps=6)
        first, second = stream(2)
        strategy.learn(first)
        before = {k: v.clone() for k, v in strategy.detector.weights().items()}
        strategy.learn(second)
        return sum(float((v - before[k]).square().sum()) for k, v in strategy.detector.weights().items())

    assert moved("ewc:1000000") < moved("ewc:1000") < moved("naive")


@pytest.mark.parametrize("name", [*GRADIENT, "herding:6", "reservoir:6", "generative:steps=2:width=0.0625:latent=8"])
def test_killed_in_a_task_ends_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continuad.core.checkpoint.EVERY", 0.0)
    whole = learned(name)
    broken = make_strategy(name, ToyAutoencoder())
    broken.budget = Budget(steps=6)
    first, second = stream(2)
    broken.learn(first)
    checkpoint = Checkpoint(tmp_path / "half.safetensors", {})

    def stop(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.learn(second, stop, checkpoint)
    broken.learn(second, checkpoint=checkpoint)
    assert equal(whole, broken)


def test_what_cannot_be_combined_is_refused() -> None:
    with pytest.raises(ContinuadError, match="own way to"):
        make_strategy("pertask+ewc", ToyAutoencoder())
    with pytest.raises(ContinuadError, match="only one of them"):
        make_strategy("replay:4+herding:4", ToyAutoencoder())
    with pytest.raises(ContinuadError, match="statistics"):
        make_strategy("accumulate+ewc", ToyAutoencoder())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ewc", "-1"),
        ("ewc:strength", "nan"),
        ("ewc-online:1000:decay", "7"),
        ("ewc-online:1000:decay", "-0.1"),
        ("mas", "-1"),
        ("lwf", "-1"),
        ("der:6:strength", "-1"),
        ("agem:6:sample", "-1"),
        ("gem:6:margin", "-0.5"),
        ("generative:width", "0"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: str) -> None:
    text = f"{name}={value}" if name.count(":") else f"{name}:{value}"
    with pytest.raises(ContinuadError, match=r"allowed"):
        make_strategy(text, ToyAutoencoder())
