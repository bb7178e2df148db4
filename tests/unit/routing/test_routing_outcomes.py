"""Every accepted request gets exactly one outcome, whatever becomes of workers and clients."""

from __future__ import annotations

from typing import Any

import pytest

from fake_store import function
from stoker.nouns.record import FunctionState
from stoker.nouns.wire import Kind

Floor = Any


async def test_a_full_room_turns_away_the_newest(floor: Floor) -> None:
    # beta9 shed the oldest waiter.
    floor.put(function(env={"STOKER_QUEUE_LIMIT": "2"}))
    wire = await floor.worker("a")
    floor.ask("running")
    waiting = [floor.ask(name)[1] for name in ("one", "two")]
    _, newest = floor.ask("three")
    assert newest.error.code == "queue_full"
    assert newest.error.headers()["Retry-After"] == "1"
    assert all(asker.error is None for asker in waiting)
    wire.respond(1)
    await floor.settle()
    assert wire.ids == ["running", "one"]


async def test_waiting_longer_than_the_worker_wait_is_503_no_capacity(floor: Floor) -> None:
    floor.put(function(trigger={"workerAvailabilityTimeoutMilliseconds": 3000}))
    await floor.worker("a")
    floor.ask()
    _, waiting = floor.ask()
    floor.clock.advance(2.9)
    assert waiting.error is None
    floor.clock.advance(0.2)
    assert waiting.error.code == "no_capacity"
    assert waiting.error.retry_after_s is not None


async def test_waiting_for_a_wake_ends_at_the_readiness_limit_with_the_measured_wake(
    floor: Floor,
) -> None:
    floor.put(function(spec={"readinessTimeoutSeconds": 20}, wake_p90_s=7.5))
    _, waiting = floor.ask()
    floor.clock.advance(19.9)
    assert waiting.error is None
    floor.clock.advance(0.2)
    assert waiting.error.code == "no_capacity"
    assert waiting.error.retry_after_s == 7.5


WAITS = {
    "state": FunctionState.SCALING_FROM_ZERO,
    "message": "waiting for GPU memory held by w1-5418d635",
}


async def test_who_waited_in_vain_for_a_wake_hears_what_it_waited_for(floor: Floor) -> None:
    """It was told only that the function did not become ready, and to try again in 5 s."""
    floor.put(function(spec={"readinessTimeoutSeconds": 20}))
    _, waiting = floor.ask()
    floor.put(function(spec={"readinessTimeoutSeconds": 20}, **WAITS))
    floor.clock.advance(20.1)
    assert waiting.error.message == (
        "echo did not become ready within 20 s: waiting for GPU memory held by w1-5418d635"
    )


@pytest.mark.parametrize(
    "said",
    [
        WAITS | {"candidate": True},
        WAITS | {"state": FunctionState.READY},
        WAITS | {"message": ""},
    ],
)
async def test_what_is_said_of_something_else_is_no_reason(
    floor: Floor, said: dict[str, Any]
) -> None:
    floor.put(function(spec={"readinessTimeoutSeconds": 20}, **said))
    _, waiting = floor.ask()
    floor.clock.advance(20.1)
    assert waiting.error.message == "echo did not become ready within 20 s"


async def test_a_room_gives_up_each_request_in_its_own_time(floor: Floor) -> None:
    floor.put(function(spec={"readinessTimeoutSeconds": 20}))
    _, first = floor.ask()
    floor.clock.advance(10)
    _, second = floor.ask()
    floor.clock.advance(10.1)
    assert first.error is not None
    assert second.error is None
    floor.clock.advance(10.1)
    assert second.error is not None


async def test_after_a_wake_the_wait_is_for_a_busy_worker_counted_from_then(floor: Floor) -> None:
    floor.put(function(spec={"readinessTimeoutSeconds": 20}))
    floor.ask("one")
    _, second = floor.ask("two")
    floor.clock.advance(15)
    await floor.worker("a")
    floor.clock.advance(9.9)
    assert second.error is None
    floor.clock.advance(0.2)
    assert second.error.code == "no_capacity"


async def test_a_wake_is_asked_once_while_requests_pile_up(floor: Floor) -> None:
    floor.put()
    for _ in range(5):
        floor.ask()
    assert floor.wakes == ["echo"]


async def test_after_a_failed_wake_the_next_request_asks_again(floor: Floor) -> None:
    # Nuclio's DLX replays a stale readiness verdict, even a 504, to every caller for 60 s.
    floor.put(function(spec={"readinessTimeoutSeconds": 20}))
    _, failed = floor.ask()
    floor.clock.advance(21)
    assert failed.error is not None
    _, fresh = floor.ask()
    assert fresh.error is None
    assert floor.wakes == ["echo", "echo"]
    wire = await floor.worker("a")
    wire.respond(1)
    assert fresh.response


async def test_no_wake_is_asked_while_a_worker_starts_but_again_when_it_dies(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a", phase="starting")
    _, asker = floor.ask()
    assert floor.wakes == []
    floor.listening = False
    wire.end()
    await floor.settle()
    assert floor.wakes == ["echo"]
    assert asker.error is None


@pytest.mark.parametrize("state", [FunctionState.UNHEALTHY, FunctionState.ERROR])
async def test_a_broken_function_says_why_at_once(floor: Floor, state: FunctionState) -> None:
    floor.put(function(state=state, message="init_context raised", serving=False, candidate=True))
    _, asker = floor.ask()
    assert asker.error.code == "function_unhealthy"
    assert "init_context raised" in asker.error.message
    assert floor.wakes == []


async def test_a_crash_loop_fails_those_who_wait_with_the_reason(floor: Floor) -> None:
    floor.put()
    _, asker = floor.ask()
    floor.put(function(state=FunctionState.UNHEALTHY, message="it crashed 5 times"))
    assert asker.error.code == "function_unhealthy"
    assert "5 times" in asker.error.message


async def test_a_failed_redeploy_does_not_close_a_function_that_serves_from_zero(
    floor: Floor,
) -> None:
    floor.put(function(state=FunctionState.ERROR, message="build failed", candidate=True))
    _, asker = floor.ask()
    assert asker.error is None
    assert floor.wakes == ["echo"]


async def test_the_deadline_ends_a_waiting_request(floor: Floor) -> None:
    floor.put()
    _, asker = floor.ask(deadline_s=2)
    floor.clock.advance(2.1)
    assert asker.error.code == "deadline_exceeded"
    wire = await floor.worker("a")
    assert wire.ids == []


async def test_the_deadline_cancels_a_running_request_and_its_permit_stays_taken(
    floor: Floor,
) -> None:
    floor.put()
    wire = await floor.worker("a")
    _, asker = floor.ask(deadline_s=2)
    floor.ask("next")
    floor.clock.advance(2.1)
    await floor.settle()
    assert asker.error.code == "deadline_exceeded"
    assert wire.cancelled == [1]
    assert "next" not in wire.ids
    wire.say(Kind.END, 1, {"outcome": "cancelled"})
    assert "next" in wire.ids


async def test_a_deadline_that_has_passed_already_is_never_dispatched(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    _, asker = floor.ask(deadline_s=-0.1)
    assert asker.error.code == "deadline_exceeded"
    assert wire.ids == []


async def test_cancelling_a_waiting_request_frees_its_place(floor: Floor) -> None:
    floor.put(function(env={"STOKER_QUEUE_LIMIT": "1"}))
    call, gone = floor.ask("gone")
    call.cancel()
    _, asker = floor.ask("next")
    wire = await floor.worker("a")
    assert wire.ids == ["next"]
    assert gone.error is None
    assert asker.error is None


async def test_cancelling_a_running_request_reaches_the_worker_once(floor: Floor) -> None:
    # LitServe#165: GPU work went on after the client hung up.
    floor.put()
    wire = await floor.worker("a")
    call, asker = floor.ask()
    call.cancel()
    call.cancel()
    await floor.settle()
    assert wire.cancelled == [1]
    wire.respond(1)
    assert asker.response is None


@pytest.mark.parametrize(
    ("method", "idempotent", "retried"),
    [("GET", False, True), ("POST", False, False), ("POST", True, True), ("PUT", False, False)],
)
async def test_a_worker_that_dies_at_a_request_is_survived_where_that_is_safe(
    floor: Floor, method: str, idempotent: bool, retried: bool
) -> None:
    floor.put()
    dying = await floor.worker("a")
    _, asker = floor.ask("one", method=method, idempotent=idempotent)
    other = await floor.worker("b")
    dying.end()
    await floor.settle()
    if retried:
        assert other.ids == ["one"]
        other.respond(1)
        assert asker.response
    else:
        assert other.ids == []
        assert asker.error.code == "worker_lost"
        assert asker.error.status == 502


async def test_a_request_is_retried_once_not_for_ever(floor: Floor) -> None:
    floor.put()
    first = await floor.worker("a")
    _, asker = floor.ask()
    second = await floor.worker("b")
    first.end()
    await floor.settle()
    second.end()
    assert asker.error.code == "worker_lost"


async def test_a_post_that_only_waited_in_the_dead_workers_inbox_is_retried(floor: Floor) -> None:
    floor.put()
    dying = await floor.worker("a", permits=2)
    _, started = floor.ask("started", method="POST")
    _, queued = floor.ask("queued", method="POST")
    await floor.settle()
    dying.say(Kind.QUEUED, 1)
    dying.say(Kind.QUEUED, 2)
    dying.say(Kind.STARTED, 1)
    other = await floor.worker("b")
    dying.end()
    await floor.settle()
    assert started.error.code == "worker_lost"
    assert other.ids == ["queued"]
    other.respond(1)
    assert queued.response


async def test_a_post_that_never_left_this_process_is_retried(floor: Floor) -> None:
    floor.put()
    dying = await floor.worker("a", permits=2)
    _, sent = floor.ask("sent", method="POST")
    _, unsent = floor.ask("unsent", method="POST")  # in the same turn: still in our own buffer
    dying.end()
    assert sent.error.code == "worker_lost"
    other = await floor.worker("b")
    assert other.ids == ["unsent"]
    other.respond(1)
    assert unsent.response


async def test_a_stream_cut_by_a_dying_worker_ends_in_an_error_and_is_not_run_again(
    floor: Floor,
) -> None:
    floor.put()
    dying = await floor.worker("a")
    _, asker = floor.ask()
    other = await floor.worker("b")
    dying.say(Kind.HEAD, 1, {"status": 200, "headers": {}})
    dying.say(Kind.CHUNK, 1, raw=b"half")
    dying.end()
    await floor.settle()
    assert asker.chunks == [b"half"]
    assert asker.error.code == "worker_lost"
    assert other.ids == []


async def test_a_stream_is_paused_resumed_and_ended(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    call, asker = floor.ask()
    wire.say(Kind.HEAD, 1, {"status": 200, "headers": {}})
    call.pause()
    call.resume()
    await floor.settle()
    assert [kind for kind, stream, _ in wire.frames if stream == 1][1:] == [Kind.PAUSE, Kind.RESUME]
    wire.say(Kind.CHUNK, 1, raw=b"x")
    wire.say(Kind.END, 1, {"outcome": "ok"})
    assert (asker.chunks, asker.ended) == ([b"x"], True)


async def test_a_generator_that_raises_ends_its_stream_with_an_error(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    _, asker = floor.ask()
    wire.say(Kind.HEAD, 1, {"status": 200, "headers": {}})
    wire.say(Kind.END, 1, {"outcome": "error", "message": "division by zero"})
    assert asker.error.code == "handler_failed"
    assert "division" in asker.error.message


async def test_closing_the_router_answers_those_who_wait(floor: Floor) -> None:
    floor.put()
    _, asker = floor.ask()
    await floor.router.close()
    assert asker.error.code == "shutting_down"


async def test_wakes_are_counted_and_waiting_is_told_apart(floor: Floor) -> None:
    floor.put()
    cold, _ = floor.ask()
    floor.clock.advance(0.3)
    await floor.worker("a")
    assert cold.cold
    assert cold.warm_at - cold.arrived == pytest.approx(0.3)
    assert floor.router.lanes["echo"].cold_starts == 1


async def test_a_request_that_met_an_orderly_end_runs_elsewhere_whatever_its_method(
    floor: Floor,
) -> None:
    # It was written to the socket of a worker that had just decided to exit: no handler saw it.
    floor.put()
    first = await floor.worker("a")
    _, asker = floor.ask("late", method="POST")
    first.state("stopped")
    assert first.closed
    second = await floor.worker("b")
    first.end()
    await floor.settle()
    assert second.ids == ["late"]
    second.respond(1)
    assert asker.response is not None


async def test_demand_names_the_busy_replicas_and_counts_answers(floor: Floor) -> None:
    floor.put()
    busy = await floor.worker("a")
    await floor.worker("b")
    floor.ask("one")
    demand = floor.router.demand()["echo"]
    assert demand.by_replica == {"a": 1}
    busy.respond(1)
    demand = floor.router.demand()["echo"]
    assert (demand.by_replica, demand.answered) == ({}, 1)


async def test_a_secret_that_an_exception_quotes_does_not_reach_the_caller(floor: Floor) -> None:
    floor.put(
        function(
            state=FunctionState.UNHEALTHY,
            message="ValueError: bad password hunter2-hunter2",
            serving=False,
            candidate=True,
            env={"DB_PASSWORD": "hunter2-hunter2"},
        )
    )
    _, asker = floor.ask()
    assert "bad password" in asker.error.message
    assert "hunter2" not in asker.error.message
