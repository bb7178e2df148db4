"""The verbs: everything that the reconciler can do to the world. A fake of them drives its tests.

None of them waits or fails: each starts something whose outcome comes back as a happening.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.record import FunctionRecord, ReplicaRecord
from stoker.nouns.rollout import RolloutEvent

Change = Callable[[FunctionRecord], FunctionRecord]


class Clock(Protocol):
    """The time, so that tests can be its master."""

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""

    def epoch(self) -> float:
        """Seconds since 1970."""


class Effects(Protocol):
    """What the reconciler may do."""

    def start_worker(self, launch: WorkerLaunch) -> None:
        """Asks a zygote. Comes back as WorkerStarted or StartRefused."""

    def watch_worker(self, replica: str, index: int, socket: str) -> None:
        """Connects to its socket. Comes back as WorkerStated …, then WorkerGone."""

    def drain_worker(self, replica: str, index: int, within_s: float) -> None:
        """Asks it to finish what it has within so many seconds, and exit."""

    def sleep_worker(self, replica: str, index: int) -> None:
        """Asks it to leave the device, unless it has work. Comes back as WorkerStated, or not."""

    def wake_worker(self, replica: str, index: int) -> None:
        """Asks it to take the device again. Comes back as WorkerStated."""

    def kill_worker(self, replica: str, index: int, pid: int, signal: int) -> None:
        """Signals it; with pid 0, withdraws the launch that no zygote has answered yet."""

    def forget_worker(self, replica: str, index: int, socket: str) -> None:
        """Its process is gone: closes the connection and unlinks the socket file."""

    def log_worker(self, replica: ReplicaRecord, index: int, level: str, message: str) -> None:
        """Appends a line to the worker's own log: what happened to its process."""

    def put_replica(self, record: ReplicaRecord) -> None:
        """Writes the record; announced to the gateways."""

    def remove_replica(self, replica: str) -> None:
        """Removes the record; announced to the gateways."""

    def change_function(self, name: str, change: Change) -> None:
        """Applies the change to the stored record. Comes back as FunctionSeen."""

    def restore_function(self, record: FunctionRecord) -> None:
        """Writes a record that the store has lost."""

    def note_rollout(self, function: str, event: RolloutEvent) -> None:
        """Appends to the history of the function's canaries."""

    def build(self, record: FunctionRecord, device: str) -> None:
        """Builds the candidate, its model for that device (``cpu``, ``cuda:9.0``).

        Comes back as Built or BuildFailed.
        """

    def stop_build(self, function: str) -> None:
        """Ends the function's build, if one runs; nothing comes back."""

    def remove_traces(self, function: str) -> None:
        """Removes its logs and what was recorded of it: another function has its name."""

    def remove_code(self, function: str, keep: frozenset[int]) -> None:
        """Removes the code of all its revisions but these; with none kept, its logs as well."""
