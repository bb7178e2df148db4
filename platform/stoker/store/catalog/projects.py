"""MLRun's projects: one document each."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from stoker.nouns.errors import Conflict
from stoker.store.catalog import labels, times
from stoker.store.catalog.conditions import Conditions, select
from stoker.store.catalog.database import Database
from stoker.store.catalog.document import Document, looked_up, packed, text_at, unpacked

NOUN = "project"
TABLES = """
CREATE TABLE IF NOT EXISTS projects (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    updated REAL NOT NULL,
    document BLOB NOT NULL
);
""" + labels.cleanup(NOUN, "projects")


class StoredProjects:
    """All projects that an MLRun client has saved."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, name: str) -> Document | None:
        """The document, or None."""
        return await self._database.run(lambda connection: _find(connection, name))

    async def names(self) -> list[str]:
        """All names, in order."""
        return [*await self.list_all()]

    async def list_all(
        self, owner: str | None = None, state: str | None = None, wanted: tuple[str, ...] = ()
    ) -> dict[str, Document]:
        """Those with this owner, in this state, with all labels ``wanted``, by name in order."""

        def work(connection: sqlite3.Connection) -> dict[str, Document]:
            conditions = Conditions()
            conditions.equal("owner", owner)
            conditions.equal("state", state)
            labels.match(conditions, NOUN, "id", wanted)
            head = "SELECT name, document FROM projects"
            found = select(connection, head, conditions, "ORDER BY name")
            return {row["name"]: unpacked(row["document"]) for row in found}

        return await self._database.run(work)

    async def create(self, name: str, document: Document) -> None:
        """Adds a project.

        Raises:
            Conflict: there is one of that name.
        """

        def work(connection: sqlite3.Connection) -> None:
            if _find(connection, name) is not None:
                raise Conflict(f"Project already exists. project_name={name}")
            _write(connection, name, document)

        await self._database.run(work)

    async def change(self, name: str, change: Callable[[Document | None], Document]) -> Document:
        """Puts ``change(what is there)`` in its place and gives it back, all at once.

        Raises:
            Exception: whatever ``change`` raises; nothing was changed.
        """

        def work(connection: sqlite3.Connection) -> Document:
            document = change(_find(connection, name))
            _write(connection, name, document)
            return document

        return await self._database.run(work)


def forget(connection: sqlite3.Connection, name: str) -> None:
    """Deletes the document."""
    connection.execute("DELETE FROM projects WHERE name = ?", (name,))


def _find(connection: sqlite3.Connection, name: str) -> Document | None:
    row = connection.execute("SELECT document FROM projects WHERE name = ?", (name,)).fetchone()
    return None if row is None else unpacked(row["document"])


def _write(connection: sqlite3.Connection, name: str, document: Document) -> None:
    row = connection.execute(
        "INSERT INTO projects (name, owner, state, updated, document) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, state = excluded.state,"
        " updated = excluded.updated, document = excluded.document RETURNING id",
        (
            *(name, text_at(document, "spec", "owner"), text_at(document, "status", "state")),
            *(times.now().timestamp(), packed(document)),
        ),
    ).fetchone()
    labels.write(connection, NOUN, row["id"], looked_up(document, "metadata", "labels"))
