"""How a detector meets one task after another. The default is plain fine-tuning."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from continuad.core.batches import in_order
from continuad.core.calibration import Calibration
from continuad.core.checkpoint import Checkpoint
from continuad.core.detector import Detector, OutOfFold, ask, gives_answers
from continuad.core.fit import Budget, Progress, TaskImages, fit, seed_of
from continuad.core.footprint import held_bytes
from continuad.core.hints import Seed, checks_values, fitted
from continuad.core.state import Policy, Stats
from continuad.core.thresholds import Thresholds
from continuad.core.types import Chosen, Images, ImageSet, Joined, LearnedTask, Prediction, Task
from continuad.core.undo import Before
from continuad.errors import ContinuadError

_log = logging.getLogger(__name__)


class Strategy(nn.Module):
    """A continual strategy around one detector; subclasses override only what they change.

    Attributes:
        needs_gradients: it edits losses or gradients, and so refuses detectors that learn by statistics.
        needs_answers: it compares what a detector's `forward` answers, and so refuses detectors without one.
        statistics: what happens to the detector's statistics when a task begins.
        needs_task: `predict` must be given the task; then later tasks leave earlier ones' answers alone.
        budget: how long a gradient detector learns a task.
        thresholds_from: "train": all good images, predicted out of fold, wherever detector and strategy can do so, and
            elsewhere the val images; "val": the val images alone; or "crossfit:5": all good images, each predicted by
            one of five models that learn the others, beside the model in use, which learns the train images.
        kept: what the strategy remembers (counted as additional memory).
        calibration: rule and thresholds.
        tasks: what was learned, in order of learning.
        learning_bytes: the most bytes that learning the newest task held, see `learning_peak`; 0 before the first task
            and after loading.
    """

    needs_gradients: ClassVar[bool] = False
    needs_answers: ClassVar[bool] = False
    statistics: ClassVar[Policy] = "restart"
    needs_task: ClassVar[bool] = False

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        checks_values(cls)

    def __init__(self, detector: Detector, seed: Seed = 0):
        super().__init__()
        fitted("option seed", seed, Seed)
        if reason := self.refuses(type(detector)):
            raise ContinuadError(reason)
        self.detector, self.seed, self.kept, self.calibration = detector, seed, Stats(), Calibration()
        self.budget, self.thresholds_from = Budget(), "train"
        self.tasks: list[LearnedTask] = []
        self.learning_bytes = 0
        self._earlier: Before | None = None  # while a task is learned: what it was before, if it fails
        self._progress: Progress | None = None  # while a task is learned: who watches

    @classmethod
    def refuses(cls, detector: type[Detector]) -> str | None:
        """Why this strategy cannot serve that kind of detector, or None when it can."""
        if cls.needs_gradients and detector.learns_by != "gradient":
            return "the strategy needs a loss to descend, and the detector learns by statistics"
        if cls.needs_answers and not gives_answers(detector):
            return "the strategy compares a detector's answers, and the detector gives none (it has no forward)"
        return None

    def view(self, stream: Sequence[Task]) -> Sequence[Task]:
        """What the learner is shown. Only upper bounds may show it more than the newest task."""
        return stream

    @torch.inference_mode(False)
    def learn(self, task: Task, progress: Progress | None = None, checkpoint: Checkpoint | None = None) -> int:
        """Learn one task of `view(stream)`; returns the steps taken. The same task and seed repeat exactly.

        Numbers rise in the order of learning: a task whose own does not gets the next one, and `tasks` says which. A
        task that fails or is stopped leaves the model as it was.

        Args:
            progress: called with (steps done, steps in all), for the detector's steps and then for what a strategy
                learns beside it.
            checkpoint: where a half-learned task is kept, and continued from.

        Raises:
            ContinuadError: a task of that name has been learned already.
        """
        task, earlier = self._placed(task), Before(self)
        self._earlier = earlier
        try:
            steps = self._learn(task, progress, checkpoint)
        except BaseException:
            earlier.restore()
            raise
        finally:
            self._earlier = self._progress = None
        promised, asked = self.calibration.thresholds(task.index).rate, self.calibration.rule.rate
        if promised > asked > 0:
            few = "%s: its good images can promise 1 false alarm in %.0f, not %g %%"
            _log.warning(few, task.name, 1 / promised, 100 * asked)
        return steps

    def _learn(self, task: Task, progress: Progress | None, checkpoint: Checkpoint | None) -> int:
        looks = self._crossfit(task, progress)
        progress = _part(progress, self._folds(), self._folds() + 1)
        task = task.with_all_in_one() if self.predicts_out_of_fold else task
        self.before(task)
        (new, old), val = self.data(task), self.val(task)
        found = fit(
            self.detector,
            TaskImages(new, old, Joined(tuple(val.values()))),
            self,
            statistics=self.statistics,
            seed=seed_of(self.seed, task.index),
            budget=self.budget,
            checkpoint=checkpoint,
            progress=progress,
        )
        self.learning_bytes = found.bytes
        self._progress = progress
        self.after(task)
        self._count_held()
        others = {number: images for number, images in val.items() if not looks or number != task.index}
        self.calibration.learn(self._val_predictions(others) | ({task.index: looks} if looks else {}))
        self.tasks.append(LearnedTask(task.index, task.name, task.bits))
        return found.steps

    @property
    def predicts_out_of_fold(self) -> bool:
        """Whether good images can be predicted as if they had not been learned, so that all of them set thresholds:
        the detector knows how, and `after` leaves it what `fit` made it."""
        return self.thresholds_from != "val" and isinstance(self.detector, OutOfFold)

    def _folds(self) -> int:
        """How many copies learn the task beside the model itself."""
        return 0 if self.predicts_out_of_fold else folds_of(self.thresholds_from)

    def _crossfit(self, task: Task, progress: Progress | None) -> list[Prediction]:
        """Predictions of all good images, each by a copy that learned the task without it; none if not asked for. One
        copy is held at a time."""
        folds = self._folds()
        if not folds:
            return []
        if self.budget.patience is not None:
            raise ContinuadError("cross-fitting leaves no val images to stop early by; leave the option patience unset")
        good = task.all_good()
        if len(good) < 2:
            return []
        looks: list[Prediction] = []
        for fold in range(min(folds, len(good))):
            left_out = Chosen(good, range(fold, len(good), folds))
            rest = Chosen(good, [i for i in range(len(good)) if i % folds != fold])
            copied = copy.deepcopy(self, {id(self._earlier): None})  # what this one is put back from is not its own
            copied.thresholds_from = "val"
            part = replace(task, train=cast(ImageSet, rest), val=cast(ImageSet, left_out))
            copied._learn(part, _part(progress, fold, folds + 1), None)
            looks += copied._predictions(left_out)
        return looks

    def _count_held(self, *things: object) -> None:
        """Note what is held just now, and these things beside it, if that is the most since the task began."""
        self.learning_bytes = max(self.learning_bytes, held_bytes(self, *things))

    def before(self, task: Task) -> None:
        """Called before a task is learned."""

    def data(self, task: Task) -> tuple[Images, Images | None]:
        """New images, and replayed ones if any."""
        return task.train, None

    def val(self, task: Task) -> dict[int, Images]:
        """Good val images: of the task, and of those earlier ones that there are images of."""
        return {task.index: task.val}

    def _val_predictions(self, val: Mapping[int, Images]) -> dict[int, Iterable[Prediction]]:
        """The detector's predictions, raw and as it is now, of val images by task: those given, and any other that
        the strategy has something to predict for."""
        return {task: self._predictions(images) for task, images in val.items()}

    def _predictions(self, images: Images) -> Iterator[Prediction]:
        for batch in in_order(images, self.detector.batch_size):
            yield ask(self.detector, batch.image.to(self.detector.device), self.predicts_out_of_fold)

    def penalty(self, images: Tensor) -> Tensor | float:
        """Added to the loss of every step."""
        return 0.0

    def on_gradients(self) -> None:
        """Called between backward and the optimiser's step."""

    def on_step(self) -> None:
        """Called after the optimiser's step (momentum moves weights that have no gradient)."""

    def after(self, task: Task) -> None:
        """Called when a task has been learned, before thresholds are set."""

    @torch.no_grad()
    def predict(self, images: Tensor, task: int | str | None = None, *, out_of_fold: bool = False) -> Prediction:
        """Score uint8 images (B, 3, H, W). It changes nothing: threads may ask the same model at once.

        Args:
            task: the true one, if it is known, by number or name.
            out_of_fold: predict good images of the past as if they had not been learned, where the detector can.

        Raises:
            ContinuadError: nothing was learned yet, or no such task; images of another kind or size.
        """
        return self._predict(images, self._number_of(task), out_of_fold and self.predicts_out_of_fold)

    def _predict(self, images: Tensor, task: int | None, out_of_fold: bool) -> Prediction:
        """`predict` of a task that was learned, for subclasses to implement."""
        return ask(self.detector, images, out_of_fold)

    def thresholds(self, task: int | str | None = None, rate: float | None = None) -> Thresholds:
        """Thresholds on the scale of `predict`: a task's own, or those for everything that was calibrated together.

        A task's own are set anew after every task where the strategy keeps images of it; else they are those of
        the time it was learned. Tasks without any, and None, have the thresholds for everything.

        Args:
            task: by number or name.
            rate: of false alarms, in place of the rule's, for the image threshold.

        Raises:
            ContinuadError: nothing was learned yet, no such task, or no such rate.
        """
        return self.calibration.thresholds(self._number_of(task), rate)

    def _refuse_untrained(self) -> None:
        if not self.tasks:
            raise ContinuadError("the model is not trained yet: learn a task first")

    def _placed(self, task: Task) -> Task:
        """The task with a number of its own."""
        for what, images in (("train", task.train), ("val", task.val)):
            if not len(images):
                raise ContinuadError(f"'{task.name}' has no {what} images: give at least one good image for each")
        taken = {known.index: known.name for known in self.tasks}
        if task.name in taken.values():
            raise ContinuadError(f"'{task.name}' has been learned already; give new images of it another name")
        newest = max(taken, default=-1)
        return task if task.index > newest else replace(task, index=newest + 1)

    def _number_of(self, task: int | str | None) -> int | None:
        """The number of a learned task."""
        found = [known.index for known in self.tasks if task in (known.index, known.name)]
        if task is None or found:
            return found[0] if found else None
        self._refuse_untrained()
        names = ", ".join(f"{known.index} {known.name}" for known in self.tasks)
        raise ContinuadError(f"there is no task '{task}'; learned are {names}")


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """Progress of one of several equal parts, as progress of all of them."""
    if progress is None or parts == 1:
        return progress
    return lambda done, total: progress(number * total + done, parts * total)


def folds_of(thresholds_from: str) -> int:
    """How many folds `Strategy.thresholds_from` asks for: 5 for "crossfit:5"; 0 for "train" and "val".

    Raises:
        ContinuadError: it is none of these.
    """
    kind, _, number = thresholds_from.partition(":")
    if thresholds_from in ("train", "val"):
        return 0
    if kind != "crossfit" or not number.isdecimal() or int(number) < 2:
        raise ContinuadError(
            f"thresholds from '{thresholds_from}' are not known; use train, val or crossfit:N with N of 2 or more"
        )
    return int(number)


@runtime_checkable
class InfersTask(Protocol):
    """A strategy that finds out which task an image belongs to; its predictions name the task they took it for.

    Attributes:
        infers_task_by: names of the methods by which it can do so.
    """

    infers_task_by: ClassVar[tuple[str, ...]]

    def infer_task(self, images: Tensor, how: str | None = None) -> Tensor:
        """(B,) int64 the learned task each image looks most like.

        Args:
            how: one of `infers_task_by`; None: as the strategy is set.
        """

    def task_distance(self, images: Tensor) -> Tensor:
        """(B,) how far each image lies from its nearest task, where 1 is as far as an image of that task may lie."""
