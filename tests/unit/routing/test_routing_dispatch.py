"""Which worker gets a request, who waits, and in what order."""

from __future__ import annotations

from typing import Any

import pytest

from fake_store import function, replica
from stoker.nouns.errors import FunctionNotFound
from stoker.nouns.wire import Kind

Floor = Any


async def test_a_request_goes_to_a_warm_worker_and_its_answer_comes_back(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    _, asker = floor.ask("one")
    assert wire.ids == ["one"]
    wire.respond(wire.requests[0][0], b"answer")
    assert asker.response[1] == b"answer"


async def test_one_worker_runs_one_request_and_the_next_follows_on_its_answer(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    floor.ask("one")
    floor.ask("two")
    assert wire.ids == ["one"]
    wire.respond(1)
    await floor.settle()
    assert wire.ids == ["one", "two"]


async def test_load_is_spread_over_equal_workers(floor: Floor) -> None:
    floor.put()
    wires = [await floor.worker(name, permits=4) for name in "abc"]
    for _ in range(6):
        floor.ask()
    await floor.settle()
    assert [len(wire.requests) for wire in wires] == [2, 2, 2]


async def test_those_who_waited_for_a_wake_are_served_in_order_of_arrival(floor: Floor) -> None:
    # gateway-api-inference-extension#2117: requests queued during 0→N were never dispatched.
    floor.put()
    askers = [floor.ask(f"q{i}")[1] for i in range(6)]
    first = await floor.worker("a", permits=2)
    second = await floor.worker("b", permits=2)
    await floor.settle()
    assert (first.ids, second.ids) == (["q0", "q1"], ["q2", "q3"])
    first.respond(first.requests[0][0])
    second.respond(second.requests[0][0])
    await floor.settle()
    assert (first.ids[2:], second.ids[2:]) == (["q4"], ["q5"])
    for wire in (first, second):
        for stream, _ in wire.requests[1:]:
            wire.respond(stream)
    assert all(asker.response for asker in askers)


async def test_the_first_worker_of_a_wake_takes_only_its_permits(floor: Floor) -> None:
    # knative#9888: the first replica of a scale-up took the whole stampede.
    floor.put()
    for _ in range(50):
        floor.ask()
    first = await floor.worker("a", permits=1)
    assert len(first.requests) == 1
    second = await floor.worker("b", permits=1)
    assert len(second.requests) == 1


async def test_a_newcomer_does_not_overtake_those_who_wait(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    for name in ("one", "two", "three"):
        floor.ask(name)
    for stream in (1, 2):
        wire.respond(stream)
        await floor.settle()
        floor.ask()
    assert wire.ids == ["one", "two", "three"]


async def test_busy_sends_the_request_elsewhere_and_the_worker_gets_none_until_idle(
    floor: Floor,
) -> None:
    floor.put()
    full, other = await floor.worker("a", permits=2), await floor.worker("b", permits=2)
    floor.ask("one")
    full.say(Kind.BUSY, 1, {"reason": "full"})
    await floor.settle()
    assert other.ids == ["one"]
    floor.ask("two")
    await floor.settle()
    assert (full.ids, other.ids) == (["one"], ["one", "two"])
    floor.ask("three")
    assert full.ids == ["one"]
    full.say(Kind.IDLE, 0)
    await floor.settle()
    assert full.ids == ["one", "three"]


async def test_requests_refused_by_a_busy_worker_keep_their_order(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a", permits=3)
    for name in ("one", "two", "three", "four"):
        floor.ask(name)
    await floor.settle()
    for stream in (1, 2, 3):
        wire.say(Kind.BUSY, stream, {"reason": "full"})
    wire.say(Kind.IDLE, 0)
    await floor.settle()
    assert wire.ids[3:] == ["one", "two", "three"]


async def test_a_request_racing_scale_down_is_served_not_lost(floor: Floor) -> None:
    # llama-swap#946, ollama#17408: a TTL-unload racing a request hung it for ever;
    # knative#3759: requests were dropped at scale-down.
    floor.put()
    wire = await floor.worker("a")
    _, asker = floor.ask("late", method="POST")
    wire.say(Kind.BUSY, 1, {"reason": "draining"})
    assert asker.error is None
    assert floor.wakes == ["echo"]
    fresh = await floor.worker("b")
    assert fresh.ids == ["late"]
    fresh.respond(1)
    assert asker.response


async def test_a_draining_worker_finishes_what_it_has_and_gets_nothing_more(floor: Floor) -> None:
    floor.put()
    old, new = await floor.worker("a", permits=2), await floor.worker("b", permits=2)
    _, asker = floor.ask("one")
    floor.router.put_replica(replica("a", "a", draining=True))
    floor.ask("two")
    floor.ask("three")
    await floor.settle()
    assert (old.ids, new.ids) == (["one"], ["two", "three"])
    assert not old.closed
    old.respond(1)
    assert asker.response
    assert old.closed


async def test_traffic_moves_to_the_new_revision_only_when_it_serves(floor: Floor) -> None:
    floor.put(function(number=1, candidate=True))
    old = await floor.worker("a", permits=9)
    candidate = await floor.worker("b", permits=9, revision=2)
    floor.ask("before")
    assert (old.ids, candidate.ids) == (["before"], [])
    floor.put(function(number=2))
    floor.ask("after")
    assert candidate.ids == ["after"]
    candidate.end()
    floor.ask("fallback")
    await floor.settle()
    assert "fallback" in old.ids


async def test_an_unknown_function_is_answered_with_similar_names(floor: Floor) -> None:
    floor.put(function("embedder"))
    with pytest.raises(FunctionNotFound) as caught:
        floor.ask(of="embeder")
    assert caught.value.detail["near"] == ["embedder"]


async def test_a_worker_replaced_at_the_same_socket_is_found_again(floor: Floor) -> None:
    floor.put()
    first = await floor.worker("a")
    first.end()
    await floor.settle()
    second = floor.wires["a"]
    assert second is not first
    second.state()
    _, asker = floor.ask("one")
    second.respond(1)
    assert asker.response


async def test_a_resync_keeps_a_connected_worker_whose_record_has_expired(floor: Floor) -> None:
    floor.put()
    alive = await floor.worker("a")
    dead = await floor.worker("b")
    dead.state("starting")
    floor.router.resync({"echo": function()}, {})
    _, asker = floor.ask("one")
    assert alive.ids == ["one"]
    assert dead.closed
    alive.respond(1)
    assert asker.response


async def test_a_resync_removes_functions_that_are_gone(floor: Floor) -> None:
    floor.put()
    _, asker = floor.ask()
    floor.router.resync({}, {})
    assert isinstance(asker.error, FunctionNotFound)
    assert floor.router.lanes == {}


async def test_replicas_announced_before_their_function_are_used(floor: Floor) -> None:
    floor.router.put_replica(replica("a", "a"))
    floor.put()
    await floor.settle()
    floor.wires["a"].state()
    floor.ask("one")
    assert floor.wires["a"].ids == ["one"]


async def test_demand_tells_what_runs_what_waits_and_how_long(floor: Floor) -> None:
    floor.put()
    await floor.worker("a")
    floor.ask()
    floor.ask()
    floor.clock.advance(2.0)
    demand = floor.router.demand()["echo"]
    assert (demand.in_flight, demand.waiting, demand.arrivals) == (1, 1, 2)
    assert demand.oldest_wait_s == pytest.approx(2.0)
    assert demand.last_active > 1e9


async def test_a_ping_is_answered(floor: Floor) -> None:
    floor.put()
    wire = await floor.worker("a")
    pongs: list[int] = []
    wire.link.ping(lambda: pongs.append(1))
    assert wire.frames[-1][0] == Kind.PING
    wire.say(Kind.PONG, 0)
    assert pongs == [1]


async def test_a_worker_that_speaks_nonsense_is_dropped_and_its_requests_get_an_outcome(
    floor: Floor, caplog: pytest.LogCaptureFixture
) -> None:
    floor.put()
    wire = await floor.worker("a")
    _, asker = floor.ask(method="POST")
    wire.say(Kind.HELLO, 0)
    assert wire.closed
    wire.end()
    assert asker.error.code == "worker_lost"


async def test_a_sleeping_worker_gets_nothing_and_is_woken_once(floor: Floor) -> None:
    floor.put()
    sleeper = await floor.worker("a", phase="asleep")
    floor.ask("one")
    floor.ask("two")
    assert floor.wakes == ["echo"]
    assert sleeper.ids == []
    sleeper.state("starting")
    sleeper.state("ready")
    assert sleeper.ids == ["one"]


async def test_a_request_that_met_a_worker_falling_asleep_waits_for_its_wake(floor: Floor) -> None:
    floor.put()
    sleeper = await floor.worker("a")
    _, asker = floor.ask("one", method="POST")
    assert floor.wakes == []
    sleeper.say(Kind.BUSY, 1, {"reason": "asleep"})
    assert floor.wakes == ["echo"], "it sleeps: nothing is on its way unasked"
    sleeper.state("asleep")
    sleeper.state("starting")
    sleeper.state("ready")
    assert sleeper.ids == ["one", "one"]
    sleeper.respond(2)
    assert asker.response is not None
