"""What one benchmark is asked to do: a typed, flat record that is a TOML file and the options of `continuad bench`."""

from __future__ import annotations

import os
import platform
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w

import continuad
from continuad.core.hints import STEPS_MOST, Items, Range, Seed, Side, fitted, hints_of
from continuad.data.decode import MAX_PIXELS
from continuad.data.names import canonical_root, missing_part
from continuad.errors import ContinuadError
from continuad.files import replace_file
from continuad.models.names import TILED
from continuad.models.options import (
    class_of,
    identity,
    nearest,
    options_of,
    parts_of,
    refuse_unmatched,
    split_value,
    written,
)
from continuad.models.outline import known

NOT_SETTINGS = {"machine", "command", "notes", "products", "about_strategies", "images"}
"""Entries of the file that are no settings."""

FREE_TO_GROW = {"detector", "strategy", "seeds", "orders"}
"""Settings in which a later call may go beyond an earlier one into the same folder."""

COMMAND_LINE = "command line"
OF_THE_BACKBONE = ("backbone", "weights_file", "precision", "download")
OF_LEARNING = ("steps", "epochs", "patience")


FROM_NONE = Range(0, STEPS_MOST)


class DeviceName:
    """A text that names a device."""

    def holds(self, value: str) -> bool:
        """Whether it does; whether there is such a device on this machine is seen when it is used."""
        return bool(re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d{1,3})?", value))

    def __str__(self) -> str:
        return "as cpu, cuda, cuda:0 or mps"


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """A grid of runs over one stream. Every field is an option of `continuad bench` and may stand in its TOML file; the
    help texts say what it is. Fields: `detector`, `strategy`, `seeds` and `orders` span the grid.

    `of` and `read` check types and ranges, `check` whether names and options fit each other.
    """

    folders: tuple[str, ...] = _setting((), "Product folders, in learning order.")
    stream: str = _setting("", "A known stream: thesis10, mvtec15, realset, visa, btad, mpdd.")
    root: str = _setting("", "Folder that holds the known stream's products.")
    detector: tuple[str, ...] = _setting(("padim",), "Comma-separated names; see `continuad list`.")
    strategy: tuple[str, ...] = _setting(
        ("naive", "replay:300", "pertask"), "Comma-separated names, with values as in replay:300 or replay:10%."
    )
    seeds: Annotated[tuple[Seed, ...], Items(1000)] = _setting((0,), "Every run is repeated for each.")
    orders: Annotated[int, Range(1, 1000)] = _setting(1, "Orders of the products: as given, then seeded permutations.")
    image_size: tuple[Side, Side] = _setting((256, 256), "Side in pixels, or HEIGHTxWIDTH.")
    backbone: Annotated[str, Items(200)] = _setting(
        "tf_efficientnet_lite0", "Any timm name, such as vit_small_patch14_dinov2."
    )
    weights_file: str = _setting("", "Backbone weights (.safetensors, .pth).")
    download: bool = _setting(False, "Let timm fetch backbone weights from the internet.")
    precision: Literal["float32", "bfloat16"] = _setting("float32", "Of the backbone: float32 or bfloat16.")
    device: Annotated[str, DeviceName()] = _setting("cpu", "cpu, cuda, cuda:0 (a graphics card by number) or mps.")
    steps: Annotated[int, FROM_NONE] = _setting(
        0, "Optimiser steps a task for gradient detectors; 0: their own default; one: --set draem.steps=N."
    )
    epochs: Annotated[int, FROM_NONE] = _setting(
        0, "Instead of steps: walks through a task's new images (replay adds none); 0: unset."
    )
    patience: Annotated[int, FROM_NONE] = _setting(
        0,
        "Stop a task after this many epochs without a lower loss on val images, and keep the best state; 0: never.",
    )
    val_share: Annotated[float, Range(0, 1, above=True, below=True)] = _setting(
        0.1, "Share of the good train images kept as val images, for thresholds and early stopping."
    )
    threshold: str = _setting("far:0.01", "far:RATE (false alarms) or area:PIXELS (smallest defect).")
    thresholds_from: str = _setting(
        "train",
        "train: learn all good images, and predict each as if it had not been learned, where a detector can; val: from "
        "val images alone; crossfit:5: from five more models, each without a fifth of them.",
    )
    skip_unreadable: bool = _setting(False, "Go on without damaged images, naming them.")
    max_pixels: Annotated[int, Range(1, 10**12)] = _setting(
        MAX_PIXELS, "Pixels that a picture may have, such as 200000000."
    )
    look_ahead: bool = _setting(False, "Test products that are still to come, too, for forward transfer.")
    scenario: Literal["", "task", "domain", "class"] = _setting(
        "",
        "task: strategies that can use the true task are given it; domain: those that need it are left out; class: "
        "those that do not infer it are left out. Default: each strategy in its own way.",
    )
    groups: str = _setting(
        "",
        "Products learned together as one task: 14-1 (14, then 1 a task), 10-5, 10-1x5 (10, then five times 1), 3x5 "
        "(five tasks of 3). Default: one product a task.",
    )
    open_set: tuple[str, ...] = _setting(
        (), "Folder of a product that is never learned, to see whether it is noticed; may be given several times."
    )
    options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Further option of a detector or strategy, e.g. padim.channels=350."}
    )

    def common_options(self, seed: int) -> dict[str, Any]:
        """Constructor options that any detector or strategy takes if it has them."""
        from continuad.vision.backbones import BackboneSpec  # torch is not wanted before a run begins

        backbone = BackboneSpec.of(
            {
                "name": self.backbone,
                "weights_file": self.weights_file or None,
                "precision": self.precision,
                "download": self.download,
            }
        )
        return {"image_size": self.image_size, "backbone": backbone, "seed": seed}

    def own_options(self, name: str) -> dict[str, Any]:
        """The part of `options` meant for one detector or strategy."""
        pairs = ((full.rpartition("."), value) for full, value in self.options.items())
        return {option: value for (owner, _, option), value in pairs if owner == name}

    def check(self) -> None:
        """Refuse what no run could follow; torch is not needed for it unless a name is `module:Class`.

        Raises:
            ContinuadError: an unknown name; an option that matches no detector or strategy of these settings, or has a
                value that is not allowed; a setting that nothing here makes use of, or two that exclude each other.
        """
        if self.steps and self.epochs:
            raise ContinuadError(
                f"--steps {self.steps} and --epochs {self.epochs} exclude each other; give one of them"
            )
        detectors = {name: _detector(name) for name in self.detector}
        strategies: dict[str, type] = {}
        parts: set[str] = set()
        for text in self.strategy:
            names = {split_value(part)[0]: part for part in parts_of(text)}
            for name, part in names.items():
                written(_strategy(name), part)
            strategies[split_value(text)[0]] = _strategy(split_value(text)[0])
            parts |= set(names) if "+" in text else set()
        refuse_unmatched(self.options, detectors | strategies, parts)
        self._check_use(detectors, strategies)
        _refuse_same("--detector", {name: (name.startswith(TILED), class_of(kind)) for name, kind in detectors.items()})
        _refuse_same("--strategy", {text: self._identity(text) for text in self.strategy})

    def _identity(self, text: str) -> object:
        """What a strategy is, however it is written."""
        parts = [(split_value(part)[0], part) for part in parts_of(text)]
        beside = self.own_options(parts[0][0]) if len(parts) == 1 else {}
        return sorted(identity(_strategy(name), part, beside) for name, part in parts)

    def _check_use(self, detectors: Mapping[str, type], strategies: Mapping[str, type]) -> None:
        """Refuse a setting about backbones or steps in a run where nothing has a backbone or takes steps."""
        plain, kinds = Settings(), [*detectors.values(), *strategies.values()]
        asked = [name for name in (*OF_THE_BACKBONE, *OF_LEARNING) if getattr(self, name) != getattr(plain, name)]
        has = {option for kind in kinds for option in options_of(kind)}
        steps = any(getattr(kind, "learns_by", "") == "gradient" for kind in detectors.values())
        for name in asked:
            if name in OF_THE_BACKBONE and "backbone" not in has:
                raise ContinuadError(f"{option_name(name)} would change nothing: nothing in this run has a backbone")
            if name in OF_LEARNING and not steps:
                raise ContinuadError(
                    f"{option_name(name)} would change nothing: {', '.join(detectors)} learns every task in one pass"
                )

    def write(
        self,
        path: Path,
        command: str = "",
        products: Sequence[str] = (),
        notes: Sequence[str] = (),
        about_strategies: Mapping[str, str] | None = None,
        images: Mapping[str, str] | None = None,
    ) -> None:
        """Write as TOML, with what a reader of the results should know; replaced atomically.

        Bytes of file names that are no text are written as `\\udcXX`, as TOML has no other way to hold them.

        Args:
            products: names of the tasks in the order given.
            notes: what was found out about the data, and pairs that do not apply.
            about_strategies: a sentence about each strategy, for the report.
            images: how many each product has, and for what.
        """
        beside = {
            "command": command,
            "products": list(products),
            "notes": list(notes),
            "about_strategies": dict(about_strategies or {}),
            "images": dict(images or {}),
            "machine": machine(),
        }
        text = tomli_w.dumps(_portable({**asdict(self), **beside}))
        replace_file(path, lambda new: new.write_text(text, encoding="utf-8"))

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read a TOML file; fields it leaves out keep their defaults.

        Raises:
            ContinuadError: not TOML, an unknown setting, or a value that it does not take.
        """
        return cls(**values_in(path))

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> Settings:
        """From plain values, checked against the fields' types and ranges. `where`: they come from, for messages.

        Raises:
            ContinuadError: an unknown setting, or a value that it does not take.
        """
        return cls(**checked_values(values, where))

    def conflict(self, earlier: Settings) -> str | None:
        """The first setting in which results of `earlier` and of this cannot share a folder, or None."""
        for f in fields(self):
            mine, theirs = (_comparable(f.name, getattr(one, f.name)) for one in (self, earlier))
            if f.name not in FREE_TO_GROW and mine != theirs:
                return f"{option_name(f.name)} was {_shown(theirs)} and is now {_shown(mine)}"
        return None


def option_name(setting: str) -> str:
    """What a setting is called on the command line."""
    special = {"folders": "the list of product folders", "options": "--set"}
    return special.get(setting, "--" + setting.replace("_", "-"))


def values_in(path: Path) -> dict[str, Any]:
    """The settings that a TOML file gives, checked; see `Settings.read`."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = missing_part(path.absolute()) or error
        raise ContinuadError(f"settings file {path} cannot be read: {why}") from error
    return checked_values({k: v for k, v in found.items() if k not in NOT_SETTINGS}, str(path))


def checked_values(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Plain values as the fields hold them; see `Settings.of`."""
    return {name: _checked(name, value, where) for name, value in values.items()}


def _checked(name: str, value: Any, where: str) -> Any:
    """One value in its field's type, and in its range."""
    about = {f.name: f for f in fields(Settings)}
    if name not in about:
        if isinstance(value, dict):
            raise ContinuadError(f"{where}: {_quoted(name, value)}, under [options]")
        raise ContinuadError(f"{where}: unknown setting '{name}'{nearest(name, about)}")
    what = option_name(name) if where == COMMAND_LINE else f"{where}: {name}"
    hint = hints_of(Settings)[name]
    if name == "image_size" and isinstance(value, int):
        value = (value, value)
    if isinstance(about[name].default, tuple):
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
    value = fitted(what, value, hint)
    _check_more(what, name, value)
    return tuple(dict.fromkeys(value)) if name in FREE_TO_GROW and isinstance(value, tuple) else value


def _check_more(what: str, name: str, value: Any) -> None:
    if name in ("detector", "strategy"):
        if not value:
            raise ContinuadError(f"{what} is empty; give at least one name, see `continuad list`")
        if together := next((text for text in value if "," in text), None):
            names = ", ".join(f'"{part.strip()}"' for part in together.split(","))
            raise ContinuadError(
                f"{what} is {together!r}, one name for several; allowed: a list of names, as [{names}]"
            )
    if name == "options" and (table := next((k for k, v in value.items() if isinstance(v, dict)), None)):
        raise ContinuadError(f"{what}: {_quoted(table, value[table])}")


def _quoted(name: str, table: dict[str, Any]) -> str:
    """What to write instead of an option's name without quotation marks, which TOML takes for a table."""
    option, value = next(iter(table.items()), ("option", 0))
    line = tomli_w.dumps({f"{name}.{option}": value}).strip()
    return f"{name}.{option} is {value!r} of a table '{name}'; allowed: the name in quotation marks, as {line}"


def _detector(name: str) -> type:
    """A detector's outline, or the class itself of one from elsewhere."""
    try:
        return known().detector(name)
    except KeyError:
        if ":" not in name:
            raise _unknown("detector", name, known().detectors) from None
    from continuad.models.registry import find_detector

    return find_detector(name)


def _strategy(name: str) -> type:
    """A strategy's outline, or the class itself of one from elsewhere."""
    try:
        return known().strategies[name]
    except KeyError:
        if ":" not in name or get_close_matches(name.partition(":")[0], known().strategies, cutoff=0.8):
            raise _unknown("strategy", name.partition(":")[0], known().strategies) from None
    from continuad.models.registry import find_strategy

    return find_strategy(name)


def _refuse_same(option: str, meant: Mapping[str, object]) -> None:
    """Refuse names that mean one thing: their runs would be the same, and one be taken for the other."""
    for (one, first), (other, second) in combinations(meant.items(), 2):
        if first == second:
            raise ContinuadError(f"{option}: {one} and {other} are the same; give one of them")


def _unknown(what: str, name: str, there: Mapping[str, type]) -> ContinuadError:
    return ContinuadError(f"unknown {what} '{name}'{nearest(name, there)}; there are {', '.join(there)}")


def _shown(value: Any) -> str:
    """A value as the command line would have it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "empty"
    return repr(value)


def _comparable(name: str, value: Any) -> Any:
    """A setting such that other spellings of the same folder or device are the same."""
    if name in ("folders", "open_set"):
        return tuple(_portable(str(canonical_root(folder))) for folder in value)
    if name == "root" and value:
        return _portable(str(canonical_root(value)))
    return value.removesuffix(":0") if name == "device" else _portable(value)


def _portable(value: Any) -> Any:
    """The same with text that any file can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_portable(key): _portable(one) for key, one in value.items()}
    return type(value)(map(_portable, value)) if isinstance(value, list | tuple) else value


def machine() -> dict[str, Any]:
    """Where times were measured."""
    import torch  # only here: settings are read and checked without it

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
