"""A teacher learns, goes on after a kill to the same weights, and carries its card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from continuad.errors import ContinuadError
from continuad.vision import distill as module
from continuad.vision.distill import DistillConfig, distill
from continuad.vision.pdn import load_teacher


@pytest.fixture
def config(tmp_path: Path) -> DistillConfig:
    (tmp_path / "pictures").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((80, 80)).save(tmp_path / "pictures" / f"{i}.png")
    return DistillConfig(str(tmp_path / "pictures"), steps=6, batch_size=2, crop=40)


def test_killed_and_resumed_gives_the_same_teacher(
    config: DistillConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLE", 2)
    monkeypatch.setattr("continuad.core.checkpoint.EVERY", 0.0)
    distill(config, tmp_path / "whole.safetensors")

    def stop(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(config, tmp_path / "half.safetensors", stop)
    with pytest.raises(ContinuadError, match="other settings"):
        distill(replace(config, seed=1), tmp_path / "half.safetensors")
    distill(config, tmp_path / "half.safetensors")
    whole, half = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "half.safetensors")
    assert all(torch.equal(whole[k], half[k]) for k in whole)
    assert not (tmp_path / "half.safetensors.part").exists()
    with safe_open(tmp_path / "whole.safetensors", "pt") as file:
        assert json.loads(file.metadata()["card"])["steps"] == 6
    assert load_teacher("s", str(tmp_path / "whole.safetensors"))(torch.rand(1, 3, 64, 64)).shape == (1, 384, 16, 16)


def test_no_pictures_is_said_before_any_work(config: DistillConfig, tmp_path: Path) -> None:
    with pytest.raises(ContinuadError):
        distill(replace(config, folder=str(tmp_path / "nothing")), tmp_path / "out.safetensors")
