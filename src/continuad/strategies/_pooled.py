"""Which task does an image belong to, or to none of them?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from continuad.core.hints import Range
from continuad.core.state import Stats
from continuad.core.thresholds import conformal_place
from continuad.core.types import Batch, Levels
from continuad.vision.backbones import DEFAULT, AnyBackbone, Backbone, load_backbone

Reject = Annotated[float, Range(0, 1, below=True)]
REJECT = 0.01  # default share of good images that may be taken for none of the known tasks
MARGIN = 1.5  # defects move an image away from its task, too: room for them before it is called unknown
FARTHEST = 64  # of a task's images, kept to say how far it reaches: bounds the memory


class Nearest(NamedTuple):
    """Where images lie among the tasks.

    Attributes:
        task: (B,) int64, the nearest task of each image.
        distance: (B,) float32, how far it lies, where 1 is as far as an image of that task may lie.
    """

    task: Tensor
    distance: Tensor


class PooledTaskInference(nn.Module):
    """Nearest task in globally pooled backbone features: one pass, whatever the number of tasks.

    A task is the mean of its good images' pooled features; distances are Euclidean after dividing each
    feature by its deviation within tasks, which is the mean over all tasks known at the time. A task reaches `MARGIN`
    times as far as the distance that a share `reject` of its good images exceed, each measured from the mean of the
    others (see `conformal`). What is kept of a task does not depend on the others, and its reach is found anew from it.

    Args:
        backbone: its own pyramid, see `load_backbone`.
        shared: a network that may be the same; then it serves both, and one pass is enough.
        reject: share of good images that may lie beyond their task's reach, in [0, 1).
    """

    def __init__(self, backbone: AnyBackbone = DEFAULT, shared: nn.Module | None = None, reject: float = REJECT):
        super().__init__()
        own = load_backbone(backbone)
        self.pyramid = shared if isinstance(shared, Backbone) and own.answers_like(shared) else own
        self.reject = reject
        self.kept = Stats()  # "{task}/mean" (C,), "{task}/variance" (C,), "{task}/farthest" (N, C), "{task}/count" ()

    def embed(self, images: Tensor) -> Tensor:
        """Mean of every channel over uint8 images (B, 3, H, W): (B, C)."""
        return pooled(self.pyramid(images))

    @torch.no_grad()
    def learn(self, task: int, good: Iterable[Batch]) -> None:
        """Remember a task by all its good images."""
        z = torch.cat([self.embed(batch.image) for batch in good]).double()
        mean, variance = z.mean(0), z.var(0, correction=0)
        far = ((z - mean).square() / (variance + 1e-6)).sum(1).argsort(descending=True)[:FARTHEST]
        self.kept[f"{task}/mean"] = mean.float()
        self.kept[f"{task}/variance"] = variance.float()
        self.kept[f"{task}/farthest"] = z[far].float()
        self.kept[f"{task}/count"] = torch.tensor(len(z), device=z.device)

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
        reach = reach.where(reach > 0, torch.inf)  # of a single image, or of copies, no spread is known
        where = torch.tensor(tasks, device=features.device)[nearest]
        return Nearest(where, distance / reach[nearest])

    def _deviation(self) -> Tensor:
        variances = torch.stack([self.kept[f"{t}/variance"] for t in self.known()])
        return (variances.mean(0) + 1e-6).sqrt()

    def _reach(self, task: int, deviation: Tensor) -> Tensor:
        """How far () from the task's mean an image may lie."""
        apart = ((self.kept[f"{task}/farthest"] - self.kept[f"{task}/mean"]) / deviation).norm(dim=1)
        return reach_of(apart, int(self.kept[f"{task}/count"]), self.reject)


def from_others(apart: Tensor, count: int) -> Tensor:
    """Distances from the mean of the other images, from those to the mean of all `count` images."""
    return apart * count / max(1, count - 1)


def reach_of(farthest: Tensor, count: int, rate: float) -> Tensor:
    """How far () from the mean an image may lie: `MARGIN` times the distance that a share `rate` of good images exceed.

    Args:
        farthest: (N,) distances of the images that lie farthest from the mean, of `count` in all.
    """
    place = conformal_place(count, rate) - (count - len(farthest))
    return MARGIN * from_others(farthest, count).sort().values[max(0, place - 1)]


def pooled(levels: Levels) -> Tensor:
    """Mean of every channel of all levels, (B, C)."""
    return torch.cat([level.mean((2, 3)) for level in levels], 1)
