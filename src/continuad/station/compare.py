"""What a change would do to every product, measured on check pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from continuad.errors import ContinuadError
from continuad.station.checks import Checks
from continuad.station.judge import Judge
from continuad.station.taught import OWN, Taught


@dataclass(frozen=True)
class Change:
    """What a change did to one product's check pictures.

    Attributes:
        product: its name. good, defective: how many check pictures there are.
        false_alarms, caught, strayed: (before, after) good ones called defective; defective ones called so; pictures
            taken for another product or for none. None before the product was taught.
        shift: median change of the good ones' scores, where 1 is from an ordinary surface to the threshold.
        auroc: (before, after) image AUROC, where there are both kinds.
        allowed: how many false alarms among the good ones the threshold in use promises at most.
        pictures: (N,) names of the check pictures. scores: (before, after) of each, on the scale of `shift`, where 0 is
            an ordinary surface and 1 the threshold of that time.
    """

    product: str
    good: int
    defective: int
    false_alarms: tuple[int | None, int]
    caught: tuple[int | None, int]
    strayed: tuple[int | None, int]
    shift: float | None
    auroc: tuple[float | None, float | None]
    allowed: int = 0
    pictures: tuple[str, ...] = ()
    scores: tuple[tuple[float, ...] | None, tuple[float, ...]] = (None, ())

    def worse(self) -> list[tuple[str, int, int]]:
        """What has got worse, as text, before and after: false alarms beyond those before and those allowed, defects
        that are no longer caught, pictures that stray; of a new product, those that stray."""
        alarms, caught, strayed = self.false_alarms, self.caught, self.strayed
        found = []
        if alarms[0] is not None and alarms[1] > max(alarms[0], self.allowed):
            found.append(("false alarms among its good check pictures", max(alarms[0], self.allowed), alarms[1]))
        if caught[0] is not None and caught[1] < caught[0]:
            found.append(("confirmed defects that are caught", caught[0], caught[1]))
        if strayed[1] > (strayed[0] or 0):
            found.append(("check pictures taken for another product or none", strayed[0] or 0, strayed[1]))
        return found

    def count(self) -> int:
        """How many pictures have got worse."""
        return sum(abs(after - before) for _, before, after in self.worse())

    def plain(self) -> dict[str, Any]:
        """As values that JSON holds, the single pictures left out."""
        return {name: value for name, value in asdict(self).items() if name not in ("pictures", "scores")}


class NotPromoted(ContinuadError):
    """A change would make a product worse; nothing was changed.

    Attributes:
        changes: of the products that would. page: the report before and after.
    """

    def __init__(self, verb: str, product: str, changes: Sequence[Change], page: str = ""):
        self.changes = changes
        lines = "\n  ".join([*worse_lines(changes), *([f"pictures: {page}"] if page else [])])
        super().__init__(
            f"{verb} {product} is not put in service, because a product would get worse:\n  {lines}\n"
            "Use --force to do it all the same"
        )


@dataclass(frozen=True)
class Outcome:
    """Scores (N,) of check pictures, bool (N,) called defective, bool (N,) taken for another product or none; and the
    scores (N,) on the product's scale."""

    scores: np.ndarray
    flagged: np.ndarray
    strayed: np.ndarray
    scaled: np.ndarray


def compare(checks: Checks, before: Judge, after: Judge) -> list[Change]:
    """What a change would do to every product that has check pictures.

    Args:
        before: the products in service. after: those that are to take their place.
    """
    found = []
    for taught in after.products.values():
        contents, truth = checks.of(taught.record.origin)
        if not contents:
            continue
        then = before.products.get(taught.name)
        same = then is not None and then.record.origin == taught.record.origin
        old = _outcome(checks, then, before) if then is not None and same else None
        found.append(_change(taught, contents, truth, old, _outcome(checks, taught, after)))
    return found


def _outcome(checks: Checks, taught: Taught, judge: Judge) -> Outcome:
    """Verdicts on a product's check pictures among the products of a judge, itself included."""
    record, thresholds = taught.record, taught.thresholds()
    features = {view: checks.features(record.origin, record.geometry, view.geometry) for view in judge.inferences}
    near = [row[0] for row in judge.nearest(features)]
    strayed = np.array([one.product != taught.name or one.distance > 1 for one in near])
    scores, ordinary = checks.scores(taught), taught.calibration.ordinary(OWN)
    width = thresholds.image - ordinary
    scaled = (scores - ordinary) / width if width > 0 else scores - ordinary
    return Outcome(scores, scores > thresholds.image, strayed, scaled)


def _change(taught: Taught, contents: Sequence[str], truth: np.ndarray, then: Outcome | None, now: Outcome) -> Change:
    def count(outcome: Outcome | None, what: str, of: np.ndarray) -> Any:
        return None if outcome is None else int(getattr(outcome, what)[of].sum())

    rate = taught.thresholds().rate
    every, good = np.ones(len(truth), bool), ~truth
    shift = None if then is None or not good.any() else float(np.median(now.scaled[good] - then.scaled[good]))
    return Change(
        taught.name,
        int(good.sum()),
        int(truth.sum()),
        false_alarms=(count(then, "flagged", good), count(now, "flagged", good)),
        caught=(count(then, "flagged", truth), count(now, "flagged", truth)),
        strayed=(count(then, "strayed", every), count(now, "strayed", every)),
        shift=shift,
        auroc=(_auroc(then, truth), _auroc(now, truth)),
        allowed=0 if math.isnan(rate) else int(rate * good.sum()),
        pictures=tuple(contents),
        scores=(None if then is None else tuple(then.scaled.tolist()), tuple(now.scaled.tolist())),
    )


def _auroc(outcome: Outcome | None, truth: np.ndarray) -> float | None:
    if outcome is None or not truth.any() or truth.all():
        return None
    bad, good = outcome.scores[truth][:, None], outcome.scores[~truth]
    return float(((bad > good) + 0.5 * (bad == good)).mean())


def worse_lines(changes: Iterable[Change]) -> list[str]:
    """A line for everything that has got worse."""
    return [
        f"{change.product}: {what}: {before} before, {after} after"
        for change in changes
        for what, before, after in change.worse()
    ]
