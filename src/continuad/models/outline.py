"""Detectors and strategies without torch: their names, options, and which pairs apply.

Importing a detector imports torch, timm and torchvision, which takes seconds; help, `continuad list` and the check of
options need none of them. So they work on outlines. The outline of a file is had by running it with `NOTHING` in place
of every other package: its classes have their names, attributes, signatures and `refuses`, but cannot compute. A test
compares every outline with its class.
"""

from __future__ import annotations

import builtins
import logging
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

from continuad.models.names import TILED, Load, classes, summary_of

_log = logging.getLogger(__name__)


class Nothing:
    """Stands for anything of another package; its attributes, items, sums and returned values are the same again."""

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
    load: Load

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
        return summary_of(kind, self.load)


@cache
def known() -> Known:
    """The detectors and strategies that come with the package, as outlines.

    Where a file cannot be outlined, a note names it and all files are imported.
    """
    try:
        return _known(outline)
    except Exception as error:  # a developer's own file may compute anything while it is run
        place = traceback.extract_tb(error.__traceback__)[-1]
        _log.warning(
            "names and options take seconds, since torch is imported: %s line %d needs another package at once (%s)",
            place.filename,
            place.lineno,
            error,
        )
        return _known(import_module)


def _known(load: Load) -> Known:
    return Known(classes("detector", load), classes("strategy", load), load)


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
