"""A half-learned task in one file: a run that was killed goes on from there and ends the same."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from continuad.core.detector import Detector
from continuad.core.state import Stats
from continuad.errors import ContinuadError
from continuad.files import replace_file

EVERY = 60.0  # seconds between two checkpoints
log = logging.getLogger(__name__)


@dataclass
class Half:
    """Everything that the steps of a task change.

    Attributes:
        detector, optimiser: what is taught, and how.
        kept: what is remembered beside the detector.
        step: optimiser steps done.
        best: learned state with the lowest val loss so far, empty before the first check.
        best_loss: that loss. missed: checks since then.
    """

    detector: Detector
    optimiser: torch.optim.Optimizer
    kept: Stats
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = math.inf
    missed: int = 0

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by "part/name", and plain values."""
        optimiser, plain = pack_optimiser(self.optimiser)
        parts = {
            "learned": self.detector.learned(),
            "best": self.best,
            "kept": self.kept.under(""),
            "optimiser": optimiser,
        }
        return {f"{part}/{name}": value for part, named in parts.items() for name, value in named.items()}, {
            "step": self.step,
            "best_loss": self.best_loss,
            "missed": self.missed,
            **plain,
        }

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Put back what `pack` gave."""
        device = self.detector.device

        def part(name: str, to: torch.device = device) -> dict[str, Tensor]:
            return {k.removeprefix(name): v.to(to) for k, v in tensors.items() if k.startswith(name)}

        self.detector.restore(part("learned/"))
        self.best = part("best/")
        self.kept.clear()
        for name, value in part("kept/").items():
            self.kept[name] = value
        self.step, self.best_loss, self.missed = values["step"], values["best_loss"], values["missed"]
        # From the CPU: an optimiser knows itself which of its tensors belong on another device.
        unpack_optimiser(self.optimiser, part("optimiser/", torch.device("cpu")), values)


def pack_optimiser(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by "parameter/name", and plain values."""
    packed = optimiser.state_dict()
    state = [(f"{i}/{key}", value) for i, values in packed["state"].items() for key, value in values.items()]
    return {name: value for name, value in state if isinstance(value, Tensor)}, {
        "state": {name: value for name, value in state if not isinstance(value, Tensor)},
        "groups": [{k: v for k, v in group.items() if k != "params"} for group in packed["param_groups"]],
    }


def unpack_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Put back what `pack_optimiser` gave."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in (tensors | values["state"]).items():
        index, _, key = name.partition("/")
        like = parameters[int(index)]
        if isinstance(value, Tensor) and value.dim() and value.shape == like.shape:
            value = torch.empty_like(like, dtype=value.dtype).copy_(value)  # in the weight's memory format
        state.setdefault(int(index), {})[key] = value
    now = optimiser.state_dict()["param_groups"]
    for group, saved in zip(now, values["groups"], strict=True):
        group.update({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})
    optimiser.load_state_dict({"state": state, "param_groups": now})


class Packable(Protocol):
    """What a checkpoint can hold."""

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...

    def unpack(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None: ...


class Checkpoint:
    """The file that holds half of something long: a task, or a teacher.

    Args:
        path: of the file, replaced atomically. Tensors are stored as safetensors, plain values as JSON in its
            header.
        identity: plain values, as JSON gives them back, that only this task of this run has.
        refuse_others: a file of another identity is an error; else the work begins anew and replaces it.

    Attributes:
        earlier: seconds that interrupted calls had spent on what was loaded.
    """

    def __init__(self, path: Path, identity: dict[str, Any], *, refuse_others: bool = False):
        self.path, self.identity, self.refuse_others = path, identity, refuse_others
        self.earlier = 0.0
        self.began = self.written = time.monotonic()

    @property
    def seconds(self) -> float:
        """Spent so far, in this call and in interrupted ones."""
        return self.earlier + time.monotonic() - self.began

    def keep(self, half: Packable) -> None:
        """Write, if the last time is long enough ago.

        Raises:
            ContinuadError: the disk is full or not writable; the previous checkpoint is untouched.
        """
        if time.monotonic() - self.written < EVERY:
            return
        tensors, values = half.pack()
        values |= {"identity": self.identity, "seconds": self.seconds}
        header = {"half": json.dumps(values)}
        try:
            replace_file(self.path, lambda new: save_file(_apart(tensors), new, metadata=header))
        except (OSError, SafetensorError) as error:
            raise ContinuadError(
                f"cannot save the checkpoint {self.path}: {error}. Free space or choose another folder"
            ) from error
        self.written = time.monotonic()

    def load(self, half: Packable) -> None:
        """Continue from the file, if it is there, whole, and of this task of this run.

        Raises:
            ContinuadError: it is of another, and `refuse_others`.
        """
        if not self.path.exists():
            return
        try:
            with safe_open(self.path, "pt") as file:
                values = json.loads(file.metadata()["half"])
                identity, earlier = values["identity"], float(values["seconds"])
                # Copies, because the file will be replaced while they are in use.
                tensors = {name: file.get_tensor(name).clone() for name in sorted(file.keys())}
        except (OSError, SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("%s is damaged (%s); the task is learned from its beginning", self.path, error)
            return
        if identity != self.identity and self.refuse_others:
            raise ContinuadError(f"{self.path} was begun with other settings; remove it or choose another file")
        if identity != self.identity:
            log.info("%s is of another task or run; the task is learned from its beginning", self.path)
            return
        half.unpack(tensors, values)
        self.earlier = earlier

    def remove(self) -> None:
        """The task is saved whole: its half is no longer needed."""
        self.path.unlink(missing_ok=True)


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each with storage of its own, as safetensors wants them."""
    found, seen = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    return found
