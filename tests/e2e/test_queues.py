"""Streams between real processes: what is put is done, whoever is killed meanwhile."""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from live_platform import Platform, eventually

pytestmark = pytest.mark.e2e

NAME = "projects/orders"
WRITE = """
import os, time

def handler(context, event):
    text = event.body.decode()
    if text == "poison":
        os._exit(9)
    if text == "bad":
        raise ValueError("a bad record")
    time.sleep(float(os.environ.get("SLOW", "0")))
    line = f"{event.shard_id} {event.offset} {text}\\n".encode()
    handle = os.open(os.environ["OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line)
    os.close(handle)
"""
COMMIT = """
import os
import nuclio_sdk

held = []

def note(word, text):
    handle = os.open(os.environ["OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{word} {text}\\n".encode())
    os.close(handle)

def init_context(context):
    async def last():
        if held:
            note("last", held[-1].offset)
            await context.platform.explicit_ack(held[-1])
    context.platform.set_termination_callback(last)

async def handler(context, event):
    text = event.body.decode()
    note("got", text)
    held.append(nuclio_sdk.QualifiedOffset.from_event(event))
    if text == "commit":
        await context.platform.explicit_ack(held[-1])
        held.clear()
"""


class Queue:
    """A stream, and the function that reads it into a file."""

    def __init__(self, platform: Platform, out: Path) -> None:
        self.platform = platform
        self.out = out

    @property
    def url(self) -> str:
        assert self.platform.endpoints is not None
        return self.platform.endpoints.control_url

    def ask(self, function: str, body: Any) -> httpx.Response:
        headers = {"X-v3io-function": function, "X-v3io-session-key": "any"}
        return self.platform.client.post(f"{self.url}/{NAME}/", json=body, headers=headers)

    def create(self, shards: int = 1) -> None:
        created = self.ask("CreateStream", {"ShardCount": shards, "RetentionPeriodHours": 1})
        assert created.status_code == 204, created.text

    def put(self, *texts: str, shard: int | None = None) -> None:
        """Puts records, and again until they are taken: as mlrun's own clients do."""
        records = [{"Data": base64.b64encode(text.encode()).decode()} for text in texts]
        for record in records if shard is not None else ():
            record["ShardId"] = shard  # type: ignore[assignment]
        eventually(lambda: self._put(records), within_s=60)

    def _put(self, records: list[dict[str, str]]) -> bool:
        try:
            return self.ask("PutRecords", {"Records": records}).status_code == 200
        except httpx.TransportError:
            return False

    def deploy(self, code: str = WRITE, **changed: Any) -> None:
        """Deploys the reader, again too. ``changed``: attributes, ``spec``, ``env``, ``ack``."""
        spec, env, mode = (changed.pop(key, None) for key in ("spec", "env", "ack"))
        container, _, path = NAME.partition("/")
        attributes = {
            "containerName": container,
            "streamPath": path,
            "consumerGroup": "readers",
            "seekTo": "earliest",
            "retryIntervalMs": 50,
            **changed,
        }
        trigger = {"kind": "v3ioStream", "attributes": attributes, "explicitAckMode": mode}
        variables = [{"name": "OUT", "value": str(self.out)}]
        variables += [{"name": name, "value": value} for name, value in (env or {}).items()]
        declared = {
            "handler": "main:handler",
            "runtime": "python",
            "build": {"functionSourceCode": base64.b64encode(code.encode()).decode()},
            "triggers": {"stream": trigger},
            "env": variables,
            **(spec or {}),
        }
        done = self.platform.client.put(
            f"{self.url}/api/functions/reader",
            json={"metadata": {"name": "reader"}, "spec": declared},
            headers={"X-Nuclio-Wait-Function-Action": "true"},
        )
        assert done.status_code == 202, done.text

    @property
    def lines(self) -> list[str]:
        return self.out.read_text().splitlines() if self.out.exists() else []

    @property
    def texts(self) -> list[str]:
        return [line.rpartition(" ")[2] for line in self.lines]

    @property
    def group(self) -> dict[str, Any]:
        found = self.platform.client.get(f"{self.url}/api/streams/{NAME}").json()
        groups: list[dict[str, Any]] = found["groups"]
        return next((group for group in groups if group["name"] == "readers"), {})

    def done(self) -> bool:
        """Nothing is left to be read, tried or acknowledged."""
        try:
            group = self.group
        except httpx.TransportError:
            return False
        return bool(group) and group["lag"] == group["pending"] == 0


@pytest.fixture
def queue(running: Platform, tmp_path: Path) -> Queue:
    return Queue(running, tmp_path / "out.txt")


def test_records_wake_a_function_come_in_order_and_leave_it_at_zero_again(queue: Queue) -> None:
    queue.create()
    queue.deploy(
        spec={"minReplicas": 0, "scaleToZero": {"scaleResources": [{"windowSize": "500ms"}]}}
    )
    queue.platform.client.patch(
        f"{queue.url}/api/functions/reader", json={"desiredState": "scaledToZero"}
    )
    eventually(lambda: _replicas(queue) == 0)
    queue.put(*(f"r{number}" for number in range(50)))
    eventually(lambda: queue.done() and len(queue.lines) == 50)
    assert queue.lines == [f"0 {number + 1} r{number}" for number in range(50)]
    eventually(lambda: _replicas(queue) == 0)
    # An http request reaches it all the same, as Nuclio's default trigger would.
    queue.platform.client.get(f"{queue.platform.endpoints.gateway_url}/reader")  # type: ignore[union-attr]
    assert _replicas(queue) == 1


def _replicas(queue: Queue) -> int:
    rows = queue.platform.client.get(f"{queue.url}/api/stoker/top").json()["functions"]
    counts: dict[str, int] = rows[0]["replicas"]
    return sum(counts.values())


def test_a_bad_record_and_one_that_kills_its_worker_are_given_up_and_can_be_replayed(
    queue: Queue,
) -> None:
    queue.create()
    queue.deploy(maxTries=2)
    queue.put("one", "bad", "poison", "two")
    eventually(lambda: queue.done() and queue.group["dead"] == 2)
    assert sorted(queue.texts) == ["one", "two"]
    dead = queue.platform.client.get(f"{queue.url}/api/streams/{NAME}/dead").json()["dead"]
    reasons = {letter["text"]: letter["reason"] for letter in dead}
    assert "a bad record" in reasons["bad"]
    assert "worker_lost" in reasons["poison"]
    assert {letter["tries"] for letter in dead} == {2}
    # The handler is mended; what it could not do is done now.
    queue.deploy(WRITE.replace('"bad"', '"worse"').replace('"poison"', '"worst"'), maxTries=2)
    replayed = queue.platform.client.post(
        f"{queue.url}/api/streams/{NAME}/replay", json={"dead": True}
    )
    assert replayed.json() == {"group": "readers", "replayed": 2}
    eventually(lambda: queue.done() and len(queue.texts) == 4)
    assert sorted(queue.texts) == ["bad", "one", "poison", "two"]
    assert queue.group["dead"] == 0


@pytest.mark.parametrize("victim", ["worker", "gateway-0", "redis", "controller"])
@pytest.mark.timeout(180)
def test_no_record_is_lost_when_a_process_is_killed(queue: Queue, victim: str) -> None:
    queue.create(shards=2)
    queue.deploy(maxTries=50, env={"SLOW": "0.005"}, spec={"minReplicas": 1})
    sent = [f"r{number}" for number in range(200)]
    for begin in range(0, 100, 20):
        queue.put(*sent[begin : begin + 20])
    eventually(lambda: len(queue.lines) >= 20)
    _kill(queue, victim)
    for begin in range(100, 200, 20):
        queue.put(*sent[begin : begin + 20])
    eventually(lambda: queue.done() and set(queue.texts) >= set(sent), within_s=120)
    assert set(queue.texts) == set(sent)
    assert queue.group["dead"] == 0
    # At least once: the one that was under way may be there twice, not everything.
    assert len(queue.texts) <= len(sent) + 60


def _kill(queue: Queue, victim: str) -> None:
    if victim != "worker":
        queue.platform.kill(victim)
        return
    rows = queue.platform.client.get(f"{queue.url}/api/stoker/ps").json()["replicas"]
    os.kill(rows[0]["workers"][0]["pid"], signal.SIGKILL)


@pytest.mark.timeout(120)
def test_two_gateways_share_the_shards_and_one_takes_over(
    platform: Platform, tmp_path: Path
) -> None:
    platform.up(gateways=2)
    queue = Queue(platform, tmp_path / "out.txt")
    queue.create(shards=8)
    queue.deploy(spec={"minReplicas": 1})
    eventually(lambda: len(_consumers(queue)) == 2)
    # A gateway that is stopped for good: the supervisor would start a killed one again at once.
    os.kill(platform.pid("gateway-1"), signal.SIGSTOP)
    try:
        eventually(lambda: _consumers(queue) == {"gateway-0/reader"}, within_s=40)
        queue.put(*(f"r{number}" for number in range(80)))
        eventually(lambda: queue.done() and len(set(queue.texts)) == 80)
    finally:
        os.kill(platform.pid("gateway-1"), signal.SIGCONT)
    # Awake again, it reads nothing that is not its own any more.
    queue.put("last")
    eventually(lambda: queue.done() and "last" in queue.texts)
    assert len(queue.texts) == 81


def _consumers(queue: Queue) -> set[str]:
    found = queue.platform.client.get(f"{queue.url}/api/streams/{NAME}").json()["shardStates"]
    return {group["consumer"] for state in found for group in state["groups"]} - {""}


def test_explicitly_acknowledged_records_are_done_and_the_rest_comes_again(queue: Queue) -> None:
    queue.create()
    queue.deploy(COMMIT, ack="explicitOnly", workerAllocationMode="static")
    queue.put("a", "b", "commit", "c", "d")
    eventually(lambda: queue.texts == ["a", "b", "commit", "c", "d"])
    eventually(lambda: queue.group["pending"] == 2)
    _kill(queue, "worker")
    eventually(lambda: queue.texts[5:] == ["c", "d"])
    assert queue.group["pending"] == 2
    queue.put("commit")
    eventually(lambda: queue.done())


def test_a_worker_that_is_drained_says_what_it_has_done_before_it_goes(queue: Queue) -> None:
    queue.create()
    queue.deploy(COMMIT, ack="explicitOnly", workerAllocationMode="static")
    queue.put("a", "b")
    eventually(lambda: queue.texts == ["a", "b"])
    eventually(lambda: queue.group["pending"] == 2)
    queue.deploy(
        COMMIT + "\n# the next revision\n", ack="explicitOnly", workerAllocationMode="static"
    )
    eventually(lambda: queue.done())
    assert queue.lines == ["got a", "got b", "last 2"]


def test_a_deployed_reader_is_described(queue: Queue) -> None:
    queue.create()
    queue.deploy()
    queue.put("x")
    eventually(lambda: queue.done() and queue.texts == ["x"])
    labels = 'function="reader",gateway="gateway-0",group="readers",stream="projects/orders"'
    eventually(lambda: f"stoker_stream_acked_total{{{labels}}} 1.0" in _metrics(queue))
    log = json.dumps(
        queue.platform.client.get(f"{queue.url}/api/functions/reader").json()["status"]["logs"]
    )
    assert "does not act" not in log
    assert "does nothing" not in log


def _metrics(queue: Queue) -> str:
    return queue.platform.client.get(f"{queue.url}/metrics").text
