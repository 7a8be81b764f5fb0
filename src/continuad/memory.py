"""Replay memory that owns its images: raw bytes, in a fixed number or as a fixed share of every task."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from continuad.data.images import ImageSet
from continuad.errors import ContinuadError
from continuad.stats import Stats
from continuad.types import Task


class Memory(nn.Module):
    """Exemplars as uint8 images (3, H, W), taken before any augmentation.

    A share of each task's exemplars comes from its held-out images and is never trained on: it calibrates
    the limits. Which images are kept is drawn at random; when shares shrink, the last drawn go first, so
    what stays is still a random sample.

    Args:
        exemplars: how many images in all tasks together, in equal shares; or "10%", which keeps that share of
            each task's good images for ever (at least one), so that memory grows with the number of tasks.
        held_out: share of them reserved for calibration.
        seed: of the draw.

    Raises:
        ContinuadError: `exemplars` is neither.
    """

    def __init__(self, exemplars: int | str, held_out: float = 0.1, seed: int = 0):
        super().__init__()
        self.percent = _percent(exemplars)
        self.exemplars, self.held_out, self.seed = exemplars, held_out, seed
        self.store = Stats()  # "images" (N, 3, H, W), "task" (N,), "held_out" (N,)

    def __len__(self) -> int:
        return len(self.store["task"]) if "task" in self.store else 0

    def add(self, task: Task) -> None:
        """Take the task's share in. A fixed number is never exceeded: the others' shares shrink."""
        shares = self._shares(task)
        images, held = self._draw(task, shares[task.index])
        parts = [(images, torch.full((len(images),), task.index), held)]
        for t in self.known():
            mine = torch.nonzero(self.store["task"] == t).flatten()[: shares[t]]
            parts.insert(-1, (self.store["images"][mine], self.store["task"][mine], self.store["held_out"][mine]))
        for name, column in zip(("images", "task", "held_out"), zip(*parts, strict=True), strict=True):
            self.store[name] = torch.cat(column)

    def _shares(self, task: Task) -> dict[int, int]:
        counts = {t: int((self.store["task"] == t).sum()) for t in self.known()}
        offered = len(task.train) + len(task.val)
        if self.percent is None:
            return equal_shares(counts | {task.index: offered}, int(self.exemplars))
        return counts | {task.index: max(1, round(offered * self.percent / 100))}

    def known(self) -> list[int]:
        """Tasks that have exemplars."""
        return sorted(set(self.store["task"].tolist())) if len(self) else []

    def part(self, held_out: bool) -> ImageSet:
        """The exemplars to train on, or those held out, as an image set."""
        images = self.store["images"][self.store["held_out"] == held_out].numpy()
        n, _, height, width = images.shape
        no = np.zeros(n, bool)
        masks = np.broadcast_to(np.zeros((), bool), (n, height, width))
        return ImageSet(images, no, masks, ~no, ("good",) * n, (), ((height, width),) * n)

    def _draw(self, task: Task, share: int) -> tuple[Tensor, Tensor]:
        """`share` images of the task in random order, interleaved so that any prefix holds both kinds."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + task.index)
        reserved = min(len(task.val), round(share * self.held_out)) if share > 1 else 0
        learned = min(len(task.train), share - reserved)
        reserved = min(len(task.val), share - learned)
        train = torch.randperm(len(task.train), generator=generator)[:learned].tolist()
        val = torch.randperm(len(task.val), generator=generator)[:reserved].tolist()
        images = [task.train.__getitems__(train).image] if train else []
        images += [task.val.__getitems__(val).image] if val else []
        if not images:
            height, width = task.train.images.shape[-2:]
            return torch.empty(0, 3, height, width, dtype=torch.uint8), torch.empty(0, dtype=torch.bool)
        held = torch.arange(learned + reserved) >= learned
        place = torch.cat([torch.linspace(0, 1, learned), torch.linspace(0, 1, reserved)])
        order = place.argsort(stable=True)
        return torch.cat(images)[order], held[order]


def _percent(exemplars: int | str) -> float | None:
    """10.0 for "10%", None for a fixed number."""
    if isinstance(exemplars, int):
        if exemplars < 1:
            raise ContinuadError(f"a memory needs at least 1 exemplar, not {exemplars}; without any, use naive")
        return None
    try:
        percent = float(exemplars.removesuffix("%")) if exemplars.endswith("%") else math.nan
    except ValueError:
        percent = math.nan
    if not 0 < percent <= 100:
        raise ContinuadError(f"exemplars '{exemplars}': give a number of images (300) or a share of each task (10%)")
    return percent


def equal_shares(available: dict[int, int], budget: int) -> dict[int, int]:
    """Split a budget so that shares differ by at most one where supplies allow and none is left unused.

    Earlier tasks get the odd ones. >>> equal_shares({0: 200, 1: 20, 2: 300}, 100)  # {0: 40, 1: 20, 2: 40}
    """
    shares: dict[int, int] = {}
    left = budget
    for position, task in enumerate(sorted(available, key=lambda t: (available[t], -t))):
        shares[task] = min(available[task], left // (len(available) - position))
        left -= shares[task]
    return shares
