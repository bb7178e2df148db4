"""One process that a benchmark starts, on cores of its choice, and ends with all it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bench.result import CannotRun

STOP_S = 15.0
"""Seconds to end in order; past them the rest is killed."""


class Child:
    """A started process and its descendants; its output goes to ``log``."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cores: Sequence[int],
        env: Mapping[str, str] | None = None,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Raises `CannotRun` with the end of its output when it has ended."""
        if self.process.poll() is not None:
            raise CannotRun(f"ended with status {self.process.returncode}: {self.tail()}")

    def tail(self) -> str:
        """The last lines of its output."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])[-400:]

    def stop(self) -> None:
        """Ends it and its descendants: asked first, killed when that takes too long."""
        family = self._family()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        psutil.wait_procs(family, timeout=STOP_S)
        for process in family:
            if process.is_running():
                process.kill()
        self.process.wait()

    def _family(self) -> list[psutil.Process]:
        try:
            leader = psutil.Process(self.process.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def wait_until(child: Child, answers: Callable[[], bool], *, timeout_s: float) -> None:
    """Calls ``answers`` until it is true, while the child lives.

    Raises:
        CannotRun: the child ended, or the time is over.
    """
    end = time.monotonic() + timeout_s
    while not answers():
        child.check()
        if time.monotonic() > end:
            raise CannotRun(f"did not answer within {timeout_s:.0f} s: {child.tail()}")
        time.sleep(0.05)
