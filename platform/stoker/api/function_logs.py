"""A function's log: one file a worker, JSON lines, merged by time and followed as they grow."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from stoker.nouns.errors import BadRequest
from stoker.nouns.home import Home
from stoker.nouns.quantity import parse_duration
from stoker.nouns.secrecy import mask_text

FOLLOW_S = 0.2
"""How often a followed file is looked at: files do not announce themselves."""
_TAIL_BYTES = 4 * 1024 * 1024
"""Of each file, at most this much of its end is read at first: logs can be far larger."""
_LONGEST_LINE = 1024 * 1024


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
    home: Home, function: str, query: LogQuery, secrets: Collection[str], *, replica: str = ""
) -> AsyncIterator[bytes]:
    """The lines asked for, each ending in a newline, secrets masked.

    Args:
        home: where the files lie.
        function: whose log.
        query: which lines, and whether to go on.
        secrets: values to mask.
        replica: only this replica's; all of them when empty, also those that start later.
    """
    tails: dict[Path, _Tail] = {}
    first = await asyncio.to_thread(_read, home, function, replica, tails)
    for line in _selected(first, query, time.time()):
        yield _clean(line, secrets)
    while query.follow:
        await asyncio.sleep(FOLLOW_S)
        for line in await asyncio.to_thread(_read, home, function, replica, tails):
            yield _clean(line, secrets)


class _Tail:
    """One file and how far it was read. Single reader: one stream."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = max(0, path.stat().st_size - _TAIL_BYTES)
        self._skip_first = self._position > 0
        self._rest = b""

    def read(self) -> list[bytes]:
        """The lines completed since the last read; starts over when the file was cut."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._position:
                    self._position, self._rest = 0, b""
                file.seek(self._position)
                data = file.read(_TAIL_BYTES)
        except FileNotFoundError:
            return []
        self._position += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        if self._skip_first and lines:
            lines, self._skip_first = lines[1:], False
        return [line for line in lines if line.strip()]


def _read(home: Home, function: str, replica: str, tails: dict[Path, _Tail]) -> list[bytes]:
    files = replica_files(home, function)
    paths = files.get(replica, []) if replica else [p for group in files.values() for p in group]
    for path in paths:
        if path not in tails:
            tails[path] = _Tail(path)
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
    return float(stamp) if isinstance(stamp, (int, float)) else 0.0


def _selected(lines: list[bytes], query: LogQuery, now: float) -> list[bytes]:
    if query.since_s is not None:
        oldest = now - query.since_s
        lines = [line for stamp, line in _timed(lines) if stamp >= oldest]
    if query.tail is not None:
        lines = lines[-query.tail :] if query.tail else []
    return lines


def _clean(line: bytes, secrets: Collection[str]) -> bytes:
    return mask_text(line.decode(errors="replace"), secrets).encode() + b"\n"
