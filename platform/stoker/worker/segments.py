"""The files that recorded traffic lies in: never more bytes than declared, nor older than declared.

All workers of a function write to one folder, each to segments of its own; a lock lets one at a
time count the folder and make room in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stoker.nouns.recording import ABOUT, KEY, LOCK, SEGMENT_SUFFIX, RecordingSpec

_SEGMENTS = 8
"""Files that the declared bytes are spread over: the oldest, an eighth, makes room."""
_LARGEST_SEGMENT = 16 * 1024 * 1024


class Segments:
    """Appends lines to a function's folder. Single user: the recorder's thread.

    Raises:
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, spec: RecordingSpec, writer: str) -> None:
        self._folder = folder
        self._writer = writer
        self._limit = spec.max_bytes
        self._keep_s = spec.keep_s
        self._segment = min(spec.max_bytes // _SEGMENTS, _LARGEST_SEGMENT)
        self._file: int | None = None
        self._opened = 0.0
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            self.key = _key(folder / KEY)
            _replace(folder / ABOUT, json.dumps(spec.document()).encode())
            self._expire(time.time())

    def append(self, lines: list[bytes]) -> int:
        """Writes lines; how many of them were longer than the whole set may be, and were not.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        refused = 0
        with self._locked():
            self._expire(time.time())
            for line in lines:
                if len(line) > self._limit:
                    refused += 1
                else:
                    self._append(line)
        return refused

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def tidy(self) -> None:
        """Deletes what is too old, when nothing is being written.

        Raises:
            OSError: as `append`.
        """
        with self._locked():
            self._expire(time.time())

    # -- inside, under the lock

    def _append(self, line: bytes) -> None:
        file = self._current(len(line))
        self._make_room(len(line))
        written = os.write(file, line)
        if written < len(line):
            # A torn line would spoil the next one too.
            os.ftruncate(file, os.fstat(file).st_size - written)
            raise OSError("the disk is full")

    def _current(self, more: int) -> int:
        """The open segment; a new one when it is full, old, or was deleted to make room."""
        if self._file is not None:
            seen = os.fstat(self._file)
            aged = time.time() - self._opened > self._keep_s / _SEGMENTS
            full = seen.st_size and seen.st_size + more > self._segment
            if seen.st_nlink and not full and not aged:
                return self._file
            self.close()
        self._count += 1
        self._opened = time.time()
        name = f"{self._opened:017.6f}-{self._writer}-{self._count}{SEGMENT_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._folder / name, flags, 0o600)
        return self._file

    def _make_room(self, more: int) -> None:
        found = _segments(self._folder)
        total = sum(size for _, size, _ in found)
        mine = os.fstat(self._file).st_ino if self._file is not None else 0
        for path, size, inode in found:
            if total + more <= self._limit:
                return
            if inode != mine:
                path.unlink(missing_ok=True)
                total -= size
        if total + more > self._limit and self._file is not None:
            # Nothing is left but this one's own.
            os.ftruncate(self._file, 0)

    def _expire(self, now: float) -> None:
        for path, _, _ in _segments(self._folder):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < now - self._keep_s:
                    path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self._folder / LOCK, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _segments(folder: Path) -> list[tuple[Path, int, int]]:
    """Path, bytes and inode of each, the oldest first: their names begin with their time."""
    found = []
    for entry in os.scandir(folder):
        if entry.name.endswith(SEGMENT_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                seen = entry.stat()
                found.append((Path(entry.path), seen.st_size, seen.st_ino))
    return sorted(found)


def _key(path: Path) -> bytes:
    """The key of the hashes, made once for a set: deleted with it, they tell nothing any more."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = os.urandom(32)
        _replace(path, key)
        return key


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as f:
        f.write(data)
    new.rename(path)
