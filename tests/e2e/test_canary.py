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
    """Deploys a revision as a canary; its number, once it has its share or was refused one.

    Its latency is judged only where ``bounds`` say so: of handlers that do nothing it is the
    machine's, and a busy one would roll back what is as good.
    """
    assert platform.endpoints is not None
    spec = {"bounds": {"latency_ratio": None}} | spec
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


def test_a_canary_that_was_made_slow_is_rolled_back_by_itself(running: Platform) -> None:
    running.deploy("fn", ONE, **TWO_WORKERS)
    with Load(running, "fn") as load:
        number = canary(running, "fn", SLOW, share=0.3, length_s=600, min_requests=20, bounds={})
        last = ends_with(running, "fn", number, "rolled_back")
        after = len(load.answers) + 50
        # How soon every gateway has heard of it is the machine's.
        eventually(
            lambda: (
                len(load.answers) > after and {text for _, _, text in load.answers[-50:]} == {"one"}
            )
        )
    assert set(load.statuses()) == {200}
    assert "its 95th percentile is" in last["why"]
    assert last["who"] == "stoker"
    assert last["evidence"]["canary"]["p95_ms"] > 90
    status = _function(running, "fn")["status"]
    assert (status["state"], status["servingRevision"]) == ("ready", 1)


def test_a_failing_canary_is_rolled_back_and_only_its_share_has_failed(running: Platform) -> None:
    running.deploy("fn", ONE, **TWO_WORKERS)
    with Load(running, "fn") as load:
        number = canary(running, "fn", FAILING, share=0.2, length_s=600, min_requests=20)
        last = ends_with(running, "fn", number, "rolled_back")
    failed = [revision for status, revision, _ in load.answers if status == 500]
    assert set(failed) == {str(number)}
    assert set(load.statuses()) == {200, 500}
    assert "requests failed (100.0%)" in last["why"]
    # Looked at within a second or so of the twentieth, at some hundreds a second.
    assert last["evidence"]["canary"]["requests"] < 20 + 400


def test_a_user_stays_on_one_side_and_a_client_may_promote_or_abort(running: Platform) -> None:
    running.deploy("fn", ONE, **TWO_WORKERS)
    first = canary(running, "fn", TWO, share=0.5, length_s=600, sticky="X-User")
    met: dict[str, set[str]] = {}
    for turn in range(5):
        for user in range(20):
            reply = running.call("fn", b"x", **{"X-User": f"user-{user}"})
            assert reply.status_code == 200
            met.setdefault(f"user-{user}", set()).add(reply.headers["x-stoker-revision"])
        assert turn >= 0
    assert all(len(revisions) == 1 for revisions in met.values())
    assert {revision for (revision,) in met.values()} == {"1", str(first)}
    assert running.endpoints is not None
    url = f"{running.endpoints.control_url}/api/rollouts"
    assert list(running.client.get(url).json()) == ["fn"]
    asked = running.client.post(f"{url}/fn/abort", json={"who": "ben", "why": "changed my mind"})
    assert asked.status_code == 202
    last = ends_with(running, "fn", first, "aborted")
    assert (last["who"], last["why"]) == ("ben", "changed my mind")
    assert {running.call("fn").text for _ in range(20)} == {"one"}
    assert running.client.post(f"{url}/fn/abort").status_code == 409
    assert running.client.post(f"{url}/nobody/abort").status_code == 404
    second = canary(running, "fn", TWO, share=0.1, length_s=600)
    assert running.client.post(f"{url}/fn/promote", json={"who": "ben"}).status_code == 202
    assert ends_with(running, "fn", second, "promoted")["who"] == "ben"
    eventually(lambda: {running.call("fn").text for _ in range(20)} == {"two"})


def test_a_controller_that_is_killed_goes_on_where_it_was_and_no_request_fails(
    running: Platform,
) -> None:
    running.deploy("fn", ONE, **TWO_WORKERS)
    with Load(running, "fn", clients=2) as load:
        number = canary(running, "fn", TWO, share=0.3, length_s=9, min_requests=20)
        eventually(lambda: (rollout(running, "fn")["canary"] or {}).get("ranS", 0) > 0)
        counted = rollout(running, "fn")["canary"]["evidence"]["canary"]["requests"]
        pids = _pids(running)
        running.kill("controller")
        eventually(lambda: _answers(running), within_s=40)
        last = ends_with(running, "fn", number, "promoted")
        survived = _pids(running)
        eventually(lambda: load.answers[-1][1] == str(number))
    assert set(load.statuses()) == {200}
    assert steps(running, "fn", number) == ["started", "resumed", "promoted"]
    assert last["evidence"]["canary"]["requests"] > counted
    assert survived[str(number)] == pids[str(number)]


def test_a_platform_that_was_stopped_in_between_comes_back_to_its_canary(
    platform: Platform,
) -> None:
    platform.up()
    platform.deploy("fn", ONE, **TWO_WORKERS)
    number = canary(platform, "fn", TWO, share=0.5, length_s=2, min_requests=20)
    assert {platform.call("fn").text for _ in range(10)} == {"one", "two"}
    platform.down()
    platform.up()
    assert rollout(platform, "fn")["canary"]["revision"] == number
    eventually(lambda: {platform.call("fn").text for _ in range(10)} == {"one", "two"})
    with Load(platform, "fn", clients=2) as load:
        ends_with(platform, "fn", number, "promoted")
    assert set(load.statuses()) == {200}
    assert steps(platform, "fn", number) == ["started", "resumed", "promoted"]


def _function(platform: Platform, name: str) -> dict[str, Any]:
    assert platform.endpoints is not None
    url = f"{platform.endpoints.control_url}/api/functions/{name}"
    document: dict[str, Any] = platform.client.get(url).json()
    return document


def _pids(platform: Platform) -> dict[str, list[int]]:
    """The workers' process ids by revision."""
    assert platform.endpoints is not None
    found = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/ps").json()
    return {
        str(replica["revision"]): [worker["pid"] for worker in replica["workers"]]
        for replica in found["replicas"]
    }


def _answers(platform: Platform) -> bool:
    assert platform.endpoints is not None
    try:
        url = f"{platform.endpoints.control_url}/api/rollouts"
        return platform.client.get(url).status_code == 200
    except httpx.TransportError:
        return False
