"""What the controller's shell tells its reconciler about the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stoker.controller.controller import Controller
from stoker.controller.happenings import DemandSeen, DemandUnknown, Happening, Snapshot, Tick
from stoker.controller.settings import ControllerSettings
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.home import Home


class FadingStore:
    """Answers, until it is away."""

    def __init__(self) -> None:
        self.is_away = False

    async def read_demand(self) -> dict[str, Any]:
        if self.is_away:
            raise StoreUnavailable("away")
        return {}

    async def list_functions(self) -> dict[str, Any]:
        return {}

    def unreadable_functions(self) -> frozenset[str]:
        return frozenset({"odd"})

    async def list_replicas(self) -> dict[str, Any]:
        return {}


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
