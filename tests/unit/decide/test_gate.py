"""The gate: every reason to refuse has a case that only it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from stoker.decide import gate
from stoker.decide.gate import Bounds, CheckpointFacts, CostFacts, MetricFacts

SAME = MetricFacts("sts/spearman", True, 0.82, 0.82, 0.0, -0.002, 0.002)
REFERENCE = CostFacts(1000, 500, {"1": 4.0, "16": 40.0})


def codes(findings: list[gate.Finding]) -> list[str]:
    return [one.code for one in findings if not one.passed]


def test_a_candidate_within_its_bounds_passes() -> None:
    found = gate.judge_metric(SAME, Bounds(at_least=0.8, max_drop=0.005))
    assert codes(found) == []
    assert len(found) == 2
    assert gate.holds(found)


def test_what_nothing_was_looked_at_does_not_pass() -> None:
    assert not gate.holds([])


def test_a_drop_beyond_the_bound_is_refused() -> None:
    facts = replace(SAME, candidate=0.80, difference=-0.02, low=-0.03, high=-0.01)
    found = gate.judge_metric(facts, Bounds(max_drop=0.005))
    assert codes(found) == ["drop"]
    assert "-0.0200 against the reference" in found[0].words


def test_an_interval_that_crosses_the_bound_is_refused_though_the_value_keeps_it() -> None:
    facts = replace(SAME, candidate=0.818, difference=-0.002, low=-0.009, high=0.005)
    assert codes(gate.judge_metric(facts, Bounds(max_drop=0.005))) == ["drop_uncertain"]
    assert codes(gate.judge_metric(facts, Bounds(max_drop=0.01))) == []


def test_of_a_metric_where_lower_is_better_more_is_a_drop() -> None:
    facts = MetricFacts("news/perplexity", False, 30.0, 33.0, 3.0, 2.5, 3.5)
    assert codes(gate.judge_metric(facts, Bounds(max_drop=1.0))) == ["drop"]
    assert codes(gate.judge_metric(facts, Bounds(max_drop=3.2))) == ["drop_uncertain"]
    better = MetricFacts("news/perplexity", False, 30.0, 27.0, -3.0, -3.5, -2.5)
    assert codes(gate.judge_metric(better, Bounds(max_drop=0.0))) == []


def test_a_relative_bound_is_a_share_of_the_reference() -> None:
    facts = MetricFacts("news/perplexity", False, 30.0, 30.5, 0.5, 0.4, 0.7)
    assert codes(gate.judge_metric(facts, Bounds(max_relative_drop=0.03))) == []
    assert codes(gate.judge_metric(facts, Bounds(max_relative_drop=0.01))) == ["drop"]


@pytest.mark.parametrize("bounds", [Bounds(at_least=0.83), Bounds(at_most=0.81)])
def test_a_value_beyond_an_absolute_bound_is_refused(bounds: Bounds) -> None:
    assert codes(gate.judge_metric(SAME, bounds)) == ["floor"]


@pytest.mark.parametrize("field", ["reference", "candidate", "difference", "low", "high"])
def test_what_is_no_number_is_refused_whatever_the_bound(field: str) -> None:
    facts = replace(SAME, **{field: math.nan})
    assert codes(gate.judge_metric(facts, Bounds(max_drop=10.0))) == ["not_a_number"]


def test_an_agreement_below_its_bound_or_unknown_is_refused() -> None:
    judge = gate.judge_agreement
    assert judge("sts", "mean cosine", 0.99, 0.99).passed
    assert not judge("sts", "mean cosine", 0.976, 0.99).passed
    assert not judge("sts", "mean cosine", None, 0.0).passed
    assert not judge("sts", "mean cosine", math.nan, 0.0).passed


def test_sets_that_judge_nothing_are_refused() -> None:
    assert codes(gate.judge_set("sts", 0, None, 0)) == ["empty_set"]
    assert codes(gate.judge_set("sts", 1, 1, 0)) == ["empty_set"]
    assert codes(gate.judge_set("reviews", 100, 1, 0)) == ["one_class"]
    assert codes(gate.judge_set("reviews", 100, 2, 0)) == []


def test_an_item_that_the_recipe_was_made_with_is_a_leak() -> None:
    assert codes(gate.judge_set("sts", 100, 30, leaked=1)) == ["leak"]


def test_a_set_other_than_the_accepted_one_is_refused() -> None:
    judge = gate.judge_sets_unchanged
    assert judge({}, {"sts": "a"}) == []
    assert codes(judge({"sts": "a"}, {"sts": "a"})) == []
    for now in ({"sts": "b"}, {}, {"sts": "a", "easy": "c"}):
        assert codes(judge({"sts": "a"}, now)) == ["set_changed"]


def test_a_reference_that_got_worse_is_refused_and_one_that_got_better_is_not() -> None:
    bounds = Bounds(max_drop=0.01)
    assert gate.judge_reference("sts", 0.825, SAME, bounds).passed
    assert gate.judge_reference("sts", 0.5, SAME, bounds).passed
    assert not gate.judge_reference("sts", 0.84, SAME, bounds).passed
    lower = replace(SAME, higher_is_better=False)
    assert not gate.judge_reference("sts", 0.7, lower, bounds).passed


def test_a_recipe_that_quantizes_nothing_is_refused() -> None:
    judge = gate.judge_checkpoint
    assert codes(judge(CheckpointFacts(cast=False, claimed=0, found=0))) == ["nothing_quantized"]
    assert judge(CheckpointFacts(cast=True, claimed=0, found=0)) == []


def test_fewer_quantized_modules_in_the_file_than_the_manifest_claims_are_refused() -> None:
    judge = gate.judge_checkpoint
    assert codes(judge(CheckpointFacts(cast=False, claimed=36, found=35))) == ["fewer_quantized"]
    assert codes(judge(CheckpointFacts(cast=False, claimed=36, found=36))) == []


def test_a_checkpoint_that_cannot_be_looked_at_is_refused() -> None:
    facts = CheckpointFacts(cast=False, claimed=9, found=9, unknown="the file is cut short")
    found = gate.judge_checkpoint(facts)
    assert codes(found) == ["nothing_quantized"]
    assert "cut short" in found[0].words


@pytest.mark.parametrize(
    ("goal", "candidate", "code"),
    [
        ("smallest", replace(REFERENCE, weight_bytes=1001), "larger"),
        ("fastest", replace(REFERENCE, latency_ms={"1": 4.1, "16": 40.0}), "slower"),
        ("cheapest", replace(REFERENCE, latency_ms={"1": 4.1, "16": 40.0}), "dearer"),
    ],
)
def test_worse_than_the_reference_in_what_the_goal_asks_for_is_refused(
    goal: str, candidate: CostFacts, code: str
) -> None:
    assert codes(gate.judge_cost(goal, candidate, REFERENCE, {})) == [code]
    assert codes(gate.judge_cost(goal, REFERENCE, REFERENCE, {})) == []


def test_what_a_cost_is_of_stands_in_its_words() -> None:
    slow = replace(REFERENCE, latency_ms={"1": 8.6, "16": 86.0})
    (found,) = gate.judge_cost("cheapest", slow, REFERENCE, {})
    assert found.words == (
        "cost (bytes of the weights × the handler's time): "
        "2.15 × the reference's, at most 1 × may be"
    )


def test_slower_than_the_reference_passes_where_the_goal_is_size() -> None:
    small = CostFacts(250, 500, {"1": 8.0, "16": 80.0})
    assert codes(gate.judge_cost("smallest", small, REFERENCE, {})) == []
    assert codes(gate.judge_cost("smallest", small, REFERENCE, {"latency": 1.5})) == ["slower"]


def test_a_declared_limit_is_kept_whatever_the_goal() -> None:
    limits = {"size": 0.5, "memory": 0.5, "latency": 0.5}
    found = gate.judge_cost("cheapest", REFERENCE, REFERENCE, limits)
    assert codes(found) == ["larger", "larger", "slower"]


def test_a_cost_that_is_not_known_is_refused_where_it_is_judged() -> None:
    unknown = CostFacts(1000, 500, {})
    assert codes(gate.judge_cost("fastest", unknown, REFERENCE, {})) == ["slower"]
    assert codes(gate.judge_cost("smallest", unknown, REFERENCE, {})) == []
