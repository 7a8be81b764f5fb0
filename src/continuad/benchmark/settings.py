"""What one benchmark is asked to do: a typed, flat record that is also a TOML file."""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w
import torch

import continuad
from continuad.errors import ContinuadError
from continuad.files import replace_file
from continuad.vision.backbones import DEFAULT, BackboneSpec, Precision

NOT_SETTINGS = {"machine", "command", "notes", "products", "about_strategies"}
"""What the file tells beside the settings."""

FREE_TO_GROW = {"detector", "strategy", "seeds", "orders"}
"""Settings in which a later call may go beyond an earlier one into the same folder."""


@dataclass(frozen=True)
class Settings:
    """A grid of runs over one stream. Every field is a command-line option of the same name.

    Attributes:
        folders: product folders, in learning order; or stream + root.
        stream, root: a known stream ("thesis10", "mvtec15", "realset", "visa", "btad", "mpdd") and its folder.
        detector, strategy: names; a strategy may carry a value ("replay:300").
        seeds: every run is repeated for each. orders: how many orders of the tasks (the first as given).
        image_size: (height, width) in pixels.
        backbone, weights_file, download, precision: see `backbones.load_backbone`.
        device: a torch device, such as "cpu" or "cuda".
        steps, epochs, patience: how long a gradient detector learns a task, see `fit.Budget`; 0 is unset.
        val_share: part of the good train images that is held out.
        threshold: "far:RATE" or "area:PIXELS", see `thresholds`.
        skip_unreadable: go on without files that cannot be decoded (they are named).
        look_ahead: measure tasks that are still to come as well, for forward transfer.
        scenario: what strategies are told of the task: "task", "domain" or "class"; "": each in its own way.
        groups: products learned together, such as "10-5"; "": one product a task.
        open_set: folders of products that are never learned, to be told apart from those that are.
        options: further constructor options, as {"padim.channels": 350}.
    """

    folders: tuple[str, ...] = ()
    stream: str = ""
    root: str = ""
    detector: tuple[str, ...] = ("padim",)
    strategy: tuple[str, ...] = ("naive", "replay:300", "pertask")
    seeds: tuple[int, ...] = (0,)
    orders: int = 1
    image_size: tuple[int, int] = (256, 256)
    backbone: str = DEFAULT
    weights_file: str = ""
    download: bool = False
    precision: Precision = "float32"
    device: str = "cpu"
    steps: int = 0
    epochs: int = 0
    patience: int = 0
    val_share: float = 0.1
    threshold: str = "far:0.01"
    skip_unreadable: bool = False
    look_ahead: bool = False
    scenario: str = ""
    groups: str = ""
    open_set: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def common_options(self, seed: int) -> dict[str, Any]:
        """Constructor options that any detector or strategy takes if it has them."""
        return {
            "image_size": self.image_size,
            "backbone": BackboneSpec(self.backbone, self.weights_file or None, self.precision, self.download),
            "seed": seed,
        }

    def own_options(self, name: str) -> dict[str, Any]:
        """The part of `options` meant for one detector or strategy."""
        return {k.partition(".")[2]: v for k, v in self.options.items() if k.partition(".")[0] == name}

    def write(
        self,
        path: Path,
        command: str = "",
        products: Sequence[str] = (),
        notes: Sequence[str] = (),
        about_strategies: Mapping[str, str] | None = None,
    ) -> None:
        """Write as TOML, with what a reader of the results should know; replaced atomically.

        Args:
            products: names of the tasks in the order given.
            notes: what was found out about the data, and pairs that do not apply.
            about_strategies: a sentence about each strategy, for the report.
        """
        beside = {
            "command": command,
            "products": list(products),
            "notes": list(notes),
            "about_strategies": dict(about_strategies or {}),
            "machine": machine(),
        }
        text = tomli_w.dumps({**asdict(self), **beside})
        replace_file(path, lambda new: new.write_text(text, encoding="utf-8"))

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read a TOML file; fields it leaves out keep their defaults.

        Raises:
            ContinuadError: not TOML, an open_set field, or a value of another type.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ContinuadError(f"settings file {path} cannot be read: {error}") from error
        return cls.of({k: v for k, v in found.items() if k not in NOT_SETTINGS}, str(path))

    @classmethod
    def of(cls, values: dict[str, Any], where: str) -> Settings:
        """From plain values, checked against the fields' types."""
        defaults = cls()
        checked = {}
        for name, value in values.items():
            if name not in {f.name for f in fields(cls)}:
                raise ContinuadError(f"{where}: open_set setting '{name}'")
            wanted = getattr(defaults, name)
            if isinstance(wanted, tuple):
                value = tuple(value) if isinstance(value, list | tuple) else (value,)
            elif isinstance(wanted, float) and isinstance(value, int):
                value = float(value)
            if type(value) is not type(wanted):
                raise ContinuadError(f"{where}: setting '{name}' must be {type(wanted).__name__}, not {value!r}")
            checked[name] = value
        return cls(**checked)

    def conflict(self, earlier: Settings) -> str | None:
        """The first setting in which results of `earlier` and of this cannot share a folder, or None."""
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(earlier, f.name)
            if f.name not in FREE_TO_GROW and mine != theirs:
                return f"{f.name} was {theirs!r} and is now {mine!r}"
        return None


def machine() -> dict[str, Any]:
    """Where times were measured."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "continuad": continuad.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.machine())
