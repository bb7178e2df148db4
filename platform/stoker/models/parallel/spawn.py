"""Peers as new processes: for a worker that this platform did not fork, as one of Nuclio's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from stoker.models.parallel.crew import Crew, Peer


def spawned(devices: Sequence[str]) -> Crew:
    """Starts a peer for each device but the first, which is this process's.

    Args:
        devices: by rank; empty names: all on the CPU.
    """
    peers = [_peer(rank, device) for rank, device in enumerate(devices) if rank]
    return Crew(peers)


def _peer(rank: int, device: str) -> Peer:
    ours, theirs = socket.socketpair()
    command = [
        sys.executable, "-m", "stoker.models.parallel.rank",
        f"--socket={theirs.fileno()}", f"--parent={os.getpid()}",
    ]  # fmt: skip
    with theirs:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": device},
        )
    # The crew reaps it; Popen's own reaping would get in the way.
    process.returncode = 0
    return Peer(rank, process.pid, ours)
