"""What every benchmark is given."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.load import Generator
from bench.machine import Cores

ROOT = Path(__file__).parent.parent
OUT = ROOT / ".bench"


@dataclass(frozen=True)
class Context:
    """How much to measure, on which cores, and where to write.

    Attributes:
        quick: fewer and shorter rounds; for trying the benchmark, not for its figures.
        say: told what happens, for whoever waits.
    """

    quick: bool
    cores: Cores
    generator: Generator
    say: Callable[[str], None]
    out: Path = OUT

    def rounds(self, full: int, quick: int) -> int:
        """Rounds, or anything else that is counted."""
        return quick if self.quick else full

    @property
    def seconds(self) -> float:
        """Length of one run of the load generator."""
        return 2.0 if self.quick else 5.0

    @property
    def logs(self) -> Path:
        """Output of what is started."""
        return self.out / "logs"

    def body_file(self, body: bytes, name: str) -> Path:
        """The body as a file, for the load generator."""
        path = self.out / f"{name}.body"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return path


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
