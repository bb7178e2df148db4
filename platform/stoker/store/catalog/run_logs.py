"""Logs of runs, as their clients append them: pieces in the order of their offsets."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator

from stoker.nouns.errors import NotFound
from stoker.store.catalog.database import Database

PIECE_BYTES = 256 * 1024
"""The largest piece in a row: what one read costs at least in memory."""
READ_BYTES = 1024 * 1024
"""What is read in one turn of the database's thread."""
TABLES = """
CREATE TABLE IF NOT EXISTS run_logs (
    project TEXT NOT NULL,
    uid TEXT NOT NULL,
    start INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (project, uid, start)
);
"""


class RunLogs:
    """Logs of all projects' runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, project: str, uid: str, body: bytes, *, append: bool) -> None:
        """Adds to a log; without ``append`` in place of what was there."""
        await self._database.run(
            lambda connection: _write(connection, project, uid, body, append=append)
        )

    async def size(self, project: str, uid: str) -> int:
        """A log's length in bytes.

        Raises:
            NotFound: nothing was ever logged.
        """
        size = await self._database.run(lambda connection: _size(connection, project, uid))
        if size is None:
            raise NotFound(f"Log file for {project}/{uid} not found")
        return size

    async def read(
        self, project: str, uid: str, offset: int, size: int | None
    ) -> AsyncIterator[bytes]:
        """The log from ``offset`` on, ``size`` bytes of it or all, in pieces of bounded size."""
        end = None if size is None else offset + size
        while end is None or offset < end:
            want = READ_BYTES if end is None else min(READ_BYTES, end - offset)
            piece = await self._read(project, uid, offset, want)
            if not piece:
                return
            offset += len(piece)
            yield piece

    async def _read(self, project: str, uid: str, offset: int, size: int) -> bytes:
        return await self._database.run(
            lambda connection: _read(connection, project, uid, offset, size)
        )


def forget_run(connection: sqlite3.Connection, project: str, uid: str) -> None:
    """Deletes a run's log."""
    connection.execute("DELETE FROM run_logs WHERE project = ? AND uid = ?", (project, uid))


def forget(connection: sqlite3.Connection, project: str) -> None:
    """Deletes the logs of a project."""
    connection.execute("DELETE FROM run_logs WHERE project = ?", (project,))


def _write(
    connection: sqlite3.Connection, project: str, uid: str, body: bytes, *, append: bool
) -> None:
    if not append:
        forget_run(connection, project, uid)
    start = _size(connection, project, uid) or 0
    pieces = [body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)]
    for piece in pieces:
        connection.execute(
            "INSERT INTO run_logs VALUES (?, ?, ?, ?, ?)", (project, uid, start, len(piece), piece)
        )
        start += len(piece)


def _size(connection: sqlite3.Connection, project: str, uid: str) -> int | None:
    row = connection.execute(
        "SELECT start + bytes AS size FROM run_logs WHERE project = ? AND uid = ?"
        " ORDER BY start DESC LIMIT 1",
        (project, uid),
    ).fetchone()
    return None if row is None else int(row["size"])


def _read(connection: sqlite3.Connection, project: str, uid: str, offset: int, size: int) -> bytes:
    # Pieces are at most PIECE_BYTES long: an earlier one cannot reach the offset.
    rows = connection.execute(
        "SELECT start, data FROM run_logs WHERE project = ? AND uid = ?"
        " AND start > ? AND start < ? AND start + bytes > ? ORDER BY start",
        (project, uid, offset - PIECE_BYTES, offset + size, offset),
    )
    text = bytearray()
    for row in rows:
        text += row["data"][max(0, offset - row["start"]) :]
    return bytes(text[:size])
