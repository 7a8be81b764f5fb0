"""One product as a version of the station has learned it: how to look, what to compare with, its threshold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from continuad.core.calibration import Calibration
from continuad.core.detector import Detector
from continuad.core.thresholds import Thresholds
from continuad.models.registry import make_detector
from continuad.station.blobs import Damaged, prefixed, under
from continuad.station.geometry import Geometry
from continuad.station.inference import Look
from continuad.strategies._snapshots import light_view

OWN = 0  # the number a product's thresholds have in its calibration


@dataclass(frozen=True)
class Record:
    """What is known of a product beside its tensors.

    Attributes:
        detector, options: what `make_detector` takes.
        geometry: of its working images.
        bits: white level of its pictures above 8 bits; None if they were not decoded alike.
        images: good pictures learned.
        origin: what was taught at one time and changed since has one; a product taught anew has another.
        pictures: its file holds exemplars, which are pictures.
        false_alarms: rate that its threshold asks for; value: a threshold that was given in its place.
    """

    detector: str
    options: dict[str, Any]
    geometry: Geometry
    bits: int | None
    images: int
    origin: str
    pictures: bool = False
    false_alarms: float = 0.01
    value: float | None = None

    def plain(self) -> dict[str, Any]:
        """As values that JSON holds."""
        return asdict(self) | {"geometry": self.geometry.plain()}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Record:
        """From what `plain` gave.

        Raises:
            Damaged: it names a class from outside the package, or asks for a download: what a file names is data.
        """
        refuse_code(values["detector"], values["options"])
        return cls(**{**values, "geometry": Geometry.of(values["geometry"])})

    def make(self) -> Detector:
        """A new detector of its kind."""
        return make_detector(self.detector, image_size=self.geometry.size, **self.options)

    def base(self) -> Detector:
        """An untrained detector of its kind that views are made from: one for all products of the same kind."""
        return _base(self.detector, json.dumps(self.options, sort_keys=True), self.geometry.size)


@dataclass(frozen=True)
class Taught:
    """A product in service.

    Attributes:
        name: the product's. record: see there. blob: name of the file that holds its tensors.
        state: what its detector has learned. calibration: scores of its good pictures. look: what it looks like.
        seen: (N,) int64 `owners_of` the pictures that were learned.
        exemplars: pictures that a trained detector is taught again with every update, see `memory.replay.Memory`.
    """

    name: str
    record: Record
    blob: str
    state: dict[str, Tensor]
    calibration: Calibration
    look: Look
    seen: Tensor
    exemplars: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _made: list[Detector] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, name: str, record: Record, blob: str, tensors: Mapping[str, Tensor]) -> Taught:
        """From the tensors of a file."""
        calibration = Calibration()
        for key, value in under(tensors, "calibration/").items():
            calibration.kept[key] = value
        look = Look(**under(tensors, "look/"))
        if look.usual.shape == (2,) and look.images > 2:  # a median and a deviation, as the first stations kept them
            look = look._replace(usual=look.usual[:0])
        parts = under(tensors, "detector/"), calibration, look, tensors["seen"], under(tensors, "exemplars/")
        return cls(name, record, blob, *parts)

    def tensors(self) -> dict[str, Tensor]:
        """What its file holds."""
        kept = self.calibration.kept.under("")
        return (
            prefixed("detector/", self.state)
            | prefixed("calibration/", kept)
            | prefixed("look/", self.look._asdict())
            | prefixed("exemplars/", self.exemplars)
            | {"seen": self.seen}
        )

    def detector(self) -> Detector:
        """A light view of its detector; views of one kind share what is frozen."""
        if not self._made:
            self._made.append(light_view(self.record.base(), self.state))
        return self._made[0]

    def good_scores(self) -> Tensor:
        """(N,) ascending scores of its good pictures, each as if it had not been learned where that is possible."""
        return self.calibration.kept[f"{OWN}/images"]

    def thresholds(self) -> Thresholds:
        """Those in use."""
        found = self.calibration.thresholds(OWN, self.record.false_alarms)
        return found if self.record.value is None else found._replace(image=self.record.value, rate=float("nan"))

    def confidence(self, score: float) -> float:
        """In [0, 1], 0.5 at the threshold in use; see `Calibration.confidence`."""
        own = self.calibration.thresholds(OWN).image
        return self.calibration.confidence(score - self.thresholds().image + own, OWN)

    def with_record(self, **changes: Any) -> Taught:
        """The same product with another record."""
        return replace(self, record=replace(self.record, **changes), _made=self._made)


def refuse_code(detector: str, options: Mapping[str, Any]) -> None:
    """A station takes continuad's own detectors, and fetches nothing.

    Raises:
        Damaged: something else is asked for.
    """
    if ":" in detector:
        raise Damaged(
            f"a station takes continuad's own detectors, and {detector} is none of them; see `continuad list`"
        )
    if options.get("download"):
        raise Damaged("a station fetches nothing; give the file of the weights with --set weights_file=FILE")


@lru_cache(maxsize=8)
def _base(detector: str, options: str, size: tuple[int, int]) -> Detector:
    with torch.inference_mode(False):
        return make_detector(detector, image_size=size, **json.loads(options)).eval()
