"""The thresholds of a model: for every task its own, and one set for everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from continuad.core.state import Stats
from continuad.core.thresholds import FalseAlarmRate, Rule, Thresholds
from continuad.core.types import Prediction
from continuad.errors import ContinuadError

ALL = "all"


class Calibration(nn.Module):
    """Thresholds set from predictions on good val images, on the scale of the detector's raw scores.

    A task keeps the thresholds it has until val images of it are at hand again.

    Attributes:
        rule: how thresholds follow from scores and maps.
        kept: (3,) float32 centre, pixel and image threshold of every task by its number, and of "all" that were
            calibrated together last.
    """

    def __init__(self, rule: Rule | None = None):
        super().__init__()
        self.rule: Rule = rule or FalseAlarmRate()
        self.kept = Stats()

    def learn(self, found: Mapping[int, Iterable[Prediction]]) -> None:
        """Set the thresholds of every task that predictions of good val images are given for, and those for all of
        these tasks together. Each prediction is made when the one before has left the device."""
        parts = {task: _collect(predictions) for task, predictions in found.items()}
        for task, (scores, maps) in parts.items():
            self.kept[str(task)] = torch.tensor(self.rule.thresholds(scores, maps))
        scores, maps = (np.concatenate(column) for column in zip(*parts.values(), strict=True))
        alone = len(parts) == 1
        self.kept[ALL] = self.kept[str(*parts)] if alone else torch.tensor(self.rule.thresholds(scores, maps))

    def thresholds(self, task: int | None = None) -> Thresholds:
        """A task's own thresholds; for None, and for a task that has none, those for everything.

        Raises:
            ContinuadError: nothing was learned yet.
        """
        if ALL not in self.kept:
            raise ContinuadError("the model is not trained yet: learn a task first")
        name = str(task) if str(task) in self.kept else ALL
        return Thresholds(*self.kept[name].tolist())


def _collect(found: Iterable[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    scores, maps = zip(*((p.score.cpu().numpy(), p.map.cpu().numpy()) for p in found), strict=True)
    return np.concatenate(scores), np.concatenate(maps)
