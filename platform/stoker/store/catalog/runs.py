"""MLRun's runs: one document for each run and iteration, kept as its client writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from stoker.nouns.errors import BadRequest, NotFound
from stoker.nouns.near import near_names
from stoker.store.catalog import artifacts, labels, run_logs, run_search, times
from stoker.store.catalog.artifact_search import ArtifactSearch
from stoker.store.catalog.conditions import ALL, Conditions, Page
from stoker.store.catalog.database import Database
from stoker.store.catalog.document import (
    Document,
    looked_up,
    packed,
    part,
    set_at,
    text_at,
    unpacked,
)
from stoker.store.catalog.run_search import RunSearch

NOUN = "run"
TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    uid TEXT NOT NULL,
    iteration INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    updated REAL NOT NULL,
    document BLOB NOT NULL,
    UNIQUE (project, uid, iteration)
);
CREATE INDEX IF NOT EXISTS runs_by_start ON runs (project, started, iteration, state);
CREATE INDEX IF NOT EXISTS runs_by_name ON runs (project, name, updated, started, iteration);
CREATE INDEX IF NOT EXISTS runs_by_state ON runs (project, state, started, iteration);
CREATE INDEX IF NOT EXISTS runs_by_time ON runs (started);
""" + labels.cleanup(NOUN, "runs")

TERMINAL = frozenset({"completed", "error", "aborted", "skipped"})
UNDELETABLE = frozenset({"running", "pending"})
REDACTED = "REDACTED"


class StoredRuns:
    """Runs of all projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, project: str, uid: str, iteration: int, document: Document) -> None:
        """Keeps a run's document, in place of what was there.

        Raises:
            BadRequest: the name is not the one that this run had before.
        """
        await self._database.run(
            lambda connection: _store(connection, project, uid, iteration, document)
        )

    async def update(
        self, project: str, uid: str, iteration: int, updates: Mapping[str, Any]
    ) -> None:
        """Sets values at dotted paths (``status.state``) of a run's document.

        Raises:
            BadRequest: the name would change.
            NotFound: there is no such run.
        """

        def work(connection: sqlite3.Connection) -> None:
            document = unpacked(_found(connection, project, uid, iteration)["document"])
            for path, value in updates.items():
                set_at(document, path, value)
            _store(connection, project, uid, iteration, document)

        await self._database.run(work)

    async def find(
        self, project: str, uid: str, iteration: int, *, with_artifacts: bool = False
    ) -> Document:
        """A run's document; with its artifacts in ``status.artifacts`` if asked for.

        Raises:
            NotFound: there is no such run.
        """
        return await self._database.run(
            lambda connection: _find(connection, project, uid, iteration, with_artifacts)
        )

    async def list_all(self, search: RunSearch, page: Page = ALL) -> list[Document]:
        """A page of what was searched for."""

        def work(connection: sqlite3.Connection) -> list[Document]:
            return [unpacked(row["document"]) for row in run_search.rows(connection, search, page)]

        return await self._database.run(work)

    async def delete(self, project: str, uid: str) -> None:
        """Forgets a run with all its iterations and its log; none is no error.

        Raises:
            BadRequest: it is running.
        """
        await self._database.run(lambda connection: _delete(connection, project, uid))

    async def delete_all(self, search: RunSearch) -> None:
        """Forgets all that was searched for.

        Raises:
            BadRequest: one of them is running; nothing is deleted.
        """

        def work(connection: sqlite3.Connection) -> None:
            meant = {(row["project"], row["uid"]) for row in run_search.rows(connection, search)}
            for project, uid in meant:
                _delete(connection, project, uid)

        await self._database.run(work)


def count(connection: sqlite3.Connection, project: str) -> int:
    """How many runs a project has, iterations not counted."""
    found = connection.execute("SELECT COUNT(DISTINCT uid) FROM runs WHERE project = ?", (project,))
    return int(found.fetchone()[0])


def forget(connection: sqlite3.Connection, project: str) -> None:
    """Deletes a project's runs, whatever they are doing."""
    connection.execute("DELETE FROM runs WHERE project = ?", (project,))


def _store(
    connection: sqlite3.Connection, project: str, uid: str, iteration: int, document: Document
) -> None:
    existing = connection.execute(
        "SELECT id, name, started, ended FROM runs WHERE project = ? AND uid = ? AND iteration = ?",
        (project, uid, iteration),
    ).fetchone()
    status, name = part(document, "status"), text_at(document, "metadata", "name")
    if existing and name != existing["name"]:
        raise BadRequest("Changing name for an existing run is invalid")
    moment = times.now()
    state = status["state"] = status.get("state") or "created"
    started = times.parsed(status.get("start_time")) or _time(existing, "started") or moment
    status["start_time"] = started.isoformat()
    status["last_update"] = moment.isoformat()
    ended = times.parsed(status.get("end_time")) or _time(existing, "ended")
    if state in TERMINAL:
        ended = ended or moment
        status["end_time"] = ended.isoformat()
    _uris_for_artifacts(status)
    _redact(looked_up(document, "spec", "notifications"))
    row = connection.execute(
        "INSERT INTO runs (project, uid, iteration, name, state, started, ended, updated, document)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (project, uid, iteration) DO UPDATE SET state = excluded.state,"
        " started = excluded.started, ended = excluded.ended, updated = excluded.updated,"
        " document = excluded.document RETURNING id",
        (
            *(project, uid, iteration, name, str(state), started.timestamp()),
            *(ended and ended.timestamp(), moment.timestamp(), packed(document)),
        ),
    ).fetchone()
    labels.write(connection, NOUN, row["id"], looked_up(document, "metadata", "labels"))


def _time(existing: sqlite3.Row | None, column: str) -> datetime | None:
    if existing is None or existing[column] is None:
        return None
    return times.at(existing[column])


def _uris_for_artifacts(status: Document) -> None:
    """Clients before 1.7 put whole artifacts here; these are stored by themselves."""
    sent = status.pop("artifacts", None)
    uris = status.get("artifact_uris")
    uris = uris if isinstance(uris, dict) else {}
    for artifact in sent if isinstance(sent, list) else []:
        metadata = looked_up(artifact, "metadata") or {}
        key = text_at(artifact, "spec", "db_key") or metadata.get("key")
        if key and metadata.get("project"):
            uri = f"store://artifacts/{metadata['project']}/{key}@{metadata.get('tree') or ''}"
            uris.setdefault(metadata["key"], uri)
    if uris:
        status["artifact_uris"] = uris


def _redact(notifications: Any) -> None:
    """Tokens of a notification are its sender's, and the sender is the client."""
    for notification in notifications if isinstance(notifications, list) else []:
        secret = looked_up(notification, "secret_params")
        # {"secret": …} is no secret: it names the one of the project that holds the tokens.
        if isinstance(secret, dict) and "secret" not in secret:
            notification["secret_params"] = dict.fromkeys(secret, REDACTED)


def _found(connection: sqlite3.Connection, project: str, uid: str, iteration: int) -> sqlite3.Row:
    row: sqlite3.Row | None = connection.execute(
        "SELECT id, state, document FROM runs WHERE project = ? AND uid = ? AND iteration = ?",
        (project, uid, iteration),
    ).fetchone()
    if row is None:
        known = connection.execute(
            "SELECT DISTINCT uid FROM runs WHERE project = ? ORDER BY updated DESC LIMIT 1000",
            (project,),
        )
        near = near_names(uid, [other["uid"] for other in known])
        which = f"{uid}#{iteration}" if iteration else uid
        hint = f"; there is {', '.join(near)}" if near else ""
        raise NotFound(f"Run uid {which} of project {project} not found{hint}", near=near)
    return row


def _find(
    connection: sqlite3.Connection, project: str, uid: str, iteration: int, with_artifacts: bool
) -> Document:
    document = unpacked(_found(connection, project, uid, iteration)["document"])
    if with_artifacts:
        found = _artifacts_of(connection, project, uid, iteration, document)
        if found:
            part(document, "status")["artifacts"] = found
    return document


def _artifacts_of(
    connection: sqlite3.Connection, project: str, uid: str, iteration: int, document: Document
) -> list[Document]:
    workflow = text_at(document, "metadata", "labels", "workflow")
    # In a workflow the workflow is the producer of all; which run it was says the producer's URI.
    search = ArtifactSearch(
        project=project,
        tree=workflow or uid,
        producer_uri=f"{project}/{uid}" if workflow else None,
        iteration=iteration or None,
        best_iteration=not iteration,
    )
    by_uid = {
        looked_up(artifact, "metadata", "uid"): artifact
        for artifact in reversed(artifacts.produced_by(connection, search))
    }
    return list(by_uid.values())


def _delete(connection: sqlite3.Connection, project: str, uid: str) -> None:
    conditions = Conditions()
    conditions.equal("project", project)
    conditions.equal("uid", uid)
    conditions.one_of("state", sorted(UNDELETABLE))
    running = connection.execute(
        " ".join(("SELECT state FROM runs", conditions.text)), conditions.values
    ).fetchone()
    if running:
        raise BadRequest(
            f"Can not delete run in {running['state']} state: run {uid} is still going on in the "
            "process of its client. If that is gone, say so first: "
            "update_run({'status.state': 'aborted'}, uid, project)"
        )
    connection.execute("DELETE FROM runs WHERE project = ? AND uid = ?", (project, uid))
    run_logs.forget_run(connection, project, uid)
