"""What is measured along a stream: which products are learned together, and what is known when one is tested."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from continuad.benchmark import scenario as scenarios
from continuad.benchmark.grouping import Step, group_sizes, in_steps
from continuad.core.strategy import Strategy
from continuad.core.types import Task


@dataclass(frozen=True)
class Protocol:
    """What a run measures.

    Attributes:
        scenario: one of `scenario.SCENARIOS`; "": every strategy in its own natural way.
        groups: products learned together, see `grouping.group_sizes`; "": one product a step.
        open_set: products that are never learned; it is measured whether a model notices them.
        look_ahead: products that are still to come are measured too.
    """

    scenario: str = ""
    groups: str = ""
    open_set: Sequence[Task] = ()
    look_ahead: bool = False

    def task_is_given(self, strategy: Strategy) -> bool:
        """Whether a strategy is given the true task when it is tested.

        Raises:
            ContinuadError: it takes no part in the scenario.
        """
        return scenarios.task_is_given(self.scenario, strategy)

    def steps(self, stream: Sequence[Task]) -> list[Step]:
        """The stream's products in steps.

        Raises:
            ContinuadError: `groups` does not fit the stream.
        """
        return in_steps(stream, group_sizes(self.groups, len(stream)))

    def stamp(self, stream: Sequence[Task]) -> str:
        """A text that differs wherever the stream, its order, or what is measured differs."""
        asked = {
            "scenario": self.scenario,
            "groups": self.groups,
            "open_set": stream_stamp(self.open_set) if self.open_set else "",
            "look_ahead": "yes" if self.look_ahead else "",
        }
        return " ".join([stream_stamp(stream), *(f"{name}={value}" for name, value in asked.items() if value)])


def stream_stamp(stream: Sequence[Task]) -> str:
    """A hash of all that rows depend on: names, order, pixels, labels, masks, and what is train, val and test."""
    digest = hashlib.blake2b(digest_size=16)
    for task in stream:
        for images in (task.train, task.val, task.test):
            digest.update(json.dumps([task.name, images.images.shape]).encode())
            for image in images.images:
                digest.update(image.tobytes())
            for truth in (images.labels, images.masks, images.mask_known):
                digest.update(truth.tobytes())
    return digest.hexdigest()
