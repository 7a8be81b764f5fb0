"""The fast convolution answers like the library's, forward and backward, for any size that reaches it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from continuad.vision.winograd import Conv2d, transforms


@pytest.mark.parametrize(("kernel", "padding"), [(3, 0), (3, 1), (4, 0), (4, 3)])
@pytest.mark.parametrize("size", [(4, 4), (5, 11), (19, 13), (24, 24)])
def test_equals_the_direct_convolution(kernel: int, padding: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = Conv2d(64, 5, kernel, padding=padding)
    x = torch.randn(2, 64, *size, requires_grad=True)
    assert layer.applies(x)
    y = layer(x)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=padding)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-4)
    given = torch.randn_like(expected)
    ours = torch.autograd.grad(y, (x, layer.weight, layer.bias), given)
    theirs = torch.autograd.grad(expected, (x, layer.weight, layer.bias), given)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(b.abs().max()) + 1e-4)


def test_several_strips_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = Conv2d(64, 8, 4), torch.randn(1, 64, 30, 17, requires_grad=True)
    whole = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight))
    monkeypatch.setattr("continuad.vision.winograd.STRIP", 1)
    strips = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight))
    for a, b in zip(strips, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kernel", [3, 4])
def test_transforms_hold_in_one_dimension(kernel: int) -> None:
    """The published identity on a tile of ones under a kernel of ones: every output is the kernel's area."""
    t = transforms(kernel)
    filters, image = t.kernel @ torch.ones(kernel * kernel), t.image @ torch.ones(36)
    torch.testing.assert_close(t.result @ (filters * image), torch.full((t.out**2,), float(kernel**2)))


def test_leaves_other_shapes_to_the_library() -> None:
    few, strided, half = Conv2d(3, 8, 3), Conv2d(64, 8, 3, stride=2), Conv2d(64, 8, 3).double()
    assert not few.applies(torch.zeros(1, 3, 9, 9))
    assert not strided.applies(torch.zeros(1, 64, 9, 9))
    assert not half.applies(torch.zeros(1, 64, 9, 9).double())
    assert half(torch.zeros(1, 64, 9, 9).double()).shape == (1, 8, 7, 7)
