"""What is written behind a strategy's name."""

from __future__ import annotations

import pytest
from toys import ToyAutoencoder

from continuad.errors import ContinuadError
from continuad.models.registry import make_strategy, settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("replay:6", {"exemplars": 6, "coding": "raw"}),
        ("replay:2MB:coding=webp", {"exemplars": "2MB", "coding": "webp"}),
        ("replay:coding=png", {"exemplars": 300, "coding": "png"}),
        ("lwf:strength=3", {"strength": 3.0}),
        ("replay:6:coding=webp+lwf:2", {"strategies": "replay:6:coding=webp+lwf:2"}),
    ],
)
def test_options_behind_the_name(text: str, expected: dict[str, object]) -> None:
    assert settings(make_strategy(text, ToyAutoencoder())).items() >= expected.items()


def test_what_is_written_goes_together_with_what_stands_beside() -> None:
    made = make_strategy("replay:2MB", ToyAutoencoder(), coding="webp")
    assert settings(made).items() >= {"exemplars": "2MB", "coding": "webp"}.items()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("replay:6:codec=webp", "there is no option 'codec'.*; there are exemplars, coding"),
        ("replay:6:coding=gif", "gif"),
        ("ewc:many", "'ewc:many': option strength is 'many'; allowed: a number"),
        ("naive:6", "'naive' takes no value"),
    ],
)
def test_mistakes_behind_the_name(text: str, message: str) -> None:
    with pytest.raises(ContinuadError, match=message):
        make_strategy(text, ToyAutoencoder())
