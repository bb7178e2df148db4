"""Queries put together from constant fragments; values only ever travel as parameters."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a listing: ``size`` rows after the first ``start``; all of them without a size."""

    size: int | None = None
    start: int = 0


ALL = Page()


class Conditions:
    """What a query asks for, all of it."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.values: list[Value] = []

    def add(self, text: str, *values: Value) -> None:
        """One more condition, with a ``?`` for each value."""
        self._texts.append(text)
        self.values += values

    def equal(self, column: str, value: Value) -> None:
        """The column has this value; None asks for nothing."""
        if value is not None:
            self.add(f"{column} = ?", value)

    def within(self, column: str, earliest: float | None, latest: float | None) -> None:
        """The column lies between the two, ends included; None is open."""
        if earliest is not None:
            self.add(f"{column} >= ?", earliest)
        if latest is not None:
            self.add(f"{column} <= ?", latest)

    def one_of(self, column: str, values: Sequence[str], *, but: bool = False) -> None:
        """The column has one of the values, or with ``but`` none of them."""
        marks = ", ".join("?" * len(values))
        self.add(f"{column} {'NOT IN' if but else 'IN'} ({marks})", *values)

    def named(self, column: str, name: str | None) -> None:
        """The column is the name; a name that starts with ``~`` is looked for inside, in any case.

        None and the empty name ask for nothing.
        """
        if not name:
            return
        if name.startswith("~"):
            self.add(f"{column} LIKE ? ESCAPE '\\'", like(name[1:]))
        else:
            self.add(f"{column} = ?", name)

    @property
    def text(self) -> str:
        """The WHERE clause, empty when nothing was asked for."""
        return "WHERE " + " AND ".join(self._texts) if self._texts else ""


def like(part: str) -> str:
    """The pattern of everything that contains ``part``, which may hold LIKE's own signs."""
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def select(
    connection: sqlite3.Connection,
    head: str,
    conditions: Conditions,
    tail: str = "",
    page: Page = ALL,
) -> sqlite3.Cursor:
    """Runs ``head WHERE … tail`` for one page."""
    # LIMIT -1 is SQLite's "all", needed for an OFFSET to be understood.
    limit = -1 if page.size is None else page.size
    text = " ".join((head, conditions.text, tail, "LIMIT ? OFFSET ?"))
    return connection.execute(text, [*conditions.values, limit, page.start])
