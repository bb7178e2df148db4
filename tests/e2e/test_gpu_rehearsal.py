"""The tests that need a card, on a simulated one: so that they run when there is a card at last.

What they would find is another matter: here it is their routes, fields, fixtures and report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
REHEARSED = {
    "STOKER_GPU_DEVICES": "sim:1x16GiB+512MiB",
    "STOKER_GPU_CYCLES": "2",
    "STOKER_GPU_SLEEPS": "20",
}
SKIPPED = {"needs two cards", "holds no bytes"}


def test_what_needs_a_card_runs_on_a_simulated_one_and_reports_what_it_saw(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"],
        cwd=ROOT,
        env={**os.environ, **REHEARSED, "STOKER_GPU_REPORT": str(report)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    told = json.loads(report.read_text())
    assert told["rehearsed"] is True
    tests = told["tests"]
    outcomes = {name: one["outcome"] for name, one in tests.items()}
    assert set(outcomes.values()) == {"passed", "skipped"}
    whys = [one["why"] for one in tests.values() if one["outcome"] == "skipped"]
    assert all(any(reason in why for reason in SKIPPED) for why in whys)
    assert tests["test_many_wakes_from_zero_leave_nothing_on_the_card"]["cycles"] == 2
    cycled = tests["test_a_thousand_sleeps_and_wakes_change_no_bit_and_leak_nothing"]
    assert cycled["cycles"] == 20
    ledger = tests["test_the_ledger_and_nvml_agree_within_a_twentieth"]
    assert ledger["promised_bytes"] == ledger["really_bytes"] == 12 << 30
