"""Upsampling and blur as one matrix an axis equal doing them one after the other."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from continuad.errors import ContinuadError
from continuad.vision.anomaly_map import upsample_and_smooth


@pytest.mark.parametrize(("grid", "size"), [((16, 16), (64, 64)), ((10, 24), (40, 96)), ((8, 13), (39, 57))])
def test_equals_bilinear_then_gaussian(grid: tuple[int, int], size: tuple[int, int]) -> None:
    x = torch.randn(3, *grid, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(x[:, None].double(), size, mode="bilinear")[:, 0].numpy()
    # scipy's "mirror" reflects about the border pixel, as torch's "reflect" does
    wanted = np.stack([gaussian_filter(one, 4, mode="mirror", truncate=4) for one in large])
    np.testing.assert_allclose(upsample_and_smooth(x, size, 4.0), wanted, atol=1e-6)


def test_without_sigma_only_upsamples_and_constants_stay() -> None:
    x = torch.full((1, 8, 8), 3.0)
    assert torch.allclose(upsample_and_smooth(x, (40, 40), 0), torch.full((1, 40, 40), 3.0))
    assert torch.allclose(upsample_and_smooth(x, (40, 40), 4.0), torch.full((1, 40, 40), 3.0))


@pytest.mark.parametrize("sigma", [8.0, 1e6, 1e308, float("nan")])
def test_a_blur_that_reaches_beyond_the_image_is_refused(sigma: float) -> None:
    with pytest.raises(ContinuadError, match=r"beyond the image, 32 x 64; allowed is less than 7\.875"):
        upsample_and_smooth(torch.zeros(1, 4, 8), (32, 64), sigma)
    upsample_and_smooth(torch.zeros(1, 4, 8), (32, 64), 7.87)
