"""A set of recorded traffic: reading it, saying what it holds, forgetting it.

`stoker.worker.segments` writes it; any copy of the folder reads the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from stoker.decide.redact import Redactor
from stoker.nouns.exchange import Exchange
from stoker.nouns.recording import ABOUT, KEY, LOCK, SEGMENT_SUFFIX, RecordingSpec


class RecordedSet(BaseModel):
    """What a set holds.

    Attributes:
        requests: that can be read.
        unreadable: lines that cannot: torn by a process that was killed.
        bytes: of all its files.
        first, last: epoch seconds of the oldest and the newest answer; None: there is none.
        revisions: requests by the revision that answered.
        senders: requests by who asked: ``gateway``, ``graph flow/embed``, ``stream news``.
        altered: requests that a rule changed before they were written.
        declared: by what they were recorded; None: it is not known.
    """

    model_config = ConfigDict(frozen=True)

    requests: int
    unreadable: int
    bytes: int
    first: float | None
    last: float | None
    revisions: dict[int, int]
    senders: dict[str, int]
    altered: int
    declared: RecordingSpec | None


def read(
    folder: Path, *, revision: int | None = None, step: str = "", now: float | None = None
) -> Iterator[Exchange]:
    """The recorded requests, segment by segment, the oldest segment first.

    Lines that cannot be read are left out, and so is what is older than is declared to be kept.

    Args:
        folder: ``<home>/traffic/<function>``, or a copy of it.
        revision: only what this revision answered.
        step: only what this graph's step asked (``flow/embed``).
        now: epoch seconds; the clock's unless given.
    """
    for exchange in _lines(folder, time.time() if now is None else now):
        if exchange is None or (revision is not None and exchange.revision != revision):
            continue
        if not step or exchange.step == step:
            yield exchange


def describe(folder: Path, *, now: float | None = None) -> RecordedSet:
    """What a set holds; an empty one where there is no folder."""
    revisions: Counter[int] = Counter()
    senders: Counter[str] = Counter()
    times: list[float] = []
    unreadable = altered = 0
    for exchange in _lines(folder, time.time() if now is None else now):
        if exchange is None:
            unreadable += 1
            continue
        revisions[exchange.revision] += 1
        senders[f"{exchange.via} {exchange.step}".strip()] += 1
        altered += bool(exchange.altered)
        times = (
            [min(times[0], exchange.time), max(times[1], exchange.time)]
            if times
            else ([exchange.time, exchange.time])
        )
    return RecordedSet(
        requests=sum(revisions.values()),
        unreadable=unreadable,
        bytes=sum(_size(path) for path in segments(folder)),
        first=times[0] if times else None,
        last=times[1] if times else None,
        revisions=dict(revisions),
        senders=dict(senders.most_common()),
        altered=altered,
        declared=declaration(folder),
    )


def segments(folder: Path) -> list[Path]:
    """The files of a set, the oldest first."""
    return sorted(folder.glob(f"*{SEGMENT_SUFFIX}"))


def declaration(folder: Path) -> RecordingSpec | None:
    """By what a set was recorded; None when it is not there, or cannot be read."""
    try:
        return RecordingSpec.model_validate(json.loads((folder / ABOUT).read_text()))
    except (OSError, ValueError, ValidationError):
        return None


def redactor(folder: Path) -> Redactor | None:
    """The rules that a set was written by: answers to replayed requests are held to them too.

    Else what was masked in the recording would differ from every new answer, and stand in the
    report. None when there are none.
    """
    spec = declaration(folder)
    if spec is None or not spec.redact:
        return None
    try:
        key = (folder / KEY).read_bytes()
    except OSError:
        # The hashes differ then: better than that they can be looked up.
        key = os.urandom(32)
    return Redactor(spec, key)


def forget(folder: Path) -> int:
    """Deletes what is recorded; the bytes that it was. Workers that record go on with new files.

    Raises:
        OSError: it cannot be deleted.
    """
    if not folder.is_dir():
        return 0
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        freed = 0
        for path in segments(folder):
            freed += _size(path)
            path.unlink(missing_ok=True)
        return freed
    finally:
        os.close(lock)


def _lines(folder: Path, now: float) -> Iterator[Exchange | None]:
    """Each line's request; None for one that cannot be read."""
    spec = declaration(folder)
    oldest = now - spec.keep_s if spec is not None else 0.0
    for path in segments(folder):
        # A segment may make room for a newer one while it is being read.
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                try:
                    exchange = Exchange.of_line(line)
                except ValueError:
                    yield None
                else:
                    if exchange.time >= oldest:
                        yield exchange


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
