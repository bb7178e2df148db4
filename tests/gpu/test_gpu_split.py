"""A model split over two real cards by NCCL. Skips on a machine with one.

Not tried on cards yet.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

import tiny_tasks
from live_platform import Platform, eventually
from real_card import Card, Measured, workers

pytestmark = [pytest.mark.gpu, pytest.mark.models, pytest.mark.timeout(1200)]

ASKED = {"inputs": ["hello"], "parameters": {"max_new_tokens": 24}}


@pytest.fixture(autouse=True)
def two(cards: tuple[Card, ...]) -> tuple[Card, ...]:
    if len(cards) < 2:
        pytest.skip(f"needs two cards, there is {len(cards)}")
    return cards


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_tasks.llama(tmp_path / "model")
    return tmp_path / "model"


def spec(model: Path, ranks: int) -> dict[str, Any]:
    env = {
        "STOKER_MODEL": str(model),
        "STOKER_TASK": "text-generation",
        "STOKER_QUANTIZATION": "fp32",
        "STOKER_GPU_MEMORY": "2GiB",
        "STOKER_TENSOR_PARALLEL": str(ranks),
        "STOKER_SLEEP_AFTER": "2s",
    }
    return {
        "handler": "stoker.models.serve:handler",
        "minReplicas": 1,
        "maxReplicas": 1,
        "resources": {"limits": {"nvidia.com/gpu": ranks}},
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }


def ask(platform: Platform, name: str) -> Any:
    reply = platform.call(name, json.dumps(ASKED).encode(), **{"Content-Type": "application/json"})
    assert reply.status_code == 200, reply.text
    return reply.json()["outputs"]


def test_two_cards_write_what_one_does_asleep_in_between_and_after_a_peer_was_killed(
    platform: Platform, model: Path, two: tuple[Card, ...], measured: Measured
) -> None:
    assert platform.deploy("one", "", **spec(model, 1))["state"] == "ready"
    assert platform.deploy("split", "", **spec(model, 2))["state"] == "ready"
    expected = ask(platform, "one")
    assert ask(platform, "split") == expected
    zero = psutil.Process(workers(platform, "split")[0]["pid"])
    (peer,) = zero.children()
    seen = {process.environ()["CUDA_VISIBLE_DEVICES"] for process in (zero, peer)}
    assert seen == set(workers(platform, "split")[0]["devices"])
    measured(used_bytes=[card.used(platform) for card in two])
    eventually(lambda: workers(platform, "split")[0]["phase"] == "asleep")
    assert ask(platform, "split") == expected
    assert psutil.Process(zero.pid).children() == [peer], "it slept and was not replaced"
    os.kill(peer.pid, signal.SIGKILL)
    eventually(lambda: not zero.is_running())
    assert ask(platform, "split") == expected
