"""One learned state per task, in turn put into the same detector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from continuad.detector import Detector
from continuad.stats import Stats
from continuad.thresholds import Limits, standardise
from continuad.types import Prediction


class Experts(nn.Module):
    """Snapshots of a detector, one a task. Statistics are shared with the snapshot, not copied, when it is
    put back, so asking another expert costs next to nothing. Not for concurrent use on one detector."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.fresh = detector.learned()  # where every task starts from; made again from the seed on loading
        self.kept = Stats()

    def keep(self, task: int, detector: Detector) -> None:
        """Remember what the detector has just learned as that task's expert."""
        for name, value in detector.learned().items():
            self.kept[f"{task}/{name}"] = value

    def known(self) -> list[int]:
        """Tasks that have an expert, in order."""
        return sorted({int(name.split("/")[0]) for name in self.kept})

    @torch.no_grad()
    def ask(self, task: int, detector: Detector, images: Tensor) -> Prediction:
        """That expert's raw prediction."""
        detector.restore(self.kept.under(f"{task}/"))
        return detector.predict(images)


@torch.no_grad()
def one_scale(tasks: Tensor, ask: Callable[[int, Tensor], tuple[Prediction, Limits]], images: Tensor) -> Prediction:
    """Each image's prediction by its task (B,), where 0 is an ordinary good surface and 1 that task's limit."""
    score = torch.empty(len(images), device=images.device)
    anomaly_map = torch.empty(len(images), *images.shape[-2:], device=images.device)
    for task in tasks.unique().tolist():
        mine = tasks == task
        found, limits = ask(task, images if mine.all() else images[mine])
        anomaly_map[mine] = standardise(found.map, limits.centre, limits.pixel)
        score[mine] = standardise(found.score, limits.centre, limits.image)
    return Prediction(score, anomaly_map, tasks)
