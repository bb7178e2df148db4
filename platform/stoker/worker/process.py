"""One worker process, from its first line to its exit code.

``python -m stoker.worker.process --listen-fd N`` starts one as a new process, its `WorkerLaunch`
on stdin; a zygote's fork calls `run_worker` straight away.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import logging
import os
import signal
import socket
import sys
import time
import traceback
from functools import partial
from typing import Any, NoReturn
from weakref import WeakSet

import uvloop

from stoker.models.held import SHORTAGES
from stoker.nouns.launch import WorkerLaunch
from stoker.sdk.graph.targets import SPEC_VARIABLE, read_spec, targets
from stoker.sdk.sleep import SLEEPERS
from stoker.worker.batches import BatchRunner
from stoker.worker.calls import GatewayPlatform
from stoker.worker.connection import Connection
from stoker.worker.desk import FAILURE_LINGER_S, Desk
from stoker.worker.handler import Handler, HandlerError, load_handler
from stoker.worker.log import LogHandler, WorkerLog, redirect_output
from stoker.worker.logger import WorkerLogger
from stoker.worker.neighbours import Neighbours
from stoker.worker.ranks import mustered
from stoker.worker.recorder import Recorder
from stoker.worker.runner import Runner, secrets_of
from stoker.worker.settling import settle_in
from stoker.worker.step_blame import blame_step
from stoker.worker.watchdog import Watchdog

PARTING_S = 1.0
"""Seconds that callers have to close their ends once they were told of an orderly end."""
LEAST_HOOK_S = 1.0
"""Seconds that a termination callback gets even when all of the termination time is over."""
LAST_WRITE_S = 2.0
"""Seconds that one caller may take to read its last answers before the process ends."""
LAST_RECORD_S = 2.0
"""Seconds that the recorder has to write what it holds before the process ends."""
ACCEPT_PAUSE_S = 0.5
"""Seconds to leave callers waiting in the backlog when no descriptor is free."""
LOG_LOOK_S = 10.0
"""Seconds between two looks at the log's size."""
EXIT_FAILED_START = 3
"""The exit code of a worker whose import or ``init_context`` raised."""


def run_worker(launch: WorkerLaunch, listener: socket.socket) -> NoReturn:
    """Be the worker that ``launch`` describes until it is drained; the process ends with it.

    Call it in a process of its own: it takes over the standard streams, the working directory,
    ``sys.path``, the environment and the signal handlers.
    """
    began = time.monotonic()
    # First of all, while this process has one thread and nothing open but its listener.
    launch = mustered(launch, listener)
    log = WorkerLog(
        launch.log,
        function=launch.function,
        replica=launch.replica,
        worker=launch.index,
    )
    finish_output = redirect_output(log)
    logging.getLogger().addHandler(LogHandler(log))
    if launch.fresh_reason:
        log.write("info", f"started as a new process: {launch.fresh_reason}")
    watchdog = Watchdog(log.descriptor)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_Worker(launch, log, watchdog, began).live(listener))
        finish_output()
        # Nothing of the interpreter's own end: it can take longer than the whole request, and user
        # threads could keep the process, its memory and its device for ever.
        os._exit(code)


class _Worker:
    def __init__(
        self, launch: WorkerLaunch, log: WorkerLog, watchdog: Watchdog, began: float
    ) -> None:
        self._launch = launch
        self._log = log
        self._watchdog = watchdog
        self._began = began

    async def live(self, listener: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        desk = Desk(self._launch, self._log, loop, SLEEPERS)
        SHORTAGES.listener = partial(loop.call_soon_threadsafe, desk.tell_shortage)
        connections = _accept(listener, loop, desk)
        os.register_at_fork(after_in_child=lambda: _leave_to_parent(listener, connections))
        loop.add_signal_handler(signal.SIGTERM, desk.drain)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._look_at_log(loop)
        logger = WorkerLogger(self._log)
        loading = loop.create_task(_load(self._launch, logger))
        leaving = loop.create_task(desk.leave.wait())
        first: list[asyncio.Future[Any]] = [loading, leaving]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            self._log.write("info", "stopped before it was ready")
            return 0
        handler = loading.result()
        if isinstance(handler, BaseException):
            return await self._fail(desk, handler)
        kind = BatchRunner if self._launch.batch_size else Runner
        runner = kind(desk, handler, self._launch, self._log, self._watchdog)
        desk.pump = runner.pump
        recorder = desk.recorder = Recorder.of(self._launch, self._log, secrets_of(self._launch))
        if recorder is not None:
            recorder.start()
        handler.context.platform._control_callback = desk.acks.control
        self._log.write("info", "ready", {"seconds": round(time.monotonic() - self._began, 4)})
        desk.ready()
        ends: list[asyncio.Future[Any]] = [leaving, runner.crashed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        code = runner.crashed.result().code if runner.crashed.done() else 0
        # First of all: what a flow still holds may go to callers that are connected.
        await self._terminate(handler.context.platform, desk.left_s)
        if not code:
            await desk.part(PARTING_S)
        desk.close(LAST_WRITE_S)
        listener.close()
        if recorder is not None:
            recorder.close(LAST_RECORD_S)
        self._log.write("info", "stopped", {"code": code})
        return code

    def _look_at_log(self, loop: asyncio.AbstractEventLoop) -> None:
        # What C code and child processes print does not pass by the log's own count.
        self._log.keep_bounded()
        loop.call_later(LOG_LOOK_S, self._look_at_log, loop)

    async def _fail(self, desk: Desk, exc: BaseException) -> int:
        if isinstance(exc, HandlerError):
            text = str(exc)
        else:
            text = "".join(traceback.format_exception(exc)).rstrip()
        self._log.write("error", text)
        desk.fail(text)
        try:
            await asyncio.wait_for(desk.told_failure.wait(), FAILURE_LINGER_S)
        except TimeoutError:
            self._log.write("warn", "no controller asked why this worker failed")
        desk.close(LAST_WRITE_S)
        return EXIT_FAILED_START

    async def _terminate(self, platform: GatewayPlatform, left_s: float) -> None:
        """The callback that user code set by ``context.platform.set_termination_callback``.

        mlrun's is a coroutine that sends on what its flow still holds.
        """
        limit_s = max(LEAST_HOOK_S, left_s)
        try:
            async with asyncio.timeout(limit_s):
                outcome = platform._on_signal("termination")
                if inspect.isawaitable(outcome):
                    await outcome
        except TimeoutError:
            text = f"the termination callback did not end within {limit_s:.1f} s"
            self._log.write("error", text)
        except Exception as exc:
            self._log.write("error", "".join(traceback.format_exception(exc)).rstrip())
        await platform.neighbours.close()


async def _load(launch: WorkerLaunch, logger: WorkerLogger) -> Handler | BaseException:
    try:
        settle_in(launch)
        neighbours = Neighbours.of(launch)
        names = _graph_targets()
        if names:
            await neighbours.prepare(names)
        return await load_handler(launch, logger, neighbours)
    except BaseException as exc:
        blame_step(exc)
        # Returned, because a task that ends with SystemExit takes the whole loop with it.
        return exc


def _graph_targets() -> frozenset[str]:
    """The functions that this worker's graph calls, if it runs one."""
    text = os.environ.get(SPEC_VARIABLE, "")
    try:
        return targets(read_spec(text)) if text else frozenset()
    except (ValueError, AttributeError):
        return frozenset()  # mlrun reads it next, and says what is wrong with it


def _leave_to_parent(listener: socket.socket, connections: WeakSet[Connection]) -> None:
    """In a process that user code forked: what is the worker's stays the worker's.

    Else its callers would not see the worker die before the last of these processes ends, and a
    SIGTERM to one of them would drain the worker, whose loop it would wake.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if listener.fileno() >= 0:
        os.close(listener.detach())
    for connection in tuple(connections):
        connection.abandon()


def _accept(
    listener: socket.socket, loop: asyncio.AbstractEventLoop, desk: Desk
) -> WeakSet[Connection]:
    """Accept callers from now on; the connections that are open."""
    listener.setblocking(False)
    connections: WeakSet[Connection] = WeakSet()

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Out of descriptors: the listener stays readable, and the loop would spin.
                loop.remove_reader(listener)
                loop.call_later(ACCEPT_PAUSE_S, loop.add_reader, listener, accept)
                return
            connections.add(Connection(sock, loop, desk))

    loop.add_reader(listener, accept)
    return connections


def main(arguments: list[str] | None = None) -> NoReturn:
    """Start a worker as a new process; its launch is read from stdin."""
    parser = argparse.ArgumentParser(prog="python -m stoker.worker.process", description=__doc__)
    parser.add_argument("--listen-fd", type=int, required=True, help="the bound, listening socket")
    chosen = parser.parse_args(arguments)
    launch = WorkerLaunch.model_validate_json(sys.stdin.buffer.read())
    run_worker(launch, socket.socket(fileno=chosen.listen_fd))


if __name__ == "__main__":
    main()
