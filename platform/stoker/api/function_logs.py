"""A function's log: one file a worker, JSON lines, merged by time and followed as they grow."""

from __future__ import annotations

import asyncio
import heapq
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from stoker.nouns.errors import BadRequest
from stoker.nouns.home import Home
from stoker.nouns.quantity import parse_duration
from stoker.nouns.secrecy import mask_text

Secrets = Callable[[], Awaitable[Collection[str]]]
"""What to mask as of now; asked again for lines that come later, which a later revision wrote."""

FOLLOW_S = 0.2
"""How often a followed file is looked at: files do not announce themselves."""
_TAIL_BYTES = 4 * 1024 * 1024
"""Of each file, at most this much of its end is read at first: logs can be far larger."""
_LONGEST_LINE = 1024 * 1024
_AHEAD_S = 3600.0
"""A clock may have been set back; no line of ours is from further ahead than this."""
_OLDER = ".1"
"""What the name of the part that a worker moved aside ends in."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines: those since ``since_s`` seconds ago, of these the last ``tail``; then follow."""

    follow: bool = False
    since_s: float | None = None
    tail: int | None = None

    @classmethod
    def of(cls, params: Mapping[str, str], *, follow: bool) -> LogQuery:
        """Reads ``follow``, ``since`` (a duration) and ``tailLines``.

        Raises:
            BadRequest: one cannot be read.
        """
        try:
            since = parse_duration(params["since"]) if params.get("since") else None
            tail = int(params["tailLines"]) if params.get("tailLines") else None
        except ValueError as exc:
            raise BadRequest(f"since or tailLines: {exc}") from exc
        asked = params.get("follow", "").lower()
        return cls(
            follow=asked in ("true", "1", "") if follow else asked in ("true", "1"),
            since_s=since,
            tail=tail if tail is not None and tail >= 0 else None,
        )


def replica_files(home: Home, function: str) -> dict[str, list[Path]]:
    """The log files of a function by replica."""
    found: dict[str, list[Path]] = {}
    for path in sorted(home.function_logs(function).glob("*.log")):
        found.setdefault(path.stem.rpartition(".")[0] or path.stem, []).append(path)
    return found


async def stream(
    home: Home, function: str, query: LogQuery, secrets: Secrets, *, replica: str = ""
) -> AsyncIterator[bytes]:
    """The lines asked for, each ending in a newline, secrets masked.

    Args:
        home: where the files lie.
        function: whose log.
        query: which lines, and whether to go on.
        secrets: asked for the values to mask, after each look that found lines.
        replica: only this replica's; all of them when empty, also those that start later.
    """
    tails: dict[Path, _Tail] = {}
    first = await asyncio.to_thread(_read, home, function, replica, tails)
    lines = _selected(first, query, time.time())
    while lines or query.follow:
        # After the lines were read: who wrote them was told its secrets before that.
        values = await secrets() if lines else ()
        for line in lines:
            yield _clean(line, values)
        if not query.follow:
            return
        await asyncio.sleep(FOLLOW_S)
        lines = await asyncio.to_thread(_read, home, function, replica, tails)


class _Tail:
    """One worker's log and how far it was read. Single reader: one stream.

    A worker moves its log aside when it has become large, and begins a new file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older = path.with_name(path.name + _OLDER)
        part = path if _size(path) >= _TAIL_BYTES or not self._older.exists() else self._older
        self._inode = part.stat().st_ino
        self._position = max(0, part.stat().st_size - _TAIL_BYTES)
        self._skip_first = self._position > 0
        self._rest = b""

    def read(self) -> list[bytes]:
        """The lines completed since the last read; starts over when the file was cut."""
        try:
            with self._path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                data = b""
                if inode != self._inode:
                    data = self._end_of_older()
                    self._inode, self._position = inode, 0
                elif file.seek(0, 2) < self._position:
                    self._position, self._rest = 0, b""
                file.seek(self._position)
                new = file.read(_TAIL_BYTES)
        except FileNotFoundError:
            return []
        self._position += len(new)
        return self._lines(data + new)

    def _end_of_older(self) -> bytes:
        try:
            with self._older.open("rb") as file:
                if os.fstat(file.fileno()).st_ino != self._inode:
                    return b""  # moved aside twice since: those lines are gone
                file.seek(self._position)
                return file.read()
        except FileNotFoundError:
            return b""

    def _lines(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        if self._skip_first and lines:
            lines, self._skip_first = lines[1:], False
        return [line for line in lines if line.strip()]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(home: Home, function: str, replica: str, tails: dict[Path, _Tail]) -> list[bytes]:
    files = replica_files(home, function)
    paths = files.get(replica, []) if replica else [p for group in files.values() for p in group]
    for path in paths:
        if path not in tails:
            try:
                tails[path] = _Tail(path)
            except FileNotFoundError:
                continue  # moved aside, pruned or deleted since it was listed
    timed = [_timed(tail.read()) for tail in tails.values()]
    return [line for _, line in heapq.merge(*timed, key=lambda pair: pair[0])]


def _timed(lines: list[bytes]) -> list[tuple[float, bytes]]:
    """Each line with its time; a raw line takes the time of the one before it."""
    pairs: list[tuple[float, bytes]] = []
    last = 0.0
    for line in lines:
        last = max(last, _time(line))
        pairs.append((last, line))
    return pairs


def _time(line: bytes) -> float:
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return 0.0
    stamp = document.get("time") if isinstance(document, dict) else None
    if not isinstance(stamp, (int, float)) or stamp > time.time() + _AHEAD_S:
        return 0.0  # A child process of the function wrote it: other loggers count milliseconds.
    return float(stamp)


def _selected(lines: list[bytes], query: LogQuery, now: float) -> list[bytes]:
    if query.since_s is not None:
        oldest = now - query.since_s
        lines = [line for stamp, line in _timed(lines) if stamp >= oldest]
    if query.tail is not None:
        lines = lines[-query.tail :] if query.tail else []
    return lines


def _clean(line: bytes, secrets: Collection[str]) -> bytes:
    return mask_text(line.decode(errors="replace"), secrets).encode() + b"\n"
