"""All tables of the catalog, over one database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from stoker.store.catalog import (
    artifacts,
    functions,
    labels,
    profiles,
    projects,
    run_logs,
    runs,
    secrets,
    summary,
    tasks,
)
from stoker.store.catalog.artifacts import StoredArtifacts
from stoker.store.catalog.database import Database
from stoker.store.catalog.functions import StoredFunctions
from stoker.store.catalog.profiles import StoredProfiles
from stoker.store.catalog.projects import StoredProjects
from stoker.store.catalog.run_logs import RunLogs
from stoker.store.catalog.runs import StoredRuns
from stoker.store.catalog.secrets import StoredSecrets
from stoker.store.catalog.tasks import StoredTasks

_PARTS = (labels, projects, functions, artifacts, runs, run_logs, secrets, profiles, tasks)
_COUNTED = {"artifacts": artifacts, "runs": runs, "functions": functions, "secrets": secrets}
_OF_PROJECT = (projects, functions, artifacts, runs, run_logs, secrets, profiles, tasks)


class Catalog:
    """One part an MLRun noun; they share the file, so a write is seen by all at once.

    Attributes:
        projects: project documents by name.
        functions: function objects by name, tag and hash.
        artifacts: artifact versions by key, tag, tree and uid.
        runs: run documents by uid and iteration.
        run_logs: what the runs logged.
        secrets: values for the functions of a project.
        profiles: datastore profiles by name.
        tasks: background tasks by name.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.projects = StoredProjects(database)
        self.functions = StoredFunctions(database)
        self.artifacts = StoredArtifacts(database)
        self.runs = StoredRuns(database)
        self.run_logs = RunLogs(database)
        self.secrets = StoredSecrets(database)
        self.profiles = StoredProfiles(database)
        self.tasks = StoredTasks(database)

    @classmethod
    async def open(cls, path: Path) -> Catalog:
        """Opens the catalog of a home.

        Raises:
            StoreUnavailable: the file cannot be used.
        """
        database = await Database.open(path, [part.TABLES for part in _PARTS])
        await database.run(tasks.interrupt)
        return cls(database)

    async def close(self) -> None:
        """Closes it after all that was asked for."""
        await self._database.close()

    async def holdings(self, project: str) -> dict[str, int]:
        """How many artifacts, runs, functions and secrets a project has."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            return {noun: part.count(connection, project) for noun, part in _COUNTED.items()}

        return await self._database.run(work)

    async def summary(self, project: str, since: float) -> dict[str, int]:
        """What is in a project, in MLRun's numbers; "recent" is what started at ``since`` or later.

        Args:
            project: its name.
            since: seconds since 1970.
        """
        return await self._database.run(
            lambda connection: summary.summary(connection, project, since)
        )

    async def forget(self, project: str) -> None:
        """Deletes a project and all that is kept of it, at once or not at all."""

        def work(connection: sqlite3.Connection) -> None:
            for part in _OF_PROJECT:
                part.forget(connection, project)

        await self._database.run(work)
