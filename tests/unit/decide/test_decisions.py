"""The smaller decisions, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.decide.admit import Verdict, admit
from stoker.decide.place import deal, place
from stoker.decide.restart import GIVE_UP_AFTER, LONGEST_DELAY_S, WINDOW_S, restart
from stoker.decide.retry import may_retry
from stoker.decide.route import choose, eligible_revision
from stoker.decide.scale import (
    SUSTAINED_S,
    Bounds,
    Load,
    ReplicaFacts,
    ScaleMemory,
    desired_replicas,
    victims,
)
from stoker.nouns.record import FunctionState, Phase

READY, ERROR, UNHEALTHY = FunctionState.READY, FunctionState.ERROR, FunctionState.UNHEALTHY


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({"free_permits": 1, "warm": 1}, Verdict.DISPATCH),
        ({"free_permits": 1, "warm": 1, "waiting": 1}, Verdict.WAIT),
        ({"warm": 1}, Verdict.WAIT),
        ({"starting": 1}, Verdict.WAIT),
        ({}, Verdict.WAKE),
        ({"waiting": 3}, Verdict.WAKE),
        ({"waiting": 4}, Verdict.FULL),
        ({"waiting": 4, "warm": 1}, Verdict.FULL),
        ({"state": ERROR}, Verdict.UNHEALTHY),
        ({"state": UNHEALTHY}, Verdict.UNHEALTHY),
        # The verdict on a failed redeploy does not touch the revision that still serves …
        ({"state": ERROR, "free_permits": 1, "warm": 1}, Verdict.DISPATCH),
        ({"state": UNHEALTHY, "warm": 1}, Verdict.WAIT),
        # … nor an attempt that is under way.
        ({"state": UNHEALTHY, "starting": 1}, Verdict.WAIT),
    ],
)
def test_admission(facts: dict[str, Any], verdict: Verdict) -> None:
    base = {"free_permits": 0, "waiting": 0, "queue_limit": 4, "warm": 0, "starting": 0}
    assert admit(**{**base, "state": READY, **facts}) is verdict


@pytest.mark.parametrize(
    ("outstanding", "permits", "start", "index"),
    [
        ([], [], 0, None),
        ([0], [1], 5, 0),
        ([1], [1], 0, None),
        ([3, 1, 2], [4, 4, 4], 0, 1),
        ([0, 0, 0], [1, 1, 1], 1, 1),
        ([0, 0, 0], [1, 1, 1], 4, 1),
        ([1, 3], [1, 9], 0, 1),
    ],
)
def test_the_least_loaded_worker_with_a_free_permit_is_chosen(
    outstanding: list[int], permits: list[int], start: int, index: int | None
) -> None:
    assert choose(outstanding, permits, start) == index


@pytest.mark.parametrize(
    ("serving", "ready", "revision"),
    [(2, {1, 2}, 2), (2, {1}, 1), (2, {3}, None), (2, set(), None), (5, {1, 3, 6}, 3)],
)
def test_a_candidate_gets_no_traffic(serving: int, ready: set[int], revision: int | None) -> None:
    assert eligible_revision(serving, ready) == revision


@pytest.mark.parametrize(
    ("method", "key", "started", "attempts", "again"),
    [
        ("POST", False, False, 1, True),
        ("POST", False, True, 1, False),
        ("POST", True, True, 1, True),
        ("POST", True, True, 2, False),
        ("GET", False, True, 1, True),
        ("GET", False, True, 2, False),
        ("PUT", False, True, 1, False),
    ],
)
def test_a_request_is_run_again_only_when_that_is_safe(
    method: str, key: bool, started: bool, attempts: int, again: bool
) -> None:
    decided = may_retry(method=method, idempotency_key=key, started=started, attempts=attempts)
    assert decided is again


def test_the_first_crash_is_an_accident_and_the_next_ones_wait_longer_and_longer() -> None:
    delays = [
        restart(range(n), now=n, served_since_last=False).delay_s for n in range(1, GIVE_UP_AFTER)
    ]
    assert delays[0] == 0.0
    assert delays == sorted(delays)
    assert len(set(delays)) == len(delays)


def test_a_crash_loop_is_given_up() -> None:
    decided = restart([0.0] * GIVE_UP_AFTER, now=1.0, served_since_last=False)
    assert decided.give_up
    assert decided.delay_s <= LONGEST_DELAY_S


@pytest.mark.parametrize("crashes", [[0.0] * 50, [5.0]])
def test_a_worker_that_served_since_starts_anew(crashes: list[float]) -> None:
    decided = restart(crashes, now=5.0, served_since_last=True)
    assert (decided.delay_s, decided.give_up) == (0.0, False)


def test_old_crashes_are_forgotten() -> None:
    crashes = [0.0, 1.0, 2.0, 3.0, WINDOW_S + 10.0]
    decided = restart(crashes, now=WINDOW_S + 10.0, served_since_last=False)
    assert (decided.delay_s, decided.give_up) == (0.0, False)


BOUNDS = Bounds(minimum=0, maximum=3, permits=2, idle_window_s=10.0)


def scale(
    load: Load, current: int, memory: ScaleMemory, now: float, **changes: Any
) -> tuple[int, ScaleMemory]:
    bounds = Bounds(**{**{f: getattr(BOUNDS, f) for f in BOUNDS.__slots__}, **changes})
    return desired_replicas(load, bounds, current, memory, desired_zero=False, now=now)


def test_the_first_request_wakes_at_once() -> None:
    assert scale(Load(0, 1, 0.0), 0, ScaleMemory(), 0.0)[0] == 1


def test_a_burst_adds_nothing_and_a_lasting_queue_adds_what_it_needs() -> None:
    load = Load(in_flight=2, waiting=3, last_active=0.0)
    wanted, memory = scale(load, 1, ScaleMemory(), 0.0)
    assert wanted == 1
    wanted, memory = scale(load, 1, memory, SUSTAINED_S)
    assert wanted == 3


def test_a_queue_counts_even_when_nothing_is_in_flight() -> None:
    """ray#22601: an autoscaler that is blind to queue length."""
    memory = scale(Load(0, 9, 0.0), 1, ScaleMemory(), 0.0)[1]
    assert scale(Load(0, 9, 0.0), 1, memory, SUSTAINED_S)[0] == 3


def test_it_goes_to_zero_only_after_the_whole_window() -> None:
    idle = Load(0, 0, last_active=0.0)
    wanted, memory = scale(idle, 1, ScaleMemory(), 0.0)
    assert wanted == 1
    wanted, memory = scale(idle, 1, memory, 9.9)
    assert wanted == 1
    assert scale(idle, 1, memory, 10.1)[0] == 0


def test_a_request_between_two_looks_starts_the_window_again() -> None:
    memory = scale(Load(0, 0, last_active=0.0), 1, ScaleMemory(), 0.0)[1]
    wanted, memory = scale(Load(0, 0, last_active=8.0), 1, memory, 11.0)
    assert wanted == 1
    assert scale(Load(0, 0, last_active=8.0), 1, memory, 18.1)[0] == 0


def test_it_goes_down_to_what_the_window_needed_and_does_not_flap() -> None:
    """ray#18925: a load in waves must not take replicas away between the waves."""
    memory = ScaleMemory()
    wave = [Load(0, 0, 0.0), Load(3, 0, 5.0), Load(0, 0, 5.0)]
    for now, load in zip((0.0, 5.0, 6.0), wave, strict=True):
        wanted, memory = scale(load, 3, memory, now)
        assert wanted == 3
    busy = Load(3, 0, last_active=7.0)
    memory = ScaleMemory(surplus_since=7.0, peak=2)
    assert scale(busy, 3, memory, 17.5)[0] == 2


def test_a_light_load_keeps_one_replica_and_no_more() -> None:
    memory = scale(Load(0, 0, last_active=0.0), 3, ScaleMemory(), 0.0)[1]
    assert scale(Load(0, 0, last_active=10.0), 3, memory, 10.1)[0] == 1


def test_a_minimum_is_kept() -> None:
    assert scale(Load(0, 0, 0.0), 0, ScaleMemory(), 0.0, minimum=2)[0] == 2
    memory = ScaleMemory(surplus_since=0.0)
    assert scale(Load(0, 0, 0.0), 2, memory, 99.0, minimum=2)[0] == 2


def test_asked_to_sleep_it_sleeps_now_but_not_over_work() -> None:
    for load, wanted in [(Load(0, 0, 0.0), 0), (Load(1, 0, 0.0), 1)]:
        decided = desired_replicas(load, BOUNDS, 1, ScaleMemory(), desired_zero=True, now=0.0)
        assert decided[0] == wanted


def facts(name: str, phase: Phase, in_flight: int = 0, created_at: float = 0.0) -> ReplicaFacts:
    return ReplicaFacts(name, phase, in_flight, created_at)


@pytest.mark.parametrize(
    ("replicas", "surplus", "gone"),
    [
        ([facts("a", Phase.READY, 1)], 1, ()),
        ([facts("a", Phase.READY), facts("b", Phase.STARTING)], 1, ("b",)),
        ([facts("a", Phase.READY, 0, 1.0), facts("b", Phase.READY, 0, 2.0)], 1, ("b",)),
        ([facts("a", Phase.READY, 3), facts("b", Phase.READY)], 2, ("b",)),
        ([facts("a", Phase.DRAINING)], 1, ()),
        ([facts("a", Phase.READY)], 0, ()),
    ],
)
def test_no_replica_with_work_goes_and_a_starting_one_goes_first(
    replicas: list[ReplicaFacts], surplus: int, gone: tuple[str, ...]
) -> None:
    """knative#3759; ray#43034 and kserve#1247 for the order."""
    assert victims(replicas, surplus) == gone


@pytest.mark.parametrize(
    ("free", "gpus", "need", "devices"),
    [
        ({"a": 16, "b": 8}, 1, 4, ("b",)),
        ({"a": 16, "b": 8}, 1, 9, ("a",)),
        ({"a": 16, "b": 8}, 1, 17, None),
        ({"a": 16, "b": 8}, 2, 8, ("b", "a")),
        ({"a": 16}, 2, 1, None),
        ({}, 0, 0, ()),
    ],
)
def test_placement_is_best_fit_on_different_devices(
    free: dict[str, int], gpus: int, need: int, devices: tuple[str, ...] | None
) -> None:
    assert place(free, gpus=gpus, bytes_per_gpu=need) == devices


@pytest.mark.parametrize(
    ("devices", "workers", "dealt"),
    [
        ([], 2, ((), ())),
        (["a", "b"], 4, (("a",), ("b",), ("a",), ("b",))),
        (["a", "b"], 2, (("a",), ("b",))),
        (["a", "b"], 1, (("a", "b"),)),
    ],
)
def test_worker_i_gets_device_i_mod_g(
    devices: list[str], workers: int, dealt: tuple[tuple[str, ...], ...]
) -> None:
    assert deal(devices, workers) == dealt
