"""A child of the supervisor is started again, whatever the system says in between."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from live_platform import home_of_its_own
from stoker.app import child as child_module
from stoker.app.child import SECRETS, Child
from stoker.app.files import make_home
from stoker.app.lock import HomeLock
from stoker.app.plan import Plan, Role
from stoker.app.settings import Endpoints, UpSettings
from stoker.app.status import status
from stoker.app.supervisor import Supervisor
from stoker.nouns.home import Home


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own() as folder:
        made = Home.at(folder)
        make_home(made)
        yield made


async def test_a_full_disk_or_no_descriptors_end_no_keeper(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "FAILED_S", 0.0)
    child = Child(Plan("x", Role.ZYGOTE, ("true",)), home, "id", lambda: None)
    errors = [OSError(errno.ENOSPC, "full"), OSError(errno.EMFILE, "too many open files")]
    started = asyncio.Event()

    def start() -> None:
        if errors:
            raise errors.pop()
        started.set()

    monkeypatch.setattr(child, "start", start)
    keeper = asyncio.create_task(child.keep())
    async with asyncio.timeout(5):
        await started.wait()
    assert not keeper.done()
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


def test_a_start_that_fails_leaves_no_descriptor_open(home: Home) -> None:
    child = Child(Plan("x", Role.ZYGOTE, ("true",)), home, "id", lambda: None)
    child.log_path.mkdir()  # in the way of the log
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(Exception, match="x"):
            child.start()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_keeper_that_breaks_is_said(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(home, "id", UpSettings(home=str(home.root)))
    child = Child(Plan("gateway-7", Role.GATEWAY, ("true",)), home, "id", lambda: None)

    async def broken() -> None:
        raise ZeroDivisionError

    child.keep = broken  # type: ignore[method-assign]
    supervisor._keep(child)
    await asyncio.gather(*supervisor._keepers, return_exceptions=True)
    assert "gateway-7 is kept running no longer" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_the_status_shows_no_password_of_the_redis(home: Home) -> None:
    told: dict[str, Any] = {
        "home_id": "i",
        "control_url": "http://127.0.0.1:1",
        "gateway_url": "http://[::1]:2",
        "redis_url": "redis://me:hunter2@host:6379/0",
        "devices": "cpu",
        "pid": os.getpid(),
    }
    home.endpoints.write_text(Endpoints(**told).model_dump_json())
    with HomeLock(home.lock):
        shown = status(home)
    assert shown.endpoints is not None
    assert shown.endpoints.redis_url == "redis://host:6379/0"
    assert "hunter2" not in json.dumps(shown.model_dump())


def test_no_process_of_the_platform_is_handed_a_key_or_the_redis_url_by_its_environment(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STOKER_API_KEY", "STOKER_REDIS_URL"):
        assert name in SECRETS
        monkeypatch.setenv(name, "hunter2")
    child = Child(Plan("x", Role.ZYGOTE, ("env",)), home, "id", lambda: None)
    child.start()
    assert child._process is not None
    child._process.wait()
    child.forget()
    assert "STOKER_HOME" in child.log_path.read_text()
    assert "hunter2" not in child.log_path.read_text()
