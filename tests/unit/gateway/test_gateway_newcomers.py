"""A function that was deployed a moment ago, and of which this gateway has not heard yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_store import function, replica
from fake_worker import FakeWorker
from stoker.gateway.newcomers import MOST, Newcomers
from stoker.nouns.errors import StoreUnavailable

Place = Any


async def test_a_request_that_outruns_the_announcement_of_its_function_is_served(
    place: Place,
) -> None:
    """``stoker deploy && curl`` on a busy machine: the answer was a 404 before."""
    client = await place.client()
    place.store.functions["brand-new"] = function("brand-new")  # nothing is announced
    worker = await FakeWorker.start(str(place.folder / "new"), 1, "ready")
    place.workers.append(worker)
    place.store.replicas["new"] = replica("new", worker.path, of="brand-new")
    reply = await client.post("/brand-new/echo", b"hello")
    assert (reply.status, reply.body) == (200, b"hello")


async def test_a_name_that_nobody_has_is_refused_and_asked_for_once_a_while(place: Place) -> None:
    asked: list[str] = []
    get = place.store.get_function

    async def counted(name: str) -> object:
        asked.append(name)
        return await get(name)

    place.store.get_function = counted
    client = await place.client()
    statuses = [(await client.get("/nobody/")).status for _ in range(20)]
    assert set(statuses) == {404}
    assert asked == ["nobody"]


async def test_what_no_function_can_be_called_is_never_asked_for(place: Place) -> None:
    async def never(name: str) -> object:
        raise AssertionError(name)

    place.store.get_function = never
    client = await place.client()
    for path in ("/No_Name/", "/%2e%2e/etc", "/" + "a" * 300):
        assert (await client.get(path)).status == 404


async def test_without_a_store_the_view_is_taken_at_its_word(place: Place) -> None:
    place.store.available = False
    reply = await (await place.client()).get("/nobody/")
    assert (reply.status, reply.code) == (404, "function_not_found")


async def test_one_question_serves_all_who_wait_and_who_leaves_ends_it_for_nobody() -> None:
    asked: list[str] = []
    gate = asyncio.Event()

    async def look_up(name: str) -> None:
        asked.append(name)
        await gate.wait()

    newcomers = Newcomers(look_up)
    leaves = asyncio.create_task(newcomers.ask("f"))
    stays = asyncio.create_task(newcomers.ask("f"))
    await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert newcomers.may_be("f")
    gate.set()
    await stays
    assert asked == ["f"]


async def test_an_answer_holds_for_a_second_and_names_are_bounded() -> None:
    now = [0.0]

    async def look_up(_name: str) -> None:
        raise StoreUnavailable("away")

    newcomers = Newcomers(look_up, lambda: now[0])
    await newcomers.ask("f")
    await asyncio.sleep(0)
    assert not newcomers.may_be("f")
    now[0] = 1.5
    assert newcomers.may_be("f")
    for number in range(MOST):
        await newcomers.ask(f"f{number}")
    await asyncio.sleep(0)
    assert not newcomers.may_be("another")
    now[0] = 3.0
    assert newcomers.may_be("another")
