"""What a run keeps in its own folder: its rows, its model, and a task that is being learned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import continuad
from continuad.core.checkpoint import Checkpoint
from continuad.core.strategy import Strategy
from continuad.errors import ContinuadError
from continuad.files import replace_file
from continuad.models.store import MANIFEST, load_into, read_manifest, save_model

ROWS = "rows.json"  # all rows of the run, finished or not
HALF = "half.safetensors"  # the task that is being learned
Row = dict[str, Any]  # one value of a run, see `run.COLUMNS`


class RunFolder:
    """The folder of one run. Nothing in it is shared with another run, so runs may go on side by side.

    Args:
        path: where it is; made when something is written.
        identity: plain values, as JSON gives them back, in which this run differs from every other. "stream" is
            what it learns and how that is measured; all others are settings.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path, self.identity = path, identity

    @property
    def begun(self) -> bool:
        """Whether a model lies here to go on with."""
        return (self.path / MANIFEST).exists()

    def learned(self) -> list[str]:
        """Names of the tasks that the model here has learned, in order; none where there is no model."""
        return [task["name"] for task in read_manifest(self.path)["tasks"]] if self.begun else []

    def finished(self) -> bool:
        """Whether this very run is finished.

        Raises:
            ContinuadError: the folder holds another run, or its rows cannot be read.
        """
        return bool(self._read().get("finished"))

    def resume(self, strategy: Strategy, ends: Sequence[int]) -> tuple[list[Row], int]:
        """Load the model that lies here into an untrained strategy.

        Rows are written before the model. Those of a step that the model has not learned yet are left out:
        the run was stopped between the two, and the step is measured again.

        Args:
            ends: for each step, how many products are learned by its end.

        Returns:
            The rows of the steps that the model has learned, and how many steps these are; none and 0 without a model.

        Raises:
            ContinuadError: the folder holds another run, or its files are damaged or missing.
        """
        kept = self._read()
        if not self.begun:
            return [], 0
        extra = load_into(strategy, self.path)
        if extra.get("stream") != self.identity["stream"]:
            raise self._other(["stream"])
        cursor = int(extra["cursor"])
        rows = [row for row in kept.get("rows", []) if row["after_task"] < ends[cursor - 1]]
        if {row["after_task"] for row in rows} != {end - 1 for end in ends[:cursor]}:
            raise ContinuadError(
                f"{self.path / ROWS} lacks rows of steps that the model beside it has learned; "
                "remove the folder to learn this run anew"
            )
        return rows, cursor

    def checkpoint(self, task: int) -> Checkpoint:
        """Where the half-learned task of that index is kept."""
        return Checkpoint(self.path / HALF, {"version": continuad.__version__, "task": task, **self.identity})

    def keep(self, strategy: Strategy, rows: list[Row], cursor: int) -> None:
        """Write the rows and then the model, each in one step, when `cursor` steps have been learned.

        Raises:
            ContinuadError: the disk is full or not writable; what was kept before is whole.
        """
        self._write(rows, finished=False)
        save_model(strategy, self.path, {"stream": self.identity["stream"], "cursor": cursor})
        (self.path / HALF).unlink(missing_ok=True)

    def finish(self, rows: list[Row]) -> None:
        """Mark the run as finished."""
        self._write(rows, finished=True)

    def drop_model(self) -> None:
        """Remove all but the rows."""
        for file in self.path.iterdir():
            if file.name != ROWS:
                shutil.rmtree(file) if file.is_dir() else file.unlink()

    def _read(self) -> dict[str, Any]:
        """What the file of rows holds; empty where there is none."""
        file = self.path / ROWS
        if not file.exists():
            return {}
        try:
            kept = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ContinuadError(
                f"{file} cannot be read ({error}); remove the folder to learn this run anew"
            ) from error
        if differs := [key for key, value in self.identity.items() if kept.get(key) != value]:
            raise self._other(differs)
        return kept

    def _write(self, rows: list[Row], finished: bool) -> None:
        text = json.dumps({**self.identity, "finished": finished, "rows": rows})
        try:
            replace_file(self.path / ROWS, lambda new: new.write_text(text, encoding="utf-8"))
        except OSError as error:
            raise ContinuadError(
                f"cannot save the rows in {self.path}: {error}. Free space or choose another folder"
            ) from error

    def _other(self, differs: list[str]) -> ContinuadError:
        what = (
            "on other images, in another order or tested otherwise"
            if "stream" in differs
            else f"with other settings ({', '.join(differs)})"
        )
        return ContinuadError(f"{self.path} holds a run {what}; choose another output folder")
