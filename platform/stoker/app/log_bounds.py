"""The logs of the platform's processes, cut while these run: they may run for years."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

LIMIT_BYTES = 10 * 1024 * 1024
OLDER = ".log.1"
"""What the name of the part before ends in; there is one of each."""


def cut_logs(folder: Path, limit_bytes: int = LIMIT_BYTES) -> list[Path]:
    """Copies every log over the limit aside and empties it; which.

    A process keeps the file that it was given, so that it cannot be renamed away under it. All of
    them append, and go on at the new end. What is written between the copy and the cut is lost.
    """
    return [path for path in sorted(folder.glob("*.log")) if _cut(path, limit_bytes)]


def _cut(path: Path, limit_bytes: int) -> bool:
    copy = path.with_name(f".{path.name}.new")
    try:
        if path.stat().st_size <= limit_bytes:
            return False
        shutil.copyfile(path, copy)
        os.replace(copy, path.with_suffix(OLDER))
        os.truncate(path, 0)
    except OSError as error:
        log.warning("%s cannot be cut: %s", path, error)
        copy.unlink(missing_ok=True)
        return False
    return True
