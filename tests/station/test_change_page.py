"""The report before and after a change, as a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from station_parts import SIZE, SMALL, write

from continuad.station import Station, page
from continuad.station.compare import Change, NotPromoted


def pages(station: Station) -> list[Path]:
    return sorted((station.folder / "reports").rglob("*.html"))


def test_a_change_leaves_a_page_with_every_products_numbers_and_the_changed_ones_heat_maps(
    line: Station, parts: Path
) -> None:
    line.feedback(parts / "bad" / "stripes" / "200.png", good=False)
    line.set_threshold("stripes", value=1e6)
    written = Path(line.history()[-1]["report"]["page"])
    text = written.read_text(encoding="utf-8")
    assert "http" not in text
    assert "stripes: confirmed defects that are caught: 1 before, 0 after" in text
    good = len(line.checks.of(line.product("stripes").record.origin)[0])
    assert text.count("<circle") == 2 * good, "each check picture before and after; squares did not change"
    assert "<td>squares</td>" in text
    first = re.findall(r"<figcaption>(.*?)</figcaption>", text)[:2]
    assert [one.partition(":")[0] for one in first] == ["confirmed defect, before", "confirmed defect, after"]
    assert text.count("data:image/jpeg") == 2 * page.MOST


def test_a_change_that_is_not_put_in_service_names_its_page(line: Station, parts: Path, tmp_path: Path) -> None:
    line.feedback(parts / "bad" / "stripes" / "200.png", good=False)
    with pytest.raises(NotPromoted) as refused:
        line.update("stripes", write(tmp_path / "mixed", "stripes", range(200, 203), defect=True))
    written = Path(re.search(r"pictures: (.*\.html)", str(refused.value)).group(1))  # type: ignore[union-attr]
    assert "not put in service" in written.read_text(encoding="utf-8")


def test_names_are_escaped_and_pages_go_with_their_product(line: Station, parts: Path) -> None:
    line.learn(parts / "stripes", "<b>twin</b>", geometry=SIZE, options=SMALL, tolerance=None)
    written = Path(line.history()[-1]["report"]["page"])
    assert "<b>twin" not in written.read_text(encoding="utf-8")
    others = [path for path in pages(line) if path != written]
    line.forget("<b>twin</b>")
    assert not written.exists()
    assert pages(line) == others


def test_the_oldest_pages_make_room(line: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "KEPT", 2)
    for rate in (0.1, 0.2, 0.3):
        line.set_threshold("stripes", false_alarms=rate)
    kept = [path for path in pages(line) if path.parent.name.startswith("stripes")]
    assert len(kept) == 2
    assert str(kept[-1]) == line.history()[-1]["report"]["page"]


def change(before: int, after: int, allowed: int) -> Change:
    return Change("a", 20, 0, (before, after), (0, 0), (0, 0), None, (None, None), allowed=allowed)


def test_false_alarms_that_the_threshold_allows_stop_no_change() -> None:
    assert change(0, 1, 0).count() == 1
    assert change(9, 10, 10).count() == 0
    assert change(9, 12, 10).count() == 2
    assert change(12, 13, 10).count() == 1
