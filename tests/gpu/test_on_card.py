"""On a real card: pinning, the ledger against NVML, forks, scale to zero, a thousand wakes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually
from real_card import used
from stoker.nouns.device import Device
from stoker.worker.preimport import CUDA_DEVICE

pytestmark = [pytest.mark.gpu, pytest.mark.models, pytest.mark.timeout(3600)]

GIB = 2**30
PROMISED_GIB = 12
CONTEXT = GIB // 2
"""What a CUDA context takes, about; the promise holds the ballast and it."""
SLACK = 64 * 1024 * 1024
"""By which a card at rest may differ from itself."""
CYCLES = int(os.environ.get("STOKER_GPU_CYCLES", "1000"))

ON_CARD = """
import os, torch

def init_context(context):
    ballast = int(os.environ["BALLAST"])
    context.user_data.ballast = torch.zeros(ballast, dtype=torch.uint8, device="cuda")
    context.user_data.ones = torch.ones(256, 256, device="cuda")

def handler(context, event):
    ones = context.user_data.ones
    return {
        "visible": os.environ["CUDA_VISIBLE_DEVICES"],
        "count": torch.cuda.device_count(),
        "uuid": str(torch.cuda.get_device_properties(0).uuid),
        "total": float((ones @ ones).sum()),
        "worker": context.worker_id,
    }
"""
TOTAL = 256.0**3


def on_card(gib: float, **spec: Any) -> dict[str, Any]:
    """A function that promises so much and holds it."""
    ballast = max(0, int(gib * GIB) - CONTEXT)
    return {
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "env": [
            {"name": "STOKER_GPU_MEMORY", "value": str(int(gib * GIB))},
            {"name": "BALLAST", "value": str(ballast)},
        ],
        "minReplicas": 0,
        "maxReplicas": 1,
        **spec,
    }


def device_row(platform: Platform, device: str) -> dict[str, Any]:
    assert platform.endpoints is not None
    seen = platform.client.get(f"{platform.endpoints.control_url}/api/stoker/top").json()
    (row,) = [row for row in seen["devices"] if row["id"] == device]
    return dict(row)


def sleep(platform: Platform, name: str) -> None:
    assert platform.endpoints is not None
    url = f"{platform.endpoints.control_url}/api/functions/{name}"
    platform.client.patch(url, json={"desiredState": "scaledToZero"}).raise_for_status()
    eventually(lambda: platform.client.get(f"{url}/replicas").json()["names"] == [])


def open_files(pid: int) -> set[str]:
    return {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def test_workers_are_pinned_by_uuid_and_see_one_card(
    platform: Platform, cards: tuple[Device, ...]
) -> None:
    workers = {"http": {"kind": "http", "numWorkers": 2}}
    platform.deploy("pinned", ON_CARD, **on_card(1, triggers=workers))
    answer = platform.call("pinned").json()
    assert answer["visible"] in {card.id for card in cards}
    assert answer["visible"].endswith(answer["uuid"])
    assert (answer["count"], answer["total"]) == (1, TOTAL)


def test_the_ledger_and_nvml_agree_within_a_twentieth(
    platform: Platform, cards: tuple[Device, ...], measured: Callable[..., None]
) -> None:
    before = {card.id: used(card) for card in cards}
    platform.deploy("held", ON_CARD, **on_card(PROMISED_GIB))
    card = next(c for c in cards if c.id == platform.call("held").json()["visible"])
    row = eventually(
        lambda: (seen := device_row(platform, card.id))["used_bytes"] > before[card.id] and seen
    )
    really = used(card) - before[card.id]
    measured(promised_bytes=row["promised_bytes"], really_bytes=really)
    assert row["promised_bytes"] == PROMISED_GIB * GIB
    assert really == pytest.approx(row["promised_bytes"], rel=0.05)
    assert row["foreign_bytes"] == pytest.approx(before[card.id], abs=0.05 * PROMISED_GIB * GIB)


def test_forked_workers_use_the_card_and_the_zygote_never_does(
    platform: Platform, cards: tuple[Device, ...]
) -> None:
    zygote = platform.pid("zygote-torch")
    for name in ("one", "two"):
        platform.deploy(name, ON_CARD, **on_card(1))
        assert platform.call(name).json()["total"] == TOTAL
        (log,) = platform.home.function_logs(name).glob("*.log")
        assert "started as a new process" not in log.read_text()
    assert CUDA_DEVICE not in open_files(zygote)


def test_the_cards_memory_is_back_after_scale_to_zero(
    platform: Platform, cards: tuple[Device, ...]
) -> None:
    before = {card.id: used(card) for card in cards}
    platform.deploy("held", ON_CARD, **on_card(4))
    card = next(c for c in cards if c.id == platform.call("held").json()["visible"])
    assert used(card) > before[card.id] + 3 * GIB
    sleep(platform, "held")
    eventually(lambda: used(card) <= before[card.id] + SLACK)
    assert platform.call("held").json()["total"] == TOTAL


def test_a_thousand_sleeps_and_wakes_leave_nothing_on_the_card(
    platform: Platform, cards: tuple[Device, ...], measured: Callable[..., None]
) -> None:
    before = {card.id: used(card) for card in cards}
    platform.deploy("cycled", ON_CARD, **on_card(1))
    wakes = []
    for _ in range(CYCLES):
        sleep(platform, "cycled")
        reply = platform.call("cycled")
        assert reply.json()["total"] == TOTAL
        wakes.append(reply.elapsed.total_seconds())
    sleep(platform, "cycled")
    for card in cards:
        eventually(lambda card=card: used(card) <= before[card.id] + SLACK)
    wakes.sort()
    measured(cycles=CYCLES, wake_p50_s=wakes[len(wakes) // 2], wake_max_s=wakes[-1])
