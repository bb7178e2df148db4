"""A canary beside what serves: who is dealt to it, who never is, and what is counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest

from fake_store import function, replica
from stoker.decide.split import by_key
from stoker.nouns.errors import DeadlineExceeded, WorkerLost
from stoker.nouns.evidence import Tally
from stoker.nouns.record import Canary, FunctionRecord, Revision
from stoker.nouns.rollout import CanarySpec
from stoker.nouns.wire import Kind, frame_with_meta

Floor = Any


def tried(share: float = 0.5, sticky: str = "", number: int = 2) -> FunctionRecord:
    record = function()
    assert record.serving is not None
    canary = Canary(
        revision=Revision(number=number, document=record.serving.document),
        spec=CanarySpec(share=share, sticky=sticky),
        share=share,
        started_at=5.0,
    )
    return record.model_copy(update={"canary": canary})


def tally(floor: Floor) -> Tally:
    found: Tally | None = floor.router.demand()["echo"].tally
    assert found is not None
    return found


async def both(floor: Floor, record: FunctionRecord, permits: int = 1000) -> tuple[Any, Any]:
    """A worker of what serves and one of the canary."""
    floor.put(record)
    stable = await floor.worker("old", permits=permits)
    fresh = await floor.worker("new", permits=permits, revision=2)
    return stable, fresh


async def test_requests_are_dealt_by_the_share(floor: Floor) -> None:
    stable, fresh = await both(floor, tried(0.2))
    for _ in range(500):
        floor.ask()
    await floor.settle()
    assert abs(len(fresh.requests) - 100) <= 3
    assert len(stable.requests) + len(fresh.requests) == 500


async def test_a_header_keeps_who_sends_it_on_one_side(floor: Floor) -> None:
    _, fresh = await both(floor, tried(0.3, sticky="X-User"))
    users = [f"u{number}" for number in range(100)]
    for turn in range(3):
        for user in users:
            call, _ = floor.make(f"{user}/{turn}")
            call.headers = {"x-user": user}
            floor.router.submit("echo", call)
    await floor.settle()
    met = Counter(name.partition("/")[0] for name in fresh.ids)
    assert set(met.values()) == {3}
    assert set(met) == {user for user in users if by_key(0.3, user, 2)}


async def test_what_the_canary_cannot_take_at_once_goes_to_what_serves(floor: Floor) -> None:
    floor.put(tried(1.0))
    stable = await floor.worker("old", permits=10)
    fresh = await floor.worker("new", permits=1, revision=2)
    for name in ("one", "two", "three"):
        floor.ask(name)
    await floor.settle()
    assert (fresh.ids, stable.ids) == (["one"], ["two", "three"])


async def test_a_canary_that_is_not_ready_gets_nothing(floor: Floor) -> None:
    floor.put(tried(1.0))
    stable = await floor.worker("old", permits=10)
    fresh = await floor.worker("new", phase="starting", revision=2)
    floor.ask("one")
    assert (stable.ids, fresh.ids) == (["one"], [])
    fresh.state("ready")
    floor.ask("two")
    assert fresh.ids == ["two"]


async def test_a_request_that_a_canary_refuses_is_served_by_the_other(floor: Floor) -> None:
    stable, fresh = await both(floor, tried(1.0))
    _, asker = floor.ask("one")
    fresh.say(Kind.BUSY, 1, {"reason": "draining"})
    await floor.settle()
    assert stable.ids == ["one"]
    stable.respond(1)
    assert asker.response is not None
    counted = tally(floor)
    assert (counted.stable.requests, counted.canary.requests) == (1, 0)


async def test_who_waits_for_what_serves_is_not_dealt_to_the_canary(floor: Floor) -> None:
    floor.put(tried(0.000001))
    fresh = await floor.worker("new", permits=4, revision=2)
    floor.ask("one")
    assert floor.wakes == ["echo"]
    assert fresh.ids == []
    stable = await floor.worker("old")
    assert stable.ids == ["one"]


async def test_both_sides_are_counted_from_the_canarys_beginning(floor: Floor) -> None:
    floor.put()
    stable = await floor.worker("old", permits=10)
    floor.ask("before")
    stable.respond(1)
    assert floor.router.demand()["echo"].tally is None
    floor.put(tried(1.0))
    fresh = await floor.worker("new", permits=1, revision=2)
    call, _ = floor.ask("tried")
    floor.ask("beside")
    floor.clock.advance(0.2)
    fresh.respond(1)
    stable.respond(2)
    assert call.revision == 2
    counted = tally(floor)
    assert (counted.revision, counted.canary.requests, counted.stable.requests) == (2, 1, 1)
    assert counted.canary.latency == counted.stable.latency
    (bucket,) = counted.canary.latency
    assert bucket > 80  # 0.2 s, and not the 0 s of a clock that was not looked at


@pytest.mark.parametrize(
    ("status", "failed"), [(200, 0), (404, 0), (429, 0), (500, 1), (503, 1), (99, 1), (700, 1)]
)
async def test_what_is_a_failure_of_a_revision(floor: Floor, status: int, failed: int) -> None:
    _, fresh = await both(floor, tried(1.0))
    floor.ask()
    answer(fresh, 1, status)
    counted = tally(floor).canary
    assert (counted.requests, counted.errors) == (1, failed)


async def test_a_lost_worker_is_counted_once_whether_its_requests_run_again_or_not(
    floor: Floor,
) -> None:
    stable, fresh = await both(floor, tried(1.0))
    _, again = floor.ask("again", method="GET")
    _, lost = floor.ask("lost", method="POST")
    await floor.settle()
    fresh.end()
    assert isinstance(lost.error, WorkerLost)
    await floor.settle()
    assert stable.ids == ["again"]
    stable.respond(1)
    assert again.response is not None
    counted = tally(floor)
    assert (counted.canary.requests, counted.canary.errors) == (2, 2)
    assert (counted.stable.requests, counted.stable.errors) == (1, 0)


async def test_a_deadline_that_passes_in_a_revisions_hands_is_its_failure(floor: Floor) -> None:
    await both(floor, tried(1.0))
    _, asker = floor.ask(deadline_s=1.0)
    floor.clock.advance(1.1)
    assert isinstance(asker.error, DeadlineExceeded)
    counted = tally(floor).canary
    assert (counted.requests, counted.errors) == (1, 1)


async def test_a_request_that_no_worker_had_says_nothing_of_a_revision(floor: Floor) -> None:
    floor.put(tried(0.5))
    floor.ask(deadline_s=1.0)
    floor.clock.advance(1.1)
    counted = tally(floor)
    assert (counted.stable.requests, counted.canary.requests) == (0, 0)


async def test_a_client_that_leaves_has_waited_so_long_and_a_hanging_request_shows(
    floor: Floor,
) -> None:
    _, fresh = await both(floor, tried(1.0))
    call, _ = floor.ask()
    floor.clock.advance(4)
    assert tally(floor).oldest_s == pytest.approx(4)
    call.cancel()
    counted = tally(floor)
    assert (counted.canary.requests, counted.canary.errors) == (1, 0)
    floor.clock.advance(6)
    assert tally(floor).oldest_s == pytest.approx(10)
    fresh.respond(1)
    assert tally(floor).oldest_s == 0
    assert tally(floor).canary.requests == 1


async def test_a_stream_is_as_fast_as_its_head_and_fails_when_it_breaks(floor: Floor) -> None:
    _, fresh = await both(floor, tried(1.0))
    floor.ask()
    fresh.say(Kind.HEAD, 1, {"status": 200, "headers": {}})
    floor.clock.advance(60)
    assert tally(floor).oldest_s == 0
    fresh.say(Kind.END, 1, {"outcome": "error", "message": "no more"})
    counted = tally(floor).canary
    assert (counted.requests, counted.errors, counted.latency) == (1, 1, {0: 1})


async def test_the_end_of_a_canary_strands_nobody(floor: Floor) -> None:
    stable, fresh = await both(floor, tried(1.0))
    _, inside = floor.ask("inside")
    floor.put(function())
    floor.ask("after")
    assert (fresh.ids, stable.ids) == (["inside"], ["after"])
    floor.router.put_replica(replica("new", "new", revision=2, draining=True))
    fresh.respond(1)
    assert inside.response is not None
    assert floor.router.demand()["echo"].tally is None


async def test_a_promoted_canary_takes_all_and_what_waits_with_it(floor: Floor) -> None:
    stable, fresh = await both(floor, tried(0.5), permits=1)
    for _ in range(6):
        floor.ask()
    await floor.settle()
    promoted = function(number=2)
    floor.put(promoted)
    for count in range(1, 7):
        if count in dict(fresh.requests):
            fresh.respond(count)
            await floor.settle()
    assert len(stable.requests) == 1
    assert len(fresh.requests) == 5


async def test_a_rewritten_record_goes_on_with_its_counts_and_another_canary_begins_anew(
    floor: Floor,
) -> None:
    _, fresh = await both(floor, tried(1.0))
    floor.ask()
    fresh.respond(1)
    before = tally(floor)
    floor.put(tried(1.0))
    assert tally(floor) == before
    floor.put(tried(1.0, number=3))
    after = tally(floor)
    assert (after.revision, after.canary.requests) == (3, 0)
    assert after.id != before.id


def answer(wire: Any, stream: int, status: int) -> None:
    meta = orjson.dumps({"status": status, "headers": {}})
    wire.link.data_received(frame_with_meta(Kind.RESPONSE, stream, meta, b""))


async def test_a_record_of_a_stream_is_never_dealt_to_a_canary_nor_counted(floor: Floor) -> None:
    stable, fresh = await both(floor, tried(1.0))
    call, _ = floor.make("record")
    call.record = {
        "kind": "v3ioStream",
        "topic": "projects/shop/orders",
        "shard": 0,
        "shards": 1,
        "offset": 1,
        "time": 0.0,
        "explicit": False,
    }
    floor.router.submit("echo", call)
    assert (stable.ids, fresh.ids) == (["record"], [])
    stable.respond(1)
    assert tally(floor).stable.requests == 0


async def test_a_stream_that_is_lost_with_its_worker_is_one_failure_of_that_revision(
    floor: Floor,
) -> None:
    _, fresh = await both(floor, tried(1.0))
    floor.ask()
    fresh.say(Kind.HEAD, 1, {"status": 200, "headers": {}})
    fresh.end()
    counted = tally(floor)
    assert (counted.canary.requests, counted.canary.errors) == (1, 1)
    assert counted.stable.errors == 0


async def test_a_request_that_was_refused_and_then_given_up_is_no_revisions_failure(
    floor: Floor,
) -> None:
    floor.put(tried(1.0))
    fresh = await floor.worker("new", revision=2)
    _, asker = floor.ask(deadline_s=1.0)
    fresh.say(Kind.BUSY, 1, {"reason": "draining"})
    floor.clock.advance(1.1)
    assert isinstance(asker.error, DeadlineExceeded)
    assert tally(floor).canary.requests == 0
