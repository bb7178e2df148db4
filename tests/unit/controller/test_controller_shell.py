"""What the controller's shell tells its reconciler about the store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stoker.controller.controller import Controller
from stoker.controller.happenings import DemandSeen, DemandUnknown, Happening, Snapshot, Tick
from stoker.controller.settings import ControllerSettings
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.home import Home
from stoker.nouns.record import Revision


class FadingStore:
    """Answers, until it is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.expired: set[str] = set()

    async def read_demand(self) -> dict[str, Any]:
        if self.is_away:
            raise StoreUnavailable("away")
        return {}

    async def list_functions(self) -> dict[str, Any]:
        return {}

    async def announced(self) -> int:
        if self.is_away:
            raise StoreUnavailable("away")
        return 0

    def unreadable_functions(self) -> frozenset[str]:
        return frozenset({"odd"})

    async def list_replicas(self) -> dict[str, Any]:
        return {}

    async def heartbeat_replicas(self, ids: list[str]) -> set[str]:
        return set(ids) & self.expired


def told(controller: Controller) -> list[Happening]:
    events = []
    while not controller._events.empty():
        events.append(controller._events.get_nowait())
    return events


async def test_a_tick_without_the_store_says_that_the_demand_is_unknown(tmp_path: Path) -> None:
    store: Any = FadingStore()
    controller = Controller(store, Home(tmp_path), ControllerSettings(devices="cpu"))
    await controller._tick()
    store.is_away = True
    await controller._tick()
    assert told(controller) == [DemandSeen({}), Tick(), DemandUnknown(), Tick()]


async def test_a_reading_of_everything_names_the_unreadable_and_the_code_that_lies_about(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    home.code("fn", 1).mkdir(parents=True)
    store: Any = FadingStore()
    controller = Controller(store, home, ControllerSettings(devices="cpu"))
    controller._missed = True
    await controller._read_all()
    expected = Snapshot({}, {}, unreadable=frozenset({"odd"}), code=frozenset({"fn"}))
    assert told(controller) == [expected]


async def test_replicas_whose_records_expired_are_written_again(tmp_path: Path) -> None:
    """A machine that sleeps lets them expire. A gateway that was started later knew of no worker,
    asked for a wake, and had none: the controller saw the function warm."""
    store: Any = FadingStore()
    controller = Controller(store, Home(tmp_path), ControllerSettings(devices="cpu"))
    world = SimpleNamespace(replicas={"r1": None, "r2": None})
    controller._reconciler = SimpleNamespace(world=world)  # type: ignore[assignment]
    await controller._heartbeat()
    await controller._tick()
    assert Snapshot not in map(type, told(controller))
    store.expired = {"r2"}
    await controller._heartbeat()
    await controller._tick()
    assert Snapshot in map(type, told(controller))


async def test_a_duty_that_breaks_is_done_again_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It took the controller with it: no descriptor left for one log folder, and nothing woke."""
    store: Any = FadingStore()
    controller = Controller(store, Home(tmp_path), ControllerSettings(devices="cpu"))
    controller._adopted = True
    tries, enough = 0, asyncio.Event()

    async def _breaks() -> None:
        nonlocal tries
        tries += 1
        if tries > 3:
            enough.set()
        raise OSError("too many open files")

    duty = asyncio.create_task(controller._observe_time(0.0, _breaks))
    async with asyncio.timeout(20):
        await enough.wait()
    assert not duty.done()
    duty.cancel()
    assert [line for line in caplog.messages if "breaks failed" in line] == [
        "breaks failed and is tried again"
    ]


def a_function(**attributes: Any) -> Any:
    trigger = {"kind": "cron", "attributes": attributes}
    document = {"metadata": {"name": "fn"}, "spec": {"triggers": {"beat": trigger}}}
    serving = Revision(number=1, document=document)
    return SimpleNamespace(record=SimpleNamespace(serving=serving))


async def test_a_function_that_cannot_be_read_silences_no_other_functions_crons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = FadingStore()
    controller = Controller(store, Home(tmp_path), ControllerSettings(devices="cpu"))
    functions = {"bad": a_function(event="no mapping"), "fn": a_function(interval="1s")}
    world = SimpleNamespace(functions=functions)
    controller._reconciler = SimpleNamespace(world=world)  # type: ignore[assignment]
    fired: list[str] = []
    monkeypatch.setattr(controller._firings, "start", lambda one: fired.append(one.function))
    await controller._fire_crons()
    controller._crontab._next = dict.fromkeys(controller._crontab._next, 0.0)
    await controller._fire_crons()
    assert fired == ["fn"]
