"""Tiles: where they lie, how maps are stitched, and that every detector works on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_contract import SLOW, SMALL
from torch import Tensor
from toys import SIZE, ToyAutoencoder, ready, stream

from continuad.core.detector import Detector
from continuad.core.fit import Budget
from continuad.core.types import Prediction
from continuad.detectors.padim import Padim
from continuad.errors import ContinuadError
from continuad.models.registry import (
    applicable,
    detectors,
    find_detector,
    make_detector,
    make_strategy,
    name_of,
    refusal,
    settings,
)
from continuad.models.store import load_model, save_model
from continuad.strategies.naive import Naive
from continuad.vision.tiles import Tiled, starts, tiled

LARGE = 96
TASKS = stream(2, train=4, size=LARGE)


class Brightness(Detector):
    """The map is the picture's own brightness; nothing is learned."""

    learns_by = "statistics"

    def __init__(self, image_size: int | tuple[int, int] = SIZE, seed: int = 0):
        super().__init__(image_size)
        self.seed = seed
        self.seen: list[tuple[int, ...]] = []

    def step(self, images: Tensor) -> None:
        self.seen.append(tuple(images.shape))

    def _predict(self, images: Tensor) -> Prediction:
        grey = images.float().mean(1)
        return Prediction(grey.flatten(1).amax(1), grey)


@pytest.mark.parametrize(
    ("whole", "part", "overlap", "found"),
    [
        (100, 40, 10, [0, 30, 60]),
        (100, 40, 0, [0, 30, 60]),
        (80, 40, 0, [0, 40]),
        (40, 40, 10, [0]),
        (41, 40, 10, [0, 1]),
    ],
)
def test_tiles_cover_evenly(whole: int, part: int, overlap: int, found: list[int]) -> None:
    assert starts(whole, part, overlap) == found


@pytest.mark.parametrize("overlap", [0, 1, 17, 63])
@pytest.mark.parametrize("size", [(64, 64), (64, 150), (131, 97)])
def test_stitching_gives_back_what_was_cut(size: tuple[int, int], overlap: int) -> None:
    """No seam and no border differs: the stitched map of an exact detector is its map of the whole picture."""
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    found = tiled(Brightness)(size, tile=64, overlap=overlap)
    whole = ready(Brightness(size)).predict(images)
    stitched = ready(found).predict(images)
    assert torch.allclose(stitched.map, whole.map, atol=1e-3)
    assert torch.equal(stitched.score, whole.score)


def test_maps_of_two_tiles_blend_over_their_overlap() -> None:
    """Tiles of 0 and 1 share 3 of 5 columns: weights 1/4, 2/4, 3/4 of one and of the other."""
    found = tiled(Brightness)((32, 61), tile=(32, 32), overlap=3)
    ramp = found.stitch(torch.stack([torch.zeros(32, 32), torch.ones(32, 32)]))[0]
    assert ramp[28:33].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_tiling_has_an_effect() -> None:
    """The detector inside sees tiles and nothing else, all of every picture."""
    model = Naive(tiled(Brightness)(LARGE, tile=SIZE, overlap=0))
    model.learn(TASKS[0])
    assert model.detector.inner.seen == [(4, 3, SIZE, SIZE)] * len(TASKS[0].train)
    assert model.predict(torch.from_numpy(TASKS[0].test.images)).map.shape == (8, LARGE, LARGE)


def test_thresholds_are_those_of_whole_pictures() -> None:
    model = Naive(tiled(Brightness)(LARGE, tile=SIZE))
    model.learn(TASKS[0])
    whole = model.predict(torch.from_numpy(TASKS[0].val.images))
    assert model.thresholds(0).image == float(whole.score.max())


def test_an_untrained_model_and_another_size_are_refused() -> None:
    detector = tiled(Brightness)(LARGE, tile=SIZE)
    with pytest.raises(ContinuadError, match="not trained yet"):
        detector.predict(torch.zeros(1, 3, LARGE, LARGE, dtype=torch.uint8))
    with pytest.raises(ContinuadError, match="images are 64 x 64, but the model learned 96 x 96"):
        ready(detector).predict(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8))


@pytest.mark.parametrize("name", [n for n in detectors() if n not in SLOW])
def test_every_detector_works_on_tiles(name: str, tmp_path: Path) -> None:
    small = {**SMALL, "image_size": LARGE, "tile": SIZE}
    kind = find_detector(f"tiled-{name}")
    model = make_strategy("naive", make_detector(f"tiled-{name}", **applicable(kind, small)))
    model.budget = Budget(steps=2)
    model.learn(TASKS[0])
    images = torch.from_numpy(TASKS[0].test.images)
    found = model.predict(images)
    assert found.map.shape == (8, LARGE, LARGE)
    assert torch.isfinite(found.map).all()
    save_model(model, tmp_path)
    again, _ = load_model(tmp_path)
    assert name_of(again.detector) == f"tiled-{name}"
    assert settings(again.detector)["tile"] == SIZE
    assert torch.equal(again.predict(images).map, found.map)


@pytest.mark.parametrize("strategy", ["replay:4", "lwf", "herding:4", "ewc", "packnet", "pertask"])
def test_strategies_take_a_tiled_detector(strategy: str) -> None:
    model = make_strategy(strategy, tiled(ToyAutoencoder)(LARGE, tile=SIZE))
    model.budget = Budget(steps=2)
    for task in TASKS:
        model.learn(task)
    assert torch.isfinite(model.predict(torch.from_numpy(TASKS[0].test.images)).map).all()


def test_what_can_be_averaged_can_be_on_tiles() -> None:
    assert refusal("average", "tiled-padim") is None
    assert "keeps none" in str(refusal("average", "tiled-patchcore"))
    assert issubclass(find_detector("tiled-padim"), Tiled)
    assert "channels" in settings(tiled(Padim)(LARGE, tile=SIZE, channels=12))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"tile": 128}, "larger than the picture"), ({"tile": SIZE, "overlap": SIZE}, "smaller than the tile")],
)
def test_tiles_that_do_not_fit_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(ContinuadError, match=said):
        tiled(Brightness)(LARGE, **options)
