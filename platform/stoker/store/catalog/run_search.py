"""Which runs a listing asks for, as SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from stoker.nouns.errors import BadRequest
from stoker.store.catalog import labels
from stoker.store.catalog.conditions import ALL, Conditions, Page, select

_BY = {"name": "r.name", "project_and_name": "r.project, r.name"}
_ORDER = {"created": "r.started", "updated": "r.updated"}


@dataclass(frozen=True, slots=True)
class RunPartition:
    """Only the first ``rows`` of each name, of at most ``partitions`` names (0: all of them)."""

    by: str = "project_and_name"
    rows: int = 1
    sort: str = "updated"
    descending: bool = True
    partitions: int = 0


@dataclass(frozen=True, slots=True)
class RunSearch:
    """A listing's conditions; what is None or empty is not asked for.

    Attributes:
        project: ``*`` is every one.
        name: a name, or ``~part`` of one in any case.
        iterations: the iterations of hyper-parameter runs too.
        started: earliest and latest start, seconds since 1970; `updated` and `ended` alike.
        sort: the newest start first; else in the order of storing.
        notified: only runs with notifications.
    """

    project: str
    name: str | None = None
    uids: Sequence[str] = ()
    labels: Sequence[str] = ()
    states: Sequence[str] = ()
    iterations: bool = True
    started: tuple[float | None, float | None] = (None, None)
    updated: tuple[float | None, float | None] = (None, None)
    ended: tuple[float | None, float | None] = (None, None)
    sort: bool = True
    notified: bool = False
    partition: RunPartition | None = None


def rows(connection: sqlite3.Connection, search: RunSearch, page: Page = ALL) -> list[sqlite3.Row]:
    """``project``, ``uid`` and ``document`` of what was asked for.

    Raises:
        BadRequest: the partition is none of MLRun's.
    """
    conditions = _conditions(search)
    order = "ORDER BY r.started DESC, r.id DESC" if search.sort else "ORDER BY r.id"
    columns = "SELECT r.project, r.uid, r.document FROM runs r"
    if search.partition is None:
        return select(connection, columns, conditions, order, page).fetchall()
    chosen = _chosen(connection, conditions, search.partition)
    outer = Conditions()
    # As one value: the number of ? in a query is limited, that of runs is not.
    outer.add("r.id IN (SELECT value FROM json_each(?))", f"[{','.join(map(str, chosen))}]")
    return select(connection, columns, outer, order, page).fetchall()


def _conditions(search: RunSearch) -> Conditions:
    conditions = Conditions()
    if search.project != "*":
        conditions.equal("r.project", search.project)
    conditions.named("r.name", search.name)
    if search.uids:
        conditions.one_of("r.uid", search.uids)
    if search.states:
        conditions.one_of("r.state", search.states)
    if not search.iterations:
        conditions.add("r.iteration = 0")
    labels.match(conditions, "run", "r.id", search.labels)
    conditions.within("r.started", *search.started)
    conditions.within("r.updated", *search.updated)
    conditions.within("r.ended", *search.ended)
    if search.notified:
        document = "CAST(r.document AS TEXT)"
        conditions.add(f"json_array_length({document}, '$.spec.notifications') > 0")
    return conditions


def _chosen(
    connection: sqlite3.Connection, conditions: Conditions, partition: RunPartition
) -> list[int]:
    if partition.by not in _BY:
        raise BadRequest(f"partition-by must be one of {', '.join(_BY)}, was {partition.by!r}")
    if partition.sort not in _ORDER:
        raise BadRequest(f"partition-sort-by must be created or updated, was {partition.sort!r}")
    by, column = _BY[partition.by], _ORDER[partition.sort]
    direction = "DESC" if partition.descending else "ASC"
    place = f"ROW_NUMBER() OVER (PARTITION BY {by} ORDER BY {column} {direction}, r.id {direction})"
    inner = f"r.id, r.project, r.name, {column} AS moment, {place} AS place"
    outer = Conditions()
    outer.values = conditions.values[:]
    outer.add("place <= ?", partition.rows)
    ranked = " ".join(("SELECT", inner, "FROM runs r", conditions.text))
    head = " ".join(("SELECT id, project, name, moment FROM (", ranked, ")"))
    found = select(connection, head, outer).fetchall()
    names = _kept_names(found, partition)
    return [row["id"] for row in found if _name(row, partition) in names]


def _name(row: sqlite3.Row, partition: RunPartition) -> tuple[str, ...]:
    return (row["name"],) if partition.by == "name" else (row["project"], row["name"])


def _kept_names(found: list[sqlite3.Row], partition: RunPartition) -> set[tuple[str, ...]]:
    newest: dict[tuple[str, ...], float] = {}
    for row in found:
        name = _name(row, partition)
        newest[name] = max(newest.get(name, 0.0), row["moment"])
    kept = sorted(newest, key=lambda name: newest[name], reverse=True)
    return set(kept[: partition.partitions or None])
