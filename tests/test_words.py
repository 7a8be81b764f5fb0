"""One thing has one name, the field's: task, val, threshold, exemplar, task snapshot, task inference, external …"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OTHER = re.compile(
    r"\b(lessons?|rehears\w+|held[- _]out|routers?|routed|experts?|springs?|stiffness|guests?|strangers?|likeness"
    r"|telltale|told|dear|lest|bl \d+)\b"
)
"""Words that were in use for a thing that has another name, or that a new reader stops at."""

TEXTS = [
    *ROOT.glob("*.md"),
    *(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts),
    *(p for p in (ROOT / "src").rglob("*") if p.suffix in (".py", ".j2", ".css")),
    *(p for folder in ("tests", "benchmarks") for p in (ROOT / folder).rglob("*.py") if p != Path(__file__)),
]


def words_of(text: str) -> str:
    """A text in small letters, with the parts of identifiers as words: `test_a_LimitHolds` is "test a limit holds"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text).lower()


@pytest.mark.parametrize("name", sorted(str(path.relative_to(ROOT)) for path in TEXTS if path.stem != "CHANGELOG"))
def test_texts_and_names_use_the_fields_words(name: str) -> None:
    assert not OTHER.findall(words_of((ROOT / name).read_text(encoding="utf-8")))


def test_words_are_found_in_identifiers() -> None:
    found = OTHER.findall(words_of("class ExpertRouter: held_out = test_all_is_told()  # BL_109, always, gold"))
    assert found == ["expert", "router", "held out", "told", "bl 109"]


def messages() -> Iterator[tuple[str, str]]:
    """The source of every error's and every note's text in the package, by file and line."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.endswith(("Error", "Diverged", "Image", "_log.warning", "log.warning")):
                assert isinstance(node, ast.Call)
                yield f"{path.relative_to(ROOT)}:{node.lineno}", " ".join(map(ast.unparse, node.args))


FROM_PYTHON = ("images are a {type(images)", "give a class derived from continuad", "but its step returns a value")
"""Messages that only a caller in Python, or the author of a class, can meet."""


def test_messages_name_options_and_no_python() -> None:
    """A reader of the command line knows no classes, calls and None."""
    python = re.compile(r"__name__|=(True|False|None)\b|\bNone\b|load_model\(|\(\.\.\.")
    found = [(place, text) for place, text in messages() if python.search(text)]
    assert not [(place, text) for place, text in found if not any(known in text for known in FROM_PYTHON)]
    assert len(list(messages())) > 150
