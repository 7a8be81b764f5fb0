"""Replay memory that owns its images, raw or coded: a number, bytes or a share of every task."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from continuad.core.footprint import MEGABYTE
from continuad.core.state import HostStats
from continuad.core.types import Images, ImageSet, Task
from continuad.errors import ContinuadError
from continuad.memory.codec import CODINGS, CodedImages, Coding, encode

Order = Callable[[ImageSet, torch.Generator], Tensor]
"""All indices of a task's images, those to be kept in front."""


class Memory(nn.Module):
    """Exemplars as images (3, H, W), taken before any augmentation.

    A share of each task's exemplars comes from its val images and is never trained on: it calibrates
    the thresholds. Of a task that is all in one (`Task.all_in_one`), every exemplar does both. When shares shrink,
    those that `order` put last go first.

    Args:
        exemplars: how many images in all tasks together, in equal shares; or "59MB" in all, in equal shares of
            bytes; or "10%", which keeps that share of each task's good images for ever (at least one), so that
            memory grows with the number of tasks.
        val: share of them reserved for calibration.
        seed: of the draw.
        coding: "raw" pixels, or files: "png" (lossless), "webp" or "jpeg" (lossy).
        order: which images are kept; the default draws at random.

    Raises:
        ContinuadError: `exemplars` or `coding` is none of these.
    """

    def __init__(
        self,
        exemplars: int | str,
        val: float = 0.1,
        seed: int = 0,
        coding: Coding = "raw",
        order: Order | None = None,
    ):
        super().__init__()
        self.amount, self.unit = _budget(exemplars)
        if coding not in CODINGS:
            raise ContinuadError(f"coding '{coding}' is not known; use one of {', '.join(CODINGS)}")
        self.exemplars, self.val, self.seed, self.coding = exemplars, val, seed, coding
        self.order = order or _at_random
        # "files" (bytes of all,), "sizes" (N,) of each; (N,) "task", and bool what it serves: "train", "val"; "shape"
        self.store = HostStats()

    def __len__(self) -> int:
        return len(self.store["task"]) if "task" in self.store else 0

    def add(self, task: Task) -> None:
        """Keep exemplars of the task, in place of those it had. The budget is never exceeded: the other tasks' shares
        shrink."""
        files, serves = self._offer(task)
        rows = [(t, *self._rows(self.store["task"] == t)) for t in self.known() if t != task.index]
        rows = sorted([*rows, (task.index, files, serves)], key=lambda row: row[0])
        counts = self._counts({t: [len(f) for f in files] for t, files, _ in rows})
        kept = [(t, files[: counts[t]], serves[: counts[t]]) for t, files, serves in rows]
        self._put([file for _, files, _ in kept for file in files])
        self.store["task"] = torch.cat([torch.full((len(files),), t) for t, files, _ in kept])
        self.store["train"], self.store["val"] = torch.cat([serves for _, _, serves in kept]).T
        self.store["shape"] = torch.tensor(task.train[0].image.shape[-2:])

    def known(self) -> list[int]:
        """Tasks that have exemplars."""
        return sorted(set(self.store["task"].tolist())) if len(self) else []

    def part(self, val: bool, task: int | None = None) -> CodedImages:
        """The exemplars to train on, or the val ones; of one task if it is named."""
        rows = self.store["val" if val else "train"]
        if task is not None:
            rows = rows & (self.store["task"] == task)
        height, width = self.store["shape"].tolist()
        return CodedImages(self._rows(rows)[0], self.coding, (height, width))

    def replayed(self) -> CodedImages | None:
        """The exemplars to train on, if there are any."""
        return self.part(val=False) if len(self) else None

    def val_by_task(self, but: int) -> dict[int, Images]:
        """The val exemplars of each task that has any, but for one task."""
        parts = {t: self.part(val=True, task=t) for t in self.known() if t != but}
        return {t: part for t, part in parts.items() if len(part)}

    def _put(self, files: list[Tensor]) -> None:
        self.store["files"] = torch.cat(files) if files else torch.empty(0, dtype=torch.uint8)
        self.store["sizes"] = torch.tensor([len(file) for file in files], dtype=torch.int64)

    def _rows(self, chosen: Tensor) -> tuple[list[Tensor], Tensor]:
        files = self.store["files"].split(self.store["sizes"].tolist())
        serves = torch.stack([self.store["train"], self.store["val"]], 1)
        return [files[i] for i in chosen.nonzero().flatten()], serves[chosen]

    def _offer(self, task: Task) -> tuple[list[Tensor], Tensor]:
        """Files of the images that the task may keep, the first in front, and (N, 2) what each serves: train, val."""
        most = self._most(task)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + task.index)
        if task.all_in_one:
            order = self.order(task.train, generator)[:most].tolist()
            files = [encode(task.train[i].image, self.coding) for i in order]
            return files, torch.ones(len(files), 2, dtype=torch.bool)
        reserved = min(len(task.val), round(most * self.val)) if most > 1 else 0
        learned = min(len(task.train), most - reserved)
        reserved = min(len(task.val), most - learned)
        files, places = [], []
        for part, number in ((task.train, learned), (task.val, reserved)):
            order = self.order(part, generator)[:number].tolist()
            files += [encode(part[i].image, self.coding) for i in order]
            places.append(torch.linspace(0, 1, number))
        mixed = torch.cat(places).argsort(stable=True)  # any beginning holds both kinds
        return [files[i] for i in mixed], torch.stack([mixed < learned, mixed >= learned], 1)

    def _most(self, task: Task) -> int:
        """How many of a new task's images can be kept at best."""
        offered = len(task.all_good())
        if self.unit == "%":
            return max(1, round(offered * self.amount / 100))
        if self.unit == "MB":
            return offered
        known = {t: int((self.store["task"] == t).sum()) for t in self.known()}
        return equal_shares(known | {task.index: offered}, int(self.amount))[task.index]

    def _counts(self, sizes: dict[int, list[int]]) -> dict[int, int]:
        """How many of its files each task keeps."""
        if self.unit == "MB":
            shares = equal_shares({t: sum(files) for t, files in sizes.items()}, int(self.amount * MEGABYTE))
            return {t: int((torch.tensor(sizes[t]).cumsum(0) <= share).sum()) for t, share in shares.items()}
        counts = {t: len(files) for t, files in sizes.items()}
        return counts if self.unit == "%" else equal_shares(counts, int(self.amount))


class UniformMemory(Memory):
    """A uniform sample of all images seen: each gets a random key, and those with the smallest keys are kept.

    Val images of a task are kept as likely as its others.
    """

    def add(self, task: Task) -> None:
        """Let the task's images compete with those that are kept of other tasks."""
        if self.unit:
            raise ContinuadError(f"exemplars '{self.exemplars}': a uniform sample needs a number of images (300)")
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + task.index)
        joined = task.all_good()
        new = torch.rand(len(joined), generator=generator, dtype=torch.float64)
        old = self.store["key"] if len(self) else new[:0]
        others = self.store["task"] != task.index if len(self) else old < 0
        limit = torch.cat([old[others], new]).sort().values[: int(self.amount)][-1]
        stay, come = others & (old <= limit), (new <= limit).nonzero().flatten()
        learned, held = come < len(task.train), come >= (0 if task.all_in_one else len(task.train))
        files = self._rows(stay)[0] if len(self) else []
        self._put(files + [encode(joined.__getitems__([i]).image[0], self.coding) for i in come.tolist()])
        columns = {"key": new[come], "task": torch.full((len(come),), task.index)}
        columns |= {"train": learned, "val": held}
        for name, column in columns.items():
            self.store[name] = torch.cat([self.store[name][stay], column]) if name in self.store else column
        self.store["shape"] = torch.tensor(task.train[0].image.shape[-2:])


def _at_random(images: ImageSet, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(images), generator=generator)


def _budget(exemplars: int | str) -> tuple[float, str]:
    """An amount and its unit: "" for images, "MB" or "%"."""
    if isinstance(exemplars, int):
        if exemplars < 1:
            raise ContinuadError(f"a memory needs at least 1 exemplar, not {exemplars}; without any, use naive")
        return exemplars, ""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%|MB)", exemplars)
    if found is None or float(found[1]) <= 0 or (found[2] == "%" and float(found[1]) > 100):
        raise ContinuadError(
            f"exemplars '{exemplars}': give a number of images (300), megabytes (59MB) or a share of each task (10%)"
        )
    return float(found[1]), found[2]


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
