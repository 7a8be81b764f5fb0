"""What every detector offers without writing it itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import ToyAutoencoder, ready

from continuad.core.detector import Detector, distance_of, features_of
from continuad.core.types import Prediction
from continuad.errors import ContinuadError


class Echo(Detector):
    """Answers with the image's first two channels, and with the third at half the size."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images[:, :2].float(), images[:, 2:, ::2, ::2].float()]

    def _predict(self, images: Tensor) -> Prediction:
        return Prediction(images[:, 0, 0, 0].float(), images[:, 0].float())


class Opinionated(Echo):
    def features(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 1), 7.0)

    def distance(self, new: list[Tensor], old: list[Tensor]) -> Tensor:
        return (new[0] - old[0]).sum()


def image(*channels: float) -> Tensor:
    return torch.tensor(channels)[None, :, None, None].expand(1, -1, 32, 32).clone()


def test_images_are_compared_by_the_mean_of_each_channel_of_the_answers() -> None:
    x = image(1, 2, 3)
    x[:, 1, :, :16] = 6  # half of the channel: its mean is 4
    assert features_of(Echo(32), torch.cat([x, image(5, 0, 9)])).tolist() == [[1, 4, 3], [5, 0, 9]]
    assert features_of(Opinionated(32), x).tolist() == [[7]]


def test_the_distance_of_answers_is_the_mean_over_their_parts() -> None:
    """The parts differ by 2 and by 4 everywhere: (4 + 16) / 2, though the first has more numbers."""
    new = [torch.full((1, 2, 4, 4), 3.0), torch.full((1, 1, 2, 2), 1.0)]
    old = [torch.full((1, 2, 4, 4), 1.0), torch.full((1, 1, 2, 2), 5.0)]
    assert distance_of(Echo(32), new, old).item() == 10
    assert distance_of(Opinionated(32), new, old).item() == 2 * 32
    with pytest.raises(ValueError, match="shorter"):
        distance_of(Echo(32), new, old[:1])


def test_a_size_is_one_number_or_two_and_not_below_the_least() -> None:
    assert Echo(40).image_size == (40, 40)
    assert Echo((32, 40)).image_size == (32, 40)
    for size, named in ((31, "31 x 31"), ((40, 16), "40 x 16"), ((16, 40), "16 x 40")):
        with pytest.raises(ContinuadError, match=f"{named} is too small .* at least 32"):
            Echo(size)


def test_only_a_trained_detector_answers_and_only_for_its_size() -> None:
    with pytest.raises(ContinuadError, match="the model is not trained yet: learn a task first"):
        Echo(32).predict(image(1, 2, 3))
    detector = ready(Echo((32, 40)))
    with pytest.raises(ContinuadError, match="images are 40 x 32, but the model learned 32 x 40"):
        detector.predict(torch.zeros(1, 3, 40, 32, dtype=torch.uint8))
    assert detector.predict(torch.ones(2, 3, 32, 40, dtype=torch.uint8)).score.tolist() == [1, 1]


def test_statistics_are_forgotten_only_where_a_task_starts_again() -> None:
    for policy, left in (("restart", []), ("accumulate", ["count"]), ("freeze", ["count"])):
        detector = Echo(32)
        detector.stats["count"] = torch.tensor(3)
        detector.begin(iter(()), policy)  # type: ignore[arg-type]
        assert list(detector.stats) == left


class Parts(ToyAutoencoder):
    """Beside batch normalisation: a frozen layer, and buffers that are saved and that are not."""

    def __init__(self) -> None:
        super().__init__(32)
        self.frozen = nn.BatchNorm2d(2).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        self.stats["count"] = torch.tensor(3)


def test_what_learning_changes_is_what_is_taken_and_put_back() -> None:
    detector = Parts()
    state = detector.learned()
    own = {"scale", "seen", "stats.count"}
    norm = {f"encode.1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    kernels = {f"{layer}.{name}" for layer in ("encode.0", "decode") for name in ("weight", "bias")}
    assert state.keys() == own | norm | kernels
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        for tensor in [*detector.parameters(), *detector.buffers()]:
            if tensor is not detector.stats["count"]:
                tensor += 1
    detector.stats["count"], detector.stats["later"] = torch.tensor(5), torch.tensor(1)
    assert all(torch.equal(state[name], before[name]) for name in state)  # copies
    detector.restore(state)
    assert all(torch.equal(value, before[name]) for name, value in detector.learned().items())
    assert list(detector.stats) == ["count"]
    assert detector.stats["count"] is state["stats.count"]
    assert detector.frozen.running_mean.tolist() == [1, 1]  # type: ignore[union-attr]
    assert detector.get_buffer("scratch").item() == 1


def test_by_default_adam_learns_trainable_weights_at_a_constant_rate() -> None:
    detector = Parts()
    assert "frozen.weight" not in detector.weights()
    assert detector.weights()["scale"] is detector.scale
    optimiser = detector.optimiser()
    assert isinstance(optimiser, torch.optim.Adam)
    (group,) = optimiser.param_groups
    assert group["lr"] == 1e-3
    assert {id(p) for p in group["params"]} == {id(p) for p in detector.weights().values()}
    assert [detector.learning_rate(share) for share in (0.0, 0.5, 0.99)] == [1.0] * 3
    assert detector.to("meta").device.type == "meta"
    assert "_place" not in detector.state_dict()
