"""MLRun's artifacts: every version kept whole, tags that move between versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from stoker.nouns.errors import BadRequest, Conflict, NotFound
from stoker.nouns.near import near_names
from stoker.store.catalog import artifact_search, artifact_tags, labels, times
from stoker.store.catalog.artifact_search import ArtifactSearch
from stoker.store.catalog.artifact_tags import LATEST, Identifier
from stoker.store.catalog.artifact_uid import artifact_uid
from stoker.store.catalog.conditions import ALL, Conditions, Page, select
from stoker.store.catalog.database import Database
from stoker.store.catalog.document import Document, looked_up, packed, part, text_at, unpacked

NOUN = "artifact"
TABLES = (
    """
CREATE TABLE IF NOT EXISTS artifacts (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    uid TEXT NOT NULL,
    kind TEXT NOT NULL,
    tree TEXT NOT NULL,
    iteration INTEGER NOT NULL,
    best INTEGER NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    producer_uri TEXT NOT NULL,
    parent_uri TEXT NOT NULL,
    document BLOB NOT NULL,
    UNIQUE (project, key, uid)
);
CREATE INDEX IF NOT EXISTS artifacts_by_update ON artifacts (project, updated);
CREATE INDEX IF NOT EXISTS artifacts_by_tree ON artifacts (project, tree, updated);
CREATE INDEX IF NOT EXISTS artifacts_by_key ON artifacts (project, key, updated);
CREATE INDEX IF NOT EXISTS artifacts_by_kind ON artifacts (project, kind, updated, key);
"""
    + artifact_tags.TABLES
    + labels.cleanup(NOUN, "artifacts")
)


@dataclass(frozen=True, slots=True)
class Version:
    """Which version of an artifact is meant; what is None is not asked for."""

    key: str
    tag: str | None = None
    tree: str | None = None
    uid: str | None = None
    iteration: int | None = None


class StoredArtifacts:
    """Artifacts of all projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(
        self, project: str, version: Version, document: Document, *, new: bool = False
    ) -> Document:
        """Keeps a version and tags it; a version that is there already is changed.

        A new version is the ``latest`` too, whatever its tag. A link (kind ``link``) is not kept:
        it says which iteration of a run is the best one.

        Args:
            project: its project.
            version: where it goes: ``tag`` (else ``latest``), ``tree`` and ``iteration`` as
                MLRun's client names them; ``uid`` only when it must be that very version.
            document: the artifact as the client sent it.
            new: refuse a version that is there already.

        Returns:
            What was stored, as it will be read back.

        Raises:
            BadRequest: ``version.uid`` is not the uid of this content.
            Conflict: it is there already, and ``new`` is set.
            NotFound: a link to an iteration that is not there.
        """
        return await self._database.run(
            lambda connection: _store(connection, project, version, document, new=new)
        )

    async def find(self, project: str, version: Version) -> Document:
        """The version meant; of several (iterations of one run) the best one, then the newest.

        Raises:
            NotFound: there is none; near keys are named.
        """
        return await self._database.run(lambda connection: _find(connection, project, version))

    async def list_all(self, search: ArtifactSearch, page: Page = ALL) -> list[Document]:
        """A page of what was searched for, newest first; one entry for each tag of a version."""
        return await self._database.run(lambda connection: _listed(connection, search, page))

    async def delete(self, project: str, version: Version) -> None:
        """Forgets the versions meant; none is no error, as deleting twice is none."""
        await self._database.run(lambda connection: _delete(connection, project, version))

    async def delete_all(self, search: ArtifactSearch) -> None:
        """Forgets all that was searched for."""

        def work(connection: sqlite3.Connection) -> None:
            _forget(connection, {row["id"] for row in artifact_search.rows(connection, search)})

        await self._database.run(work)

    async def tags(self, project: str, category: str | None) -> list[str]:
        """All tags in use in a project."""
        return await self._database.run(
            lambda connection: artifact_search.tags_in_use(connection, project, category)
        )

    async def tag(
        self, project: str, tag: str, meant: Sequence[Identifier], *, replace: bool
    ) -> None:
        """Tags versions; with ``replace`` their other tags are taken off first."""
        await self._database.run(
            lambda connection: artifact_tags.put_on(
                connection, project, tag, meant, replace=replace
            )
        )

    async def untag(self, project: str, tag: str, meant: Sequence[Identifier]) -> None:
        """Takes a tag off versions."""
        await self._database.run(
            lambda connection: artifact_tags.take_off(connection, project, tag, meant)
        )


def count(connection: sqlite3.Connection, project: str) -> int:
    """How many versions a project has."""
    row = connection.execute("SELECT COUNT(*) FROM artifacts WHERE project = ?", (project,))
    return int(row.fetchone()[0])


def forget(connection: sqlite3.Connection, project: str) -> None:
    """Deletes a project's artifacts."""
    connection.execute("DELETE FROM artifacts WHERE project = ?", (project,))


def produced_by(connection: sqlite3.Connection, search: ArtifactSearch) -> list[Document]:
    """What a run produced, for its document."""
    return _listed(connection, search, ALL)


def _store(
    connection: sqlite3.Connection,
    project: str,
    version: Version,
    document: Document,
    *,
    new: bool,
) -> Document:
    metadata, spec = part(document, "metadata"), part(document, "spec")
    if document.get("kind") == "link":
        return _mark_best(connection, project, version, document)
    iteration = version.iteration or 0
    tree = str(metadata.get("tree") or version.tree or "")
    document["kind"] = document.get("kind") or "artifact"
    metadata["key"], metadata["project"] = metadata.get("key") or version.key, project
    uid = artifact_uid(document, iteration, tree)
    if version.uid and version.uid != uid:
        raise BadRequest("Changing uid for an object referenced by its uid")
    existing = connection.execute(
        "SELECT id, created FROM artifacts WHERE project = ? AND key = ? AND uid = ?",
        (project, version.key, uid),
    ).fetchone()
    if existing and new:
        raise Conflict(
            f"Adding an already-existing artifact - {project}/{version.key}@{tree}^{uid}"
        )
    created = _created(existing, metadata)
    updated = times.now()
    metadata |= {
        "uid": uid,
        "tree": tree,
        "iter": iteration,
        "created": str(created),
        "updated": str(updated),
    }
    metadata.pop("tag", None)
    spec["db_key"] = spec.get("db_key") or version.key
    row = _write(connection, existing["id"] if existing else None, version.key, document)
    tag = version.tag or LATEST
    for name in {tag} if existing else {tag, LATEST}:
        artifact_tags.move(connection, name, [row])
    return document | {"metadata": metadata | {"tag": tag}}


def _created(existing: sqlite3.Row | None, metadata: Document) -> datetime:
    if existing is not None:
        return times.at(existing["created"])
    return times.parsed(metadata.get("created")) or times.now()


def _write(connection: sqlite3.Connection, row: int | None, key: str, document: Document) -> int:
    metadata = document["metadata"]
    values = (
        str(document["kind"]),
        times.epoch(metadata["updated"]),
        text_at(document, "spec", "producer", "uri"),
        text_at(document, "spec", "parent_uri"),
        packed(document),
    )
    if row is not None:
        connection.execute(
            "UPDATE artifacts SET kind = ?, updated = ?, producer_uri = ?, parent_uri = ?,"
            " document = ? WHERE id = ?",
            (*values, row),
        )
    else:
        iteration = metadata["iter"]
        identity = (metadata["project"], key, metadata["uid"], metadata["tree"], iteration)
        written = connection.execute(
            "INSERT INTO artifacts (kind, updated, producer_uri, parent_uri, document,"
            " project, key, uid, tree, iteration, best, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            # What has no iterations is its own best one, so that both are found the same way.
            (*values, *identity, iteration == 0, times.epoch(metadata["created"])),
        )
        row = int(written.lastrowid or 0)
    labels.write(connection, NOUN, row, metadata.get("labels"))
    return row


def _mark_best(
    connection: sqlite3.Connection, project: str, version: Version, link: Document
) -> Document:
    key = text_at(link, "spec", "link_key") or version.key
    iteration = looked_up(link, "spec", "link_iteration") or 0
    tree = text_at(link, "spec", "link_tree") or text_at(link, "metadata", "tree")
    meant = Version(key, tree=tree or version.tree, iteration=iteration)
    conditions = _meant(project, meant)
    row = select(connection, "SELECT a.id FROM artifacts a", conditions).fetchone()
    if row is None:
        raise NotFound(f"Best iteration artifact not found - {project}/{key}:{iteration}")
    siblings = _meant(project, Version(key, tree=meant.tree))
    for other in select(connection, "SELECT a.id FROM artifacts a", siblings).fetchall():
        connection.execute(
            "UPDATE artifacts SET best = ? WHERE id = ?", (other["id"] == row["id"], other["id"])
        )
    return _find(connection, project, meant)


def _find(connection: sqlite3.Connection, project: str, version: Version) -> Document:
    row = _row(connection, project, version)
    if row is None and version.iteration == 0:
        # The parent run of a hyper-parameter search has no artifact of its own: its best child has.
        best = Version(version.key, version.tag, version.tree, version.uid)
        row = _row(connection, project, best)
        row = row if row and row["best"] else None
    if row is None:
        raise _missing(connection, project, version)
    document = unpacked(row["document"])
    tags = artifact_tags.of(connection, row["id"])
    if version.tag in tags:
        part(document, "metadata")["tag"] = version.tag
    return document


def _row(connection: sqlite3.Connection, project: str, version: Version) -> sqlite3.Row | None:
    conditions = _meant(project, version)
    # A uid or a tree says which version is meant; "latest" is what clients add without being asked.
    exact = version.uid or version.tree
    if version.tag and not (exact and version.tag == LATEST):
        _tagged(conditions, project, version.key, version.tag)
    found: sqlite3.Row | None = select(
        connection,
        "SELECT a.id, a.best, a.document FROM artifacts a",
        conditions,
        "ORDER BY a.best DESC, a.updated DESC, a.id DESC",
        Page(1),
    ).fetchone()
    return found


def _meant(project: str, version: Version) -> Conditions:
    conditions = Conditions()
    conditions.equal("a.project", project)
    conditions.equal("a.key", version.key)
    conditions.equal("a.tree", version.tree or None)
    conditions.equal("a.uid", version.uid or None)
    conditions.equal("a.iteration", version.iteration)
    return conditions


def _tagged(conditions: Conditions, project: str, key: str, tag: str) -> None:
    tagged = "SELECT artifact FROM artifact_tags WHERE project = ? AND key = ? AND name = ?"
    conditions.add(f"a.id IN ({tagged})", project, key, tag)


def _missing(connection: sqlite3.Connection, project: str, version: Version) -> NotFound:
    rows = connection.execute("SELECT DISTINCT key FROM artifacts WHERE project = ?", (project,))
    keys = [row["key"] for row in rows]
    uri = f"{project}/{version.key}"
    if version.iteration:
        uri += f"#{version.iteration}"
    for mark, name in ((":", version.tag), ("@", version.tree), ("^", version.uid)):
        uri += f"{mark}{name}" if name else ""
    message, near = f"Artifact {uri} not found", near_names(version.key, keys)
    if version.key in keys:
        tags = artifact_tags.of_key(connection, project, version.key)
        message += f"; {version.key} has the tags {', '.join(tags) or '(none)'}"
    elif near:
        message += f"; there is {', '.join(near)}"
    return NotFound(message, near=near)


def _listed(connection: sqlite3.Connection, search: ArtifactSearch, page: Page) -> list[Document]:
    documents = []
    for row in artifact_search.rows(connection, search, page):
        stored = connection.execute("SELECT document FROM artifacts WHERE id = ?", (row["id"],))
        document = unpacked(stored.fetchone()["document"])
        if row["tag"]:
            part(document, "metadata")["tag"] = row["tag"]
        documents.append(document)
    return documents


def _delete(connection: sqlite3.Connection, project: str, version: Version) -> None:
    conditions = _meant(project, version)
    if version.tag and version.tag != "*" and not version.uid:
        _tagged(conditions, project, version.key, version.tag)
    rows = select(connection, "SELECT a.id FROM artifacts a", conditions).fetchall()
    _forget(connection, {row["id"] for row in rows})


def _forget(connection: sqlite3.Connection, rows: Iterable[int]) -> None:
    connection.executemany("DELETE FROM artifacts WHERE id = ?", [(row,) for row in rows])
