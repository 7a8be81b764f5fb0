"""How alike two pictures are in structure: SSIM (Wang et al. 2004) and gradient magnitudes (Xue et al. 2014).

Pictures are (B, C, H, W) on the scale [0, 1]. A value of 1 is equality.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SPREAD = 11, 1.5  # of SSIM: pixels, and standard deviation of the Gaussian
LEVELS = 4  # of the pyramid on which gradients are compared
EVEN = 0.0026  # of gradient similarity: differences between much smaller squared gradients do not count
FLAT = 1e-12  # squared gradient below which the root's own slope would be infinite


def ssim_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - mean SSIM (); no gradient reaches `b`."""
    return 1 - ssim_map(a, b.detach()).mean()


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """SSIM (B, C, H, W) in [-1, 1] around every pixel of every channel.

    SSIM = (2 m_a m_b + c1)(2 s_ab + c2) / ((m_a^2 + m_b^2 + c1)(s_a^2 + s_b^2 + c2)) with local means m and
    covariances s, c1 = 0.01^2 and c2 = 0.03^2; outside the pictures is black.
    """
    mean_a, square_a, product = _blur(torch.cat([a, a * a, a * b], 1)).chunk(3, 1)
    mean_b, square_b = _blur(torch.cat([b, b * b], 1)).chunk(2, 1)
    means, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    similarity = (2 * means + 0.01**2) * (2 * (product - means) + 0.03**2)
    return similarity / ((squares + 0.01**2) * (square_a + square_b - squares + 0.03**2))


def _blur(x: Tensor) -> Tensor:
    """Gaussian mean of every channel, zeros outside."""
    channels = x.shape[1]
    offset = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    kernel = torch.exp(-offset.square() / (2 * SPREAD**2))
    kernel = (kernel / kernel.sum()).expand(channels, 1, 1, WINDOW)
    x = F.conv2d(x, kernel.mT, padding=(WINDOW // 2, 0), groups=channels)
    return F.conv2d(x, kernel, padding=(0, WINDOW // 2), groups=channels)


def msgms_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 - multi-scale gradient magnitude similarity (): the mean over levels of each level's mean."""
    return 1 - torch.stack([level.mean() for level in _similarities(a, b)]).mean()


def msgms_map(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale gradient magnitude similarity (B, H, W) in (0, 1]: all levels enlarged bilinearly, averaged."""
    size = a.shape[-2:]
    levels = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in _similarities(a, b)]
    return torch.stack(levels).mean(0)[:, 0]


def _similarities(a: Tensor, b: Tensor) -> list[Tensor]:
    """GMS = (2 g_a g_b + c) / (g_a^2 + g_b^2 + c), c = 0.0026, (B, 1, h, w) on every level; each halves the last."""
    both = torch.cat([a, b]).mean(1, keepdim=True)
    levels = []
    for level in range(LEVELS):
        both = F.avg_pool2d(both, 2) if level else both
        of_a, of_b = _squared_gradient(both).chunk(2)
        levels.append((2 * (of_a * of_b).sqrt() + EVEN) / (of_a + of_b + EVEN))
    return levels


def _squared_gradient(x: Tensor) -> Tensor:
    """Squared gradient magnitude of grey pictures (B, 1, H, W) by Prewitt's filters; borders are repeated."""
    across = x.new_tensor([-1.0, 0.0, 1.0]).expand(3, 3) / 3
    filters = torch.stack([across, across.T])[:, None]
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), filters).square().sum(1, keepdim=True) + FLAT
