"""Noise, masks and pictures: any size, repeatable, and clear about a folder that is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from continuad.data.synthetic import Pictures, dead_leaves, perlin_mask, perlin_noise
from continuad.errors import ContinuadError


def test_noise_vanishes_at_the_corners_of_its_cells() -> None:
    noise = perlin_noise((64, 32), (4, 2))
    assert noise.shape == (64, 32)
    assert noise.abs().max() <= 1.5
    assert noise.std() > 0.1


@pytest.mark.parametrize("size", [(300, 200), (1, 7), (31, 257)])
def test_any_size(size: tuple[int, int]) -> None:
    assert perlin_noise(size, (8, 2)).shape == size
    assert perlin_mask(size).shape == size
    assert dead_leaves(size).shape == (3, *size)


def test_masks_are_regions_and_repeat_with_the_seed() -> None:
    torch.manual_seed(1)
    first = torch.stack([perlin_mask((128, 128)) for _ in range(40)])
    share = first.float().mean((1, 2))
    assert first.dtype == torch.bool
    assert 0.005 < float(share.mean()) < 0.4
    torch.manual_seed(1)
    assert torch.equal(perlin_mask((128, 128)), first[0])


def test_generated_pictures_are_colourful_and_differ() -> None:
    a, b = Pictures().draw(2, (64, 64))
    assert not torch.equal(a, b)
    assert len(a.flatten(1).T.unique(dim=0)) > 50


def test_a_folders_pictures_are_scaled_and_cropped(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(tmp_path / "below" / "ä.PNG")
    drawn = Pictures(str(tmp_path), zoom=2).draw(3, (16, 24))
    assert drawn.shape == (3, 3, 16, 24)
    assert drawn.unique().tolist() == [77]


def test_folders_are_missed_when_drawn_from_not_before(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, what in (("none", "does not exist"), ("empty", "no images")):
        pictures = Pictures(str(tmp_path / name))
        with pytest.raises(ContinuadError, match=what):
            pictures.draw(1, (8, 8))
    (tmp_path / "empty" / "cut.png").write_bytes(b"not a picture")
    with pytest.raises(ContinuadError, match=r"cut\.png"):
        Pictures(str(tmp_path / "empty")).draw(1, (8, 8))
