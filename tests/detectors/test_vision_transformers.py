"""Every detector that takes a backbone learns, predicts, is saved and loaded on a vision transformer."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from toys import stream

from continuad.core.fit import Budget
from continuad.errors import ContinuadError
from continuad.models.options import options_of
from continuad.models.registry import detectors, make_detector, make_strategy
from continuad.models.store import load_model, save_model

SIDES = {"vit_tiny_patch16_224": 64, "vit_small_patch14_dinov2": 70}
SMALL = {
    "padim": {"channels": 8},
    "patchcore": {"bank": 20},
    "fastflow": {"flow_steps": 1},
    "cflow": {"flow_steps": 1},
    "stfpm": {},
    "spade": {},
    "cfa": {},
}


CASES = [(name, "vit_tiny_patch16_224") for name in SMALL] + [("patchcore", "vit_small_patch14_dinov2")]


def test_these_are_all_that_take_a_backbone() -> None:
    assert {name for name, kind in detectors().items() if "backbone" in options_of(kind)} == set(SMALL)


@pytest.mark.parametrize(("name", "network"), CASES)
def test_a_transformer_serves_as_backbone(name: str, network: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_file(timm.create_model(network).state_dict(), tmp_path / "vit.safetensors")
    backbone, side = {"name": network, "weights_file": str(tmp_path / "vit.safetensors")}, SIDES[network]
    detector = make_detector(name, image_size=side, backbone=backbone, **SMALL[name])
    model = make_strategy("pertask", detector, backbone=backbone)
    model.budget = Budget(steps=2)
    tasks = stream(2, train=6, size=side)
    for task in tasks:
        model.learn(task)
    images = torch.from_numpy(tasks[1].test.images)
    found = model.predict(images)
    assert found.map.shape == (len(images), side, side)
    assert bool(found.map.isfinite().all())
    assert len(set(found.score.tolist())) > 1
    save_model(model, tmp_path / "model")
    loaded, _ = load_model(tmp_path / "model")
    again = loaded.predict(images)
    assert torch.equal(again.score, found.score)
    assert torch.equal(again.map, found.map)


@pytest.mark.parametrize("name", SMALL)
def test_a_size_that_patches_do_not_divide_is_refused_before_anything_is_learned(name: str) -> None:
    spec = {"name": "vit_small_patch14_dinov2", "weights_file": "random"}
    with pytest.raises(ContinuadError, match=r"does not take images of 256 x 256; .* 252 x 252 or 266 x 266"):
        make_detector(name, image_size=256, backbone=spec)
