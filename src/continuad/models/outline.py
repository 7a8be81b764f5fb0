"""Detectors and strategies as their files describe them, known in a moment because torch is not loaded.

Importing one detector imports torch, timm and torchvision, which takes seconds. To name the detectors, their options
and the strategies that apply, none of these is needed. So the files are run here with everything left out that comes
from other packages: the classes have their names, attributes, signatures and `refuses`, but cannot compute. A test
compares every outline with its class.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[1]
FOLDERS = {"detector": "detectors", "strategy": "strategies"}
TILED = "tiled-"  # before a detector's name: its tiled form, see `vision.tiles`


class Nothing:
    """Stands for whatever comes from another package: its attributes, calls and items are nothing, too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *given: Any, **options: Any) -> Any:
        """As a decorator it leaves a function or class as it is."""
        decorated = len(given) == 1 and getattr(given[0], "__module__", "builtins") != "builtins"
        return given[0] if decorated and callable(given[0]) else self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[()]:
        return ()

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def _combined(self, *others: Any) -> Any:
        return self

    __getitem__ = __or__ = __ror__ = __neg__ = _combined
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = _combined


NOTHING = Nothing()


class Known(NamedTuple):
    """Every detector and strategy by its name on the command line, sorted by name, and how their modules are had."""

    detectors: dict[str, type]
    strategies: dict[str, type]
    load: Callable[[str], ModuleType]

    def detector(self, name: str) -> type:
        """One of the detectors, or the tiled form of one.

        Raises:
            KeyError: there is none of this name.
        """
        kind = self.detectors[name.removeprefix(TILED)]
        if not name.startswith(TILED):
            return kind
        made: type = self.load("continuad.vision.tiles").tiled(kind)
        return made

    def summary(self, kind: type) -> str:
        """What a detector or strategy is: the first line of its file."""
        return (self.load(kind.__module__).__doc__ or "").strip().partition("\n")[0]


@cache
def known() -> Known:
    """The detectors and strategies that come with the package, as outlines; as the classes themselves where a file
    cannot even be read without another package."""
    try:
        return _known(outline)
    except Exception:
        return _known(import_module)


def _known(load: Callable[[str], ModuleType]) -> Known:
    return Known(_all("detector", load), _all("strategy", load), load)


def has_file(role: str, name: str) -> bool:
    """Whether a name is looked for in one of our own files: `ewc-online` is in ewc.py."""
    return (PACKAGE / FOLDERS[role] / f"{name.partition('-')[0]}.py").is_file()


def name_in(file: str, kind: type) -> str:
    """What a class is called on the command line: the file's name, with the variant of a class that is one of several,
    as in `efficientad-s`."""
    variant = getattr(kind, "variant", None)
    return f"{file}-{variant}" if variant else file


def _all(role: str, load: Callable[[str], ModuleType]) -> dict[str, type]:
    """The classes that the files of a role define, by name; files with a leading underscore define none."""
    base = getattr(load(f"continuad.core.{role}"), role.capitalize())
    found: dict[str, type] = {}
    for file in sorted((PACKAGE / FOLDERS[role]).glob("[!_]*.py")):
        module = load(f"continuad.{FOLDERS[role]}.{file.stem}")
        own = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, base)]
        found |= {name_in(file.stem, c): c for c in own if c.__module__ == module.__name__}
    return dict(sorted(found.items()))


@cache
def outline(name: str) -> ModuleType:
    """A module of this package, run without other packages."""
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"no module {name}", name=name)
    code = spec.loader.get_code(name)  # type: ignore[attr-defined]
    module = ModuleType(name)
    module.__file__ = spec.origin
    vars(module)["__builtins__"] = vars(builtins) | {"__import__": _import}
    exec(code, vars(module))
    return module


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    """What `import` does in an outline: our own modules are outlined, other packages left out.

    So are dataclasses, which look for the imported module of their class.
    """
    root = name.partition(".")[0]
    if root == "continuad":
        return _own(name, fromlist or ())
    if root not in sys.stdlib_module_names or root == "dataclasses":
        return NOTHING
    return builtins.__import__(name, globals, locals, fromlist, level)


def _own(name: str, wanted: tuple[str, ...]) -> Any:
    if name == "continuad":
        return NOTHING
    module = outline(name)
    for part in wanted:
        if not hasattr(module, part) and find_spec(f"{name}.{part}"):
            setattr(module, part, outline(f"{name}.{part}"))
    return module
