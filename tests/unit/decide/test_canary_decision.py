"""Canaries: the split, the latencies, and the verdict over tables and over chance."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from stoker.decide.canary import Action, judge, lower_limit, replicas, shown
from stoker.decide.latency import above, bucket_of, end_of, quantile
from stoker.decide.split import by_key, by_turn
from stoker.nouns.evidence import Evidence, Side
from stoker.nouns.rollout import CanaryBounds, CanarySpec

LENGTH_S = 60.0


def spec(**bounds: Any) -> CanarySpec:
    return CanarySpec(length_s=LENGTH_S, min_requests=50, bounds=CanaryBounds(**bounds))


def side(requests: int, errors: int = 0, seconds: float = 0.02, slow: int = 0) -> Side:
    """Most took ``seconds``, ``slow`` of them ten times as long."""
    latency = {bucket_of(seconds): requests - slow, bucket_of(10 * seconds): slow}
    return Side(
        requests=requests,
        errors=errors,
        latency={bucket: count for bucket, count in latency.items() if count},
    )


def seen(canary: Side, stable: Side | None = None, **facts: Any) -> Evidence:
    return Evidence(canary=canary, stable=stable or side(1000), **facts)


GO_ON, PROMOTE, ROLL_BACK = Action.GO_ON, Action.PROMOTE, Action.ROLL_BACK


@pytest.mark.parametrize(
    ("story", "facts", "elapsed_s", "bounds", "action"),
    [
        ("nothing was asked yet", seen(side(0), side(0)), 0, {}, GO_ON),
        ("well so far", seen(side(100)), 10, {}, GO_ON),
        ("well to the end", seen(side(100)), 60, {}, PROMOTE),
        ("time is up, but too few asked", seen(side(49)), 600, {}, GO_ON),
        ("all fail, but too few asked to say", seen(side(49, 49)), 1, {}, GO_ON),
        ("all fail", seen(side(50, 50)), 1, {}, ROLL_BACK),
        ("one of fifty fails: may be chance", seen(side(50, 1)), 1, {}, GO_ON),
        ("five of fifty fail: is none", seen(side(50, 5)), 1, {}, ROLL_BACK),
        ("it fails as often as the other", seen(side(50, 5), side(1000, 100)), 60, {}, PROMOTE),
        ("beyond, but not surely, in time", seen(side(50, 1)), 59, {}, GO_ON),
        ("beyond, but not surely, at the end", seen(side(50, 1)), 61, {}, GO_ON),
        ("beyond, but not surely, twice over", seen(side(50, 1)), 121, {}, ROLL_BACK),
        ("ten times as slow", seen(side(50, seconds=0.2)), 1, {}, ROLL_BACK),
        ("a third slower is allowed", seen(side(100, seconds=0.0266)), 60, {}, PROMOTE),
        (
            "thrice as slow, by less than the margin",
            seen(side(100, seconds=0.0015), side(1000, seconds=0.0005)),
            60,
            {},
            PROMOTE,
        ),
        (
            "thrice as slow, and no margin is declared",
            seen(side(100, seconds=0.0015), side(1000, seconds=0.0005)),
            1,
            {"latency_margin_ms": 0},
            ROLL_BACK,
        ),
        (
            "next to nothing, and slower by more than the margin",
            seen(side(100, seconds=0.008), side(1000, seconds=0.0005)),
            1,
            {},
            ROLL_BACK,
        ),
        (
            "is to be faster, and is as fast",
            seen(side(100, seconds=0.001), side(1000, seconds=0.001)),
            1,
            {"latency_ratio": 0.8},
            ROLL_BACK,
        ),
        ("slow is allowed", seen(side(50, seconds=0.2)), 60, {"latency_ratio": None}, PROMOTE),
        ("three slow ones of fifty", seen(side(50, slow=3)), 1, {}, GO_ON),
        ("ten slow ones of fifty", seen(side(50, slow=10)), 1, {}, ROLL_BACK),
        ("slow, nobody beside it", seen(side(50, seconds=0.2), side(0)), 60, {}, PROMOTE),
        (
            "slower than a limit in itself",
            seen(side(50, seconds=0.2), side(0)),
            1,
            {"latency_ratio": None, "latency_ms": 100},
            ROLL_BACK,
        ),
        (
            "answers otherwise",
            seen(side(0), mirrored=60, differing=30),
            1,
            {"differing": 0.1},
            ROLL_BACK,
        ),
        (
            "answers otherwise: not judged",
            seen(side(60), mirrored=60, differing=30),
            60,
            {},
            PROMOTE,
        ),
        (
            "answers otherwise now and then",
            seen(side(60), mirrored=60, differing=6),
            60,
            {"differing": 0.1},
            PROMOTE,
        ),
        ("a request hangs", seen(side(3), oldest_s=11), 12, {}, ROLL_BACK),
        ("a request takes long", seen(side(3), oldest_s=9), 12, {}, GO_ON),
        (
            "a request takes long, where that is usual",
            seen(side(3), side(1000, seconds=5), oldest_s=60),
            61,
            {},
            GO_ON,
        ),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_canary_is_judged_by_its_bounds(
    story: str, facts: Evidence, elapsed_s: float, bounds: dict[str, Any], action: Action
) -> None:
    verdict = judge(spec(**bounds), facts, elapsed_s=elapsed_s)
    assert verdict.action is action, (story, verdict.why)
    assert verdict.why


def test_the_reason_names_what_was_seen_and_the_bound() -> None:
    failing = judge(spec(), seen(side(50, 20), side(1000, 10)), elapsed_s=1)
    assert failing.why == (
        "20 of 50 requests failed (40.0%), 1.0% beside it; the bound is 1.0% more"
    )
    slow = judge(spec(), seen(side(50, seconds=0.2)), elapsed_s=1)
    assert "1.5 times the" in slow.why
    assert "beside it" in slow.why
    quick = judge(spec(), seen(side(50, seconds=0.02), side(1000, seconds=0.001)), elapsed_s=1)
    assert quick.why.endswith("the bound is 6.0 ms, 5 ms more than the 1.0 ms beside it")


def outcome(rng: random.Random, failing: float, slower: float, usual_s: float = 0.02) -> Action:
    """A canary that gets 5 % of 10,000 requests and is looked at again and again."""
    counts = {True: [0, 0], False: [0, 0]}
    latency: dict[bool, dict[int, int]] = {True: {}, False: {}}
    for turn in range(10_000):
        tried = by_turn(0.05, turn)
        counts[tried][0] += 1
        counts[tried][1] += rng.random() < (failing if tried else 0.002)
        bucket = bucket_of(rng.lognormvariate(0, 0.7) * usual_s * (slower if tried else 1))
        latency[tried][bucket] = latency[tried].get(bucket, 0) + 1
        if turn % 100 == 99:
            sides = [
                Side(requests=counts[one][0], errors=counts[one][1], latency=latency[one])
                for one in (True, False)
            ]
            elapsed_s = LENGTH_S * (turn + 1) / 10_000
            verdict = judge(spec(), Evidence(canary=sides[0], stable=sides[1]), elapsed_s=elapsed_s)
            if verdict.action is not Action.GO_ON:
                return verdict.action
    return Action.GO_ON


def test_noise_rolls_nothing_back_and_what_is_worse_never_passes() -> None:
    rng = random.Random(20)
    assert {outcome(rng, failing=0.002, slower=1.0) for _ in range(20)} == {Action.PROMOTE}
    assert {outcome(rng, failing=0.002, slower=1.15) for _ in range(20)} == {Action.PROMOTE}
    assert {outcome(rng, failing=0.10, slower=1.0) for _ in range(20)} == {Action.ROLL_BACK}
    assert {outcome(rng, failing=0.002, slower=2.5) for _ in range(20)} == {Action.ROLL_BACK}


def test_what_a_busy_machine_adds_to_a_handler_that_does_nothing_rolls_nothing_back() -> None:
    """One of the two processes shares its core with something else, and takes twice as long."""
    rng = random.Random(21)
    for usual_s in (0.0001, 0.0003, 0.001):
        told = {outcome(rng, failing=0.002, slower=2.0, usual_s=usual_s) for _ in range(5)}
        assert told == {Action.PROMOTE}


def test_a_verdict_is_never_reached_by_way_of_what_is_no_number() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        sides = []
        for _ in range(2):
            requests = rng.choice([0, 1, 49, 50, 1000])
            latency = {rng.randrange(201): rng.randrange(1, 50) for _ in range(rng.randrange(4))}
            sides.append(Side(requests=requests, errors=rng.randint(0, requests), latency=latency))
        facts = Evidence(canary=sides[0], stable=sides[1], oldest_s=rng.random() * 20)
        verdict = judge(spec(latency_ms=5.0), facts, elapsed_s=rng.random() * 200)
        assert "nan" not in verdict.why
        assert "inf" not in verdict.why
        assert "nan" not in str(shown(facts)).lower()
        if verdict.action is not Action.GO_ON and facts.oldest_s < 10:
            assert sides[0].requests >= 50


def test_more_failures_never_turn_a_rollback_into_anything_else() -> None:
    for requests in (50, 200, 1000):
        actions = [
            judge(spec(), seen(side(requests, errors)), elapsed_s=1).action
            for errors in range(requests + 1)
        ]
        assert actions == sorted(actions, key=[GO_ON, ROLL_BACK].index)


def test_the_lower_limit_lies_below_what_was_seen_and_nears_it() -> None:
    for total in (1, 10, 100, 10_000):
        limits = [lower_limit(part, total) for part in range(0, total + 1, max(1, total // 10))]
        assert limits == sorted(limits)
        assert all(0 <= limit <= 1 for limit in limits)
    assert lower_limit(5, 50) < lower_limit(50, 500) < lower_limit(500, 5000) < 0.1


# The split


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("start", [0, 12345, 1 << 20])
def test_after_any_number_of_requests_the_canary_has_had_its_share(
    share: float, start: int
) -> None:
    dealt = 0
    for count in range(1, 2001):
        dealt += by_turn(share, start + count)
        assert abs(dealt - share * count) <= 3


def test_a_client_that_repeats_itself_does_not_meet_the_canary_with_one_kind_of_request() -> None:
    met = {turn % 20 for turn in range(2000) if by_turn(0.05, turn)}
    assert len(met) == 20


def test_a_key_meets_the_same_revision_always_and_other_keys_meet_the_next_canary() -> None:
    users = [f"user-{number}" for number in range(5000)]
    first = {user for user in users if by_key(0.1, user, 4)}
    assert first == {user for user in users if by_key(0.1, user, 4)}
    assert 400 < len(first) < 600
    assert first < {user for user in users if by_key(0.2, user, 4)}
    again = {user for user in users if by_key(0.1, user, 5)}
    assert len(first & again) < 100
    assert not [user for user in users if not by_key(1.0, user, 4)]


# Latencies


def test_buckets_follow_each_other_and_hold_what_they_say() -> None:
    for exponent in range(-40, 80):
        seconds = 10 ** (exponent / 10)
        bucket = bucket_of(seconds)
        assert end_of(bucket) >= min(seconds, end_of(200)) * (1 - 1e-9)
        if 0 < bucket < 200:
            assert end_of(bucket - 1) < seconds
    for odd in (0.0, -1.0, math.nan):
        assert bucket_of(odd) == 0
    assert bucket_of(1e12) == 200


def test_a_quantile_is_right_to_within_a_bucket() -> None:
    rng = random.Random(3)
    times = [rng.lognormvariate(-3, 1) for _ in range(5000)]
    counts: dict[int, int] = {}
    for seconds in times:
        counts[bucket_of(seconds)] = counts.get(bucket_of(seconds), 0) + 1
    for share in (0.5, 0.9, 0.95, 0.99):
        exact = sorted(times)[int(share * len(times)) - 1]
        assert quantile(counts, share) == pytest.approx(exact, rel=0.1)
    assert quantile({}, 0.95) is None
    limit = sorted(times)[4500]
    assert above(counts, limit) == pytest.approx(500, rel=0.15)
    assert above(counts, 0.0) == 5000


def test_a_canary_has_a_replica_however_little_it_is_asked() -> None:
    assert [replicas(0.05, n, 1, 4) for n in (0, 1, 20, 21, 60, 1000)] == [1, 1, 1, 2, 3, 4]
