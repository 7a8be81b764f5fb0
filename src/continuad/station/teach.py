"""Good pictures in, a learned product out: `learn` from nothing, `update` from what a product has learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from continuad.core.batches import in_order
from continuad.core.calibration import ALL, Calibration
from continuad.core.detector import AcceptsGood, Detector, HasMoments, Merges, ask, owners_of
from continuad.core.strategy import Strategy
from continuad.core.thresholds import FalseAlarmRate
from continuad.core.types import ImageSet, LearnedTask, Task
from continuad.data.audit import audit
from continuad.data.decode import in_threads, read_picture, white_bits
from continuad.data.discover import discover
from continuad.data.splits import val_split
from continuad.errors import ContinuadError
from continuad.models.registry import make_strategy
from continuad.station.geometry import Geometry
from continuad.station.inference import Look
from continuad.station.taught import OWN, Record, Taught
from continuad.strategies._pooled import pooled
from continuad.strategies._replay import WithExemplars
from continuad.vision.backbones import DEFAULT, Backbone, load_backbone

Progress = Callable[[str, int, int], None]
SILENT = FalseAlarmRate(0.0)  # what a portion alone could promise is no matter
REPLAY = "replay:2MB:coding=webp"  # what a detector that learns by gradient keeps of a product's pictures
LOOK_STRIDES = (8, 16)  # PatchCore's, so that one pass serves both


@dataclass(frozen=True, eq=False)
class Good:
    """Good pictures as working images.

    Attributes:
        images: (N, 3, H, W) uint8. paths: N files. bits: white level of pictures above 8 bits.
        notes: what `check-data` says of them beyond errors.
    """

    images: np.ndarray
    paths: tuple[Path, ...]
    bits: int
    notes: tuple[str, ...] = ()

    def task(self, name: str, index: int) -> Task:
        """All of them to learn, and some set aside for detectors that need it."""
        learn, val = val_split(len(self.images), 0.1, 0, name)
        whole = self._set()
        train = whole.subset(learn)
        return Task(index, name, train, train if learn == val else whole.subset(val), whole.subset([]), self.bits)

    def without(self, seen: Tensor) -> Good:
        """Those among them that were not seen yet."""
        new = (~torch.isin(self.owners(), seen)).nonzero().flatten().tolist()
        return Good(self.images[new], tuple(self.paths[i] for i in new), self.bits, self.notes)

    def aligned(self, geometry: Geometry) -> Good:
        """The same pictures as `geometry` aligns them, read before there was a reference."""
        if not geometry.reference:
            return self
        return replace(self, images=np.stack([geometry.aligned(image) for image in self.images]))

    def owners(self) -> Tensor:
        """(N,) int64, see `owners_of`."""
        return torch.cat([owners_of(batch.image) for batch in in_order(self._set(), 64)])

    def _set(self) -> ImageSet:
        n, size = len(self.images), self.images.shape[-2:]
        good = np.zeros(n, bool)
        return ImageSet(
            self.images, good, np.zeros((n, *size), bool), ~good, ("good",) * n, self.paths, (tuple(size),) * n
        )


def read_good(
    folder: Path, geometry: Geometry, bits: int | None, max_pixels: int, progress: Progress | None = None
) -> Good:
    """The good pictures of a folder, once `check-data` has nothing against it.

    Raises:
        ContinuadError: it has; all its reasons are given.
    """
    (found,) = audit(folder, image_size=geometry.size, max_pixels=max_pixels)
    if found.errors:
        raise ContinuadError(
            f"{folder} is not learned, for what `continuad check-data` says:\n" + "\n".join(found.errors)
        )
    paths = tuple(item.path for item in discover(folder).train)
    bits = white_bits(paths, max_pixels) if bits is None else bits

    def read(path: Path) -> np.ndarray:
        return geometry.apply(read_picture(path, bits, max_pixels).rgb)

    images = np.empty((len(paths), 3, *geometry.size), np.uint8)
    for place, image in enumerate(in_threads(read, paths)):
        images[place] = image
        if progress:
            progress("reading pictures", place + 1, len(paths))
    return Good(images, paths, bits, tuple(finding.text for finding in found.findings))


def learn(name: str, good: Good, record: Record, progress: Progress | None = None) -> Taught:
    """Teach a new product.

    Raises:
        ContinuadError: learning diverges, or the detector refuses its options.
    """
    strategy = _strategy(record.make())
    strategy.learn(good.task(name, OWN), _say(name, progress))
    look = Look.learn(look_features(torch.from_numpy(good.images)))
    kept, exemplars = strategy.calibration, _exemplars(strategy)
    record = replace(record, pictures=bool(exemplars))
    return Taught(name, record, "", strategy.detector.learned(), kept, look, good.owners(), exemplars)


def update(known: Taught, good: Good, shown: Tensor, progress: Progress | None = None) -> Taught:
    """Teach a product further good pictures, without those it was taught before.

    What statistics add up is exact (PaDiM: portions equal one go) or a bank under its budget (PatchCore, SPADE). Scores
    of earlier pictures, which are gone, keep their part in the threshold: as they were measured, or, where a bank has
    grown coarser, raised by as much as those of check pictures. A detector that learns by gradient learns the new
    pictures beside its exemplars of the earlier ones.

    Args:
        shown: good check pictures of the product (N, 3, H, W).

    Raises:
        ContinuadError: every picture was learned before.
    """
    new, detector = good.without(known.seen), known.record.make()
    if not len(new.images):
        raise ContinuadError(f"{known.name}: all of these pictures were learned before; nothing to update")
    detector.restore(known.state)
    earlier = known.calibration
    if isinstance(detector, Merges):
        calibration, number, exemplars = _merged(detector, known, new, progress), OWN + 1, {}
        earlier = _raised(earlier, known.detector(), detector, shown)
    else:
        strategy = _further(detector, known)
        number = strategy.tasks[-1].index + 1
        strategy.learn(new.task(f"{known.name} {number}", number), _say(known.name, progress))
        calibration, exemplars = strategy.calibration, _exemplars(strategy)
    look = known.look.with_more(look_features(torch.from_numpy(new.images)))
    record = replace(known.record, images=known.record.images + len(new.images))
    kept = _alone(calibration) if exemplars else _joined(earlier, calibration, number)
    seen = torch.cat([known.seen, new.owners()])
    return Taught(known.name, record, "", detector.learned(), kept, look, seen, exemplars)


def _further(detector: Detector, known: Taught) -> Strategy:
    """What teaches a restored detector a further portion."""
    strategy, portions = _strategy(detector), [OWN]
    strategy.calibration.rule = SILENT
    if known.exemplars and isinstance(strategy, WithExemplars):
        strategy.memory.load_state_dict(known.exemplars)
        portions = strategy.memory.known()
    strategy.tasks = [LearnedTask(portion, f"{known.name} {portion}", known.record.bits) for portion in portions]
    return strategy


def _merged(detector: Any, known: Taught, new: Good, progress: Progress | None) -> Calibration:
    """Join a portion's bank to a product's; scores of the portion by both, each picture as if it were not learned."""
    alone = make_strategy("naive", known.record.make())
    alone.calibration.rule = SILENT
    alone.learn(new.task(f"{known.name} 1", OWN + 1), _say(known.name, progress))
    detector.merge(alone.detector.learned())
    found = Calibration(known.calibration.rule)
    images = torch.from_numpy(new.images)
    found.learn({OWN + 1: (ask(detector, part, out_of_fold=True) for part in images.split(detector.batch_size))})
    return found


def _raised(kept: Calibration, before: Detector, after: Detector, images: Tensor) -> Calibration:
    """Scores and thresholds of earlier pictures, by as much higher as check pictures now score in the median."""
    if not len(images):
        return kept
    then, now = ([ask(one, part, out_of_fold=True) for part in images.split(16)] for one in (before, after))
    scores = torch.cat([b.score - a.score for a, b in zip(then, now, strict=True)]).median().clamp(min=0)
    level = torch.cat([(b.map - a.map).mean((1, 2)) for a, b in zip(then, now, strict=True)]).median().clamp(min=0)
    found = Calibration(kept.rule)
    found.kept[f"{OWN}/images"] = kept.kept[f"{OWN}/images"] + scores
    found.kept[str(OWN)] = kept.kept[str(OWN)] + torch.stack([level, level, scores])
    return found


def _strategy(detector: Detector) -> Strategy:
    """What teaches: statistics add up, and gradients need pictures of before."""
    return make_strategy("accumulate" if detector.learns_by == "statistics" else REPLAY, detector)


def _exemplars(strategy: Strategy) -> dict[str, Tensor]:
    return dict(strategy.memory.state_dict()) if isinstance(strategy, WithExemplars) else {}


def promise(before: Taught | None, after: Taught, images: Tensor) -> str:
    """What a portion does to what was learned before, in a sentence.

    Args:
        images: some good working images (N, 3, H, W) of the product.
    """
    detector = after.detector()
    if detector.learns_by == "gradient":
        return f"trained, beside {len(after.exemplars.get('store.task', ()))} exemplars of its pictures"
    if isinstance(detector, HasMoments):
        return "exact: portions equal one go"
    if not isinstance(detector, Merges) or not len(images):
        return "bounded: what is kept stays within its size"
    banks: list[Any] = [one.detector() for one in (before, after) if one is not None]
    radii = [max(float(bank.covering(part).max()) for part in images.split(16)) for bank in banks]
    return "bounded: farthest patch of a good check picture from the bank " + " → ".join(f"{one:.3g}" for one in radii)


def accept(known: Taught, image: Tensor) -> Taught:
    """Teach a product one good picture, a working image (3, H, W), that it called defective.

    What is new in it is added, down to the distance of an ordinary good picture. A detector that cannot do so keeps
    what it knows, and its threshold is raised to the picture's score.
    """
    detector, images = known.record.make(), image[None]
    owners = owners_of(images)
    detector.restore(known.state)
    if not isinstance(detector, AcceptsGood):
        score = float(known.detector().predict(images).score)
        return known.with_record(value=max(score, known.thresholds().image))
    detector.accept(images, owners, known.calibration.ordinary(OWN))
    look, seen = known.look.with_more(look_features(images)), torch.cat([known.seen, owners])
    record = replace(known.record, images=known.record.images + 1)
    return Taught(known.name, record, "", detector.learned(), known.calibration, look, seen)


def _joined(old: Calibration, new: Calibration, number: int) -> Calibration:
    """Thresholds from the scores of both: of a product, and of its further pictures."""
    first, second = (part.kept[f"{task}/images"] for part, task in ((old, OWN), (new, number)))
    share = len(second) / (len(first) + len(second))
    both = (1 - share) * old.kept[str(OWN)] + share * new.kept[str(number)]
    return _for_all(both, torch.cat([first, second]).unique(), old)


def _alone(new: Calibration) -> Calibration:
    """Thresholds from the scores of all exemplars that are kept for them, of every portion."""
    return _for_all(new.kept[ALL].clone(), new.kept[f"{ALL}/images"], Calibration())


def _for_all(thresholds: Tensor, scores: Tensor, like: Calibration) -> Calibration:
    """A calibration of one product."""
    found = Calibration(like.rule)
    thresholds[2] = found.rule.image(scores.numpy(), found.rule.rate)[0]
    for name in (str(OWN), ALL):
        found.kept[name], found.kept[f"{name}/images"] = thresholds.clone(), scores
    return found


def look_features(images: Tensor) -> Tensor:
    """Pooled features (N, C) of uint8 images (N, 3, H, W), by which products are distinguished."""
    with torch.no_grad():
        return torch.cat([pooled(look_backbone()(part)) for part in images.split(16)])


@cache
def look_backbone() -> Backbone:
    """The frozen network whose pooled features distinguish products."""
    return load_backbone(DEFAULT, LOOK_STRIDES)


def _say(name: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(f"learning {name}", done, total)
