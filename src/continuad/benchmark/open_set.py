"""The open set: does a model notice products that it has never learned?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.strategy import InfersTask, Strategy
from continuad.core.types import ImageSet, Task
from continuad.data.product import Product
from continuad.errors import ContinuadError
from continuad.metrics.image import image_auroc
from continuad.vision.feature_cache import FeatureStore, remembering


def refuse_learned(open_set: Iterable[Product], learned: Iterable[Product]) -> None:
    """A product of the open set may not be among those learned, by whatever path.

    Raises:
        ContinuadError: one is.
    """
    roots = {product.root.resolve() for product in learned}
    for product in open_set:
        if product.root.resolve() in roots:
            raise ContinuadError(
                f"--open-set {product.root}: this product is learned in the stream; give one that is not, or take it "
                "out of the stream"
            )


def open_set_values(
    strategy: Strategy, learned: Sequence[Task], open_set: Sequence[Task], store: FeatureStore | None = None
) -> dict[str, float]:
    """How well the distance to the nearest task tells good images of the open set from test images of learned tasks.

    Images of the open set come from train, val and test alike, since none of them was learned.

    Returns:
        open_set_auroc, 0..1, where 1 means that every image of the open set lies farther away; and open_set_rejected,
        the share of the open set beyond the reach of every task (distance 1). Empty for a strategy that measures no
        such distance, or where no learned product has a test image.
    """
    distance = _task_distance(strategy)
    tested = [task.test for task in learned if len(task.test)]
    if distance is None or not tested:
        return {}
    unlearned = [images for task in open_set for images in _good(task)]
    with remembering(store):
        near, far = (_distances(strategy, distance, parts) for parts in (tested, unlearned))
    auroc = image_auroc(np.concatenate([near, far]), np.arange(len(near) + len(far)) >= len(near))
    return {"open_set_auroc": auroc, "open_set_rejected": float((far > 1).mean())}


def _task_distance(strategy: Strategy) -> Callable[[Tensor], Tensor] | None:
    """What gives the distance (B,) of images to their nearest task, where the strategy infers tasks."""
    return strategy.task_distance if isinstance(strategy, InfersTask) else None


def _good(task: Task) -> list[ImageSet]:
    return [task.train, task.val, task.test.subset(np.flatnonzero(~task.test.labels).tolist())]


def _distances(strategy: Strategy, distance: Callable[[Tensor], Tensor], parts: Sequence[ImageSet]) -> np.ndarray:
    detector = strategy.detector
    batches = (batch.image for part in parts for batch in in_order(part, detector.batch_size))
    return torch.cat([distance(images.to(detector.device)) for images in batches]).cpu().numpy()
