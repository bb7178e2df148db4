"""The gateway with a real Redis and workers that are processes of their own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from fake_store import function, replica
from real_redis import answers
from stoker.app.redis_server import redis_binary, redis_command, redis_url
from stoker.gateway import Gateway, GatewaySettings
from stoker.nouns.home import Home
from stoker.store import Store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

FAKE_WORKER = Path(__file__).parents[1] / "fake_worker.py"


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        home = Home.at(folder)
        for path in (home.run, home.workers, home.redis_data, home.logs):
            path.mkdir(parents=True, exist_ok=True)
        yield home


def start_redis(home: Home) -> subprocess.Popen[bytes]:
    with (home.logs / "redis.log").open("ab") as log:
        return subprocess.Popen(redis_command(home, redis_binary()), stdout=log, stderr=log)


@pytest.fixture
def redis(home: Home) -> Iterator[list[subprocess.Popen[bytes]]]:
    servers = [start_redis(home)]
    yield servers
    for server in servers:
        server.kill()
        server.wait()


@pytest.fixture
def workers(home: Home) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
async def store(home: Home, redis: list[subprocess.Popen[bytes]]) -> AsyncIterator[Store]:
    await eventually(lambda: answers(home.redis_socket))
    store = await Store.connect(redis_url(home))
    yield store
    await store.close()


@pytest.fixture
async def gateway(store: Store) -> AsyncIterator[Gateway]:
    await store.put_function(function())
    gateway = Gateway(store, GatewaySettings(port=0, grace_s=1.0))
    await gateway.start()
    await eventually(lambda: "echo" in gateway.router.lanes)
    yield gateway
    await gateway.stop()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://127.0.0.1:{gateway.port}"
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        yield client


async def start_worker(
    home: Home, store: Store, workers: list[subprocess.Popen[bytes]], name: str
) -> subprocess.Popen[bytes]:
    socket = home.worker_socket(name, 0)
    process = subprocess.Popen([sys.executable, str(FAKE_WORKER), str(socket), "4"])
    workers.append(process)
    await eventually(socket.exists)
    await store.put_replica(replica(name, str(socket)))
    return process


async def test_a_cold_request_is_served_by_the_worker_that_redis_announces(
    home: Home,
    store: Store,
    workers: list[subprocess.Popen[bytes]],
    gateway: Gateway,
    client: httpx.AsyncClient,
) -> None:
    asked = asyncio.create_task(client.post("/echo/", content=b"hello"))
    await eventually(lambda: len(gateway.router.lanes["echo"].room) == 1)
    await start_worker(home, store, workers, "r1")
    reply = await asked
    assert (reply.status_code, reply.content) == (200, b"hello")
    assert reply.headers["x-stoker-cold"] == "1"
    async with asyncio.timeout(10):
        while "echo" not in (await store.read_demand()).get("g0", {}):
            await asyncio.sleep(0.05)
        while not (await store.read_metrics()).get("g0", {}).get("functions"):
            await asyncio.sleep(0.05)


async def test_warm_traffic_survives_the_death_of_redis_and_all_heals(
    home: Home,
    store: Store,
    redis: list[subprocess.Popen[bytes]],
    workers: list[subprocess.Popen[bytes]],
    gateway: Gateway,
    client: httpx.AsyncClient,
) -> None:
    await start_worker(home, store, workers, "r1")
    assert (await client.get("/echo/")).status_code == 200
    redis[0].kill()
    redis[0].wait()
    for _ in range(20):
        assert (await client.post("/echo/", content=b"x")).status_code == 200
    await eventually(lambda: gateway.snapshot()["store_failures"] > 0)
    home.redis_socket.unlink(missing_ok=True)
    redis.append(start_redis(home))
    await eventually(lambda: answers(home.redis_socket))
    async with asyncio.timeout(20):
        while "fresh" not in gateway.router.lanes:
            await store.put_function(function("fresh"))
            await asyncio.sleep(0.1)
    assert (await client.post("/echo/", content=b"x")).status_code == 200


async def test_killing_a_worker_under_load_loses_no_idempotent_request(
    home: Home,
    store: Store,
    workers: list[subprocess.Popen[bytes]],
    gateway: Gateway,
    client: httpx.AsyncClient,
) -> None:
    victim = await start_worker(home, store, workers, "r1")
    await start_worker(home, store, workers, "r2")
    await eventually(lambda: gateway.router.lanes["echo"].warm == 2)

    async def ask(number: int) -> int:
        if number == 100:
            victim.kill()
        return (await client.get(f"/echo/{number}")).status_code

    statuses = await asyncio.gather(*(ask(number) for number in range(300)))
    assert set(statuses) == {200}


async def test_a_durable_invocation_runs_and_keeps_its_answer(
    home: Home,
    store: Store,
    workers: list[subprocess.Popen[bytes]],
    client: httpx.AsyncClient,
) -> None:
    await start_worker(home, store, workers, "r1")
    headers = {"Prefer": "respond-async"}
    accepted = await client.post("/echo/", content=b"later", headers=headers)
    assert accepted.status_code == 202
    async with asyncio.timeout(20):
        while True:
            answer = await client.get(accepted.headers["location"])
            if answer.headers["x-stoker-invocation"] == "finished":
                break
            await asyncio.sleep(0.05)
    assert (answer.status_code, answer.content) == (200, b"later")
