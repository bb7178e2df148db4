"""Tables that fit: no frame, no trailing blanks, unimportant columns left out when narrow."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

GAP = "  "


def screen_width() -> int | None:
    """Columns of the terminal, or ``COLUMNS``; None for a pipe, which has room for everything."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return None
    from rich.console import Console

    return Console().width


class Table:
    """Rows of cells in rich's markup.

    Args:
        columns: the headers.
        right: those whose cells stand to the right, as numbers do.
        spare: those that may be left out, the first of them first.
    """

    def __init__(self, *columns: str, right: Sequence[str] = (), spare: Sequence[str] = ()) -> None:
        self._columns = columns
        self._right = frozenset(right)
        self._spare = tuple(column for column in spare if column in columns)
        self._rows: list[dict[str, Text]] = []

    def add(self, *cells: str) -> None:
        """One row, a cell a column."""
        from rich.text import Text

        texts = map(Text.from_markup, cells)
        self._rows.append(dict(zip(self._columns, texts, strict=True)))

    def lines(self, width: int | None = None) -> list[Text]:
        """The header and the rows, in at most ``width`` columns if leaving out can do it."""
        from rich.text import Text

        widths = {
            column: max([len(column), *(row[column].cell_len for row in self._rows)])
            for column in self._columns
        }
        kept = self._kept(widths, width)
        head = {column: Text(column, style="bold") for column in kept}
        return [self._line(row, kept, widths) for row in (head, *self._rows)]

    def text(self, width: int | None = None) -> Text:
        """The lines as one."""
        from rich.text import Text

        return Text("\n").join(self.lines(width))

    def _kept(self, widths: dict[str, int], width: int | None) -> list[str]:
        kept = list(self._columns)
        for column in self._spare:
            if width is None or sum(widths[c] for c in kept) + len(GAP) * (len(kept) - 1) <= width:
                break
            kept.remove(column)
        return kept

    def _line(self, row: dict[str, Text], kept: list[str], widths: dict[str, int]) -> Text:
        from rich.text import Text

        cells = []
        for column in kept:
            cell = row[column].copy()
            cell.align("right" if column in self._right else "left", widths[column])
            cells.append(cell)
        line = Text(GAP).join(cells)
        line.rstrip()
        return line
