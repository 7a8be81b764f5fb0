"""The files of one product, and how folders are searched for them. Nothing is decoded here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from continuad.errors import ContinuadError

GOOD = "good"
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
_SYSTEM_FOLDERS = (
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
)


@dataclass(frozen=True)
class Item:
    """One image file.

    Attributes:
        path: where it lies, absolute.
        defect: "good" or the type of defect.
        mask: the file that says where the defect is, or None.
    """

    path: Path
    defect: str = GOOD
    mask: Path | None = None


@dataclass(frozen=True)
class Product:
    """The files of one product.

    Attributes:
        name: the folder's name; unique once it comes from `discover_all`.
        root: its folder, absolute.
        layout: "mvtec", "btad", "visa" or "plain".
        train: good images to learn from, sorted by path.
        test: good and defective images, by defect, then by path; may be empty.
        problems: what a person should know, in plain sentences (a mask without image, files left out ...).
    """

    name: str
    root: Path
    layout: str
    train: tuple[Item, ...]
    test: tuple[Item, ...]
    problems: tuple[str, ...] = ()


def images_in(folder: Path, *, deep: bool = True) -> list[Path]:
    """Image files in a folder (and below it), sorted; hidden files and system folders are left out.

    Links to folders are followed, but never to a folder above the link and never twice to the same folder.
    """
    found: list[Path] = []
    seen: set[str] = set()
    queue = [folder]
    while queue:
        here = queue.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        for entry in _visible(here):
            path = here / entry.name
            if _is_dir(entry):
                above = f"{real}{os.sep}".startswith(f"{os.path.realpath(path)}{os.sep}")
                if deep and not above:
                    queue.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in a folder, sorted."""
    return sorted(folder / entry.name for entry in _visible(folder) if _is_dir(entry))


def child(folder: Path, *names: str) -> Path | None:
    """The sub-folder of one of these names, in any case; earlier names first, None if there is none."""
    below = {path.name.casefold(): path for path in reversed(subfolders(folder))}
    return next((below[name.casefold()] for name in names if name.casefold() in below), None)


def listed(names: Iterable[object], limit: int = 10) -> str:
    """Names joined by commas; beyond `limit` the rest is counted."""
    several = [str(name) for name in names]
    more = f" and {len(several) - limit} more" if len(several) > limit else ""
    return ", ".join(several[:limit]) + more


def counted(number: int, what: str) -> str:
    """ "1 image", "3 images"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def shown(root: Path, path: Path) -> str:
    """A path as seen from the product's folder, with forward slashes on every system."""
    return path.relative_to(root).as_posix()


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Entries that are no hidden file, no macOS or Windows left-over, no system folder."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name.casefold() not in _SYSTEM_FOLDERS]
    except OSError as error:
        raise ContinuadError(f"{folder}: cannot be listed ({error.strerror}). Check its permissions.") from error


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False
