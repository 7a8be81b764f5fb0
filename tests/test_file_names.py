"""Names that no two texts share, on any file system."""

from __future__ import annotations

import re

import pytest

from continuad.files import safe_name

TEXTS = [
    *("replay:300", "replay-300", "replay~300", "replay:10%", "replay:10pct", "replay:10", "replay::10"),
    *("ewc:0.5", "ewc:05", "ewc:.5", "ewc-online", "ewc_online", "replay:2MB", "replay:2mb", "replay:2mb@"),
    *("replay:300+lwf", "replay:300 lwf", "a b", "a/b", "a\\b", "../../etc/passwd", "con", "aux.models:net"),
    *("toys:ToyAutoencoder", "toys:Toyautoencoder", "…", "ü", "u\u0308", "", " ", ".", "..", "x" * 60, "x" * 61),
    *("x" * 300, "x" * 299 + "y", 'x"><script>', "a\nb", "a\0b", "-", ":", "\udcff"),
]


def test_no_two_texts_share_a_name_even_where_case_does_not_count() -> None:
    assert len({safe_name(text).lower() for text in TEXTS}) == len(TEXTS)


@pytest.mark.parametrize("text", TEXTS)
def test_a_name_is_short_and_holds_only_what_every_file_system_takes(text: str) -> None:
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9+=.~@-]{1,71}", name)
    assert not name.startswith(".")
    assert not name.endswith(".")
    assert "_" not in name, "it joins parts"


def test_usual_names_are_read_as_they_are_written() -> None:
    assert safe_name("padim") == "padim"
    assert safe_name("replay:300+ewc:0.5") == "replay~300+ewc~0.5"
    assert re.fullmatch(r"replay~2MB@[0-9a-f]{10}", safe_name("replay:2MB"))
    assert re.fullmatch(r"replay~10pct@[0-9a-f]{10}", safe_name("replay:10%"))
    assert re.fullmatch(r"toys~ToyAutoencoder@[0-9a-f]{10}", safe_name("toys:ToyAutoencoder"))


def test_a_name_is_the_same_in_every_process() -> None:
    assert safe_name("replay:2MB") == "replay~2MB@cbefe46bfb"
