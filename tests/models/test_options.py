"""Options of detectors and strategies, and the outlines that show them without torch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from toys import ToyAutoencoder

from continuad.core.hints import allowed, fitted
from continuad.errors import ContinuadError
from continuad.models import outline as outlines
from continuad.models.options import checked, options_of, refuse_unmatched, split_value, written
from continuad.models.outline import known
from continuad.models.registry import detectors, find_detector, make_detector, make_strategy, strategies, summary_of

KINDS = [*detectors().items(), *strategies().items()]


def outline_of(name: str) -> type:
    return (known().detectors | known().strategies)[name]


def test_there_is_an_outline_of_every_class_in_the_same_order() -> None:
    assert list(known().detectors) == list(detectors())
    assert list(known().strategies) == list(strategies())
    assert not set(known().detectors.values()) & set(detectors().values())


@pytest.mark.parametrize(("name", "kind"), KINDS, ids=[name for name, _ in KINDS])
def test_an_outline_says_what_its_class_says(name: str, kind: type) -> None:
    found = outline_of(name)
    assert found.__name__ == kind.__name__
    assert known().summary(found) == summary_of(kind)
    defaults = [(p.name, p.default) for p in inspect.signature(kind).parameters.values()]
    assert [(p.name, p.default) for p in inspect.signature(found).parameters.values()] == defaults
    assert {option: allowed(hint) for option, hint in options_of(found).items()} == {
        option: allowed(hint) for option, hint in options_of(kind).items()
    }
    for attribute in ("learns_by", "variant", "needs_gradients", "needs_task", "infers_task_by"):
        assert getattr(found, attribute, None) == getattr(kind, attribute, None)


@pytest.mark.parametrize("detector", detectors())
def test_outlines_refuse_the_same_pairs_for_the_same_reason(detector: str) -> None:
    found, kind = known(), find_detector(detector)
    for name, strategy in strategies().items():
        assert found.strategies[name].refuses(found.detectors[detector]) == strategy.refuses(kind)


def test_tiled_detectors_have_an_outline() -> None:
    mine = options_of(known().detector("tiled-padim"))
    assert mine.keys() == options_of(find_detector("tiled-padim")).keys()
    assert {"tile", "overlap", "channels"} <= mine.keys()
    assert allowed(mine["channels"]) == "a whole number, 1 to 1000000000"


def test_a_file_that_cannot_be_outlined_is_named_and_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A detector of the user's may need another package at the moment it is imported."""

    def fail(name: str) -> None:
        raise TypeError(name)

    monkeypatch.setattr(outlines, "outline", fail)
    known.cache_clear()
    try:
        assert known().detectors == detectors()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert f"{Path(__file__).name} line" in caplog.text
        assert known().strategies == strategies()
        assert known().summary(known().detectors["padim"]).startswith("PaDiM")
        assert "channels" in options_of(known().detector("tiled-padim"))
    finally:
        known.cache_clear()


def test_code_that_computes_with_other_packages_can_be_outlined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "usual.py").write_text(
        "from dataclasses import dataclass, field\n"
        "import numpy as np\nimport torch\nfrom torch import Tensor, nn\n"
        "SCALE = 2 * np.arange(4)[1:].astype(float) / 3 + 1 - torch.tensor(1)\n"
        "EVEN = [x for x in np.arange(4)]\n"
        "Maps = list[Tensor] | Tensor | None\n"
        "@dataclass(frozen=True)\nclass Spec:\n    a: 'int' = 1\n    b: 'list' = field(default_factory=list)\n"
        "@torch.jit.script\ndef double(x: Tensor) -> Tensor:\n    return 2 * x\n"
        "class Kind(nn.Module):\n"
        "    width = 3\n"
        "    @torch.no_grad()\n    def work(self, x: Tensor) -> Tensor:\n        return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = outlines.outline("usual")
    assert found.Kind.width == 3
    assert not hasattr(found.Kind, "height")
    assert found.Kind.__mro__ == (found.Kind, object)
    assert inspect.isfunction(found.Kind.work)
    assert found.SCALE is outlines.NOTHING


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        (np.int64(3), int, 3),
        (3, float, 3.0),
        (0.5, float | None, 0.5),
        (None, float | None, None),
        ("10%", int | str, "10%"),
        (Path("a/b"), str | None, str(Path("a/b"))),
        ([4, 8], Sequence[int], [4, 8]),
        ((64, 96), int | tuple[int, int], (64, 96)),
        ("png", Literal["raw", "png"], "png"),
        (True, bool, True),
        ({"name": "x"}, str | Mapping[str, Any], {"name": "x"}),
        (object, Any, object),
    ],
)
def test_values_that_a_hint_allows(value: Any, hint: Any, expected: Any) -> None:
    found = fitted("option x", value, hint)
    assert found == expected
    assert isinstance(found, type(expected))


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("abc", int, "a whole number"),
        (3.5, int, "a whole number"),
        (True, int, "a whole number"),
        (True, float, "a number"),
        (math.nan, float, "a number"),
        (math.inf, float | None, "a number"),
        (3, str, "text"),
        (1, bool, "true or false"),
        ("gif", Literal["raw", "png"], "raw, png"),
        ("4,8", Sequence[int], "whole numbers, such as [4, 8]"),
        ([4, "8"], Sequence[int], "whole numbers, such as [4, 8]"),
        ((64,), tuple[int, int], "2 whole numbers, such as [4, 8]"),
        (None, int | str, "a whole number or text"),
        (["0"], tuple[int, ...], "whole numbers, such as [4, 8]"),
        (3, str | Mapping[str, Any], "text"),
    ],
)
def test_values_that_a_hint_does_not_allow(value: Any, hint: Any, words: str) -> None:
    with pytest.raises(ContinuadError) as raised:
        fitted("option x", value, hint)
    assert str(raised.value) == f"option x is {value!r}; allowed: {words}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"padin.channels": 3}, "matches no detector or strategy of this run (did you mean padim.channels"),
        ({"patchcore.bank": 3}, "matches no detector or strategy of this run"),
        ({"pkg.mod:Cls.k": 99}, "pkg.mod:Cls.k matches no detector or strategy"),
        ({"channels": 99}, "there are padim, replay"),
        ({"padim.chanels": 3}, "'padim' has no option chanels (did you mean channels?)"),
        ({"padim.channels": "abc"}, "option padim.channels is 'abc'; allowed: a whole number"),
        ({"padim.steps": 3}, "'padim' has no option steps"),
        ({"replay.coding": "gif"}, "option replay.coding is 'gif'; allowed: raw, png, webp, jpeg"),
        ({"ewc.strength": 3}, "behind the name, as in ewc:strength=3"),
    ],
)
def test_an_option_that_matches_nothing_in_the_run_is_refused(options: dict[str, Any], said: str) -> None:
    kinds = {"padim": outline_of("padim"), "replay": outline_of("replay")}
    with pytest.raises(ContinuadError) as raised:
        refuse_unmatched(options, kinds, parts={"ewc"})
    assert said in str(raised.value)


def test_an_option_of_the_run_is_taken() -> None:
    kinds = {"draem": outline_of("draem"), "toys:ToyAutoencoder": ToyAutoencoder, "replay": outline_of("replay")}
    refuse_unmatched(
        {"draem.width": 1, "draem.steps": 3, "replay.coding": "png", "toys:ToyAutoencoder.steps": 4}, kinds
    )


def test_python_gets_the_same_checks() -> None:
    with pytest.raises(ContinuadError, match=r"option padim.channels is 'abc'; allowed: a whole number"):
        make_detector("padim", channels="abc")
    with pytest.raises(ContinuadError, match=r"no option chanels \(did you mean channels\?\)"):
        make_detector("padim", chanels=3)
    with pytest.raises(ContinuadError, match=r"option replay.exemplars is 0.5"):
        make_strategy("replay", ToyAutoencoder(), exemplars=0.5)


def test_a_class_whose_hints_cannot_be_read_judges_values_itself() -> None:
    class Odd:
        def __init__(self, size: Missing = 3):  # type: ignore[name-defined]  # noqa: F821
            self.size = size

    assert checked(Odd, "odd", {"size": "any"}) == {"size": "any"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("naive", ("naive", "")),
        ("replay:2MB:coding=webp", ("replay", "2MB:coding=webp")),
        ("ewc-online:3", ("ewc-online", "3")),
        ("replay:300+ewc", ("combined", "replay:300+ewc")),
        ("package.module:Kind", ("package.module:Kind", "")),
        ("package.module:Kind:300", ("package.module:Kind", "300")),
    ],
)
def test_a_strategys_text_is_its_name_and_what_follows(text: str, expected: tuple[str, str]) -> None:
    assert split_value(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("replay:6:exemplars=7", "option 'exemplars' is given twice"),
        ("ewc:nan", "option strength is 'nan'; allowed: a number"),
        ("latent:10%", "option exemplars is '10%'; allowed: a whole number"),
        ("pertask:furthest", "allowed: pooled, lowest"),
    ],
)
def test_mistakes_behind_a_name_say_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(ContinuadError) as raised:
        written(outline_of(split_value(text)[0]), text)
    assert said in str(raised.value)
