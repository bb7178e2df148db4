"""``python -m bench.record_trace``: records `eviction_recorded.json` from a running platform.

Eight functions with weights of 32 to 512 MiB, which they read from files when they start, share
one simulated card of 768 MiB: three or four of them fit at once. Twelve users ask them, each one
request at a time: a user takes a liking to a function (the k-th most popular is chosen 1/k as often
as the first), asks it a few times, and rests. Half-way the favourites change. So the users and
their tastes are made up, from a seed; when each request comes is not, because who waits for a model
asks for nothing meanwhile. The bytes are the ledger's, the seconds those that the workers and the
gateway told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bench import machine
from bench.context import Context
from bench.eviction_traces import RECORDED
from bench.load import Generator
from bench.stoker_home import Platform, platform

MIB = 1 << 20
CARD_MIB = 768
SIZES_MIB = (32, 64, 96, 128, 192, 256, 384, 512)
USERS = 12
CODE = """
import os

import numpy


def init_context(context):
    context.user_data.weights = numpy.fromfile(os.environ["WEIGHTS"], dtype=numpy.float32)


def handler(context, event):
    return f"{float(context.user_data.weights[: 1 << 22].sum()):.3f}"
"""
SEED = 7


def main(argv: Sequence[str]) -> int:
    """Runs the platform and the users, and writes the trace."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the users ask")
    options = parser.parse_args(argv)
    cores = machine.share(os.sched_getaffinity(0))
    context = Context(False, cores, Generator.found(cores.loading), print)
    folder = Path(tempfile.mkdtemp(prefix="stoker-trace-"))
    try:
        with platform(context, devices=f"sim:1x{CARD_MIB}MiB") as running:
            names = [_deploy(running, folder, size) for size in SIZES_MIB]
            arrivals = asyncio.run(_users(running, names, options.seconds))
            trace = {
                "about": " ".join(str(__doc__).split()[4:]),
                "seconds": options.seconds,
                "devices": {"card": CARD_MIB * MIB},
                "models": {name: _model(running, name) for name in names},
                "arrivals": [[round(at, 3), names.index(name)] for at, name in sorted(arrivals)],
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    RECORDED.write_text(json.dumps(trace, separators=(",", ":")) + "\n")
    print(f"{len(arrivals)} requests for {len(names)} functions: {RECORDED}")
    return 0


def _deploy(running: Platform, folder: Path, size_mib: int) -> str:
    name = f"model-{size_mib}"
    weights = folder / f"{name}.weights"
    with weights.open("wb") as file:
        block = random.Random(size_mib).randbytes(MIB)
        for _ in range(size_mib):
            file.write(block)
    code = folder / name
    code.mkdir()
    (code / "main.py").write_text(CODE)
    document: dict[str, Any] = {
        "apiVersion": "nuclio.io/v1",
        "kind": "NuclioFunction",
        "metadata": {"name": name},
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "minReplicas": 0,
            "maxReplicas": 1,
            "scaleToZero": {"scaleResources": [{"windowSize": "600s"}]},
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "env": [
                {"name": "STOKER_GPU_MEMORY", "value": f"{size_mib}MiB"},
                {"name": "WEIGHTS", "value": str(weights)},
            ],
            "triggers": {"http": {"kind": "http", "numWorkers": 1}},
        },
    }
    (code / "function.yaml").write_text(json.dumps(document))
    running.deploy(code)
    return name


async def _users(running: Platform, names: list[str], seconds: float) -> list[tuple[float, str]]:
    """What they asked for, and when: seconds since the first of them began."""
    arrivals: list[tuple[float, str]] = []
    began = time.monotonic()
    limits = httpx.Limits(max_connections=USERS)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client, asyncio.TaskGroup() as group:
        for user in range(USERS):
            rng = random.Random(SEED * 1000 + user)
            group.create_task(_user(client, running, names, rng, began, seconds, arrivals))
    return arrivals


async def _user(
    client: httpx.AsyncClient,
    running: Platform,
    names: list[str],
    rng: random.Random,
    began: float,
    seconds: float,
    arrivals: list[tuple[float, str]],
) -> None:
    order = list(names)
    random.Random(SEED).shuffle(order)
    weights = [1 / rank for rank in range(1, len(order) + 1)]
    await asyncio.sleep(rng.uniform(0, 3))
    while (now := time.monotonic() - began) < seconds:
        liked = order if now < seconds / 2 else order[::-1]
        name = rng.choices(liked, weights)[0]
        for _ in range(rng.randint(1, 8)):
            if time.monotonic() - began >= seconds:
                return
            arrivals.append((time.monotonic() - began, name))
            reply = await client.post(f"{running.gateway_url}/{name}")
            reply.raise_for_status()
            await asyncio.sleep(rng.expovariate(1 / 0.4))
        await asyncio.sleep(rng.expovariate(1 / 4.0))


def _model(running: Platform, name: str) -> dict[str, float]:
    """Its bytes in the ledger, and the medians of what its loads and its requests took."""
    endpoint = f"{running.gateway_url}/{name}"
    took = []
    for _ in range(9):
        reply = httpx.post(endpoint, timeout=60)
        parts = dict(part.split(";dur=") for part in reply.headers["Server-Timing"].split(", "))
        took.append(float(parts["handler"]) / 1000)
    top = httpx.get(f"{running.control_url}/api/stoker/top", timeout=10).json()
    (row,) = [row for row in top["functions"] if row["name"] == name]
    return {
        "size": int(row["deviceBytes"]),
        "reload_s": round(statistics.median(_loads(running, name)), 3),
        "service_s": round(statistics.median(took), 4),
    }


def _loads(running: Platform, name: str) -> list[float]:
    """Seconds of its loads, as its workers logged them."""
    url = f"{running.control_url}/api/stoker/functions/{name}/logs"
    lines = [json.loads(line) for line in httpx.get(url, timeout=10).text.splitlines()]
    return [
        float(line["with"]["seconds"])
        for line in lines
        if line.get("message") == "ready" and "seconds" in line.get("with", {})
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
