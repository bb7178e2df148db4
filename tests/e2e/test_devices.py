"""Devices with real processes: pinning, shares, what others hold, a card that falls off the bus."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually
from stoker.controller.settings import usable_cores

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WHO = """
import os
def handler(context, event):
    return os.environ["CUDA_VISIBLE_DEVICES"]
"""


def gpus(count: int, workers: int, each: str | None = None, **spec: Any) -> dict[str, Any]:
    env = [{"name": "STOKER_GPU_MEMORY", "value": each}] if each else []
    return {
        "resources": {"limits": {"nvidia.com/gpu": count}},
        "triggers": {"http": {"kind": "http", "numWorkers": workers}},
        "env": env,
        "minReplicas": 1,
        "maxReplicas": 1,
        **spec,
    }


def environments(platform: Platform, name: str) -> list[dict[str, str]]:
    """What the kernel knows of the workers' environments and what they say; in their order."""
    assert platform.endpoints is not None
    url = f"{platform.endpoints.control_url}/api/stoker/ps"
    replicas = [r for r in platform.client.get(url).json()["replicas"] if r["function"] == name]
    pids = [worker["pid"] for replica in replicas for worker in replica["workers"]]
    return [environment(pid) for pid in pids]


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def devices(platform: Platform) -> dict[str, dict[str, Any]]:
    assert platform.endpoints is not None
    seen = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/top").json()
    return {device["id"]: device for device in seen["devices"]}


def rehearse(platform: Platform, **told: Any) -> None:
    """Written beside and moved: a look must not find half of it."""
    script = platform.home.simulated_devices
    fresh = script.with_suffix(".new")
    fresh.write_text(json.dumps({name.replace("_", "-"): what for name, what in told.items()}))
    os.replace(fresh, script)


FORKED: list[dict[str, str]] = []
FRESH = [{"name": "PYTHONHASHSEED", "value": "1"}]
"""Read at the start of a process only: its worker is a new process and no fork."""


@pytest.mark.parametrize("env", [FORKED, FRESH], ids=["forked", "fresh"])
@pytest.mark.parametrize(
    ("count", "workers", "pinned"),
    [
        (2, 4, ["SIM-0", "SIM-1", "SIM-0", "SIM-1"]),
        (4, 2, ["SIM-0,SIM-2", "SIM-1,SIM-3"]),
    ],
)
def test_each_worker_is_pinned_to_its_cards_and_its_share_of_the_cores(
    platform: Platform,
    count: int,
    workers: int,
    pinned: list[str],
    env: list[dict[str, str]],
) -> None:
    platform.up(devices="sim:4x16GiB")
    memory = {"name": "STOKER_GPU_MEMORY", "value": "1GiB"}
    platform.deploy("pinned", WHO, **gpus(count, workers, env=[memory, *env]))
    found = environments(platform, "pinned")
    assert [env["CUDA_VISIBLE_DEVICES"] for env in found] == pinned
    share = str(max(1, usable_cores() // workers))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    assert {env[name] for env in found for name in names} == {share}
    assert {env["PYTORCH_NVML_BASED_CUDA_CHECK"] for env in found} == {"1"}


def test_a_replica_is_placed_around_a_program_that_is_not_ours(platform: Platform) -> None:
    platform.home.root.mkdir(exist_ok=True)
    rehearse(platform, SIM_0={"foreign": "15GiB"})
    platform.up(devices="sim:2x16GiB")
    platform.deploy("model", WHO, **gpus(1, 1, "4GiB"))
    assert platform.call("model").text == "SIM-1"
    seen = devices(platform)
    assert (seen["SIM-0"]["foreign_bytes"], seen["SIM-0"]["promised_bytes"]) == (15 * 2**30, 0)
    assert (seen["SIM-1"]["foreign_bytes"], seen["SIM-1"]["promised_bytes"]) == (0, 4 * 2**30)


def test_a_card_that_falls_off_the_bus_costs_no_request(platform: Platform) -> None:
    platform.up(devices="sim:2x16GiB")
    platform.deploy("model", WHO, **gpus(1, 1, "4GiB"))
    assert platform.call("model").text == "SIM-0"
    answers: list[tuple[int, str]] = []
    served_elsewhere = threading.Event()

    def keep_asking() -> None:
        assert platform.endpoints is not None
        while not served_elsewhere.is_set():
            reply = platform.client.get(f"{platform.endpoints.gateway_url}/model")
            answers.append((reply.status_code, reply.text))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        rehearse(platform, SIM_0={"lost": True})
        eventually(lambda: answers and answers[-1] == (200, "SIM-1"))
    finally:
        served_elsewhere.set()
        asking.join()
    assert {status for status, _ in answers} == {200}
    seen = devices(platform)
    assert seen["SIM-0"]["lost"]
    assert seen["SIM-0"]["replicas"] == []
    assert not seen["SIM-1"]["lost"]
    assert platform.endpoints is not None
    document = platform.client.get(f"{platform.endpoints.control_url}/api/functions/model").json()
    told = [entry["message"] for entry in document["status"]["logs"]]
    assert any("device SIM-0 is lost" in line for line in told)
    logs = platform.home.function_logs("model").glob("*.log")
    assert any("device SIM-0 is lost" in path.read_text() for path in logs)
    rehearse(platform)
    eventually(lambda: not devices(platform)["SIM-0"]["lost"])


def test_a_function_that_needs_more_cards_than_are_left_is_refused_until_they_are_back(
    platform: Platform,
) -> None:
    platform.up(devices="sim:2x16GiB")
    platform.deploy("wide", WHO, **gpus(2, 1))
    rehearse(platform, SIM_1={"lost": True})
    refused = eventually(lambda: (reply := platform.call("wide")).status_code == 503 and reply)
    assert "needs 2 GPU(s); 1 of 2 are left: SIM-1 lost" in refused.text
    rehearse(platform)
    eventually(lambda: platform.call("wide").status_code == 200)
    assert platform.call("wide").text == "SIM-0,SIM-1"
