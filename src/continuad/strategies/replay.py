"""Replay: exemplars of earlier tasks are learned again beside the new images (thesis 3.1.1)."""

from continuad.core.detector import Detector
from continuad.core.hints import Count, Seed
from continuad.memory.codec import Coding
from continuad.strategies._replay import WithExemplars


class Replay(WithExemplars):
    """Images of earlier tasks, drawn at random: a fixed number or fixed bytes in all, in equal shares, or a share of
    every task. A gradient detector gets as many replayed images a step as new ones; a statistics detector starts
    again from new images and exemplars.

    Args:
        exemplars: images in all tasks together (thesis: 300 and 800; 59.0 and 157.3 MB at 256 pixels); or
            "59MB" in all; or "10%" of each task's good images: then memory grows with the number of tasks.
        coding: how they are kept: "raw", "png", "webp" or "jpeg"; see `Memory`.
    """

    def __init__(self, detector: Detector, exemplars: Count | str = 300, seed: Seed = 0, coding: Coding = "raw"):
        super().__init__(detector, exemplars, seed, coding)
