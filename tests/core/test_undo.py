"""What a model was before a task comes back, whatever the task changed and however."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from toys import SIZE, ToyAutoencoder

from continuad.core.state import Stats
from continuad.core.undo import Before


class Model(nn.Module):
    """Something of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.kept = Stats()
        self.kept["mean"] = torch.tensor([1.0, 2.0])
        self.stage, self.names, self.shares = "new", ["a", "b"], {"a": 1}
        self.seen = {3}


def test_weights_that_learned_are_what_they_were() -> None:
    model = Model()
    with torch.no_grad():
        model.layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
    weight, before = model.layer.weight, Before(model)
    with torch.no_grad():
        model.layer.weight += 5
    model.layer(torch.ones(1, 2)).sum().backward()
    before.restore()
    assert model.layer.weight is weight
    assert weight.tolist() == [[1.0, 2.0]]
    assert weight.grad is None


def test_a_layer_that_was_exchanged_is_the_old_one() -> None:
    model = Model()
    layer, before = model.layer, Before(model)
    model.layer, model.other = nn.Linear(2, 9), nn.Linear(1, 1)  # type: ignore[assignment]
    before.restore()
    assert model.layer is layer
    assert not hasattr(model, "other")


def test_buffers_beside_weights_are_what_they_were() -> None:
    detector = ToyAutoencoder().train()
    before = Before(detector)
    detector.step(torch.zeros(4, 3, SIZE, SIZE, dtype=torch.uint8))
    norm = detector.encode[1]
    assert norm.num_batches_tracked.item() == 1  # type: ignore[union-attr, operator]
    before.restore()
    assert norm.num_batches_tracked.item() == 0  # type: ignore[union-attr, operator]
    assert not norm.running_mean.any()  # type: ignore[union-attr, operator]


def test_statistics_come_back_by_reference_in_their_order() -> None:
    model = Model()
    mean: Tensor = model.kept["mean"]
    model.kept["count"] = torch.tensor(7)
    before = Before(model)
    model.kept["mean"] = torch.zeros(2)
    del model.kept["count"]
    model.kept["new"] = torch.zeros(1)
    before.restore()
    assert list(model.kept) == ["mean", "count"]
    assert model.kept["mean"] is mean


def test_plain_attributes_come_back_and_new_ones_go() -> None:
    model = Model().train()
    before = Before(model)
    model.eval()
    model.stage = "half"
    model.note = "taken while learning"  # type: ignore[assignment]
    before.restore()
    assert model.stage == "new"
    assert model.training
    assert model.layer.training
    assert "note" not in vars(model)


def test_lists_dictionaries_and_sets_hold_what_they_held_and_stay_the_same_objects() -> None:
    model = Model()
    names, shares, seen = model.names, model.shares, model.seen
    before = Before(model)
    names.append("c")
    shares["a"] = 0
    model.shares = {"other": 1}
    seen |= {4}
    before.restore()
    assert (model.names, model.shares, model.seen) == (["a", "b"], {"a": 1}, {3})
    assert model.names is names
    assert model.shares is shares
    assert model.seen is seen
