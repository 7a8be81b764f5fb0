"""What is usual among a product's good pictures, each measured against the others."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from continuad.station import inference
from continuad.station.drift import MOST, SLACK
from continuad.station.inference import Look, by_rank


def test_each_good_picture_is_measured_against_what_the_others_look_like() -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(3, [[1.0, 2.0, 0.5]], (7, 3)))
    apart = []
    for i in range(7):
        rest = torch.cat([z[:i], z[i + 1 :]])
        variance = rest.var(0, correction=0)
        deviation = (0.9 * variance + 0.1 * variance.mean() + 1e-6).sqrt()
        apart.append(((z[i] - rest.mean(0)) / deviation).norm())
    torch.testing.assert_close(Look.learn(z.float()).usual, torch.stack(apart).sort().values.float())


def test_a_value_is_placed_among_those_of_good_pictures() -> None:
    good = np.array([1.0, 2.0, 3.0])
    assert by_rank(good, 2.0) == 0.0
    assert by_rank(good, 9.0) == pytest.approx(norm.ppf(3.5 / 4))
    assert by_rank(good, 0.0) == pytest.approx(norm.ppf(0.5 / 4))
    assert by_rank(good[:0], 9.0) == 0.0, "nothing is known"


def test_new_pictures_of_a_product_taught_from_few_look_usual() -> None:
    """In 200 channels 19 pictures lie far nearer to their own mean than any new one does."""
    draw = np.random.default_rng(1)
    values = []
    for _ in range(20):
        look = Look.learn(torch.from_numpy(draw.normal(size=(19, 200))).float())
        fresh = draw.normal(size=(20, 200)).astype(np.float32)
        values += [min(MOST, look.unusual(row)) for row in fresh]
    assert np.mean(values) < SLACK / 2


def test_distances_are_kept_evenly_by_rank_and_not_beyond_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "USUAL", 5)
    features = torch.from_numpy(np.random.default_rng(2).normal(size=(21, 4))).float()
    whole = Look.learn(features)
    assert len(whole.usual) == 5
    more = whole.with_more(features + 0.1)
    assert len(more.usual) == 5
    assert bool((more.usual.diff() >= 0).all())
    assert more.usual[0] == whole.usual[0]
    assert more.usual[-1] == whole.usual[-1]
