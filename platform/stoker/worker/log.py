"""A worker's log: JSON lines appended to one file, raw prints of user code included."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import orjson

REQUEST_ID: ContextVar[str] = ContextVar("stoker_request_id", default="")
"""The request being handled; log lines written meanwhile carry it."""

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
    """Appends JSON lines to a file descriptor.

    Each line is one ``write``, so that lines of several threads or processes never mix.
    """

    def __init__(self, descriptor: int, *, function: str, replica: str, worker: int) -> None:
        self.descriptor = descriptor
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
        try:
            os.write(self.descriptor, _encode(line))
        except OSError:
            return


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
