"""Whole platforms in homes of their own, for the end-to-end tests."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from stoker.app import up
from stoker.app.down import down
from stoker.app.processes import marked
from stoker.app.settings import Endpoints, UpSettings
from stoker.app.status import PlatformStatus, status
from stoker.nouns.home import Home

ECHO = """
def handler(context, event):
    return event.body
"""
WITHIN_S = 30.0


def eventually(what: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """The first truthy answer; an assertion error with the last one after ``within_s``."""
    deadline = time.monotonic() + within_s
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: last was {answer!r}"
        time.sleep(0.02)
    return answer


@contextmanager
def home_of_its_own() -> Iterator[Path]:
    """An empty folder for a home, with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="st-"))
    try:
        yield folder
    finally:
        eventually(lambda: _removed(folder))


def _removed(folder: Path) -> bool:
    """Whether the folder is gone: what is ending meanwhile may still write into it."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextmanager
def platform_of_its_own() -> Iterator[Platform]:
    """A home whose platform is not started yet; whatever runs is ended at the end."""
    with home_of_its_own() as folder:
        made = Platform(folder)
        try:
            yield made
        finally:
            made.down()
            made.client.close()
            left = made.left() if made.home.id_file.exists() else []
        assert left == []


class Platform:
    """A home, and the platform that may run on it."""

    def __init__(self, root: Path) -> None:
        self.home = Home.at(root)
        self.client = httpx.Client(timeout=60, trust_env=False)
        self.endpoints: Endpoints | None = None
        self.settles_within_s = WITHIN_S
        self._settings: dict[str, Any] = {}

    def settings(self, **changed: Any) -> UpSettings:
        told = {"home": str(self.home.root), "port": 0, "gateway_port": 0, "devices": "cpu"}
        return UpSettings(**{**told, "zygotes": ("plain",), **self._settings, **changed})

    def up(self, **changed: Any) -> Endpoints:
        """Starts it detached; later starts use the same settings and ports."""
        self.endpoints = up.detach(self.settings(**changed))
        self._settings = {
            **changed,
            "port": int(self.endpoints.control_url.rpartition(":")[2]),
            "gateway_port": int(self.endpoints.gateway_url.rpartition(":")[2]),
        }
        return self.endpoints

    def down(self, timeout_s: float = 60) -> bool:
        return down(self.home, timeout_s)

    @property
    def status(self) -> PlatformStatus:
        return status(self.home)

    def pid(self, name: str) -> int:
        return {process.name: process.pid for process in self.status.processes}[name]

    def kill(self, name: str) -> int:
        """SIGKILL; the pid that it had."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def left(self) -> list[str]:
        """What still runs of it, workers included."""
        found = marked(self.home.id_file.read_text().strip())
        return [f"{process.name} {process.pid}" for process in found]

    def deploy(self, name: str, code: str = ECHO, **spec: Any) -> dict[str, Any]:
        """Deploys a function by the dashboard API and waits until it has settled."""
        assert self.endpoints is not None
        source = base64.b64encode(code.encode()).decode()
        document = {
            "metadata": {"name": name, "labels": {"nuclio.io/project-name": "default"}},
            "spec": {
                "handler": "main:handler",
                "runtime": "python",
                "build": {"functionSourceCode": source},
                **spec,
            },
        }
        url = f"{self.endpoints.control_url}/api/functions"
        posted = self.client.post(url, json=document, headers={"x-nuclio-project-name": "default"})
        assert posted.status_code == 202, posted.text
        settled: dict[str, Any]
        settled = eventually(lambda: self._settled(f"{url}/{name}"), self.settles_within_s)
        return settled

    def _settled(self, url: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self.client.get(url).json()["status"]
        return found if found["state"] in ("ready", "scaledToZero", "error", "unhealthy") else None

    def call(self, name: str, body: bytes = b"", **headers: str) -> httpx.Response:
        assert self.endpoints is not None
        url = f"{self.endpoints.gateway_url}/{name}"
        return self.client.post(url, content=body, headers=headers)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-3000:]}" for path in self.home.logs.glob("*.log")
        )
