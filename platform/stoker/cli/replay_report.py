"""How the result of a replay is shown: on the terminal, as JSON, as Markdown."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.cli.failure import EXIT_USAGE, Failure
from stoker.cli.text import printable, seconds

if TYPE_CHECKING:
    from stoker.quality.replay_result import Place, ReplayItem, ReplayResult

_ON_SCREEN = 5
"""Requests that the terminal shows; the report has more."""
_PLACES = 3
_COUNTS = (
    ("identical", "green"),
    ("within", "green"),
    ("different", "red"),
    ("altered", "yellow"),
    ("failed", "red"),
)
_TITLES = {"within": "within tolerance", "altered": "not comparable"}


def check(path: Path) -> None:
    """Whether such a report can be written there; asked before hours are spent on it.

    Raises:
        Failure: the file's name has no form of a report, or its folder takes none.
    """
    if path.suffix not in (".json", ".md"):
        raise Failure(f"--report must end in .json or .md, was {path.name}", exit_code=EXIT_USAGE)
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as exc:
        raise Failure(f"--report: {path.parent} cannot be written to: {exc}") from exc


def write(path: Path, result: ReplayResult) -> None:
    """Writes the report, in the form that the file's name asks for.

    Raises:
        Failure: the file cannot be written.
    """
    text = result.model_dump_json(indent=2) if path.suffix == ".json" else markdown(result)
    try:
        path.write_text(text)
    except OSError as exc:
        raise Failure(f"the report cannot be written: {exc}") from exc


def shown(result: ReplayResult) -> Iterator[Any]:
    """Blocks for the terminal."""
    from rich.markup import escape
    from rich.table import Table

    style = {0: "green", 3: "red"}.get(result.exit_code, "yellow")
    yield f"[{style} bold]{escape(result.words)}[/]"
    yield f"  {escape(printable(result.baseline))}  →  {escape(printable(result.candidate))}"
    table = Table(box=None, pad_edge=False)
    for name, _ in _COUNTS:
        table.add_column(_TITLES.get(name, name).upper(), justify="right")
    counts = [(getattr(result, name), colour) for name, colour in _COUNTS]
    table.add_row(*(f"[{colour}]{n}[/]" if n else "0" for n, colour in counts))
    yield table
    yield f"[dim]  {_facts(result)}[/]"
    for note in result.notes:
        yield f"[yellow]  {escape(note)}[/]"
    for item in result.items[:_ON_SCREEN]:
        yield _item(item)
    if len(result.items) > _ON_SCREEN:
        yield "[dim]  more in the report: --report FILE.md[/]"


def _facts(result: ReplayResult) -> str:
    facts = [
        f"{result.sent} requests in {seconds(result.seconds)}",
        f"tolerance {result.tolerance:g}",
        f"largest distance of those that are the same {result.largest:.2g}",
    ]
    return ", ".join(facts + [f"ignored {', '.join(result.ignore)}"] * bool(result.ignore))


def _item(item: ReplayItem) -> str:
    from rich.markup import escape

    def cell(text: str) -> str:
        flat = printable(" ".join(text.split()))
        return escape(flat if len(flat) <= 160 else f"{flat[:159]}…")

    head = f"#{item.item} {item.outcome}: {item.method} {item.path}  ({item.sender})"
    lines = ["", f"[bold]{cell(head)}[/]", f"  request    {cell(item.request)}"]
    if item.error:
        return "\n".join([*lines, f"  [red]{cell(item.error)}[/]"])
    lines += [f"  baseline   {cell(item.baseline)}", f"  candidate  {cell(item.candidate)}"]
    for place in item.places[:_PLACES]:
        change = f"{place.baseline} → {place.candidate}"
        lines.append(f"  [cyan]{cell(place.path)}[/]  {cell(change)}  ({place.distance:.3g})")
    if item.place_count > _PLACES:
        lines.append(f"  [dim]and {item.place_count - _PLACES} more places[/]")
    return "\n".join(lines)


def markdown(result: ReplayResult) -> str:
    """The report as Markdown."""
    titles = [_TITLES.get(name, name) for name, _ in _COUNTS]
    counts = [str(getattr(result, name)) for name, _ in _COUNTS]
    lines = [
        f"# Replay of {result.function}: {result.words}",
        "",
        f"{result.baseline} → {result.candidate}",
        "",
        f"| {' | '.join(titles)} |",
        f"|{'---:|' * len(titles)}",
        f"| {' | '.join(counts)} |",
        "",
        f"{_facts(result)}.",
        *[f"\n> {note}" for note in result.notes],
    ]
    for item in result.items:
        lines += ["", f"## {item.item}: {item.outcome}", ""]
        lines += [f"`{item.method} {item.path}` from {item.sender}, revision {item.revision}", ""]
        if item.error:
            lines += [item.error, ""]
        for title in ("request", "baseline", "candidate"):
            if text := getattr(item, title):
                lines += [f"{title}:", *_fenced(text)]
        if item.places:
            lines += ["", "| place | baseline | candidate | distance |", "|---|---|---|---:|"]
            lines += map(_row, item.places)
    return "\n".join(lines) + "\n"


def _row(place: Place) -> str:
    cells = (_cell(text) for text in (place.path, place.baseline, place.candidate))
    return f"| {' | '.join(cells)} | {place.distance:.3g} |"


def _fenced(text: str) -> list[str]:
    fence = "```"
    while fence in text:
        fence += "`"
    return [fence, printable(text), fence]


def _cell(text: str) -> str:
    return printable(" ".join(text.split())).replace("|", "\\|")
