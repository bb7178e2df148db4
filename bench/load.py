"""The load generator: wrk where there is one, else a weaker one of our own, said so in the table.

Closed loop: every connection has one request out at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.job import Endpoint
from bench.result import CannotRun

HERE = Path(__file__).parent
MARK = "WRK "
ADVICE = (
    "wrk is not on PATH (Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk): "
    "using bench/raw_load.py instead, which loads less, so that fast servers look slower"
)


@dataclass(frozen=True)
class Load:
    """One run of the generator. Times are microseconds."""

    requests: int
    duration_us: int
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    bad_status: int
    socket_errors: int

    @property
    def per_second(self) -> float:
        """Requests answered well, by second."""
        return (self.requests - self.bad_status) * 1e6 / self.duration_us


def parse(output: str) -> Load:
    """Reads the line that either generator ends with.

    >>> parse('WRK {"requests": 20, "duration_us": 1000000, "p50_us": 1, "p90_us": 2, '
    ...       '"p99_us": 3, "max_us": 4, "bad_status": 10, "socket_errors": 0}').per_second
    10.0

    Raises:
        CannotRun: there is no such line.
    """
    for line in output.splitlines():
        if line.startswith(MARK):
            return Load(**json.loads(line[len(MARK) :]))
    raise CannotRun(f"the load generator said nothing that can be read: {output[-300:]}")


@dataclass(frozen=True)
class Generator:
    """Which generator, and on which cores it runs."""

    wrk: str | None
    cores: tuple[int, ...]

    @classmethod
    def found(cls, cores: tuple[int, ...]) -> Generator:
        """wrk when it is on PATH."""
        return cls(shutil.which("wrk"), cores)

    @property
    def name(self) -> str:
        """For the record."""
        return "wrk" if self.wrk else "bench/raw_load.py (weaker than wrk)"

    def run(self, endpoint: Endpoint, body: Path, *, connections: int, seconds: float) -> Load:
        """Loads an endpoint; ``body`` holds what is posted.

        Raises:
            CannotRun: the generator failed, or the server answered nothing or errors.
        """
        argv = self._argv(endpoint, body, connections, seconds)
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )
        if done.returncode:
            raise CannotRun(f"{argv[0]} ended with {done.returncode}: {done.stderr[-300:]}")
        load = parse(done.stdout)
        if load.requests == 0 or load.bad_status or load.socket_errors:
            raise CannotRun(
                f"{endpoint.url}: of {load.requests} requests {load.bad_status} were answered with "
                f"an error and {load.socket_errors} failed"
            )
        return load

    def _argv(
        self, endpoint: Endpoint, body: Path, connections: int, seconds: float
    ) -> Sequence[str]:
        if self.wrk is None:
            return [
                sys.executable,
                str(HERE / "raw_load.py"),
                *(endpoint.url, str(body), str(connections), str(seconds)),
            ]
        return [
            self.wrk,
            *("-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"),
            *("-s", str(HERE / "wrk_post.lua"), endpoint.url, "--", str(body)),
        ]
