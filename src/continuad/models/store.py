"""A model on disk: a folder of safetensors and one manifest.json, replaced atomically. No pickle."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import safetensors
import timm
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from continuad.core.fit import Budget
from continuad.core.strategy import Strategy, folds_of
from continuad.core.thresholds import parse_rule
from continuad.core.types import LearnedTask
from continuad.data.decode import MAX_PIXELS
from continuad.errors import ContinuadError
from continuad.files import replace_file
from continuad.models.manifest import is_sound
from continuad.models.names import TILED
from continuad.models.options import split_value
from continuad.models.registry import make_detector, make_strategy, name_of, settings
from continuad.models.tensors import placed, read_tensors, remove_all_but, remove_unfinished, write_tensors
from continuad.vision.backbones import Frozen

FORMAT = 5
MANIFEST = "manifest.json"
PREVIOUS = "previous.json"  # the manifest of the version before
LOCK = "manifest.lock"  # held by the one process that changes the folder
LONGEST = 2**15  # pixels: the longest side that a model may be said to have learned
PATIENCE = 10.0  # seconds that another waits for it


def describe(strategy: Strategy) -> dict[str, Any]:
    """What rebuilds the same strategy untrained: names and constructor arguments, as plain values."""
    detector = strategy.detector
    about = {
        "detector": {"name": name_of(detector), "options": settings(detector)},
        "strategy": {"name": name_of(strategy), "options": settings(strategy), "budget": asdict(strategy.budget)},
        "threshold": str(strategy.calibration.rule),
        "thresholds_from": strategy.thresholds_from,
    }
    plain: dict[str, Any] = json.loads(json.dumps(about, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    """A dataclass by its fields, a path as text."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else os.fspath(value)


def save_model(strategy: Strategy, folder: Path | str, extra: dict[str, Any] | None = None) -> None:
    """Write everything a strategy learned, and `extra` plain values beside it.

    The manifest is replaced last and at once: a process killed at any moment leaves the previous or the new
    version, whole. The previous version stays until the next is saved, see `undo_save`. Tensors that did not change
    are not written again. Frozen backbones are named by their fingerprint, not stored.

    Raises:
        ContinuadError: the disk is full or not writable, another process is saving there all the while, or `extra`
            holds something else; the previous version is untouched.
    """
    folder = Path(folder)
    files, places = placed(_distinct(strategy))
    text = _text(strategy, places, {} if extra is None else extra)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            remove_unfinished(folder)
            write_tensors(files, folder)
            _replace_manifest(folder, text, set(files))
            remove_all_but(set(files) | _files_of(folder / PREVIOUS), folder)
    except (OSError, safetensors.SafetensorError) as error:
        raise ContinuadError(
            f"cannot save the model in {folder}: {error}. Free space or choose another folder"
        ) from error


def _text(strategy: Strategy, places: dict[str, dict[str, str]], extra: dict[str, Any]) -> str:
    """The manifest that names the tensors' places."""
    if not isinstance(extra, dict):
        raise ContinuadError("cannot save the model: its extra values have no names; give plain values by name")
    try:
        manifest = {
            "format": FORMAT,
            "versions": {
                "torch": torch.__version__,
                "timm": timm.__version__,
                "safetensors": safetensors.__version__,
            },
            "backbones": _fingerprints(strategy),
            **describe(strategy),
            "tasks": [asdict(task) for task in strategy.tasks],
            "tensors": places,
            "extra": extra,
        }
        return json.dumps(manifest, indent=1)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContinuadError(
            f"cannot save the model: extra and options may hold texts, numbers, lists and tables only ({error})"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process changes the folder.

    Raises:
        ContinuadError: another does, for longer than one waits.
    """
    try:
        with FileLock(folder / LOCK, timeout=PATIENCE):
            yield
    except Timeout as error:
        raise ContinuadError(
            f"another process has been saving a model in {folder} for more than {PATIENCE:g} seconds; "
            "wait for it, or choose another folder"
        ) from error


def _replace_manifest(folder: Path, text: str, written: set[str]) -> None:
    """The new manifest in place of the one that is there, which becomes the previous one if it is whole: a damaged
    version takes the place of no good one. All is written before anything is put in place, so a full disk changes
    neither.

    Args:
        written: the new version's files, which are whole.
    """
    now, coming = folder / MANIFEST, folder / f"{MANIFEST}.new"
    try:
        coming.write_text(text, encoding="utf-8")
        if _files_of(now) and now.read_text(encoding="utf-8") != text and _whole_but_for(now, written):
            before = now.read_bytes()
            replace_file(folder / PREVIOUS, lambda new: new.write_bytes(before))
        os.replace(coming, now)
    finally:
        coming.unlink(missing_ok=True)


def _whole_but_for(manifest: Path, known: set[str]) -> bool:
    """Whether a sound manifest's tensors can be read; those in known files are not looked at."""
    places = {name: place for name, place in _json(manifest)["tensors"].items() if place["file"] not in known}
    try:
        read_tensors(places, manifest.parent)
    except ContinuadError:
        return False
    return True


def undo_save(folder: Path | str) -> None:
    """Go back to the version before the last `save_model`. The version that is left is gone with the next save.

    Raises:
        ContinuadError: there is no version before.
    """
    folder = Path(folder)
    none = f"{folder} holds no version before this one"
    if not (folder / PREVIOUS).is_file():
        raise ContinuadError(none)
    try:
        with _alone(folder):
            files = _files_of(folder / PREVIOUS)
            if not files or not all((folder / file).is_file() for file in files):
                raise ContinuadError(none)
            os.replace(folder / PREVIOUS, folder / MANIFEST)
    except OSError as error:
        raise ContinuadError(f"cannot go back to the version before in {folder}: {error}") from error


def _files_of(manifest: Path) -> set[str]:
    """The tensor files that a manifest names; none where there is no sound one."""
    try:
        found = _json(manifest)
    except (OSError, ValueError, RecursionError):
        return set()
    sound = isinstance(found, dict) and is_sound(found)
    return {place["file"] for place in found["tensors"].values()} if sound else set()


def load_model(folder: Path | str, trust: Sequence[str] = ()) -> tuple[Strategy, dict[str, Any]]:
    """The strategy that `save_model` wrote, on the CPU, and its `extra` values.

    Args:
        trust: classes from outside the package ("package.module:Class") that the file may name. Importing one runs
            its code, so trust only what you know.

    Raises:
        ContinuadError: no model there, another format, damaged files, other backbone weights, or a class that is not
            trusted.
    """
    if isinstance(trust, str):
        raise ContinuadError(f'trust is the text {trust!r}; give a list of classes, such as trust=["{trust}"]')
    folder = Path(folder)
    manifest = read_manifest(folder)
    detector, strategy = manifest["detector"], manifest["strategy"]
    members = str(strategy["options"].get("strategies", ""))
    _refuse_untrusted(folder, [detector["name"].removeprefix(TILED), strategy["name"], *_heads(members)], trust)
    try:
        made = make_strategy(
            strategy["name"], make_detector(detector["name"], **detector["options"]), **strategy["options"]
        )
        made.calibration.rule, made.budget = parse_rule(manifest["threshold"]), Budget(**strategy["budget"])
        folds_of(manifest["thresholds_from"])
        made.thresholds_from = manifest["thresholds_from"]
    except ContinuadError:
        raise
    except Exception as error:  # values that no constructor was meant for
        raise _damaged(folder, f"its settings cannot be used ({error})") from error
    extra = load_into(made, folder)
    _refuse_silent(made, folder)
    return made, extra


def _heads(members: str) -> list[str]:
    """What the members of a combination are called, each whole where it is not a plain name with options."""
    parts = [part for part in members.split("+") if part]
    return [part if (head := split_value(part)[0]) == "combined" else head for part in parts]


def _refuse_untrusted(folder: Path, names: Sequence[str], trust: Sequence[str]) -> None:
    """What a file names is data: only the package's own classes, and those trusted by name, are imported."""
    for name in names:
        if ":" in name and name not in trust:
            raise ContinuadError(
                f"the model in {folder} asks for the class {name}, which is not part of continuad. Loading it runs its "
                "code: if you know and trust it, name it in the option trust"
            )


@torch.inference_mode(False)  # what is loaded may learn on
def load_into(strategy: Strategy, folder: Path) -> dict[str, Any]:
    """Fill a strategy that was built with the same settings, where it is; returns the `extra` values.

    Raises:
        ContinuadError: as `load_model`, or the settings differ.
    """
    manifest, device = read_manifest(folder), strategy.detector.device
    for part, wanted in describe(strategy).items():
        if manifest[part] != wanted:
            raise ContinuadError(
                f"the model in {folder} was made with other settings of its {part}: {manifest[part]}, not {wanted}"
            )
    for place, fingerprint in _fingerprints(strategy).items():
        if manifest["backbones"].get(place) != fingerprint:
            raise ContinuadError(f"the model in {folder} was learned with other backbone weights; use the same file")
    _fill(strategy, manifest, folder)
    strategy.to(device).eval()  # what came from the file follows the model
    extra: dict[str, Any] = manifest["extra"]
    return extra


def _fill(strategy: Strategy, manifest: dict[str, Any], folder: Path) -> None:
    """Give an untrained strategy the tensors and tasks of the file."""
    found, own = read_tensors(manifest["tensors"], folder), strategy.state_dict()
    for name, tensor in found.items():
        if name in own and (tensor.shape, tensor.dtype) != (own[name].shape, own[name].dtype):
            given, wanted = (f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (tensor, own[name]))
            raise _damaged(folder, f"{name} is {given}, not {wanted}")
        if name not in own and not manifest["tasks"]:
            raise _damaged(folder, f"it has learned no task, but holds {name}")
    keys = strategy.load_state_dict(found, strict=False)
    if missing := set(keys.missing_keys) & set(_distinct(strategy)):
        raise _damaged(folder, f"it lacks {', '.join(sorted(missing))}")
    if keys.unexpected_keys:
        raise _damaged(folder, f"it holds {', '.join(sorted(keys.unexpected_keys))}, which belongs to no part of it")
    strategy.tasks = [LearnedTask(**task) for task in manifest["tasks"]]


@torch.inference_mode(False)
def _refuse_silent(strategy: Strategy, folder: Path) -> None:
    """Refuse a model that cannot answer: what was learned by statistics has shapes that only an answer shows."""
    height, width = strategy.detector.image_size
    if height * width > MAX_PIXELS or max(height, width) > LONGEST:
        raise _damaged(folder, f"it is said to have learned {height} x {width}, larger than any picture may be")
    image = torch.arange(3 * height * width, device=strategy.detector.device).remainder(251).to(torch.uint8)
    for task in strategy.tasks:
        try:
            found = strategy.predict(image.view(1, 3, height, width), task.index)
            values = [*found.score.tolist(), *found.map.flatten().tolist(), *strategy.thresholds(task.index)[:3]]
        except Exception as error:  # whatever wrong tensors lead to
            raise _damaged(folder, f"asked about '{task.name}' it fails ({type(error).__name__}: {error})") from error
        if any(map(math.isnan, values)):
            raise _damaged(folder, f"asked about '{task.name}' it answers with values that are no numbers")


def _damaged(folder: Path, what: str) -> ContinuadError:
    return ContinuadError(f"the model in {folder} is damaged: {what}. Restore it, or go back with undo_save")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model folder.

    Raises:
        ContinuadError: not a model, or one that another version of continuad wrote.
    """
    try:
        manifest = _json(folder / MANIFEST)
    except (OSError, ValueError, RecursionError) as error:
        raise ContinuadError(f"{folder} holds no model ({MANIFEST}: {error})") from error
    if not isinstance(manifest, dict):
        raise ContinuadError(f"{folder} holds no model ({MANIFEST} is no table of values)")
    if manifest.get("format") != FORMAT:
        raise ContinuadError(
            f"the model in {folder} has format {manifest.get('format')}, and this continuad reads {FORMAT}; "
            "learn it again, or use the continuad that wrote it"
        )
    if not is_sound(manifest):
        raise _damaged(folder, f"{MANIFEST} is not as it was written")
    return manifest


def _json(path: Path) -> Any:
    if not path.is_file():  # a pipe would never end
        raise FileNotFoundError("there is no such file")
    return json.loads(path.read_text(encoding="utf-8"))


def _frozen(strategy: Strategy) -> dict[str, Frozen]:
    return {name: m for name, m in strategy.named_modules(remove_duplicate=False) if isinstance(m, Frozen)}


def _fingerprints(strategy: Strategy) -> dict[str, str]:
    return {name: net.fingerprint for name, net in _frozen(strategy).items()}


def _distinct(strategy: Strategy) -> dict[str, Tensor]:
    frozen = tuple(f"{name}." for name in _frozen(strategy))
    return {k: v for k, v in strategy.state_dict().items() if not k.startswith(frozen)}
