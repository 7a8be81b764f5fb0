"""Do pictures still look as they did when a product was taught? Watched picture by picture, in constant memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from continuad.station.inference import by_rank
from continuad.station.judge import UNKNOWN, Inspection
from continuad.station.taught import Taught

SLACK = 0.5  # deviations that a mean may lie off without an alert
UNSURE = 2.0  # over the root of the number of good pictures: 1.64 standard errors of their median, which is 1.25 / root
LIMIT = 8.0  # of a sum: with independent normal values one false alert in some 19,000 pictures at slack 0.5
MOST = 3.0  # deviations a single picture counts at most: defects come alone, drift does not


@dataclass
class Watch:
    """Two cumulative sums of a product's pictures since it was put in service (CUSUM; Page 1954).

    Each picture gives two values that are about standard normal while nothing drifts, by its rank among the product's
    good pictures: `score`, and `look`, how far its pooled features lie from the product's mean. A sum adds what a value
    exceeds the slack by, never falls below 0, and raises an alert above `LIMIT`. The slack is `SLACK`, and more the
    fewer good pictures say what is usual.

    Attributes:
        blob: file of what was learned when the sums began; another one begins them anew.
        seen: pictures since then. score_up, look_up: the sums. alert: at which picture, in which value, or None.
    """

    blob: str
    seen: int = 0
    score_up: float = 0.0
    look_up: float = 0.0
    alert: dict[str, Any] | None = None

    def add(self, taught: Taught, found: Inspection) -> None:
        """Take in a verdict on one of the product's pictures."""
        self.seen += 1
        values = {
            "score": by_rank(taught.good_scores().numpy(), found.score),
            "look": taught.look.unusual(found.features),
        }
        slack = SLACK + UNSURE / max(1.0, float(taught.look.images)) ** 0.5
        for name, value in values.items():
            total = max(0.0, getattr(self, f"{name}_up") + float(np.clip(value, -MOST, MOST)) - slack)
            setattr(self, f"{name}_up", total)
            if total > LIMIT and self.alert is None:
                self.alert = {"at": self.seen, "in": name}

    def plain(self) -> dict[str, Any]:
        """As values that JSON holds."""
        return asdict(self)


def follow(state: dict[str, Any] | None, taught: Taught, found: Inspection) -> Watch:
    """A product's watch with one more verdict. Pictures that show no known product are left out."""
    watch = Watch(**state) if state is not None and state["blob"] == taught.blob else Watch(taught.blob)
    if found.verdict != UNKNOWN:
        watch.add(taught, found)
    return watch
