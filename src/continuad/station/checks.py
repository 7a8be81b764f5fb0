"""Check pictures: some good ones of every product and every confirmed defect, measured before and after a change."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import torch
from PIL import Image
from torch import Tensor

from continuad.core.detector import OutOfFold, ask
from continuad.files import replace_file, safe_name
from continuad.station.blobs import digest_of
from continuad.station.inference import ProductInference
from continuad.station.judge import DEFECTIVE, GOOD
from continuad.station.tables import checks
from continuad.station.taught import Taught
from continuad.station.teach import look_features

BUDGET = 2 * 10**6  # bytes of good check pictures a product


@dataclass(frozen=True)
class Change:
    """What a change did to one product's check pictures.

    Attributes:
        product: its name. good, defective: how many check pictures there are.
        false_alarms, caught, strayed: (before, after) good ones called defective; defective ones called so; pictures
            taken for another product or for none. None before the product was taught.
        shift: median change of the good ones' scores, where 1 is from an ordinary surface to the threshold.
        auroc: (before, after) image AUROC, where there are both kinds.
    """

    product: str
    good: int
    defective: int
    false_alarms: tuple[int | None, int]
    caught: tuple[int | None, int]
    strayed: tuple[int | None, int]
    shift: float | None
    auroc: tuple[float | None, float | None]

    def worse(self) -> int:
        """New false alarms, lost defects and pictures that stray, together; of a new product, those that stray."""
        pairs = [(1, self.false_alarms), (-1, self.caught), (1, (self.strayed[0] or 0, self.strayed[1]))]
        return sum(max(0, sign * (after - before)) for sign, (before, after) in pairs if before is not None)

    def plain(self) -> dict[str, Any]:
        """As values that JSON holds."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """Scores (N,) of check pictures, bool (N,) called defective, bool (N,) taken for another product or none."""

    scores: np.ndarray
    flagged: np.ndarray
    strayed: np.ndarray


class Checks:
    """The check pictures of a station: working images as PNG files, and a table of what they are.

    Args:
        folder: of the files. engine: the station's database.
    """

    def __init__(self, folder: Path, engine: sa.Engine):
        self.folder, self.engine = folder, engine

    def add(self, product: str, images: Tensor, kind: str) -> None:
        """Keep working images (N, 3, H, W) of a product; of good ones, as many as the budget allows."""
        spent = sum(path.stat().st_size for path in self._paths(product, GOOD)) if kind == GOOD else 0
        for image in images:
            out = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(out, "png")
            whole = out.getvalue()
            if kind == GOOD and (spent := spent + len(whole)) > BUDGET:
                return
            path = self._path(product, digest_of(whole))
            replace_file(path, lambda new, whole=whole: new.write_bytes(whole))  # type: ignore[misc]
            with self.engine.begin() as connection:
                row = {"product": product, "content": path.stem, "kind": kind}
                same = checks.c.product == product, checks.c.content == path.stem
                connection.execute(checks.delete().where(*same))
                connection.execute(checks.insert().values(**row))

    def of(self, product: str) -> tuple[Tensor, np.ndarray]:
        """Working images (N, 3, H, W) uint8, and bool (N,) which are defective."""
        paths = [*self._paths(product, GOOD), *self._paths(product, DEFECTIVE)]
        images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        truth = np.arange(len(paths)) >= len(self._paths(product, GOOD))
        if not images:
            return torch.empty(0, 3, 1, 1, dtype=torch.uint8), truth
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), truth

    def erase(self, product: str) -> None:
        """Remove a product's check pictures from disk."""
        for path in [*self._paths(product, GOOD), *self._paths(product, DEFECTIVE)]:
            path.unlink(missing_ok=True)
        with self.engine.begin() as connection:
            connection.execute(checks.delete().where(checks.c.product == product))

    def _paths(self, product: str, kind: str) -> list[Path]:
        asked = sa.select(checks.c.content).where(checks.c.product == product, checks.c.kind == kind)
        with self.engine.connect() as connection:
            found = sorted(connection.scalars(asked))
        return [path for content in found if (path := self._path(product, content)).is_file()]

    def _path(self, product: str, content: str) -> Path:
        return self.folder / safe_name(product) / f"{content}.png"


def compare(checks: Checks, before: Mapping[str, Taught], after: Sequence[Taught]) -> list[Change]:
    """What a change would do to every product that has check pictures, whose answer may change.

    Args:
        before: the products in service. after: those that are to take their place.
    """
    found = []
    for taught in after:
        images, truth = checks.of(taught.name)
        if not len(images):
            continue
        features, then = look_features(images), before.get(taught.name)
        scores = _scores(taught, images)
        old = None
        if then is not None:  # what was not taught anew scores as before
            old = _outcome(then, scores if then is taught else _scores(then, images), features, before.values())
        found.append(_change(taught, truth, old, _outcome(taught, scores, features, after)))
    return found


def _scores(taught: Taught, images: Tensor) -> np.ndarray:
    detector = taught.detector()
    out_of_fold = isinstance(detector, OutOfFold)
    return np.concatenate([ask(detector, part, out_of_fold).score.numpy() for part in images.split(16)])


def _outcome(taught: Taught, scores: np.ndarray, features: Tensor, beside: Iterable[Taught]) -> Outcome:
    """Verdicts on a product's check pictures among the products beside it, itself included."""
    geometry = taught.record.geometry
    inference = ProductInference({one.name: one.look for one in beside if one.record.geometry == geometry})
    near = [row[0] for row in inference.nearest(features)]
    strayed = np.array([one.product != taught.name or one.distance > 1 for one in near])
    return Outcome(scores, scores > taught.thresholds().image, strayed)


def _change(taught: Taught, truth: np.ndarray, then: Outcome | None, now: Outcome) -> Change:
    def count(outcome: Outcome | None, what: str, of: np.ndarray) -> Any:
        return None if outcome is None else int(getattr(outcome, what)[of].sum())

    thresholds, shift = taught.calibration.thresholds(0), None
    width = thresholds.image - thresholds.centre
    if then is not None and (~truth).any() and width > 0:
        shift = float(np.median(now.scores[~truth] - then.scores[~truth]) / width)
    every = np.ones(len(truth), bool)
    return Change(
        taught.name,
        int((~truth).sum()),
        int(truth.sum()),
        false_alarms=(count(then, "flagged", ~truth), count(now, "flagged", ~truth)),
        caught=(count(then, "flagged", truth), count(now, "flagged", truth)),
        strayed=(count(then, "strayed", every), count(now, "strayed", every)),
        shift=shift,
        auroc=(_auroc(then, truth), _auroc(now, truth)),
    )


def _auroc(outcome: Outcome | None, truth: np.ndarray) -> float | None:
    if outcome is None or not truth.any() or truth.all():
        return None
    bad, good = outcome.scores[truth][:, None], outcome.scores[~truth]
    return float(((bad > good) + 0.5 * (bad == good)).mean())


def worse_lines(changes: Iterable[Change]) -> list[str]:
    """A line for each product that has got worse."""
    lines = []
    for change in changes:
        for what, (before, after), sign in (
            ("false alarms among its good check pictures", change.false_alarms, 1),
            ("confirmed defects that are caught", change.caught, -1),
            ("check pictures taken for another product or none", (change.strayed[0] or 0, change.strayed[1]), 1),
        ):
            if before is not None and sign * (after - before) > 0:
                lines.append(f"{change.product}: {what}: {before} before, {after} after")
    return lines
