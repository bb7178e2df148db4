from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from fake_store import FakeStore, function, replica
from fake_worker import FakeWorker
from stoker.gateway import Gateway, GatewaySettings
from stoker.nouns.event import Topic
from stoker.nouns.record import FunctionRecord
from stoker.store import Store

BOUND_S = 10.0


class Reply:
    def __init__(self, status: int, headers: dict[str, str], body: bytes, chunks: int) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.chunks = chunks

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json["error"]["code"]
        return code


class Client:
    """A raw connection: what it sends is exactly what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)

    def request(self, path: str, body: bytes = b"", method: str = "", **headers: str) -> None:
        method = method or ("POST" if body else "GET")
        lines = [f"{method} {path} HTTP/1.1", "Host: test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines) + "\r\n\r\n")
        self.send(body)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(BOUND_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.strip().split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}

    async def reply(self, *, bodyless: bool = False) -> Reply:
        status, headers = await self.head()
        async with asyncio.timeout(BOUND_S):
            if bodyless or status in (204, 304):
                return Reply(status, headers, b"", 0)
            if headers.get("transfer-encoding") == "chunked":
                chunks = [part async for part in self.chunks()]
                return Reply(status, headers, b"".join(chunks), len(chunks))
            if "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
        return Reply(status, headers, body, 0)

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)

    async def get(self, path: str, **headers: str) -> Reply:
        self.request(path, **headers)
        return await self.reply()

    async def post(self, path: str, body: bytes, **headers: str) -> Reply:
        self.request(path, body, **headers)
        return await self.reply()

    async def closed(self) -> bytes:
        """What still comes before the gateway closes; fails when it does not."""
        async with asyncio.timeout(BOUND_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def hang_up(self) -> None:
        self.writer.close()


class Place:
    """A gateway on loopback, a store in memory, fake workers on unix sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FakeStore()
        self.gateways: list[Gateway] = []
        self.workers: list[FakeWorker] = []
        self.clients: list[Client] = []

    async def gateway(self, **settings: Any) -> Gateway:
        number = len(self.gateways)
        fields = {"port": 0, "gateway": f"g{number}", "grace_s": 0.0, **settings}
        gateway = Gateway(cast(Store, self.store), GatewaySettings(**fields))
        await gateway.start()
        self.gateways.append(gateway)
        async with asyncio.timeout(BOUND_S):
            while not gateway._view.ready:
                await asyncio.sleep(0)
        return gateway

    def put(self, record: FunctionRecord | None = None) -> None:
        record = record or function()
        self.store.functions[record.name] = record
        for gateway in self.gateways:
            gateway.router.put_function(record)

    async def worker(
        self, name: str = "a", permits: int = 1, phase: str = "ready", of: str = "echo"
    ) -> FakeWorker:
        worker = await FakeWorker.start(str(self.folder / name), permits, phase)
        self.workers.append(worker)
        self.store.replicas[name] = replica(name, worker.path, of=of)
        for gateway in self.gateways:
            gateway.router.put_replica(self.store.replicas[name])
        if phase == "ready":
            of_it = [one for one in self.store.replicas.values() if one.function == of]
            sockets = {worker.socket for one in of_it for worker in one.workers}
            await self.warm(of, sum(one.path in sockets for one in self.workers))
        return worker

    async def warm(self, name: str, count: int) -> None:
        async with asyncio.timeout(BOUND_S):
            for gateway in self.gateways:
                while gateway.router.lanes[name].warm < count:
                    await asyncio.sleep(0)

    async def client(self, gateway: int = 0) -> Client:
        port = self.gateways[gateway].port
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        self.clients.append(client)
        return client

    def time_passes(self, seconds: float) -> None:
        """What the gateway's own tick would find that much later."""
        for gateway in self.gateways:
            for connection in list(gateway._front.connections):
                connection.check(time.monotonic() + seconds)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(BOUND_S):
            while not condition():
                await asyncio.sleep(0)

    async def close(self) -> None:
        for client in self.clients:
            client.writer.close()
        for gateway in self.gateways:
            await gateway.stop()
        for worker in self.workers:
            await worker.stop()
        for client in self.clients:
            try:
                await client.writer.wait_closed()
            except (ConnectionError, BrokenPipeError):
                continue


@pytest.fixture
async def bare(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """Nothing deployed, no gateway yet."""
    place = Place(tmp_path_factory.mktemp("gw"))
    yield place
    await place.close()


@pytest.fixture
async def place(bare: Place) -> Place:
    """One gateway, the function ``echo``, no worker."""
    bare.put()
    await bare.gateway()
    return bare


__all__ = ["Client", "Place", "Reply", "Topic"]
