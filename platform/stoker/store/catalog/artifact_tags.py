"""Tags of artifacts: each points at one version of a key, or at one an iteration of a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stoker.store.catalog.conditions import Conditions, select

LATEST = "latest"
TABLES = """
CREATE TABLE IF NOT EXISTS artifact_tags (
    artifact INTEGER NOT NULL REFERENCES artifacts (id) ON DELETE CASCADE,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (artifact, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS artifact_tags_by_name ON artifact_tags (project, name, key);
"""


@dataclass(frozen=True, slots=True)
class Identifier:
    """Which versions are to be tagged; what is None is not asked for."""

    key: str | None = None
    kind: str | None = None
    iteration: int | None = None
    uid: str | None = None
    tree: str | None = None


def of(connection: sqlite3.Connection, artifact: int) -> list[str]:
    """The tags of one version."""
    rows = connection.execute(
        "SELECT name FROM artifact_tags WHERE artifact = ? ORDER BY name", (artifact,)
    )
    return [row["name"] for row in rows]


def of_key(connection: sqlite3.Connection, project: str, key: str) -> list[str]:
    """All tags of a key."""
    rows = connection.execute(
        "SELECT DISTINCT name FROM artifact_tags WHERE project = ? AND key = ? ORDER BY name",
        (project, key),
    )
    return [row["name"] for row in rows]


def move(connection: sqlite3.Connection, tag: str, artifacts: Iterable[int]) -> None:
    """Makes the tag point at these versions, and no longer at others of their keys.

    Iterations of one run (same tree) keep it side by side: each is that tag's for its iteration.
    """
    for artifact in artifacts:
        connection.execute(
            "DELETE FROM artifact_tags WHERE (artifact, name) IN ("
            " SELECT t.artifact, t.name FROM artifact_tags t"
            " JOIN artifacts old ON old.id = t.artifact JOIN artifacts new ON new.id = ?"
            " WHERE t.project = new.project AND t.name = ? AND t.key = new.key"
            " AND (old.tree != new.tree OR old.iteration = new.iteration))",
            (artifact, tag),
        )
        connection.execute(
            "INSERT INTO artifact_tags (artifact, project, name, key)"
            " SELECT id, project, ?, key FROM artifacts WHERE id = ?",
            (tag, artifact),
        )


def put_on(
    connection: sqlite3.Connection,
    project: str,
    tag: str,
    meant: Sequence[Identifier],
    *,
    replace: bool,
) -> None:
    """Tags versions; with ``replace`` their other tags are taken off first."""
    artifacts = _meant(connection, project, meant)
    if replace:
        connection.executemany(
            "DELETE FROM artifact_tags WHERE artifact = ?", [(row,) for row in artifacts]
        )
    move(connection, tag, artifacts)


def take_off(
    connection: sqlite3.Connection, project: str, tag: str, meant: Sequence[Identifier]
) -> None:
    """Takes a tag off versions."""
    connection.executemany(
        "DELETE FROM artifact_tags WHERE artifact = ? AND name = ?",
        [(row, tag) for row in _meant(connection, project, meant)],
    )


def _meant(connection: sqlite3.Connection, project: str, meant: Sequence[Identifier]) -> list[int]:
    found: dict[int, None] = {}
    for identifier in meant:
        rows = _rows(connection, project, identifier)
        if not rows and identifier.uid and not identifier.tree:
            # Older clients send what produced it as the uid.
            moved = Identifier(identifier.key, identifier.kind, identifier.iteration, None)
            rows = _rows(connection, project, moved, tree=identifier.uid)
        found |= dict.fromkeys(rows)
    return list(found)


def _rows(
    connection: sqlite3.Connection,
    project: str,
    identifier: Identifier,
    *,
    tree: str | None = None,
) -> list[int]:
    conditions = Conditions()
    conditions.equal("project", project)
    conditions.named("key", identifier.key)
    conditions.equal("kind", identifier.kind or None)
    conditions.equal("iteration", identifier.iteration)
    conditions.equal("uid", identifier.uid or None)
    conditions.equal("tree", tree or identifier.tree or None)
    # The newest last, so that of several versions of a key it is the one that keeps the tag.
    order = "ORDER BY updated, id"
    return [row["id"] for row in select(connection, "SELECT id FROM artifacts", conditions, order)]
