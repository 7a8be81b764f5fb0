"""The kernel: equal to scikit-learn, whatever the dtype, the ties, the chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from continuad.errors import ContinuadError
from continuad.metrics import ranking
from continuad.metrics.ranking import auroc, average_precision, best_f1, rank, working_dtype

labels_of_20 = arrays(np.bool_, 20).filter(lambda a: 0 < a.sum() < a.size)
scores_of_20 = arrays(np.float32, 20, elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)) | arrays(
    np.float32, 20, elements=st.integers(-3, 3)
)


def sklearn_f1_max(labels: np.ndarray, scores: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300)))


def all_three(scores: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    r = rank(scores, labels)
    return auroc(r), average_precision(r), best_f1(r)[0]


def sklearn_three(scores: np.ndarray, labels: np.ndarray) -> tuple[float, ...]:
    return (
        roc_auc_score(labels, scores),
        average_precision_score(labels, scores),
        sklearn_f1_max(labels, scores),
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", "int64", ">f4"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("levels", [3, 200, 10**6])
def test_equals_scikit_learn(dtype: str, share: float, levels: int) -> None:
    rng = np.random.default_rng(levels)
    labels = rng.random(5000) < share
    scores = rng.normal(size=5000) + labels
    scores = np.round((scores - scores.min()) * min(levels, 20 if dtype == "uint8" else 3000)).astype(dtype)
    assert all_three(scores, labels) == pytest.approx(sklearn_three(scores.astype(float), labels), abs=1e-12)


def test_scores_that_differ_only_in_float64_stay_apart() -> None:
    scores = 1.0 + np.array([2e-12, 1e-12, 0.0])
    assert auroc(rank(scores, [1, 0, 0])) == 1.0
    assert auroc(rank(scores, [0, 0, 1])) == 0.0
    assert auroc(rank(np.array([2**60 + 1, 2**60]), [1, 0])) == 1.0


@settings(deadline=None)
@given(scores_of_20, labels_of_20)
def test_the_best_threshold_attains_the_best_f1(scores: np.ndarray, labels: np.ndarray) -> None:
    f1, threshold = best_f1(rank(scores, labels))
    flagged = scores > threshold
    assert 2 * (flagged & labels).sum() / (flagged.sum() + labels.sum()) == f1
    assert f1 == pytest.approx(sklearn_f1_max(labels, scores), abs=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32"])
def test_the_threshold_holds_for_the_dtype_of_the_scores(dtype: str) -> None:
    scores = np.array([0, 1, 2, 3], dtype)
    for labels, flagged in (([0, 0, 1, 1], [0, 0, 1, 1]), ([1, 1, 1, 0], [1, 1, 1, 1])):
        assert ((scores > best_f1(rank(scores, labels))[1]) == flagged).all()


@settings(deadline=None)
@given(scores_of_20, labels_of_20)
def test_only_the_order_counts(scores: np.ndarray, labels: np.ndarray) -> None:
    places = np.unique(scores, return_inverse=True)[1]
    assert all_three(places, labels) == all_three(scores, labels)
    assert all_three(places * 7 + 10, labels) == all_three(scores, labels)


@settings(deadline=None)
@given(scores_of_20, labels_of_20, st.permutations(range(20)))
def test_the_order_of_the_images_does_not(scores: np.ndarray, labels: np.ndarray, order: list[int]) -> None:
    assert all_three(scores[order], labels[order]) == all_three(scores, labels)


@pytest.mark.parametrize("chunk", [1, 7, 100, 999])
@pytest.mark.parametrize("share", [0.01, 0.6])
def test_chunks_equal_one_go(monkeypatch: pytest.MonkeyPatch, chunk: int, share: float) -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.integers(0, 300, 1000).astype(np.float32), rng.random(1000) < share
    whole = rank(scores, labels)
    monkeypatch.setattr(ranking, "CHUNK", chunk)
    for name, value in vars(rank(scores, labels)).items():
        np.testing.assert_array_equal(value, getattr(whole, name), err_msg=name)


def test_counts_of_a_small_example() -> None:
    r = rank([5, 5, 4, 3, 3, 1], [1, 0, 0, 1, 1, 0])
    assert r.thresholds.tolist() == [5, 3]
    assert r.hits.tolist() == [1, 3]
    assert r.alarms.tolist() == [1, 2]
    assert r.alarms_above.tolist() == [0, 2]
    assert r.share == pytest.approx([1 / 3, 1])
    assert r.hits.dtype == r.alarms.dtype == r.alarms_above.dtype == np.int64


def test_a_single_positive_is_the_whole_share() -> None:
    assert rank([2, 1], [0, 1]).share.tolist() == [1]


def test_average_precision_is_never_rounded_above_one() -> None:
    for positives in range(1, 100):  # 9 times 1/9 and its like add up to a little more than 1
        ordered = rank(np.arange(positives + 1), np.arange(positives + 1) > 0)
        assert 1 - 1e-12 < average_precision(ordered) <= 1


def test_the_threshold_below_zero_leaves_the_smallest_float16_apart() -> None:
    scores = np.array([0, -6e-8], np.float16)  # neighbours: the smallest step that float16 has
    assert scores[1] != 0
    f1, threshold = best_f1(rank(scores, [1, 0]))
    assert f1 == 1
    assert (scores > threshold).tolist() == [True, False]


@pytest.mark.parametrize(
    ("given", "working"),
    [
        (["uint8"], "float32"),
        (["int16"], "float32"),
        (["float16", "uint8"], "float32"),
        (["float32"], "float32"),
        (["int32"], "int32"),
        (["int32", "float32"], "float64"),
    ],
)
def test_scores_are_compared_in_a_type_that_merges_none(given: list[str], working: str) -> None:
    assert working_dtype([np.dtype(name) for name in given]) == working


def test_perfect_and_reversed_and_constant() -> None:
    assert all_three(np.array([1, 2, 3, 4]), np.array([0, 0, 1, 1])) == (1, 1, 1)
    assert auroc(rank([4, 3, 2, 1], [0, 0, 1, 1])) == 0
    assert all_three(np.ones(4), np.array([0, 0, 0, 1])) == (0.5, 0.25, pytest.approx(0.4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ContinuadError, match="score 2 is"):
        rank([0.0, 1.0, bad], [0, 1, 0])


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ContinuadError, match=r"scores have shape \(3,\), labels \(2,\)"):
        rank([1, 2, 3], [0, 1])
    with pytest.raises(ContinuadError, match="dtype complex"):
        rank(np.array([1j, 2]), [0, 1])
