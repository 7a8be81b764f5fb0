"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _quiet_arithmetic() -> None:
    """Tiny tensors: threads only get in each other's way, and denormals stall CPUs."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real inspection images; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CONTINUAD_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "mvtec" / "screw").is_dir():
        pytest.skip(f"real inspection images not found in {folder}; set CONTINUAD_DATA to their folder")
    return folder
