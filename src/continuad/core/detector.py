"""What every detector is: it may prepare, takes steps, finishes, calibrates, predicts."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from continuad.core.state import Policy, Stats
from continuad.core.thresholds import FalseAlarmRate, Rule, Thresholds
from continuad.core.types import Batch, Prediction
from continuad.errors import ContinuadError


class Detector(nn.Module):
    """One anomaly detector. Its constructor is its configuration: every argument is kept under its own name.

    A detector learns by `"gradient"` (`step` returns a loss) or by `"statistics"` (`step` folds the images
    into `stats` and returns None). It never sees a task, a strategy or a loader's name.

    Attributes:
        image_size: (H, W) it was built for.
        stats: what it learned without gradients, and its thresholds ("centre", "pixel_threshold", "image_threshold").
        rule: how thresholds follow from held-out good images.
        frozen_stem: its learned part sees an image through a frozen backbone (`backbones.Backbone`) alone.
        batch_size: images a step. steps: default budget of optimiser steps a task.
    """

    learns_by: ClassVar[Literal["gradient", "statistics"]] = "gradient"
    minimum_size: ClassVar[int] = 32
    frozen_stem: ClassVar[bool] = False
    batch_size: int = 16
    steps: int = 1000

    def __init__(self, image_size: int | tuple[int, int]):
        super().__init__()
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = (height, width)
        if min(self.image_size) < self.minimum_size:
            name = type(self).__name__
            raise ContinuadError(
                f"image size {self.image_size} is too small for {name}: "
                f"height and width must be at least {self.minimum_size}"
            )
        self.stats = Stats()
        self.rule: Rule = FalseAlarmRate()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(chain(self.parameters(), self.buffers())).device

    def begin(self, images: Iterable[Tensor], statistics: Policy) -> None:
        """Prepare for a task. `images` may be walked through for a first look; "restart" forgets `stats`."""
        if statistics == "restart":
            self.stats.clear()

    def step(self, images: Tensor) -> Tensor | None:
        """Learn from uint8 images (B, 3, H, W): a loss to descend, or None when they were absorbed."""
        raise NotImplementedError

    def finish(self) -> None:
        """Whatever has to be done once after the last step."""

    def check(self, images: Tensor, name: str, learned: bool) -> None:
        """What every `predict` asks before it answers. `name`: what people call the detector.

        Raises:
            ContinuadError: nothing was learned yet, or images of another size.
        """
        if not learned:
            raise ContinuadError(f"{name} is not trained yet: learn a task first")
        if tuple(images.shape[-2:]) != self.image_size:
            raise ContinuadError(f"images are {tuple(images.shape[-2:])}, but {name} learned {self.image_size}")

    def predict(self, images: Tensor) -> Prediction:
        """Score uint8 images (B, 3, H, W); no side effects, no influence of one image on another."""
        raise NotImplementedError

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Set the thresholds from held-out good images."""
        self.set_thresholds(self.predict(batch.image.to(self.device)) for batch in batches)

    @torch.no_grad()
    def thresholds_of(self, batches: Iterable[Batch]) -> Thresholds:
        """The thresholds that held-out good images would give; those that are set stay. For one product of several."""
        return self._thresholds(self.predict(batch.image.to(self.device)) for batch in batches)

    def set_thresholds(self, found: Iterable[Prediction]) -> None:
        """Set the thresholds from predictions of good val images; each is made when the last one left the device."""
        thresholds = self._thresholds(found)
        self.stats["centre"] = torch.tensor(thresholds.centre)
        self.stats["pixel_threshold"] = torch.tensor(thresholds.pixel)
        self.stats["image_threshold"] = torch.tensor(thresholds.image)

    def _thresholds(self, found: Iterable[Prediction]) -> Thresholds:
        scores, maps = zip(*((p.score.cpu().numpy(), p.map.cpu().numpy()) for p in found), strict=True)
        return self.rule.thresholds(np.concatenate(scores), np.concatenate(maps))

    def thresholds(self) -> Thresholds:
        """The current thresholds on the scale of this detector's raw scores.

        Raises:
            ContinuadError: nothing was learned yet.
        """
        if "pixel_threshold" not in self.stats:
            raise ContinuadError(f"{type(self).__name__} is not trained yet: learn a task first")
        return Thresholds(*(float(self.stats[k]) for k in ("centre", "pixel_threshold", "image_threshold")))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The learned part's answers (B, C, ...) before scoring: what distillation should keep."""
        raise NotImplementedError

    def distance(self, new: list[Tensor], old: list[Tensor]) -> Tensor:
        """How far two answers of `forward` are apart, (), on the scale of the loss, so that distillation of strength 1
        weighs about as much as learning. Here: the mean squared difference, each part counting the same."""
        return torch.stack([(a - b).square().mean() for a, b in zip(new, old, strict=True)]).mean()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(B, C): mean over positions of all that `forward` answers; by these strategies compare images."""
        return torch.cat([answer.flatten(2).mean(2) for answer in self.forward(images)], 1)

    def moments(self) -> dict[str, Tensor] | None:
        """Means and covariances whose average over tasks has a meaning (thesis Algorithm 5.1), or None."""
        return None

    def set_moments(self, moments: dict[str, Tensor]) -> None:
        """Replace what `moments` returned."""
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

    def validation_loss(self, images: Tensor) -> Tensor:
        """The loss () on held-out good images (B, 3, H, W), for early stopping. Called in eval mode, without
        gradients, and with the same random numbers every time.

        The default is the loss of `step`: right wherever `step` changes no state.
        """
        loss = self.step(images)
        if loss is None:
            raise ContinuadError(f"{type(self).__name__} has no loss to stop early by; leave patience unset")
        return loss

    def learned(self) -> dict[str, Tensor]:
        """All state that learning changes, by name. Weights are copied; statistics, never changed in place
        once `finish` has run, are shared."""
        state = {name: p.detach().clone() for name, p in self.weights().items()}
        for name, module in self.named_modules():
            prefix = f"{name}." if name else ""
            if module is self.stats:
                state |= {prefix + key: self.stats[key] for key in self.stats}
            elif any(p.requires_grad for p in module.parameters(recurse=False)):
                state |= {prefix + key: b.clone() for key, b in module.named_buffers(recurse=False)}
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
