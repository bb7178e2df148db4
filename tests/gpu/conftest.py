"""A platform on the card, and the report of what was seen (``STOKER_GPU_REPORT``).

Written without a card at hand: it has run on simulated ones only (see `real_card`).
"""

from __future__ import annotations

import datetime
import json
import os
import platform as machine
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually
from real_card import DEVICES, REAL, SLACK, Card, Measured, cards_here, clear

BOOT_S = 300.0
"""The first import of torch on a machine that has just been started may take minutes."""
BUILT_S = 360.0
"""Half a billion weights are prepared in five ways beside each other."""
outcomes: dict[str, Any] = {}
figures: dict[str, dict[str, Any]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes last: a run that is cut off has seen the rest."""
    items.sort(key=lambda item: item.path.name == "test_gpu_methods.py")


@pytest.fixture(scope="session")
def cards() -> tuple[Card, ...]:
    """Asked for a card and there is none: that is a failure, never a skip."""
    found = cards_here()
    assert found, "there is no CUDA device here: make gpu-test needs one"
    return found


@pytest.fixture(scope="session")
def booted(cards: tuple[Card, ...]) -> Iterator[Platform]:
    """One platform for all tests, whose torch zygote has imported what it will fork."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="st-"))
    made = Platform(folder)
    made.client.timeout, made.settles_within_s = 180, BUILT_S
    try:
        made.up(devices=DEVICES, zygotes=("plain", "torch"))
        eventually(made.home.zygote_socket("torch").exists, within_s=BOOT_S)
        yield made
    finally:
        made.down()
        made.client.close()
        left = made.left()
        shutil.rmtree(folder)
    assert left == []


@pytest.fixture
def platform(booted: Platform, cards: tuple[Card, ...]) -> Iterator[Platform]:
    """The platform without any function; afterwards the cards are as they were before the test."""
    before = {card.id: card.used(booted) for card in cards}
    yield booted
    clear(booted)
    for card in cards:
        eventually(lambda card=card: card.used(booted) <= before[card.id] + SLACK)


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Keeps figures for the report."""
    return lambda **seen: figures.setdefault(request.node.name, {}).update(seen)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """After every test: a run that is cut off leaves what it has."""
    if "gpu" in report.keywords and (report.when == "call" or report.outcome != "passed"):
        outcomes[report.nodeid.rpartition("::")[2]] = {
            "outcome": report.outcome,
            "seconds": round(report.duration, 3),
            **({"why": report.longrepr[2]} if isinstance(report.longrepr, tuple) else {}),
        }
        write_report()


def write_report() -> None:
    path = os.environ.get("STOKER_GPU_REPORT")
    found = cards_here() if path else ()
    if not path or not found:
        return
    document = {
        "when": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "rehearsed": not REAL,
        "devices": [
            {
                "name": card.device.name,
                "kind": str(card.device.kind),
                "capability": card.device.capability,
                "bytes": card.device.total_bytes,
            }
            for card in found
        ],
        "python": machine.python_version(),
        "packages": {name: metadata.version(name) for name in ("torch", "transformers")},
        "tests": {name: {**outcome, **figures.get(name, {})} for name, outcome in outcomes.items()},
    }
    draft = Path(f"{path}.new")
    draft.write_text(json.dumps(document, indent=1) + "\n")
    draft.replace(path)
