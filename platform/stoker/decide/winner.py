"""Which of the recipes that passed is taken."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.decide.gate import CostFacts, cost

_MEASURE = {"smallest": "size", "fastest": "latency", "cheapest": "cost"}


def choose(goal: str, passed: Mapping[str, CostFacts]) -> str | None:
    """The name of the best by the goal; None when there is none.

    Of equals the one that is better in the next measure, at last the first by name: the same run
    chooses the same.

    >>> small = CostFacts(10, 0, {"1": 4.0})
    >>> quick = CostFacts(20, 0, {"1": 1.0})
    >>> passed = {"small": small, "quick": quick}
    >>> [choose(goal, passed) for goal in ("smallest", "fastest", "cheapest")]
    ['small', 'quick', 'quick']
    >>> choose("smallest", {}) is None
    True
    """
    measure = _MEASURE[goal]
    return min(
        passed,
        key=lambda name: (
            cost(measure, passed[name]),
            cost("cost", passed[name]),
            name,
        ),
        default=None,
    )
