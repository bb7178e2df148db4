"""A platform on the real card, and the report of what was seen (``STOKER_GPU_REPORT``).

Written without a card at hand: what is asserted here has not been seen to hold yet.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, platform_of_its_own
from stoker.controller.devices import look
from stoker.controller.nvml import Nvml
from stoker.nouns.device import Device

outcomes: dict[str, Any] = {}
figures: dict[str, dict[str, Any]] = {}


@pytest.fixture(scope="session")
def cards() -> tuple[Device, ...]:
    """Asked for a card and there is none: that is a failure, never a skip."""
    found = tuple(seen.device for seen in look(Nvml(os.environ.get("CUDA_VISIBLE_DEVICES"))))
    assert found, "there is no CUDA device here: make gpu-test needs one"
    return found


@pytest.fixture
def platform(cards: tuple[Device, ...]) -> Iterator[Platform]:
    with platform_of_its_own() as made:
        made.up(devices="auto", zygotes=("plain", "torch"))
        yield made


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps figures for the report."""
    return lambda **seen: figures.setdefault(request.node.name, {}).update(seen)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "gpu" in report.keywords and (report.when == "call" or report.failed):
        outcomes[report.nodeid.rpartition("::")[2]] = {
            "outcome": report.outcome,
            "seconds": round(report.duration, 3),
        }


def pytest_sessionfinish() -> None:
    path = os.environ.get("STOKER_GPU_REPORT")
    if not path or not outcomes:
        return
    document = {
        "when": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "devices": [
            {
                "name": seen.device.name,
                "kind": str(seen.device.kind),
                "capability": seen.device.capability,
                "bytes": seen.device.total_bytes,
            }
            for seen in look(Nvml(None))
        ],
        "torch": metadata.version("torch"),
        "tests": {name: {**outcome, **figures.get(name, {})} for name, outcome in outcomes.items()},
    }
    Path(path).write_text(json.dumps(document, indent=1) + "\n")
