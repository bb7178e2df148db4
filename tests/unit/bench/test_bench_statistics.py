"""The statistics that every figure rests on."""

from __future__ import annotations

import pytest
from bench.result import Figure, Result, at_least, at_most
from bench.samples import interleaved, order, percentile, ratio


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.95, 7.0),
        ([1, 2, 3, 4], 0.0, 1.0),
        ([1, 2, 3, 4], 1.0, 4.0),
        ([4, 3, 2, 1], 0.5, 2.5),
        (list(range(1, 41)), 0.95, 38.05),
    ],
)
def test_a_percentile_lies_between_the_ranks(values, share, expected):
    assert percentile(values, share) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_no_percentile_is_made_up_where_there_is_none(values, share):
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, share)


def test_a_slow_minute_that_slows_both_sides_does_not_move_the_ratio():
    assert ratio([50, 5, 50], [100, 10, 100]) == 0.5


def test_rounds_that_do_not_pair_up_give_no_ratio():
    with pytest.raises(ValueError, match="zip"):
        ratio([1, 2], [1])


def test_every_round_measures_every_subject_once_and_none_always_goes_first():
    calls: list[str] = []

    def subject(name: str):
        def measure() -> float:
            calls.append(name)
            return float(len(calls))

        return measure

    figures = interleaved({name: subject(name) for name in "abc"}, 3)

    assert "".join(calls) == "abcbcacab"
    assert figures == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_an_order_of_nothing_is_nothing():
    assert order([], 4) == []


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("rate", 10, "req/s", reference=20, ratio=0.5, target=at_least(0.5)), True),
        (Figure("rate", 10, "req/s", reference=20, ratio=0.49, target=at_least(0.5)), False),
        (Figure("wake", 150, "ms", target=at_most(150)), True),
        (Figure("wake", 150.1, "ms", target=at_most(150)), False),
        (Figure("shown", 1, "MiB"), None),
    ],
)
def test_a_target_judges_the_ratio_where_there_is_one_else_the_value(figure, met):
    assert figure.met is met
    assert figure.document()["met"] is met


def test_what_was_not_run_is_kept_with_its_reason():
    document = Result("peers", not_run={"Mosec": "pip said no"}).document()

    assert document["not_run"] == {"Mosec": "pip said no"}
    assert document["figures"] == []
