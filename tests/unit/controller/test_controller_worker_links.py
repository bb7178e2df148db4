"""The controller's connections to workers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_platform import home_of_its_own
from stoker.controller.happenings import Happening, WorkerGone, WorkerStated
from stoker.controller.worker_links import WorkerLinks
from stoker.nouns.wire import Kind, frame

READY = frame(
    Kind.STATE,
    0,
    json.dumps({"phase": "ready", "permits": 1, "pid": 7, "replica": "r", "index": 0}).encode(),
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with home_of_its_own() as made:
        yield made


async def test_a_state_that_comes_before_connecting_has_returned_is_heard(folder: Path) -> None:
    """A deployment hung until its readiness timeout when this one frame was dropped."""
    happened: list[Happening] = []
    heard = asyncio.Event()

    def report(happening: Happening) -> None:
        happened.append(happening)
        heard.set()

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(READY)
        await writer.drain()
        writer.close()

    links = WorkerLinks(report)
    # The protocol is called before `create_unix_connection` has returned to its caller.
    loop = asyncio.get_running_loop()
    connect = loop.create_unix_connection

    async def slowly(*args: object, **kwargs: object) -> object:
        made = await connect(*args, **kwargs)  # type: ignore[arg-type]
        while len(happened) < 2:
            heard.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await heard.wait()
            if not heard.is_set():
                break
        return made

    loop.create_unix_connection = slowly  # type: ignore[method-assign, assignment]
    server = await asyncio.start_unix_server(greet, str(folder / "w"))
    async with server:
        links.watch("r", 0, str(folder / "w"))
        async with asyncio.timeout(10):
            while len(happened) < 2:
                heard.clear()
                await heard.wait()
    assert happened == [WorkerStated("r", 0, "ready", 7, ""), WorkerGone("r", 0)]
    links.close()


async def test_a_controller_without_a_descriptor_left_takes_no_worker_for_dead(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record and its socket were removed, and it lived on where nobody could reach it."""
    monkeypatch.setattr("stoker.controller.worker_links.RETRY_S", 0.0)
    happened: asyncio.Queue[Happening] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    connect, errors = loop.create_unix_connection, [errno.EMFILE, errno.EMFILE]

    async def short_of_descriptors(*args: object, **kwargs: object) -> object:
        if errors:
            raise OSError(errors.pop(), "too many open files")
        return await connect(*args, **kwargs)  # type: ignore[arg-type]

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(READY)
        await writer.drain()
        writer.close()

    monkeypatch.setattr(loop, "create_unix_connection", short_of_descriptors)
    links = WorkerLinks(happened.put_nowait)
    server = await asyncio.start_unix_server(greet, str(folder / "w"))
    async with server:
        links.watch("r", 0, str(folder / "w"))
        async with asyncio.timeout(20):
            assert await happened.get() == WorkerStated("r", 0, "ready", 7, "")
        links.close()


async def test_a_socket_that_nobody_listens_on_is_a_worker_that_is_gone(folder: Path) -> None:
    happened: list[Happening] = []
    gone = asyncio.Event()
    links = WorkerLinks(lambda happening: (happened.append(happening), gone.set())[1])
    links.watch("r", 0, str(folder / "nobody"))
    await gone.wait()
    assert happened == [WorkerGone("r", 0)]
