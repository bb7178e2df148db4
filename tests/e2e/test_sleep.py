"""A function that leaves its simulated device and comes back, with its processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CODE = """
import os

from stoker.sdk import on_sleep

WEIGHTS = {"on device": True}


def leave():
    WEIGHTS["on device"] = False


def come_back():
    WEIGHTS["on device"] = True


def init_context(context):
    on_sleep(sleep=leave, wake=come_back)


def handler(context, event):
    if not WEIGHTS["on device"]:
        raise RuntimeError("called while asleep")
    return str(os.getpid())
"""
SPEC: dict[str, Any] = {
    "minReplicas": 1,
    "maxReplicas": 1,
    "resources": {"limits": {"nvidia.com/gpu": 1}},
    "env": [
        {"name": "STOKER_SLEEP_AFTER", "value": "200ms"},
        {"name": "STOKER_GPU_MEMORY", "value": "4GiB"},
    ],
    "triggers": {"http": {"kind": "http", "numWorkers": 2}},
}


@pytest.fixture
def platform(home_dir: Path) -> Iterator[Platform]:
    made = Platform(home_dir)
    made.up(devices="sim:1x16GiB")
    yield made
    made.down()
    made.client.close()
    assert made.left() == []


def workers(platform: Platform) -> list[dict[str, Any]]:
    assert platform.endpoints is not None
    url = f"{platform.endpoints.control_url}/api/stoker/ps"
    replicas = platform.client.get(url).json()["replicas"]
    return [worker for replica in replicas for worker in replica["workers"]]


def promised(platform: Platform) -> int:
    assert platform.endpoints is not None
    top = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/top").json()
    return sum(device["promised_bytes"] for device in top["devices"])


def asleep(platform: Platform) -> bool:
    return {worker["phase"] for worker in workers(platform)} == {"asleep"}


def test_it_sleeps_frees_its_device_and_answers_with_the_same_processes(
    platform: Platform,
) -> None:
    assert platform.deploy("deep", CODE, **SPEC)["state"] == "ready"
    before = {worker["pid"] for worker in workers(platform)}
    assert promised(platform) == 8 << 30
    eventually(lambda: asleep(platform))
    eventually(lambda: promised(platform) == 0)
    reply = platform.call("deep")
    assert reply.status_code == 200, reply.text
    assert reply.headers["X-Stoker-Cold"] == "1"
    assert int(reply.text) in before
    assert {worker["pid"] for worker in workers(platform)} == before
    assert promised(platform) == 8 << 30


def test_no_request_is_lost_while_it_falls_asleep_again_and_again(platform: Platform) -> None:
    """Requests that race each falling asleep are served, never answered by a sleeper."""
    assert platform.deploy("deep", CODE, **SPEC)["state"] == "ready"
    answers: list[int] = []
    stop = threading.Event()

    def keep_calling() -> None:
        while not stop.is_set():
            answers.append(platform.call("deep").status_code)
            stop.wait(0.2)  # about the time after which it sleeps

    callers = [threading.Thread(target=keep_calling) for _ in range(2)]
    for caller in callers:
        caller.start()
    eventually(lambda: len(answers) >= 60, within_s=120)
    stop.set()
    for caller in callers:
        caller.join()
    assert set(answers) == {200}


def gpu_function(memory: str, **spec: Any) -> dict[str, Any]:
    env = [
        {"name": "STOKER_SLEEP_AFTER", "value": "300s"},
        {"name": "STOKER_GPU_MEMORY", "value": memory},
    ]
    return SPEC | {"env": env, "minReplicas": 0, "triggers": {}} | spec


def test_one_that_can_sleep_is_put_to_sleep_for_another_and_ended_only_for_its_context(
    home_dir: Path,
) -> None:
    platform = Platform(home_dir)
    platform.up(devices="sim:1x16GiB+1GiB")
    try:
        platform.deploy("deep", CODE, **gpu_function("12GiB"))
        assert platform.call("deep").status_code == 200
        (before,) = [worker["pid"] for worker in workers(platform)]
        platform.deploy("large", CODE, **gpu_function("14GiB"))
        assert platform.call("large").status_code == 200
        assert promised(platform) == 15 << 30, "the sleeper's context is on the card still"
        assert {w["phase"] for w in workers(platform) if w["pid"] == before} == {"asleep"}
        assert platform.call("deep").text == str(before), "it woke where it slept"
        assert promised(platform) == 13 << 30
        platform.deploy("whole", CODE, **gpu_function("16GiB"))
        assert platform.call("whole").status_code == 200
        assert promised(platform) == 16 << 30
        assert len(workers(platform)) == 1, "both contexts had to go"
        assert platform.call("deep").status_code == 200
    finally:
        platform.down()
        platform.client.close()
    assert platform.left() == []
