"""From zero to the first reply: without a model, and with MiniLM."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.context import ROOT, Context
from bench.job import BODY
from bench.result import CannotRun, Figure, Result, at_most
from bench.samples import percentile, ratio
from bench.stoker_home import FUNCTIONS, Platform, platform

EMBEDDER = ROOT / "functions" / "text-embedder"
LOADER = Path(__file__).parent / "load_once.py"


def run(context: Context) -> Result:
    """Puts a function to zero, then times one request; again and again."""
    with platform(context) as stoker:
        stoker.deploy(FUNCTIONS / "echo")
        empty = [_woken(stoker, "bench-echo", context) for _ in range(context.rounds(40, 8))]
        stoker.remove("bench-echo")
        stoker.deploy(EMBEDDER)
        waking, loading = _with_model(stoker, context)
    return Result(
        "wake",
        [*_figures(empty), _model_figure(waking, loading)],
        details={"empty_ms": empty, "model_ms": waking, "load_ms": loading},
    )


def _woken(stoker: Platform, name: str, context: Context) -> float:
    """Milliseconds from a request at zero to its whole reply.

    Raises:
        CannotRun: it was not at zero, or the request failed.
    """
    stoker.sleep(name)
    start = time.perf_counter()
    status, body = stoker.endpoint(name).post(BODY)
    taken = 1000 * (time.perf_counter() - start)
    if status != 200:
        raise CannotRun(f"the wake of {name} was answered {status}: {body[:300]!r}")
    context.say(f"wake of {name}: {taken:.0f} ms")
    return taken


def _figures(times: list[float]) -> list[Figure]:
    what = f"wake, no model ({len(times)} times)"
    return [
        Figure(f"{what}: p50", percentile(times, 0.5), "ms"),
        Figure(f"{what}: p95", percentile(times, 0.95), "ms", target=at_most(150)),
    ]


def _with_model(stoker: Platform, context: Context) -> tuple[list[float], list[float]]:
    """Wakes, and loads in a child forked from a process with everything imported, in turn."""
    waking, loading = [], []
    # Not on the same home's environment: its own process, its own imports, the same checkpoint.
    with subprocess.Popen(
        [sys.executable, str(LOADER), str(stoker.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        for _ in range(context.rounds(15, 4)):
            waking.append(_woken(stoker, "text-embedder", context))
            parent.stdin.write("\n")
            parent.stdin.flush()
            line = parent.stdout.readline()
            if not line:
                raise CannotRun("bench/load_once.py ended; its message stands above")
            loading.append(float(json.loads(line)["ms"]))
        parent.stdin.close()
    return waking, loading


def _model_figure(waking: list[float], loading: list[float]) -> Figure:
    return Figure(
        "wake of MiniLM int8, beside loading and embedding once",
        statistics.median(waking),
        "ms",
        reference=statistics.median(loading),
        ratio=ratio(waking, loading),
        target=at_most(2),
    )
