"""Which task does an image belong to, or to none of them?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from continuad.core.state import Stats
from continuad.core.types import Batch
from continuad.vision.backbones import DEFAULT, AnyBackbone, Backbone, load_backbone

NONE = -1  # the task of an image that belongs to none of the known ones
Levels = Sequence[Tensor]


class Nearest(NamedTuple):
    """Where images lie among the tasks.

    Attributes:
        task: (B,) int64, the nearest task of each image.
        distance: (B,) float32, how far it lies, where 1 is the distance of that task's farthest val image.
    """

    task: Tensor
    distance: Tensor


class PooledTaskInference(nn.Module):
    """Nearest task in globally pooled backbone features: one pass, whatever the number of tasks.

    A task is the mean of its good images' pooled features; distances are Euclidean after dividing each
    feature by its deviation within tasks, which is the mean over all tasks known at the time. What is kept of a task
    does not depend on the others: its val images' features say how far it reaches on the scale of the day.

    Args:
        backbone: its own pyramid, see `load_backbone`.
        shared: a network that may be the same; then it serves both, and one pass is enough.
    """

    def __init__(self, backbone: AnyBackbone = DEFAULT, shared: nn.Module | None = None):
        super().__init__()
        own = load_backbone(backbone)
        self.pyramid = shared if isinstance(shared, Backbone) and own.answers_like(shared) else own
        self.kept = Stats()  # "{task}/mean" (C,), "{task}/variance" (C,), "{task}/val" (N, C)

    def embed(self, images: Tensor) -> Tensor:
        """Mean of every channel over uint8 images (B, 3, H, W): (B, C)."""
        return pooled(self.pyramid(images))

    @torch.no_grad()
    def learn(self, task: int, train: Iterable[Batch], val: Iterable[Batch]) -> None:
        """Remember a task by its good images."""
        z = torch.cat([self.embed(batch.image) for batch in train]).double()
        self.kept[f"{task}/mean"] = z.mean(0).float()
        self.kept[f"{task}/variance"] = z.var(0, correction=0).float()
        self.kept[f"{task}/val"] = torch.cat([self.embed(batch.image) for batch in val])

    def known(self) -> list[int]:
        """Tasks learned, in order."""
        return sorted(int(name.split("/")[0]) for name in self.kept if name.endswith("/mean"))

    @torch.no_grad()
    def forward(self, features: Tensor) -> Nearest:
        """Of pooled features (B, C), see `embed`."""
        tasks = self.known()
        means = torch.stack([self.kept[f"{t}/mean"] for t in tasks])
        deviation = self._deviation()
        distance, nearest = torch.cdist(features / deviation, means / deviation).min(1)
        reach = torch.stack([self._reach(t, deviation) for t in tasks])
        where = torch.tensor(tasks, device=features.device)[nearest]
        return Nearest(where, distance / reach[nearest].clamp_min(1e-12))

    def _deviation(self) -> Tensor:
        variances = torch.stack([self.kept[f"{t}/variance"] for t in self.known()])
        return (variances.mean(0) + 1e-6).sqrt()

    def _reach(self, task: int, deviation: Tensor) -> Tensor:
        """How far the task's farthest val image lies from its mean."""
        return ((self.kept[f"{task}/val"] - self.kept[f"{task}/mean"]) / deviation).norm(dim=1).max()


def pooled(levels: Levels) -> Tensor:
    """Mean of every channel of all levels, (B, C)."""
    return torch.cat([level.mean((2, 3)) for level in levels], 1)
