"""Copies of the serving revision's requests: when they are made, and that nobody waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from fake_store import function
from stoker.nouns.errors import HandlerFailed
from stoker.nouns.evidence import Tally
from stoker.nouns.record import Canary, FunctionRecord, Revision
from stoker.nouns.rollout import CanarySpec
from stoker.nouns.wire import Kind, frame_with_meta, split_meta
from stoker.sdk.routing import mirror as module

Floor = Any
Worker = Any
JSON = {"content-type": "application/json"}


def tried(mirror: float = 1.0, **spec: Any) -> FunctionRecord:
    """A function with a canary that is dealt next to nothing."""
    record = function()
    assert record.serving is not None
    canary = Canary(
        revision=Revision(number=2, document=record.serving.document),
        spec=CanarySpec(share=1e-9, mirror=mirror, **spec),
        share=1e-9,
        started_at=5.0,
    )
    return record.model_copy(update={"canary": canary})


def counts(floor: Floor) -> tuple[int, int, int, int]:
    """Mirrored, differing, failed, dropped."""
    found: Tally | None = floor.router.demand()["echo"].tally
    assert found is not None
    return found.mirrored, found.differing, found.mirror_failed, found.mirror_dropped


async def both(floor: Floor, record: FunctionRecord, permits: int = 1000) -> tuple[Worker, Worker]:
    floor.put(record)
    stable = await floor.worker("old", permits=1000)
    return stable, await floor.worker("new", permits=permits, revision=2)


def respond(wire: Worker, body: bytes = b"{}", status: int = 200, **meta: Any) -> None:
    """Answers the last request that a worker got."""
    head = orjson.dumps({"status": status, "headers": JSON, **meta})
    wire.link.data_received(frame_with_meta(Kind.RESPONSE, wire.requests[-1][0], head, body))


def last(wire: Worker) -> tuple[dict[str, Any], bytes]:
    """The last request that a worker got."""
    meta, body = split_meta([p for kind, _, p in wire.frames if kind == Kind.REQUEST][-1])
    return orjson.loads(meta), body


async def test_a_copy_goes_to_the_canary_once_the_client_has_its_answer(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    call, asker = floor.make("one", method="POST", body=b"hello")
    call.headers = {"content-type": "text/plain"}
    copied_before: list[int] = []
    asker.on_response = lambda *_: copied_before.append(len(fresh.ids))
    floor.router.submit("echo", call)
    respond(stable)
    assert copied_before == [0]
    meta, body = last(fresh)
    assert (meta["method"], meta["path"], body) == ("POST", "/", b"hello")
    assert meta["headers"] == {"content-type": "text/plain", "x-stoker-mirror": "1"}
    assert meta["id"] == "one~mirror"
    respond(fresh)
    assert counts(floor) == (1, 0, 0, 0)
    assert call.headers == {"content-type": "text/plain"}


@pytest.mark.parametrize(
    ("body", "status", "differing"),
    [
        (b'{"n": 1.0, "id": 2}', 200, 0),
        (b'{"id": 3, "n": 1.0000001}', 200, 0),
        (b'{"n": 1.1, "id": 2}', 200, 1),
        (b'{"n": 1.0, "id": 2}', 201, 1),
        (b"no JSON", 200, 1),
    ],
)
async def test_the_answers_are_compared_as_declared(
    floor: Floor, body: bytes, status: int, differing: int
) -> None:
    stable, fresh = await both(floor, tried(ignore=("id",), tolerance=1e-3))
    floor.ask()
    respond(stable, b'{"n": 1.0, "id": 2}')
    respond(fresh, body, status)
    assert counts(floor) == (1, differing, 0, 0)


async def test_large_answers_are_compared_in_a_thread(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    floor.ask()
    large = list(range(module.AT_ONCE // 4))
    respond(stable, orjson.dumps(large))
    respond(fresh, orjson.dumps([*large[:-1], -1]))
    async with asyncio.timeout(10):
        while counts(floor)[1] == 0:
            await asyncio.sleep(0.001)
    assert counts(floor) == (1, 1, 0, 0)


async def test_a_canary_that_has_no_permit_free_gets_no_copy(floor: Floor) -> None:
    stable, fresh = await both(floor, tried(), permits=1)
    for _ in range(3):
        floor.ask()
        await floor.settle()
        respond(stable)
    assert len(fresh.ids) == 1
    assert counts(floor) == (0, 0, 0, 2)


async def test_a_canary_that_hangs_holds_up_only_a_few_copies(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    askers = []
    for _ in range(module.IN_FLIGHT + 5):
        askers.append(floor.ask()[1])
        await floor.settle()
        respond(stable)
    assert all(asker.response for asker in askers)
    assert len(fresh.ids) == module.IN_FLIGHT
    assert counts(floor) == (0, 0, 0, 5)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_copy_that_is_lost_is_not_run_anywhere_else(floor: Floor, method: str) -> None:
    stable, fresh = await both(floor, tried())
    _, asker = floor.ask(method=method)
    respond(stable)
    fresh.end()
    await floor.settle()
    assert len(stable.ids) == 1
    assert asker.response is not None
    assert counts(floor) == (0, 0, 1, 0)
    canary = floor.router.demand()["echo"].tally.canary
    assert (canary.requests, canary.errors) == (0, 0), "no client's request was lost"


async def test_a_copy_that_the_canary_refuses_is_dropped(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    floor.ask()
    respond(stable)
    fresh.say(Kind.BUSY, fresh.requests[-1][0], {"reason": "draining"})
    await floor.settle()
    assert len(stable.ids) == 1
    assert counts(floor) == (0, 0, 0, 1)


async def test_a_failure_of_the_canary_is_a_difference_and_a_late_answer_none(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    for code in (HandlerFailed.code, "deadline_exceeded"):
        floor.ask()
        respond(stable)
        respond(fresh, b"no", 500, code=code)
    assert counts(floor) == (1, 1, 1, 0)


async def test_a_canary_that_streams_a_whole_answer_differs_and_is_cut_off(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    floor.ask()
    respond(stable)
    stream = fresh.requests[-1][0]
    fresh.say(Kind.HEAD, stream, {"status": 200, "headers": JSON})
    assert fresh.cancelled == [stream]
    fresh.say(Kind.CHUNK, stream, raw=b"more")
    fresh.say(Kind.END, stream, {"outcome": "cancelled"})
    assert counts(floor) == (1, 1, 0, 0)


async def test_what_is_a_copy_already_is_not_copied(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    for change in (
        lambda call: call.headers.update({"x-stoker-mirror": "1"}),
        lambda call: call.headers.update({"x-stoker-replay": "1"}),
        lambda call: setattr(call, "copied", True),
        lambda call: setattr(call, "trigger", "nightly"),
    ):
        call, _ = floor.make()
        change(call)
        floor.router.submit("echo", call)
        await floor.settle()
        respond(stable)
    floor.ask()
    await floor.settle()
    respond(stable, b"it raised", 500, code=HandlerFailed.code)
    assert fresh.ids == []
    assert counts(floor) == (0, 0, 0, 0)


async def test_bodies_too_large_to_hold_are_not_copied(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    call, _ = floor.make(body=b"x" * (module.LARGEST + 1))
    floor.router.submit("echo", call)
    respond(stable)
    floor.ask()
    await floor.settle()
    respond(stable, b"x" * (module.LARGEST + 1))
    assert fresh.ids == []
    assert counts(floor) == (0, 0, 0, 2)


async def test_a_share_of_the_requests_is_copied(floor: Floor) -> None:
    stable, fresh = await both(floor, tried(mirror=0.25))
    for _ in range(200):
        floor.ask()
        await floor.settle()
        respond(stable)
        if fresh.requests and fresh.link.streams:
            respond(fresh)
    assert abs(counts(floor)[0] - 50) <= 2


async def test_without_a_declared_mirror_nothing_is_copied(floor: Floor) -> None:
    stable, fresh = await both(floor, tried(mirror=0.0))
    floor.ask()
    respond(stable)
    assert fresh.ids == []
    assert counts(floor) == (0, 0, 0, 0)


async def test_what_the_canary_itself_answered_is_not_copied(floor: Floor) -> None:
    record = tried()
    assert record.canary is not None
    floor.put(record.model_copy(update={"canary": record.canary.model_copy(update={"share": 1.0})}))
    await floor.worker("old")
    fresh = await floor.worker("new", permits=5, revision=2)
    floor.ask("one")
    assert fresh.ids == ["one"]
    respond(fresh)
    assert fresh.ids == ["one"]


async def test_copies_are_no_requests_of_the_function(floor: Floor) -> None:
    stable, fresh = await both(floor, tried())
    floor.ask()
    respond(stable)
    respond(fresh)
    demand = floor.router.demand()["echo"]
    assert demand.arrivals == 1
    assert (demand.tally.stable.requests, demand.tally.canary.requests) == (1, 0)
