"""A worker whose weights leave the device and come back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from test_worker_desk import Bench, Caller, Make, echo, make, turns

from stoker.nouns.wire import Kind, frame

__all__ = ["make"]
SLEEP, WAKE = frame(Kind.SLEEP, 0), frame(Kind.WAKE, 0)


class Weights:
    """What is on the device, and what happened to it."""

    def __init__(self) -> None:
        self.on_device = True
        self.fails = False

    def leave(self) -> None:
        if self.fails:
            raise RuntimeError("the host has no memory left")
        self.on_device = False

    def come_back(self) -> None:
        if self.fails:
            raise RuntimeError("the device has no memory left")
        self.on_device = True


@pytest.fixture
def weights() -> Weights:
    return Weights()


def with_weights(make: Make, weights: Weights, call: Any = echo, **fields: Any) -> Bench:
    bench = make(call, **fields)
    bench.sleepers.add(weights.leave, weights.come_back)
    return bench


async def until_phase(caller: Caller, phase: str) -> None:
    async with asyncio.timeout(10):
        while caller.phases()[-1:] != [phase]:
            await asyncio.sleep(0)


async def test_it_sleeps_when_idle_refuses_and_serves_again_once_awake(
    make: Make, weights: Weights
) -> None:
    bench = with_weights(make, weights)
    caller = bench.caller()
    caller.sock.send(SLEEP)
    await until_phase(caller, "asleep")
    assert not weights.on_device
    caller.request(1, b"while asleep")
    assert json.loads(await caller.until(Kind.BUSY, 1)) == {"reason": "asleep"}
    caller.sock.send(WAKE)
    await until_phase(caller, "ready")
    assert weights.on_device
    assert caller.phases() == ["ready", "asleep", "starting", "ready"]
    caller.request(2, b"awake")
    assert (await caller.response(2))[1] == b"awake"


async def test_one_with_work_does_not_sleep_and_says_so_to_whoever_asked(
    make: Make, weights: Weights
) -> None:
    going = asyncio.Event()

    async def slow(_context: Any, event: Any) -> Any:
        await going.wait()
        return event.body

    bench = with_weights(make, weights, slow, asynchronous=True)
    caller, other = bench.caller(), bench.caller()
    caller.request(1, b"kept")
    caller.sock.send(SLEEP)
    await turns()
    assert weights.on_device
    assert caller.phases() == ["ready", "ready"]
    assert other.phases() == ["ready"]
    going.set()
    assert (await caller.response(1))[1] == b"kept"


async def test_one_with_nothing_to_take_off_the_device_says_so_and_stays_awake(
    make: Make,
) -> None:
    bench = make(echo)
    caller = bench.caller()
    caller.sock.send(SLEEP)
    caller.request(1, b"here")
    assert (await caller.response(1))[1] == b"here"
    states = [json.loads(entry[2]) for entry in caller.got if entry[0] is Kind.STATE]
    assert [("sleeps" in state, state["phase"]) for state in states] == [(False, "ready")] * 2


async def test_one_that_cannot_leave_the_device_goes_in_an_orderly_way(
    make: Make, weights: Weights
) -> None:
    bench = with_weights(make, weights)
    weights.fails = True
    caller = bench.caller()
    caller.sock.send(SLEEP)
    await until_phase(caller, "draining")
    assert bench.desk.leave.is_set()


async def test_one_that_cannot_come_back_fails_and_says_why(make: Make, weights: Weights) -> None:
    bench = with_weights(make, weights)
    caller = bench.caller()
    caller.sock.send(SLEEP)
    await until_phase(caller, "asleep")
    weights.fails = True
    caller.sock.send(WAKE)
    await until_phase(caller, "failed")
    last = [json.loads(entry[2]) for entry in caller.got if entry[0] is Kind.STATE][-1]
    assert "the device has no memory left" in last["error"]
    caller.request(1)
    assert await caller.until(Kind.BUSY, 1)


async def test_a_sleeper_that_is_told_to_go_goes(make: Make, weights: Weights) -> None:
    bench = with_weights(make, weights)
    caller = bench.caller()
    caller.sock.send(SLEEP + frame(Kind.DRAIN, 0))
    await until_phase(caller, "draining")
    assert bench.desk.leave.is_set()
