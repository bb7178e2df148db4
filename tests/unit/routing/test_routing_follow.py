"""Following the store: all of it or a part, and what is told back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fake_store import FakeStore, function, replica
from stoker.nouns.event import Topic
from stoker.sdk.routing import Router
from stoker.sdk.routing.follow import Follower, Pace, for_ever

QUICK = Pace(demand_every_s=0.001, report_every_s=0.005)
RESTS = Pace(demand_every_s=0.001, report_every_s=0.005, rests=True)


class Post:
    """A follower at work."""

    def __init__(self, pace: Pace, wanted: set[str] | None) -> None:
        self.store = FakeStore()
        self.dialled: list[str] = []
        self.router = Router({"role": "graph", "peer": "t"}, self.wake, dial=self.dial)
        self.follower = Follower(self.store, self.router, "t", pace, wanted)
        self.tasks: list[asyncio.Task[None]] = []

    def wake(self, name: str) -> None:
        self.follower.wake(name)

    async def dial(self, link: Any) -> None:
        self.dialled.append(link.socket)

    async def start(self) -> None:
        for work in (self.follower.follow, self.follower.report_demand):
            self.tasks.append(asyncio.create_task(for_ever(work)))
        await self.follower.until_ready()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.router.close()


@pytest.fixture
async def post() -> AsyncIterator[Callable[..., Post]]:
    made: list[Post] = []

    def make(pace: Pace = QUICK, wanted: set[str] | None = None) -> Post:
        made.append(Post(pace, wanted))
        return made[-1]

    yield make
    for one in made:
        await one.stop()


def deploy(store: FakeStore, name: str) -> None:
    store.functions[name] = function(name)
    store.replicas[f"r-{name}"] = replica(f"r-{name}", f"/{name}.sock", of=name)


async def test_all_functions_are_followed_unless_some_are_named(post: Any) -> None:
    everything, some = post(), post(wanted={"b"})
    for one in (everything, some):
        for name in "abc":
            deploy(one.store, name)
        await one.start()
    await everything.until(lambda: len(everything.dialled) == 3)
    await some.until(lambda: some.dialled)
    assert set(everything.router.lanes) == set("abc")
    assert (set(some.router.lanes), some.dialled) == ({"b"}, ["/b.sock"])


async def test_announcements_about_other_functions_change_nothing(post: Any) -> None:
    some = post(wanted={"b"})
    deploy(some.store, "b")
    await some.start()
    deploy(some.store, "c")
    some.store.announce(Topic.FUNCTION, "c")
    some.store.announce(Topic.REPLICA, "r-c")
    some.store.functions["b"] = function("b", message="changed")
    some.store.announce(Topic.FUNCTION, "b")
    await some.until(lambda: some.router.lanes["b"].record.message == "changed")
    assert set(some.router.lanes) == {"b"}
    assert "/c.sock" not in some.dialled


async def test_a_function_that_is_wanted_later_is_there_at_once(post: Any) -> None:
    some = post(wanted=set())
    deploy(some.store, "b")
    await some.start()
    await some.follower.want("b")
    await some.until(lambda: some.dialled == ["/b.sock"])
    del some.store.functions["b"]
    some.store.announce(Topic.FUNCTION, "b")
    await some.until(lambda: not some.router.lanes)


async def test_a_reading_that_failed_is_repeated_before_anything_else(post: Any) -> None:
    one = post(wanted={"b"})
    deploy(one.store, "b")
    one.store.available = False
    starting = asyncio.create_task(one.start())
    await asyncio.sleep(0.01)
    assert not one.follower.ready
    one.store.available = True
    await starting
    assert set(one.router.lanes) == {"b"}


async def test_who_rests_tells_no_more_until_it_is_stirred(post: Any) -> None:
    one = post(pace=RESTS, wanted={"b"})
    deploy(one.store, "b")
    await one.start()
    await one.until(lambda: one.store.reports)
    await asyncio.sleep(0.03)
    count = len(one.store.reports)
    await asyncio.sleep(0.03)
    assert len(one.store.reports) == count
    one.router.lanes["b"].arrivals += 1
    one.follower.stir()
    await one.until(lambda: len(one.store.reports) > count)


async def test_who_does_not_rest_is_heard_of_all_the_time(post: Any) -> None:
    one = post()
    await one.start()
    await one.until(lambda: len(one.store.reports) > 5)
