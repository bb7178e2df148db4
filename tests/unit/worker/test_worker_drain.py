"""How long a worker that drains may take over what it has accepted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from test_worker_desk import Bench, Make, make, turns

from stoker.nouns.wire import Kind, frame

__all__ = ["make"]
AS_LONG_AS_IT_TAKES = frame(Kind.DRAIN, 0, b'{"within_s": null}')
AT_ONCE = frame(Kind.DRAIN, 0, b'{"within_s": 0}')


def slow(make: Make) -> tuple[Bench, asyncio.Event]:
    """A worker whose termination timeout is over at once, and whose handler waits for the event."""
    going = asyncio.Event()

    async def call(_context: Any, event: Any) -> Any:
        await going.wait()
        return event.body

    return make(call, asynchronous=True, termination_s=0.0), going


async def test_one_that_makes_room_finishes_what_it_has_however_long_that_takes(make: Make) -> None:
    bench, going = slow(make)
    caller = bench.caller()
    caller.request(1, b"accepted")
    caller.sock.send(AS_LONG_AS_IT_TAKES)
    await turns()
    assert caller.kinds(1) == []
    going.set()
    meta, body = await caller.response(1)
    assert (meta["status"], body) == (200, b"accepted")
    assert bench.desk.leave.is_set()


async def test_its_hook_has_no_more_than_the_termination_timeout_all_the_same(make: Make) -> None:
    bench, _ = slow(make)
    bench.caller().sock.send(AS_LONG_AS_IT_TAKES)
    await turns()
    assert bench.desk.left_s == 0.0


async def test_a_later_word_shortens_its_time_and_never_lengthens_it(make: Make) -> None:
    bench, _ = slow(make)
    caller = bench.caller()
    caller.request(1)
    caller.sock.send(AS_LONG_AS_IT_TAKES + AT_ONCE + AS_LONG_AS_IT_TAKES)
    meta, _ = await caller.response(1)
    assert (meta["status"], meta["code"]) == (503, "shutting_down")


async def test_without_a_word_on_it_the_functions_own_timeout_counts(make: Make) -> None:
    bench, _ = slow(make)
    caller = bench.caller()
    caller.request(1)
    caller.sock.send(frame(Kind.DRAIN, 0))
    meta, _ = await caller.response(1)
    assert meta["code"] == "shutting_down"
    assert json.loads(next(p for k, _, p in caller.got if k is Kind.STATE))["phase"] == "ready"
