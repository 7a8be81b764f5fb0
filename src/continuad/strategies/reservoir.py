"""Reservoir: replay of a uniform sample of every image seen, whatever task it came from (Vitter 1985)."""

from continuad.core.detector import Detector
from continuad.core.hints import Count, Seed
from continuad.memory.codec import Coding
from continuad.memory.replay import UniformMemory
from continuad.strategies._replay import WithExemplars


class Reservoir(WithExemplars):
    """As replay, but tasks share the memory in proportion to their images: after N images each is in it with
    probability `exemplars` / N. No one has to know how many tasks or images there will be.

    Args:
        exemplars: images in all. coding: as in replay.
    """

    def __init__(self, detector: Detector, exemplars: Count = 300, seed: Seed = 0, coding: Coding = "raw"):
        super().__init__(detector, exemplars, seed, coding)

    def make_memory(self) -> UniformMemory:
        """A uniform sample."""
        return UniformMemory(self.exemplars, seed=self.seed, coding=self.coding)
