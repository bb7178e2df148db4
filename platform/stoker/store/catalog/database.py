"""One SQLite file, written by one thread, so that the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from stoker.nouns.errors import InsufficientStorage, StoreUnavailable

T = TypeVar("T")

VERSION = 1
"""Of the tables. A file with another one is left alone: no other Stoker would read it any more."""
BUSY_WAIT_S = 5.0
"""How long to wait for another process that holds the file (a backup, a curious user), seconds."""


class Database:
    """A connection that only its own thread touches.

    Every piece of work is one transaction: done as a whole, or not at all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog")
        self._connection: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path, tables: Iterable[str]) -> Database:
        """Opens the file, made with its ``tables`` (scripts of CREATE … IF NOT EXISTS) if need be.

        Raises:
            StoreUnavailable: it cannot be opened, or is no database of ours.
        """
        database = cls(path)
        await database._in_thread(lambda: database._connect(list(tables)))
        return database

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs ``work`` in a transaction of its own, after all that was asked for before.

        Raises:
            InsufficientStorage: the disk is full; nothing was changed.
            StoreUnavailable: the file cannot be read or written; nothing was changed.
            Exception: whatever ``work`` raises; nothing was changed.
        """
        return await self._in_thread(lambda: self._transaction(work))

    async def close(self) -> None:
        """Closes the file after the work that was asked for."""
        await self._in_thread(self._disconnect)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as exc:
            if "full" in str(exc):
                raise InsufficientStorage(f"the home's disk is full: {exc}") from exc
            raise StoreUnavailable(f"{self._path} cannot be used: {exc}") from exc

    def _connect(self, tables: list[str]) -> None:
        # SQLite gives the files beside it the same mode, so it must be right before there are any.
        self._path.touch(mode=0o600)
        self._path.chmod(0o600)
        connection = sqlite3.connect(self._path, timeout=BUSY_WAIT_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        # Readers of the file (a backup) do not hold up the one who writes it.
        connection.execute("PRAGMA journal_mode = WAL")
        # What a client was told is stored is on the disk.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"it has the tables of another Stoker (version {version})")
        for script in tables:
            connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        self._connection = connection

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        if connection is None:
            raise sqlite3.ProgrammingError("the catalog is closed")
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return result

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
