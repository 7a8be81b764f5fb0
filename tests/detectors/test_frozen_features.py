"""Detectors over a frozen backbone: its levels stand for the images, wherever an image can be given."""

from __future__ import annotations

import pytest
import torch
from test_contract import SMALL
from toys import images_of, ready

from continuad.core.detector import Embeds
from continuad.detectors._frozen_features import FeatureStatistics, FrozenFeatures
from continuad.errors import ContinuadError
from continuad.models.registry import applicable, detectors, make_detector

each = pytest.mark.parametrize("name", [n for n, kind in detectors().items() if issubclass(kind, FrozenFeatures)])
GOOD = torch.from_numpy(images_of(0, 6, defects=False, seed=0).images)
VAL = torch.from_numpy(images_of(0, 4, defects=False, seed=1).images)
MIXED = torch.from_numpy(images_of(0, 4, defects=True, seed=2).images)


def small(name: str) -> FrozenFeatures:
    detector = make_detector(name, **applicable(detectors()[name], SMALL))
    assert isinstance(detector, FrozenFeatures)
    assert isinstance(detector, Embeds)
    assert detector.embedder() is detector.pyramid
    return detector


def taught(name: str, *, on_levels: bool) -> tuple[FrozenFeatures, list[torch.Tensor]]:
    """A detector after two steps and calibration, and what its steps returned."""
    detector, losses = small(name), []
    detector.begin(iter(GOOD.split(3)), "restart")
    for part in GOOD.split(3):
        torch.manual_seed(0)  # CFLOW draws vectors
        found = detector.step_on(detector.embed(part)) if on_levels else detector.step(part)
        losses += [] if found is None else [found.detach()]
    detector.finish()
    if on_levels:
        detector.calibrate_on(map(detector.embed, VAL.split(3)))
    else:
        detector.calibrate(VAL.split(3))
    ready(detector)
    return detector, losses


@each
def test_levels_teach_what_their_images_teach(name: str) -> None:
    (by_images, losses), (by_levels, same) = (taught(name, on_levels=on_levels) for on_levels in (False, True))
    assert len(losses) == (2 if by_images.learns_by == "gradient" else 0)
    assert all(torch.equal(a, b) for a, b in zip(losses, same, strict=True))
    assert list(by_levels.stats) == list(by_images.stats)
    learned = set(by_images.stats) - {"owners"}  # levels do not say whose they are
    assert all(torch.equal(by_levels.stats[key], by_images.stats[key]) for key in learned)
    assert not by_levels.stats["owners"].any() if isinstance(by_levels, FeatureStatistics) else True


@each
def test_levels_are_predicted_as_their_images_are(name: str) -> None:
    detector, _ = taught(name, on_levels=False)
    by_images, by_levels = detector.predict(MIXED), detector.predict_on(detector.embed(MIXED))
    assert torch.equal(by_levels.map, by_images.map)
    assert torch.equal(by_levels.score, by_images.score)
    assert not by_levels.map.requires_grad
    answers = detector(MIXED)
    assert all(torch.equal(a, b) for a, b in zip(detector._answers(detector.embed(MIXED)), answers, strict=True))


@each
def test_levels_are_refused_before_anything_was_learned(name: str) -> None:
    detector = small(name)
    with pytest.raises(ContinuadError, match="not trained yet"):
        detector.predict_on(detector.embed(MIXED))
