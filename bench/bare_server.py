"""The bare echo server: what all throughput is measured against."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.child import Child, wait_until
from bench.context import Context, free_port
from bench.job import Endpoint

SCRIPT = Path(__file__).parent / "bare_echo.py"


@contextmanager
def bare_echo(context: Context) -> Iterator[Endpoint]:
    """Runs it on the serving cores."""
    port = free_port()
    with Child(
        [sys.executable, str(SCRIPT), str(port)],
        log=context.logs / "bare_echo.log",
        cores=context.cores.serving,
    ) as child:
        endpoint = Endpoint(f"http://127.0.0.1:{port}/")
        wait_until(child, endpoint.echoes, timeout_s=20)
        yield endpoint
