"""MLRun's function objects: each version by its hash, each tag pointing at one version."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stoker.store.catalog import labels, times
from stoker.store.catalog.conditions import ALL, Conditions, Page, select
from stoker.store.catalog.database import Database
from stoker.store.catalog.document import Document, packed, part, text_at, unpacked

NOUN = "function"
LATEST = "latest"
EVERY_TAG = "*"
_UNVERSIONED = "unversioned-"
"""The uid of what a tag points at when its earlier versions are not to be kept."""

_OWN_TABLES = """
CREATE TABLE IF NOT EXISTS functions (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    hash TEXT NOT NULL,
    kind TEXT NOT NULL,
    updated REAL NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (project, name, uid)
);
CREATE TABLE IF NOT EXISTS function_tags (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    function INTEGER NOT NULL,
    PRIMARY KEY (project, name, tag)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS function_tags_by_function ON function_tags (function);
CREATE TRIGGER IF NOT EXISTS functions_tags_cleanup AFTER DELETE ON functions
BEGIN DELETE FROM function_tags WHERE function = old.id; END;
"""
TABLES = _OWN_TABLES + labels.cleanup(NOUN, "functions")

_LISTED = """
SELECT f.body, t.tag FROM functions f LEFT JOIN function_tags t ON t.function = f.id
"""


@dataclass(frozen=True, slots=True)
class FunctionQuery:
    """What a listing asks for; an empty field asks for nothing.

    Attributes:
        name: the name, or ``~part`` of it.
        tag: a tag, or `EVERY_TAG` for all that have one.
        labels: ``name`` or ``name=value``, all of them wanted.
        since, until: of the last store, seconds since 1970.
    """

    project: str
    name: str = ""
    tag: str = ""
    kind: str = ""
    hash_key: str = ""
    labels: Sequence[str] = ()
    since: float | None = None
    until: float | None = None
    page: Page = ALL


class StoredFunctions:
    """Function objects of all projects, whole, as their clients sent them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(
        self,
        project: str,
        name: str,
        function: Document,
        *,
        tag: str = "",
        versioned: Sequence[bool] = (False,),
    ) -> str:
        """Keeps the object under its tag (its own, else ``latest``); its hash.

        Args:
            project: the project.
            name: the function's name.
            function: the object; it is not changed.
            tag: wins over the object's own tag.
            versioned: for each, once: True keeps this version for good, found by its hash; False
                replaces what was kept for the tag. The tag points at the last.

        Raises:
            InsufficientStorage: the disk is full.
            StoreUnavailable: the catalog cannot be written.
        """
        now = times.now()
        tag = tag or text_at(function, "metadata", "tag") or LATEST

        # All of it in the catalog's thread: of a large object already the hash takes its time.
        def write(connection: sqlite3.Connection) -> str:
            key = function_hash(function)
            # Another version may take the tag later: the object must not go on claiming it.
            own = {"name": name, "project": project, "tag": "", "hash": key}
            metadata = {**_metadata(function), **own, "updated": now.isoformat()}
            body = packed(function | {"metadata": metadata})
            for keep in versioned:
                uid = key if keep else f"{_UNVERSIONED}{tag}"
                row = (project, name, uid, key, _kind(function), now.timestamp(), body)
                _put(connection, row, tag, metadata.get("labels"))
            return key

        return await self._database.run(write)

    async def get(
        self, project: str, name: str, *, tag: str = "", hash_key: str = ""
    ) -> Document | None:
        """The object of that tag, else of that hash, else ``latest``; None when there is none.

        Raises:
            StoreUnavailable: the catalog cannot be read.
        """

        def read(connection: sqlite3.Connection) -> Document | None:
            if hash_key and not tag:
                return _by_hash(connection, project, name, hash_key)
            return _by_tag(connection, project, name, tag or LATEST)

        return await self._database.run(read)

    async def search(self, query: FunctionQuery) -> list[Document]:
        """The objects asked for, once for each tag, in the order in which they were first stored.

        A version that has lost its tags has no status: what is deployed is the tags'.

        Raises:
            StoreUnavailable: the catalog cannot be read.
        """
        conditions = _conditions(query)

        def read(connection: sqlite3.Connection) -> list[Document]:
            rows = select(connection, _LISTED, conditions, "ORDER BY f.id, t.tag", query.page)
            return [_listed(unpacked(body), tag) for body, tag in rows]

        return await self._database.run(read)

    async def tags(self, project: str, name: str) -> list[str]:
        """Its tags, in order.

        Raises:
            StoreUnavailable: the catalog cannot be read.
        """
        query = "SELECT tag FROM function_tags WHERE project = ? AND name = ? ORDER BY tag"
        return await self._database.run(
            lambda connection: [row[0] for row in connection.execute(query, (project, name))]
        )

    async def names(self, project: str) -> list[str]:
        """Names of the project's functions, in order.

        Raises:
            StoreUnavailable: the catalog cannot be read.
        """
        query = "SELECT DISTINCT name FROM functions WHERE project = ? ORDER BY name"
        return await self._database.run(
            lambda connection: [row[0] for row in connection.execute(query, (project,))]
        )

    async def delete(self, project: str, name: str) -> bool:
        """Forgets a function, all its versions and tags; False if there was none.

        Raises:
            StoreUnavailable: the catalog cannot be written.
        """
        query = "DELETE FROM functions WHERE project = ? AND name = ?"
        return await self._database.run(
            lambda connection: connection.execute(query, (project, name)).rowcount > 0
        )


def count(connection: sqlite3.Connection, project: str) -> int:
    """How many functions a project has, versions not counted."""
    query = "SELECT COUNT(DISTINCT name) FROM functions WHERE project = ?"
    return int(connection.execute(query, (project,)).fetchone()[0])


def forget(connection: sqlite3.Connection, project: str) -> None:
    """Deletes a project's functions."""
    connection.execute("DELETE FROM functions WHERE project = ?", (project,))


def function_hash(function: Document) -> str:
    """The hash of an object as MLRun's client and server compute it: not over when and where.

    The same text must be hashed as there, so this is json's own spelling, with its spaces.
    """
    bare = dict(function)
    metadata: dict[str, Any] = dict(_metadata(bare))
    metadata.pop("created", None)
    bare["metadata"] = metadata | {"tag": "", "hash": "", "updated": None}
    bare["status"] = None
    text = json.dumps(bare, sort_keys=True, default=str)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _metadata(function: Document) -> Document:
    found = function.get("metadata")
    return found if isinstance(found, dict) else {}


def _kind(function: Document) -> str:
    return str(function.get("kind") or "")


def _put(
    connection: sqlite3.Connection, row: tuple[Any, ...], tag: str, own_labels: object
) -> None:
    project, name = row[:2]
    (function,) = connection.execute(
        "INSERT INTO functions (project, name, uid, hash, kind, updated, body) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (project, name, uid) DO UPDATE SET "
        "hash = excluded.hash, kind = excluded.kind, updated = excluded.updated, "
        "body = excluded.body RETURNING id",
        row,
    ).fetchone()
    connection.execute(
        "INSERT OR REPLACE INTO function_tags VALUES (?, ?, ?, ?)", (project, name, tag, function)
    )
    labels.write(connection, NOUN, function, own_labels)


def _by_tag(connection: sqlite3.Connection, project: str, name: str, tag: str) -> Document | None:
    found = connection.execute(
        "SELECT f.body FROM functions f JOIN function_tags t ON t.function = f.id "
        "WHERE t.project = ? AND t.name = ? AND t.tag = ?",
        (project, name, tag),
    ).fetchone()
    return None if found is None else _tagged(unpacked(found[0]), tag)


def _by_hash(connection: sqlite3.Connection, project: str, name: str, key: str) -> Document | None:
    """The version kept for good under that hash; else whatever has it now."""
    found = connection.execute(
        "SELECT body FROM functions WHERE project = ? AND name = ? AND hash = ? "
        "ORDER BY uid = hash DESC, updated DESC LIMIT 1",
        (project, name, key),
    ).fetchone()
    return None if found is None else unpacked(found[0])


def _tagged(function: Document, tag: str) -> Document:
    part(function, "metadata")["tag"] = tag
    return function


def _listed(function: Document, tag: str | None) -> Document:
    if tag is None:
        function["status"] = None
        return function
    return _tagged(function, tag)


def _conditions(query: FunctionQuery) -> Conditions:
    conditions = Conditions()
    conditions.equal("f.project", query.project)
    conditions.named("f.name", query.name)
    conditions.equal("f.kind", query.kind or None)
    conditions.equal("f.hash", query.hash_key or None)
    conditions.within("f.updated", query.since, query.until)
    labels.match(conditions, NOUN, "f.id", query.labels)
    if query.tag == EVERY_TAG:
        conditions.add("t.tag IS NOT NULL")
    elif query.tag:
        conditions.equal("t.tag", query.tag)
    else:
        # What replaced its own earlier versions for a tag, and lost the tag, is nobody's any more.
        conditions.add("(t.tag IS NOT NULL OR f.uid NOT LIKE ?)", f"{_UNVERSIONED}%")
    return conditions
