"""The first process of a container inherits whoever lost his parent, and must bury him."""

from __future__ import annotations

import os
from collections.abc import Collection

import psutil

FIRST = 1
"""The pid of the process that every orphan of its container is given to."""


def is_first() -> bool:
    """Whether orphans are given to this process: `docker run … stoker up`, without an init."""
    return os.getpid() == FIRST


def reap(own: Collection[int]) -> list[int]:
    """Takes the exit status of every ended child that this process has not started; their pids.

    Workers outlive their zygote, and what a function starts may outlive its worker. Each of them
    would stay a zombie, until the container has no pid left.

    Args:
        own: pids of those that it has started, whose status somebody else waits for.
    """
    reaped = []
    for child in psutil.Process().children():
        try:
            if child.pid not in own and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
                reaped.append(child.pid)
        except (psutil.Error, ChildProcessError):
            continue
    return reaped
