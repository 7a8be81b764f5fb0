"""PackNet: each task owns some of the weights for ever, the next one gets those left over (Mallya, Lazebnik 2018)."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.hints import Range, Seed
from continuad.core.types import Task
from continuad.errors import ContinuadError
from continuad.strategies._pooled import REJECT, Reject
from continuad.strategies._snapshots import light_view
from continuad.strategies._task_inference import TaskInferring
from continuad.vision.backbones import DEFAULT, AnyBackbone


class PackNet(TaskInferring):
    """A task learns with all weights that no task owns, beside the fixed ones of earlier tasks. At half of its steps
    the largest `share` of the free weights of every layer become its own; the others are set to 0 and wait for the
    next task. In the second half only its own weights learn on, without them. An image of a task is seen with the
    weights of that task and those before it, so what is predicted for it stays as it was, bit for bit.

    Owned are the weights of matrices and kernels. Biases, batch normalisation and statistics are few: each task has
    its own copies. The task is inferred from pooled features, as in pertask.

    Args:
        share: of the free weights that a task takes. With 0.5 the fifth task gets 3 % of all.
        backbone: of the task inference, as in pertask.
        reject: see `TaskInferring`.
    """

    def __init__(
        self,
        detector: Detector,
        share: Annotated[float, Range(0, 1, above=True)] = 0.5,
        seed: Seed = 0,
        backbone: AnyBackbone = DEFAULT,
        reject: Reject | None = REJECT,
    ):
        super().__init__(detector, seed, backbone, reject)
        self.share = share
        self.fixed: dict[str, Tensor] = {}  # values of weights that may not move in this task
        self.newest, self.prune_at = -1, 0

    @property
    def budget(self) -> Budget:
        """How long it learns a task, see `Strategy`.

        Raises:
            ContinuadError: early stopping is asked for, whose end is not known beforehand.
        """
        return self._budget

    @budget.setter
    def budget(self, budget: Budget) -> None:
        if budget.patience is not None:
            raise ContinuadError(
                "packnet prunes at half of the steps and cannot stop early; leave the option patience unset"
            )
        self._budget = budget

    def before(self, task: Task) -> None:
        """Note which weights may not move, and when to prune."""
        if task.index > torch.iinfo(torch.int8).max:
            raise ContinuadError(f"packnet numbers its tasks up to {torch.iinfo(torch.int8).max}, not {task.index}")
        epoch = -(-len(task.train) // self.detector.batch_size)
        self.newest, self.prune_at = task.index, max(1, self.budget.in_steps(epoch, self.detector.steps) // 2)
        if known := self.pooled.known():
            self.detector.restore(self._state(known[-1]))
        self.fixed = {name: w.detach().clone() for name, w in self._matrices().items()}
        for name, weight in self._matrices().items():
            if f"owner/{name}" not in self.kept:
                self.kept[f"owner/{name}"] = torch.full_like(weight, -1, dtype=torch.int8)
        self.kept["steps"] = torch.zeros((), dtype=torch.int64)

    def on_step(self) -> None:
        """Prune when it is time, and undo what moved weights that are not this task's to move."""
        self.kept["steps"] = self.kept["steps"] + 1
        now = int(self.kept["steps"])
        for name, weight in self._matrices().items():
            owner = self.kept[f"owner/{name}"]
            if now == self.prune_at:
                owner = self.kept[f"owner/{name}"] = self._claimed(weight, owner)
            still = self.fixed[name].where(owner >= 0, 0) if now >= self.prune_at else self.fixed[name]
            free = owner == self.newest if now >= self.prune_at else owner < 0
            with torch.no_grad():
                weight.copy_(torch.where(free, weight, still))

    def _claimed(self, weight: Tensor, owner: Tensor) -> Tensor:
        """The owners after the newest task took the largest free weights of a layer."""
        free = owner < 0
        count = int(self.share * int(free.sum()))
        largest = weight.detach().abs().where(free, -1.0).flatten().topk(count).indices
        claimed = owner.flatten().clone()
        claimed[largest] = self.newest
        return claimed.view_as(owner)

    def after(self, task: Task) -> None:
        """Keep what else the task has of its own, and what its images look like."""
        del self.kept["steps"]
        matrices = self._matrices()
        for name, value in self.detector.learned().items():
            if name not in matrices:
                self.kept[f"{task.index}/{name}"] = value
        for name, weight in matrices.items():
            self.kept[f"weights/{name}"] = weight.detach().clone()
        super().after(task)

    def _matrices(self) -> dict[str, torch.nn.Parameter]:
        return {name: w for name, w in self.detector.weights().items() if w.dim() > 1}

    def snapshot(self, task: int) -> Detector:
        """The detector with the task's own weights and those of earlier tasks."""
        return light_view(self.detector, self._state(task))

    def _state(self, task: int) -> dict[str, Tensor]:
        state = self.kept.under(f"{task}/")
        for name in self._matrices():
            owner = self.kept[f"owner/{name}"]
            state[name] = self.kept[f"weights/{name}"].where((owner >= 0) & (owner <= task), 0)
        return state
