"""A caller of one worker, and a zygote in a temporary home, for tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stoker.nouns.home import Home
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.wire import FrameReader, Kind, frame, frame_with_meta, split_meta

BOUND_S = 60.0


class Reply:
    """Everything that came back on one stream."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.meta: dict[str, Any] = {}
        self.body = b""
        self.chunks: list[bytes] = []
        self.end: dict[str, Any] = {}
        self.busy = ""
        self.lost = False
        self.done = asyncio.Event()
        self.moved = asyncio.Event()

    @property
    def status(self) -> int:
        return int(self.meta.get("status", 0))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def take(self, kind: Kind, payload: bytes) -> None:
        self.kinds.append(kind)
        if kind == Kind.RESPONSE:
            meta, self.body = split_meta(payload)
            self.meta = json.loads(meta)
        elif kind == Kind.HEAD:
            self.meta = json.loads(payload)
        elif kind == Kind.CHUNK:
            self.chunks.append(payload)
        elif kind == Kind.END:
            self.end = json.loads(payload)
        elif kind == Kind.BUSY:
            self.busy = json.loads(payload)["reason"]
        if kind in (Kind.RESPONSE, Kind.END, Kind.BUSY):
            self.done.set()
        self.moved.set()

    async def until(self, kind: Kind, count: int = 1) -> None:
        """Wait until ``count`` frames of ``kind`` came."""
        async with asyncio.timeout(BOUND_S):
            while self.kinds.count(kind) < count:
                self.moved.clear()
                await self.moved.wait()


class WorkerClient:
    """One connection to a worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._held: list[bytes] | None = None
        self._streams: dict[int, Reply] = {}
        self._next = 0
        self.states: list[dict[str, Any]] = []
        self.connection_frames: list[Kind] = []
        self.lost = asyncio.Event()
        self._moved = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, path: str, role: str = "gateway") -> WorkerClient:
        reader, writer = await asyncio.open_unix_connection(path)
        client = cls(reader, writer)
        client.write(frame(Kind.HELLO, 0, json.dumps({"role": role, "peer": "test"}).encode()))
        return client

    def write(self, data: bytes) -> None:
        if self._held is None:
            self._writer.write(data)
        else:
            self._held.append(data)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is sent inside arrives in one piece, so that the worker reads it in one turn."""
        self._held = []
        yield
        data, self._held = b"".join(self._held), None
        self._writer.write(data)

    async def _read(self) -> None:
        frames = FrameReader()
        try:
            while data := await self._reader.read(1 << 18):
                for kind, stream, payload in frames.feed(data):
                    self._take(Kind(kind), stream, payload)
        except ConnectionError:
            pass
        for reply in self._streams.values():
            if not reply.done.is_set():
                reply.lost = True
                reply.done.set()
        self.lost.set()
        self._moved.set()

    def _take(self, kind: Kind, stream: int, payload: bytes) -> None:
        if stream == 0:
            self.connection_frames.append(kind)
            if kind == Kind.STATE:
                self.states.append(json.loads(payload))
        else:
            self._streams[stream].take(kind, payload)
        self._moved.set()

    def send(
        self,
        body: bytes | dict[str, Any] | list[Any] = b"",
        *,
        method: str = "POST",
        path: str = "/",
        headers: dict[str, str] | None = None,
        deadline_s: float | None = None,
        id: str = "",  # noqa: A002
    ) -> tuple[int, Reply]:
        """Send one request without waiting; its stream and what will hold its reply."""
        self._next += 1
        stream, reply = self._next, Reply()
        self._streams[stream] = reply
        headers = dict(headers or {})
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("content-type", "application/json")
        meta = {
            "id": id or f"r{stream}",
            "method": method,
            "path": path,
            "headers": headers,
            "deadline": None if deadline_s is None else time.monotonic() + deadline_s,
        }
        self.write(frame_with_meta(Kind.REQUEST, stream, json.dumps(meta).encode(), body))
        return stream, reply

    async def call(self, body: bytes | dict[str, Any] | list[Any] = b"", **kwargs: Any) -> Reply:
        """Send one request and wait for its outcome."""
        _, reply = self.send(body, **kwargs)
        return await self.outcome(reply)

    async def outcome(self, reply: Reply) -> Reply:
        async with asyncio.timeout(BOUND_S):
            await reply.done.wait()
        return reply

    async def phase(self, phase: str, times: int = 1) -> dict[str, Any]:
        """Wait until the worker has said ``times`` times that it is in ``phase``."""
        async with asyncio.timeout(BOUND_S):
            while len(said := [one for one in self.states if one["phase"] == phase]) < times:
                if self.lost.is_set():
                    raise AssertionError(f"the worker went before {phase}: {self.states}")
                self._moved.clear()
                await self._moved.wait()
        return said[times - 1]

    async def until_connection_frame(self, kind: Kind) -> None:
        async with asyncio.timeout(BOUND_S):
            while kind not in self.connection_frames:
                self._moved.clear()
                await self._moved.wait()

    async def until_lost(self) -> None:
        async with asyncio.timeout(BOUND_S):
            await self.lost.wait()

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()
        await asyncio.gather(self._task, return_exceptions=True)


class ZygoteUnderTest:
    """A real zygote process in ``home``, and the controller's side of its socket."""

    def __init__(
        self,
        home: Path,
        kind: str = "plain",
        env: dict[str, str] | None = None,
        within_s: float = BOUND_S,
    ) -> None:
        self.home = Home.at(home)
        self.within_s = within_s
        self.kind = kind
        self.log = home / f"zygote-{kind}.log"
        self.workers: list[int] = []
        self.exits: dict[int, int] = {}
        home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stoker.worker.zygote", "--kind", kind, "--home", str(home)],
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
            )
        self.connect()

    def connect(self) -> None:
        path = str(self.home.zygote_socket(self.kind))
        bound = time.monotonic() + self.within_s
        while True:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.sock.connect(path)
                break
            except OSError:
                self.sock.close()
                if self.process.poll() is not None or time.monotonic() > bound:
                    raise AssertionError(f"no zygote: {self.log.read_text()}") from None
                time.sleep(0.005)
        self.sock.settimeout(BOUND_S)
        self._lines = self.sock.makefile("rb")
        self.hello = self.reply()
        assert self.hello["kind"] == "hello"

    def disconnect(self) -> None:
        self._lines.close()
        self.sock.close()

    def reply(self) -> dict[str, Any]:
        line = self._lines.readline()
        assert line, "the zygote closed the connection"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def start(self, launch: WorkerLaunch) -> dict[str, Any]:
        self.sock.sendall(launch.model_dump_json().encode() + b"\n")
        while (reply := self.reply())["kind"] == "exited":
            self.exits[reply["pid"]] = reply.get("status", 0)
        if reply["kind"] == "started":
            self.workers.append(reply["pid"])
        return reply

    def exit_of(self, pid: int) -> int:
        """Wait for the end of ``pid``; its status."""
        while pid not in self.exits:
            reply = self.reply()
            if reply["kind"] == "exited":
                self.exits[reply["pid"]] = reply.get("status", 0)
        return self.exits[pid]

    def stop(self) -> None:
        self.disconnect()
        self.process.kill()
        self.process.wait()
        for pid in self.workers:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def write_function(folder: Path, source: str, name: str = "main.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source)
    return folder
