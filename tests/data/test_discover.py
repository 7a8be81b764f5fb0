"""Layouts, what is ignored, and which mask belongs to which image."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from continuad.data.discover import discover, discover_all, unique_names
from continuad.errors import ContinuadError


def names(items, root):  # type: ignore[no-untyped-def]
    return [item.path.relative_to(root).as_posix() for item in items]


def test_mvtec(tmp_path, make_product) -> None:
    found = discover(make_product(tmp_path / "nut", train=3, good=2, scratch=1, bent=2))
    assert (found.name, found.layout, found.problems) == ("nut", "mvtec", ())
    assert names(found.train, found.root) == [f"train/good/00{i}.png" for i in range(3)]
    assert [item.defect for item in found.test] == ["good", "good", "bent", "bent", "scratch"]
    assert [item.mask and item.mask.name for item in found.test] == [
        None, None, "000_mask.png", "001_mask.png", "000_mask.png",
    ]  # fmt: skip


def test_images_directly_in_train_and_no_good_test_images(tmp_path, save) -> None:
    save(tmp_path / "a" / "train" / "1.png")
    save(tmp_path / "a" / "test" / "dent" / "1.png")
    found = discover(tmp_path / "a")
    assert len(found.train) == 1
    assert [item.defect for item in found.test] == ["dent"]


def test_what_is_left_out_is_named(tmp_path, make_product, save) -> None:
    root = make_product(tmp_path / "a", crack=1)
    save(root / "train" / "scratch" / "1.png")
    save(root / "test" / "loose.png")
    save(root / "more" / "1.png")
    save(root / "ground_truth" / "gone" / "1_mask.png")
    problems = "\n".join(discover(root).problems)
    for part in ("train/scratch/ left out (1 image)", "loose.png", "more/ left out", "ground_truth/gone/"):
        assert part in problems


def test_btad_and_masks_of_the_same_stem(tmp_path, save) -> None:
    root = tmp_path / "01"
    for where in ("train/ok/1.bmp", "test/ok/1.bmp", "test/ko/7.bmp", "ground_truth/ko/7.png"):
        save(root / where)
    found = discover(root)
    assert (found.layout, found.problems) == ("btad", ())
    assert [item.defect for item in found.test] == ["good", "ko"]
    assert found.test[1].mask == root / "ground_truth" / "ko" / "7.png"


def visa(root: Path, save, normal: int = 20) -> Path:  # type: ignore[no-untyped-def]
    for i in range(normal):
        save(root / "Data" / "Images" / "Normal" / f"{i:04}.JPG")
    for i in range(2):
        save(root / "Data" / "Images" / "Anomaly" / f"{i:03}.JPG")
        save(root / "Data" / "Masks" / "Anomaly" / f"{i:03}.png", i)
    (root / "image_anno.csv").write_text(
        "image,label,mask\n"
        'candle/Data/Images/Anomaly/000.JPG,"wax missing,foreign body",candle/Data/Masks/Anomaly/000.png\n'
    )
    return root


def test_visa_by_its_table(tmp_path, save) -> None:
    root = visa(tmp_path / "candle", save, normal=3)
    (tmp_path / "split_csv").mkdir()
    rows = ["object,split,label,image,mask"]
    rows += [
        f"candle,{s},normal,candle/Data/Images/Normal/{i:04}.JPG," for i, s in enumerate(("test", "train", "train"))
    ]
    rows += [f"candle,test,anomaly,candle/Data/Images/Anomaly/{i:03}.JPG,x" for i in (0, 1, 2)]
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    found = discover(root)
    assert (found.name, found.layout) == ("candle", "visa")
    assert [item.path.name for item in found.train] == ["0001.JPG", "0002.JPG"]
    assert [item.defect for item in found.test] == ["good", "wax missing+foreign body", "anomaly"]
    assert all(item.mask for item in found.test[1:])
    assert found.problems == ("1 image of 1cls.csv not on disk: candle/data/images/anomaly/002.jpg.",)


def test_visa_without_table_always_splits_the_same(tmp_path, save) -> None:
    found = discover(visa(tmp_path / "candle", save))
    assert [item.path.name for item in found.test if item.defect == "good"] == ["0009.JPG", "0019.JPG"]
    assert len(found.train) == 18
    assert "every 10th normal image (2)" in found.problems[0]


def test_plain_folder(tmp_path, save) -> None:
    for where in ("1.png", "monday/2.png", "monday/deep/3.png"):
        save(tmp_path / "cap" / where)
    found = discover(tmp_path / "cap")
    assert (found.layout, found.test, found.problems) == ("plain", (), ())
    assert names(found.train, found.root) == ["1.png", "monday/2.png", "monday/deep/3.png"]
    assert found.notes == ("2 images in sub-folders learned too: monday (1), monday/deep (1).",)


@pytest.mark.parametrize(("good", "other"), [("good", "scratch"), ("OK", "NG")])
def test_plain_folder_with_good_learns_nothing_else(tmp_path, save, good, other) -> None:
    save(tmp_path / good / "1.png")
    save(tmp_path / other / "2.png")
    found = discover(tmp_path)
    assert names(found.train, tmp_path) == [f"{good}/1.png"]
    assert f"{other}/ left out (1 image)" in found.problems[0]


def test_a_folder_of_products_is_refused(tmp_path, make_product) -> None:
    make_product(tmp_path / "set" / "nut", crack=1)
    for folder in (tmp_path, tmp_path / "set"):
        with pytest.raises(ContinuadError, match=r"holds several products .*nut.*own folder"):
            discover(folder)


def test_suffixes_in_capitals(tmp_path, save) -> None:
    for name in ("1.JPG", "2.PNG", "3.Bmp", "4.TIFF"):
        save(tmp_path / "train" / "good" / name)
    assert len(discover(tmp_path).train) == 4


def test_hidden_files_and_folders(tmp_path, make_product, save) -> None:
    root = make_product(tmp_path / "a", train=1, good=1, crack=1)
    save(root / "test" / ".ipynb_checkpoints" / "x.png")
    save(root / "test" / "__MACOSX" / "x.png")
    save(root / "train" / "good" / "._001.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / "train" / "good" / name).write_bytes(b"x")
    found = discover(root)
    assert len(found.train) == 1
    assert {item.defect for item in found.test} == {"good", "crack"}
    assert found.problems == ()


def test_empty_or_missing_folder(tmp_path) -> None:
    (tmp_path / "train" / "good").mkdir(parents=True)
    (tmp_path / "train" / "good" / "read_me.txt").write_text("none yet")
    with pytest.raises(ContinuadError) as error:
        discover(tmp_path)
    for part in (str(tmp_path / "train" / "good"), ".png", ".tiff", "Put images"):
        assert part in str(error.value)
    with pytest.raises(ContinuadError, match="gone: this folder does not exist"):
        discover(tmp_path / "gone")
    with pytest.raises(ContinuadError, match="is a file"):
        discover(tmp_path / "train" / "good" / "read_me.txt")


def test_products_of_one_name_get_different_names(tmp_path, make_product) -> None:
    for where in ("a/screw", "b/screw", "b/nut"):
        make_product(tmp_path / where, crack=2, cut=2)
    found = discover_all([tmp_path / where for where in ("a/screw", "b/screw", "b/nut")])
    assert [p.name for p in found] == ["a/screw", "b/screw", "nut"]
    results = [(p.name, item.defect, item.path.name) for p in found for item in p.test]
    assert len(set(results)) == len(results) == 3 * 6


def test_unique_names_look_further_up_and_ignore_case() -> None:
    assert unique_names([Path("/x/a/Nut"), Path("/y/a/nut"), Path("/b")]) == ["x/a/Nut", "y/a/nut", "b"]


def test_every_bad_folder_is_named_at_once(tmp_path, make_product) -> None:
    good = make_product(tmp_path / "a", crack=1)
    with pytest.raises(ContinuadError, match=r"(?s)no1.*no2"):
        discover_all([tmp_path / "no1", good, tmp_path / "no2"])
    with pytest.raises(ContinuadError, match="given 2 times"):
        discover_all([good, good])
    with pytest.raises(ContinuadError, match="No product folder"):
        discover_all([])


def test_masks_are_paired_by_stem(tmp_path, make_product) -> None:
    root = make_product(tmp_path / "a", crack=5)
    (root / "ground_truth" / "crack" / "001_mask.png").unlink()
    found = discover(root)
    pairs = {item.path.stem: item.mask and item.mask.stem for item in found.test if item.defect == "crack"}
    assert pairs == {"000": "000_mask", "001": None, "002": "002_mask", "003": "003_mask", "004": "004_mask"}
    assert found.problems == ("images without mask in crack/: 1: 001.png.",)


def test_masks_without_image_are_named(tmp_path, make_product, save) -> None:
    root = make_product(tmp_path / "a", crack=1)
    save(root / "ground_truth" / "crack" / "777_mask.png")
    assert discover(root).problems == ("masks without image for crack/: 777_mask.png.",)


def test_same_stem_with_another_suffix(tmp_path, save) -> None:
    save(tmp_path / "train" / "1.png")
    for suffix in ("png", "bmp"):
        save(tmp_path / "test" / "cut" / f"5.{suffix}")
        save(tmp_path / "ground_truth" / "cut" / f"5_mask.{suffix}")
    masks = {item.path.suffix: item.mask and item.mask.suffix for item in discover(tmp_path).test}
    assert masks == {".png": ".png", ".bmp": ".bmp"}

    (tmp_path / "ground_truth" / "cut" / "5_mask.bmp").unlink()  # now nobody can say whose the other is
    found = discover(tmp_path)
    assert [item.mask for item in found.test] == [None, None]
    assert "unclear which mask belongs to which image" in found.problems[0]


def test_a_mask_is_never_used_twice(tmp_path, save) -> None:
    save(tmp_path / "train" / "1.png")
    for name in ("a.png", "a_mask.png"):
        save(tmp_path / "test" / "cut" / name)
    save(tmp_path / "ground_truth" / "cut" / "a_mask.png")
    found = discover(tmp_path)
    assert [item.mask for item in found.test] == [None, None]
    assert "fits several images: a.png, a_mask.png" in found.problems[0]


def test_relative_folders_are_fixed_at_the_start(tmp_path, make_product, monkeypatch) -> None:
    make_product(tmp_path / "data" / "a", crack=1)
    monkeypatch.chdir(tmp_path / "data")
    found = discover("a")
    monkeypatch.chdir(tmp_path)
    assert all(item.path.is_absolute() and item.path.is_file() for item in (*found.train, *found.test))
    assert found.test[-1].mask is not None
    assert found.test[-1].mask.is_file()


def test_names_beyond_ascii_pair_in_both_spellings(tmp_path, save) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Bohrung-ö-孔") for form in ("NFC", "NFD"))
    root = tmp_path / "Stahlträger"
    save(root / "train" / "good" / "1.png")
    save(root / "test" / "Lücke" / f"{composed}.png")
    save(root / "ground_truth" / "Lücke" / f"{decomposed}_mask.png")
    assert discover(root).test[0].mask is not None


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_to_folders_above_do_not_hang_or_leak(tmp_path, make_product) -> None:
    root = make_product(tmp_path / "a", train=2, good=1, crack=1)
    (root / "train" / "good" / "up").symlink_to(root)
    (root / "train" / "good" / "round").symlink_to(root / "train" / "good")
    (root / "train" / "good" / "self").symlink_to(root / "train" / "good" / "self")
    assert len(discover(root).train) == 2


def test_real_counts_equal_the_table(real_data) -> None:
    table = {
        "mvtec/screw": (320, 41, 119, 119), "mvtec/hazelnut": (38, 14, 8, 8), "mvtec/transistor": (38, 14, 8, 8),
        "mtd/magnetic_tile": (228, 89, 125, 125), "aitex/fabric_03": (165, 101, 76, 76),
        "deeppcb/pcb": (72, 48, 48, 48), "bsdata/ballscrew": (115, 43, 76, 76), "elpv/solar_mono": (158, 78, 105, 0),
    }  # fmt: skip
    for where, numbers in table.items():
        found = discover(real_data / where)
        good = sum(item.defect == "good" for item in found.test)
        masks = sum(item.mask is not None for item in found.test)
        assert (len(found.train), good, len(found.test) - good, masks) == numbers, where
