"""The controller with a real Redis, a real zygote and real workers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import eventually, home_of_its_own
from real_redis import answers
from stoker.app.redis_server import redis_binary, redis_command, redis_url
from stoker.controller.controller import Controller
from stoker.controller.settings import ControllerSettings
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.home import Home
from stoker.nouns.launch import ZygoteKind
from stoker.nouns.record import (
    Demand,
    FunctionRecord,
    FunctionState,
    Phase,
    ReplicaRecord,
    Revision,
)
from stoker.store import Store

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

GOOD = "def handler(context, event):\n    return 'hello'\n"
RAISES = "def init_context(context):\n    raise KeyError('weights')\n" + GOOD
EXITS = "import os\nos._exit(3)\n"
DIES_AFTER_READY = (
    """
import os, threading
def init_context(context):
    threading.Timer(0.2, os._exit, (7,)).start()
"""
    + GOOD
)
LEAKS = (
    """
import threading
def init_context(context):
    def leak():
        context.user_data.kept = b"x" * (400 * 1024 * 1024)
    threading.Timer(0.5, leak).start()
"""
    + GOOD
)
ZERO = {
    "minReplicas": 0,
    "scaleToZero": {"scaleResources": [{"metricName": "x", "windowSize": "1s"}]},
}


@pytest.fixture
def own_home() -> Iterator[Home]:
    with home_of_its_own() as root:
        home = Home.at(root)
        for folder in (home.run, home.workers, home.redis_data, home.logs):
            folder.mkdir(parents=True)
        yield home


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@pytest.fixture
def redis(own_home: Home) -> Iterator[subprocess.Popen[bytes]]:
    with process(*redis_command(own_home, redis_binary())) as server:
        eventually(lambda: answers(own_home.redis_socket))
        yield server


def zygote_command(home: Home) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "stoker.worker.zygote"),
        *("--kind", "plain", "--home", str(home.root)),
    )


@pytest.fixture
def zygote(own_home: Home) -> Iterator[subprocess.Popen[bytes]]:
    with process(*zygote_command(own_home)) as started:
        eventually(own_home.zygote_socket("plain").exists)
        yield started


class Platform:
    """A home's store and its controller."""

    def __init__(self, store: Store, home: Home) -> None:
        self.store = store
        self.home = home
        self.controller = self._new_controller()
        self._task: asyncio.Task[None] | None = None

    def _new_controller(self) -> Controller:
        settings = ControllerSettings(
            devices="cpu", lease_s=1.0, zygotes=frozenset({ZygoteKind.PLAIN})
        )
        return Controller(self.store, self.home, settings)

    def start(self) -> None:
        self.controller = self._new_controller()
        self._task = asyncio.create_task(self.controller.run())

    async def stop(self) -> None:
        """As kill -9 would: workers live on, no goodbye."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def deploy(self, code: str, name: str = "fn", **spec: Any) -> None:
        spec.setdefault("handler", "main:handler")
        spec.setdefault("build", {})["functionSourceCode"] = base64.b64encode(
            code.encode()
        ).decode()
        document = {"metadata": {"name": name}, "spec": spec}
        record = await self.store.get_function(name) or FunctionRecord(name=name)
        number = record.last_revision + 1
        await self.store.put_function(
            record.model_copy(
                update={
                    "candidate": Revision(number=number, document=document),
                    "last_revision": number,
                    "state": FunctionState.WAITING_FOR_BUILD,
                }
            )
        )

    async def until(
        self, seen: Callable[[FunctionRecord], bool], name: str = "fn"
    ) -> FunctionRecord:
        async with asyncio.timeout(20):
            while True:
                record = await self.store.get_function(name)
                if record is not None and seen(record):
                    return record
                await asyncio.sleep(0.005)

    async def state(self, state: FunctionState, revision: int = 0) -> FunctionRecord:
        return await self.until(
            lambda r: (
                r.state is state
                and (not revision or (r.serving is not None and r.serving.number == revision))
            )
        )

    async def replicas(self, count: int) -> list[ReplicaRecord]:
        async with asyncio.timeout(20):
            while True:
                found = list((await self.store.list_replicas()).values())
                if len(found) == count and all(r.phase is Phase.READY for r in found):
                    return found
                await asyncio.sleep(0.005)

    async def pids(self) -> list[int]:
        (replica,) = await self.replicas(1)
        return [worker.pid for worker in replica.workers]


@pytest.fixture
async def platform(
    own_home: Home, redis: subprocess.Popen[bytes], zygote: subprocess.Popen[bytes]
) -> AsyncIterator[Platform]:
    store = await Store.connect(redis_url(own_home))
    running = Platform(store, own_home)
    running.start()
    yield running
    await running.controller.shutdown(drain=False)
    await running.stop()
    await store.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or before it was read
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while is_alive(pid):
            await asyncio.sleep(0.01)


async def test_a_deployed_function_serves_goes_to_zero_and_wakes(platform: Platform) -> None:
    await platform.deploy(GOOD, **ZERO)
    await platform.state(FunctionState.READY, 1)
    (pid,) = await platform.pids()
    await platform.state(FunctionState.SCALED_TO_ZERO)
    await gone(pid)
    assert await platform.store.list_replicas() == {}
    assert list(platform.home.workers.iterdir()) == []
    asked = time.monotonic()
    await platform.store.ask_wake("fn")
    record = await platform.until(lambda r: r.wake_p90_s is not None)
    assert record.wake_p90_s is not None
    assert 0 < record.wake_p90_s <= time.monotonic() - asked


async def test_an_init_that_raises_leaves_the_previous_revision_serving(
    platform: Platform,
) -> None:
    await platform.deploy(GOOD)
    await platform.state(FunctionState.READY, 1)
    before = await platform.pids()
    await platform.deploy(RAISES)
    record = await platform.until(lambda r: r.state.is_settled and r.last_revision == 2)
    assert record.state is FunctionState.UNHEALTHY
    assert "KeyError" in record.message
    assert any("Traceback" in entry.message for entry in record.logs)
    assert await platform.pids() == before


async def test_a_handler_that_ends_its_process_at_import_is_told_with_its_exit_code(
    platform: Platform,
) -> None:
    await platform.deploy(EXITS)
    record = await platform.state(FunctionState.UNHEALTHY)
    assert "ended with exit code 3" in record.message


async def test_a_missing_handler_module_is_an_early_clear_error(platform: Platform) -> None:
    await platform.deploy(GOOD, build={"path": "/nowhere/at/all"})
    record = await platform.state(FunctionState.ERROR)
    assert record.message == (
        "build.path must be a file or a folder that exists, was '/nowhere/at/all'"
    )


async def test_a_killed_worker_is_replaced(platform: Platform) -> None:
    await platform.deploy(GOOD)
    await platform.state(FunctionState.READY, 1)
    (pid,) = await platform.pids()
    os.kill(pid, signal.SIGKILL)
    record = await platform.until(lambda r: any("SIGKILL" in e.message for e in r.logs))
    assert record.state is FunctionState.READY
    await gone(pid)
    (successor,) = await platform.pids()
    assert successor != pid


async def test_a_new_controller_adopts_the_running_workers(platform: Platform) -> None:
    await platform.deploy(GOOD, triggers={"http": {"kind": "http", "numWorkers": 2}})
    await platform.state(FunctionState.READY, 1)
    before = await platform.pids()
    await platform.stop()
    assert all(is_alive(pid) for pid in before)
    platform.start()
    async with asyncio.timeout(10):
        while not platform.controller.snapshot().get("functions"):
            await asyncio.sleep(0.01)
    os.kill(before[0], signal.SIGKILL)
    await gone(before[0])
    async with asyncio.timeout(10):
        while (after := await platform.pids())[0] == before[0]:
            await asyncio.sleep(0.01)
    assert after[1] == before[1]


async def test_only_one_of_two_controllers_acts(platform: Platform) -> None:
    await platform.deploy(GOOD)
    await platform.state(FunctionState.READY, 1)
    second = Controller(platform.store, platform.home, ControllerSettings(devices="cpu"))
    running = asyncio.create_task(second.run())
    await asyncio.sleep(0.3)
    assert platform.controller.is_leading
    assert not second.is_leading
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_workers_outlive_their_zygote_and_a_new_one_is_used(
    platform: Platform, zygote: subprocess.Popen[bytes]
) -> None:
    await platform.deploy(GOOD)
    await platform.state(FunctionState.READY, 1)
    before = await platform.pids()
    zygote.kill()
    zygote.wait()
    await platform.deploy(GOOD)
    assert all(is_alive(pid) for pid in before)
    with process(*zygote_command(platform.home)):
        await platform.state(FunctionState.READY, 2)
        for pid in before:
            await gone(pid)


async def test_an_empty_redis_that_comes_back_is_filled_again(
    platform: Platform, redis: subprocess.Popen[bytes]
) -> None:
    await platform.deploy(GOOD)
    await platform.state(FunctionState.READY, 1)
    before = await platform.pids()
    redis.kill()
    redis.wait()
    shutil.rmtree(platform.home.redis_data)
    platform.home.redis_data.mkdir()
    with process(*redis_command(platform.home, redis_binary())):
        await asyncio.sleep(0.2)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    if await platform.store.list_replicas():
                        break
                await asyncio.sleep(0.05)
        assert await platform.pids() == before
        await platform.state(FunctionState.READY, 1)
        await platform.controller.shutdown(drain=False)


async def test_a_store_too_slow_to_be_read_at_first_is_read_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    await platform.deploy(GOOD)
    await platform.state(FunctionState.READY, 1)
    before = await platform.pids()
    await platform.stop()
    read, failures = platform.store.list_replicas, [1, 2]

    async def slow() -> dict[str, ReplicaRecord]:
        if failures:
            failures.pop()
            raise StoreUnavailable("slow")
        return await read()

    monkeypatch.setattr(platform.store, "list_replicas", slow)
    platform.start()
    await asyncio.sleep(0)
    await platform.store.ask_wake("fn")
    async with asyncio.timeout(10):
        while not platform.controller.snapshot().get("replicas", {}).get("ready"):
            await asyncio.sleep(0.01)
    assert failures == []
    assert await platform.pids() == before


async def test_a_worker_nobody_knows_is_ended(platform: Platform) -> None:
    await platform.deploy(GOOD)
    await platform.state(FunctionState.READY, 1)
    (pid,) = await platform.pids()
    await platform.stop()
    for identity in await platform.store.list_replicas():
        await platform.store.remove_replica(identity)
    from stoker.controller.hands import kill
    from stoker.controller.orphans import end_orphans

    await end_orphans(platform.home.workers, lambda name: False, kill)
    await gone(pid)
    assert list(platform.home.workers.iterdir()) == []
    platform.start()


async def test_a_deleted_function_leaves_nothing_behind(platform: Platform) -> None:
    await platform.deploy(GOOD)
    await platform.state(FunctionState.READY, 1)
    (pid,) = await platform.pids()
    await platform.store.delete_function("fn")
    await gone(pid)
    async with asyncio.timeout(10):
        while platform.home.code("fn", 1).parent.exists():
            await asyncio.sleep(0.01)
    assert await platform.store.list_replicas() == {}


async def test_demand_that_a_gateway_reports_keeps_a_function_up(platform: Platform) -> None:
    await platform.deploy(GOOD, **ZERO)
    await platform.state(FunctionState.READY, 1)
    for _ in range(8):
        await platform.store.report_demand("g", {"fn": Demand(in_flight=1)})
        await asyncio.sleep(0.25)
    record = await platform.store.get_function("fn")
    assert record is not None
    assert record.state is FunctionState.READY


async def test_a_function_imports_what_its_build_installed(
    platform: Platform, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "stoker_probe.py").write_text("VALUE = 7\n")
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "stoker-probe"\nversion = "1.0"\n'
        '[tool.setuptools]\npy-modules = ["stoker_probe"]\n'
    )
    command = f"pip install --no-index --no-build-isolation {package}"
    await platform.deploy(
        "import stoker_probe\nassert stoker_probe.VALUE == 7\n" + GOOD,
        build={"commands": [command]},
    )
    record = await platform.until(lambda r: r.state.is_settled)
    assert record.state is FunctionState.READY
    assert any("Successfully installed stoker-probe-1.0" in e.message for e in record.logs)


async def test_a_crash_loop_ends_unhealthy_with_its_reason(platform: Platform) -> None:
    await platform.deploy(DIES_AFTER_READY, **ZERO)
    record = await platform.state(FunctionState.UNHEALTHY)
    assert "crash loop: 5 crashes" in record.message
    assert "ended with exit code 7" in record.message


async def test_a_worker_over_its_memory_limit_is_killed_and_the_log_says_why(
    platform: Platform,
) -> None:
    await platform.deploy(LEAKS, resources={"limits": {"memory": "200Mi"}})
    await platform.until(lambda r: any("resources.limits.memory" in e.message for e in r.logs))
    logs = list(platform.home.function_logs("fn").iterdir())
    assert any("over its limit of 200.0 MiB" in path.read_text() for path in logs)


async def test_a_cron_trigger_sends_its_event_through_the_gateway(own_home: Home) -> None:
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        arrived.set_result(head + body)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with process(*redis_command(own_home, redis_binary())):
        eventually(lambda: answers(own_home.redis_socket))
        store = await Store.connect(redis_url(own_home))
        trigger = {
            "kind": "cron",
            "attributes": {"interval": "1s", "event": {"body": "beat"}},
        }
        document = {"metadata": {"name": "fn"}, "spec": {"triggers": {"beat": trigger}}}
        await store.create_function(
            FunctionRecord(
                name="fn",
                last_revision=1,
                state=FunctionState.SCALED_TO_ZERO,
                serving=Revision(number=1, document=document),
            )
        )
        settings = ControllerSettings(devices="cpu", gateway_url=f"http://127.0.0.1:{port}")
        running = asyncio.create_task(Controller(store, own_home, settings).run())
        async with asyncio.timeout(20):
            request = (await arrived).lower()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await store.close()
    server.close()
    assert b"x-nuclio-target: fn\r\n" in request
    assert request.endswith(b"beat")
