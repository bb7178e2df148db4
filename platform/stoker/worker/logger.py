"""``context.logger``: Nuclio's logger, writing the log and, if asked, the reply's header."""

from __future__ import annotations

import json
import logging
import time
from contextvars import ContextVar
from typing import Any

import nuclio_sdk

from stoker.worker.log import WorkerLog, level_name

HEADER_LIMIT = 6 * 1024
"""Bytes of `X-Nuclio-Logs`: clients refuse replies whose headers are over 8 KiB or so."""

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Capture:
    """The log lines of one request, for its reply."""

    __slots__ = ("_least", "_lines")

    def __init__(self, level: str) -> None:
        self._least = _LEVELS.get(level.strip().lower(), logging.INFO)
        self._lines: list[dict[str, Any]] = []

    def add(self, level: int, message: str, fields: dict[str, Any]) -> None:
        """Keep a line if its level is asked for."""
        if level < self._least:
            return
        line = {"time": time.time() * 1000, "level": level_name(level), "message": message}
        self._lines.append(line | fields)

    def header(self) -> str:
        """The lines as one line of ASCII JSON, the newest that fit in `HEADER_LIMIT`."""
        lines = list(self._lines)
        while True:
            text = _dumped(lines)
            if len(text) <= HEADER_LIMIT or not lines:
                return text
            del lines[: max(1, len(lines) // 4)]


def _dumped(lines: list[dict[str, Any]]) -> str:
    try:
        return json.dumps(lines, default=str, ensure_ascii=True, skipkeys=True)
    except Exception:
        # Logged values are user objects: one that cannot be shown must not cost the answer.
        return json.dumps([{"level": line["level"], "message": line["message"]} for line in lines])


CAPTURE: ContextVar[Capture | None] = ContextVar("stoker_log_capture", default=None)
"""Set while a request runs that asked for its logs (`X-Nuclio-Log-Level`)."""


class WorkerLogger(nuclio_sdk.Logger):  # type: ignore[misc]  # nuclio_sdk is untyped
    """Nuclio's logger (``info``, ``info_with``, ``bind``, …) on top of the worker's log."""

    def __init__(self, log: WorkerLog) -> None:
        super().__init__(logging.DEBUG, name="stoker.function")
        self._log = log
        self._bound: dict[str, Any] = {}

    def bind(self, **fields: Any) -> None:
        """Add ``fields`` to every later line."""
        self._bound.update(fields)

    def _update_bound_vars_and_log(
        self, level: int, message: Any, *args: Any, **fields: Any
    ) -> None:
        text = str(message)
        if args:
            text = _interpolate(text, args)
        fields = {**fields, **self._bound}
        self._log.write(level_name(level), text, fields)
        capture = CAPTURE.get()
        if capture is not None:
            capture.add(level, text, fields)


def _interpolate(text: str, args: tuple[Any, ...]) -> str:
    try:
        return text % args
    except (TypeError, ValueError):
        # A wrong placeholder in a log call must not fail the request.
        return f"{text} {args!r}"
