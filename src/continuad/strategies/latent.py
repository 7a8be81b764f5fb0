"""Latent replay: what a frozen backbone answered to earlier images is learned again (Pellegrini et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

import torch
from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.detector import Detector, Embeds
from continuad.core.fit import seed_of
from continuad.core.hints import STEPS_MOST, Range, Seed
from continuad.core.strategy import Strategy
from continuad.core.types import Images, Levels, Prediction, Task
from continuad.memory.replay import equal_shares

VAL_SHARE = 0.1  # share of a task's exemplars that sets thresholds and is not learned


class Latent(Strategy):
    """Keeps feature maps in half precision instead of images, so that replay needs no pass through the backbone.
    A step adds the detector's loss on as many kept exemplars as there are new images; statistics add up over tasks.

    Only for detectors that see an image through a frozen backbone alone. It saves time rather than memory: at 256
    pixels an image weighs 0.20 MB, its features 0.18 (cflow) or 0.34 MB (cfa, fastflow).

    Args:
        exemplars: in all tasks together, in equal shares.
    """

    needs_gradients = True
    statistics = "accumulate"

    def __init__(self, detector: Detector, exemplars: Annotated[int, Range(2, STEPS_MOST)] = 300, seed: Seed = 0):
        super().__init__(detector, seed)
        self.exemplars = exemplars

    @classmethod
    def refuses(cls, detector: type[Detector]) -> str | None:
        """Detectors that train on pixels, or keep no frozen backbone."""
        if not issubclass(detector, Embeds):
            return "the strategy keeps a frozen backbone's features, and the detector learns from more than those"
        return super().refuses(detector)

    def penalty(self, images: Tensor) -> Tensor | float:
        """The detector's loss on random exemplars of the tasks before."""
        kept = [self.kept.under(f"learned/{task}/") for task in self._known()]
        if not kept:
            return 0.0
        owners = torch.cat([torch.full((len(part["0"]),), i) for i, part in enumerate(kept)])
        chosen = owners[torch.randperm(len(owners))[: len(images)]].bincount(minlength=len(kept)).tolist()
        rows = [torch.randperm(len(part["0"]))[:n] for part, n in zip(kept, chosen, strict=True)]
        levels = [torch.cat([part[name][at] for part, at in zip(kept, rows, strict=True)]) for name in kept[0]]
        loss = self._embeds().step_on(_whole(levels))
        assert loss is not None
        return loss

    @torch.no_grad()
    def after(self, task: Task) -> None:
        """Take exemplars of the task, let the others' shares shrink, and calibrate on the val features of all."""
        available = {t: (self._count("learned", t), self._count("val", t)) for t in self._known()}
        available[task.index] = len(task.train), len(task.val)
        for t, share in equal_shares({t: sum(both) for t, both in available.items()}, self.exemplars).items():
            held = max(1, round(VAL_SHARE * share), share - available[t][0])
            for part, images, most in (("learned", task.train, share - held), ("val", task.val, held)):
                if t == task.index:
                    self._take(part, t, images, most)
                else:
                    self._cut(part, t, most)
        self._embeds().calibrate_on(self._val_levels(task))

    def _take(self, part: str, task: int, images: Images, most: int) -> None:
        generator = torch.Generator().manual_seed(seed_of(self.seed, task))
        chosen = torch.randperm(len(images), generator=generator)[:most].tolist()
        size = self.detector.batch_size
        batches = [images.__getitems__(chosen[i : i + size]).image for i in range(0, len(chosen), size)]
        found = [self._embeds().embed(batch.to(self.detector.device)) for batch in batches]
        for number, levels in enumerate(zip(*found, strict=True)):
            self.kept[f"{part}/{task}/{number}"] = torch.cat(levels).half()

    def _cut(self, part: str, task: int, most: int) -> None:
        for name, level in self.kept.under(f"{part}/{task}/").items():
            self.kept[f"{part}/{task}/{name}"] = level[:most].clone()

    def _val_predictions(self, val: Mapping[int, Images]) -> dict[int, Iterable[Prediction]]:
        """Of the val images given, and of the earlier tasks' kept val features."""
        earlier = (t for t in self._known() if t not in val)
        return super()._val_predictions(val) | {t: self._kept_predictions(t) for t in earlier}

    def _kept_predictions(self, task: int) -> Iterator[Prediction]:
        yield self._embeds().predict_on(self._kept_val(task))

    def _val_levels(self, task: Task) -> Iterator[Levels]:
        """Levels of the task's val images, and those kept of the tasks before."""
        for batch in in_order(task.val, self.detector.batch_size):
            yield self._embeds().embed(batch.image.to(self.detector.device))
        for earlier in self._known():
            if earlier != task.index:
                yield self._kept_val(earlier)

    def _kept_val(self, task: int) -> Levels:
        return _whole(list(self.kept.under(f"val/{task}/").values()))

    def _embeds(self) -> Embeds:
        assert isinstance(self.detector, Embeds)
        return self.detector

    def _known(self) -> list[int]:
        return sorted({int(name.split("/")[1]) for name in self.kept})

    def _count(self, part: str, task: int) -> int:
        return len(next(iter(self.kept.under(f"{part}/{task}/").values())))


def _whole(levels: Levels) -> Levels:
    """In the precision that detectors compute in."""
    return [level.float() for level in levels]
