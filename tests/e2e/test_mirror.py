"""Mirrored traffic on a whole platform: a canary that sees everything and answers nobody."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually, platform_of_its_own
from stoker.quality import recorded

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SERVES = """
import os, time

def handler(context, event):
    seen = {k.lower(): v for k, v in event.headers.items()}
    who = "canary" if CANARY else "serving"
    with open(os.environ["SEEN"], "a") as file:
        file.write(who + " " + seen.get("x-stoker-mirror", "-") + "\\n")
    if CANARY == "broken":
        raise RuntimeError("no such column")
    if CANARY == "slow":
        time.sleep(0.5)
    n = event.body["n"] * (3 if CANARY == "wrong" else 2)
    return {"n": n + (1e-9 if CANARY else 0), "who": who}

CANARY = ""
"""
TRIGGERS = {"http": {"kind": "http", "numWorkers": 2}}
ALONE = 0.000001
"""A share of the traffic that no request of a test is dealt."""
DIFFERING = {"latency_ratio": None, "differing": 0.05}


@pytest.fixture(scope="module")
def live() -> Iterator[Platform]:
    with platform_of_its_own() as platform:
        platform.up()
        yield platform


class Function:
    """A function with a canary beside it."""

    def __init__(self, live: Platform, name: str, seen: Path, **env: str) -> None:
        self.live, self.name, self.seen = live, name, seen
        self.env = [{"name": k, "value": v} for k, v in {"SEEN": str(seen), **env}.items()]
        status = live.deploy(name, SERVES, env=self.env, triggers=TRIGGERS)
        assert status["state"] == "ready", status

    def canary(self, kind: str, **spec: Any) -> None:
        """Deploys a canary; returns once it gets copies."""
        assert self.live.endpoints is not None
        code = SERVES.replace('CANARY = ""', f'CANARY = "{kind}"')
        annotation = json.dumps(
            {"share": ALONE, "length_s": 600, "bounds": {"latency_ratio": None}, **spec}
        )
        document = {
            "metadata": {
                "name": self.name,
                "labels": {"nuclio.io/project-name": "default"},
                "annotations": {"stoker.io/canary": annotation},
            },
            "spec": {
                "handler": "main:handler",
                "runtime": "python",
                "build": {"functionSourceCode": base64.b64encode(code.encode()).decode()},
                "env": self.env,
                "triggers": TRIGGERS,
            },
        }
        url = f"{self.live.endpoints.control_url}/api/functions/{self.name}"
        posted = self.live.client.put(url, json=document)
        assert posted.status_code == 202, posted.text
        eventually(lambda: self.rollout()["history"])

    def rollout(self) -> dict[str, Any]:
        assert self.live.endpoints is not None
        url = f"{self.live.endpoints.control_url}/api/rollouts/{self.name}"
        found: dict[str, Any] = self.live.client.get(url).json()
        return found

    def ask(self, n: int) -> Any:
        body = json.dumps({"n": n}).encode()
        reply = self.live.call(self.name, body, **{"content-type": "application/json"})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def evidence(self) -> dict[str, Any]:
        canary = self.rollout()["canary"]
        return dict(canary["evidence"]) if canary else {}

    def sights(self) -> Counter[str]:
        return Counter(self.seen.read_text().splitlines())


def test_a_canary_that_answers_alike_is_seen_to_and_is_nobodys_answer(
    live: Platform, tmp_path: Path
) -> None:
    fn = Function(live, "alike", tmp_path / "seen", STOKER_RECORD="share=1")
    fn.canary("alike", mirror=1.0, ignore=["who"])
    answers = [fn.ask(n) for n in range(20)]
    assert answers == [{"n": 2 * n, "who": "serving"} for n in range(20)]
    eventually(lambda: fn.evidence()["mirrored"] >= 10)
    found = fn.evidence()
    assert (found["differing"], found["mirror_failed"]) == (0, 0)
    assert found["mirrored"] + found["mirror_dropped"] <= 20
    sights = fn.sights()
    assert sights.keys() == {"serving -", "canary 1"}
    assert sights["serving -"] == 20
    assert found["canary"]["requests"] == 0
    folder = live.home.function_traffic("alike")
    kept = eventually(lambda: (got := list(recorded.read(folder))) and len(got) == 20 and got)
    assert {one.revision for one in kept} == {1}, "copies are not recorded"


def test_a_canary_that_answers_otherwise_is_rolled_back_before_anybody_got_its_answers(
    live: Platform, tmp_path: Path
) -> None:
    fn = Function(live, "wrong", tmp_path / "seen")
    fn.canary("wrong", mirror=1.0, ignore=["who"], min_requests=10, bounds=DIFFERING)

    def over() -> bool:
        assert fn.ask(7) == {"n": 14, "who": "serving"}
        return fn.rollout()["canary"] is None

    eventually(over)
    (last,) = (event for event in fn.rollout()["history"] if event["step"] == "rolled_back")
    assert "mirrored requests were answered otherwise" in last["why"]
    assert last["evidence"]["differing"] == last["evidence"]["mirrored"] >= 10


@pytest.mark.parametrize("kind", ["broken", "slow"])
def test_nobody_waits_for_a_canary_that_fails_or_dawdles(
    live: Platform, tmp_path: Path, kind: str
) -> None:
    fn = Function(live, kind, tmp_path / "seen")
    fn.canary(kind, mirror=1.0, ignore=["who"])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(fn.ask, range(60)))
    assert answers == [{"n": 2 * n, "who": "serving"} for n in range(60)]
    eventually(lambda: fn.evidence()["mirrored"] >= 1)
    found = fn.evidence()
    if kind == "broken":
        assert found["differing"] >= 1
    else:
        # Two workers that take half a second each cannot have taken sixty copies meanwhile.
        assert found["mirror_dropped"] > 30
        assert found["stable"]["p95_ms"] < 250
