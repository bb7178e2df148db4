"""``up``, ``status``, ``--version``: what they say of the platform itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stoker import __version__
from stoker.app import status as status_module
from stoker.app import up as up_module
from stoker.app.settings import Endpoints, UpSettings
from stoker.app.supervisor import Supervisor
from stoker.cli import platform_verbs
from stoker.cli.failure import Failure
from stoker.cli.main import app
from stoker.nouns.home import Home

ENDPOINTS = Endpoints(
    home_id="i", control_url="http://c", gateway_url="http://g", redis_url="r", devices="cpu", pid=1
)


def test_the_version_is_printed() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"stoker {__version__}\n")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"port": 99999}, "--port must be at most 65535, was 99999"),
        ({"gateway_port": -1}, "--gateway-port must be at least 0, was -1"),
        ({"gateways": 0}, "--gateways must be at least 1, was 0"),
        ({"devices": "sim:x"}, "--devices: "),
        ({"port": 9, "gateway_port": 9}, "--port and --gateway-port must differ"),
        ({"host": "1.2.3.4"}, "--host must be a loopback address"),
    ],
)
def test_a_wrong_setting_is_named_by_its_option(
    tmp_path: Path, told: dict[str, Any], says: str
) -> None:
    with pytest.raises(Failure) as caught:
        platform_verbs.up(home=str(tmp_path / "h"), key_file=None, detach=False, told=told)
    assert says in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("alive", "says"),
    [
        ((True, True, False), "supervisor gone; 2 processes still serve; `stoker up` takes over"),
        ((True,), "supervisor gone; 1 process still serves; `stoker up` takes over"),
        ((False,), "not running"),
        ((), "not running"),
    ],
)
def test_status_says_that_processes_outlived_their_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: tuple[bool, ...], says: str
) -> None:
    processes = tuple(
        status_module.ProcessStatus(name=f"p{i}", pid=i, alive=live) for i, live in enumerate(alive)
    )
    found = status_module.PlatformStatus(home="/h", running=False, processes=processes)
    monkeypatch.setattr(status_module, "status", lambda _: found)
    done = CliRunner().invoke(app, ["status", "--home", str(tmp_path)])
    assert done.exit_code == 1
    assert f"state    {says}\n" in done.stdout


def test_up_in_the_foreground_says_that_it_is_ready_and_that_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def supervise(_: UpSettings, on_ready: Any, on_stop: Any) -> None:
        on_ready(ENDPOINTS)
        on_stop()

    monkeypatch.setattr(up_module, "supervise", supervise)
    monkeypatch.setattr(up_module, "configure_logging", lambda _: None)
    assert up_module.run(UpSettings(home=str(tmp_path))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ["ready; Ctrl-C stops it", "stopping …", "stopped"]
    assert lines[0] == "control  http://c"


async def test_the_supervisor_tells_of_its_stopping_before_it_ends_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    supervisor = Supervisor(Home.at(str(tmp_path)), "id", UpSettings(home=str(tmp_path)))

    async def start() -> Endpoints:
        return ENDPOINTS.model_copy(update={"pid": os.getpid()})

    async def stop() -> None:
        told.append("ended")

    monkeypatch.setattr(supervisor, "_start", start)
    monkeypatch.setattr(supervisor, "_stop", stop)
    ready = asyncio.Event()
    running = asyncio.create_task(
        supervisor.run(lambda _: ready.set(), lambda: told.append("stopping"))
    )
    await asyncio.wait_for(ready.wait(), 5)
    assert told == []
    supervisor.ask_to_stop()
    await asyncio.wait_for(running, 5)
    assert told == ["stopping", "ended"]
