"""Functions that answer nobody any more: deleted, disabled; and rooms that hold no more bytes."""

from __future__ import annotations

from typing import Any

import pytest

from fake_store import function
from stoker.nouns.wire import Kind
from stoker.sdk.routing import room as rooms

Floor = Any


async def test_a_request_refused_by_a_worker_of_a_deleted_function_hears_it_at_once(
    floor: Floor,
) -> None:
    floor.put()
    worker = await floor.worker("w1")
    _, asker = floor.ask("a")
    floor.router.remove_function("echo")
    worker.say(Kind.BUSY, worker.requests[0][0], {"reason": "draining"})
    assert asker.error.code == "function_not_found"
    assert floor.wakes == []


async def test_a_request_whose_worker_dies_after_the_function_was_deleted_hears_it_at_once(
    floor: Floor,
) -> None:
    floor.put()
    worker = await floor.worker("w1")
    _, asker = floor.ask("a", method="GET")
    floor.router.remove_function("echo")
    worker.end()
    assert asker.error.code == "function_not_found"


@pytest.mark.parametrize("busy", [False, True])
async def test_a_request_that_found_its_function_before_the_deletion_hears_of_it(
    floor: Floor, busy: bool
) -> None:
    # Its body may come long after its head, which named the function.
    floor.put()
    worker = await floor.worker("w1")
    lane = floor.router.lanes["echo"]
    sent = 0
    if busy:
        floor.ask("a")
        sent = 1
    floor.router.remove_function("echo")
    call, asker = floor.make("late", method="POST")
    lane.submit(call)
    assert asker.error.code == "function_not_found"
    assert len(worker.requests) == sent
    assert floor.wakes == []


async def test_what_runs_when_its_function_is_deleted_may_finish(floor: Floor) -> None:
    floor.put()
    worker = await floor.worker("w1")
    _, asker = floor.ask("a")
    floor.router.remove_function("echo")
    worker.respond(worker.requests[0][0], b"done")
    assert asker.response[1] == b"done"


async def test_disabling_a_function_turns_everyone_away_and_enabling_lets_them_in(
    floor: Floor,
) -> None:
    floor.put()
    worker = await floor.worker("w1")
    _, running = floor.ask("a")
    _, waiting = floor.ask("b")
    floor.put(function(number=2, spec={"disable": True}))
    assert waiting.error.code == "function_unhealthy"
    assert "is disabled" in str(waiting.error)
    worker.respond(worker.requests[0][0], b"done")
    assert running.response[1] == b"done"
    _, late = floor.ask("c")
    assert late.error.code == "function_unhealthy"
    assert floor.wakes == []
    floor.put(function(number=3))
    _, again = floor.ask("d")
    assert again.error is None
    assert worker.ids == ["a", "d"]


async def test_bodies_that_wait_are_bounded_together(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "ROOM_BYTES", 10)
    floor.put()
    lane = floor.router.lanes["echo"]
    askers = {}
    for name, size in (("huge", 100), ("second", 1)):
        call, askers[name] = floor.make(name, body=b"x" * size)
        lane.submit(call)
    assert askers["huge"].error is None  # alone, it may be of any size
    assert askers["second"].error.code == "queue_full"
    assert askers["second"].error.retry_after_s > 0
    worker = await floor.worker("w1")
    assert worker.ids == ["huge"]
    assert lane.room.held == 0


async def test_the_bytes_that_wait_are_counted_through_every_way_out(floor: Floor) -> None:
    floor.put()
    lane = floor.router.lanes["echo"]
    first, _ = floor.make("first", body=b"12345")
    second, _ = floor.make("second", body=b"123", deadline_s=1.0)
    third, _ = floor.make("third", body=b"1")
    for call in (first, second, third):
        lane.submit(call)
    assert lane.room.held == 9
    first.cancel()
    floor.clock.advance(2.0)
    assert lane.room.held == 1
    worker = await floor.worker("w1")
    assert lane.room.held == 0
    worker.say(Kind.BUSY, worker.requests[0][0], {"reason": "full"})
    assert lane.room.held == 1
    floor.router.remove_function("echo")
    assert lane.room.held == 0
