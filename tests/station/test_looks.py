"""What is usual among a product's good pictures, each measured against the others."""

import numpy as np
import torch

from continuad.station.drift import MOST, SLACK
from continuad.station.inference import Look


def test_each_good_picture_is_measured_against_what_the_others_look_like() -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(3, [[1.0, 2.0, 0.5]], (7, 3)))
    apart = []
    for i in range(7):
        rest = torch.cat([z[:i], z[i + 1 :]])
        variance = rest.var(0, correction=0)
        deviation = (0.9 * variance + 0.1 * variance.mean() + 1e-6).sqrt()
        apart.append(((z[i] - rest.mean(0)) / deviation).norm())
    median = torch.stack(apart).median()
    spread = 1.4826 * (torch.stack(apart) - median).abs().median()
    torch.testing.assert_close(Look.learn(z.float()).usual, torch.stack([median, spread]).float())


def test_new_pictures_of_a_product_taught_from_few_look_usual() -> None:
    """In 200 channels 19 pictures lie far nearer to their own mean than any new one does."""
    draw = np.random.default_rng(1)
    values = []
    for _ in range(20):
        look = Look.learn(torch.from_numpy(draw.normal(size=(19, 200))).float())
        fresh = draw.normal(size=(20, 200)).astype(np.float32)
        values += [min(MOST, look.unusual(row)) for row in fresh]
    assert np.mean(values) < SLACK / 2
