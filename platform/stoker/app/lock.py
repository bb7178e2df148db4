"""The lock of a home: held by its one supervisor, given up by the system when that dies."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from stoker.app.files import disk_errors
from stoker.nouns.errors import Conflict


class HomeLock:
    """``with HomeLock(path):`` holds the home."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Takes the lock.

        Raises:
            Conflict: another supervisor holds it; the message names its pid.
        """
        with disk_errors(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(descriptor)
        except BlockingIOError as error:
            os.close(descriptor)
            raise Conflict(
                f"a platform is running on this home already (pid {holder(self._path) or '?'}): "
                f"{self._path.parent}; stop it with `stoker down`, or choose another --home"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def _write(self, descriptor: int) -> None:
        with disk_errors(self._path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid()}).encode(), 0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def holder(path: Path) -> int | None:
    """The pid of the supervisor that holds the lock, or None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        written = os.pread(descriptor, 200, 0)
        return int(json.loads(written)["pid"]) if written else 0
    finally:
        os.close(descriptor)
    return None
