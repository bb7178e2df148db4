"""The verbs on the real machine: launches, removals, firings, sweeps."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from stoker.controller import hands as hands_module
from stoker.controller import orphans
from stoker.controller.cron import Firing, Firings
from stoker.controller.hands import Hands
from stoker.controller.happenings import Happening, StartRefused
from stoker.controller.log_files import prune_logs
from stoker.controller.orphans import end_orphans
from stoker.controller.settings import ControllerSettings
from stoker.nouns.home import Home
from stoker.nouns.launch import WorkerLaunch, ZygoteKind
from stoker.nouns.wire import Kind, frame
from stoker.store import Store

SETTINGS = ControllerSettings(cores=4, devices="cpu")


class Zygote:
    """Notes what it is told to launch."""

    def __init__(self) -> None:
        self.launches: asyncio.Queue[WorkerLaunch] = asyncio.Queue()
        self.launch = self.launches.put_nowait

    def withdraw(self, _replica: str, _index: int) -> None:
        """Nothing is waiting here."""


def hands(tmp_path: Path, events: list[Happening]) -> tuple[Hands, Zygote]:
    made = Hands(cast("Store", None), Home(tmp_path), SETTINGS, events.append)
    zygote = Zygote()
    made.zygotes = cast("Any", {ZygoteKind.PLAIN: zygote})
    return made, zygote


def launch(tmp_path: Path, log: str = "logs/fn/r.0.log", index: int = 0) -> WorkerLaunch:
    return WorkerLaunch(
        function="fn", revision=1, replica="r", index=index, socket="s",
        log=str(tmp_path / log), code_dir=str(tmp_path), handler="main:h",
    )  # fmt: skip


async def soon(queue: asyncio.Queue[Any]) -> Any:
    async with asyncio.timeout(20):
        return await queue.get()


# Launches


async def test_the_kind_is_chosen_once_a_revision_and_not_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def choose(_launch: WorkerLaunch) -> ZygoteKind:
        threads.append(threading.get_ident())
        return ZygoteKind.PLAIN

    monkeypatch.setattr(hands_module, "choose_kind", choose)
    made, zygote = hands(tmp_path, [])
    made.start_worker(launch(tmp_path, index=0))
    made.start_worker(launch(tmp_path, index=1))
    assert {(await soon(zygote.launches)).index for _ in "ab"} == {0, 1}
    made.start_worker(launch(tmp_path, index=2))
    assert zygote.launches.get_nowait().index == 2
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    await made.close()


async def test_a_start_withdrawn_while_its_kind_is_chosen_launches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def choose(_launch: WorkerLaunch) -> ZygoteKind:
        assert go_on.wait(20)
        return ZygoteKind.PLAIN

    monkeypatch.setattr(hands_module, "choose_kind", choose)
    made, zygote = hands(tmp_path, [])
    made.start_worker(launch(tmp_path, index=0))
    made.start_worker(launch(tmp_path, index=1))
    await asyncio.sleep(0)
    made.kill_worker("r", 0, 0, signal.SIGKILL)
    go_on.set()
    assert (await soon(zygote.launches)).index == 1
    assert zygote.launches.empty()
    await made.close()


async def test_a_log_folder_that_cannot_be_made_refuses_the_start_and_no_more(
    tmp_path: Path,
) -> None:
    (tmp_path / "logs").write_text("in the way")
    refused = asyncio.Event()
    events: list[Happening] = []
    made, zygote = hands(tmp_path, events)
    made._report = lambda event: (events.append(event), refused.set())[0]
    made.start_worker(launch(tmp_path))
    async with asyncio.timeout(20):
        await refused.wait()
    (event,) = events
    assert isinstance(event, StartRefused)
    assert (event.replica, event.index) == ("r", 0)
    made.start_worker(launch(tmp_path))
    assert len(events) == 2
    assert zygote.launches.empty()
    await made.close()


async def test_a_start_that_no_descriptor_was_left_for_spoils_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed reading was kept with the kinds: the function never started again."""
    refused: asyncio.Queue[Happening] = asyncio.Queue()
    choose, errors = hands_module.choose_kind, [OSError(errno.EMFILE, "too many open files")]

    def short_of_descriptors(told: WorkerLaunch) -> ZygoteKind:
        if errors:
            raise errors.pop()
        return choose(told)

    monkeypatch.setattr(hands_module, "choose_kind", short_of_descriptors)
    made, zygote = hands(tmp_path, [])
    made._report = refused.put_nowait
    made.start_worker(launch(tmp_path))
    assert isinstance(await soon(refused), StartRefused)
    made.start_worker(launch(tmp_path))
    assert (await soon(zygote.launches)).replica == "r"
    assert refused.empty()
    await made.close()


async def test_what_was_recorded_of_a_function_goes_and_its_code_stays(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made, _ = hands(tmp_path, [])
    kept = (home.code("fn", 1), home.function_logs("other"))
    gone = (home.function_logs("fn"), home.function_traffic("fn"))
    for folder in (*kept, *gone):
        folder.mkdir(parents=True)
    made.remove_traces("fn")
    await made.close()
    assert [folder.exists() for folder in (*kept, *gone)] == [True, True, False, False]


async def test_the_files_of_a_function_are_not_removed_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(
        hands_module, "remove_logs", lambda _folder: threads.append(threading.get_ident())
    )
    made, _ = hands(tmp_path, [])
    code = tmp_path / "functions" / "fn" / "1"
    code.mkdir(parents=True)
    made.remove_code("fn", frozenset())
    await made.close()
    assert not code.parent.exists()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_a_socket_that_cannot_be_removed_ends_nobody(tmp_path: Path) -> None:
    made, _ = hands(tmp_path, [])
    made.forget_worker("r", 0, str(tmp_path))
    assert tmp_path.is_dir()
    await made.close()


# Firings


class Gateway:
    """Answers a request once it is let go."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[httpx.Request] = asyncio.Queue()
        self.go_on = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.arrived.put_nowait(request)
        await self.go_on.wait()
        return httpx.Response(200)


def firing(trigger: str = "beat") -> Firing:
    return Firing("fn", trigger, b"{}", {"X-Nuclio-Target": "fn"})


async def test_a_cron_is_not_fired_again_while_its_last_firing_runs() -> None:
    gateway = Gateway()
    firings = Firings(SETTINGS, httpx.MockTransport(gateway))
    assert firings.start(firing())
    assert (await soon(gateway.arrived)).headers["X-Nuclio-Target"] == "fn"
    assert not firings.start(firing())
    assert firings.start(firing("another"))
    await soon(gateway.arrived)
    gateway.go_on.set()
    async with asyncio.timeout(20):
        while not firings.start(firing()):
            await asyncio.sleep(0)
    await firings.close()


async def test_all_firings_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, made = Gateway(), []
    real = httpx.AsyncClient

    def client(**options: Any) -> httpx.AsyncClient:
        made.append(options)
        return real(**options)

    monkeypatch.setattr(httpx, "AsyncClient", client)
    gateway.go_on.set()
    firings = Firings(SETTINGS, httpx.MockTransport(gateway))
    for name in "abc":
        firings.start(firing(name))
    for _ in "abc":
        await soon(gateway.arrived)
    await firings.close()
    assert len(made) == 1


async def test_firings_begin_again_after_they_were_closed() -> None:
    gateway = Gateway()
    firings = Firings(SETTINGS, httpx.MockTransport(gateway))
    firings.start(firing())
    await soon(gateway.arrived)
    await firings.close()
    assert firings.start(firing())
    await soon(gateway.arrived)
    await firings.close()


# Sweeps


def test_a_log_that_cannot_be_removed_keeps_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stoker.controller.log_files.KEPT_FILES", 0)
    for name in ("a.log", "theirs.log", "z.log"):
        (tmp_path / name).write_text("x")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "theirs.log":
            raise PermissionError(errno.EPERM, "not yours")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert {path.name for path in prune_logs(tmp_path, frozenset())} == {"a.log", "z.log"}
    assert "theirs.log cannot be removed" in caplog.text


def test_logs_that_vanish_while_they_are_read_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "kept.log").write_text("x")
    (tmp_path / "vanished.log").symlink_to(tmp_path / "nowhere")
    assert prune_logs(tmp_path, frozenset()) == []
    assert prune_logs(tmp_path / "never", frozenset()) == []


@asynccontextmanager
async def stranger(path: Path, *states: bytes) -> AsyncIterator[asyncio.Event]:
    """A worker that sends these bytes and then stays; the event: it was asked to drain."""
    drained = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(states))
        received = b""
        while data := await reader.read(4096):
            received += data
            if frame(Kind.DRAIN, 0) in received:
                drained.set()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield drained
    finally:
        server.close()


def state() -> bytes:
    return frame(Kind.STATE, 0, json.dumps({"phase": "ready", "pid": 4242}).encode())


async def test_a_worker_that_does_not_answer_keeps_its_socket_for_the_next_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "ANSWER_S", 0.0)
    path, killed = tmp_path / "r.0", list[tuple[int, int]]()
    async with stranger(path):
        await end_orphans(tmp_path, lambda _name: False, lambda *what: killed.append(what))
        assert path.exists()
    assert killed == []


async def test_an_orphan_that_does_not_end_is_killed_and_its_socket_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "DRAIN_S", 0.05)
    path, killed = tmp_path / "r.0", list[tuple[int, int]]()
    async with stranger(path, state()) as drained:
        await end_orphans(tmp_path, lambda _name: False, lambda *what: killed.append(what))
        await asyncio.wait_for(drained.wait(), 20)
    assert killed == [(4242, signal.SIGKILL)]
    assert not path.exists()


async def test_what_is_no_worker_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.0"
    async with stranger(path, frame(Kind.STATE, 0, b"no json")):
        await end_orphans(tmp_path, lambda _name: False, os.kill)
        assert path.exists()


async def test_the_socket_of_a_dead_worker_goes(tmp_path: Path) -> None:
    path = tmp_path / "r.0"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await end_orphans(tmp_path, lambda _name: False, os.kill)
    assert not path.exists()
