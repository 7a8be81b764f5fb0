"""Images as files in memory: what each coding keeps, and how they are read again."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from torch import Tensor

from continuad.memory.codec import CODINGS, CodedImages, Coding, decode, encode


def gradient(height: int = 64, width: int = 64) -> Tensor:
    """Smooth, as photographs are."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack([x * 4, y * 4, (x + y) * 2]).to(torch.uint8)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_what_codings_keep_of_an_image() -> None:
    """PNG every pixel; WebP and JPEG nearly, in far fewer bytes."""
    image = gradient()
    sizes = {}
    for coding in ("raw", "png", "webp", "jpeg"):
        file = encode(image, coding)
        again = decode(file, coding, (64, 64))
        sizes[coding] = len(file)
        assert int((again.int() - image.int()).abs().max()) <= (8 if coding in ("webp", "jpeg") else 0)
    assert sizes["raw"] == 3 * 64 * 64
    assert max(sizes["webp"], sizes["jpeg"]) < sizes["raw"] / 5


@pytest.mark.parametrize("coding", CODINGS)
def test_images_need_not_be_square(coding: Coding) -> None:
    image = gradient(20, 32)
    file = encode(image, coding)
    again = decode(file, coding, (20, 32))
    assert file.ndim == 1
    assert file.dtype == again.dtype == torch.uint8
    assert again.shape == (3, 20, 32)
    assert int((again.int() - image.int()).abs().max()) <= (20 if coding in ("webp", "jpeg") else 0)


@pytest.mark.parametrize("coding", ["raw", "png"])
def test_lossless_codings_keep_noise_to_the_last_pixel(coding: Coding) -> None:
    image = noise(7, 9)
    assert torch.equal(decode(encode(image, coding), coding, (7, 9)), image)


def test_png_is_packed_more_tightly_than_by_default() -> None:
    plain = io.BytesIO()
    Image.fromarray(gradient().permute(1, 2, 0).numpy()).save(plain, "png")
    assert len(encode(gradient(), "png")) < len(plain.getvalue())


@pytest.mark.parametrize("coding", ["raw", "png"])
def test_exemplars_are_read_as_good_images(coding: Coding) -> None:
    images = [noise(7, 9, seed) for seed in range(3)]
    coded = CodedImages([encode(image, coding) for image in images], coding, (7, 9))
    assert len(coded) == 3
    one = coded[1]
    assert torch.equal(one.image, images[1])
    assert one.mask.shape == (7, 9)
    assert one.mask.dtype == one.label.dtype == torch.bool
    assert not one.mask.any()
    assert not one.label
    several = coded.__getitems__([2, 0])
    assert torch.equal(several.image, torch.stack([images[2], images[0]]))
    assert several.mask.shape == (2, 7, 9)
    assert several.label.tolist() == [False, False]
