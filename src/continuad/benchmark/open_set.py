"""Does a model notice products that it has never learned?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from continuad.core.batches import in_order
from continuad.core.strategy import Strategy
from continuad.core.types import ImageSet, Task
from continuad.data.product import Product
from continuad.errors import ContinuadError
from continuad.metrics.image import image_auroc
from continuad.strategies._routing import PooledRouter
from continuad.vision.feature_cache import FeatureStore, remembering


def refuse_learned(unknown: Iterable[Product], learned: Iterable[Product]) -> None:
    """An unknown product may not be among those learned, by whatever path.

    Raises:
        ContinuadError: one is.
    """
    roots = {product.root.resolve() for product in learned}
    for product in unknown:
        if product.root.resolve() in roots:
            raise ContinuadError(
                f"--unknown {product.root}: this product is learned in the stream; give one that is not, or take it "
                "out of the stream"
            )


def unknown_auroc(
    strategy: Strategy, known: Sequence[Task], unknown: Sequence[Task], store: FeatureStore | None = None
) -> float | None:
    """AUROC of telling good images of unknown products from all test images of known ones.

    An image is the stranger the farther it lies from its nearest known task, by the strategy's pooled router. Images
    of the unknown products come from train and test alike, since none was learned.

    Returns:
        0..1; None for a strategy without a pooled router, or where no known product has a test image.
    """
    router = next((module for module in strategy.modules() if isinstance(module, PooledRouter)), None)
    seen = [task.test for task in known if len(task.test)]
    if router is None or not seen:
        return None
    with remembering(store):
        near = _distances(strategy, router, seen)
        far = _distances(strategy, router, [images for task in unknown for images in _good(task)])
    return image_auroc(np.concatenate([near, far]), np.arange(len(near) + len(far)) >= len(near))


def _good(task: Task) -> list[ImageSet]:
    return [task.train, task.val, task.test.subset(np.flatnonzero(~task.test.labels).tolist())]


def _distances(strategy: Strategy, router: PooledRouter, parts: Sequence[ImageSet]) -> np.ndarray:
    detector = strategy.detector
    batches = (batch.image for part in parts for batch in in_order(part, detector.batch_size))
    return torch.cat([router(images.to(detector.device))[1] for images in batches]).cpu().numpy()
