"""Combined: several strategies at once, written `replay:300+ewc`; each keeps its own memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from continuad.core.detector import Detector
from continuad.core.hints import Seed
from continuad.core.strategy import Strategy
from continuad.core.types import Images, Prediction, Task
from continuad.errors import ContinuadError

UNSHARED = {"view": "see a stream", "before": "begin a task", "_predict": "predict", "thresholds": "set thresholds"}
"""Methods of which several versions cannot serve one model, and what each does."""


class Combined(Strategy):
    """Penalties add up, gradients pass through one part after another, and at most one part replays images.

    Args:
        members: the strategies, around the same detector. Those that change how a task is learned or an image is
            predicted (multitask, single, pertask, average, packnet, ...) cannot be combined.
        strategies: how the members are written, with their options and "+" between them; `make_strategy` builds the
            members from it.

    Raises:
        ContinuadError: a strategy that cannot be combined, or two that replay.
    """

    def __init__(
        self, detector: Detector, members: Sequence[Strategy] = (), strategies: str = "replay", seed: Seed = 0
    ):
        super().__init__(detector, seed)
        self.strategies = strategies
        self.members = nn.ModuleList(members)
        if not members:
            raise ContinuadError("combined needs strategies with + between them, such as replay:300+ewc")
        for member, part in zip(self._members(), strategies.split("+"), strict=True):
            if member.statistics != self.statistics:
                raise ContinuadError(f"strategy '{part}' treats statistics in its own way and cannot be combined")
            if own := [what for name, what in UNSHARED.items() if _overrides(member, name)]:
                raise ContinuadError(f"strategy '{part}' has its own way to {own[0]} and cannot be combined")
        if sum(_overrides(member, "data") for member in self._members()) > 1:
            raise ContinuadError(f"'{strategies}': only one of them can replay images")

    def _members(self) -> list[Strategy]:
        return [member for member in self.members if isinstance(member, Strategy)]

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images, and replayed ones of the part that has any."""
        return next((m for m in self._members() if _overrides(m, "data")), self._members()[0]).data(task)

    def val(self, task: Task) -> dict[int, Images]:
        """Of the part that remembers most val images."""
        offers = [member.val(task) for member in self._members()]
        return max(offers, key=lambda offer: sum(map(len, offer.values())))

    def _val_predictions(self, val: Mapping[int, Images]) -> dict[int, Iterable[Prediction]]:
        """Of the val images given, and of every other task that a part keeps something of."""
        found: dict[int, Iterable[Prediction]] = {}
        for member in self._members():
            found |= member._val_predictions({})
        return found | super()._val_predictions(val)

    def penalty(self, images: Tensor) -> Tensor | float:
        """The sum of all parts'."""
        return sum((member.penalty(images) for member in self._members()), 0.0)

    def on_gradients(self) -> None:
        """Every part's, in the order they were named."""
        for member in self._members():
            member.on_gradients()

    def on_step(self) -> None:
        """Every part's."""
        for member in self._members():
            member.on_step()

    def after(self, task: Task) -> None:
        """Every part's, each within the budget and with the progress of the whole."""
        for member in self._members():
            member.budget, member._progress = self.budget, self._progress
            try:
                member.after(task)
            finally:
                member._progress = None


def _overrides(member: Strategy, name: str) -> bool:
    return getattr(type(member), name) is not getattr(Strategy, name)
