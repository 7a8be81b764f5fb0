"""The list of names: from the files alone, but as the classes themselves say."""

from __future__ import annotations

import json

from command import continuad

from continuad.cli.listing import in_general
from continuad.models.registry import detectors, strategies, summary_of


def test_the_list_is_what_the_classes_say() -> None:
    found = json.loads(continuad("list", "--json").stdout)
    assert found["detectors"] == {name: summary_of(kind) for name, kind in detectors().items()}
    assert found["strategies"] == {name: summary_of(kind) for name, kind in strategies().items()}
    pairs = {(p["detector"], p["strategy"]): (p["applies"], p["reason"]) for p in found["pairs"]}
    for detector, kind in detectors().items():
        for strategy, way in strategies().items():
            reason = way.refuses(kind)
            assert pairs[detector, strategy] == (reason is None, reason or "")


def test_the_matrix_marks_every_pair_and_gives_each_reason_once() -> None:
    text = continuad("list").stdout
    rows = {
        line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()[1:2] and "+" in line.split()
    }
    assert set(rows) == set(detectors())
    for name, kind in detectors().items():
        assert [mark == "+" for mark in rows[name]] == [not way.refuses(kind) for way in strategies().values()]
    letters = {mark for row in rows.values() for mark in row} - {"+"}
    reasons = [line for line in text.splitlines() if line[:1] in letters and line[1:3] == ": "]
    assert [line[0] for line in reasons] == sorted(letters)
    assert len({line[3:] for line in reasons}) == len(letters) < 6


def test_a_strategys_name_is_read_downwards_over_its_column() -> None:
    lines = continuad("list").stdout.splitlines()
    start = lines.index("Which pairs apply (strategies read downwards; +: applies)") + 1
    first = next(i for i, line in enumerate(lines) if i > start and line.startswith(next(iter(detectors()))))
    place = lines[first].index("+")
    column = "".join(line.ljust(place + 1)[place] for line in lines[start:first]).strip()
    assert column == next(iter(strategies()))


def test_a_reason_is_put_in_general_words_for_all_pairs_that_share_it() -> None:
    general = in_general("Ewc edits gradients, but Padim has none", {"Padim", "padim"}, {"Ewc", "ewc"})
    assert general == "the strategy edits gradients, but the detector has none"
