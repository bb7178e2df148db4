"""``stoker ci traffic``: what is recorded of a function, and forgetting it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stoker.quality.recorded import RecordedSet

HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="DIR", help="The platform's home (STOKER_HOME, ~/.stoker)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The function's name.")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--record", metavar="FOLDER", help="A copy of its recording; the home's own."),
]


def traffic(
    name: NameArgument,
    record: FolderOption = None,
    forget: Annotated[bool, typer.Option("--forget", help="Delete what is recorded.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is recorded of a function's traffic, or delete it."""
    from stoker.cli.failure import Failure
    from stoker.cli.text import console, print_json, size
    from stoker.quality import recorded

    folder = folder_of(name, home, record)
    if forget:
        try:
            freed = recorded.forget(folder)
        except OSError as exc:
            raise Failure(f"{folder} cannot be emptied: {exc}") from exc
        if as_json:
            print_json({"forgotten_bytes": freed})
        else:
            console().print(f"[green]✓[/] {size(freed)} of recorded traffic are deleted")
        return
    found = recorded.describe(folder)
    if as_json:
        print_json({"folder": str(folder), **found.model_dump(mode="json")})
    else:
        console().print(_words(name, folder, found))


def folder_of(name: str, home: str | None, record: Path | None) -> Path:
    """Where the recording of a function lies.

    Raises:
        Failure: there is no such folder.
    """
    from stoker.cli.failure import Failure
    from stoker.nouns.home import Home

    if record is None:
        return Home.at(home).function_traffic(name)
    if not record.is_dir():
        raise Failure(f"--record must be a folder, was {record}")
    return record


def _words(name: str, folder: Path, found: RecordedSet) -> str:
    from rich.markup import escape

    from stoker.cli.text import size

    if found.first is None or found.last is None:
        return f"nothing is recorded of {name}; it is off until STOKER_RECORD is set (share=0.1)"
    lines = [
        f"[bold]{found.requests}[/] requests of {escape(name)}, {size(found.bytes)}, "
        f"{_clock(found.first)} – {_clock(found.last)}",
        f"  revisions  {_counts({str(k): v for k, v in found.revisions.items()})}",
        f"  asked by   {escape(_counts(found.senders))}",
    ]
    if found.altered:
        lines.append(f"  redacted   {found.altered} requests were changed before they were written")
    if found.unreadable:
        lines.append(f"  unreadable {found.unreadable} lines")
    if found.declared is not None:
        spec = found.declared
        rules = ", ".join(rule.words for rule in spec.redact) or "no rules of redaction"
        lines.append(
            f"  declared   {100 * spec.share:g} % of the requests, at most {size(spec.max_bytes)}, "
            f"kept {spec.keep_s / 86400:g} days; {escape(rules)}"
        )
    return "\n".join([*lines, f"  folder     {escape(str(folder))}"])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _clock(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
