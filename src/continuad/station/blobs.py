"""What was learned, in files that are named by their content, written once and never changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from continuad.errors import ContinuadError
from continuad.files import replace_file

SUFFIX = ".safetensors"


class Damaged(ContinuadError):
    """A file of what was learned is missing, or its content has changed."""


class Blobs:
    """A folder of tensor files.

    Args:
        folder: where they lie; made when the first is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def put(self, tensors: Mapping[str, Tensor]) -> str:
        """Write tensors, if they are not there yet; the name of their file without its suffix.

        Raises:
            ContinuadError: the disk is full or not writable.
        """
        whole = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(tensors.items())})
        name = digest_of(whole)
        path = self.path(name)
        try:
            if not (path.is_file() and digest_of(path.read_bytes()) == name):
                replace_file(path, lambda new: _write(new, whole))
        except OSError as error:
            raise ContinuadError(f"{path}: cannot be written ({error}). Free space; nothing was changed") from error
        return name

    def get(self, name: str) -> dict[str, Tensor]:
        """The tensors of a file, once its content is found to be what its name says.

        Raises:
            Damaged: it is missing, or its content has changed.
        """
        path = self.path(name)
        try:
            whole = path.read_bytes()
            found = load(whole) if digest_of(whole) == name else None
        except (OSError, SafetensorError) as error:
            raise Damaged(f"{path}: cannot be read ({error}); {REMEDY}") from error
        if found is None:
            raise Damaged(f"{path}: its content has changed since it was written; {REMEDY}")
        return found

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self.folder / f"{name}{SUFFIX}"

    def sweep(self, keep: Iterable[str]) -> None:
        """Remove every file but these: what is left of interrupted writes, and of changes not put in service."""
        kept = {f"{name}{SUFFIX}" for name in keep}
        for file in list(self.folder.iterdir()):
            if file.name not in kept:
                file.unlink(missing_ok=True)


REMEDY = "go back with `continuad undo`, or put a copy of the file in its place"


def digest_of(content: bytes) -> str:
    """The name of a file with this content, 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a name that promises a content must not outlive it when the power goes


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name starts with a prefix, by the rest of their name."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, the prefix before each name."""
    return {f"{prefix}{name}": torch.as_tensor(tensor) for name, tensor in tensors.items()}
