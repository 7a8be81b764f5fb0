"""Task snapshots: one learned state a task, looked at through light views of one detector."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from continuad.core.detector import Detector
from continuad.core.state import Stats
from continuad.vision.backbones import Frozen


@torch.inference_mode(False)
def light_view(detector: Detector, state: Mapping[str, Tensor]) -> Detector:
    """A detector of its own that answers with another learned state, in evaluation mode.

    Its learned tensors are those of the state, by reference; frozen networks and all else are the detector's. It
    costs no memory to speak of, and neither it nor the detector notices what is done with the other, so threads may
    ask any number of them at once.

    Args:
        state: what `Detector.learned` returned at some time.
    """
    memo: dict[int, Any] = {id(m): m for m in detector.modules() if isinstance(m, Frozen)}
    for name, weight in detector.named_parameters():
        memo[id(weight)] = nn.Parameter(_laid_out(state[name], weight), False) if name in state else weight
    for name, buffer in detector.named_buffers():
        memo[id(buffer)] = state.get(name, buffer)
    view = copy.deepcopy(detector, memo)
    view.stats.clear()
    for name, value in state.items():
        if name.startswith("stats."):
            view.stats[name.removeprefix("stats.")] = value
    return view.eval()


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """The same values in the other's memory format, without copying where they have it: kernels round by it."""
    return value if value.stride() == like.stride() else torch.empty_like(like).copy_(value)


class Snapshots(nn.Module):
    """What a detector learned of each task, and where every task starts from.

    Attributes:
        fresh: the state before the first task. It follows from the detector's seed, so a model folder does not hold it
            and it is no additional memory; `learning_mb` counts it.
        kept: "task/name" to tensor.
    """

    def __init__(self, detector: Detector):
        super().__init__()
        self.fresh = detector.learned()
        self.kept = Stats()
        self._detector = (detector,)  # in a tuple, so that it is not a module of this one as well
        self._views: dict[int, Detector] = {}
        self.register_load_state_dict_post_hook(_lay_out)

    def keep(self, task: int) -> None:
        """Remember what the detector has just learned as that task's snapshot."""
        for name, value in self._detector[0].learned().items():
            self.kept[f"{task}/{name}"] = value
        self._views.pop(task, None)

    def view(self, task: int) -> Detector:
        """That task's snapshot. Views are made once, and anew where the model was moved or loaded."""
        found = self._views.get(task)
        if found is None:
            found = self._views[task] = light_view(self._detector[0], self.kept.under(f"{task}/"))
        return found

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copies: views are made anew, or their tensors would no longer be those of `kept`."""
        return vars(self) | {"_views": {}}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Snapshots:
        super()._apply(fn, recurse)
        self.fresh = {name: fn(value) for name, value in self.fresh.items()}
        self._views = {}
        return self


def _lay_out(loaded: Snapshots, _: object) -> None:
    """Files do not know memory formats: give the tensors theirs once, so that views need no copies of their own."""
    weights = loaded._detector[0].weights()
    for name in loaded.kept:
        like = weights.get(name.partition("/")[2])
        if like is not None:
            loaded.kept[name] = _laid_out(loaded.kept[name], like)
    loaded._views = {}
