"""Names of every kind the file system has, and folders under every spelling."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from continuad.cli.audit_view import view
from continuad.data.audit import audit
from continuad.data.discover import discover, discover_all
from continuad.data.names import canonical_root, missing_part, oddity, printable, unique_names
from continuad.data.splits import val_split
from continuad.data.stream import open_stream
from continuad.errors import ContinuadError

LATIN = "Stra\udcdfe"  # Stra\xdfe in Latin-1, as Python reads it from a UTF-8 system's disk
posix = pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names that only Linux allows")


def test_every_name_becomes_printable_and_plain_ones_stay() -> None:
    for plain in ("bottle", "Lücke", "孔 1", "res[/x]", "🔩", "a\\b", "👩‍🔧"):
        assert printable(plain) == plain
        assert oddity(plain) == ""
    odd = {
        LATIN: r"Stra\xdfe",
        "a\nb\tc\x7f": r"a\x0ab\x09c\x7f",
        "a\u2028b": r"a\u2028b",
        "gpj.\u202eexe": r"gpj.\u202eexe",
        "\ud800": r"\ud800",
    }
    for name, shown in odd.items():
        assert printable(name) == shown
        assert printable(name).encode() == shown.encode()
        assert oddity(name)
    assert "250 bytes" in oddity("n" * 246 + ".png")


def test_names_that_would_be_one_file_are_made_different() -> None:
    root = Path("/x")
    assert unique_names([root / "Nut", root / "nut"]) == ["//x/Nut", "//x/nut (2)"]
    assert unique_names([Path("a/L\u00fc"), Path("b/Lu\u0308")]) == ["a/L\u00fc", "b/Lu\u0308"]
    assert unique_names([Path("a") / LATIN, Path("b/nut")]) == [r"Stra\xdfe", "nut"]
    names = unique_names([Path("a") / LATIN, Path(r"a/Stra\xdfe")])
    assert len({name.casefold() for name in names}) == 2


def test_a_name_of_any_characters_can_be_split_by() -> None:
    assert val_split(50, 0.1, 0, "nut") == val_split(50, 0.1, 0, "nut")
    for name in (LATIN, "\ud800", "n" * 1000):
        learn, val = val_split(50, 0.1, 0, name)
        assert len(learn) == 45
        assert len(val) == 5


def console_text(found: object) -> str:
    console = Console(width=100)
    with console.capture() as page:
        console.print(found)
    return page.get()


@posix
def test_odd_names_pass_through_everything(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / f"{LATIN}[b]"
    names = [f"{LATIN}.png", "a\nb.png", "[red]x.png", "n" * 246 + ".png", "plain.png"]
    for name in names:
        save(root / "train" / "good" / name)
    defect = f"Kratzer{chr(0xDCE4)}"
    save(root / "test" / defect / f"{LATIN}.png")
    mask = save(root / "ground_truth" / defect / f"{LATIN}_mask.png", 0)
    assert discover(root).test[0].mask == mask
    for cache in (None, tmp_path / f"cache{LATIN}", tmp_path / f"cache{LATIN}"):
        stream = open_stream(root, image_size=8, cache=cache)
        assert stream[0].name == r"Stra\xdfe[b]"
        assert stream[0].test.defects == (r"Kratzer\xe4",)
        assert sorted(path.name for path in (*stream[0].train.paths, *stream[0].val.paths)) == sorted(names)
        for text in (*stream.notes, str(stream.counts[0])):
            text.encode()
        assert r"empty masks of defect images (1): Kratzer\xe4/Stra\xdfe_mask.png" in "\n".join(stream.notes)
    (found,) = audit(root, image_size=8)
    json.dumps(found.to_dict(), ensure_ascii=False).encode()
    page = console_text(view([found]))
    page.encode()
    flat = page.replace("\n", "").replace(" ", "")
    assert r"Stra\xdfe[b]" in flat
    assert r"train/good/a\x0ab.png(itsnameholdscontrolcharacters" in flat
    assert r"train/good/Stra\xdfe.png(itsnameisnotUTF-8" in flat
    assert "n" * 246 + ".png(itsnameis250byteslong" in flat


@posix
def test_errors_about_odd_names_are_printable(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    bad = tmp_path / "p" / f"{LATIN}.png"
    bad.parent.mkdir()
    bad.write_bytes(b"text")
    for call in (
        lambda: open_stream(tmp_path / "p", cache=None),
        lambda: discover(tmp_path / LATIN),
        lambda: discover_all([tmp_path / LATIN, tmp_path / f"2{LATIN}"]),
    ):
        with pytest.raises(ContinuadError) as error:
            call()
        assert r"Stra\xdfe" in str(error.value)
        str(error.value).encode()


def test_a_mistyped_path_names_its_first_missing_part(tmp_path: Path) -> None:
    assert missing_part(tmp_path) == ""
    deep = tmp_path / "set" / "nut" / "train"
    assert missing_part(deep) == f"{tmp_path / 'set'} does not exist"
    with pytest.raises(ContinuadError) as error:
        discover(deep)
    assert str(error.value).startswith(f"{deep}: {tmp_path / 'set'} does not exist. Give")
    (tmp_path / "set").write_text("")
    assert missing_part(deep) == f"{tmp_path / 'set'} is a file, not a folder"
    with pytest.raises(ContinuadError, match="does not exist"):
        discover(tmp_path / "nut")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert (
        missing_part(tmp_path / "link") == f"{tmp_path / 'link'} is a link to {tmp_path / 'gone'}, which does not exist"
    )
    assert "cannot be reached" in missing_part(tmp_path / ("n" * 300))
    for path in (tmp_path / ("n" * 300), str(tmp_path / "a\0b")):
        with pytest.raises(ContinuadError):
            discover(path)


def test_one_folder_has_one_canonical_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "nut").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings = ["nut", "./nut/", "../data/nut", tmp_path / "link" / "nut", "~/data/nut", tmp_path / "data" / "nut"]
    assert len({canonical_root(path) for path in spellings}) == 1
    assert canonical_root("nut") != canonical_root("gone")
