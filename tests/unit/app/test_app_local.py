"""What `stoker.local` makes of a home on which something runs already."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.app import local as module
from stoker.app.processes import ProcessRecord, started_at
from stoker.app.settings import Endpoints
from stoker.nouns.errors import Conflict
from stoker.nouns.home import Home

SUPERVISOR = 4711
ALIVE = ProcessRecord(name="kernel", pid=os.getpid(), started=started_at(os.getpid()) or 0)
DEAD = ProcessRecord(name="kernel", pid=os.getpid(), started=1)


def endpoints(**told: Any) -> Endpoints:
    return Endpoints(
        **{
            "home_id": "h",
            "control_url": "http://127.0.0.1:8070",
            "gateway_url": "http://127.0.0.1:8080",
            "redis_url": "unix:///r",
            "devices": "cpu",
            "pid": SUPERVISOR,
            **told,
        }
    )


class Seen:
    """What is found on the home, moment by moment; the last moment stays."""

    def __init__(self) -> None:
        self.moments: list[tuple[int | None, Endpoints | None, bool]] = []

    def __call__(self, *moments: tuple[int | None, Endpoints | None, bool]) -> None:
        self.moments = list(moments)

    def go_on(self, _seconds: float) -> None:
        if len(self.moments) > 1:
            self.moments.pop(0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    made = Seen()
    clock: Callable[[], float] = iter(range(10_000)).__next__
    monkeypatch.setattr(module, "holder", lambda _lock: made.moments[0][0])
    monkeypatch.setattr(
        module, "read_json", lambda _path: (e := made.moments[0][1]) and e.model_dump()
    )
    monkeypatch.setattr(module, "_answers", lambda _url: made.moments[0][2])
    monkeypatch.setattr(module.time, "sleep", made.go_on)
    monkeypatch.setattr(module.time, "monotonic", clock)
    return made


HOME = Home(Path("/h"))


@pytest.mark.parametrize("owner", [None, ALIVE], ids=["kept", "owned"])
def test_one_that_answers_is_used(seen: Seen, owner: ProcessRecord | None) -> None:
    found = endpoints(owner=owner)
    seen((SUPERVISOR, found, True))
    assert module._settled(HOME) == found


def test_one_that_is_starting_is_waited_for(seen: Seen) -> None:
    left, found = endpoints(pid=1), endpoints()
    seen((SUPERVISOR, None, False), (SUPERVISOR, left, True), (SUPERVISOR, found, True))
    assert module._settled(HOME) == found


def test_one_whose_owner_is_gone_is_ending_though_it_answers(seen: Seen) -> None:
    seen((SUPERVISOR, endpoints(owner=DEAD), True), (None, None, False))
    assert module._settled(HOME) is None


def test_one_that_answers_no_more_is_ending(seen: Seen) -> None:
    seen((SUPERVISOR, endpoints(), False), (None, None, False))
    assert module._settled(HOME) is None


def test_one_that_does_neither_is_said_in_the_end(seen: Seen) -> None:
    seen((SUPERVISOR, endpoints(), False))
    with pytest.raises(Conflict, match=r"pid 4711.*neither become ready nor ended within 120 s"):
        module._settled(HOME)


@pytest.mark.parametrize(
    ("message", "in_python"),
    [
        ("choose another with --gateway-port", "choose another with gateway_port="),
        ("or choose another --home", "or choose another home="),
        ("a dash -- stays, and so does x--y", "a dash -- stays, and so does x--y"),
    ],
)
def test_options_are_named_as_arguments(message: str, in_python: str) -> None:
    assert module._in_python(message) == in_python


def test_what_auto_has_found_is_shown(tmp_path: Path) -> None:
    found = endpoints(devices="auto", devices_found="1 GPU: 80.0 GiB")
    before = {}
    shown = module.LocalPlatform(Home.at(tmp_path), found, before, started=False)
    assert shown.devices == "auto"
    assert "devices auto (1 GPU: 80.0 GiB)" in repr(shown)
    assert "auto (1 GPU: 80.0 GiB)" in shown._repr_html_()
