"""What MLRun's client stored and deployed is there after kills and restarts, as its client sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from live_platform import Platform, eventually, platform_of_its_own
from stoker.app.processes import marked

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun]

SCRIPTS = Path(__file__).parent / "restarts"
SETTINGS: dict[str, Any] = {"zygotes": ("plain", "mlrun"), "devices": "sim:1x1GiB"}


@pytest.fixture
def platform() -> Iterator[Platform]:
    with platform_of_its_own() as made:
        made.up(**SETTINGS)
        yield made


def run(platform: Platform, script: str) -> str:
    """A script of a client process of its own; what it printed."""
    assert platform.endpoints is not None
    folder = platform.home.root / "client"
    folder.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if "MLRUN" not in name}
    told = {"MLRUN_DBPATH": platform.endpoints.control_url, "HOME": str(folder)}
    told["TMPDIR"] = str(folder)  # mlrun leaves a temporary file of every run of a handler
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPTS / f"{script}.py")],
        env={**kept, **told}, cwd=folder, timeout=120, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}:\n{done.stdout[-5000:]}\n{platform.logs()[-3000:]}"
    return done.stdout


def control_answers(platform: Platform) -> bool:
    assert platform.endpoints is not None
    try:
        return platform.client.get(f"{platform.endpoints.control_url}/api/v1/healthz").is_success
    except httpx.HTTPError:
        return False


def kill_everything(platform: Platform) -> None:
    """SIGKILL to every process of the home, the supervisor first, so that it mends nothing."""
    assert platform.endpoints is not None
    os.kill(platform.endpoints.pid, signal.SIGKILL)
    home_id = platform.home.id_file.read_text().strip()
    left = [psutil.Process(process.pid) for process in marked(home_id)]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)


def test_a_project_outlives_its_controller_and_the_death_of_everything(platform: Platform) -> None:
    urls = run(platform, "before").split()[-2:]

    platform.kill("controller")
    for url in urls:  # warm functions go on without it
        assert platform.client.post(url, json={"a": 1, "b": 2}).is_success
    eventually(lambda: control_answers(platform))
    run(platform, "after")

    kill_everything(platform)
    platform.up(**SETTINGS)
    run(platform, "after")


def test_workers_that_no_device_could_hold_are_refused_in_bytes(platform: Platform) -> None:
    assert "refused:" in run(platform, "workers_that_do_not_fit")
