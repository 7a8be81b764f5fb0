"""From pictures to verdicts, by the products of one version. It changes nothing: threads may ask at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from continuad.core.detector import Embeds
from continuad.core.thresholds import Thresholds
from continuad.core.types import Prediction
from continuad.data.names import printable
from continuad.errors import ContinuadError
from continuad.station.geometry import Geometry
from continuad.station.inference import Near, ProductInference
from continuad.station.pictures import Shot
from continuad.station.taught import Record, Taught
from continuad.station.teach import look_backbone
from continuad.strategies._pooled import pooled

GOOD, DEFECTIVE, UNKNOWN = "good", "defective", "unknown"
AT_ONCE = 16  # pictures that pass the backbone together
PIXELS = 50 * 10**6  # of pictures that are held together, about
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
        scale: the product's thresholds, by which the map is coloured.
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
    scale: Thresholds = field(repr=False)

    def plain(self) -> dict[str, Any]:
        """One line of `inspect --json`: values that JSON holds, schema 1."""
        return {
            "schema": SCHEMA,
            "file": printable(self.file),
            **{name: getattr(self, name) for name in ("product", "verdict", "score", "threshold")},
            **{name: getattr(self, name) for name in ("confidence", "seconds", "version")},
            "nearest": [{"product": near.product, "distance": near.distance} for near in self.nearest],
        }


class View(NamedTuple):
    """How a product's pictures become working images: its geometry, and the white level they are decoded with."""

    geometry: Geometry
    bits: int

    @classmethod
    def of(cls, record: Record) -> View:
        """A product's."""
        return cls(record.geometry, record.bits or 16)


@dataclass(frozen=True)
class Looked:
    """Pictures as the working images of one view, and what the shared backbone answers to them."""

    images: Tensor
    levels: list[Tensor]
    features: Tensor


class Judge:
    """The products of one version, ready to be asked.

    Args:
        products: in the order they were taught. version: the station's.
        damaged: why a product of this version cannot be asked, by its name.
    """

    def __init__(self, products: Sequence[Taught], version: int, damaged: Mapping[str, ContinuadError] | None = None):
        self.products = {taught.name: taught for taught in products}
        self.version = version
        self.damaged = dict(damaged or {})
        views = dict.fromkeys(View.of(taught.record) for taught in products)
        self.inferences = {
            view: ProductInference({one.name: one.look for one in products if View.of(one.record) == view})
            for view in views
        }

    def whole(self, but: str | None = None) -> list[Taught]:
        """All products, or all but one.

        Raises:
            ContinuadError: one of them is damaged.
        """
        for name, error in self.damaged.items():
            if name != but:
                raise ContinuadError(f"{name} cannot be used: {error}") from error
        return [taught for name, taught in self.products.items() if name != but]

    def taught(self, product: str) -> Taught:
        """A product by its name.

        Raises:
            ContinuadError: there is none of that name, or it is damaged.
        """
        if product in self.damaged:
            raise ContinuadError(f"{product} cannot be used: {self.damaged[product]}")
        if product not in self.products:
            known = ", ".join([*self.products, *self.damaged]) or "none"
            raise ContinuadError(f"there is no product '{product}' in this station; there are {known}")
        return self.products[product]

    def views(self, product: str | None) -> list[View]:
        """The view of a product, or those of all of them.

        Raises:
            ContinuadError: nothing was taught yet, no such product, or one that would be needed is damaged.
        """
        if product is not None:
            return [View.of(self.taught(product).record)]
        if not self.whole():
            raise ContinuadError("the station knows no product yet; teach it one with `continuad learn`")
        return list(self.inferences)

    def inspect(self, shots: Iterable[Shot], product: str | None = None) -> Iterator[list[Inspection]]:
        """Verdicts in the order of the pictures, some at a time: as many as pass the backbone together.

        Args:
            shots: decoded with the white levels of `views`.
            product: the one they show, if it is known; then nothing is inferred and nothing is unknown.

        Raises:
            ContinuadError: as `views`.
        """
        views, given = self.views(product), None if product is None else self.taught(product)
        for some in _together(shots):
            yield self._some(some, views, given)

    def nearest(self, features: Mapping[View, Tensor]) -> list[tuple[Near, ...]]:
        """The two nearest products of each picture, whatever their views, from its features (B, C) in every view."""
        rows = [inference.nearest(features[view]) for view, inference in self.inferences.items()]
        return [tuple(sorted(chain(*row), key=lambda near: near.distance)[:2]) for row in zip(*rows, strict=True)]

    def _some(self, shots: list[Shot], views: list[View], given: Taught | None) -> list[Inspection]:
        began = perf_counter()
        looked = _look(views, shots)
        nearest = [()] * len(shots) if given else self.nearest({view: one.features for view, one in looked.items()})
        taught = [given or self.products[near[0].product] for near in nearest]
        found: dict[int, tuple[Prediction, int]] = {}
        for name in dict.fromkeys(one.name for one in taught):
            at = [i for i, one in enumerate(taught) if one.name == name]
            prediction = _predict(self.products[name], looked[View.of(self.products[name].record)], at)
            found |= {i: (prediction, place) for place, i in enumerate(at)}
        each = (perf_counter() - began) / len(shots)
        inspections = []
        for i, shot in enumerate(shots):
            features = looked[View.of(taught[i].record)].features[i].numpy()
            about = {"seconds": shot.seconds + each, "version": self.version, "nearest": nearest[i]}
            inspections.append(_verdict(shot, taught[i], *found[i], about | {"features": features}))
        return inspections


def _together(shots: Iterable[Shot]) -> Iterator[list[Shot]]:
    """Pictures in lists of at most `AT_ONCE`, and of few pixels: large ones would fill the memory."""
    some: list[Shot] = []
    for shot in shots:
        some.append(shot)
        if len(some) == AT_ONCE or sum(height * width for height, width in (one.size for one in some)) > PIXELS:
            yield some
            some = []
    if some:
        yield some


def _look(views: Sequence[View], shots: Sequence[Shot]) -> dict[View, Looked]:
    """Pass pictures through the shared backbone; once where views differ in a white level that no picture has."""
    looked: dict[tuple[Any, ...], Looked] = {}
    found = {}
    for view in views:
        pictures = [shot.by_bits[view.bits] for shot in shots]
        same = (view.geometry, *map(id, pictures))
        if same not in looked:
            images = torch.from_numpy(np.stack([view.geometry.apply(rgb) for rgb in pictures]))
            with torch.no_grad():
                levels = look_backbone()(images)
            looked[same] = Looked(images, levels, pooled(levels))
        found[view] = looked[same]
    return found


def _predict(taught: Taught, looked: Looked, at: list[int]) -> Prediction:
    """A product's predictions of some of the pictures, from what the shared backbone answers if it has the same."""
    detector = taught.detector()
    with torch.no_grad():
        if isinstance(detector, Embeds) and look_backbone().answers_like(detector.embedder()):
            return detector.predict_on([level[at] for level in looked.levels])
        return detector.predict(looked.images[at])


def _verdict(shot: Shot, taught: Taught, found: Prediction, place: int, about: dict[str, Any]) -> Inspection:
    thresholds, view = taught.thresholds(), View.of(taught.record)
    score, nearest = float(found.score[place]), about["nearest"]
    verdict = DEFECTIVE if score > thresholds.image else GOOD
    if nearest and nearest[0].distance > 1:
        verdict = UNKNOWN
    rgb = shot.by_bits[view.bits]
    whole = view.geometry.back(found.map[place].numpy(), rgb, thresholds.centre)
    return Inspection(
        *(shot.name, shot.content, taught.name, verdict, score, thresholds.image, taught.confidence(score)),
        map=whole,
        mask=mask_of(whole, thresholds) if verdict == DEFECTIVE else np.zeros(whole.shape, bool),
        rgb=rgb,
        scale=thresholds,
        **about,
    )


def mask_of(whole: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """(H, W) bool, where a defective picture is so: above the pixel threshold.

    Where a threshold set by hand calls a picture defective that has no such pixel, it is what reaches half the peak.
    """
    highest = float(whole.max())
    if highest > thresholds.pixel:
        return whole > thresholds.pixel
    return whole >= min(highest, (thresholds.centre + highest) / 2)
