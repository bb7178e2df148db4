"""Metrics and intervals, against scipy's, scikit-learn's and known values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from stoker.quality.bootstrap import paired
from stoker.quality.metrics import Correlation, MacroF1, Mean, Perplexity, Whole


def one(sample: Any) -> float:
    return float(sample.values(np.arange(sample.items)[None, :])[0])


@pytest.fixture
def scores() -> tuple[Any, Any, Any]:
    """Labels with ties, a good reference, and a candidate a little worse than it."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 6, 300).astype(float)
    reference = labels + generator.normal(0, 1.5, 300)
    return labels, reference, reference + generator.normal(0, 0.3, 300)


def test_correlations_are_scipy_s(scores: tuple[Any, Any, Any]) -> None:
    labels, reference, _ = scores
    spearman = Correlation(labels, reference, ranks=True)
    pearson = Correlation(labels, reference, ranks=False)
    assert one(spearman) == pytest.approx(stats.spearmanr(labels, reference).statistic)
    assert one(pearson) == pytest.approx(stats.pearsonr(labels, reference).statistic)


def test_each_resample_is_ranked_anew(scores: tuple[Any, Any, Any]) -> None:
    labels, reference, _ = scores
    draws = np.random.default_rng(1).integers(0, 300, (5, 300))
    found = Correlation(labels, reference, ranks=True).values(draws)
    expected = [stats.spearmanr(labels[row], reference[row]).statistic for row in draws]
    assert found == pytest.approx(expected)


def test_macro_f1_is_scikit_learn_s() -> None:
    generator = np.random.default_rng(5)
    labels = generator.choice(["a", "b", "c"], 200)
    said = np.where(generator.random(200) < 0.7, labels, generator.choice(["a", "b", "d"], 200))
    draws = generator.integers(0, 200, (4, 200))
    found = MacroF1(labels, said).values(draws)
    expected = [f1_score(labels[r], said[r], average="macro", zero_division=0.0) for r in draws]
    assert found == pytest.approx(expected)


def test_perplexity_is_over_all_tokens_not_over_texts() -> None:
    sample = Perplexity(np.array([-10.0, -2.0]), np.array([10.0, 1.0]))
    assert one(sample) == pytest.approx(np.exp(12 / 11))


def test_the_paired_interval_is_scipy_s(scores: tuple[Any, Any, Any]) -> None:
    labels, reference, candidate = scores

    def difference(x: Any, a: Any, b: Any, axis: int = -1) -> Any:
        return stats.spearmanr(x, b).statistic - stats.spearmanr(x, a).statistic

    theirs = stats.bootstrap(
        (labels, reference, candidate), difference, paired=True, vectorized=False,
        n_resamples=1000, method="percentile", random_state=1,
    ).confidence_interval  # fmt: skip
    ours = paired(
        Correlation(labels, reference, ranks=True), Correlation(labels, candidate, ranks=True),
        resamples=1000, seed=2,
    ).difference  # fmt: skip
    assert ours.value == pytest.approx(difference(labels, reference, candidate))
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.15 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.15 * width)


def test_pairing_tells_a_small_loss_that_unpaired_intervals_hide() -> None:
    right = np.zeros(1000)
    right[:770] = 1
    worse = right.copy()
    worse[:20] = 0
    found = paired(Mean(right), Mean(worse), resamples=2000, seed=0)
    assert found.difference.value == pytest.approx(-0.02)
    assert found.difference.high < 0  # certainly worse
    assert found.candidate.high > found.reference.low  # which the two by themselves do not show


def test_equal_answers_have_no_difference_at_all() -> None:
    same = Mean(np.random.default_rng(0).random(50))
    found = paired(same, same, seed=4).difference
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_same_seed_gives_the_same_interval() -> None:
    numbers = np.random.default_rng(0).random(50)
    a, b = Mean(numbers), Mean(numbers[::-1].copy())
    assert paired(a, b, seed=4) == paired(a, b, seed=4) != paired(a, b, seed=5)


def test_resamples_without_a_metric_are_left_out() -> None:
    labels = np.array([0.0, 0.0, 0.0, 1.0])
    sample = Correlation(labels, np.array([0.1, 0.2, 0.1, 0.9]), ranks=True)
    found = paired(sample, sample, resamples=500, seed=0).reference
    assert np.isfinite([found.low, found.high]).all()


def test_a_metric_for_many_at_once_is_asked_for_each_resample() -> None:
    asked: list[int] = []

    def longest(inputs: list[Any], answers: list[Any]) -> float:
        asked.append(len(inputs))
        return float(max(answers))

    sample = Whole(longest, [{}, {}, {}], [1, 2, 3])
    found = paired(sample, sample, resamples=100, seed=0)
    assert found.reference.value == 3
    assert set(asked) == {3}
    assert found.reference.low < 3


def test_samples_of_other_items_are_not_compared() -> None:
    with pytest.raises(ValueError, match="3 items, the candidate 2"):
        paired(Mean(np.ones(3)), Mean(np.ones(2)))
