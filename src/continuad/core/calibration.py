"""The thresholds of a model: for every task its own, and one set for everything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from continuad.core.state import Stats
from continuad.core.thresholds import FalseAlarmRate, Good, Rule, Thresholds
from continuad.core.types import Prediction
from continuad.errors import ContinuadError

ALL = "all"


class Calibration(nn.Module):
    """Thresholds set from predictions on good images that were not learned from, or that are predicted as if they had
    not been, on the scale of the detector's raw scores.

    A task keeps the thresholds it has until good images of it are at hand again.

    Attributes:
        rule: how thresholds follow from scores and maps.
        kept: by task number, and for "all" that were calibrated together last, "0" (3,) float32 centre, pixel and image
            threshold, and "0/images" (N,) float32 what the rule compares with that threshold, ascending, each once.
    """

    def __init__(self, rule: Rule | None = None):
        super().__init__()
        self.rule: Rule = rule or FalseAlarmRate()
        self.kept = Stats()

    def learn(self, found: Mapping[int, Iterable[Prediction]]) -> None:
        """Set the thresholds of every task that predictions of good images are given for, and those for all of these
        tasks together. Each prediction is made when the one before has left the device."""
        parts = {task: self._look(predictions) for task, predictions in found.items()}
        for task, good in parts.items():
            self._set(str(task), good)
        self._set(ALL, Good(*map(np.concatenate, zip(*parts.values(), strict=True))))

    def _look(self, predictions: Iterable[Prediction]) -> Good:
        looks = [self.rule.look(found.score.cpu().numpy(), found.map.cpu().numpy()) for found in predictions]
        return Good(*map(np.concatenate, zip(*looks, strict=True)))

    def _set(self, name: str, good: Good) -> None:
        images = np.unique(good.images.astype(np.float32))  # copies of an image promise no more than the image does
        image, _ = self.rule.image(images, self.rule.rate)
        self.kept[name] = torch.tensor([good.centres.mean(dtype=np.float64), self.rule.pixel(good), image]).float()
        self.kept[f"{name}/images"] = torch.from_numpy(images)

    def thresholds(self, task: int | None = None, rate: float | None = None) -> Thresholds:
        """A task's own thresholds; for None, and for a task that has none, those for everything.

        Args:
            rate: of false alarms, in [0, 1), in place of the rule's: the image threshold is set anew for it.

        Raises:
            ContinuadError: nothing was learned yet, or no such rate.
        """
        if rate is not None and not 0 <= rate < 1:
            raise ContinuadError(f"false alarm rate {rate} must lie in [0, 1)")
        centre, pixel, own = self.kept[self._name(task)].tolist()
        image, promised = self.rule.image(self._images(task), self.rule.rate if rate is None else rate)
        return Thresholds(centre, pixel, own if rate is None else image, promised)

    def ordinary(self, task: int | None = None) -> float:
        """Score of an ordinary good image of a task, their median: scores and maps may be different quantities, so the
        maps' centre does not serve."""
        return float(np.median(self._images(task)))

    def confidence(self, value: float, task: int | None = None) -> float:
        """How sure it is, in [0, 1], that an image of this score (or what else the rule compares) is anomalous.

        1 / (1 + exp((threshold - value) / deviation)): 0.5 at the threshold, and rising with the score. The deviation
        is that of good images, 1.4826 times the median distance from their median; one deviation beyond the threshold
        gives 0.73, three 0.95. It is a scale to read scores by and not a probability: no defect was ever seen.
        """
        good = self._images(task)
        deviation = 1.4826 * float(np.median(np.abs(good - np.median(good))))
        beyond = value - self.thresholds(task).image
        if deviation == 0:
            return 0.5 if beyond == 0 else float(beyond > 0)
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, beyond / deviation))))

    def _images(self, task: int | None) -> np.ndarray:
        return self.kept[f"{self._name(task)}/images"].cpu().numpy()

    def _name(self, task: int | None) -> str:
        if ALL not in self.kept:
            raise ContinuadError("the model is not trained yet: learn a task first")
        return str(task) if str(task) in self.kept else ALL
