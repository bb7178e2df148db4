"""The metrics, over drawn items: one row a resample (`stoker.quality.bootstrap`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from stoker.quality.bootstrap import Draws, Floats


@dataclass(frozen=True, slots=True)
class Correlation:
    """How well scores follow the labels. ``ranks``: Spearman's, else Pearson's."""

    labels: Floats
    scores: Floats
    ranks: bool

    @property
    def items(self) -> int:
        """See `Sample`."""
        return len(self.labels)

    def values(self, draws: Draws) -> Floats:
        """See `Sample`."""
        x, y = self.labels[draws], self.scores[draws]
        if self.ranks:
            x, y = stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)
        x = x - x.mean(axis=1, keepdims=True)
        y = y - y.mean(axis=1, keepdims=True)
        spread = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((x * y).sum(axis=1) / spread, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of one number an item: accuracy, exact match, a user's metric."""

    numbers: Floats

    @property
    def items(self) -> int:
        """See `Sample`."""
        return len(self.numbers)

    def values(self, draws: Draws) -> Floats:
        """See `Sample`."""
        return np.asarray(self.numbers[draws].mean(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Whole:
    """A metric that only has a value for many items at once, asked for every resample."""

    function: Callable[[list[Any], list[Any]], float]
    inputs: Sequence[Any]
    answers: Sequence[Any]

    @property
    def items(self) -> int:
        """See `Sample`."""
        return len(self.inputs)

    def values(self, draws: Draws) -> Floats:
        """See `Sample`."""
        found = [
            self.function([self.inputs[i] for i in row], [self.answers[i] for i in row])
            for row in draws.tolist()
        ]
        return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class MacroF1:
    """F1 a class, each class counted alike: as scikit-learn's ``f1_score(average="macro")``."""

    labels: Any
    predicted: Any

    @property
    def items(self) -> int:
        """See `Sample`."""
        return len(self.labels)

    def values(self, draws: Draws) -> Floats:
        """See `Sample`."""
        total, seen = np.zeros(len(draws)), np.zeros(len(draws))
        for one in np.unique(np.concatenate([self.labels, self.predicted])):
            is_label, is_said = self.labels == one, self.predicted == one
            both = (is_label & is_said)[draws].sum(axis=1)
            either = is_label[draws].sum(axis=1) + is_said[draws].sum(axis=1)
            total += np.divide(2.0 * both, either, out=np.zeros(len(draws)), where=either > 0)
            seen += either > 0
        return np.asarray(total / seen, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean negative log-probability a token. Lower is better."""

    log_probabilities: Floats
    tokens: Floats

    @property
    def items(self) -> int:
        """See `Sample`."""
        return len(self.tokens)

    def values(self, draws: Draws) -> Floats:
        """See `Sample`."""
        sums = self.log_probabilities[draws].sum(axis=1)
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(-sums / self.tokens[draws].sum(axis=1)), dtype=np.float64)
