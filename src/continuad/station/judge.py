"""From pictures to verdicts, by the products of one version. It changes nothing: threads may ask at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from continuad.core.detector import Embeds
from continuad.core.types import Prediction
from continuad.errors import ContinuadError
from continuad.station.geometry import Geometry
from continuad.station.inference import Near, ProductInference
from continuad.station.pictures import Shot
from continuad.station.taught import Taught
from continuad.station.teach import look_backbone
from continuad.strategies._pooled import pooled

GOOD, DEFECTIVE, UNKNOWN = "good", "defective", "unknown"
AT_ONCE = 16  # pictures that pass the backbone together
SCHEMA = 1  # of `Inspection.plain`


@dataclass(frozen=True)
class Inspection:
    """What the station says of one picture.

    Attributes:
        file: the picture's path, or what it is called by.
        content: hash of its pixels.
        product: the product it was taken for, or that was given; of an unknown picture the nearest one.
        verdict: "good", "defective", or "unknown": farther from the nearest product than its pictures may lie.
        score: higher is more anomalous, on the product's own scale. threshold: above which it is defective.
        confidence: in [0, 1], 0.5 at the threshold, see `Calibration.confidence`.
        seconds: that the verdict took, decoding included.
        version: of the station.
        nearest: the two nearest products and how far the picture lies from each, where 1 is as far as a picture of that
            product may lie; empty where the product was given.
        map: (H, W) float32 anomaly map in the picture's own size. mask: (H, W) bool, where it is defective.
        features: (C,) float32 pooled features.
        rgb: the picture.
    """

    file: str
    content: str
    product: str
    verdict: str
    score: float
    threshold: float
    confidence: float
    seconds: float
    version: int
    nearest: tuple[Near, ...]
    map: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    features: np.ndarray = field(repr=False)
    rgb: Image.Image = field(repr=False)

    def plain(self) -> dict[str, Any]:
        """One line of `inspect --json`: values that JSON holds, schema 1."""
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in ("file", "product", "verdict", "score", "threshold")},
            **{name: getattr(self, name) for name in ("confidence", "seconds", "version")},
            "nearest": [{"product": near.product, "distance": near.distance} for near in self.nearest],
        }


@dataclass(frozen=True)
class Looked:
    """Pictures as the working images of one geometry, and what the shared backbone answers to them."""

    images: Tensor
    levels: list[Tensor]
    features: Tensor


class Judge:
    """The products of one version, ready to be asked.

    Args:
        products: in the order they were taught. version: the station's.
    """

    def __init__(self, products: Sequence[Taught], version: int):
        self.products = {taught.name: taught for taught in products}
        self.version = version
        geometries = dict.fromkeys(taught.record.geometry for taught in products)
        self.inferences = {
            geometry: ProductInference({one.name: one.look for one in products if one.record.geometry == geometry})
            for geometry in geometries
        }

    def taught(self, product: str) -> Taught:
        """A product by its name.

        Raises:
            ContinuadError: there is none of that name.
        """
        if product not in self.products:
            known = ", ".join(self.products) or "none"
            raise ContinuadError(f"there is no product '{product}' in this station; there are {known}")
        return self.products[product]

    def bits(self, product: str | None) -> int:
        """White level to decode a picture with: the product's, or the one that all products share.

        Raises:
            ContinuadError: products differ in it and none is named.
        """
        asked = [self.taught(product)] if product is not None else list(self.products.values())
        levels = {taught.record.bits or 16 for taught in asked}
        if len(levels) > 1:
            raise ContinuadError("the products were taught with pictures of different white levels; name the product")
        return levels.pop() if levels else 16

    def inspect(self, shots: Iterable[Shot], product: str | None = None) -> Iterator[Inspection]:
        """Verdicts in the order of the pictures.

        Args:
            product: the one they show, if it is known; then nothing is inferred and nothing is unknown.

        Raises:
            ContinuadError: nothing was taught yet, or no such product.
        """
        if not self.products:
            raise ContinuadError("the station knows no product yet; teach it one with `continuad learn`")
        given = None if product is None else self.taught(product)
        waiting = _timed(shots)
        while some := list(islice(waiting, AT_ONCE)):
            yield from self._some([shot for shot, _ in some], [spent for _, spent in some], given)

    def _some(self, shots: list[Shot], spent: list[float], given: Taught | None) -> list[Inspection]:
        began = time.perf_counter()
        looked = {
            geometry: look(geometry, shots) for geometry in ([given.record.geometry] if given else self.inferences)
        }
        nearest = [()] * len(shots) if given else self._nearest(looked)
        taught = [given or self.products[near[0].product] for near in nearest]
        found: dict[int, tuple[Prediction, int]] = {}
        for name in dict.fromkeys(one.name for one in taught):
            at = [i for i, one in enumerate(taught) if one.name == name]
            prediction = _predict(self.products[name], looked[self.products[name].record.geometry], at)
            found |= {i: (prediction, place) for place, i in enumerate(at)}
        each = (time.perf_counter() - began) / len(shots)
        inspections = []
        for i, shot in enumerate(shots):
            features = looked[taught[i].record.geometry].features[i].numpy()
            about = {"seconds": spent[i] + each, "version": self.version, "nearest": nearest[i], "features": features}
            inspections.append(_verdict(shot, taught[i], *found[i], about))
        return inspections

    def _nearest(self, looked: Mapping[Geometry, Looked]) -> list[tuple[Near, ...]]:
        """The two nearest products of each picture, whatever their geometries."""
        rows = [inference.nearest(looked[geometry].features) for geometry, inference in self.inferences.items()]
        return [tuple(sorted(chain(*row), key=lambda near: near.distance)[:2]) for row in zip(*rows, strict=True)]


def look(geometry: Geometry, shots: Sequence[Shot]) -> Looked:
    """Pass pictures through the shared backbone."""
    images = torch.from_numpy(np.stack([geometry.apply(shot.rgb) for shot in shots]))
    with torch.no_grad():
        levels = look_backbone()(images)
    return Looked(images, levels, pooled(levels))


def _timed(shots: Iterable[Shot]) -> Iterator[tuple[Shot, float]]:
    """Each picture and the seconds that reading it took."""
    waiting = iter(shots)
    while True:
        began = time.perf_counter()
        shot = next(waiting, None)
        if shot is None:
            return
        yield shot, time.perf_counter() - began


def _predict(taught: Taught, looked: Looked, at: list[int]) -> Prediction:
    """A product's predictions of some of the pictures, from what the shared backbone answers if it has the same."""
    detector = taught.detector()
    with torch.no_grad():
        if isinstance(detector, Embeds) and look_backbone().answers_like(detector.embedder()):
            return detector.predict_on([level[at] for level in looked.levels])
        return detector.predict(looked.images[at])


def _verdict(shot: Shot, taught: Taught, found: Prediction, place: int, about: dict[str, Any]) -> Inspection:
    thresholds, geometry = taught.thresholds(), taught.record.geometry
    score, nearest = float(found.score[place]), about["nearest"]
    verdict = DEFECTIVE if score > thresholds.image else GOOD
    if nearest and nearest[0].distance > 1:
        verdict = UNKNOWN
    whole = geometry.back(found.map[place].numpy(), shot.size, thresholds.centre)
    mask = (whole > thresholds.pixel) & (verdict == DEFECTIVE)
    return Inspection(
        *(shot.name, shot.content, taught.name, verdict, score, thresholds.image, taught.confidence(score)),
        map=whole,
        mask=mask,
        rgb=shot.rgb,
        **about,
    )
