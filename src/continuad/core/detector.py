"""What every detector is: it may prepare, takes steps, finishes, calibrates, predicts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from continuad.core.hints import ImageSize, checks_values, fitted
from continuad.core.state import Policy, Stats
from continuad.core.types import Levels, Prediction
from continuad.errors import ContinuadError

TRAINED = "trained"  # the entry of `stats` that `fit` sets when a task has been learned
_EXPECTED = "expected is a tensor of uint8 (B, 3, H, W) with at least one image"


class Detector(nn.Module):
    """One anomaly detector. Its constructor is its configuration: every argument is kept under its own name.

    A detector learns by `"gradient"` (`step` returns a loss) or by `"statistics"` (`step` folds the images
    into `stats` and returns None). It never sees a task, a strategy or a loader's name. What its constructor draws
    at random comes from torch's global generator, which `make_detector` seeds.

    Subclasses implement `step`, `_predict`, and whichever of the others differ.

    Attributes:
        image_size: (H, W) it was built for.
        stats: what it learned without gradients.
        batch_size: images a step. steps: default budget of optimiser steps a task.
    """

    learns_by: ClassVar[Literal["gradient", "statistics"]] = "gradient"
    batch_size: int = 16
    steps: int = 1000
    _minimum_size: ClassVar[int] = 32

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        checks_values(cls)

    def __init__(self, image_size: ImageSize):
        super().__init__()
        if self.learns_by not in ("gradient", "statistics"):
            raise ContinuadError(f'{class_name(self)}: learns_by is {self.learns_by!r}; set "gradient" or "statistics"')
        fitted("option image_size", image_size, ImageSize)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = (height, width)
        if min(self.image_size) < self._minimum_size:
            raise ContinuadError(
                f"image size {height} x {width} is too small for this detector: height and width must be at least "
                f"{self._minimum_size}"
            )
        self.stats = Stats()
        # Follows `.to()`, so that a detector without any other tensor knows where it computes.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        place: Tensor = self.get_buffer("_place")
        return place.device

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Prepare for a task. `images` may be walked through for a first look; "restart" forgets `stats`."""
        if statistics == "restart":
            self.stats.clear()

    def step(self, images: Tensor) -> Tensor | None:
        """Learn from uint8 images (B, 3, H, W): a loss to descend, or None when they were absorbed."""
        raise NotImplementedError

    def finish(self) -> None:
        """What has to be done once after the last step, such as choosing a coreset."""

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Take what its scores are scaled by from batches of good val images (B, 3, H, W), on its device.

        Called once after `finish`. The default needs nothing.
        """

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """Score uint8 images (B, 3, H, W). It changes nothing, and no image influences another's answer.

        Raises:
            ContinuadError: nothing was learned yet, or images of another kind or size.
        """
        check_trained(self)
        check_size(self, images)
        found = self._predict(images)
        check_prediction(self, found, len(images))
        return found

    def _predict(self, images: Tensor) -> Prediction:
        """`predict` without its checks, for subclasses to implement."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> list[Tensor]:
        """The learned part's answers (B, C, ...) before scoring: what distillation should keep."""
        raise NotImplementedError

    def weights(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def optimiser(self) -> torch.optim.Optimizer:
        """Made anew for every task. Only gradient detectors have one."""
        return torch.optim.Adam(self.weights().values(), 1e-3)

    def learning_rate(self, progress: float) -> float:
        """Factor on the optimiser's initial rates when the share `progress` of the steps, in [0, 1), is done."""
        return 1.0

    def learned(self) -> dict[str, Tensor]:
        """All state that learning changes, by name. Weights are copied; statistics, never changed in place
        once `finish` has run, are shared."""
        state = {name: p.detach().clone() for name, p in self.weights().items()}
        for name, module in self.named_modules():
            prefix = f"{name}." if name else ""
            if module is self.stats:
                state |= {prefix + key: self.stats[key] for key in self.stats}
            elif any(p.requires_grad for p in module.parameters(recurse=False)):
                buffers = dict(module.named_buffers(recurse=False))
                kept = buffers.keys() - module._non_persistent_buffers_set
                state |= {prefix + key: buffers[key].clone() for key in buffers if key in kept}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what `learned` returned: weights by copy, statistics by reference."""
        self.stats.clear()
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        with torch.no_grad():
            for name, value in state.items():
                if name.startswith("stats."):
                    self.stats[name.removeprefix("stats.")] = value
                else:
                    own[name].copy_(value)


def check_trained(detector: Detector) -> None:
    """Refuse to answer before anything was learned.

    Raises:
        ContinuadError: nothing was.
    """
    if TRAINED not in detector.stats:
        raise ContinuadError("the model is not trained yet: learn a task first")


def check_size(detector: Detector, images: Tensor) -> None:
    """Refuse anything but uint8 images (B, 3, H, W), one at least, of the detector's size.

    Raises:
        ContinuadError: it is something else.
    """
    if not isinstance(images, Tensor):
        raise ContinuadError(f"images are a {type(images).__name__}; {_EXPECTED}")
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3 or not len(images):
        kind = str(images.dtype).removeprefix("torch.")
        raise ContinuadError(f"images are {kind} {tuple(images.shape)}; {_EXPECTED}")
    if tuple(images.shape[-2:]) != detector.image_size:
        given, own = tuple(images.shape[-2:]), detector.image_size
        raise ContinuadError(f"images are {given[0]} x {given[1]}, but the model learned {own[0]} x {own[1]}")


def check_prediction(detector: Detector, found: Prediction, number: int) -> None:
    """Refuse a prediction of so many images that has not a score and a map of the images' size for each.

    Raises:
        ContinuadError: it names the detector's class, which has to be mended.
    """
    wanted = {"score": (number,), "map": (number, *detector.image_size)}
    for name, shape in wanted.items():
        value = getattr(found, name, None)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ContinuadError(f"{class_name(detector)} predicts a {name} of {given}; it must be a tensor of {shape}")


def class_name(detector: Detector) -> str:
    """A detector's class as the command line takes it from elsewhere: package.module:Class."""
    kind = type(detector)
    return f"{kind.__module__}:{kind.__qualname__}"


def gives_answers(kind: type[Detector]) -> bool:
    """Whether a kind of detector, or the one inside a tiled one, has a `forward` of its own."""
    kind = getattr(kind, "kind", kind)
    return kind.forward is not Detector.forward


@runtime_checkable
class Embeds(Protocol):
    """A detector that sees an image through a frozen backbone alone.

    What the backbone answers (`Levels`) can be computed once, kept, and passed on: to task inference, to several task
    snapshots, to latent replay.
    """

    def embedder(self) -> nn.Module:
        """The frozen network behind `embed`. Whoever has the very same may pass its levels on."""

    def embed(self, images: Tensor) -> Levels:
        """The backbone's levels for uint8 images (B, 3, H, W)."""

    def step_on(self, levels: Levels) -> Tensor | None:
        """`Detector.step` on levels."""

    def predict_on(self, levels: Levels) -> Prediction:
        """`Detector.predict` on levels."""

    def calibrate_on(self, levels: Iterable[Levels]) -> None:
        """`Detector.calibrate` on the levels of batches of good val images."""


@runtime_checkable
class OutOfFold(Protocol):
    """A detector that can answer as if it had not learned some image, so that every image sets thresholds too.

    An image's owner is a number that only its copies share, see `owners_of`.
    With a class attribute `leaves_out_groups = True`, an owner may have several different images, such as a picture's
    tiles.
    """

    def step_of(self, images: Tensor, owners: Tensor) -> None:
        """`Detector.step`, remembering whose images (B, 3, H, W) these are: owners (B,) int64."""

    def predict_without(self, images: Tensor, owners: Tensor) -> Prediction:
        """`Detector.predict`, each image as if nothing of its owner (B,) had been learned."""


@runtime_checkable
class AcceptsGood(Protocol):
    """A detector that can learn single good images which it called anomalous."""

    def accept(self, images: Tensor, owners: Tensor, limit: float) -> None:
        """Learn uint8 images (B, 3, H, W) of these owners (B,) as good, so that no patch of them lies farther than
        `limit`, on the scale of scores, from what was learned."""


@runtime_checkable
class Merges(Protocol):
    """A detector with a bank of bounded size, that takes in the bank of another of its kind, and can say how well its
    bank stands for images."""

    def merge(self, state: dict[str, Tensor]) -> None:
        """Take in what another one has learned (its `learned()`) about the same product."""

    def covering(self, images: Tensor) -> Tensor:
        """(B,) the largest distance of a patch of each image from the bank."""


@runtime_checkable
class Foresees(Protocol):
    """A detector whose memory follows from the number of images, so that too little is noticed before a run."""

    def foresee(self, images: int) -> tuple[int, int]:
        """Bytes that learning a task of so many images holds at its peak, about, and bytes that it keeps."""


@runtime_checkable
class HasMoments(Protocol):
    """A detector whose state is means and covariances, so that an average over tasks has a meaning."""

    def moments(self) -> dict[str, Tensor] | None:
        """Means and covariances by name, None before the first task."""

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Replace what `moments` returned."""


@runtime_checkable
class HasFeatures(Protocol):
    """A detector with a feature space of its own in which images are compared."""

    def features(self, images: Tensor) -> Tensor:
        """(B, C) of uint8 images (B, 3, H, W)."""


@runtime_checkable
class HasDistance(Protocol):
    """A detector that says how far two answers of `forward` are apart on the scale of its loss."""

    def distance(self, new: list[Tensor], old: list[Tensor]) -> Tensor:
        """(), such that distillation of strength 1 weighs about as much as learning."""


@runtime_checkable
class HasValidationLoss(Protocol):
    """A detector whose loss on val images is not that of `step`."""

    def validation_loss(self, images: Tensor) -> Tensor:
        """The loss () on good val images (B, 3, H, W). Called in eval mode, without gradients, and with the same
        random numbers every time."""


def owners_of(images: Tensor) -> Tensor:
    """(B,) int64 on their device, from the pixels of uint8 images (B, 3, H, W): the same for copies alone."""
    digests = (hashlib.blake2b(image.numpy().tobytes(), digest_size=8).digest() for image in images.cpu())
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], device=images.device)


@torch.no_grad()
def ask(detector: Detector, images: Tensor, out_of_fold: bool) -> Prediction:
    """Predict uint8 images (B, 3, H, W); out of fold, each as if the detector had not learned it, where it has.

    Raises:
        ContinuadError: as `Detector.predict`.
    """
    if not out_of_fold:
        return detector.predict(images)
    assert isinstance(detector, OutOfFold)
    check_trained(detector)
    check_size(detector, images)
    found = detector.predict_without(images, owners_of(images))
    check_prediction(detector, found, len(images))
    return found


@torch.no_grad()
def features_of(detector: Detector, images: Tensor) -> Tensor:
    """(B, C) by which strategies compare images: the detector's own, or the mean over positions of its answers."""
    if isinstance(detector, HasFeatures):
        return detector.features(images)
    return torch.cat([answer.flatten(2).mean(2) for answer in detector(images)], 1)


def distance_of(detector: Detector, new: list[Tensor], old: list[Tensor]) -> Tensor:
    """How far two answers of `forward` are apart (): the detector's own measure, or the mean squared difference, each
    part of the answer counting the same."""
    if isinstance(detector, HasDistance):
        return detector.distance(new, old)
    return torch.stack([(a - b).square().mean() for a, b in zip(new, old, strict=True)]).mean()


def validation_loss_of(detector: Detector, images: Tensor) -> Tensor:
    """The loss () that early stopping watches: the detector's own, or that of `step`.

    Raises:
        ContinuadError: a detector that learns by statistics has none.
    """
    if isinstance(detector, HasValidationLoss):
        return detector.validation_loss(images)
    loss = detector.step(images)
    if loss is None:
        raise ContinuadError("this detector has no loss to stop early by; leave the option patience unset")
    return loss
