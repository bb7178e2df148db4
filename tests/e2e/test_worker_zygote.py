"""Zygotes: what they promise about their forks, and what outlives them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import home_of_its_own
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.wire import Kind, frame
from stoker.worker.preimport import CUDA_DEVICE
from worker_client import WorkerClient, ZygoteUnderTest, write_function

pytestmark = pytest.mark.e2e

ECHO = "def handler(context, event):\n    return event.body\n"


@pytest.fixture
def home() -> Iterator[Path]:
    with home_of_its_own() as folder:
        yield folder


@pytest.fixture
def zygote(home: Path) -> Iterator[ZygoteUnderTest]:
    zygote = ZygoteUnderTest(home)
    yield zygote
    zygote.stop()


def launch_of(zygote: ZygoteUnderTest, replica: str, source: str, **fields: Any) -> WorkerLaunch:
    root = zygote.home.root
    return WorkerLaunch(
        **{
            "function": "f",
            "revision": 1,
            "replica": replica,
            "index": 0,
            "socket": str(zygote.home.worker_socket(replica, 0)),
            "log": str(root / f"{replica}.log"),
            "code_dir": str(write_function(root / "code" / replica, source)),
            "handler": "main:handler",
        }
        | fields
    )


async def echoes(launch: WorkerLaunch, body: bytes = b"x") -> bool:
    client = await WorkerClient.connect(launch.socket)
    await client.phase("ready")
    reply = await client.call(body)
    await client.close()
    return reply.body == body


async def test_workers_survive_the_zygotes_kill_and_a_new_one_takes_over(
    home: Path, zygote: ZygoteUnderTest
) -> None:
    first = launch_of(zygote, "a", ECHO)
    zygote.start(first)
    client = await WorkerClient.connect(first.socket)
    await client.phase("ready")
    zygote.process.kill()
    zygote.process.wait()
    assert (await client.call(b"after")).body == b"after"
    assert await echoes(first, b"a new caller too")
    successor = ZygoteUnderTest(home)
    try:
        second = launch_of(zygote, "b", ECHO)
        assert successor.start(second)["kind"] == "started"
        assert await echoes(second)
    finally:
        successor.stop()
        await client.close()


async def test_an_exit_that_nobody_heard_is_told_to_the_next_controller(
    zygote: ZygoteUnderTest,
) -> None:
    launch = launch_of(zygote, "a", "import os\ndef handler(context, event):\n    os._exit(5)\n")
    pid = zygote.start(launch)["pid"]
    client = await WorkerClient.connect(launch.socket)
    await client.phase("ready")
    zygote.disconnect()
    # A second connection, opened and closed, proves that the zygote has seen the first one's end.
    probe = socket.socket(socket.AF_UNIX)
    probe.connect(str(zygote.home.zygote_socket("plain")))
    assert b"hello" in probe.recv(4096)
    probe.close()
    assert (await client.call()).lost
    await client.close()
    zygote.connect()
    assert zygote.exit_of(pid) == 5


def test_a_second_controller_is_served_beside_the_first(zygote: ZygoteUnderTest) -> None:
    first = zygote.sock, zygote._lines
    zygote.connect()
    assert zygote.start(launch_of(zygote, "a", ECHO))["kind"] == "started"
    for held in first:
        held.close()


def test_what_cannot_be_started_is_refused_with_a_reason(zygote: ZygoteUnderTest) -> None:
    long = zygote.start(launch_of(zygote, "a", ECHO, socket=f"/tmp/{'x' * 120}"))
    assert long["kind"] == "refused"
    assert "over 107 bytes" in long["message"]
    zygote.sock.sendall(b'{"function": "f"}\n')
    broken = zygote.reply()
    assert broken["kind"] == "refused"
    assert "code_dir" in broken["message"]
    assert zygote.start(launch_of(zygote, "b", ECHO))["kind"] == "started"


async def test_a_stale_socket_is_replaced(zygote: ZygoteUnderTest) -> None:
    launch = launch_of(zygote, "a", ECHO)
    Path(launch.socket).parent.mkdir(parents=True, exist_ok=True)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(launch.socket)
    stale.close()
    zygote.start(launch)
    assert await echoes(launch)


async def test_a_fresh_process_says_in_its_log_why_it_is_one(zygote: ZygoteUnderTest) -> None:
    launch = launch_of(
        zygote, "a", ECHO, fresh=True, fresh_reason="it needs another interpreter state"
    )
    reply = zygote.start(launch)
    assert reply["message"] == "new process: it needs another interpreter state"
    assert await echoes(launch)
    assert "it needs another interpreter state" in Path(launch.log).read_text()
    client = await WorkerClient.connect(launch.socket)
    client.write(frame(Kind.DRAIN, 0))
    assert zygote.exit_of(reply["pid"]) == 0
    await client.close()


async def test_a_function_that_brings_its_own_version_is_not_forked(
    zygote: ZygoteUnderTest,
) -> None:
    site = zygote.home.root / "site"
    write_function(site / "nuclio_sdk_extra", "", "__init__.py")
    write_function(site, "VERSION = 'mine'\n", "croniter.py")
    source = "import croniter\ndef handler(c, e):\n    return croniter.VERSION.encode()\n"
    forked = launch_of(zygote, "a", source, site_dir=str(site))
    assert "message" not in zygote.start(forked)
    assert await echoes(forked, b"mine")
    write_function(site, "", "pydantic_core.py")
    conflicting = launch_of(zygote, "b", ECHO, site_dir=str(site))
    assert "brings its own pydantic_core" in zygote.start(conflicting)["message"]


async def test_forked_workers_draw_different_random_numbers(zygote: ZygoteUnderTest) -> None:
    source = "import random\ndef handler(context, event):\n    return str(random.random())\n"
    drawn = set()
    for name in ("a", "b"):
        launch = launch_of(zygote, name, source)
        zygote.start(launch)
        client = await WorkerClient.connect(launch.socket)
        await client.phase("ready")
        drawn.add((await client.call()).body)
        await client.close()
    assert len(drawn) == 2


async def test_a_worker_holds_nothing_of_its_zygote(zygote: ZygoteUnderTest) -> None:
    source = (
        "import os\ndef handler(context, event):\n"
        "    return {f: os.readlink(f'/proc/self/fd/{f}') for f in os.listdir('/proc/self/fd')\n"
        "            if os.path.lexists(f'/proc/self/fd/{f}')} | {'sid': os.getsid(0)}\n"
    )
    zygote.start(launch_of(zygote, "other", ECHO))
    launch = launch_of(zygote, "a", source)
    pid = zygote.start(launch)["pid"]
    client = await WorkerClient.connect(launch.socket)
    await client.phase("ready")
    held = (await client.call()).json
    await client.close()
    assert held.pop("sid") == pid
    sockets = [where for where in held.values() if where.startswith("socket:")]
    # Its listener, this client, and the loop's own waking pair at most.
    assert len(sockets) <= 4
    assert not any("pidfd" in where for where in held.values())


def test_a_kind_that_is_not_installed_says_so(home: Path) -> None:
    # A finder that hides mlrun stands in for an environment without the extra.
    hidden = write_function(home / "hide", "raise ImportError('not here')\n", "mlrun.py")
    ended = subprocess.run(
        [sys.executable, "-m", "stoker.worker.zygote", "--kind", "mlrun", "--home", str(home)],
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 4
    assert "the mlrun zygote needs mlrun" in ended.stderr


TORCH = """
import json, os, torch
def handler(context, event):
    if event.body:
        torch.set_num_threads(2)
    a = torch.ones(700, 700)
    total = float((a @ a).sum())
    return {"total": total, "threads": torch.get_num_threads(),
            "tasks": len(os.listdir("/proc/self/task")), "random": float(torch.rand(1))}
"""


@pytest.mark.models
async def test_a_worker_forked_from_the_torch_zygote_can_use_two_threads(home: Path) -> None:
    zygote = ZygoteUnderTest(home, "torch")
    try:
        seen = set()
        for name, threads in (("a", 2), ("b", 1)):
            launch = launch_of(zygote, name, TORCH, threads=threads, event_timeout_s=20)
            reply = zygote.start(launch)
            assert "message" not in reply, reply
            client = await WorkerClient.connect(launch.socket)
            await client.phase("ready")
            answer = (await client.call()).json
            assert answer["threads"] == threads
            two = (await client.call(b"two")).json
            assert two["total"] == pytest.approx(700.0**3, rel=1e-3)
            assert two["threads"] == 2
            assert two["tasks"] >= 2
            seen.add(answer["random"])
            await client.close()
        assert len(seen) == 2
        pid = zygote.process.pid
        assert len(os.listdir(f"/proc/{pid}/task")) == 1
        opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert CUDA_DEVICE not in opened
        assert zygote.hello["message"].startswith("torch: imported ")
    finally:
        zygote.stop()


@pytest.mark.mlrun
async def test_the_mlrun_zygote_forks_a_serving_function(home: Path) -> None:
    zygote = ZygoteUnderTest(home, "mlrun")
    try:
        source = (
            "import json, mlrun\ndef handler(context, event):\n"
            "    return json.dumps(mlrun.mlconf.dbpath)\n"
        )
        launch = launch_of(zygote, "a", source, env={"MLRUN_DBPATH": "http://127.0.0.1:9"})
        reply = zygote.start(launch)
        assert "message" not in reply, reply
        client = await WorkerClient.connect(launch.socket)
        await client.phase("ready")
        assert json.loads((await client.call()).body) == "http://127.0.0.1:9"
        await client.close()
        assert len(os.listdir(f"/proc/{zygote.process.pid}/task")) == 1
    finally:
        zygote.stop()


FORKS = """
import multiprocessing, os, signal, time

def init_context(context):
    reader, writer = os.pipe()
    context.user_data.child = multiprocessing.get_context("fork").Process(
        target=stay, args=(writer,), daemon=True
    )
    context.user_data.reader = reader

def stay(writer):
    if os.environ["ESCAPE"]:
        os.setsid()
    os.write(writer, b"x")
    time.sleep(300)

def handler(context, event):
    child = context.user_data.child
    if event.body == b"start":
        child.start()
        os.read(context.user_data.reader, 1)
    if event.body == b"terminate":
        child.terminate()
        child.join(30)
        return str(child.exitcode)
    return str(child.pid)
"""


async def test_a_workers_death_is_seen_although_a_process_that_it_forked_lives_on(
    zygote: ZygoteUnderTest,
) -> None:
    launch = launch_of(zygote, "a", FORKS, env={"ESCAPE": "1"})
    pid = zygote.start(launch)["pid"]
    client = await WorkerClient.connect(launch.socket)
    await client.phase("ready")
    child = int((await client.call(b"start")).body)
    os.kill(pid, signal.SIGKILL)
    try:
        await client.until_lost()
        assert zygote.exit_of(pid) == -signal.SIGKILL
        assert listening_paths().isdisjoint({launch.socket})
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        await client.close()


def listening_paths() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()}


async def test_what_a_worker_forked_ends_with_it(zygote: ZygoteUnderTest) -> None:
    launch = launch_of(zygote, "a", FORKS, env={"ESCAPE": ""})
    pid = zygote.start(launch)["pid"]
    client = await WorkerClient.connect(launch.socket)
    await client.phase("ready")
    child = int((await client.call(b"start")).body)
    descriptor = os.pidfd_open(child)
    os.kill(pid, signal.SIGKILL)
    assert zygote.exit_of(pid) == -signal.SIGKILL
    ended, _, _ = select.select([descriptor], [], [], 10)
    os.close(descriptor)
    await client.close()
    assert ended


async def test_a_forked_process_can_be_terminated_without_draining_its_worker(
    zygote: ZygoteUnderTest,
) -> None:
    launch = launch_of(zygote, "a", FORKS, env={"ESCAPE": ""})
    zygote.start(launch)
    client = await WorkerClient.connect(launch.socket)
    await client.phase("ready")
    await client.call(b"start")
    assert (await client.call(b"terminate")).body == b"-15"
    assert (await client.call()).status == 200
    assert [state["phase"] for state in client.states] == ["starting", "ready"][
        -len(client.states) :
    ]
    await client.close()


async def test_a_variable_that_only_a_new_process_heeds_gets_one(zygote: ZygoteUnderTest) -> None:
    source = (
        "import sys\ndef handler(context, event):\n    return str(sys.flags.hash_randomization)\n"
    )
    launch = launch_of(zygote, "a", source, env={"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"})
    assert "PYTHONHASHSEED has an effect only" in zygote.start(launch)["message"]
    client = await WorkerClient.connect(launch.socket)
    await client.phase("ready")
    assert (await client.call()).body == b"0"
    await client.close()
    usual = launch_of(zygote, "b", ECHO, env={"PYTHONUNBUFFERED": "1", "GREETING": "hej"})
    assert zygote.start(usual).get("message", "") == ""
    assert await echoes(usual)


async def test_a_forked_worker_keeps_the_declared_time_zone(zygote: ZygoteUnderTest) -> None:
    source = (
        "import time\ndef handler(context, event):\n    return str(time.localtime(0).tm_hour)\n"
    )
    launch = launch_of(zygote, "a", source, env={"TZ": "XXX-05:00"})
    assert zygote.start(launch).get("message", "") == ""
    client = await WorkerClient.connect(launch.socket)
    await client.phase("ready")
    assert (await client.call()).body == b"5"
    await client.close()
