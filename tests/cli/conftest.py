"""Drawn products that several tests of the commands learn from."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuad.demo.line import write_line


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three drawn products; alphabetical order differs from the order of the stream."""
    root = tmp_path_factory.mktemp("line")
    chosen = ("cable", "bottle", "hazelnut")
    return write_line(root, products=chosen, size=64, train=10, test_good=4, per_defect=2)
