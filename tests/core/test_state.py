"""Moments that add up, and the container that carries them."""

import numpy as np
import pytest
import torch

from continuad.core.state import Stats, fold_in


def moments_of(x: torch.Tensor, portions: list[int]) -> tuple[torch.Tensor, ...]:
    positions, _, channels = x.shape
    count, mean = torch.zeros((), dtype=torch.float64), torch.zeros(positions, channels)
    scatter = torch.zeros(positions, channels, channels)
    for part in x.split(portions, 1):
        fold_in(count, mean, scatter, part)
    return count, mean, scatter


@pytest.mark.parametrize("portions", [[11], [1] * 11, [3, 8], [10, 1]])
def test_any_split_gives_the_moments_of_numpy(portions: list[int]) -> None:
    x = torch.randn(5, 11, 4, generator=torch.Generator().manual_seed(0)) * 3 + 7
    count, mean, scatter = moments_of(x, portions)
    assert float(count) == 11
    for position in range(5):
        samples = x[position].double().numpy()
        np.testing.assert_allclose(mean[position], samples.mean(0), rtol=1e-6)
        np.testing.assert_allclose(scatter[position] / 10, np.cov(samples.T), rtol=2e-5, atol=2e-5)


def test_stats_take_any_names_and_shapes_through_a_state_dict() -> None:
    stats, other = Stats(), Stats()
    stats["0/mean.x"], stats["count"] = torch.ones(3), torch.tensor(2)
    other["stale"] = torch.zeros(9)
    other.load_state_dict(stats.state_dict())
    assert sorted(other) == ["0/mean.x", "count"]
    assert other.under("0/")["mean.x"] is other["0/mean.x"]
