"""The peers of a worker whose model is split: rank 0's end of them.

They share nothing with it but a socket each and the process group that torch makes of them all.
What happens to one happens to all: a model of which a part is missing answers nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from stoker.models.parallel.message import Message
from stoker.nouns.errors import UnusableModel

EXIT_LOST = 71
"""The exit code of a worker that has lost a peer, or is out of step with one."""
COLLECTIVE_S = 60.0
"""How long one rank waits for another within a layer. They compute the same at the same time, so
only one that hangs takes so long; less would end workers on a machine that is merely busy."""
SETTLE_S = 5.0
"""How long after a call that failed here every peer may take to have failed as well."""
LOADING_S = 3600.0
"""How long peers may take to load: the worker's readiness timeout is the limit that counts."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One other process of this worker: its rank, from 1, and this end of its socket."""

    rank: int
    pid: int
    sock: socket.socket


class Crew:
    """All ranks of this worker but the first, which is this process.

    Single writer: the thread that calls the model. A thread of its own waits for a peer's end.
    """

    def __init__(self, peers: Sequence[Peer], lost: Callable[[str], object] | None = None) -> None:
        self.peers = tuple(peers)
        self._lost = lost or end_process
        self._over = threading.Event()
        self._held = [(os.pidfd_open(peer.pid), peer) for peer in self.peers]
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def size(self) -> int:
        """Ranks, this one counted."""
        return len(self.peers) + 1

    def tell(self, message: Message) -> None:
        """Sends it to every peer; one that does not read for `COLLECTIVE_S` is lost."""
        for peer in self.peers:
            try:
                peer.sock.settimeout(COLLECTIVE_S)
                message.send(peer.sock)
            except ConnectionError:
                self.abandon(f"{self._named(peer)} is gone")
            except OSError as exc:
                self.abandon(f"{self._named(peer)} does not listen: {exc}")

    def hear(self, within_s: float) -> list[dict[str, Any]] | None:
        """Every peer's next answer, in the order of ranks; None when one has none in time."""
        found, until = [], time.monotonic() + within_s
        for peer in self.peers:
            peer.sock.settimeout(max(0.001, until - time.monotonic()))
            try:
                answer = Message.receive(peer.sock)
            except TimeoutError:
                return None
            if answer is None:
                self.abandon(f"{self._named(peer)} is gone")
            found.append(answer.document)
        return found

    def ask(self, document: dict[str, Any], within_s: float) -> list[dict[str, Any]]:
        """Sends one document to all and hears all.

        Raises:
            UnusableModel: a peer could not do it, in its words.
        """
        self.tell(Message(document))
        return self.heard(within_s)

    def heard(self, within_s: float) -> list[dict[str, Any]]:
        """`hear`, with an answer from each, none of which is a refusal.

        Raises:
            UnusableModel: a peer could not do what it was told, in its words.
        """
        answers = self.hear(within_s)
        if answers is None:
            self.abandon(f"a peer did not answer within {within_s:g} s")
        for rank, answer in enumerate(answers, start=1):
            if "error" in answer:
                raise UnusableModel(f"rank {rank} of {self.size}: {answer['error']}")
        return answers

    def abandon(self, why: str) -> NoReturn:
        """Gives all ranks up; does not return."""
        self._over.set()
        self._end_peers()
        self._lost(why)
        raise SystemExit(EXIT_LOST)

    def close(self) -> None:
        """Lets the peers go: each ends when its socket does."""
        self._over.set()
        for peer in self.peers:
            peer.sock.close()

    def _named(self, peer: Peer) -> str:
        return f"rank {peer.rank} of {self.size} (pid {peer.pid})"

    def _watch(self) -> None:
        poll = select.poll()
        for descriptor, _ in self._held:
            poll.register(descriptor, select.POLLIN)
        ended, _ = poll.poll()[0]
        peer = next(peer for descriptor, peer in self._held if descriptor == ended)
        if not self._over.is_set():
            how = _end_of(peer.pid)
            self._end_peers()
            self._lost(f"{self._named(peer)} {how}")

    def _end_peers(self) -> None:
        """One that hangs, or is stopped, would not see that this process has ended."""
        for descriptor, _ in self._held:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def _end_of(pid: int) -> str:
    """How a process ended: this one's child, unless somebody reaped it."""
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return "is gone"
    return f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"


def end_process(why: str) -> None:
    """Ends this worker, its peers with it; whoever started it starts another.

    At once and from any thread: the one that calls the model may wait for the lost rank for ever.
    """
    sys.stderr.write(f"this worker ends, since its model is split and a part is lost: {why}\n")
    sys.stderr.flush()
    os._exit(EXIT_LOST)


_mustered: Crew | None = None
"""Peers that were forked before this worker had a thread. Written once, by `muster`."""


def muster(crew: Crew) -> None:
    """Keeps the peers that this worker was started with, for the model that it will load."""
    global _mustered
    _mustered = crew


def mustered() -> Crew | None:
    """The crew of this process, once it has one."""
    return _mustered
