from __future__ import annotations

import math

import numpy as np
import pytest

from continuad.errors import ContinuadError
from continuad.metrics.image import f1_at, f1_max, image_ap, image_auroc, image_metrics


def test_worked_examples() -> None:
    assert image_auroc([3, 2, 2, 1], [1, 1, 0, 0]) == 0.875
    assert image_ap([3, 2, 1], [1, 0, 1]) == pytest.approx(5 / 6)
    # Flagging the three highest finds both anomalies with one false alarm: 2 * 2 / (2 + 3).
    value, threshold = f1_max([4.0, 3.0, 2.0, 1.0], [1, 0, 1, 0])
    assert value == 0.8
    assert 1 < threshold < 2


def test_f1_at_a_threshold_flags_strictly_above() -> None:
    scores, labels = [1.0, 2.0, 3.0], [0, 1, 1]
    assert f1_at(scores, labels, 2.0) == pytest.approx(2 / 3)
    assert f1_at(scores, labels, 1.0) == 1.0
    assert f1_at(scores, labels, 9.0) == 0.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
def test_f1_at_the_best_threshold_is_f1_max(dtype: type) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.3
    scores = (rng.normal(5, 1, 300) + labels).astype(dtype)
    value, threshold = f1_max(scores, labels)
    assert f1_at(scores, labels, threshold) == value


def test_image_metrics_are_the_single_functions() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random(50), rng.integers(0, 2, 50)
    value, threshold = f1_max(scores, labels)
    assert image_metrics(scores, labels) == {
        "image_auroc": image_auroc(scores, labels),
        "image_ap": image_ap(scores, labels),
        "image_f1_max": value,
        "image_f1_max_threshold": threshold,
    }


def test_scores_from_10_to_40_rank_like_any_other() -> None:
    scores, labels = np.linspace(10, 40, 31), np.arange(31) >= 20
    assert image_auroc(scores, labels) == 1.0
    shuffled = np.random.default_rng(0).permutation(labels)
    for rescaled in (scores / 100, np.exp(scores), scores**3 - 5, (scores - 10) / 30):
        assert image_metrics(rescaled, labels)["image_auroc"] == 1.0
        assert image_auroc(rescaled, shuffled) == image_auroc(scores, shuffled)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_alone_is_not_available_and_no_error(labels: list[int]) -> None:
    assert all(math.isnan(v) for v in image_metrics([1.0, 2.0, 3.0], labels).values())
    assert math.isnan(f1_at([1.0, 2.0, 3.0], labels, 2.0))


def test_no_images_at_all_is_not_available() -> None:
    assert all(math.isnan(v) for v in image_metrics([], []).values())


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ContinuadError, match="score 1 is nan"):
        image_auroc([0.1, np.nan], [0, 1])
    with pytest.raises(ContinuadError, match=r"^scores hold NaN: metrics need finite scores$"):
        f1_at([0.1, np.nan], [0, 1], 0.5)
    with pytest.raises(ContinuadError, match=r"^the threshold is NaN: set it on good images first$"):
        f1_at([0.1, 0.2], [0, 1], np.nan)
    with pytest.raises(ContinuadError, match="shape"):
        f1_at([0.1, 0.2], [0, 1, 1], 0.5)
