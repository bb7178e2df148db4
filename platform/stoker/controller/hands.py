"""The verbs carried out: zygotes, sockets, signals, the store's outbox, builds."""

from __future__ import annotations

import asyncio
import logging
import os
import signal as signals
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stoker.controller.build import Builds
from stoker.controller.effects import Change
from stoker.controller.happenings import Happening, StartRefused
from stoker.controller.kind import choose_kind
from stoker.controller.log_files import append_line, remove_logs, remove_traffic
from stoker.controller.outbox import Outbox
from stoker.controller.settings import ControllerSettings
from stoker.controller.source import remove_revisions
from stoker.controller.worker_links import WorkerLinks
from stoker.controller.zygotes import ZygoteClient
from stoker.nouns.home import Home
from stoker.nouns.launch import WorkerLaunch, ZygoteKind
from stoker.nouns.record import FunctionRecord, ReplicaRecord
from stoker.nouns.rollout import RolloutEvent
from stoker.nouns.wire import Kind
from stoker.store import Store

log = logging.getLogger(__name__)

Revision = tuple[str, int]
Worker = tuple[str, int]


class SystemClock:
    """The machine's own time."""

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def epoch(self) -> float:
        """Seconds since 1970."""
        return time.time()


class Hands:
    """`stoker.controller.effects.Effects` on the real machine."""

    def __init__(
        self,
        store: Store,
        home: Home,
        settings: ControllerSettings,
        report: Callable[[Happening], None],
    ) -> None:
        self._home = home
        self._report = report
        self.links = WorkerLinks(report)
        self.outbox = Outbox(store, report)
        self.builds = Builds(home, self.outbox.change_function, report)
        self.zygotes = {
            kind: ZygoteClient(kind, home.zygote_socket(kind), report)
            for kind in settings.zygotes | {ZygoteKind.PLAIN}
        }
        self._kinds: dict[Revision, asyncio.Task[ZygoteKind]] = {}
        self._starting: dict[Worker, asyncio.Task[None]] = {}

    def start_worker(self, launch: WorkerLaunch) -> None:
        """Sends the launch to the zygote of the function's kind, once that is known."""
        kind = self._kind_of(launch)
        if kind.done():
            self._launch(launch, kind)
            return
        worker = (launch.replica, launch.index)
        task = asyncio.get_running_loop().create_task(self._launch_later(launch, kind))
        self._starting[worker] = task
        task.add_done_callback(lambda done: self._started(worker, done))

    async def _launch_later(self, launch: WorkerLaunch, kind: asyncio.Task[ZygoteKind]) -> None:
        await asyncio.wait({kind})
        self._launch(launch, kind)

    def _started(self, worker: Worker, task: asyncio.Task[None]) -> None:
        if self._starting.get(worker) is task:
            del self._starting[worker]

    def _launch(self, launch: WorkerLaunch, kind: asyncio.Task[ZygoteKind]) -> None:
        try:
            zygote = self.zygotes.get(kind.result(), self.zygotes[ZygoteKind.PLAIN])
            Path(launch.log).parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            # A full disk, or no descriptor left, must cost this start, not the controller; and not
            # the next start.
            self._forget_kind(launch, kind)
            self._report(StartRefused(launch.replica, launch.index, str(exc)))
            return
        zygote.launch(launch)

    def _kind_of(self, launch: WorkerLaunch) -> asyncio.Task[ZygoteKind]:
        """The kind of zygote; read from the code once a revision, in a thread."""
        key = (launch.function, launch.revision)
        if key not in self._kinds:
            choosing = asyncio.to_thread(choose_kind, launch)
            self._kinds[key] = asyncio.get_running_loop().create_task(choosing)
        return self._kinds[key]

    def _forget_kind(self, launch: WorkerLaunch, kind: asyncio.Task[ZygoteKind]) -> None:
        key = (launch.function, launch.revision)
        if self._kinds.get(key) is kind and kind.exception() is not None:
            del self._kinds[key]

    def watch_worker(self, replica: str, index: int, socket: str) -> None:
        """Connects to the worker's socket."""
        self.links.watch(replica, index, socket)

    def drain_worker(self, replica: str, index: int, within_s: float) -> None:
        """Sends DRAIN."""
        self.links.drain(replica, index, within_s)

    def sleep_worker(self, replica: str, index: int) -> None:
        """Sends SLEEP."""
        self.links.send(replica, index, Kind.SLEEP)

    def wake_worker(self, replica: str, index: int) -> None:
        """Sends WAKE."""
        self.links.send(replica, index, Kind.WAKE)

    def kill_worker(self, replica: str, index: int, pid: int, signal: int) -> None:
        """Signals the process, or withdraws its launch."""
        if not pid:
            starting = self._starting.pop((replica, index), None)
            if starting is not None:
                starting.cancel()
            for zygote in self.zygotes.values():
                zygote.withdraw(replica, index)
            return
        kill(pid, signal)

    def forget_worker(self, replica: str, index: int, socket: str) -> None:
        """Closes the connection and unlinks the socket file."""
        self.links.forget(replica, index)
        try:
            Path(socket).unlink(missing_ok=True)
        except OSError as exc:
            log.warning("the socket %s cannot be removed: %s", socket, exc)

    def log_worker(self, replica: ReplicaRecord, index: int, level: str, message: str) -> None:
        """Appends a JSON line to the worker's log file."""
        path = self._home.function_logs(replica.function) / f"{replica.id}.{index}.log"
        append_line(path, replica, index, level, message)

    def put_replica(self, record: ReplicaRecord) -> None:
        """Queues the record."""
        self.outbox.put_replica(record)

    def remove_replica(self, replica: str) -> None:
        """Queues the removal."""
        self.outbox.remove_replica(replica)

    def change_function(self, name: str, change: Change) -> None:
        """Queues the change."""
        self.outbox.change_function(name, change)

    def restore_function(self, record: FunctionRecord) -> None:
        """Queues the record."""
        self.outbox.restore_function(record)

    def note_rollout(self, function: str, event: RolloutEvent) -> None:
        """Queues the event."""
        self.outbox.note_rollout(function, event)

    def build(self, record: FunctionRecord, device: str) -> None:
        """Begins the candidate's build."""
        self.builds.start(record, device)

    def stop_build(self, function: str) -> None:
        """Ends the function's build."""
        self.builds.stop(function)

    def remove_traces(self, function: str) -> None:
        """Removes logs and recorded traffic."""
        self.builds.clean(function, partial(self._remove_traces, function))

    def remove_code(self, function: str, keep: frozenset[int]) -> None:
        """Removes code of former revisions; with none kept, logs and recorded traffic as well."""
        self._kinds = {
            key: kind for key, kind in self._kinds.items() if key[0] != function or key[1] in keep
        }
        self.builds.clean(function, partial(self._remove_files, function, keep))

    def _remove_files(self, function: str, keep: frozenset[int]) -> None:
        remove_revisions(self._home.code(function, 0).parent, keep)
        if not keep:
            self._remove_traces(function)

    def _remove_traces(self, function: str) -> None:
        remove_logs(self._home.function_logs(function))
        remove_traffic(self._home.function_traffic(function))

    async def close(self) -> None:
        """Lets go of everything; workers live on."""
        for task in self._starting.values():
            task.cancel()
        await self.builds.close()
        self.links.close()


def kill(pid: int, signal: int) -> None:
    """Signals a process that may be gone already."""
    try:
        os.kill(pid, signal)
    except ProcessLookupError:
        log.debug("process %d is gone already", pid)
    except PermissionError:
        # The pid was reused by somebody else's process: ours is gone.
        log.warning("process %d is not ours any more; %s not sent", pid, signals.Signals(signal))
