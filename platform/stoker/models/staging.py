"""One host copy of a checkpoint's weights for all workers of a home that sleep with it.

A file in shared memory, filled once by the first worker that goes to sleep and mapped by the
others: n sleepers on a host cost its memory once. Not in the home: memory that is pinned for a card
must not be a disk's page cache, which the kernel has to write back.

Whoever maps it holds a shared lock (flock) on it for as long as its process lives; a file that
nobody holds is left over and is removed by the next `sweep`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - files there are 0600 and checked for their owner
PAGE = mmap.PAGESIZE
_FILLED = b"filled"
_ATTEMPTS = 5


class Staging:
    """Mapped shared memory of a fixed size.

    Attributes:
        map: its bytes, written by the one that fills it and by nobody afterwards.
        filled: whether they have been written.
    """

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self.map = mmap.mmap(file, PAGE + size)
        if not self._is_filled():
            # Alone, to fill it; unless another did while we waited for that.
            fcntl.flock(file, fcntl.LOCK_EX)
        self.filled = self._is_filled()
        if self.filled:
            fcntl.flock(file, fcntl.LOCK_SH)

    def _is_filled(self) -> bool:
        return self.map[: len(_FILLED)] == _FILLED

    def publish(self) -> None:
        """Says that it is filled: others may read it now."""
        self.map[: len(_FILLED)] = _FILLED
        self.filled = True
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def abandon(self) -> None:
        """Lets go of it. No view of its bytes may be left."""
        self.map.close()
        os.close(self._file)


def staging(home: Path, name: str, size: int) -> Staging | None:
    """The shared memory of that name in that home; None where there is not enough of it.

    While it is not filled its finder holds it alone; others wait, seconds at most, for the copy.
    ``size`` is part of what it is: bytes, after a first page that is the module's own.
    """
    path = SHARED_MEMORY / f"{_prefix(home)}{_digest(name, str(size))}"
    for _ in range(_ATTEMPTS):
        file = _open(path)
        if file is None:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            if not _is_still(file, path):
                os.close(file)  # swept between our opening and locking it
                continue
            # Reserved, not only named: a full memory would end the process with SIGBUS.
            os.posix_fallocate(file, 0, PAGE + size)
            return Staging(file, size)
        except OSError as exc:
            os.close(file)
            if exc.errno in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
                log.warning("%s has no room for %d bytes of weights", SHARED_MEMORY, size)
                path.unlink(missing_ok=True)
                return None
            raise
    return None


def sweep(home: Path) -> int:
    """Removes what no process of this home holds any more. Returns how many files went."""
    gone = 0
    for path in sorted(SHARED_MEMORY.glob(f"{_prefix(home)}*")):
        with _unused(path) as unused:
            if unused:
                path.unlink(missing_ok=True)
                gone += 1
    return gone


@contextlib.contextmanager
def _unused(path: Path) -> Iterator[bool]:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(file)


def _open(path: Path) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(path, flags, 0o600)
    except OSError as exc:
        log.warning("no shared memory for weights: %s", exc)
        return None
    if os.fstat(file).st_uid != os.getuid():
        os.close(file)
        log.warning("%s belongs to somebody else", path)
        return None
    return file


def _is_still(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _prefix(home: Path) -> str:
    return f"stoker-{os.getuid()}-{_digest(str(home.resolve()))[:12]}-"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
