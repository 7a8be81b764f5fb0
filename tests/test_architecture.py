"""The house: which folder may import which. A circle, or an arrow upwards, fails here."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "continuad"

MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "core": {"errors", "files"},
    "metrics": {"errors", "files"},
    "data": {"errors", "files", "core"},
    "demo": {"errors", "files"},
    "vision": {"errors", "files", "core", "data"},
    "memory": {"errors", "files", "core"},
    "detectors": {"errors", "files", "core", "data", "vision", "memory"},
    "strategies": {"errors", "files", "core", "vision", "memory"},
    "models": {"errors", "files", "core", "data", "vision", "detectors", "strategies"},
    "station": {"errors", "files", "core", "data", "vision", "strategies", "models"},
    "benchmark": {"errors", "files", "core", "data", "vision", "metrics", "models"},
    "report": {"errors", "files", "metrics"},
    "cli": {"errors", "files", "core", "data", "demo", "vision", "models", "station", "benchmark", "report"},
}
"""Every folder of the package, and what it may import; docs/architecture.md draws the same."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `continuad`."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(file: Path, known: set[str]) -> set[str]:
    """Modules of the package that a file imports anywhere, inside functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}".removeprefix("continuad.") for alias in node.names]
            names = [f"continuad.{name}" if name in known else node.module for name in whole]
        found |= {name.removeprefix("continuad.") for name in names if name.startswith("continuad.")}
    return found & known


def graph() -> dict[str, set[str]]:
    found = modules()
    return {name: imports_of(file, set(found)) - {name} for name, file in found.items() if name}


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_folder_imports_only_what_it_may() -> None:
    up = {
        f"{module} -> {other}"
        for module, others in graph().items()
        for other in others
        if module != "__main__" and room(other) != room(module) and room(other) not in MAY_IMPORT[room(module)]
    }
    assert not up


def test_what_folders_may_import_points_one_way() -> None:
    """Sorting raises where the table itself has a circle."""
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert order.index("core") < order.index("detectors") < order.index("models") < order.index("cli")
    assert "strategies" not in MAY_IMPORT["detectors"]
    assert "detectors" not in MAY_IMPORT["strategies"]


def test_no_circle_among_modules() -> None:
    """Package names stand for their files: `continuad.demo` imports its products, they do not import it."""
    TopologicalSorter(graph()).prepare()


def test_every_folder_is_in_the_table() -> None:
    assert {room(name) for name in graph()} - {"__main__"} == set(MAY_IMPORT)


def test_files_stay_short_and_functions_fit_a_screen() -> None:
    long_files = {
        str(f.relative_to(PACKAGE)) for f in modules().values() if len(f.read_text("utf-8").splitlines()) > 400
    }
    assert not long_files
    long = {
        f"{name}:{node.name}"
        for name, file in modules().items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
    }
    assert not long


def test_no_function_takes_more_than_nine_parameters() -> None:
    """Constructors and commands are left out: what they take are the options of a method or a command."""
    many = {
        f"{name}:{node.name}"
        for name, file in modules().items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) > 9
        and node.name != "__init__"
        and not (room(name) == "cli" and not node.name.startswith("_"))
    }
    assert not many
