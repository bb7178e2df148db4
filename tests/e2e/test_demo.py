"""The demo, as CI runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.mlrun, pytest.mark.timeout(600)]


def test_the_demo_shows_everything_it_claims_and_leaves_nothing_behind():
    result = subprocess.run(
        [sys.executable, "demo/demo.py", "--ci"],
        cwd=ROOT, capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all as shown" in result.stdout
    assert "not so" not in result.stdout
