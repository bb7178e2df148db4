"""New revisions on a share of the traffic of a real platform, under load all the time."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from live_platform import Platform, eventually

pytestmark = pytest.mark.e2e

ONE = """
def handler(context, event):
    return "one"
"""
TWO = """
def handler(context, event):
    return "two"
"""
SLOW = """
import time

def handler(context, event):
    time.sleep(0.1)
    return "slow"
"""
FAILING = """
def handler(context, event):
    raise RuntimeError("no such column")
"""
TWO_WORKERS = {"triggers": {"http": {"kind": "http", "numWorkers": 2}}}


class Load:
    """Clients that never stop asking; every answer is kept."""

    def __init__(self, platform: Platform, name: str, clients: int = 3) -> None:
        assert platform.endpoints is not None
        self.answers: list[tuple[int, str, str]] = []
        self._url = f"{platform.endpoints.gateway_url}/{name}"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._over.is_set():
                reply = client.post(self._url, content=b"x")
                revision = reply.headers.get("x-stoker-revision", "")
                self.answers.append((reply.status_code, revision, reply.text))
                time.sleep(0.004)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def statuses(self) -> Counter[int]:
        return Counter(status for status, _, _ in self.answers)


def canary(platform: Platform, name: str, code: str, **spec: Any) -> int:
    """Deploys a revision as a canary; its number, once it has its share or was refused one."""
    assert platform.endpoints is not None
    document = {
        "metadata": {
            "name": name,
            "labels": {"nuclio.io/project-name": "default"},
            "annotations": {"stoker.io/canary": json.dumps(spec)},
        },
        "spec": {
            "handler": "main:handler",
            "runtime": "python",
            "build": {"functionSourceCode": base64.b64encode(code.encode()).decode()},
            **TWO_WORKERS,
        },
    }
    url = f"{platform.endpoints.control_url}/api/functions/{name}"
    posted = platform.client.put(url, json=document, headers={"X-Stoker-User": "ann"})
    assert posted.status_code == 202, posted.text
    number = int(posted.headers["x-stoker-revision"])
    eventually(lambda: steps(platform, name, number))
    return number


def rollout(platform: Platform, name: str) -> dict[str, Any]:
    assert platform.endpoints is not None
    found = platform.client.get(f"{platform.endpoints.control_url}/api/rollouts/{name}")
    assert found.status_code == 200, found.text
    document: dict[str, Any] = found.json()
    return document


def steps(platform: Platform, name: str, number: int) -> list[str]:
    return [e["step"] for e in rollout(platform, name)["history"] if e["revision"] == number]


def ends_with(platform: Platform, name: str, number: int, step: str) -> dict[str, Any]:
    """The event with which it ended."""
    eventually(lambda: rollout(platform, name)["canary"] is None)
    history = [e for e in rollout(platform, name)["history"] if e["revision"] == number]
    last: dict[str, Any] = history[-1]
    assert last["step"] == step, history
    return last


def test_a_good_canary_is_promoted_under_load_and_no_request_fails(running: Platform) -> None:
    running.deploy("fn", ONE, **TWO_WORKERS)
    with Load(running, "fn") as load:
        number = canary(running, "fn", TWO, share=0.2, length_s=3, min_requests=20)
        began = len(load.answers)
        last = ends_with(running, "fn", number, "promoted")
        during = Counter(text for _, _, text in load.answers[began:])
        eventually(lambda: load.answers[-1][1] == str(number))
        time.sleep(0.5)
    assert set(load.statuses()) == {200}
    assert 0.1 < during["two"] / during.total() < 0.4, during
    assert load.answers[-1] == (200, str(number), "two")
    assert last["who"] == "stoker"
    assert last["evidence"]["canary"]["requests"] >= 20
    assert last["evidence"]["stable"]["requests"] > last["evidence"]["canary"]["requests"]
