"""What `check-data` finds in a folder of images before anything is learned."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from continuad.cli.audit_view import view
from continuad.data.audit import audit
from continuad.data.findings import available_metrics
from continuad.data.near_duplicates import NEAR, all_alike, closest, thumbnail
from continuad.data.trivial import auroc, needed_auroc


def one(root, **options):  # type: ignore[no-untyped-def]
    (found,) = audit(root, image_size=8, **options)
    return found


def texts(found, level):  # type: ignore[no-untyped-def]
    return "\n".join(finding.text for finding in found.findings if finding.level == level)


def part(seed: int, size: int = 96) -> np.ndarray:
    """A smooth random picture, as different from another seed's as two parts are."""
    small = np.random.default_rng(seed).integers(30, 220, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)).astype(int)


def test_counts_and_metrics(tmp_path, make_product) -> None:
    calls: list[tuple[str, int, int]] = []
    root = make_product(tmp_path / "nut", train=20, good=3, crack=2, dent=1)
    found = one(root, val_share=0.2, progress=lambda *now: calls.append(now))
    assert (found.name, found.layout, found.train, found.val) == ("nut", "mvtec", 20, 4)
    assert found.test == {"good": 3, "crack": 2, "dent": 1}
    assert (found.masks, found.sizes, found.modes, found.file_types) == (3, {"12 x 10": 26}, {"RGB": 26}, {".png": 26})
    assert set(found.metrics.values()) == {""}
    assert found.findings == []
    assert found.usable
    assert calls[-1] == ("nut", 26, 26)


@pytest.mark.parametrize(
    ("good", "bad", "masks", "image", "pixel"),
    [
        (1, 1, 1, "", ""),
        (1, 1, 0, "", "no masks"),
        (0, 1, 1, "no good test images", ""),
        (1, 0, 0, "no defective test images", "no defective test images"),
        (0, 0, 0, "no test images", "no test images"),
    ],
)
def test_metrics_and_why_not(good, bad, masks, image, pixel) -> None:
    found = available_metrics(good, bad, masks)
    assert found["image_auroc"] == found["image_f1"] == image
    assert found["pixel_aupro"] == found["pixel_f1_max"] == pixel


def test_unreadable_files_are_errors(tmp_path, make_product) -> None:
    root = make_product(tmp_path / "a", train=12)
    (root / "train" / "good" / "003.png").write_bytes(b"")
    (root / "test" / "good" / "000.png").write_text("text")
    found = one(root)
    assert found.unreadable == {
        "train/good/003.png": "is empty (0 bytes)",
        "test/good/000.png": "is not an image, or of a format that cannot be read",
    }
    assert "images that cannot be read (2): train/good/003.png is empty" in texts(found, "error")
    assert not found.usable


def test_masks_that_do_not_fit(tmp_path, make_product, save) -> None:
    root = make_product(tmp_path / "a", train=12, crack=6)
    masks = root / "ground_truth" / "crack"
    save(masks / "000_mask.png", np.ones((5, 6)))
    save(masks / "001_mask.png", 0)
    (masks / "002_mask.png").unlink()
    (masks / "003_mask.png").rename(masks / "900_mask.png")
    save(masks / "004_mask.jpg", 255)
    (masks / "004_mask.png").unlink()
    found = one(root)
    assert "masks of another size than their image (1): crack/000_mask.png (6 x 5, the image 12 x 10)" in texts(
        found, "error"
    )
    text = texts(found, "warning")
    for words in (
        "empty masks of defect images (1): crack/001_mask.png",
        "images without mask in crack/: 2: 002.png, 003.png",
        "masks without image for crack/: 900_mask.png",
    ):
        assert words in text
    assert found.masks == 2


def test_identical_images_across_train_and_test(tmp_path, make_product) -> None:
    root = make_product(tmp_path / "a", train=12, good=3, crack=1)
    train = [root / "train" / "good" / f"{i:03}.png" for i in range(12)]
    (root / "test" / "good" / "000.png").write_bytes(train[5].read_bytes())
    Image.open(train[6]).save(root / "test" / "good" / "001.png", compress_level=1)
    Image.open(train[7]).save(root / "train" / "good" / "more.bmp")
    (root / "test" / "crack" / "000.png").write_bytes((root / "test" / "good" / "002.png").read_bytes())
    found = one(root)
    assert [(copy.test, copy.train, copy.how) for copy in found.copies] == [
        ("test/good/000.png", "train/good/005.png", "same file"),
        ("test/good/001.png", "train/good/006.png", "same pixels"),
    ]
    text = texts(found, "warning")
    for words in (
        "are the same file",
        "are the same pixels",
        "both good and defective",
        "training images more than once (1): train/good/more.bmp (as train/good/007.png)",
    ):
        assert words in text


def test_nearly_identical_images(tmp_path, save) -> None:
    for i in range(12):
        save(tmp_path / "train" / f"{i}.png", part(i))
    noise = np.random.default_rng(0).normal(0, 4, (96, 96, 3))
    copies = {"saved.jpg": part(1), "lighter.png": part(2) * 0.8 + 30, "noisy.png": (part(3) + noise).clip(0, 255)}
    for name, values in copies.items():
        save(tmp_path / "test" / "good" / name, values)
    shrunk = Image.fromarray(part(4).astype(np.uint8)).resize((70, 70), Image.Resampling.LANCZOS)
    save(tmp_path / "test" / "good" / "shrunk.png", np.asarray(shrunk))
    save(tmp_path / "test" / "good" / "other.png", part(99))
    found = one(tmp_path)
    assert {(copy.test.split("/")[-1], copy.train) for copy in found.copies} == {
        ("saved.jpg", "train/1.png"),
        ("lighter.png", "train/2.png"),
        ("noisy.png", "train/3.png"),
        ("shrunk.png", "train/4.png"),
    }
    assert all(copy.how == "nearly the same" and NEAR <= copy.correlation <= 1 for copy in found.copies)


def test_parts_that_always_look_the_same_are_not_called_copies(tmp_path, save) -> None:
    rng = np.random.default_rng(0)
    for i in range(14):
        where = "train" if i < 12 else "test/good"
        save(tmp_path / where / f"{i}.png", (part(0) + rng.normal(0, 5, (96, 96, 3))).clip(0, 255))
    found = one(tmp_path)
    assert found.copies == []
    assert "look so alike" in texts(found, "note")


def test_even_surfaces_are_like_nothing() -> None:
    even = thumbnail(Image.new("RGB", (90, 90), (120, 120, 120)))
    assert not even.any()
    assert not all_alike(even[None])
    assert closest(even[None], even[None])[1].tolist() == [0]


def test_brightness_gives_the_answer_away(tmp_path, save) -> None:
    for i in range(40):
        where = "train" if i < 12 else "test/good" if i < 26 else "test/crack"
        save(tmp_path / where / f"{i}.png", part(i) * (0.7 if i < 26 else 0.9))
    found = one(tmp_path)
    best = found.separations[0]
    assert best.statistic == "brightness"
    assert best.auroc > 0.95
    assert "brightness (AUROC" in texts(found, "warning")
    assert "defective ones are brighter" in texts(found, "warning")


def test_file_type_gives_the_answer_away(tmp_path, save) -> None:
    for i in range(40):
        where, suffix = ("train", "png") if i < 12 else ("test/good", "png") if i < 26 else ("test/crack", "bmp")
        save(tmp_path / where / f"{i}.{suffix}", part(i))
    assert "file type (AUROC 1.00, defective ones are .bmp instead of .png)" in texts(one(tmp_path), "warning")


def test_good_test_images_unlike_the_training_images(tmp_path, save) -> None:
    for i in range(40):
        where = "train" if i < 20 else "test/good"
        save(tmp_path / where / f"{i}.png", part(i) * (0.9 if i < 20 else 0.6))
    assert "good test images are unlike the training images: brightness" in texts(one(tmp_path), "warning")


def test_a_handful_of_images_proves_nothing(tmp_path, save) -> None:
    for i in range(18):
        where = "train" if i < 12 else "test/good" if i < 15 else "test/crack"
        save(tmp_path / where / f"{i}.png", part(i) * (0.7 if i < 15 else 0.9))
    assert one(tmp_path).separations[0].needed > 1
    assert "without looking at the part" not in texts(one(tmp_path), "warning")


def test_auroc_by_hand() -> None:
    assert auroc([1, 2], [3, 4]) == 1
    assert auroc([1, 3], [2, 3]) == (1 + 0 + 1 + 0.5) / 4
    assert needed_auroc(1000, 1000) == 0.9
    assert needed_auroc(8, 14) == pytest.approx(0.5 + 3.3 * (23 / (12 * 8 * 14)) ** 0.5)


def test_unusable_folder_is_an_error_beside_the_others(tmp_path, make_product) -> None:
    good = make_product(tmp_path / "a", train=12, crack=1)
    found = audit([tmp_path / "gone", good])
    assert [product.usable for product in found] == [False, True]
    assert "does not exist" in found[0].findings[0].text


def test_plain_folder_and_few_images(tmp_path, save) -> None:
    save(tmp_path / "cap" / "wide.png", np.zeros((4, 40)))
    save(tmp_path / "cap" / "1.png")
    found = one(tmp_path / "cap")
    assert found.layout == "plain"
    assert set(found.metrics.values()) == {"no test images"}
    assert "only 2 training images" in texts(found, "warning")
    assert "40 x 4 is scaled to 8 x 8" in texts(found, "note")
    assert "pixel metrics not available: no test images" in texts(found, "note")


def test_sixteen_bit_images_are_looked_at_as_they_are_learned(tmp_path) -> None:
    for i, where in enumerate(["train", "train", "test"]):
        (tmp_path / where / "good").mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(i).integers(0, 4096, (9, 9), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / where / "good" / f"{i}.png")
    assert one(tmp_path).modes == {"I;16": 3}


def test_json_and_page(tmp_path, make_product) -> None:
    found = audit([make_product(tmp_path / "nut[1]", train=12, good=3, crack=2), tmp_path / "gone"])
    assert json.loads(json.dumps([product.to_dict() for product in found]))[0]["test"] == {"good": 3, "crack": 2}
    console = Console(width=80)
    with console.capture() as page:
        console.print(view(found))
    for words in ("nut[1]", "12 (1)", "12x10 RGB", "all", "does not exist", "Learning would be refused", "gone"):
        assert words in " ".join(page.get().split())


def test_real_data(real_data) -> None:
    screw, ball, nut = audit([real_data / where for where in ("mvtec/screw", "bsdata/ballscrew", "mvtec/hazelnut")])
    assert screw.separations[0].statistic == "brightness"
    assert screw.separations[0].auroc > 0.99
    assert "test ones are darker" in texts(screw, "warning")
    assert len(ball.copies) == 16
    assert {copy.test.split("/")[1] for copy in ball.copies} == {"good"}
    assert screw.copies == nut.copies == []
    assert nut.findings == []
