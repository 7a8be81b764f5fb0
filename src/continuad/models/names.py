"""Which detectors and strategies there are: the public files of two folders, and the classes in them.

How a module is had is the caller's choice: imported (`registry`), or outlined without torch (`outline`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Literal

Role = Literal["detector", "strategy"]
Load = Callable[[str], ModuleType]
"""From a module's full name to the module, as `importlib.import_module`."""

FOLDERS: dict[Role, str] = {"detector": "detectors", "strategy": "strategies"}
TILED = "tiled-"  # before a detector's name: its tiled form, see `vision.tiles`
_PACKAGE = Path(__file__).parents[1]


def files_of(role: Role) -> list[str]:
    """The names of a role's files, sorted; files with a leading underscore define no detector or strategy."""
    return sorted(file.stem for file in (_PACKAGE / FOLDERS[role]).glob("[!_]*.py"))


def file_of(name: str) -> str:
    """The file in which a name of the package's own is looked for: `efficientad-s` in efficientad.py."""
    return name.partition("-")[0]


def name_in(file: str, kind: type) -> str:
    """What a class is called on the command line: the file's name, with the variant of a class that is one of several,
    as in `efficientad-s`."""
    variant = getattr(kind, "variant", None)
    return f"{file}-{variant}" if variant else file


def classes_in(role: Role, file: str, load: Load) -> dict[str, type]:
    """The classes that one file defines, by name."""
    base = getattr(load(f"continuad.core.{role}"), role.capitalize())
    module = load(f"continuad.{FOLDERS[role]}.{file}")
    own = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, base)]
    return {name_in(file, c): c for c in own if c.__module__ == module.__name__}


def classes(role: Role, load: Load) -> dict[str, type]:
    """Every class of a role by its name on the command line, sorted by name."""
    found = [pair for file in files_of(role) for pair in classes_in(role, file, load).items()]
    return dict(sorted(found, key=lambda pair: pair[0]))


def summary_of(kind: type, load: Load) -> str:
    """What a detector or strategy is: the first line of its file."""
    return (load(kind.__module__).__doc__ or "").strip().partition("\n")[0]
