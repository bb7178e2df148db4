"""Which artifacts a listing asks for, as SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from stoker.nouns.errors import BadRequest
from stoker.store.catalog import labels
from stoker.store.catalog.conditions import ALL, Conditions, Page, like, select

KINDS: Mapping[str, tuple[tuple[str, ...], bool]] = {
    "model": (("model", "link"), False),
    "dataset": (("dataset", "link"), False),
    "document": (("document", "link"), False),
    "llm-prompt": (("llm-prompt", "link"), False),
    "other": (("model", "dataset", "document", "llm-prompt"), True),
}
"""MLRun's categories: their kinds, and whether these are the ones left out."""
_ORDER = {"created": "a.created", "updated": "a.updated"}


@dataclass(frozen=True, slots=True)
class Partition:
    """Only the first ``rows`` of each key, by ``sort`` (``created`` or ``updated``)."""

    rows: int = 1
    sort: str = "updated"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class ArtifactSearch:
    """A listing's conditions; what is None or empty is not asked for.

    Attributes:
        name: a key, or ``~part`` of one in any case.
        tag: a tag; ``*`` is every one.
        labels: ``name`` or ``name=value``, all of which must be there.
        since: updated at that time or later, seconds since 1970.
        until: updated at that time or earlier.
        category: one of `KINDS`.
        tree: the id of what produced it.
        producer_uri: a part of the producer's URI.
        parent: a ``store://`` URI or ``key[:tag]`` of the artifact that it belongs to.
    """

    project: str
    name: str | None = None
    tag: str | None = None
    labels: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    kind: str | None = None
    category: str | None = None
    iteration: int | None = None
    best_iteration: bool = False
    tree: str | None = None
    producer_uri: str | None = None
    parent: str | None = None
    partition: Partition | None = None


def rows(
    connection: sqlite3.Connection, search: ArtifactSearch, page: Page = ALL
) -> list[sqlite3.Row]:
    """``id`` and ``tag`` of what was asked for, the newest first; a row for each tag.

    Raises:
        BadRequest: two conditions contradict each other, or a category is none of MLRun's.
    """
    conditions = _conditions(connection, search)
    columns = "a.id, a.updated, t.name AS tag"
    # The index of tags is the shorter way in when one is asked for.
    join = "JOIN" if _one_tag(search.tag) else "LEFT JOIN"
    tables = f"artifacts a {join} artifact_tags t ON t.artifact = a.id"
    if search.partition is None:
        order = "ORDER BY a.updated DESC, a.id DESC, t.name"
        head = " ".join(("SELECT", columns, "FROM", tables))
        return select(connection, head, conditions, order, page).fetchall()
    ranked = _ranked(columns, tables, conditions, search.partition)
    outer = Conditions()
    outer.values = conditions.values[:]
    outer.add("place <= ?", search.partition.rows)
    order = "ORDER BY updated DESC, id DESC, tag"
    head = " ".join(("SELECT id, tag FROM (", ranked, ")"))
    return select(connection, head, outer, order, page).fetchall()


def tags_in_use(connection: sqlite3.Connection, project: str, category: str | None) -> list[str]:
    """The tags of a project's artifacts, of one category if it is given."""
    conditions = Conditions()
    conditions.equal("a.project", project)
    _add_category(conditions, category)
    found = select(
        connection,
        "SELECT DISTINCT t.name FROM artifacts a JOIN artifact_tags t ON t.artifact = a.id",
        conditions,
        "ORDER BY t.name",
    )
    return [row["name"] for row in found]


def _conditions(connection: sqlite3.Connection, search: ArtifactSearch) -> Conditions:
    if search.kind and search.category:
        raise BadRequest("Category and Kind filters can't be given together")
    if search.best_iteration and search.iteration is not None:
        raise BadRequest("Best iteration cannot be used when iter is specified")
    conditions = Conditions()
    conditions.equal("a.project", search.project)
    conditions.named("a.key", search.name)
    if _one_tag(search.tag):
        conditions.add("t.project = ? AND t.name = ?", search.project, search.tag)
    labels.match(conditions, "artifact", "a.id", search.labels)
    conditions.within("a.updated", search.since, search.until)
    conditions.equal("a.kind", search.kind or None)
    _add_category(conditions, search.category)
    conditions.equal("a.iteration", search.iteration)
    if search.best_iteration:
        conditions.add("a.best")
    conditions.equal("a.tree", search.tree or None)
    if search.producer_uri:
        conditions.add(
            "(a.producer_uri = '' OR a.producer_uri LIKE ? ESCAPE '\\')", like(search.producer_uri)
        )
    if search.parent:
        _add_parent(connection, conditions, search.project, search.parent)
    return conditions


def _one_tag(tag: str | None) -> bool:
    return bool(tag) and tag != "*"


def _add_category(conditions: Conditions, category: str | None) -> None:
    if not category:
        return
    if category not in KINDS:
        raise BadRequest(f"category must be one of {', '.join(KINDS)}, was {category!r}")
    kinds, left_out = KINDS[category]
    conditions.one_of("a.kind", kinds, but=left_out)


def _add_parent(
    connection: sqlite3.Connection, conditions: Conditions, project: str, parent: str
) -> None:
    if parent.startswith("store://"):
        conditions.add("a.parent_uri = ?", parent)
        return
    key, _, tag = parent.partition(":")
    found = connection.execute(
        "SELECT a.uid FROM artifacts a JOIN artifact_tags t ON t.artifact = a.id"
        " WHERE t.project = ? AND t.key = ? AND t.name = ?",
        (project, key, tag or "latest"),
    )
    # A child names its parent by the uid, which is what the tag points at today.
    uris = [like(f"/{key}") + like(f"^{row['uid']}")[1:] for row in found]
    marks = " OR ".join(["a.parent_uri LIKE ? ESCAPE '\\'"] * len(uris))
    conditions.add(f"({marks})" if uris else "FALSE", *uris)


def _ranked(columns: str, tables: str, conditions: Conditions, partition: Partition) -> str:
    if partition.sort not in _ORDER:
        raise BadRequest(f"partition-sort-by must be created or updated, was {partition.sort!r}")
    direction = "DESC" if partition.descending else "ASC"
    # A version with two tags is one version: both of its rows have the same place.
    place = (
        f"DENSE_RANK() OVER (PARTITION BY a.project, a.key "
        f"ORDER BY {_ORDER[partition.sort]} {direction}, a.id {direction}) AS place"
    )
    return " ".join(("SELECT", columns + ",", place, "FROM", tables, conditions.text))
