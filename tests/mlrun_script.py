"""Scripts of a user of the unmodified mlrun SDK, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

WITHIN_S = 300.0
_HEAD = """
import json, os, sys, time, warnings
warnings.simplefilter("ignore")
import mlrun

def tell(**facts):
    print("FACTS " + json.dumps(facts, default=str), flush=True)

def refused(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    return ""
"""


class ScriptFailed(AssertionError):
    """It ended with an error; its whole output is the message."""


def run_script(folder: Path, url: str, script: str, **env: str) -> tuple[dict[str, Any], str]:
    """What the script told by ``tell(name=value)``, and everything that it printed.

    Args:
        folder: its current folder; mlrun keeps a project's files there.
        url: ``MLRUN_DBPATH``.
        script: after ``import mlrun``, ``tell`` and ``refused(call, …)``, which gives the error.
        env: further variables.
    """
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MLRUN_", "V3IO_", "NUCLIO_"))}
    # mlrun leaves a temporary file of every run of a handler.
    with tempfile.TemporaryDirectory(prefix="st-") as temporary:
        told = {"MLRUN_DBPATH": url, "MLRUN_IGNORE_ENV_FILE": "1", "TMPDIR": temporary}
        done = subprocess.run(
            [sys.executable, "-c", _HEAD + textwrap.dedent(script)],
            cwd=folder,
            env={**own, **told, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    if done.returncode:
        raise ScriptFailed(done.stdout)
    facts: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("FACTS "):
            facts |= json.loads(line.removeprefix("FACTS "))
    return facts, done.stdout
