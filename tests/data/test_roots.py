"""Files that were not meant: own results, folders within folders, links to what is there already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from continuad.benchmark.settings import Settings
from continuad.data.audit import audit
from continuad.data.discover import discover, discover_all
from continuad.data.stream import open_stream
from continuad.errors import ContinuadError


def write_results(folder: Path, save) -> None:  # type: ignore[no-untyped-def]
    """What `continuad bench` leaves in a results folder."""
    for name in ("figures/forgetting.png", "figures/gallery_padim.png", "examples/run/picture.png"):
        save(folder / name)
    (folder / "runs").mkdir()
    Settings().write(folder / "settings.toml")


@pytest.mark.parametrize("out", ["results", "deep/below/out", "."])
@pytest.mark.parametrize("layout", ["plain", "good", "mvtec"])
def test_own_results_are_not_learned(tmp_path, save, make_product, out, layout) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "nut"
    if layout == "mvtec":
        make_product(root, train=3, crack=1)
    else:
        for i in range(3):
            save(root / ("good" if layout == "good" else "") / f"{i}.png")
    before = discover(root)
    write_results(root / out, save)
    after = discover(root)
    assert (after.train, after.test) == (before.train, before.test)
    (note,) = after.notes
    assert note.startswith("left out, continuad wrote it as results: ")
    assert f"{'' if out == '.' else out + '/'}figures/ (2 images)" in note
    assert any(note in text for text in open_stream(root, image_size=4, cache=None).notes)


def test_what_looks_like_results_but_is_not_is_learned(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path / "figures" / "1.png")
    (tmp_path / "settings.toml").write_text("exposure = 3\n")  # a camera's
    found = discover(tmp_path)
    assert len(found.train) == 1
    assert found.notes == ("1 image in sub-folders learned too: figures (1).",)


def test_own_plots_among_the_images_are_noticed(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    import matplotlib.pyplot as plt

    save(tmp_path / "1.png")
    figure = plt.figure(figsize=(1, 1))
    figure.savefig(tmp_path / "plot.png")
    plt.close(figure)
    (found,) = audit(tmp_path, image_size=8)
    assert "plots drawn by Matplotlib, no photographs (1): plot.png." in [finding.text for finding in found.findings]


def test_sub_folders_are_learned_with_a_note(tmp_path, make_product, save) -> None:  # type: ignore[no-untyped-def]
    root = make_product(tmp_path / "nut", train=2, good=1, crack=1)
    assert discover(root).notes == ()
    for name in ("old/1.png", "old/2.png", "old/older/3.png"):
        save(root / "train" / "good" / name)
    save(root / "test" / "crack" / "deep" / "7.png")
    found = discover(root)
    assert len(found.train) == 5
    assert found.notes == (
        "3 images in sub-folders learned too: train/good/old (2), train/good/old/older (1).",
        "1 image in sub-folders tested too: test/crack/deep (1).",
    )
    notes = open_stream(root, image_size=4, cache=None).notes
    assert f"nut: {found.notes[0]}" in notes
    (looked,) = audit(root, image_size=4)
    assert ("note", found.notes[0]) in [(finding.level, finding.text) for finding in looked.findings]


def test_pictures_in_other_formats_are_named(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path / "1.png")
    for name in ("a.HEIC", "b.heic", "c.dng", "read_me.txt"):
        (tmp_path / name).write_bytes(b"x")
    words = "3 pictures in formats that are not read (2 .heic, 1 .dng): a.HEIC, b.heic, c.dng. Convert them"
    assert discover(tmp_path).notes[0].startswith(words)


links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


@links
def test_a_link_to_a_product_is_not_a_second_product(tmp_path, make_product) -> None:  # type: ignore[no-untyped-def]
    real = make_product(tmp_path / "nut", crack=1)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "set").symlink_to(tmp_path)
    for other in (tmp_path / "link", tmp_path / "set" / "nut", tmp_path / "set" / "link"):
        for call in (discover_all, audit, lambda some: open_stream(some, cache=None)):
            with pytest.raises(ContinuadError, match=f"{other}: this is the same folder as {real}. Give it once"):
                call([real, other])


@links
@pytest.mark.parametrize("how", ["inside", "linked folder", "hard links"])
def test_products_that_learn_from_the_same_files_are_refused(tmp_path, save, how) -> None:  # type: ignore[no-untyped-def]
    first, second = tmp_path / "a", tmp_path / "b"
    for i in range(3):
        save(first / "sub" / f"{i}.png")
    second.mkdir()
    if how == "inside":
        second = first / "sub"
    elif how == "linked folder":
        save(second / "own.png")
        (second / "more").symlink_to(first)
    else:
        for path in (first / "sub").iterdir():
            os.link(path, second / path.name)
    with pytest.raises(ContinuadError, match=f"{second}: learns from files that {first} learns from too, such as"):
        discover_all([first, second])
    one, two = audit([first, second], image_size=4)
    assert one.usable
    assert "learns from files that" in two.errors[0]


@links
def test_images_there_twice_by_links_are_named(tmp_path, make_product) -> None:  # type: ignore[no-untyped-def]
    root = make_product(tmp_path / "nut", train=2, good=1)
    (root / "train" / "good" / "again.png").symlink_to(root / "train" / "good" / "000.png")
    (root / "test" / "good" / "learned.png").symlink_to(root / "train" / "good" / "001.png")
    (found,) = discover_all([root])
    assert found.problems == (
        "2 images there twice by links: train/good/again.png is train/good/000.png, "
        "test/good/learned.png is train/good/001.png.",
    )


def test_a_copied_product_is_noticed(tmp_path, make_product) -> None:  # type: ignore[no-untyped-def]
    root, copy = make_product(tmp_path / "nut", train=4), tmp_path / "copy"
    for path in sorted((root / "train" / "good").iterdir()):
        (copy / path.name).parent.mkdir(exist_ok=True)
        (copy / path.name).write_bytes(path.read_bytes())
    stream = open_stream([root, copy], image_size=4, cache=None)
    assert "copy: has the same training images as nut." in stream.notes
    _, found = audit([root, copy], image_size=4)
    assert "training images that another product has too (4): 000.png (in nut)" in found.findings[0].text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_broken_links_are_no_images_and_do_not_hang(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path / "1.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (found,) = audit(tmp_path, image_size=4)
    assert found.unreadable == {
        "broken.png": "cannot be opened (No such file or directory)",
        "endless.png": "is not a file but a folder, pipe, socket or device",
        "pipe.png": "is not a file but a folder, pipe, socket or device",
    }
    with pytest.raises(ContinuadError, match="3 files cannot be read"):
        open_stream(tmp_path, image_size=4, cache=None)
