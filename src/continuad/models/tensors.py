"""The tensors of a model in files that are called by the hash of what is in them, so that versions share them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from continuad.errors import ContinuadError
from continuad.files import replace_file

LARGE = 2**20  # tensors above this many bytes get a file of their own, shared by successive versions
_OWN = re.compile(r"[0-9a-f]{32}\.safetensors")
_UNFINISHED = re.compile(r"\.new-\w+\.(safetensors|json)")  # of `replace_file`, when a process was killed

Places = dict[str, dict[str, str]]
"""For every tensor's name, the file it lies in and what it is called there."""


def placed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], Places]:
    """The files to write, each with its tensors, and where each name is found. Names that share storage share a key."""
    keys: dict[tuple[int, tuple[int, ...], torch.dtype], str] = {}
    places: Places = {}
    files: dict[str, dict[str, Tensor]] = {}
    small: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        key = keys.setdefault((tensor.data_ptr() or id(tensor), tuple(tensor.shape), tensor.dtype), name)
        if key != name:
            places[name] = places[key]
        elif tensor.nbytes > LARGE:
            file = _file_of({"tensor": tensor})
            places[name] = {"file": file, "key": file}
            files[file] = {file: tensor}
        else:
            small[name] = tensor
            places[name] = {"file": "", "key": name}
    if small:
        file = _file_of(small)
        files[file] = small
        for place in places.values():
            place["file"] = place["file"] or file
    return files, places


def write_tensors(files: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
    """Write those files that are not there yet, or are damaged.

    Raises:
        OSError, SafetensorError: the disk is full or not writable.
    """
    for file, tensors in files.items():
        if not _is_whole(folder / file, tensors):
            plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            replace_file(folder / file, partial(save_file, plain))


def read_tensors(places: Places, folder: Path) -> dict[str, Tensor]:
    """The tensors by name, on the CPU.

    Raises:
        ContinuadError: a file is missing, a link, or not as it was written.
    """
    keys: dict[str, dict[str, None]] = {}  # of every file, in the order in which they were hashed
    for place in places.values():
        keys.setdefault(place["file"], {})[place["key"]] = None
    found = {file: _read(folder / file, wanted) for file, wanted in keys.items()}
    return {name: found[place["file"]][place["key"]] for name, place in places.items()}


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed was still writing. Nobody else may be saving to this folder."""
    _remove(path for path in folder.iterdir() if _UNFINISHED.fullmatch(path.name))


def remove_all_but(files: set[str], folder: Path) -> None:
    """Remove tensor files of versions that are gone. Whatever is not called by a hash is somebody else's and stays."""
    _remove(path for path in folder.iterdir() if _OWN.fullmatch(path.name) and path.name not in files)


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)


def _read(path: Path, keys: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of one file, in the order in which they were hashed."""
    remedy = "go back to the version before with undo_save, or restore the file"
    if path.is_symlink() or not path.is_file():
        what = "is a link to somewhere else" if path.is_symlink() else "is missing"
        raise ContinuadError(f"model file {path} {what}; {remedy}")
    try:
        found = load_file(path)
        # copied to where torch begins its tensors: at other addresses kernels round otherwise
        tensors = {key: found[key].clone() for key in keys}
        whole = len(tensors) == len(found) and path.name == _file_of(_hashed(path.name, tensors))
    except Exception as error:  # whatever a reader makes of bytes that somebody else wrote
        raise ContinuadError(f"model file {path} is damaged ({error}); {remedy}") from error
    if not whole:
        raise ContinuadError(f"model file {path} is damaged: it does not hold what it was written with; {remedy}")
    return tensors


def _is_whole(path: Path, tensors: Mapping[str, Tensor]) -> bool:
    try:
        _read(path, tensors)
    except ContinuadError:
        return False
    return True


def _hashed(file: str, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by the names that they were hashed with: one that has a file of its own has no other."""
    return {"tensor": tensors[file]} if file in tensors else tensors


def _file_of(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors.items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"{digest.hexdigest()}.safetensors"
