"""Which task does an image belong to, or to none of them?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from continuad.core.state import Stats
from continuad.core.types import Batch, Prediction
from continuad.vision.backbones import DEFAULT, Precision, load_backbone

NONE = -1  # the task of an image that belongs to none of the known ones
Ask = Callable[[int, Tensor], Prediction]


class PooledTaskInference(nn.Module):
    """Nearest task in globally pooled backbone features: one pass, whatever the number of tasks.

    A task is the mean of its good images' pooled features; distances are Euclidean after dividing each
    feature by its deviation within tasks.

    Args:
        backbone, weights_file, precision, download: the task_inference's own pyramid, see `load_backbone` (the same
            object as the detector's where they agree, so its bytes exist once).
    """

    def __init__(
        self,
        backbone: str = DEFAULT,
        weights_file: str | None = None,
        precision: Precision = "float32",
        download: bool = False,
    ):
        super().__init__()
        self.pyramid = load_backbone(backbone, weights_file=weights_file, precision=precision, download=download)
        self.kept = Stats()  # "{task}/mean" (C,), "{task}/variance" (C,), "{task}/reach" ()

    def embed(self, images: Tensor) -> Tensor:
        """Mean of every channel over the image: (B, C)."""
        return torch.cat([level.mean((2, 3)) for level in self.pyramid(images)], 1)

    @torch.no_grad()
    def learn(self, task: int, train: Iterable[Batch], val: Iterable[Batch]) -> None:
        """Remember a task by its good images."""
        z = torch.cat([self.embed(batch.image) for batch in train]).double()
        self.kept[f"{task}/mean"] = z.mean(0).float()
        self.kept[f"{task}/variance"] = z.var(0, correction=0).float()
        held = torch.cat([self.embed(batch.image) for batch in val])
        self.kept[f"{task}/reach"] = ((held - self.kept[f"{task}/mean"]) / self._deviation()).norm(dim=1).max()

    def known(self) -> list[int]:
        """Tasks learned, in order."""
        return sorted(int(name.split("/")[0]) for name in self.kept if name.endswith("/mean"))

    def _deviation(self) -> Tensor:
        variances = torch.stack([self.kept[f"{t}/variance"] for t in self.known()])
        return (variances.mean(0) + 1e-6).sqrt()

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest task of each image, (B,) int64, and how far it lies, (B,) float32, where 1 is the
        distance of that task's farthest held-out good image."""
        tasks = self.known()
        means = torch.stack([self.kept[f"{t}/mean"] for t in tasks])
        reach = torch.stack([self.kept[f"{t}/reach"] for t in tasks])
        deviation = self._deviation()
        distance, nearest = torch.cdist(self.embed(images) / deviation, means / deviation).min(1)
        return torch.tensor(tasks, device=images.device)[nearest], distance / reach[nearest].clamp_min(1e-12)


@torch.no_grad()
def lowest_sum(tasks: Sequence[int], ask: Ask, images: Tensor) -> Tensor:
    """The thesis's rule (5.2): the task whose snapshot's map has the lowest sum. One pass per snapshot.

    Returns:
        (B,) int64 task of each image.
    """
    sums = torch.stack([ask(task, images).map.flatten(1).sum(1) for task in tasks])
    return torch.tensor(tasks, device=images.device)[sums.argmin(0)]
