"""On a real card: pinning, the ledger against NVML, forks, scale to zero, many wakes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually
from real_card import REAL, SLACK, TORCH, Card, Measured, row, to_zero, workers
from stoker.worker.preimport import CUDA_DEVICE

pytestmark = [pytest.mark.gpu, pytest.mark.models, pytest.mark.timeout(420)]

GIB = 2**30
PROMISED_GIB = 12
CONTEXT = GIB // 2
"""What a CUDA context takes, about; the promise holds the ballast and it."""
CYCLES = int(os.environ.get("STOKER_GPU_CYCLES", "40"))
"""Wakes from zero. Each is a process and a CUDA context, a second or two: a thousand take half an
hour. The report says how many there were."""

ON_CARD = """
import os, torch

DEVICE = os.environ["DEVICE"]

def init_context(context):
    ballast = int(os.environ["BALLAST"])
    context.user_data.ballast = torch.zeros(ballast, dtype=torch.uint8, device=DEVICE)
    context.user_data.ones = torch.ones(256, 256, device=DEVICE)

def handler(context, event):
    ones = context.user_data.ones
    answer = {"visible": os.environ["CUDA_VISIBLE_DEVICES"], "pid": os.getpid()}
    answer["total"] = float((ones @ ones).sum())
    if DEVICE == "cuda":
        answer["count"] = torch.cuda.device_count()
        answer["uuid"] = str(torch.cuda.get_device_properties(0).uuid)
    return answer
"""
TOTAL = 256.0**3


def on_card(gib: float, **spec: Any) -> dict[str, Any]:
    """A function that promises so much and holds it."""
    ballast = max(0, int(gib * GIB) - CONTEXT) if REAL else 0
    env = {"STOKER_GPU_MEMORY": int(gib * GIB), "BALLAST": ballast, "DEVICE": TORCH}
    return {
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "env": [{"name": name, "value": str(value)} for name, value in env.items()],
        "minReplicas": 0,
        "maxReplicas": 1,
        **spec,
    }


def open_files(pid: int) -> set[str]:
    return {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def called(platform: Platform, name: str) -> dict[str, Any]:
    reply = platform.call(name)
    assert reply.status_code == 200, reply.text
    answer = dict(reply.json())
    assert answer["total"] == TOTAL
    return answer


def card_of(answer: dict[str, Any], cards: tuple[Card, ...]) -> Card:
    return next(card for card in cards if card.id == answer["visible"])


def test_workers_are_pinned_by_uuid_and_see_one_card(
    platform: Platform, cards: tuple[Card, ...]
) -> None:
    two = {"http": {"kind": "http", "numWorkers": 2}}
    platform.deploy("pinned", ON_CARD, **on_card(1, triggers=two))
    answer = called(platform, "pinned")
    assert answer["visible"] in {card.id for card in cards}
    pinned = {worker["devices"][0] for worker in workers(platform, "pinned")}
    assert pinned == {answer["visible"]}
    if REAL:
        assert answer["count"] == 1
        assert answer["visible"].endswith(answer["uuid"])


def test_the_ledger_and_nvml_agree_within_a_twentieth(
    platform: Platform, cards: tuple[Card, ...], measured: Measured
) -> None:
    before = {card.id: card.used(platform) for card in cards}
    platform.deploy("held", ON_CARD, **on_card(PROMISED_GIB))
    answer = called(platform, "held")
    card = card_of(answer, cards)
    really = card.holds(platform, answer["pid"], before[card.id])
    # The books are of the last look, a second ago at most.
    books = eventually(
        lambda: (
            (seen := row(platform, card.id))["used_bytes"] >= before[card.id] + 0.9 * really
            and seen
        )
    )
    measured(
        promised_bytes=books["promised_bytes"],
        really_bytes=really,
        driver_tells_processes=card.tells_of(answer["pid"]),
    )
    assert books["promised_bytes"] == PROMISED_GIB * GIB
    assert really == pytest.approx(books["promised_bytes"], rel=0.05)
    assert books["foreign_bytes"] == pytest.approx(before[card.id], abs=0.05 * PROMISED_GIB * GIB)


def test_forked_workers_use_the_card_and_the_zygote_never_does(platform: Platform) -> None:
    """Though bitsandbytes and torchao ask the cards what they can do while they are imported."""
    zygote = platform.pid("zygote-torch")
    for name in ("one", "two"):
        platform.deploy(name, ON_CARD, **on_card(1))
        answer = called(platform, name)
        (log,) = platform.home.function_logs(name).glob("*.log")
        assert "started as a new process" not in log.read_text()
        if REAL:
            assert CUDA_DEVICE in open_files(answer["pid"]), "the very sign by which it is known"
    assert CUDA_DEVICE not in open_files(zygote)


def test_the_cards_memory_is_back_after_scale_to_zero(
    platform: Platform, cards: tuple[Card, ...]
) -> None:
    before = {card.id: card.used(platform) for card in cards}
    platform.deploy("held", ON_CARD, **on_card(4))
    card = card_of(called(platform, "held"), cards)
    assert card.used(platform) > before[card.id] + 3 * GIB
    to_zero(platform, "held")
    eventually(lambda: card.used(platform) <= before[card.id] + SLACK)
    called(platform, "held")


def test_many_wakes_from_zero_leave_nothing_on_the_card(
    platform: Platform, cards: tuple[Card, ...], measured: Measured
) -> None:
    before = {card.id: card.used(platform) for card in cards}
    platform.deploy("cycled", ON_CARD, **on_card(1))
    wakes: list[float] = []
    for _ in range(CYCLES):
        to_zero(platform, "cycled")
        reply = platform.call("cycled")
        assert reply.json()["total"] == TOTAL
        assert reply.headers["X-Stoker-Cold"] == "1"
        wakes.append(reply.elapsed.total_seconds())
        median = sorted(wakes)[len(wakes) // 2]
        measured(cycles=len(wakes), wake_p50_s=round(median, 4), wake_max_s=round(max(wakes), 4))
    to_zero(platform, "cycled")
    for card in cards:
        eventually(lambda card=card: card.used(platform) <= before[card.id] + SLACK)
