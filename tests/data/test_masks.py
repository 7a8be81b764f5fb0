"""Masks keep their truth: no noise becomes defect, no label is lost, no region disappears unsaid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from writers import saved, scene

from continuad.data.audit import audit
from continuad.data.decode import decode_mask, read_mask
from continuad.data.masks import defective, shrink
from continuad.data.stream import open_stream

RANDOM = np.random.default_rng(0)
EIGHT = np.ones((3, 3), dtype=int)


def drawn(kind: str, side: int = 256) -> np.ndarray:
    """A mask of 0 and 255."""
    picture = Image.new("L", (side, side))
    pen = ImageDraw.Draw(picture)
    if kind == "blob":
        pen.ellipse((60, 70, 140, 150), fill=255)
    elif kind == "dot":
        pen.ellipse((60, 70, 66, 76), fill=255)
    elif kind == "rectangles":
        pen.rectangle((30, 30, 100, 50), fill=255)
        pen.rectangle((130, 160, 150, 240), fill=255)
    elif kind == "hairline":
        pen.line((10, 10, 200, 90), fill=255)
    elif kind == "specks":
        for x, y in np.random.default_rng(1).integers(5, side - 6, (40, 2)).tolist():
            pen.rectangle((x, y, x + 2, y + 2), fill=255)
    return np.asarray(picture)


KINDS = ("blob", "dot", "rectangles", "hairline", "specks")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [30, 50, 75, 95, 100])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_masks_saved_as_jpeg_keep_their_area(tmp_path: Path, kind: str, quality: int, mode: str) -> None:
    truth = drawn(kind)
    Image.fromarray(truth).convert(mode).save(tmp_path / "a.jpg", quality=quality)
    found = read_mask(tmp_path / "a.jpg")
    assert found.noisy
    assert np.mean(found.mask != (truth > 0)) < 0.0005
    assert abs(found.mask.sum() / (truth > 0).sum() - 1) < 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [[0, 1], [0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 3], [4, 5, 6], [0, 1, 1, 1, 1]])
def test_background_noise_is_no_defect(tmp_path: Path, kind: str, levels: list[int]) -> None:
    truth = drawn(kind) > 0
    values = np.where(truth, 250, RANDOM.choice(levels, truth.shape)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read_mask(tmp_path / "a.png")
    assert np.array_equal(found.mask, truth)
    assert found.noisy


def test_background_noise_without_a_defect_marks_nothing() -> None:
    found = defective(RANDOM.integers(0, 6, (64, 64)))
    assert not found.mask.any()
    assert found.noisy


def test_noise_above_eight_bits_and_in_shares() -> None:
    truth = drawn("blob") > 0
    wide = np.where(truth, 60000, RANDOM.integers(0, 900, truth.shape))
    assert np.array_equal(defective(wide).mask, truth)
    file = saved(Image.fromarray((wide / 65535).astype(np.float32)), "tiff")
    assert np.array_equal(decode_mask(file), truth)


@pytest.mark.parametrize("kind", ["blob", "rectangles"])
def test_smoothed_edges_are_cut_at_half(kind: str) -> None:
    truth = drawn(kind)
    blurred = np.asarray(Image.fromarray(truth).filter(ImageFilter.GaussianBlur(2)))
    assert abs(defective(blurred).mask.sum() / (truth > 0).sum() - 1) < 0.02
    assert (blurred > 0).sum() > 1.2 * (truth > 0).sum()
    larger = np.asarray(Image.fromarray(truth).resize((435, 435), Image.Resampling.BICUBIC))
    assert abs(defective(larger).mask.mean() / (truth > 0).mean() - 1) < 0.02


def labels(kind: str) -> np.ndarray:
    picture = Image.new("L", (256, 256))
    pen = ImageDraw.Draw(picture)
    if kind == "areas 1 2 3":
        pen.ellipse((20, 20, 60, 60), fill=1)
        pen.rectangle((100, 100, 150, 120), fill=2)
        pen.line((10, 200, 240, 210), fill=3)
    elif kind == "hairlines 1 2 3":
        pen.line((10, 20, 240, 210), fill=1)
        pen.line((10, 200, 240, 210), fill=2)
        pen.ellipse((100, 20, 140, 60), fill=3)
    elif kind == "stripes side by side":
        for i in range(8):
            pen.rectangle((20 + i * 4, 50, 23 + i * 4, 200), fill=i + 1)
    elif kind == "one inside the other":
        for i in range(4):
            pen.ellipse((20 + i * 8, 20 + i * 8, 120 - i * 8, 120 - i * 8), fill=i + 1)
    elif kind == "void border":  # as in segmentation sets: class 1, its edge 255
        pen.ellipse((20, 20, 100, 100), fill=255)
        pen.ellipse((22, 22, 98, 98), fill=1)
    elif kind == "instances":
        for i, (x, y) in enumerate(np.random.default_rng(2).integers(0, 250, (40, 2)).tolist()):
            pen.rectangle((x, y, x + 2, y + 2), fill=i + 1)
    elif kind == "in steps of 50":
        for i in range(5):
            pen.rectangle((10 + i * 40, 30, 40 + i * 40, 90), fill=50 * (i + 1))
    elif kind == "logical anomalies":  # values of several kinds near the top
        for i in range(20):
            pen.rectangle((5 + i * 12, 30, 14 + i * 12, 90), fill=255 - i)
    elif kind == "single pixels":
        for x, y in np.random.default_rng(3).integers(0, 190, (30, 2)).tolist():
            pen.point((x, y), fill=1)
        pen.rectangle((200, 200, 210, 210), fill=3)
    return np.asarray(picture)


@pytest.mark.parametrize(
    "kind",
    [
        "areas 1 2 3", "hairlines 1 2 3", "stripes side by side", "one inside the other", "void border", "instances",
        "in steps of 50", "logical anomalies", "single pixels",
    ],
)  # fmt: skip
def test_label_masks_keep_every_label(kind: str) -> None:
    values = labels(kind)
    found = defective(values)
    assert np.array_equal(found.mask, values > 0)
    assert not found.noisy


def test_labels_saved_as_jpeg_keep_every_label() -> None:
    values = np.zeros((256, 256), np.uint8)
    values[50:90, 50:100] = 100
    values[150:190, 30:80] = 250
    file = saved(Image.fromarray(values), "jpeg", quality=80)
    assert abs(read_mask(file).mask.sum() / (values > 0).sum() - 1) < 0.02


def test_labels_with_noise_of_their_own_keep_every_label() -> None:
    truth = np.zeros((256, 256), np.uint8)
    truth[50:90, 50:100] = 100
    truth[150:190, 30:80] = 250
    values = np.clip(truth + np.random.default_rng(0).normal(0, 2, truth.shape), 0, 255).astype(np.uint8)
    found = defective(values)
    assert np.array_equal(found.mask, truth > 0)
    assert found.noisy


def test_the_lowest_value_is_background_where_no_pixel_is_0() -> None:
    values = np.where(drawn("blob") > 0, 250, 5)
    found = defective(values)
    assert np.array_equal(found.mask, values == 250)
    assert found.background == 5
    assert defective(np.full((4, 4), 255)).mask.all()


def test_a_hairline_beside_a_large_blob_survives_scaling() -> None:
    """At every place and slope: with the nearest pixel alone, three in four lines of this width disappear."""
    for offset in range(8):
        for slope in (0, 40, 300):
            picture = Image.new("1", (1024, 1024))
            pen = ImageDraw.Draw(picture)
            pen.ellipse((600, 600, 900, 900), fill=1)
            pen.line((100, 100 + offset, 500, 100 + offset + slope), fill=1)
            found = shrink(np.asarray(picture), (256, 256))
            assert ndimage.label(found.mask, EIGHT)[1] == 2
            line = found.mask[:140]
            assert found.dropped == 0
            assert 100 <= line.sum() <= 2.6 * 100  # as long as it was, and one or two pixels wide
            assert abs(found.mask[140:].sum() / (np.asarray(picture)[560:].sum() / 16) - 1) < 0.02


def test_a_hairline_hanging_on_a_blob_stays_on_it() -> None:
    mask = np.zeros((800, 800), dtype=bool)
    mask[300:500, 300:500] = True
    mask[401, 500:790] = True
    found = shrink(mask, (200, 200)).mask
    assert found[100, 126:196].all()
    assert abs(found[:, :125].sum() - 50 * 50) < 300


def test_regions_too_small_to_be_seen_are_counted() -> None:
    mask = np.zeros((640, 640), dtype=bool)
    mask[100:200, 100:200] = True
    mask[301, 301] = mask[401:403, 401] = True  # 1 and 2 of the 100 pixels of a working pixel
    mask[501:504, 501:504] = True  # 9 of them
    found = shrink(mask, (64, 64))
    assert (found.regions, found.dropped) == (4, 2)
    assert found.mask.sum() == 101
    assert found.mask[50, 50]


def test_scaling_blobs_and_enlarging_take_the_nearest_pixel() -> None:
    mask = drawn("blob") > 0
    for size in ((128, 128), (100, 77), (512, 300)):
        nearest = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)) > 0
        assert np.array_equal(shrink(mask, size).mask, nearest)


def test_many_specks_take_no_time() -> None:
    mask = np.random.default_rng(0).random((2000, 2000)) < 0.01
    found = shrink(mask, (256, 256))
    assert found.dropped > 30_000
    assert found.regions > found.dropped


def product(root: Path, save, mask: np.ndarray, name: str = "000_mask.png", **options: object) -> Path:  # type: ignore[no-untyped-def]
    for i in range(12):
        save(root / "train" / "good" / f"{i}.bmp", np.asarray(scene(mask.shape[0], i)))
    save(root / "test" / "crack" / "000.bmp", np.asarray(scene(mask.shape[0], 99)))
    save(root / "test" / "good" / "000.bmp", np.asarray(scene(mask.shape[0], 98)))
    save(root / "ground_truth" / "crack" / name, mask, **options)
    return root


def warnings_of(root: Path, size: int = 64) -> str:
    """What the audit and a stream both say."""
    (found,) = audit(root, image_size=size)
    notes = "\n".join(open_stream(root, image_size=size, cache=None).notes)
    texts = [finding.text for finding in found.findings if finding.files]
    assert all(text in notes for text in texts)
    return "\n".join(texts)


def test_dropped_regions_are_named(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    mask = np.zeros((640, 640))
    mask[100:200, 100:200] = 255
    mask[300, 300] = 255
    words = "masks with regions too small to be seen at 64 x 64, dropped (1): crack/000_mask.png (1 of 2 regions)."
    assert words in warnings_of(product(tmp_path, save, mask))


def test_inverted_masks_are_named(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    mask = 255 - drawn("blob", 256)
    words = "masks that cover most of the picture (1): crack/000_mask.png (92%); if defects are black in them, invert"
    assert words in warnings_of(product(tmp_path, save, mask))


def test_large_defects_are_not_called_inverted(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    mask = np.zeros((64, 64))
    mask[:30] = 255
    assert "cover most" not in warnings_of(product(tmp_path, save, mask))


def test_noisy_masks_and_masks_without_0_are_named(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    words = "masks with noise or smoothed edges (1): crack/000_mask.jpg; values above half of the largest count"
    assert words in warnings_of(product(tmp_path / "a", save, drawn("blob"), "000_mask.jpg"))
    words = "masks without a pixel of 0 (1): crack/000_mask.png (lowest 5); their lowest value counts as background."
    assert words in warnings_of(product(tmp_path / "b", save, np.where(drawn("blob") > 0, 250, 5)))


def test_masks_of_real_sets_decode_to_the_bits_they_hold(real_data: Path) -> None:
    """Published figures rest on them."""
    masks = sorted(real_data.glob("*/*/ground_truth/*/*_mask.png"))[::9]
    assert len(masks) > 40
    for path in masks:
        values = np.asarray(Image.open(path).convert("L"))
        found = read_mask(path)
        assert np.array_equal(found.mask, values > 0)
        assert np.array_equal(decode_mask(path, (256, 256)), values > 0)
        assert not found.noisy
