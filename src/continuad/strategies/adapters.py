"""Low-rank adapters: later tasks change a shared base by a matrix of few columns each (Hu et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from continuad.core.detector import Detector
from continuad.core.fit import seed_of
from continuad.core.hints import Count, Seed
from continuad.core.types import Task
from continuad.errors import ContinuadError
from continuad.strategies._pooled import REJECT, Reject
from continuad.strategies._snapshots import light_view
from continuad.strategies._task_inference import TaskInferring
from continuad.vision.backbones import DEFAULT, AnyBackbone


class Adapters(TaskInferring):
    """The first task learns all weights; they are the base, which no later task changes. A later task sees every matrix
    W of it as W + U V, with U of `rank` columns and V of `rank` rows, and learns those. U starts at 0, so a task
    starts from the base. What is predicted for a task stays as it was when the task was learned, bit for bit.

    A kernel is the matrix of its outputs by everything else. Where U and V would be no smaller than W (biases, batch
    normalisation, few channels) each task has its own copy. The task is inferred from pooled features, as in pertask.

    Args:
        rank: columns of U.
        backbone: of the task inference, as in pertask.
        reject: see `TaskInferring`.
    """

    def __init__(
        self,
        detector: Detector,
        rank: Count = 4,
        seed: Seed = 0,
        backbone: AnyBackbone = DEFAULT,
        reject: Reject | None = REJECT,
    ):
        super().__init__(detector, seed, backbone, reject)
        self.rank = rank
        places = list(_adapt(detector, rank))
        self.base = {f"{place}.original" for place in places}
        self.added = {f"{place}.0.{name}" for place in places for name in ("u", "v")}
        if not places:
            raise ContinuadError(
                f"adapters rank={rank}: no layer is large enough for it; use a smaller rank or pertask"
            )

    def before(self, task: Task) -> None:
        """Put fresh adapters on the base, from the second task on."""
        if known := self.pooled.known():
            self.detector.restore(self.kept.under(f"{known[0]}/"))
            generator = torch.Generator().manual_seed(seed_of(self.seed, task.index))
            for adapter in self._adapters():
                adapter.restart(generator)

    def on_gradients(self) -> None:
        """Take the gradient from weights that this task may not change: the optimiser then skips them."""
        still = self.base if self.pooled.known() else self.added
        for name, weight in self.detector.weights().items():
            if name in still:
                weight.grad = None

    def after(self, task: Task) -> None:
        """Keep the task's adapters and whatever else it has of its own."""
        for name, value in self.detector.learned().items():
            if name not in self.base:
                self.kept[f"{task.index}/{name}"] = value
        super().after(task)

    def snapshot(self, task: int) -> Detector:
        """The base with the task's adapters on it."""
        return light_view(self.detector, self.kept.under(f"{task}/"))

    def _adapters(self) -> Iterator[LowRank]:
        return (module for module in self.detector.modules() if isinstance(module, LowRank))


class LowRank(nn.Module):
    """W -> W + U V for a weight of any shape, seen as a matrix of its first dimension by the others.

    Args:
        rows, columns, rank: U is (rows, rank), V (rank, columns).
    """

    def __init__(self, rows: int, columns: int, rank: int):
        super().__init__()
        self.u = nn.Parameter(torch.zeros(rows, rank))
        self.v = nn.Parameter(torch.zeros(rank, columns))

    def forward(self, weight: Tensor) -> Tensor:
        """W + U V."""
        return weight + (self.u @ self.v).view_as(weight)

    def restart(self, generator: torch.Generator) -> None:
        """U = 0, and V random. Its rows' length, (columns / rank)^(1/4), lets a step of gradient descent move a weight
        about as far as it would without an adapter: U V moves by G V^T V, G the weight's gradient."""
        rank, columns = self.v.shape
        with torch.no_grad():
            self.u.zero_()
            self.v.copy_(torch.randn(self.v.shape, generator=generator) / (rank * columns) ** 0.25)


def _adapt(detector: Detector, rank: int) -> Iterator[str]:
    """Give every matrix that is large enough an adapter; where it and its adapter are found in the detector."""
    for place, module in list(detector.named_modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            if not weight.requires_grad or weight.dim() < 2:
                continue
            rows, columns = weight.flatten(1).shape
            if rank * (rows + columns) < rows * columns:
                _put_on(module, name, LowRank(rows, columns, rank).to(weight.device))
                yield f"{place}.parametrizations.{name}".removeprefix(".")


def _put_on(module: nn.Module, name: str, adapter: LowRank) -> None:
    """Adapt a weight. torch makes up a class for such a module, and refuses to pickle it: this class is pickled all
    the same, as the module without adapters and the adapters."""
    parametrize.register_parametrization(module, name, adapter)
    type(module).__reduce__ = _reduced  # type: ignore[assignment, method-assign]


def _reduced(module: Any) -> tuple[Any, ...]:
    own, lists = dict(vars(module)), module.parametrizations
    own["_parameters"] = own["_parameters"] | {name: found.original for name, found in lists.items()}
    own["_modules"] = {name: part for name, part in own["_modules"].items() if part is not lists}
    return _restored, (type(module).__bases__[0], own, {name: found[0] for name, found in lists.items()})


def _restored(kind: type[nn.Module], own: dict[str, Any], adapters: dict[str, LowRank]) -> nn.Module:
    module = kind.__new__(kind)
    vars(module).update(own)
    for name, adapter in adapters.items():
        _put_on(module, name, adapter)
    return module.train(module.training)
