"""A model on disk: a folder of safetensors and one manifest.json, replaced atomically. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import safetensors
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from continuad.core.fit import Budget
from continuad.core.strategy import Strategy, folds_of
from continuad.core.thresholds import parse_rule
from continuad.core.types import LearnedTask
from continuad.errors import ContinuadError
from continuad.files import replace_file
from continuad.models.manifest import is_sound
from continuad.models.names import TILED
from continuad.models.options import split_value
from continuad.models.registry import make_detector, make_strategy, name_of, settings
from continuad.vision.backbones import Frozen

FORMAT = 5
MANIFEST = "manifest.json"
PREVIOUS = "previous.json"  # the manifest of the version before
LARGE = 2**20  # tensors above this many bytes get a file of their own, shared by successive versions


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
        ContinuadError: the disk is full or not writable; the previous version is untouched.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files, places = _write_tensors(_distinct(strategy), folder)
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
            "extra": extra or {},
        }
        named = _files_of(folder / MANIFEST) | _files_of(folder / PREVIOUS)
        _replace_manifest(folder, json.dumps(manifest, indent=1))
    except (OSError, safetensors.SafetensorError) as error:
        raise ContinuadError(
            f"cannot save the model in {folder}: {error}. Free space or choose another folder"
        ) from error
    for stale in named - files - _files_of(folder / PREVIOUS):  # only what earlier versions named: others' files stay
        (folder / stale).unlink(missing_ok=True)


def _replace_manifest(folder: Path, text: str) -> None:
    """The new manifest in place of the one that is there, which becomes the previous one if it can be read. All is
    written before anything is put in place, so a full disk changes neither."""
    now, coming = folder / MANIFEST, folder / f"{MANIFEST}.new"
    try:
        coming.write_text(text, encoding="utf-8")
        if _files_of(now) and now.read_text(encoding="utf-8") != text:
            before = now.read_bytes()
            replace_file(folder / PREVIOUS, lambda new: new.write_bytes(before))
        os.replace(coming, now)
    finally:
        coming.unlink(missing_ok=True)


def undo_save(folder: Path | str) -> None:
    """Go back to the version before the last `save_model`. The version that is left is gone with the next save.

    Raises:
        ContinuadError: there is no version before.
    """
    folder = Path(folder)
    files = _files_of(folder / PREVIOUS)
    if not files or not all((folder / file).is_file() for file in files):
        raise ContinuadError(f"{folder} holds no version before this one")
    os.replace(folder / PREVIOUS, folder / MANIFEST)


def _files_of(manifest: Path) -> set[str]:
    """The tensor files that a manifest names; none where there is no sound one."""
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
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
    made = make_strategy(
        strategy["name"], make_detector(detector["name"], **detector["options"]), **strategy["options"]
    )
    made.calibration.rule, made.budget = parse_rule(manifest["threshold"]), Budget(**strategy["budget"])
    folds_of(manifest["thresholds_from"])
    made.thresholds_from = manifest["thresholds_from"]
    return made, load_into(made, folder)


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
    tensors: dict[str, Tensor] = {}
    for file in {place["file"] for place in manifest["tensors"].values()}:
        try:
            # copied to where torch begins its tensors: at other addresses kernels round otherwise
            tensors |= {key: tensor.clone() for key, tensor in load_file(folder / file).items()}
        except (OSError, safetensors.SafetensorError) as error:
            raise ContinuadError(f"model file {folder / file} is missing or damaged: {error}") from error
    try:
        found = {name: tensors[place["key"]] for name, place in manifest["tensors"].items()}
        missing = set(strategy.load_state_dict(found, strict=False).missing_keys) & set(_distinct(strategy))
    except (KeyError, RuntimeError) as error:  # no such tensor, or one of another shape
        raise ContinuadError(f"the model in {folder} is damaged: {error}. Restore or remove it") from error
    if missing:
        raise ContinuadError(f"the model in {folder} lacks {sorted(missing)}; it was written by another version")
    strategy.tasks = [LearnedTask(**task) for task in manifest["tasks"]]
    strategy.to(device).eval()  # what came from the file follows the model
    return manifest["extra"]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model folder.

    Raises:
        ContinuadError: not a model, or one that another version of continuad wrote.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ContinuadError(f"{folder} holds no model ({MANIFEST}: {error})") from error
    if not isinstance(manifest, dict):
        raise ContinuadError(f"{folder} holds no model ({MANIFEST} is no table of values)")
    if manifest.get("format") != FORMAT:
        raise ContinuadError(
            f"the model in {folder} has format {manifest.get('format')}, and this continuad reads {FORMAT}; "
            "learn it again, or use the continuad that wrote it"
        )
    if not is_sound(manifest):
        raise ContinuadError(
            f"the model in {folder} is damaged: {MANIFEST} is not as it was written. Restore or remove it"
        )
    return manifest


def _frozen(strategy: Strategy) -> dict[str, Frozen]:
    return {name: m for name, m in strategy.named_modules(remove_duplicate=False) if isinstance(m, Frozen)}


def _fingerprints(strategy: Strategy) -> dict[str, str]:
    return {name: net.fingerprint for name, net in _frozen(strategy).items()}


def _distinct(strategy: Strategy) -> dict[str, Tensor]:
    frozen = tuple(f"{name}." for name in _frozen(strategy))
    return {k: v for k, v in strategy.state_dict().items() if not k.startswith(frozen)}


def _write_tensors(tensors: dict[str, Tensor], folder: Path) -> tuple[set[str], dict[str, dict[str, str]]]:
    """Write tensors that are not there yet; where each name is found. Names that share storage share a key."""
    keys: dict[tuple[int, tuple[int, ...], torch.dtype], str] = {}
    places: dict[str, dict[str, str]] = {}
    small: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        key = keys.setdefault((tensor.data_ptr() or id(tensor), tuple(tensor.shape), tensor.dtype), name)
        if key != name:
            places[name] = places[key]
        elif tensor.nbytes > LARGE:
            file = f"{_digest({'tensor': tensor})}.safetensors"
            places[name] = {"file": file, "key": file}
            _write({file: tensor}, folder / file)
        else:
            small[name] = tensor
            places[name] = {"file": "", "key": name}
    if small:
        file = f"{_digest(small)}.safetensors"
        _write(small, folder / file)
        for place in places.values():
            place["file"] = place["file"] or file
    return {place["file"] for place in places.values()}, places


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    if path.exists():
        return
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    replace_file(path, lambda new: save_file(plain, new))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors.items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
