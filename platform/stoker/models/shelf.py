"""Prepared checkpoints on disk, by content: ``<home>/models/<key>/``.

Published by rename and never written again: workers map these files, and a mapped file that is cut
short in place kills its readers with SIGBUS.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stoker.models.manifest import MANIFEST
from stoker.nouns.errors import InsufficientStorage
from stoker.nouns.quantity import format_bytes

Progress = Callable[[str], None]
_TEMPORARY = ".tmp"


class Shelf:
    """The folder of prepared checkpoints. Any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, key: str) -> Path | None:
        """The finished checkpoint of that key."""
        folder = self.root / key
        return folder if (folder / MANIFEST).is_file() else None

    def publish(
        self, key: str, build: Callable[[Path], None], *, needs: int, progress: Progress
    ) -> Path:
        """The checkpoint of that key, built by ``build(folder)`` unless it is there.

        Of two processes at once one builds and the other waits for it. A build that fails leaves
        nothing behind.

        Args:
            key: its name.
            build: fills the empty folder it is given.
            needs: bytes that the build takes at its peak.
            progress: told when this process has to wait.

        Raises:
            InsufficientStorage: the disk has not that many bytes, or ran full.
        """
        with _disk_full_is_ours(self.root), self._alone(key, progress):
            found = self.find(key)
            if found:
                return found
            self._check_space(needs)
            draft = self.root / f"{key}{_TEMPORARY}"
            shutil.rmtree(draft, ignore_errors=True)  # of a build that was killed
            draft.mkdir()
            try:
                build(draft)
                _flush(draft)
                shutil.rmtree(self.root / key, ignore_errors=True)  # had no manifest
                draft.rename(self.root / key)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return self.root / key

    def recall(self, declaration: str) -> dict[str, Any]:
        """What was noted of a declaration; empty when nothing readable was."""
        try:
            note = json.loads((self.root / "declared" / f"{declaration}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def note(self, declaration: str, facts: dict[str, Any]) -> None:
        """Notes facts about a declaration, so that a wake need not read the whole source.

        Raises:
            InsufficientStorage: the disk is full.
        """
        with _disk_full_is_ours(self.root):
            path = self.root / "declared" / f"{declaration}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}{_TEMPORARY}")
            draft.write_text(json.dumps(facts))
            draft.replace(path)

    def _check_space(self, needs: int) -> None:
        free = shutil.disk_usage(self.root).free
        if free < needs:
            raise _storage(self.root, needs)

    @contextmanager
    def _alone(self, key: str, progress: Progress) -> Iterator[None]:
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / key).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("another process is preparing this model; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


@contextmanager
def _disk_full_is_ours(root: Path) -> Iterator[None]:
    try:
        yield
    except InsufficientStorage:
        raise
    except Exception as exc:
        if _means_disk_full(exc):
            raise _storage(root, 0) from exc
        raise


def _means_disk_full(exc: BaseException | None) -> bool:
    """Libraries wrap the disk's error in their own, as text."""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(exc):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _storage(root: Path, needs: int) -> InsufficientStorage:
    free = shutil.disk_usage(root).free
    asked = f"{format_bytes(needs)} are needed" if needs else "more is needed"
    return InsufficientStorage(
        f"the disk of {root} is too full to prepare the model: "
        f"{asked}, {format_bytes(free)} are free",
        free_bytes=free,
        needed_bytes=needs,
    )
