"""A zygote: imports once, forks workers on demand. ``python -m stoker.worker.zygote --kind plain``.

It has one thread and no event loop, and never touches CUDA: that is what makes its forks safe.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from pydantic import ValidationError

from stoker.nouns.home import SOCKET_PATH_LIMIT, Home
from stoker.nouns.launch import WorkerLaunch, ZygoteKind, ZygoteReply
from stoker.worker.environ_block import ROOM
from stoker.worker.preimport import (
    ENVIRONMENT,
    PreimportError,
    fork_hazard,
    preimport,
    set_too_late,
    shadowed,
    worker_environment,
)

EXIT_NOT_INSTALLED = 4
"""The exit code when the kind's packages are missing."""
EXIT_WORKER_BROKEN = 70
"""The exit code of a worker whose own machinery (not its user's code) failed."""
BACKLOG = 512
_LONGEST_LINE = 16 * 1024 * 1024
_WRITE_S = 1.0
_KEPT_EXITS = 4096


class Controller:
    """One connection that launches workers and hears of their ends."""

    def __init__(self, sock: socket.socket) -> None:
        # Replies are short; a controller that does not read them is dropped rather than waited for.
        sock.settimeout(_WRITE_S)
        self.sock = sock
        self.partial = b""

    def lines(self) -> list[bytes] | None:
        """The whole lines that arrived; None when the connection is over."""
        try:
            data = self.sock.recv(1 << 20)
        except OSError:
            return None
        self.partial += data
        if not data or len(self.partial) > _LONGEST_LINE:
            return None
        *lines, self.partial = self.partial.split(b"\n")
        return [line for line in lines if line.strip()]

    def reply(self, reply: ZygoteReply) -> bool:
        """Send one line; False when the connection is over."""
        try:
            self.sock.sendall(reply.model_dump_json(exclude_defaults=True).encode() + b"\n")
        except OSError:
            return False
        return True


class Child(NamedTuple):
    """A running worker. ``inode`` tells its socket from a successor's at the same path."""

    launch: WorkerLaunch
    pid: int
    inode: int


class Forked(NamedTuple):
    """What the loop returns in a forked child."""

    launch: WorkerLaunch
    listener: socket.socket


class Zygote:
    """Single-threaded; everything here is written by its one loop.

    Attributes:
        controllers: the connections, oldest first. Every one hears of every exit.
        children: running workers by pidfd.
        untold: exits that happened while nobody was connected, for the next who connects.
    """

    def __init__(self, kind: ZygoteKind, path: Path, imported: list[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._controllers: list[Controller] = []
        self._children: dict[int, Child] = {}
        self._untold: deque[ZygoteReply] = deque(maxlen=_KEPT_EXITS)
        self._forked: Forked | None = None
        self._greeting = ZygoteReply(
            kind="hello", pid=os.getpid(), message=_summary(kind, imported)
        )
        self._listener, _ = listen(str(path))
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def run(self) -> Forked:
        """Serve controllers until killed; returns only in a forked child."""
        while True:
            for key, _ in self._selector.select():
                act: Callable[[], None] = key.data
                act()
                if self._forked is not None:
                    return self._forked

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        controller = Controller(sock)
        if not controller.reply(self._greeting):
            sock.close()
            return
        self._controllers.append(controller)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read(controller))
        while self._untold:
            exit_ = self._untold.popleft()
            if not controller.reply(exit_):
                self._untold.appendleft(exit_)
                self._drop(controller)
                return

    def _read(self, controller: Controller) -> None:
        lines = controller.lines()
        if lines is None:
            self._drop(controller)
            return
        for line in lines:
            reply = self._launch(line)
            if self._forked is not None:
                return
            if not controller.reply(reply):
                self._drop(controller)
                return

    def _drop(self, controller: Controller) -> None:
        if controller in self._controllers:
            self._controllers.remove(controller)
            self._selector.unregister(controller.sock)
            controller.sock.close()

    # Starting

    def _launch(self, line: bytes) -> ZygoteReply:
        try:
            launch = WorkerLaunch.model_validate_json(line)
        except ValidationError as exc:
            return ZygoteReply(kind="refused", message=f"not a WorkerLaunch: {exc}")
        try:
            reason = _fresh_reason(launch)
            listener, inode = listen(launch.socket)
        except OSError as exc:
            return _refusal(launch, f"cannot prepare {launch.socket}: {exc}")
        try:
            pid = self._spawn(launch, listener, reason) if reason else self._fork(launch, listener)
            if pid:
                self._watch(Child(launch, pid, inode))
        except OSError as exc:
            return _refusal(launch, f"cannot start a process: {exc}")
        finally:
            if self._forked is None:
                listener.close()
        return ZygoteReply(
            kind="started",
            replica=launch.replica,
            index=launch.index,
            pid=pid,
            message=f"new process: {reason}" if reason else "",
        )

    def _fork(self, launch: WorkerLaunch, listener: socket.socket) -> int:
        # Whatever is buffered would be written once more by the child.
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._forked = Forked(launch, listener)
        return pid

    def _spawn(self, launch: WorkerLaunch, listener: socket.socket, reason: str) -> int:
        """Start a new process; its launch lies in an anonymous file, so nobody waits to read it."""
        told = launch.model_copy(update={"fresh": True, "fresh_reason": reason})
        descriptor = os.memfd_create("launch")
        try:
            os.write(descriptor, told.model_dump_json().encode())
            os.lseek(descriptor, 0, os.SEEK_SET)
            process = subprocess.Popen(
                _fresh_command(listener.fileno()),
                stdin=descriptor,
                pass_fds=[listener.fileno()],
                env={**os.environ, **worker_environment(launch)},
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        pid = process.pid
        # Its end is seen by the pidfd; Popen's own reaping would get in the way.
        process.returncode = 0
        return pid

    # Ending

    def _watch(self, child: Child) -> None:
        try:
            descriptor = os.pidfd_open(child.pid)
        except OSError:
            # Out of descriptors: a worker whose end nobody would see must not run.
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            raise
        self._children[descriptor] = child
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._reap(descriptor))

    def _reap(self, descriptor: int) -> None:
        child = self._children.pop(descriptor)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        _end_group(child.pid)
        _, status = os.waitpid(child.pid, 0)
        _unlink_own(child)
        reply = ZygoteReply(
            kind="exited",
            replica=child.launch.replica,
            index=child.launch.index,
            pid=child.pid,
            status=os.waitstatus_to_exitcode(status),
        )
        told = [controller.reply(reply) for controller in self._controllers]
        for controller, reached in zip(list(self._controllers), told, strict=True):
            if not reached:
                self._drop(controller)
        if not any(told):
            self._untold.append(reply)

    # In the child

    def forget(self) -> None:
        """In a forked child: close everything that is the zygote's."""
        self._selector.close()
        self._listener.close()
        for controller in self._controllers:
            controller.sock.close()
        for descriptor in self._children:
            os.close(descriptor)


def _fresh_reason(launch: WorkerLaunch) -> str:
    if launch.fresh:
        return launch.fresh_reason or "it was asked for"
    return shadowed(launch) or set_too_late(launch) or fork_hazard()


def _fresh_command(descriptor: int) -> list[str]:
    # -P: the zygote's working directory is no place to import from.
    return [
        sys.executable,
        "-P",
        "-m",
        "stoker.worker.process",
        f"--listen-fd={descriptor}",
    ]


def _summary(kind: ZygoteKind, imported: list[str]) -> str:
    return f"{kind}: imported {', '.join(imported)}"


def _refusal(launch: WorkerLaunch, message: str) -> ZygoteReply:
    return ZygoteReply(kind="refused", replica=launch.replica, index=launch.index, message=message)


def _end_group(pid: int) -> None:
    """End what a worker that is dead, but not reaped yet, left behind: processes that it started.

    They would hold its memory and its device. Until it is reaped nobody else can have its id; a
    worker that died before it had a session of its own has no group either.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _unlink_own(child: Child) -> None:
    try:
        if os.stat(child.launch.socket).st_ino == child.inode:
            os.unlink(child.launch.socket)
    except FileNotFoundError:
        return


def listen(path: str) -> tuple[socket.socket, int]:
    """A listening unix socket at ``path``, which replaces whatever lay there; and its inode.

    Raises:
        OSError: the path is too long, or its folder cannot be written.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise OSError(f"the path is over {SOCKET_PATH_LIMIT} bytes")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    Path(path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(BACKLOG)
        return sock, os.stat(path).st_ino
    except OSError:
        sock.close()
        raise


def _become_worker(zygote: Zygote, forked: Forked) -> NoReturn:
    """In a forked child, on the zygote's emptied stack: nothing may return from here."""
    try:
        os.setsid()
        zygote.forget()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        gc.enable()
        from stoker.worker.process import run_worker

        run_worker(*forked)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(EXIT_WORKER_BROKEN)


def main(arguments: list[str] | None = None) -> int:
    """Run a zygote until it is killed."""
    parser = argparse.ArgumentParser(prog="python -m stoker.worker.zygote", description=__doc__)
    parser.add_argument("--kind", type=ZygoteKind, choices=list(ZygoteKind), required=True)
    parser.add_argument("--home", help="the home; default STOKER_HOME, else ~/.stoker")
    chosen = parser.parse_args(arguments)
    os.environ.update(ENVIRONMENT)
    os.environ.pop(ROOM, None)  # its block stays, which is all that it is for
    # With it mlrun would connect to the API while it is imported, long before there is one.
    os.environ.pop("MLRUN_DBPATH", None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()
    try:
        imported = preimport(chosen.kind)
    except PreimportError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_NOT_INSTALLED
    gc.collect()
    # What is imported moves out of the collector's sight, which would else write to every page of
    # it in every child and so end the sharing.
    gc.freeze()
    zygote = Zygote(chosen.kind, Home.at(chosen.home).zygote_socket(chosen.kind), imported)
    _become_worker(zygote, zygote.run())


if __name__ == "__main__":
    sys.exit(main())
