"""Recorded traffic: a share of what this worker is asked, with its answers, written by a thread.

Every request reaches a worker, whoever sent it: a client through a gateway, a graph's step, a
queue. So here, and nowhere else, is all of a function's traffic.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.decide.redact import Redactor, Unredactable
from stoker.nouns.exchange import CONTENT_TYPE, Exchange, Message
from stoker.nouns.home import Home
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.recording import RecordingSpec
from stoker.worker.answer import Answer
from stoker.worker.log import WorkerLog
from stoker.worker.segments import Segments

if TYPE_CHECKING:
    from stoker.worker.ticket import Ticket

QUEUED = 1024
"""Exchanges that may wait to be written; one more is dropped, and counted."""
QUEUED_BYTES = 32 * 1024 * 1024
"""Bytes of bodies that may wait: what the recording may cost a worker's memory."""
TOGETHER = 256
"""Exchanges that share one look at the folder."""
GATHER_S = 0.05
"""Seconds in which they gather. A thread that woke for each would cost the handler more: the two
share the interpreter."""
TELL_S = 60.0
"""Seconds between two lines of the log about what was not recorded, and two looks for old files."""
_ENCODING = "content-encoding"
_PACKED = ("gzip", "deflate")
_ANY_ENCODING = 32 + zlib.MAX_WBITS


class Tape:
    """A streamed answer as far as it has come; ``None`` parts: it has become too long."""

    __slots__ = ("headers", "limit", "parts", "size", "status")

    def __init__(self, status: int, headers: dict[str, str], limit: int) -> None:
        self.status = status
        self.headers = headers
        self.limit = limit
        self.parts: list[bytes] | None = []
        self.size = 0

    def add(self, data: bytes) -> None:
        """One more chunk."""
        self.size += len(data)
        if self.size > self.limit:
            self.parts = None
        if self.parts is not None:
            self.parts.append(data)


class _Taken:
    """What the loop hands to the thread: references only, nothing is copied or looked at there."""

    __slots__ = ("answer", "at", "body", "caller", "meta", "role", "seconds")

    def __init__(self, ticket: Ticket, answer: Answer, seconds: float) -> None:
        self.meta = ticket.meta
        self.body = ticket.body
        self.role = ticket.connection.role
        self.caller = ticket.connection.caller
        self.answer = answer
        self.seconds = seconds
        self.at = time.time()

    @property
    def size(self) -> int:
        return len(self.body) + len(self.answer.body)


class Recorder:
    """Takes exchanges from the worker's loop and writes them in a thread of its own.

    Single writer of ``_put`` and of ``dropped``: the loop; of everything else here: the thread.

    Attributes:
        dropped: exchanges that came faster than they could be written.
        skipped: why others were not written, and how many.
    """

    def __init__(
        self, spec: RecordingSpec, launch: WorkerLaunch, log: WorkerLog, secrets: tuple[str, ...]
    ) -> None:
        self.dropped = 0
        self.skipped: dict[str, int] = {}
        self._spec = spec
        self._launch = launch
        self._log = log
        self._secrets = secrets
        self._random = random.Random(os.urandom(16))  # noqa: S311 - a sample, not a secret
        self._queue: queue.SimpleQueue[_Taken | None] = queue.SimpleQueue()
        self._put = 0
        self._written = 0
        self._told = (0, 0)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    @classmethod
    def of(cls, launch: WorkerLaunch, log: WorkerLog, secrets: tuple[str, ...]) -> Recorder | None:
        """The recorder that a worker's environment asks for; None: it asks for none."""
        try:
            spec = RecordingSpec.of(launch.env)
        except ValueError as exc:
            # Checked at the deploy; a function is not to fail for what only watches it.
            log.write("error", f"nothing is recorded: {exc}")
            return None
        return cls(spec, launch, log, secrets) if spec is not None else None

    def start(self) -> None:
        """Begins to write."""
        share = f"{self._spec.share:.0%}" if self._spec.share >= 0.01 else str(self._spec.share)
        self._log.write("info", f"recording {share} of the requests (STOKER_RECORD)")
        self._thread.start()

    # -- from the loop

    def wants(self, ticket: Ticket) -> bool:
        """Whether this one is of the sample."""
        return self._random.random() < self._spec.share and not ticket.copied

    def answered(self, ticket: Ticket, answer: Answer, ended: float) -> None:
        """A request has its whole answer. What the worker itself failed says nothing of a model."""
        if ticket.started and not answer.code and self.wants(ticket):
            self._take(_Taken(ticket, answer, ended - ticket.started))

    def tape(self, ticket: Ticket, status: int, headers: dict[str, str]) -> Tape | None:
        """For a streamed answer that begins; None: it is not of the sample."""
        wanted = self.wants(ticket)
        return Tape(status, headers, self._spec.max_body_bytes) if wanted else None

    def streamed(self, ticket: Ticket, tape: Tape) -> None:
        """A streamed answer is complete; in its file it is whole."""
        body = b"".join(tape.parts) if tape.parts is not None else b"\0" * (tape.limit + 1)
        answer = Answer(tape.status, tape.headers, body)
        self._take(_Taken(ticket, answer, time.monotonic() - ticket.started))

    def _take(self, taken: _Taken) -> None:
        held = self._put + taken.size
        if held - self._written > QUEUED_BYTES or self._queue.qsize() >= QUEUED:
            self.dropped += 1
            return
        self._put = held
        self._queue.put(taken)

    def close(self, timeout_s: float) -> None:
        """Writes what waits, for at most ``timeout_s`` seconds; the process is about to end."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    # -- the thread

    def _run(self) -> None:
        try:
            segments = Segments(
                self._folder, self._spec, f"{self._launch.replica}.{self._launch.index}"
            )
        except OSError as exc:
            self._log.write("error", f"nothing is recorded: {exc}")
            return
        redactor = Redactor(self._spec, segments.key, self._secrets)
        told = time.monotonic()
        going = True
        while going:
            batch, going = self._next()
            self._write(segments, redactor, batch)
            if time.monotonic() - told > TELL_S or not going:
                told = time.monotonic()
                self._tell()
        segments.close()

    @property
    def _folder(self) -> Path:
        return Home.at(self._launch.env.get("STOKER_HOME")).function_traffic(self._launch.function)

    def _next(self) -> tuple[list[_Taken], bool]:
        """What waits, up to `TOGETHER`; whether more may come."""
        batch: list[_Taken] = []
        with contextlib.suppress(queue.Empty):
            taken = self._queue.get(timeout=TELL_S)
            if taken is not None:
                time.sleep(GATHER_S)
            while taken is not None:
                batch.append(taken)
                if len(batch) == TOGETHER:
                    return batch, True
                taken = self._queue.get_nowait()
            return batch, False
        return batch, True

    def _write(self, segments: Segments, redactor: Redactor, batch: list[_Taken]) -> None:
        try:
            lines = [line for taken in batch if (line := self._line(taken, redactor))]
            if lines:
                self._skip("larger than the whole set may be", segments.append(lines))
            else:
                segments.tidy()
        except OSError as exc:
            # A full disk loses recordings, never a request.
            self._skip(f"the files cannot be written ({exc.strerror or exc})", len(batch))
        finally:
            self._written += sum(taken.size for taken in batch)

    def _line(self, taken: _Taken, redactor: Redactor) -> bytes:
        """The line to write; empty for what must not, or cannot, be written."""
        # The interpreter is the handler's first: it would else wait 5 ms for its turn.
        time.sleep(0)
        try:
            return redactor.exchange(self._exchange(taken)).line()
        except Unredactable as exc:
            self._skip(str(exc), 1)
        except _Unfit as exc:
            self._skip(str(exc), 1)
        except Exception as exc:
            # Whatever it was: what could not be redacted is not written.
            self._skip(f"{type(exc).__name__} while it was redacted", 1)
        return b""

    def _exchange(self, taken: _Taken) -> Exchange:
        meta, limit = taken.meta, self._spec.max_body_bytes
        if _ENCODING in meta["headers"]:
            raise _Unfit("the request has a content encoding")
        body = _unpacked(taken.answer, limit)
        if len(taken.body) > limit or len(body) > limit:
            raise _Unfit(f"a body is larger than {limit} bytes")
        via, step = _sender(taken)
        wanted = (CONTENT_TYPE, *self._spec.headers)
        return Exchange(
            time=taken.at,
            function=self._launch.function,
            revision=self._launch.revision,
            via=via,
            step=step,
            method=meta["method"] or "POST",
            path=meta["path"] or "/",
            request=Message(_only(meta["headers"], wanted), taken.body),
            status=taken.answer.status,
            answer=Message(_only(taken.answer.headers, wanted), body),
            seconds=taken.seconds,
        )

    def _skip(self, reason: str, count: int) -> None:
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def _tell(self) -> None:
        now = (self.dropped, sum(self.skipped.values()))
        if now != self._told:
            self._told = now
            fields = {"too_fast": self.dropped, **self.skipped}
            self._log.write("warn", "requests of the sample were not recorded", fields)


class _Unfit(Exception):
    """It is not recorded, and why."""


def _only(headers: dict[str, str], wanted: tuple[str, ...]) -> dict[str, str]:
    return {name: headers[name] for name in wanted if name in headers}


def _unpacked(answer: Answer, limit: int) -> bytes:
    """The body without its content encoding: packed, no rule could be carried out on it."""
    encoding = answer.headers.get(_ENCODING, "").lower()
    if encoding in ("", "identity"):
        return answer.body
    if encoding not in _PACKED:
        raise _Unfit(f"the answer's content encoding is {encoding}")
    try:
        # Bounded: a small packed body may hold gigabytes.
        return zlib.decompressobj(_ANY_ENCODING).decompress(answer.body, limit + 1)
    except zlib.error:
        raise _Unfit(f"the answer is not the {encoding} that it says") from None


def _sender(taken: _Taken) -> tuple[str, str]:
    """Who asked, and by which step or trigger."""
    meta = taken.meta
    trigger = meta.get("trigger", "")
    if "record" in meta:
        return "stream", trigger
    if trigger:
        return "cron", trigger
    step = meta.get("step", "")
    return taken.role, f"{taken.caller}/{step}" if step else taken.caller
