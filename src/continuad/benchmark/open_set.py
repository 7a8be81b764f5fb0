"""Does a model notice products that it has never learned?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from continuad.core.batches import in_order
from continuad.core.strategy import InfersTask, Strategy
from continuad.core.types import ImageSet, Task
from continuad.data.product import Product
from continuad.errors import ContinuadError
from continuad.metrics.image import image_auroc
from continuad.vision.feature_cache import FeatureStore, remembering


def refuse_learned(open_set: Iterable[Product], learned: Iterable[Product]) -> None:
    """An open_set product may not be among those learned, by whatever path.

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


def open_set_auroc(
    strategy: Strategy, known: Sequence[Task], open_set: Sequence[Task], store: FeatureStore | None = None
) -> float | None:
    """AUROC of telling good images of products never learned from all test images of known ones.

    An image is the stranger the farther it lies from its nearest known task. Images of products that were never
    learned come from train and test alike.

    Returns:
        0..1; None for a strategy that does not infer tasks, or where no known product has a test image.
    """
    seen = [task.test for task in known if len(task.test)]
    if not isinstance(strategy, InfersTask) or not seen:
        return None
    with remembering(store):
        near = _distances(strategy, seen)
        far = _distances(strategy, [images for task in open_set for images in _good(task)])
    return image_auroc(np.concatenate([near, far]), np.arange(len(near) + len(far)) >= len(near))


def _good(task: Task) -> list[ImageSet]:
    return [task.train, task.val, task.test.subset(np.flatnonzero(~task.test.labels).tolist())]


def _distances(strategy: Strategy, parts: Sequence[ImageSet]) -> np.ndarray:
    assert isinstance(strategy, InfersTask)
    detector = strategy.detector
    batches = (batch.image for part in parts for batch in in_order(part, detector.batch_size))
    return torch.cat([strategy.task_distance(images.to(detector.device)) for images in batches]).cpu().numpy()
