"""The files of one product, and how folders are searched for them. Nothing is decoded here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from continuad.data.machine import refuse_exhausted
from continuad.data.names import printable
from continuad.errors import ContinuadError

GOOD = "good"
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
UNREAD_SUFFIXES = (
    ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2",
    ".psd", ".tga", ".exr", ".hdr", ".pfm", ".dcm", ".fits", ".npy", ".jpe", ".apng", ".ico", ".dib", ".svg", ".pdf",
)  # fmt: skip
"""Pictures in formats that are not read; `discover` notes those it finds."""

RESULT_FOLDERS = ("figures", "examples", "runs")
"""What `continuad bench` makes in its results folder."""

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
        name: the folder's name, printable; unique once it comes from `discover_all`.
        root: its folder, absolute.
        layout: "mvtec", "btad", "visa" or "plain".
        train: good images to learn from, sorted by path.
        test: good and defective images, by defect, then by path; may be empty.
        problems: what may mislead, in plain sentences (a mask without image, files left out ...).
        notes: what else a person should know (sub-folders that are read too ...).
    """

    name: str
    root: Path
    layout: str
    train: tuple[Item, ...]
    test: tuple[Item, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What lies in a folder and below it, each sorted.

    Attributes:
        images: files with a suffix of `IMAGE_SUFFIXES`.
        drawn: folders of pictures that continuad itself drew or wrote here; not searched.
        foreign: pictures in formats that are not read (`.heic`, `.dng` ...).
    """

    images: list[Path]
    drawn: list[Path]
    foreign: list[Path]


def contents(folder: Path, *, deep: bool = True) -> Contents:
    """Search a folder (and below it); hidden files and system folders are left out.

    Links to folders are followed, but never to a folder above the link and never twice to the same folder.
    In a folder that `continuad bench` wrote results into, its figures and runs are left out.
    """
    images: list[Path] = []
    drawn: list[Path] = []
    foreign: list[Path] = []
    seen: set[str] = set()
    queue = [folder]
    while queue:
        here = queue.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        entries = _visible(here)
        results = _holds_results(here, entries)
        for entry in entries:
            path = here / entry.name
            if _is_dir(entry):
                above = f"{real}{os.sep}".startswith(f"{os.path.realpath(path)}{os.sep}")
                if results and entry.name in RESULT_FOLDERS:
                    drawn.append(path)
                elif deep and not above:
                    queue.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                images.append(path)
            elif path.suffix.lower() in UNREAD_SUFFIXES:
                foreign.append(path)
    return Contents(
        *(sorted(found, key=lambda p: p.relative_to(folder).as_posix()) for found in (images, drawn, foreign))
    )


def images_in(folder: Path, *, deep: bool = True) -> list[Path]:
    """The images of `contents`."""
    return contents(folder, deep=deep).images


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in a folder, sorted; without those that continuad wrote results into."""
    entries = _visible(folder)
    results = RESULT_FOLDERS if _holds_results(folder, entries) else ()
    return sorted(folder / entry.name for entry in entries if _is_dir(entry) and entry.name not in results)


def child(folder: Path, *names: str) -> Path | None:
    """The sub-folder of one of these names, in any case; earlier names first, None if there is none."""
    below = {path.name.casefold(): path for path in reversed(subfolders(folder))}
    return next((below[name.casefold()] for name in names if name.casefold() in below), None)


def _holds_results(folder: Path, entries: list[os.DirEntry[str]]) -> bool:
    """Whether `continuad bench` wrote its results here: the settings that it writes name the machine they ran on."""
    if all(entry.name != "settings.toml" for entry in entries):
        return False
    try:
        settings = (folder / "settings.toml").read_bytes()
    except OSError:
        return False
    return b"strategy = " in settings and b"[machine]" in settings


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Entries that are no hidden file, no macOS or Windows left-over, no system folder."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name.casefold() not in _SYSTEM_FOLDERS]
    except OSError as error:
        refuse_exhausted(error, folder)
        raise ContinuadError(
            f"{printable(folder)}: cannot be listed ({error.strerror}). Check its permissions."
        ) from error


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False
