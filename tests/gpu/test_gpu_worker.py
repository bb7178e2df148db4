"""A thousand sleeps and wakes of one real worker, asked of it as the controller asks."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from live_platform import Platform
from real_card import REAL, TORCH, Card, Measured
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.wire import Kind, frame
from worker_client import WorkerClient, ZygoteUnderTest, write_function

pytestmark = [pytest.mark.gpu, pytest.mark.models, pytest.mark.timeout(300)]

CYCLES = int(os.environ.get("STOKER_GPU_SLEEPS", "1000"))
SIDE, LAYERS = (4096, 8) if REAL else (64, 8)
"""256 MiB of weights."""
SLACK = 16 * 1024 * 1024
"""By which what a sleeper holds may grow in all its life, on the card and, thrice that, beside."""

CODE = """
import hashlib, os, torch
from stoker.models.host_copy import HostCopy
from stoker.sdk import on_sleep

DEVICE, SIDE, LAYERS = os.environ["DEVICE"], int(os.environ["SIDE"]), int(os.environ["LAYERS"])

def init_context(context):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(SIDE, SIDE, bias=False, device=DEVICE) for _ in range(LAYERS)]
    context.user_data.module = module = torch.nn.Sequential(*layers).bfloat16().eval()
    context.user_data.inputs = torch.randn(2, SIDE, device=DEVICE, dtype=torch.bfloat16)
    copy = HostCopy(module)
    on_sleep(sleep=copy.sleep, wake=copy.wake)

def handler(context, event):
    with torch.inference_mode():
        found = context.user_data.module(context.user_data.inputs)
    return hashlib.sha256(found.float().cpu().numpy().tobytes()).hexdigest()
"""


@pytest.fixture
def zygote() -> Iterator[ZygoteUnderTest]:
    home = Path(tempfile.mkdtemp(prefix="stk-", dir="/tmp"))
    made = ZygoteUnderTest(home, "torch", within_s=240)
    yield made
    made.stop()
    shutil.rmtree(home)


async def test_a_thousand_sleeps_and_wakes_change_no_bit_and_leak_nothing(
    zygote: ZygoteUnderTest, booted: Platform, cards: tuple[Card, ...], measured: Measured
) -> None:
    card = cards[0]
    before = card.used(booted)
    root = zygote.home.root
    env = {
        "CUDA_VISIBLE_DEVICES": card.id,
        "DEVICE": TORCH,
        "SIDE": str(SIDE),
        "LAYERS": str(LAYERS),
    }
    launch = WorkerLaunch(
        function="f",
        revision=1,
        replica="r",
        index=0,
        socket=str(zygote.home.worker_socket("r", 0)),
        log=str(root / "r.log"),
        code_dir=str(write_function(root / "code", CODE)),
        handler="main:handler",
        env=env,
    )
    started = zygote.start(launch)
    assert "message" not in started, started
    client = await WorkerClient.connect(launch.socket, role="controller")
    await client.phase("ready")
    expected = (await client.call()).body
    was_ready = sum(one["phase"] == "ready" for one in client.states)
    held: list[int] = []
    resident: list[int] = []
    wakes: list[float] = []
    for cycle in range(1, CYCLES + 1):
        client.write(frame(Kind.SLEEP, 0))
        await client.phase("asleep", cycle)
        if cycle in (1, CYCLES):
            held.append(card.holds(booted, started["pid"], before))
            resident.append(psutil.Process(started["pid"]).memory_info().rss)
        began = time.monotonic()
        client.write(frame(Kind.WAKE, 0))
        await client.phase("ready", was_ready + cycle)
        wakes.append(time.monotonic() - began)
        if cycle % 50 == 0 or cycle == CYCLES:
            assert (await client.call()).body == expected
    await client.close()
    measured(
        cycles=CYCLES,
        wake_p50_s=round(statistics.median(wakes), 5),
        wake_max_s=round(max(wakes), 5),
        asleep_bytes_first=held[0],
        asleep_bytes_last=held[-1],
    )
    assert held[-1] <= held[0] + SLACK
    assert resident[-1] <= resident[0] + 3 * SLACK
