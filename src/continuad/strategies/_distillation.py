"""What a detector answered before it learned on, and how far its answers have moved since."""

from __future__ import annotations

import torch
from torch import Tensor

from continuad.core.detector import Detector, distance_of
from continuad.core.state import Stats
from continuad.strategies._passes import evaluating
from continuad.strategies._snapshots import light_view


def keep_answers(detector: Detector, kept: Stats) -> None:
    """Remember what the detector answers now: its weights, since answers are larger than images. Statistics follow
    the newest task and are left out. They lie in memory as a file gives them back: another layout rounds otherwise.
    """
    for name, value in detector.learned().items():
        if not name.startswith("stats."):
            kept[f"old/{name}"] = value.contiguous()


def moved_answers(detector: Detector, kept: Stats, images: Tensor) -> Tensor:
    """The detector's distance () of its answers on images from those `keep_answers` remembered."""
    before = answers(detector, kept.under("old/"), images)
    with evaluating(detector):
        return distance_of(detector, detector(images), before)


def answers(detector: Detector, state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """What the detector would answer with the weights of another time, in evaluation mode, no gradient."""
    statistics = {f"stats.{name}": detector.stats[name] for name in detector.stats}
    with torch.no_grad():
        found: list[Tensor] = light_view(detector, state | statistics)(images)
        return found
