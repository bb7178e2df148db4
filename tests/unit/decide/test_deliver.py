"""Which record comes next, and what follows a try: every rule as a row."""

from __future__ import annotations

import pytest

from stoker.decide.deliver import (
    LONGEST_PAUSE_S,
    LONGEST_RETRY_S,
    PATIENCE_S,
    Fate,
    Hand,
    Step,
    acknowledged,
    best_reader,
    judge_error,
    judge_status,
    next_step,
    pause_s,
    place_of,
    reads,
    retry_after,
)
from stoker.nouns.errors import (
    DeadlineExceeded,
    FunctionNotFound,
    FunctionUnhealthy,
    HandlerFailed,
    NoCapacity,
    QueueFull,
    ShuttingDown,
    StokerError,
    StoreUnavailable,
    WorkerLost,
)

NOW = 100.0


@pytest.mark.parametrize(
    ("status", "fate"),
    [(200, Fate.DONE), (204, Fate.DONE), (302, Fate.DONE), (400, Fate.FAILED), (500, Fate.FAILED)],
)
def test_a_status_of_400_and_above_is_a_failed_try(status: int, fate: Fate) -> None:
    assert judge_status(status) is fate


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (NoCapacity("x"), Fate.POSTPONED),
        (QueueFull("x"), Fate.POSTPONED),
        (FunctionUnhealthy("x"), Fate.POSTPONED),
        (FunctionNotFound("x"), Fate.POSTPONED),
        (ShuttingDown("x"), Fate.POSTPONED),
        (StoreUnavailable("x"), Fate.POSTPONED),
        (WorkerLost("x"), Fate.FAILED),
        (HandlerFailed("x"), Fate.FAILED),
        (DeadlineExceeded("x"), Fate.FAILED),
    ],
)
def test_only_what_a_handler_may_have_seen_counts_as_a_try(error: StokerError, fate: Fate) -> None:
    assert judge_error(error) is fate


def test_waits_double_up_to_a_bound_and_the_last_try_has_none_after_it() -> None:
    waits = [retry_after(n, limit=12, first_s=1.0) for n in range(1, 13)]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[10] == LONGEST_RETRY_S
    assert waits[11] is None
    assert retry_after(1, limit=1, first_s=1.0) is None
    assert retry_after(5000, limit=9999, first_s=1.0) == LONGEST_RETRY_S


def test_a_function_that_takes_nothing_is_asked_ever_more_rarely() -> None:
    pauses = [pause_s(n, None) for n in range(1, 9)]
    assert pauses[:3] == [0.5, 1.0, 2.0]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert pause_s(1, 7.0) == 7.0
    assert pause_s(1, 900.0) == LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("hand", "step", "until"),
    [
        # An empty hand asks for more, unless it has just looked.
        (Hand(), Step.TAKE, None),
        (Hand(look_at=NOW + 2), Step.WAIT, NOW + 2),
        (Hand(look_at=NOW), Step.TAKE, None),
        # What is in hand goes out before more is asked for.
        (Hand(ready=1), Step.DELIVER, None),
        (Hand(ready=1, look_at=NOW + 2), Step.DELIVER, None),
        # A due retry goes before everything else, one that is not due lets the rest pass.
        (Hand(ready=1, aside=1, due=NOW), Step.RETRY, None),
        (Hand(ready=1, aside=1, due=NOW + 1), Step.DELIVER, None),
        (Hand(aside=1, due=NOW + 1), Step.TAKE, None),
        (Hand(aside=1, due=NOW + 1, look_at=NOW + 2), Step.WAIT, NOW + 1),
        (Hand(aside=1, due=NOW + 3, look_at=NOW + 2), Step.WAIT, NOW + 2),
        # A batch of failed records is a fault of the function: nothing passes them any more.
        (Hand(ready=1, aside=3, due=NOW + 1), Step.WAIT, NOW + 1),
        (Hand(ready=1, aside=3, due=NOW), Step.RETRY, None),
        # Past the window only an acknowledgement helps.
        (Hand(ready=1, unacked=5), Step.WAIT, None),
        (Hand(ready=1, aside=1, due=NOW, unacked=5), Step.WAIT, None),
        (Hand(ready=1, unacked=4), Step.DELIVER, None),
        # A function that takes nothing is left alone.
        (Hand(ready=1, not_before=NOW + 1), Step.WAIT, NOW + 1),
        (Hand(ready=1, aside=1, due=NOW, not_before=NOW + 1), Step.WAIT, NOW + 1),
        (Hand(ready=1, not_before=NOW), Step.DELIVER, None),
    ],
)
def test_the_next_step(hand: Hand, step: Step, until: float | None) -> None:
    assert next_step(hand, window=5, read_batch=3, now=NOW) == (step, until)


def test_an_offset_acknowledges_what_that_worker_was_given_and_nothing_else() -> None:
    one, other = object(), object()
    unacked = {3: one, 4: other, 5: one, 8: one}
    assert acknowledged(5, unacked, one) == [3, 5]
    assert acknowledged(9, unacked, other) == [4]
    assert acknowledged(2, unacked, one) == []


def test_shards_are_dealt_round_the_workers() -> None:
    assert [place_of(shard, 3) for shard in range(5)] == [0, 1, 2, 0, 1]


def test_every_shard_has_exactly_one_gateway_that_should_read_it() -> None:
    gateways = ["g0", "g1", "g2"]
    leases = [f"stream:projects/x:{shard}:g" for shard in range(60)]
    best = [[g for g in gateways if best_reader(g, gateways, lease)] for lease in leases]
    assert all(len(chosen) == 1 for chosen in best)
    shares = [sum(chosen == [gateway] for chosen in best) for gateway in gateways]
    assert min(shares) >= 10
    # One that is not known yet counts itself in; alone, it reads everything.
    assert all(best_reader("g9", [], lease) for lease in leases)


def test_another_gateway_steps_in_when_nobody_reads() -> None:
    lease = next(
        name for name in (f"s:{n}" for n in range(99)) if not best_reader("g0", ["g1"], name)
    )
    assert not reads("g0", ["g1"], lease, free_since=NOW, now=NOW + PATIENCE_S - 0.1)
    assert reads("g0", ["g1"], lease, free_since=NOW, now=NOW + PATIENCE_S)
    assert reads("g1", ["g0"], lease, free_since=NOW, now=NOW)
