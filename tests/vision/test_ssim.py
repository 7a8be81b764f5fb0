"""Structural similarity: hand-computed values, and scikit-image's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import images_of

from continuad.vision.ssim import EVEN, msgms_loss, msgms_map, ssim_loss, ssim_map


def edge(size: int = 32, height: float = 1.0) -> torch.Tensor:
    """Black on the left, `height` on the right."""
    x = torch.zeros(1, 3, size, size)
    x[..., size // 2 :] = height
    return x


def test_equal_pictures_are_alike() -> None:
    x = torch.rand(2, 3, 40, 24)
    for loss in (ssim_loss, msgms_loss):
        assert float(loss(x, x)) == pytest.approx(0, abs=1e-5)
    assert ssim_map(x, x).shape == x.shape
    assert msgms_map(x, x).shape == (2, 40, 24)


def test_black_against_white_leaves_the_constants() -> None:
    flat = torch.zeros(1, 1, 40, 40)
    assert float(ssim_map(flat, flat + 1)[0, 0, 20, 20]) == pytest.approx(0.01**2 / (1 + 0.01**2), rel=1e-3)


def test_ssim_of_opposite_structure_by_hand() -> None:
    """A chequered picture against its negative: equal means m, covariance minus the variance v."""
    a = (torch.arange(41)[:, None] + torch.arange(41)) % 2 * 1.0
    m, v = 0.5, 0.25  # the Gaussian window sees both colours alike, to a thousandth
    expected = (2 * m * m + 1e-4) * (-2 * v + 9e-4) / ((2 * m * m + 1e-4) * (2 * v + 9e-4))
    assert float(ssim_map(a[None, None], 1 - a[None, None])[0, 0, 20, 20]) == pytest.approx(expected, abs=1e-3)


def test_equals_scikit_image() -> None:
    """structural_similarity of scikit-image 0.26.0 (benchmarks/golden_ssim.py), away from the borders."""
    a, b = torch.from_numpy(images_of(1, 2, defects=True, seed=0).images).double() / 255
    found = ssim_map(a[None], b[None])[0, :, ::2, ::2]
    with np.load(Path(__file__).parent / "golden" / "ssim_skimage.npz") as golden:
        np.testing.assert_allclose(found[:, 3:-3, 3:-3], golden["map"][:, 3:-3, 3:-3], atol=1e-6)


def test_an_edge_against_nothing_by_hand() -> None:
    """The two columns beside the edge have gradient 1, on every level; there GMS = c / (1 + c), elsewhere 1."""
    share = (2 / 32 + 2 / 16 + 2 / 8 + 2 / 4) / 4
    expected = share * (1 - EVEN / (1 + EVEN))
    assert float(msgms_loss(edge(), torch.zeros(1, 3, 32, 32))) == pytest.approx(expected, abs=1e-5)


def test_an_edge_of_half_the_contrast_by_hand() -> None:
    """Gradients 1 and 1/2: GMS = (2 * 1 * 0.5 + c) / (1 + 0.25 + c) at the edge, on all four levels."""
    found = msgms_map(edge(64), edge(64, 0.5))
    assert float(found[0, 32, 32]) == pytest.approx((1 + EVEN) / (1.25 + EVEN), abs=0.01)
    assert float(found[0, 32, 4]) == pytest.approx(1, abs=1e-5)


def test_constant_pictures_have_finite_slopes() -> None:
    a = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    for b in (torch.full((1, 3, 32, 32), 0.2), edge()):
        (slope,) = torch.autograd.grad(msgms_loss(a, b) + ssim_loss(a, b), a)
        assert torch.isfinite(slope).all()
