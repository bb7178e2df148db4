"""The life of a platform: up, down, twice, in the way of others, and with its parts killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from live_platform import Platform, eventually
from stoker.app import up
from stoker.nouns.errors import BadRequest, Conflict, StoreUnavailable

pytestmark = pytest.mark.e2e


def test_a_platform_comes_up_answers_and_goes_without_a_trace(platform: Platform) -> None:
    endpoints = platform.up()
    for url in (endpoints.control_url, endpoints.gateway_url):
        assert platform.client.get(f"{url}/readyz").status_code == 200
    assert platform.status.running
    assert platform.status.endpoints == endpoints
    assert all(process.alive for process in platform.status.processes)
    assert platform.down()
    assert platform.left() == []
    assert not platform.status.running
    assert [path for path in platform.home.run.rglob("*") if not path.is_dir()] == []
    assert not platform.down()


def test_functions_survive_down_and_up(running: Platform) -> None:
    assert running.deploy("echo")["state"] == "ready"
    assert running.call("echo", b"one").content == b"one"
    assert running.down()
    running.up()
    assert running.call("echo", b"two").content == b"two"


def test_down_ends_the_workers_too(running: Platform) -> None:
    running.deploy("echo", minReplicas=1, triggers={"http": {"kind": "http", "numWorkers": 2}})
    assert len(running.left()) >= 6
    assert running.down()
    assert running.left() == []


def test_a_second_up_on_one_home_refuses_and_names_the_first(running: Platform) -> None:
    with pytest.raises(Conflict, match=rf"pid {running.status.supervisor_pid}"):
        up.detach(running.settings())
    # The lock itself, not only the look before it: straight to the supervisor.
    second = subprocess.run(
        [sys.executable, "-c", _FOREGROUND, running.settings().model_dump_json()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert f"pid {running.status.supervisor_pid}" in second.stderr
    assert running.client.get(f"{running.endpoints.control_url}/readyz").status_code == 200


_FOREGROUND = """
import sys
from stoker.app import up
from stoker.app.settings import UpSettings
sys.exit(up.run(UpSettings.model_validate_json(sys.argv[1])))
"""


@pytest.mark.parametrize("option", ["port", "gateway_port"])
def test_a_taken_port_is_named_before_anything_starts(platform: Platform, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict) as refused:
            platform.up(**{option: port})
    assert f"port {port}" in refused.value.message
    assert f"pid {os.getpid()}" in refused.value.message
    assert f"--{option.replace('_', '-')}" in refused.value.message
    assert not (platform.home.logs / "redis.log").exists()
    assert platform.left() == []


@pytest.mark.parametrize("name", ["redis", "controller", "gateway-0", "zygote-plain"])
def test_a_killed_process_is_started_again_and_serves(running: Platform, name: str) -> None:
    running.deploy("echo")
    assert running.call("echo", b"before").content == b"before"
    killed = running.kill(name)
    eventually(lambda: running.pid(name) != killed)
    for url in (running.endpoints.control_url, running.endpoints.gateway_url):
        eventually(lambda url=url: _ready(running.client, url))
    assert eventually(lambda: _reply(running, b"after")) == b"after"
    assert running.deploy("another")["state"] == "ready"
    assert running.call("another", b"new").content == b"new"


def _ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _reply(platform: Platform, body: bytes) -> bytes | None:
    try:
        reply = platform.call("echo", body)
    except httpx.TransportError:
        return None
    return reply.content if reply.status_code == 200 else None


def test_a_killed_supervisor_leaves_a_serving_platform_which_the_next_one_adopts(
    running: Platform,
) -> None:
    running.deploy("echo")
    before = {process.name: process.pid for process in running.status.processes}
    os.kill(running.status.supervisor_pid or 0, signal.SIGKILL)
    eventually(lambda: not running.status.running)
    assert running.call("echo", b"orphaned").content == b"orphaned"
    running.up()
    assert {process.name: process.pid for process in running.status.processes} == before
    assert running.call("echo", b"adopted").content == b"adopted"
    killed = running.kill("gateway-0")
    eventually(lambda: running.pid("gateway-0") != killed)
    assert eventually(lambda: _reply(running, b"again")) == b"again"
    assert running.down()
    assert running.left() == []


def test_what_a_killed_supervisor_left_is_replaced_when_the_settings_differ(
    running: Platform,
) -> None:
    before = running.pid("gateway-0")
    os.kill(running.status.supervisor_pid or 0, signal.SIGKILL)
    eventually(lambda: not running.status.running)
    running.up(gateways=2, data_keys=("secret",))
    assert running.pid("gateway-0") != before
    assert running.pid("gateway-1")
    assert running.call("echo").status_code == 401


def test_down_ends_what_a_killed_supervisor_left(running: Platform) -> None:
    os.kill(running.status.supervisor_pid or 0, signal.SIGKILL)
    eventually(lambda: not running.status.running)
    assert running.left()
    assert running.down()
    assert running.left() == []


def test_a_second_interrupt_ends_everything_at_once(running: Platform) -> None:
    slow = "import time\ndef handler(context, event):\n    time.sleep(60)\n"
    running.deploy("slow", slow)
    pid = running.status.supervisor_pid or 0
    with pytest.raises(httpx.ReadTimeout):
        running.client.post(f"{running.endpoints.gateway_url}/slow", timeout=1)
    # Not the same signal twice: the system makes one of two that are pending.
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    eventually(lambda: not running.status.running, 5)
    assert running.left() == []


def test_a_start_that_fails_shows_the_log_of_what_failed_and_leaves_nothing(
    platform: Platform,
) -> None:
    platform.home.redis_data.mkdir(parents=True, mode=0o700)
    platform.home.root.chmod(0o700)
    (platform.home.redis_data / "appendonly.aof").write_bytes(b"this is no append-only file\n")
    with pytest.raises(Exception, match=r"(?s)redis ended before it was ready.*Bad file format"):
        platform.up()
    assert platform.left() == []
    assert not platform.status.running


def test_a_home_that_others_may_write_to_is_refused(platform: Platform) -> None:
    platform.home.root.chmod(0o777)
    with pytest.raises(BadRequest, match="chmod 700"):
        platform.up()


def test_everything_in_the_home_is_its_owners_alone(running: Platform) -> None:
    running.deploy("echo")
    assert stat.S_IMODE(running.home.root.stat().st_mode) == 0o700
    for name in ("redis.sock", "controller.json", "gateway-0.json", "endpoints.json"):
        mode = stat.S_IMODE((running.home.run / name).stat().st_mode)
        assert mode & 0o077 == 0, (name, oct(mode))


def test_keys_are_on_no_command_line_and_in_no_workers_environment(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_API_KEY", "sesame-42")
    platform.up(control_keys=("sesame-42",), data_keys=("sesame-42",))
    platform.client.headers["authorization"] = "Bearer sesame-42"
    shows = "import os\ndef handler(context, event):\n    return sorted(os.environ.values())\n"
    assert platform.deploy("shows", shows)["state"] == "ready"
    assert "sesame-42" not in platform.call("shows").text
    for process in platform.status.processes:
        assert b"sesame-42" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def test_a_redis_of_another_home_is_refused_at_the_start(
    platform: Platform, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    platform.up(redis=redis_url)
    assert platform.down()
    platform.home.id_file.write_text("another-home\n")
    with pytest.raises(StoreUnavailable, match="another home"):
        platform.up(redis=redis_url)


def test_an_unreachable_redis_is_refused_at_the_start(platform: Platform) -> None:
    with pytest.raises(StoreUnavailable, match="Redis is unavailable"):
        platform.up(redis="redis://127.0.0.1:1/0")
    assert platform.left() == []


def test_two_homes_run_side_by_side(running: Platform, tmp_path_factory: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="st-") as folder:
        other = Platform(Path(folder))
        try:
            other.up()
            running.deploy("echo")
            assert running.call("echo", b"x").content == b"x"
            assert other.call("echo", b"x").status_code == 404
            assert other.down()
            assert running.call("echo", b"y").content == b"y"
        finally:
            other.down()
            other.client.close()


def test_the_endpoints_file_tells_where_everything_is(running: Platform) -> None:
    told = json.loads(running.home.endpoints.read_bytes())
    assert told["home_id"] == running.home.id_file.read_text().strip()
    assert told["control_url"].startswith("http://127.0.0.1:")
    assert told["pid"] == running.status.supervisor_pid


def test_a_function_in_use_stays_warm_through_a_redis_that_is_away_longer_than_its_window(
    running: Platform,
) -> None:
    """Blind to demand, the controller once took the quiet for idleness and drained what served."""
    window = {"scaleResources": [{"metricName": "x", "windowSize": "3s"}]}
    running.deploy("echo", minReplicas=0, scaleToZero=window)
    assert running.call("echo", b"x").status_code == 200
    redis = running.pid("redis")
    os.kill(redis, signal.SIGSTOP)
    try:
        until = time.monotonic() + 6
        while time.monotonic() < until:
            reply = running.call("echo", b"x")
            assert (reply.status_code, reply.headers.get("X-Stoker-Cold")) == (200, None)
            time.sleep(0.05)
    finally:
        os.kill(redis, signal.SIGCONT)
    assert running.call("echo", b"x").status_code == 200
