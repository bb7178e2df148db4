"""Labels of any noun's rows, in one table, so that they can be searched by."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from stoker.store.catalog.conditions import Conditions, like

TABLES = """
CREATE TABLE IF NOT EXISTS labels (
    noun TEXT NOT NULL,
    owner INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (noun, owner, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS labels_by_value ON labels (noun, name, value, owner);
"""


def cleanup(noun: str, table: str) -> str:
    """A script after which deleting a row of ``table`` (by its ``id``) deletes its labels too."""
    trigger = f"CREATE TRIGGER IF NOT EXISTS {table}_labels_cleanup AFTER DELETE ON {table}"
    owned = f"noun = '{noun}' AND owner = old.id"
    return " ".join((trigger, "BEGIN DELETE FROM labels WHERE", owned, "; END;"))


def write(connection: sqlite3.Connection, noun: str, owner: int, labels: Any) -> None:
    """Makes these the labels of a row; whatever is not a mapping counts as none."""
    connection.execute("DELETE FROM labels WHERE noun = ? AND owner = ?", (noun, owner))
    if isinstance(labels, Mapping):
        connection.executemany(
            "INSERT INTO labels VALUES (?, ?, ?, ?)",
            [(noun, owner, str(name), str(value)) for name, value in labels.items()],
        )


def match(conditions: Conditions, noun: str, column: str, wanted: Sequence[str]) -> None:
    """Asks for rows (``column`` is their id) that carry all the labels wanted.

    Each is ``name`` (any value), ``name=value``, or either part as ``~part`` to look inside.
    """
    for text in wanted:
        name, equals, value = (part.strip() for part in text.partition("="))
        query, values = "SELECT owner FROM labels WHERE noun = ?", [noun]
        for field, asked in (("name", name), ("value", value)):
            if field == "value" and not equals:
                continue
            fuzzy = asked.startswith("~")
            query += f" AND {field} " + ("LIKE ? ESCAPE '\\'" if fuzzy else "= ?")
            values.append(like(asked[1:]) if fuzzy else asked)
        conditions.add(f"{column} IN ({query})", *values)
