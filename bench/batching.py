"""64 concurrent single-text requests, beside an offline loop over full batches."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.context import ROOT, Context
from bench.result import CannotRun, Figure, Result, at_least
from bench.samples import interleaved, ratio
from bench.stoker_home import Platform, platform
from bench.texts import bodies

EMBEDDER = ROOT / "functions" / "text-embedder"
OFFLINE = Path(__file__).parent / "offline.py"
CONNECTIONS = 64


def run(context: Context) -> Result:
    """Both sides loaded and warm, then in turn; the same processes, threads and batch size."""
    with platform(context) as stoker:
        stoker.deploy(EMBEDDER)
        spec = stoker.function("text-embedder")["spec"]["triggers"]["http"]
        workers, size = spec["numWorkers"], spec["batch"]["batchSize"]
        threads = max(1, len(context.cores.serving) // workers)
        with loops(context, stoker, workers, size, threads) as offline:
            rounds = _rounds(context, stoker, offline)
    figure = Figure(
        f"{CONNECTIONS} concurrent texts, beside an offline loop "
        f"({workers} × {threads} thread, batches of {size})",
        statistics.median(rounds["stoker_per_s"]),
        "texts/s",
        reference=statistics.median(rounds["offline_per_s"]),
        ratio=ratio(rounds["stoker_per_s"], rounds["offline_per_s"]),
        target=at_least(0.9),
    )
    return Result("batching", [figure], details={**rounds})


def _rounds(context: Context, stoker: Platform, offline: Loops) -> dict[str, list[float]]:
    body = context.body_file(bodies(), "texts")
    endpoint = stoker.endpoint("text-embedder")

    def served(seconds: float) -> float:
        load = context.generator.run(endpoint, body, connections=CONNECTIONS, seconds=seconds)
        context.say(f"served {load.per_second:,.0f} texts/s, p50 {load.p50_us / 1000:.0f} ms")
        return load.per_second

    def looped(seconds: float) -> float:
        rate = offline.run(seconds)
        context.say(f"offline {rate:,.0f} texts/s")
        return rate

    served(1)
    looped(1)
    subjects = {
        "offline_per_s": lambda: looped(context.seconds),
        "stoker_per_s": lambda: served(context.seconds),
    }
    return interleaved(subjects, context.rounds(7, 3))


class Loops:
    """The offline processes; they sleep on their stdin while the other side is measured."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def line(self, process: subprocess.Popen[str]) -> str:
        """What one says next.

        Raises:
            CannotRun: it ended.
        """
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise CannotRun(f"bench/offline.py ended with {process.wait()}; see above")
        return line

    def run(self, seconds: float) -> float:
        """Texts per second of all together."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        told = [json.loads(self.line(process)) for process in self._processes]
        return float(sum(one["texts"] / one["seconds"] for one in told))


@contextmanager
def loops(
    context: Context, stoker: Platform, workers: int, size: int, threads: int
) -> Iterator[Loops]:
    """Starts the offline processes on the serving cores and waits until they are warm."""
    argv = [sys.executable, str(OFFLINE), str(stoker.home), str(size), str(threads)]
    processes = [
        subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, context.cores.serving),
        )
        for _ in range(workers)
    ]
    try:
        started = Loops(processes)
        for process in processes:
            started.line(process)
        yield started
    finally:
        for process in processes:
            process.terminate()
            process.communicate()
