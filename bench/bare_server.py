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
def bare_echo(context: Context, *, minimal: bool = False) -> Iterator[Endpoint]:
    """Runs it on the serving cores; ``minimal`` is the one that reads neither url nor headers."""
    port, words = free_port(), ["minimal"] if minimal else []
    with Child(
        [sys.executable, str(SCRIPT), str(port), *words],
        log=context.logs / f"{'_'.join(['bare', *words])}_echo.log",
        cores=context.cores.serving,
    ) as child:
        endpoint = Endpoint(f"http://127.0.0.1:{port}/")
        wait_until(child, endpoint.echoes, timeout_s=20)
        yield endpoint
