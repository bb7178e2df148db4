"""What the shipped eviction must be worth, on traces small enough for every run of the tests."""

from __future__ import annotations

import pytest
from bench.eviction_replay import POLICIES, replay
from bench.eviction_traces import (
    Trace,
    alternating,
    diurnal,
    hot_and_rare,
    recorded,
    stale_favourite,
    zipf,
)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "trace", [zipf(3, hours=0.2), diurnal(3, hours=0.2), recorded()], ids=lambda trace: trace.name
)
def test_no_policy_loses_a_request(policy: str, trace: Trace) -> None:
    assert replay(trace, policy).answered == len(trace.arrivals)


def test_what_was_recorded_is_a_trace_of_a_card_on_which_not_all_fit() -> None:
    trace = recorded()
    times = [at for at, _ in trace.arrivals]
    assert times == sorted(times)
    assert len(times) > 1000
    assert {name for _, name in trace.arrivals} == set(trace.models)
    assert sum(model.size for model in trace.models.values()) > sum(trace.devices.values())
    assert all(model.reload_s > 0 and model.service_s > 0 for model in trace.models.values())


def test_on_the_recorded_trace_nobody_waits_longer_in_all_than_with_lru() -> None:
    assert replay(recorded(), "Stoker").cold_s <= replay(recorded(), "LRU").cold_s


def test_on_zipf_requests_wait_at_most_seven_tenths_of_what_they_wait_with_lru() -> None:
    traces = [zipf(seed, hours=1.0) for seed in (1, 2, 3, 4)]
    ours, lru = (sum(replay(t, name).cold_s for t in traces) for name in ("Stoker", "LRU"))
    assert ours <= 0.7 * lru


@pytest.mark.parametrize(
    "trace",
    [
        alternating(1.0, pattern="ABAAC", room=1),
        alternating(2.5, pattern="ABAAC", room=1),
        alternating(1.0, pattern="ABAC"),
        alternating(8.0, pattern="ABAC"),
        alternating(1.0, pattern="AB", room=1),
        stale_favourite(),
        hot_and_rare(),
    ],
    ids=lambda trace: trace.name,
)
def test_on_traces_made_to_thrash_nobody_waits_longer_in_all_than_with_lru(trace: Trace) -> None:
    assert replay(trace, "Stoker").cold_s <= replay(trace, "LRU").cold_s


def test_alternating_demand_is_served_in_turns() -> None:
    """llama-swap#612. LRU swaps at every idle moment; neither may keep anybody waiting for ever."""
    trace = hot_and_rare()
    ours, lru = replay(trace, "Stoker"), replay(trace, "LRU")
    assert ours.swaps <= 0.75 * lru.swaps
    assert ours.longest_s <= 4 * (5.0 + 5.0) + 5.0 + 1.0
