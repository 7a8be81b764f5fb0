"""Every option of every detector and strategy meets hostile values: it takes them at once, or says what is allowed."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any

import pytest
from toys import ToyAutoencoder

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.hints import Items, Range, Rising, allowed, fits
from continuad.detectors.fastflow import FastFlow
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.models.options import identity, options_of, refuse_unmatched
from continuad.models.outline import known
from continuad.models.registry import applicable, detectors, find_detector, make_detector, make_strategy, strategies
from continuad.strategies.ewc import Ewc
from continuad.vision.backbones import BackboneSpec

HOSTILE: tuple[Any, ...] = (
    *(math.nan, math.inf, -math.inf, -1, 0, 1e30, 10**9, 10**30, 10**5000),
    *("", "abc", [], [0], [1e30], {}, True, None),
)
SMALL = {"image_size": 64, "channels": 12, "width": 0.0625, "teacher": "random", "cells": (8,), "latent": 8, "tile": 64}
QUICK, LITTLE = 2.0, 500.0  # seconds of processor time, megabytes
DETECTORS = [*detectors(), "tiled-padim", "tiled-autoencoder"]


def options() -> Iterator[tuple[str, str]]:
    kinds = {name: find_detector(name) for name in DETECTORS} | strategies()
    return ((name, option) for name, kind in kinds.items() for option in options_of(kind))


def make(name: str, **options: Any) -> object:
    """With small values for all other options."""
    if name not in strategies():
        return make_detector(name, **applicable(find_detector(name), SMALL) | options)
    text = "replay+ewc" if name == "combined" and "strategies" not in options else name
    return make_strategy(text, partner(name), **applicable(strategies()[name], SMALL) | options)


@cache
def partner(strategy: str) -> Detector:
    """A detector that a strategy does not refuse."""
    if strategy == "latent":
        return FastFlow(64, strides=(16,), flow_steps=2)
    return Padim(64, channels=12) if strategy in ("average", "accumulate") else ToyAutoencoder()


def peak() -> float:
    """The most megabytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_an_option_takes_a_value_at_once_or_refuses_it_by_name(name: str, option: str) -> None:
    kind: type = strategies()[name] if name in strategies() else find_detector(name)
    hint = options_of(kind)[option]
    make(name)  # whatever is imported or read once
    for value in HOSTILE:
        held, began = peak(), time.process_time()
        try:
            make(name, **{option: value})
        except ContinuadError as refused:
            said = str(refused)
            assert option.removesuffix("ies").replace("_", " ") in said.replace("_", " "), (value, said)  # strategy
            assert kind.__name__ not in said
            assert len(said) < 600
        else:
            assert fits(value, hint), f"{value!r} was taken"
        assert time.process_time() - began < QUICK, value
        assert peak() - held < LITTLE, value


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_no_option_takes_what_is_no_number_or_has_the_wrong_type(name: str, option: str) -> None:
    hint = options_of(strategies()[name] if name in strategies() else find_detector(name))[option]
    refused = [value for value in (math.nan, math.inf, 1e30, 10**30, [], 1j) if fits(value, hint)]
    assert not refused, allowed(hint)
    assert fits(True, hint) == ("true or false" in allowed(hint))


def test_constructors_and_names_refuse_alike() -> None:
    with pytest.raises(ContinuadError, match=r"^option sigma is -1; allowed: a number, 0 to 1000$"):
        Padim(64, sigma=-1)
    with pytest.raises(ContinuadError, match=r"^option padim.sigma is -1; allowed: a number, 0 to 1000$"):
        make_detector("padim", sigma=-1)
    with pytest.raises(ContinuadError, match=r"^option strength is -1; allowed: a number, 0 to 1e"):
        Ewc(ToyAutoencoder(), -1)
    with pytest.raises(ContinuadError, match=r"^option seed is -1; allowed: a whole number, 0 to 4294967295$"):
        make_strategy("naive", ToyAutoencoder()).__class__(ToyAutoencoder(), seed=-1)


def test_a_class_from_elsewhere_declares_ranges_the_same_way() -> None:
    class Mine(ToyAutoencoder):
        def __init__(self, image_size: int = 32, share: Annotated[float, Range(0, 1, above=True)] = 0.5):
            super().__init__()
            self.share = share

    assert Mine(share=1).share == 1
    with pytest.raises(ContinuadError, match=r"^option share is 0; allowed: a number, above 0 and at most 1$"):
        Mine(share=0)
    with pytest.raises(ContinuadError, match=r"^option share is 2; allowed"):
        Mine(32, 2)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("padim", {"sigma": 16}, "option sigma is 16.0: a blur must not reach beyond the image, 64 x 64"),
        ("spade", {"sigma": 40}, "option sigma is 40.0"),
        ("padim", {"strides": [3]}, "strides"),
        ("padim", {"strides": [16, 4]}, "the smallest first, each once"),
        ("padim", {"channels": 177}, "option channels is 177; allowed: 1 to the 176 of tf_efficientnet_lite0"),
        ("patchcore", {"bank": 1}, "option bank is 1, room for 1 vectors, fewer than neighbours=9"),
        ("patchcore", {"bank": "0.001MB", "neighbours": 2}, "room for 1 vectors, fewer than neighbours=2"),
        ("spade", {"bank": 4, "neighbours": 5}, "option bank is 4, fewer images than neighbours=5"),
        (
            "autoencoder",
            {"latent": 10_000, "image_size": 4096},
            "latent numbers and width=0.0625 at 4096 x 4096 pixels",
        ),
        (
            "fastflow",
            {"kernels": [31], "hidden": 16, "flow_steps": 100},
            "flow_steps=100, kernels=[31], hidden=16.0 make",
        ),
        ("cflow", {"condition": 4096, "flow_steps": 100}, "flow_steps=100, condition=4096 make a network of"),
        ("generative", {"latent": 10_001}, "option generative.latent is 10001; allowed: a whole number, 1 to 10000"),
        ("pertask", {"reject": -0.1}, "option pertask.reject is -0.1; allowed: a number, at least 0 and below 1"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ContinuadError) as refused:
        make(name, **options)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[int, Range(1)], "a whole number, at least 1"),
        (Annotated[float, Range(0, 1e6)] | None, "a number, 0 to 1e+06"),
        (Annotated[int, Range(1)] | str, "a whole number, at least 1 or text"),
        (
            Annotated[Sequence[Annotated[int, Range(1, 9)]], Items(4), Rising()],
            "whole numbers, such as [4, 8], each 1 to 9, 1 to 4 long, the smallest first, each once",
        ),
    ],
)
def test_limits_are_said_in_words(hint: Any, words: str) -> None:
    assert allowed(hint) == words


@pytest.mark.parametrize("values", [{"steps": 0}, {"epochs": 1.5}, {"patience": True}, {"steps": 10**12}])
def test_a_budget_is_checked_too(values: dict[str, Any]) -> None:
    with pytest.raises(ContinuadError, match=f"^{next(iter(values))} is .*; allowed: a whole number, 1 to"):
        Budget(**values)


def test_what_a_backbone_is_made_of_is_checked_too() -> None:
    with pytest.raises(ContinuadError, match=r"^backbone: download is 1; allowed: true or false$"):
        BackboneSpec(download=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "instead"),
    [("padim.seed", "--seed"), ("padim.image_size", "--image-size"), ("combined.strategies", "replay:300+ewc")],
)
def test_an_option_that_the_whole_run_has_one_value_for_is_refused(option: str, instead: str) -> None:
    kinds = {"padim": known().detectors["padim"], "combined": known().strategies["combined"]}
    with pytest.raises(ContinuadError, match=f"^option {option}.*{instead.replace('+', '.')}$"):
        refuse_unmatched({option: 64}, kinds)


def test_an_option_given_in_the_text_and_beside_it_is_refused() -> None:
    with pytest.raises(ContinuadError, match=r"^'ewc:5' gives strength, and strength is given once more as 7"):
        make_strategy("ewc:5", ToyAutoencoder(), strength=7)
    with pytest.raises(ContinuadError, match="gives strategies, and strategies is given once more"):
        make_strategy("replay+ewc", ToyAutoencoder(), strategies="lwf+ewc")


@pytest.mark.parametrize("text", ["combined:combined", "replay+combined", "replay+", "+"])
def test_a_combination_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(ContinuadError):
        make_strategy(text, ToyAutoencoder())


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("replay:5", "replay:05", True),
        ("replay", "replay:exemplars=300", True),
        ("replay:2MB", "replay:2.0MB:coding=raw", True),
        ("ewc", "ewc:1e3", True),
        ("replay:5", "replay:5%", False),
        ("replay:5", "replay:5:coding=png", False),
        ("replay:5", "reservoir:5", False),
    ],
)
def test_one_thing_is_known_by_any_spelling(first: str, second: str, same: bool) -> None:
    one, other = (identity(known().strategies[text.partition(":")[0]], text, {}) for text in (first, second))
    assert (one == other) == same
    one, other = (identity(strategies()[text.partition(":")[0]], text, {}) for text in (first, second))
    assert (one == other) == same
