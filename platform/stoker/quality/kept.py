"""What quality runs leave: ``<home>/quality/<function>/<key>/run.json``, and who runs now."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from stoker.nouns.errors import Conflict
from stoker.quality.result import QualityRun

RUN = "run.json"
_LOCK = "lock"
_KEPT = 20
"""Runs of a function that are kept; the oldest go."""


class Kept:
    """The results of one function's runs. Of a published one only the rollout is written later."""

    def __init__(self, root: Path, function: str) -> None:
        self._folder = root / function

    def find(self, key: str) -> QualityRun | None:
        """The run of that key; None when there is none that can be read."""
        try:
            return QualityRun.model_validate_json((self.folder(key) / RUN).read_bytes())
        except (OSError, ValidationError):
            return None

    def folder(self, key: str) -> Path:
        """Where the run of that key lies."""
        return self._folder / key

    def publish(self, run: QualityRun) -> Path:
        """Writes a run so that a reader sees all of it or nothing.

        Returns:
            The folder, in which a report may be laid.
        """
        folder = self.folder(run.key)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{RUN}.{os.getpid()}"
        with draft.open("w") as file:
            file.write(run.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / RUN)
        self._forget()
        return folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps others from running this function's gate meanwhile.

        Raises:
            Conflict: another does; the message says who, and since when.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / _LOCK).open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise Conflict(
                    f"a quality run of {self._folder.name} is under way: {_holder(lock.read())}; "
                    "wait for it"
                ) from None
            lock.seek(0)
            lock.truncate()
            lock.write(json.dumps({"pid": os.getpid(), "since": time.time()}))
            lock.flush()
            # Let go of by the kernel when this process ends, however it ends.
            yield

    def _forget(self) -> None:
        runs = sorted(self._folder.glob(f"*/{RUN}"), key=lambda path: path.stat().st_mtime)
        for path in runs[:-_KEPT]:
            shutil.rmtree(path.parent, ignore_errors=True)


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        since = time.strftime("%H:%M:%S", time.localtime(facts["since"]))
        return f"process {facts['pid']}, since {since}"
    except (ValueError, KeyError, TypeError):
        return "by another process"
