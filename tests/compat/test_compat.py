"""Scripts that know nothing but mlrun, nuclio-jupyter and requests, against one running platform.

``docs_examples/`` holds what MLRun's documentation shows, ``judged/`` what a stranger would try. Each is
run as it stands, with ``MLRUN_DBPATH`` set and an empty working directory; it asserts for itself.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from live_platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun]

HERE = Path(__file__).parent
SCRIPTS = sorted([*HERE.glob("docs_examples/*.py"), *HERE.glob("judged/*.py")])
SIDE_BY_SIDE = 2
"""Scripts at a time: as many as the smallest machine has cores."""
WITHIN_S = 120.0


@dataclass
class Runs:
    """The scripts of this session, run side by side in the order in which their tests come."""

    url: str
    folder: Path
    outcomes: dict[Path, Future[str]] = field(default_factory=dict)
    waiting: queue.SimpleQueue[Path] = field(default_factory=queue.SimpleQueue)
    working: list[threading.Thread] = field(default_factory=list)

    def start(self, scripts: list[Path]) -> None:
        for script in scripts:
            self.outcomes[script] = Future()
            self.waiting.put(script)
        self.working = [
            threading.Thread(target=self._work, daemon=True) for _ in range(SIDE_BY_SIDE)
        ]
        for thread in self.working:
            thread.start()

    def end(self) -> None:
        """Begins no further one, and waits for those that run: they write into the folder."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.waiting.get_nowait()
        for thread in self.working:
            thread.join(WITHIN_S)

    def _work(self) -> None:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "preloaded.py")],
            env=self._environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            while True:
                try:
                    script = self.waiting.get_nowait()
                except queue.Empty:
                    return
                place = self.folder / script.stem
                place.mkdir()
                try:
                    process.stdin.write(f"{place}\t{script}\n")
                    process.stdin.flush()
                    told = process.stdout.readline()
                except OSError as exc:  # it is gone: its tests say so now, not after a time-out
                    told = repr(exc)
                self.outcomes[script].set_result(told.rpartition("\t")[2].strip() or "no answer")

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "MLRUN" not in name}
        home = {"HOME": str(self.folder), "MLRUN_IGNORE_ENV_FILE": "true"}
        # mlrun leaves a temporary file of every run of a handler.
        home["TMPDIR"] = str(self.folder)
        return {**kept, **home, "MLRUN_DBPATH": self.url, "PYTHONWARNINGS": "ignore"}

    def output(self, script: Path) -> str:
        written = self.folder / script.stem / "output.txt"
        return written.read_text(errors="replace") if written.exists() else "it printed nothing"


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="st-"))
    platform = Platform(folder / "h")
    made = Runs("", folder / "w")
    try:
        made.url = platform.up(zygotes=("plain", "mlrun")).control_url
        made.folder.mkdir()
        # Of this module alone: others have a parameter of this name as well.
        asked = [item.callspec.params["script"] for item in request.session.items
                 if item.path == Path(__file__) and hasattr(item, "callspec")]  # fmt: skip
        made.start(asked)
        yield made
    finally:
        platform.down()
        platform.client.close()
        made.end()
        shutil.rmtree(folder)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_that_knows_only_the_clients_passes(runs: Runs, script: Path) -> None:
    status = runs.outcomes[script].result(timeout=WITHIN_S)
    assert status == "0", f"{script.name} ended with {status}:\n{runs.output(script)[-6000:]}"
