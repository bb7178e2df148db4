"""What `stoker up` is made of, each tried alone: files, lock, ports, settings, back-off."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from stoker.app import found_devices as module
from stoker.app.backoff import delay_s
from stoker.app.files import make_home, tail, write_whole
from stoker.app.lock import HomeLock, holder
from stoker.app.plan import gateway_plan, redis_plan
from stoker.app.ports import free_port
from stoker.app.processes import ProcessRecord, end, ended, started_at
from stoker.app.settings import Endpoints, UpSettings
from stoker.nouns.device import Device, DeviceKind
from stoker.nouns.errors import BadRequest, Conflict, InsufficientStorage
from stoker.nouns.home import Home

pytestmark = pytest.mark.e2e


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_leaves_the_old_file_whole(
    home_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home_dir / "endpoints.json"
    write_whole(path, b"old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InsufficientStorage, match="disk is full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in home_dir.iterdir()] == ["endpoints.json"]


def test_the_id_of_a_home_is_made_once(home_dir: Path) -> None:
    home = Home.at(home_dir)
    first = make_home(home)
    assert make_home(home) == first
    assert len(first) == 16


def test_a_home_that_is_a_file_is_refused(home_dir: Path) -> None:
    (home_dir / "file").write_bytes(b"")
    with pytest.raises(BadRequest):
        make_home(Home.at(home_dir / "file"))


def test_a_lock_is_held_by_one_and_free_after_its_end(home_dir: Path) -> None:
    path = home_dir / "lock"
    assert holder(path) is None
    with HomeLock(path):
        assert holder(path) == os.getpid()
        with pytest.raises(Conflict, match=f"pid {os.getpid()}"), HomeLock(path):
            raise AssertionError("held twice")
    assert holder(path) is None
    with HomeLock(path):
        pass


def test_a_free_port_is_given_and_a_taken_one_refused() -> None:
    chosen = free_port("127.0.0.1", 0, "--port")
    assert free_port("127.0.0.1", chosen, "--port") == chosen
    with socket.create_server(("127.0.0.1", chosen)), pytest.raises(Conflict, match="--port"):
        free_port("127.0.0.1", chosen, "--port")


def test_who_has_a_taken_port_is_said_with_what_it_runs() -> None:
    """Cut after three words, an interpreter's options hid the module that it runs."""
    listens = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-S", "-E", "-c", listens]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with pytest.raises(Conflict, match=rf"pid {other.pid} \(.* -S -E -c import socket"):
            free_port("127.0.0.1", port, "--port")
        other.communicate()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({}, "no GPU: functions run on the CPU"),
        ({"a": 80 * 1024**3}, "1 GPU: 80.0 GiB"),
        ({"a": 80 * 1024**3, "b": 16 * 1024**3}, "2 GPUs: 80.0 GiB, 16.0 GiB"),
    ],
)
async def test_what_auto_has_found_is_told(
    found: dict[str, int], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tuple(Device(name, DeviceKind.CUDA, size) for name, size in found.items())
    driver = SimpleNamespace(list=lambda: listed)
    monkeypatch.setattr(module, "open_driver", lambda _spec, _home: driver)
    assert await module.found_devices("auto") == told
    assert await module.found_devices("cpu") == ""


async def test_a_driver_that_hangs_does_not_keep_the_platform_from_starting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = threading.Event()
    driver = SimpleNamespace(list=never.wait)
    monkeypatch.setattr(module, "open_driver", lambda _spec, _home: driver)
    told = await module.found_devices("auto", limit_s=0.01)
    never.set()
    assert told == "unknown: the driver has not answered within 0.01 s"


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(BadRequest, match="cannot listen on"):
        free_port("192.0.2.1", 0, "--port")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_strangers_are_let_in_only_with_keys_on_both_ports(host: str) -> None:
    for keys in ({}, {"control_keys": ("a",)}, {"data_keys": ("a",)}):
        with pytest.raises(ValidationError, match="host must be a loopback address"):
            UpSettings(home="/tmp/x", host=host, **keys)
    assert UpSettings(home="/tmp/x", host=host, control_keys=("a",), data_keys=("b",))


@pytest.mark.parametrize("port", ["control_keys", "data_keys"])
def test_an_empty_key_which_everybody_brings_is_refused(port: str) -> None:
    with pytest.raises(ValidationError, match="a key must not be empty"):
        UpSettings(home="/tmp/x", **{port: ("sesame", "")})


def test_keys_are_not_in_the_text_of_settings() -> None:
    told = UpSettings(home="/tmp/x", control_keys=("sesame",), data_keys=("sesame",))
    assert "sesame" not in repr(told)


def test_one_port_cannot_be_both() -> None:
    with pytest.raises(ValidationError, match="must differ"):
        UpSettings(home="/tmp/x", port=9000, gateway_port=9000)


def test_whatever_a_process_is_told_changes_its_fingerprint(home_dir: Path) -> None:
    home = Home.at(home_dir)
    endpoints = Endpoints(
        home_id="h", control_url="http://127.0.0.1:1", gateway_url="http://127.0.0.1:2",
        redis_url="unix:///x", devices="cpu", pid=1,
    )  # fmt: skip
    plain = gateway_plan(home, UpSettings(home=str(home_dir)), endpoints, 0)
    keyed = gateway_plan(home, UpSettings(home=str(home_dir), data_keys=("k",)), endpoints, 0)
    assert plain.fingerprint != keyed.fingerprint
    # The supervisor's own pid is in the endpoints, and is another at each start.
    again = endpoints.model_copy(update={"pid": 2})
    assert gateway_plan(home, UpSettings(home=str(home_dir)), again, 0) == plain
    assert "k" not in keyed.command


def test_the_embedded_redis_listens_on_no_port(home_dir: Path) -> None:
    command = redis_plan(Home.at(home_dir)).command
    assert command[command.index("--port") + 1] == "0"
    assert command[command.index("--unixsocket") + 1] == str(home_dir / "run" / "redis.sock")


@pytest.mark.parametrize(
    ("deaths", "expected"),
    [([0.0], 0.0), ([0.0, 1.0], 0.1), ([0.0, 1.0, 2.0], 0.2), ([0.0, 100.0], 0.0)],
)
def test_the_first_death_is_answered_at_once_and_repeated_ones_later(
    deaths: list[float], expected: float
) -> None:
    assert delay_s(deaths, now=deaths[-1]) == expected


def test_the_wait_between_deaths_is_bounded() -> None:
    assert delay_s([float(n) / 10 for n in range(100)], now=10.0) == 10.0


def _sleeper() -> tuple[subprocess.Popen[bytes], ProcessRecord]:
    process = subprocess.Popen(("sleep", "60"))
    return process, ProcessRecord(name="x", pid=process.pid, started=started_at(process.pid) or 0)


async def test_the_end_of_a_process_is_an_event() -> None:
    process, record = _sleeper()
    assert record.alive
    os.kill(process.pid, signal.SIGKILL)
    await ended(record)
    assert not record.alive  # a zombie still, and yet no longer alive
    process.wait()
    await ended(record)


async def test_a_process_that_ignores_the_request_is_killed() -> None:
    script = "trap '' TERM; echo deaf; while :; do read line; done"
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"deaf\n"
        record = ProcessRecord(name="x", pid=process.pid, started=started_at(process.pid) or 0)
        assert not await end(record, patience_s=0.1)
        assert process.wait() == -signal.SIGKILL


async def test_another_process_with_the_same_pid_is_left_alone() -> None:
    process, record = _sleeper()
    stranger = record.model_copy(update={"started": record.started - 1})
    assert not stranger.alive
    assert await end(stranger, patience_s=0.1)
    assert process.poll() is None
    await end(record, patience_s=5)
    process.wait()


def test_the_tail_of_a_log_begins_with_a_whole_line(home_dir: Path) -> None:
    path = home_dir / "x.log"
    assert tail(path) == ""
    path.write_text("".join(f"line {n}\n" for n in range(100)))
    assert tail(path, most=20).splitlines() == ["line 98", "line 99"]


@pytest.mark.parametrize("devices", ["foo", "sim:2x", "sim:x16GiB"])
def test_devices_that_cannot_be_read_are_refused_before_anything_starts(devices: str) -> None:
    """They were only seen a minute later, as a controller that does not answer."""
    with pytest.raises(ValidationError, match=r"devices"):
        UpSettings(devices=devices)
