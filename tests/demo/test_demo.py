"""The drawn product line: reproducible, exact in its masks, and not separable by trivial statistics."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import laplace
from sklearn.metrics import roc_auc_score

from continuad.demo.line import DEFECTS, PRODUCTS, draw, write_line
from continuad.errors import ContinuadError

THESIS = ["bottle", "cable", "capsule", "hazelnut", "transistor", "metal_nut", "pill", "screw", "zipper", "toothbrush"]
EVERY_DEFECT = [(product, defect) for product in PRODUCTS for defect in DEFECTS[product]]


def digest(folder: Path) -> dict[str, str]:
    """Path below `folder` → hash of the file, for every PNG."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


def test_products_are_the_thesis_stream_with_several_defects_each() -> None:
    assert list(PRODUCTS) == THESIS
    assert list(DEFECTS) == THESIS
    assert all(3 <= len(set(kinds)) <= 5 and "good" not in kinds for kinds in DEFECTS.values())


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_seed_gives_the_same_bytes_whatever_was_drawn_before(product: str) -> None:
    first, _ = draw(product, seed=3, size=64)
    draw(PRODUCTS[0], defect=DEFECTS[PRODUCTS[0]][0], seed=9, size=64)
    again, _ = draw(product, seed=3, size=64)
    other, _ = draw(product, seed=4, size=64)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


@pytest.mark.parametrize("size", [64, 97, (64, 150), (130, 70)])
@pytest.mark.parametrize("product", PRODUCTS)
def test_any_size_square_or_not(product: str, size: int | tuple[int, int]) -> None:
    shape = (size, size) if isinstance(size, int) else size
    image, mask = draw(product, defect=DEFECTS[product][-1], seed=1, size=size)
    assert image.shape == (*shape, 3)
    assert image.dtype == np.uint8
    assert mask.shape == shape
    assert mask.dtype == bool


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_same_part_at_two_sizes(product: str) -> None:
    small, _ = draw(product, seed=2, size=64)
    large, _ = draw(product, seed=2, size=128)
    halved = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), halved.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_good_part_has_no_mask(product: str) -> None:
    assert not any(draw(product, seed=seed, size=64)[1].any() for seed in range(3))


@pytest.mark.parametrize(("product", "defect"), EVERY_DEFECT)
def test_the_mask_is_exactly_what_the_defect_changed(product: str, defect: str) -> None:
    for seed in range(4):
        good, _ = draw(product, seed=seed, size=96)
        bad, mask = draw(product, defect=defect, seed=seed, size=96)
        different = (good != bad).any(axis=2)
        assert not different[~mask].any(), "a pixel outside the mask differs from the sound part"
        assert mask.sum() >= 4, "a defect must leave something to find"
        assert different[mask].mean() > 0.9
        assert not mask.all()


@pytest.mark.parametrize("product", PRODUCTS)
def test_trivial_statistics_do_not_separate_good_from_defective(product: str) -> None:
    kinds = DEFECTS[product]
    good = [draw(product, seed=seed, size=64)[0] for seed in range(40)]
    bad = [draw(product, defect=kinds[seed % len(kinds)], seed=seed, size=64)[0] for seed in range(100, 140)]
    label = [0] * len(good) + [1] * len(bad)
    grey = [image.mean(axis=2) for image in good + bad]
    brightness = roc_auc_score(label, [image.mean() for image in grey])
    sharpness = roc_auc_score(label, [laplace(image).var() for image in grey])
    assert 0.3 < brightness < 0.7
    assert 0.3 < sharpness < 0.7


def test_line_has_mvtec_layout(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    folders = write_line(
        tmp_path / "deep" / "line",
        products=("screw", "pill"),
        size=(64, 80),
        train=2,
        test_good=1,
        per_defect=1,
        progress=lambda *step: seen.append(step),
    )
    assert folders == [tmp_path / "deep" / "line" / name for name in ("screw", "pill")]
    found = {str(path.relative_to(folders[1])) for path in folders[1].rglob("*") if path.is_file()}
    expected = {"train/good/000.png", "train/good/001.png", "test/good/000.png"}
    for defect in DEFECTS["pill"]:
        expected |= {f"test/{defect}/000.png", f"ground_truth/{defect}/000_mask.png"}
    assert found == expected

    image = Image.open(folders[1] / "test" / "color" / "000.png")
    mask = np.asarray(Image.open(folders[1] / "ground_truth" / "color" / "000_mask.png"))
    assert (image.mode, image.size) == ("RGB", (80, 64))
    assert mask.shape == (64, 80)
    assert set(np.unique(mask)) == {0, 255}

    pictures = 2 * 3 + len(DEFECTS["screw"]) + len(DEFECTS["pill"])
    assert [step[1:] for step in seen] == [(i, pictures) for i in range(1, pictures + 1)]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["line"]


def test_pictures_do_not_depend_on_what_else_is_drawn_and_are_all_different(tmp_path: Path) -> None:
    few = {"size": 64, "test_good": 1, "per_defect": 1, "seed": 5}
    write_line(tmp_path / "one", products=("zipper",), train=1, **few)
    write_line(tmp_path / "two", products=("capsule", "zipper"), train=2, **few)
    one, two = digest(tmp_path / "one" / "zipper"), digest(tmp_path / "two" / "zipper")
    assert one.items() <= two.items()
    assert len(set(two.values())) == len(two)


def test_a_complete_line_is_reused_and_anything_else_refused(tmp_path: Path) -> None:
    root = tmp_path / "line"
    few = {"products": ("bottle",), "size": 64, "train": 1, "test_good": 1, "per_defect": 1}
    root.mkdir()
    folders = write_line(root, **few)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert write_line(root, **few) == folders
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before

    with pytest.raises(ContinuadError, match=r"other settings \(seed\)"):
        write_line(root, **few, seed=1)
    (folders[0] / "test" / "good" / "000.png").unlink()
    with pytest.raises(ContinuadError, match="lacks 1 of its pictures"):
        write_line(root, **few)
    (root / ".drawn.json").write_text("{", encoding="utf-8")
    with pytest.raises(ContinuadError, match="not readable"):
        write_line(root, **few)
    (root / ".drawn.json").unlink()
    with pytest.raises(ContinuadError, match="not a drawn product line"):
        write_line(root, **few)


def test_a_killed_write_leaves_no_line_and_the_next_one_is_whole(tmp_path: Path) -> None:
    few = {"products": ("screw",), "size": 64, "train": 2, "test_good": 1, "per_defect": 1}

    def kill(product: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_line(tmp_path / "line", **few, progress=kill)
    assert not (tmp_path / "line").exists()
    write_line(tmp_path / "line", **few)
    write_line(tmp_path / "fresh", **few)
    assert digest(tmp_path / "line") == digest(tmp_path / "fresh")
    assert json.loads((tmp_path / "line" / ".drawn.json").read_text())["train"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"line", "fresh"}


def test_wrong_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ContinuadError, match=r"'spoon'.*bottle"):
        draw("spoon")
    with pytest.raises(ContinuadError, match=r"'rust'.*scratch"):
        draw("metal_nut", defect="rust")
    with pytest.raises(ContinuadError, match="size=63"):
        draw("pill", size=63)
    with pytest.raises(ContinuadError, match="seed=-1"):
        draw("pill", seed=-1)
    with pytest.raises(ContinuadError, match="train=-2"):
        write_line(tmp_path / "line", train=-2)
    with pytest.raises(ContinuadError, match="each once"):
        write_line(tmp_path / "line", products=("pill", "pill"))
    assert not (tmp_path / "line").exists()
