"""Secrets of projects. They leave this file only towards the workers of the project's functions."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from stoker.store.catalog.database import Database

TABLES = """
CREATE TABLE IF NOT EXISTS secrets (
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (project, key)
) WITHOUT ROWID;
"""

PREFIX = "MLRUN_K8S_SECRET__"
"""Where mlrun before 1.10 looks for a project's secrets in a function's environment; from then on
it looks for the bare key."""
INTERNAL = ("mlrun.", "datastore-profiles.")
"""Keys that MLRun keeps for itself: functions get them, no client may read, write or list them."""


class StoredSecrets:
    """Secrets of all projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def environment(self, project: str) -> dict[str, str]:
        """Variables by which mlrun in a function finds the project's secrets.

        Each under its bare key and under `PREFIX`: ``context.get_secret``, ``get_secret_or_env``
        and ``ds://`` profiles of any mlrun find them. All of the values are secret, whatever the
        names look like.
        """
        found = await self._database.run(lambda connection: _all(connection, project))
        return {PREFIX + key: value for key, value in found.items()} | found

    async def keys(self, project: str) -> list[str]:
        """The keys that clients may see."""
        found = await self._database.run(lambda connection: _all(connection, project))
        return [key for key in found if not key.startswith(INTERNAL)]

    async def write(self, project: str, secrets: Mapping[str, str]) -> None:
        """Adds secrets, or gives them other values."""
        await self._database.run(lambda connection: write(connection, project, secrets))

    async def delete(self, project: str, keys: Sequence[str]) -> None:
        """Forgets these; without any, all that clients may see."""

        def work(connection: sqlite3.Connection) -> None:
            known = [key for key in _all(connection, project) if not key.startswith(INTERNAL)]
            for key in keys or known:
                delete(connection, project, key)

        await self._database.run(work)


def write(connection: sqlite3.Connection, project: str, secrets: Mapping[str, str]) -> None:
    """Adds secrets, or gives them other values."""
    connection.executemany(
        "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?)",
        [(project, key, value) for key, value in secrets.items()],
    )


def delete(connection: sqlite3.Connection, project: str, key: str) -> None:
    """Forgets one."""
    connection.execute("DELETE FROM secrets WHERE project = ? AND key = ?", (project, key))


def count(connection: sqlite3.Connection, project: str) -> int:
    """How many a project has, internal ones not counted."""
    return sum(not key.startswith(INTERNAL) for key in _all(connection, project))


def forget(connection: sqlite3.Connection, project: str) -> None:
    """Deletes a project's secrets."""
    connection.execute("DELETE FROM secrets WHERE project = ?", (project,))


def _all(connection: sqlite3.Connection, project: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT key, value FROM secrets WHERE project = ? ORDER BY key", (project,)
    )
    return {row["key"]: row["value"] for row in rows}
