"""A function that runs out of the device memory that it was promised, on a simulated card.

A simulated card holds nothing, so the handler has an allocator that refuses what torch's would:
more than the worker's share of its device.
"""

from __future__ import annotations

from typing import Any

import pytest

from live_platform import Platform, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.timeout(240)]

GIB = 1 << 30
CODE = """
import os

import torch

from stoker.models.tasks.memory import attempt
from stoker.nouns.errors import InsufficientStorage

PROMISED = int(os.environ["STOKER_GPU_BYTES"])


def forward(sizes):
    if sum(sizes) > PROMISED:
        raise torch.OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {sum(sizes) / (1 << 30):.2f} GiB."
        )
    return [f"held {size >> 30} of {PROMISED / (1 << 30):.1f} GiB" for size in sizes]


def handler(context, event):
    (result,) = attempt(forward, [int(event.body) << 30])
    if isinstance(result, InsufficientStorage):
        return context.Response(status_code=result.status, body=result.message)
    return result
"""
SPEC: dict[str, Any] = {
    "minReplicas": 0,
    "scaleToZero": {"scaleResources": [{"windowSize": "1s"}]},
    "resources": {"limits": {"nvidia.com/gpu": 1}},
    "env": [{"name": "STOKER_GPU_MEMORY", "value": "2GiB"}],
    "triggers": {"http": {"kind": "http", "numWorkers": 1}},
}


def top(platform: Platform) -> dict[str, Any]:
    assert platform.endpoints is not None
    found = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/top").json()
    assert isinstance(found, dict)
    return found


def promised(platform: Platform) -> float:
    """GiB of the card in the ledger."""
    return float(sum(device["promised_bytes"] for device in top(platform)["devices"])) / GIB


def message(platform: Platform) -> str:
    (row,) = top(platform)["functions"]
    return str(row["message"])


def test_what_is_refused_twice_is_promised_to_the_next_replica(platform: Platform) -> None:
    platform.up(devices="sim:1x16GiB")
    platform.settles_within_s = 120.0  # torch is imported
    platform.deploy("hungry", CODE, **SPEC)
    assert platform.call("hungry", b"1").text == "held 1 of 2.0 GiB"
    assert promised(platform) == pytest.approx(2.0)
    for _ in range(2):
        refused = platform.call("hungry", b"6")
        assert refused.status_code == 507
        assert "an allocation of 6442450944 bytes" in refused.text
    eventually(lambda: "its largest requests need 6.6 GiB on a GPU" in message(platform))
    eventually(lambda: promised(platform) == 0.0)
    assert platform.call("hungry", b"6").text == "held 6 of 6.6 GiB"
    assert promised(platform) == pytest.approx(6.6)

    for _ in range(2):
        assert platform.call("hungry", b"40").status_code == 507
    eventually(lambda: "more than the 16.0 GiB that there is" in message(platform))
    eventually(lambda: promised(platform) == 0.0)
    assert platform.call("hungry", b"1").text == "held 1 of 16.0 GiB"
    assert platform.call("hungry", b"40").status_code == 507
