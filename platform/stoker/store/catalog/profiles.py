"""MLRun's datastore profiles: what stands behind ``ds://<name>/…``."""

from __future__ import annotations

import sqlite3

from stoker.nouns.errors import NotFound
from stoker.nouns.near import near_names
from stoker.store.catalog import secrets
from stoker.store.catalog.database import Database
from stoker.store.catalog.document import Document

TABLES = """
CREATE TABLE IF NOT EXISTS profiles (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    object TEXT NOT NULL,
    PRIMARY KEY (project, name)
) WITHOUT ROWID;
"""


class StoredProfiles:
    """Profiles of all projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(
        self, project: str, name: str, kind: str, public: str, private: str | None
    ) -> None:
        """Keeps a profile; its private part becomes a secret that only functions see."""

        def work(connection: sqlite3.Connection) -> None:
            row = (project, name, kind, public)
            connection.execute("INSERT OR REPLACE INTO profiles VALUES (?, ?, ?, ?)", row)
            # Without a private part mlrun would say that the profile is not registered.
            secrets.write(connection, project, {_key(project, name): private or "{}"})

        await self._database.run(work)

    async def list_all(self, project: str) -> list[Document]:
        """The public parts."""
        return await self._database.run(lambda connection: _all(connection, project))

    async def find(self, project: str, name: str) -> Document:
        """The public part of one.

        Raises:
            NotFound: there is none of that name.
        """
        found = await self.list_all(project)
        for profile in found:
            if profile["name"] == name:
                return profile
        near = near_names(name, [profile["name"] for profile in found])
        hint = f"; there is {', '.join(near)}" if near else ""
        raise NotFound(
            f"Datastore profile '{name}' not found in project {project}{hint}", near=near
        )

    async def delete(self, project: str, name: str) -> None:
        """Forgets one, with its private part."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM profiles WHERE project = ? AND name = ?", (project, name)
            )
            secrets.delete(connection, project, _key(project, name))

        await self._database.run(work)


def forget(connection: sqlite3.Connection, project: str) -> None:
    """Deletes a project's profiles."""
    connection.execute("DELETE FROM profiles WHERE project = ?", (project,))


def _all(connection: sqlite3.Connection, project: str) -> list[Document]:
    rows = connection.execute(
        "SELECT project, name, type, object FROM profiles WHERE project = ? ORDER BY name",
        (project,),
    )
    return [dict(row) | {"private": None} for row in rows]


def _key(project: str, name: str) -> str:
    # As mlrun.datastore.datastore_profile.DatastoreProfile.generate_secret_key: its reader asks so.
    return f"datastore-profiles.{project}.{name}"
