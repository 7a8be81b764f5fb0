"""Pictures: one colour scale per product that is tied to its threshold, and nothing that makes drawing fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_cases import write_examples

from continuad.errors import ContinuadError
from continuad.report.files import Examples, find_examples, load_examples
from continuad.report.gallery import PREDICTED, TRUTH, contour, gallery, heat, overlay, panels, scale
from continuad.report.pictures import budget, pick, shots

RUN = "padim-naive-seed0-order0"


def examples(folder: Path, **changed: object) -> Examples:
    """One product's examples, read back from a file."""
    write_examples(folder, RUN, ["washer"], **changed)
    return load_examples(find_examples(folder, RUN)[0])


def luminance(picture: np.ndarray) -> np.ndarray:
    """Of colours (..., 3), 0..255."""
    return picture @ np.array([0.2126, 0.7152, 0.0722])


def test_the_threshold_sits_in_the_middle_of_the_scale() -> None:
    low, high = scale(10.0, 14.0, np.array([9.0, 80.0]))
    assert (low, high) == (10.0, 18.0)
    assert (14.0 - low) / (high - low) == 0.5


def test_a_good_image_beside_a_defective_one_stays_dark(tmp_path: Path) -> None:
    """Maps are not stretched one by one: the good one's small ripples must not turn red."""
    height, width = 24, 32
    ripples = np.linspace(10, 11, height * width, dtype=np.float32).reshape(1, height, width)
    defect = np.full((1, height, width), 10, np.float32)
    defect[0, 4:12, 6:16] = 90
    one = examples(tmp_path, map=np.concatenate([ripples, defect]))
    calm, alarmed = (panels(one, at, width)[2].astype(int) for at in (0, 1))
    assert (calm[..., 0] < calm[..., 2]).all(), "blue everywhere: nothing comes near the threshold"
    assert luminance(calm).max() < 45
    assert luminance(alarmed).max() > 200
    np.testing.assert_array_equal(heat(np.array([10.0]), 10, 30), heat(np.array([9.0]), 10, 30))


def test_blue_below_the_threshold_and_amber_above() -> None:
    below, above = heat(np.array([19.5, 20.5]), 10.0, 30.0).astype(int)
    assert below[2] > below[0]
    assert above[0] > above[2]
    steps = luminance(heat(np.linspace(0, 1, 101), 0, 1).astype(float))
    assert (np.diff(steps) > -1).all(), "lighter throughout: it also reads without colour"


def test_a_mask_of_the_whole_image_is_drawn(tmp_path: Path) -> None:
    whole = np.ones((2, 24, 32), bool)
    one = examples(tmp_path, mask=whole, decision=whole)
    drawn = panels(one, 1, 64)
    assert (drawn[1] == 255).all()
    border = drawn[4][0, 5:-5]
    assert (border == TRUTH).all(), "the outline runs along the image's border"
    assert gallery([("washer", one)], "x").height > 0


def test_contours_lie_inside_the_mask() -> None:
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    edge = contour(mask)
    assert edge.sum() == 8
    assert not edge[2, 2]
    assert not contour(np.zeros((4, 4), bool)).any()


@pytest.mark.parametrize(
    ("centre", "threshold"),
    [(10.0, 10.0), (10.0, 5.0), (10.0, np.nan), (np.nan, 10.0), (10.0, np.inf), (30.0, 30.0), (1e9, 1e9)],
)
def test_a_threshold_that_spans_no_scale_does_not_fail(tmp_path: Path, centre: float, threshold: float) -> None:
    one = examples(tmp_path, centre=np.float32(centre), threshold=np.float32(threshold))
    low, high = scale(one.centre, one.threshold, one.map)
    assert np.isfinite([low, high]).all()
    assert low < high
    assert gallery([("washer", one)], "x").width > 0
    assert shots([("washer", one)], 64, 3)[0].shots


def test_maps_without_numbers_do_not_fail(tmp_path: Path) -> None:
    one = examples(tmp_path, map=np.full((2, 24, 32), np.nan, np.float32))
    assert all(panel.dtype == np.uint8 for panel in panels(one, 0, 64))


def test_a_good_surface_keeps_its_own_look_in_the_overlay() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    nothing = np.zeros((16, 16), bool)
    np.testing.assert_array_equal(overlay(image, np.full((16, 16), 10.0), nothing, nothing, 10, 30), image)
    decided = nothing.copy()
    decided[4:9, 4:9] = True
    drawn = overlay(image, np.full((16, 16), 10.0), nothing, decided, 10, 30)
    assert (drawn[4, 4:9] == PREDICTED).all()


def test_a_missing_mask_is_not_shown_as_no_defect(tmp_path: Path) -> None:
    one = examples(tmp_path, mask_known=np.array([True, False]))
    known, missing = panels(one, 0, 64)[1], panels(one, 1, 64)[1]
    assert known.max() < 50
    assert missing.min() > 200, "a pale panel"
    product = shots([("washer", one)], 64, 3)[0]
    assert [shot.mask_known for shot in product.shots] == [True, False]


@pytest.mark.parametrize("size", [(24, 32), (64, 8), (8, 200)])
def test_pictures_keep_their_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    shape = {
        "image": np.zeros((1, height, width, 3), np.uint8),
        "mask": np.zeros((1, height, width), bool),
        "map": np.zeros((1, height, width), np.float32),
        "decision": np.zeros((1, height, width), bool),
    }
    one = {name: np.zeros(1, kind) for name, kind in (("score", float), ("label", bool), ("flagged", bool))}
    product = examples(tmp_path, **shape, **one, mask_known=np.ones(1, bool), name=np.array(["good/0.png"]))
    assert {panel.shape for panel in panels(product, 0, 100)} == {
        (round(100 * height / max(size)), round(100 * width / max(size)), 3)
    }
    assert gallery([("washer", product)], "x").width > 500


def test_wrong_verdicts_are_marked(tmp_path: Path) -> None:
    product = shots([("washer", examples(tmp_path, flagged=np.array([True, False])))], 64, 3)[0]
    assert [(shot.said, shot.correct) for shot in product.shots] == [
        ("good, rejected", False),
        ("defective, passed", False),
    ]


def test_the_page_stays_light_whatever_is_there() -> None:
    assert budget([4] * 5) == (224, 48)
    size, most = budget([6] * 49)
    assert (size, most) == (128, 4)
    assert budget([6] * 300) == (96, 1)


def test_few_examples_are_a_good_one_and_defects(tmp_path: Path) -> None:
    one = examples(tmp_path)
    assert pick(one, 5) == [0, 1]
    assert pick(one, 1) == [1], "if there is room for one only, a defect"


def test_a_file_without_an_array_is_named(tmp_path: Path) -> None:
    (tmp_path / "examples" / RUN).mkdir(parents=True)
    path = tmp_path / "examples" / RUN / "00_a.npz"
    np.savez(path, image=np.zeros(1))
    with pytest.raises(ContinuadError, match=r"00_a\.npz"):
        load_examples(path)
    path.write_bytes(b"PK not a zip")
    with pytest.raises(ContinuadError, match=r"00_a\.npz"):
        load_examples(path)
