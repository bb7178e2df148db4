"""A plain function, unbuilt, from mlrun's deploy call to ready; and Stoker's part of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from bench.context import Context
from bench.result import CannotRun, Figure, Result, at_most
from bench.samples import percentile
from bench.stoker_home import FUNCTIONS, Platform, platform

SOURCE = FUNCTIONS / "echo" / "echo.py"
CLIENT = Path(__file__).parent / "deploy_once.py"
CLIENT_S = 300.0
"""Longest time that the client's whole process may take, seconds."""


def run(context: Context) -> Result:
    """Deploys functions of new names: by mlrun's client, and by the bare API that waits."""
    rounds = context.rounds(20, 5)
    with platform(context) as stoker:
        own = [_bare(stoker, number) for number in range(rounds)]
        seen = _by_mlrun(stoker, rounds)
    context.say(
        f"by mlrun {percentile(seen, 0.5):.0f} ms, of which ours {percentile(own, 0.5):.0f}"
    )
    what = f"deploy of a plain function ({rounds} times)"
    return Result(
        "deploy",
        [
            Figure(f"{what}, by mlrun: p50", percentile(seen, 0.5), "ms", target=at_most(1000)),
            Figure(f"{what}, by mlrun: p95", percentile(seen, 0.95), "ms"),
            Figure(f"{what}, Stoker's part: p50", percentile(own, 0.5), "ms", target=at_most(300)),
            Figure(f"{what}, Stoker's part: p95", percentile(own, 0.95), "ms"),
        ],
        details={"by_mlrun_ms": seen, "own_ms": own},
    )


def _bare(stoker: Platform, number: int) -> float:
    """Milliseconds of one request that is answered when the function is ready.

    Raises:
        CannotRun: it did not become ready.
    """
    code = base64.b64encode(SOURCE.read_bytes()).decode()
    document = {
        "metadata": {"name": f"bare-{number}"},
        "spec": {"handler": "echo:handler", "build": {"functionSourceCode": code}},
    }
    start = time.perf_counter()
    reply = httpx.post(
        f"{stoker.control_url}/api/functions",
        json=document,
        headers={"X-Nuclio-Wait-Function-Action": "true"},
        timeout=60,
    )
    taken = 1000 * (time.perf_counter() - start)
    state = stoker.function(f"bare-{number}")["status"]["state"]
    if reply.status_code != 202 or state != "ready":
        raise CannotRun(f"the deploy was answered {reply.status_code}, and left state {state}")
    return taken


def _by_mlrun(stoker: Platform, rounds: int) -> list[float]:
    """Milliseconds of each ``project.deploy_function()``, imports and the first call left out."""
    done = subprocess.run(
        [sys.executable, str(CLIENT), str(SOURCE), str(rounds)],
        env={**os.environ, "MLRUN_DBPATH": stoker.control_url},
        stdout=subprocess.PIPE,
        text=True,
        timeout=CLIENT_S,
        check=False,
    )
    if done.returncode:
        raise CannotRun(f"{CLIENT.name} ended with {done.returncode}; its message stands above")
    lines = done.stdout.splitlines()
    return [float(json.loads(line)["ms"]) for line in lines if line.startswith('{"ms"')]
