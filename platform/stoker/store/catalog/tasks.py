"""MLRun's background tasks: what a client may ask to be done, and then asks about."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass

from stoker.nouns.errors import NotFound
from stoker.nouns.near import near_names
from stoker.store.catalog import times
from stoker.store.catalog.conditions import Conditions, select
from stoker.store.catalog.database import Database
from stoker.store.catalog.document import Document

SUCCEEDED, FAILED, RUNNING = "succeeded", "failed", "running"
TABLES = """
CREATE TABLE IF NOT EXISTS tasks (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    created REAL NOT NULL,
    updated REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS tasks_by_project ON tasks (project, created);
"""


@dataclass(frozen=True, slots=True)
class TaskSearch:
    """A listing's conditions; times are earliest and latest, seconds since 1970."""

    project: str
    state: str | None = None
    created: tuple[float | None, float | None] = (None, None)
    updated: tuple[float | None, float | None] = (None, None)


class StoredTasks:
    """Tasks of all projects; those of no project have the empty one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, project: str, kind: str) -> Document:
        """A new task, running; its ``metadata.name`` is what it is asked about by."""
        return await self._begin(project, kind, RUNNING, None)

    async def done(self, project: str, kind: str, error: str | None = None) -> Document:
        """A task that is over already; it failed if there is an ``error``."""
        return await self._begin(project, kind, FAILED if error else SUCCEEDED, error)

    async def end(self, name: str, error: str | None = None) -> None:
        """Says that a task is over; it failed if there is an ``error``."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE tasks SET state = ?, error = ?, updated = ? WHERE name = ?",
                (FAILED if error else SUCCEEDED, error, times.now().timestamp(), name),
            )

        await self._database.run(work)

    async def find(self, project: str, name: str) -> Document:
        """A task of a project, or with the empty project any.

        Raises:
            NotFound: there is none of that name.
        """

        def work(connection: sqlite3.Connection) -> Document:
            conditions = Conditions()
            conditions.equal("name", name)
            conditions.equal("project", project or None)
            row = select(connection, "SELECT * FROM tasks", conditions).fetchone()
            if row is None:
                raise _missing(connection, project, name)
            return _document(row)

        return await self._database.run(work)

    async def list_all(self, search: TaskSearch) -> list[Document]:
        """What was searched for, the newest first."""

        def work(connection: sqlite3.Connection) -> list[Document]:
            conditions = Conditions()
            conditions.equal("project", search.project)
            conditions.equal("state", search.state)
            conditions.within("created", *search.created)
            conditions.within("updated", *search.updated)
            found = select(
                connection, "SELECT * FROM tasks", conditions, "ORDER BY created DESC, id DESC"
            )
            return [_document(row) for row in found]

        return await self._database.run(work)

    async def _begin(self, project: str, kind: str, state: str, error: str | None) -> Document:
        def work(connection: sqlite3.Connection) -> Document:
            moment = times.now().timestamp()
            row = connection.execute(
                "INSERT INTO tasks (name, project, kind, state, error, created, updated)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *",
                (str(uuid.uuid4()), project, kind, state, error, moment, moment),
            ).fetchone()
            return _document(row)

        return await self._database.run(work)


def interrupt(connection: sqlite3.Connection) -> None:
    """Fails what was running when the platform ended: nothing goes on with it."""
    connection.execute(
        "UPDATE tasks SET state = ?, error = ?, updated = ? WHERE state = ?",
        (FAILED, "the platform was restarted meanwhile", times.now().timestamp(), RUNNING),
    )


def forget(connection: sqlite3.Connection, project: str) -> None:
    """Deletes a project's tasks."""
    connection.execute("DELETE FROM tasks WHERE project = ?", (project,))


def _missing(connection: sqlite3.Connection, project: str, name: str) -> NotFound:
    known = connection.execute(
        "SELECT name FROM tasks WHERE project = ? ORDER BY id DESC LIMIT 1000", (project,)
    )
    near = near_names(name, [row["name"] for row in known])
    where = f" in project {project}" if project else ""
    return NotFound(f"Background task {name} not found{where}", near=near)


def _document(row: sqlite3.Row) -> Document:
    return {
        "kind": "BackgroundTask",
        "metadata": {
            "name": row["name"],
            "kind": row["kind"],
            "project": row["project"] or None,
            "created": _text(row["created"]),
            "updated": _text(row["updated"]),
            "timeout": None,
        },
        "spec": {},
        "status": {"state": row["state"], "error": row["error"]},
    }


def _text(epoch_s: float) -> str:
    return times.at(epoch_s).isoformat()
