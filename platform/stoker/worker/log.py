"""A worker's log: JSON lines appended to one file, raw prints of user code included."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import orjson

REQUEST_ID: ContextVar[str] = ContextVar("stoker_request_id", default="")
"""The request being handled; log lines written meanwhile carry it."""

PART_BYTES = 16 * 1024 * 1024
"""Bytes at which a log moves aside. A worker has two parts at most."""
OLDER = ".1"
"""What the name of the part that was moved aside ends in."""
CHECK_BYTES = 256 * 1024
"""Bytes written between two looks at the file's size."""
_LONGEST_LINE = 64 * 1024
_OPTIONS = (
    orjson.OPT_NON_STR_KEYS
    | orjson.OPT_SERIALIZE_NUMPY
    | orjson.OPT_UTC_Z
    | orjson.OPT_APPEND_NEWLINE
)


def level_name(level: int) -> str:
    """Nuclio's name of a `logging` level.

    >>> level_name(logging.WARNING), level_name(logging.DEBUG), level_name(logging.CRITICAL)
    ('warn', 'debug', 'error')
    """
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warn"
    return "info" if level >= logging.INFO else "debug"


class WorkerLog:
    """Appends JSON lines to a file, which moves aside when it has become large.

    Each line is one ``write``, so that lines of several threads or processes never mix.
    ``descriptor`` keeps its number for ever: others, some of them in C, write to it.
    """

    def __init__(self, path: str, *, function: str, replica: str, worker: int) -> None:
        self.descriptor = open_log(path)
        self._path = path
        self._owner = os.getpid()
        self._unchecked = 0
        self._turning = threading.Lock()
        self._who = {"function": function, "replica": replica, "worker": worker}

    def write(self, level: str, message: str, fields: dict[str, Any] | None = None) -> None:
        """Append one line; ``fields`` become its ``with``.

        A full disk loses the line, not the request that caused it.
        """
        line: dict[str, Any] = {"time": time.time(), "level": level, "message": message}
        line.update(self._who)
        request_id = REQUEST_ID.get()
        if request_id:
            line["request_id"] = request_id
        if fields:
            line["with"] = fields
        data = _encode(line)
        try:
            os.write(self.descriptor, data)
        except OSError:
            return
        self._unchecked += len(data)
        if self._unchecked >= CHECK_BYTES:
            self.keep_bounded()

    def keep_bounded(self) -> None:
        """Move the file aside if it has become large; also if writes past this object made it so.

        The part moved aside before is replaced. A process that user code forked only follows its
        worker to the new file: two that both moved it would lose a part.
        """
        self._unchecked = 0
        # Never waited for: in a fork nobody might be left to give it back.
        if not self._turning.acquire(blocking=False):
            return
        try:
            self._turn()
        except OSError:
            return  # a full disk, or a folder that was removed: the open file goes on
        finally:
            self._turning.release()

    def _turn(self) -> None:
        old = os.fstat(self.descriptor)
        if os.getpid() != self._owner:
            if os.path.samestat(old, os.stat(self._path)):
                return
        elif old.st_size < PART_BYTES:
            return
        else:
            os.replace(self._path, f"{self._path}{OLDER}")
        new = open_log(self._path)
        for descriptor in (1, 2):
            # Unless user code has sent it elsewhere.
            if os.path.samestat(os.fstat(descriptor), old):
                os.dup2(new, descriptor)
        os.dup2(new, self.descriptor, inheritable=False)
        os.close(new)


def _encode(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, default=str, option=_OPTIONS)
    except (orjson.JSONEncodeError, ValueError):
        # Surrogates, integers over 64 bits, keys that are no keys: show them rather than fail.
        line["message"] = str(line["message"]).encode("utf-8", "backslashreplace").decode()
        if "with" in line:
            line["with"] = ascii(line["with"])
        return orjson.dumps(line, default=str, option=_OPTIONS)


class LineSink(io.BufferedIOBase):
    """A binary stream that turns every line written to it into one log line.

    Bytes that are not UTF-8 appear as backslash escapes.
    """

    def __init__(self, log: WorkerLog, level: str, descriptor: int) -> None:
        self._log = log
        self._level = level
        self._descriptor = descriptor
        self._partial = b""
        self.renew_lock()

    def renew_lock(self) -> None:
        """In a forked process: whoever held the lock is not there to give it back."""
        # Reentrant: a finaliser may print while this thread is printing.
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """What tools that report about streams show."""
        return "<stdout>" if self._descriptor == 1 else "<stderr>"

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The file descriptor that programs which write to it directly would use."""
        return self._descriptor

    def write(self, data: Any) -> int:
        """Log the lines that ``data`` completes; keep the rest for the next write."""
        raw = bytes(data)
        with self._lock:
            lines = (self._partial + raw).split(b"\n")
            self._partial = lines.pop()
            if len(self._partial) > _LONGEST_LINE:
                lines.append(self._partial)
                self._partial = b""
        for line in lines:
            self._log.write(self._level, line.decode("utf-8", "backslashreplace"))
        return len(raw)

    def finish(self) -> None:
        """Log a last line that had no newline."""
        if self._partial:
            self.write(b"\n")


def redirect_output(log: WorkerLog) -> Callable[[], None]:
    """Send everything that this process prints to ``log``; returns what flushes it at the end.

    File descriptors 1 and 2 go to the log file as they are (prints from C), ``sys.stdout`` and
    ``sys.stderr`` line by line in the log's own shape.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        # Objects made before a fork keep these: without line buffering their output comes late.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    os.dup2(log.descriptor, 1)
    os.dup2(log.descriptor, 2)
    out, err = LineSink(log, "info", 1), LineSink(log, "error", 2)
    for sink in (out, err):
        os.register_at_fork(after_in_child=sink.renew_lock)
    sys.stdout = _text(out)
    sys.stderr = _text(err)

    def finish() -> None:
        for text, sink in ((sys.stdout, out), (sys.stderr, err)):
            text.flush()
            sink.finish()

    return finish


def _text(sink: LineSink) -> io.TextIOWrapper:
    return io.TextIOWrapper(sink, encoding="utf-8", errors="backslashreplace", write_through=True)


class LogHandler(logging.Handler):
    """Brings what user code logs by `logging` into the worker's log."""

    def __init__(self, log: WorkerLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{logging.Formatter().formatException(record.exc_info)}"
        self._log.write(level_name(record.levelno), message, {"logger": record.name})


def open_log(path: str) -> int:
    """Open a log file for appending, its folder included; only this user may read it."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
