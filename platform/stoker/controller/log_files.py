"""Function logs: at most two parts a worker, which bounds them itself; the oldest go."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path

from stoker.nouns.record import ReplicaRecord

log = logging.getLogger(__name__)

KEPT_FILES = 20
KEPT_BYTES = 50 * 1024 * 1024


def prune_logs(folder: Path, in_use: frozenset[str]) -> list[Path]:
    """Removes the oldest files past `KEPT_FILES` or `KEPT_BYTES`; never one of a live worker.

    Args:
        folder: one function's logs.
        in_use: names of files that live workers write.
    """
    dated = []
    for path in _files(folder):
        try:
            facts = path.stat()
        except OSError:
            # Its worker has just moved it aside, the function went, or it is not ours to see.
            continue
        dated.append((facts.st_mtime, facts.st_size, path))
    removed: list[Path] = []
    count = size = 0
    for _, bytes_, path in sorted(dated, reverse=True, key=lambda entry: entry[0]):
        count, size = count + 1, size + bytes_
        if path.name not in in_use and (count > KEPT_FILES or size > KEPT_BYTES):
            try:
                path.unlink(missing_ok=True)
            except OSError as exc:
                log.warning("the log %s cannot be removed: %s", path, exc)
                continue
            removed.append(path)
    return removed


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.is_dir()]
    except FileNotFoundError:
        return []


def append_line(path: Path, replica: ReplicaRecord, index: int, level: str, message: str) -> None:
    """Appends one line of the platform to a worker's log, in the shape of its own."""
    line = {
        "time": time.time(),
        "level": level,
        "message": message,
        "function": replica.function,
        "replica": replica.id,
        "worker": index,
    }
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as exc:
        log.warning("the log %s cannot be written: %s", path, exc)


def remove_logs(folder: Path) -> None:
    """Removes all logs of a deleted function."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_traffic(folder: Path) -> None:
    """Removes what was recorded of a deleted function: nobody would look for it there any more."""
    shutil.rmtree(folder, ignore_errors=True)
