"""``stoker queue``: streams, what was given up, what is read again."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from stoker.cli import examples
from stoker.nouns.errors import BadRequest
from stoker.nouns.quantity import parse_duration
from stoker.nouns.stream import stream_name

app = typer.Typer(
    name="queue",
    help="Streams: the queues between functions.",
    epilog=examples.of("queue"),
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="DIR", help="The platform's home (STOKER_HOME, ~/.stoker)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StreamArgument = Annotated[
    str, typer.Argument(metavar="STREAM", help="Its name: <container>/<path>.")
]
GroupOption = Annotated[
    str, typer.Option("--group", metavar="GROUP", help="The consumer group, if there are several.")
]
_RECORDS = 20
"""Of a shard, shown unless more are asked for."""
_SHOWN = 60
"""Characters of a record in a table."""


@app.command(epilog=examples.of("queue ls"))
def ls(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List streams and how far their consumer groups are."""
    from stoker.cli.client import Client
    from stoker.cli.table import Table, screen_width
    from stoker.cli.text import console, print_json, size

    streams = Client.control(home).get("/api/streams")["streams"]
    if as_json:
        print_json(streams)
        return
    if not streams:
        console().print("no streams: a graph's queue step makes one when it is deployed")
        return
    numbers = ("SHARDS", "RECORDS", "BYTES", "LAG", "PENDING", "DEAD")
    rows = Table(
        *("STREAM", "SHARDS", "RECORDS", "BYTES", "GROUP", "LAG", "PENDING", "DEAD", "READ BY"),
        right=numbers,
        spare=("BYTES", "READ BY", "SHARDS", "RECORDS"),
    )
    for stream in streams:
        for group in stream["groups"] or [{"name": "-"}]:
            rows.add(
                _cell(stream["name"]),
                str(stream["shards"]),
                str(stream["records"]),
                size(stream["bytes"]),
                _cell(group["name"]),
                str(group.get("lag", "-")),
                str(group.get("pending", "-")),
                _dead(group.get("dead")),
                _cell(", ".join(group.get("functions", [])) or "-"),
            )
    console().print(rows.text(screen_width()))


@app.command(epilog=examples.of("queue show"))
def show(
    stream: StreamArgument,
    shard: Annotated[int | None, typer.Option(min=0, help="Show this shard's records.")] = None,
    first: Annotated[
        int | None, typer.Option("--from", min=1, help="Of the shard's records, from this one on.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Of the shard's records, at most so many; 20."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a stream's shards, or the records of one."""
    from stoker.cli.client import Client
    from stoker.cli.failure import EXIT_USAGE, Failure
    from stoker.cli.table import screen_width
    from stoker.cli.text import console, print_json

    if shard is None and (first or limit):
        raise Failure(
            "--from and --limit choose records of one shard: name it with --shard",
            exit_code=EXIT_USAGE,
        )
    client = Client.control(home)
    if shard is None:
        found = client.get(_path(stream))
        shown = _shards(found)
    else:
        query = urlencode({"shard": shard, "from": first or 1, "limit": limit or _RECORDS})
        found = client.get(f"{_path(stream, '/records')}?{query}")
        shown = _records(found["records"])
    if as_json:
        print_json(found)
    else:
        console().print(shown.text(screen_width()))


@app.command(epilog=examples.of("queue dead"))
def dead(
    stream: StreamArgument,
    group: GroupOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the records that a consumer group gave up, oldest first."""
    from stoker.cli.client import Client
    from stoker.cli.table import Table, screen_width
    from stoker.cli.text import age, console, print_json

    query = urlencode({"group": group, "limit": limit} if group else {"limit": limit})
    found = Client.control(home).get(f"{_path(stream, '/dead')}?{query}")
    if as_json:
        print_json(found)
        return
    if not found["dead"]:
        console().print(f"{_cell(found['group'])} has given up no record of {_cell(stream)}")
        return
    rows = Table(
        *("ID", "SHARD", "RECORD", "TRIES", "AGE", "REASON", "DATA"),
        right=("SHARD", "RECORD", "TRIES", "AGE"),
        spare=("DATA", "AGE", "SHARD"),
    )
    for letter in found["dead"]:
        rows.add(
            letter["id"],
            str(letter["shard"]),
            str(letter["sequence"]),
            str(letter["tries"]),
            age(letter["diedAt"]),
            _cell(letter["reason"]),
            _data(letter),
        )
    console().print(rows.text(screen_width()))
    if found["total"] > len(found["dead"]):
        console().print(f"[dim]+{found['total'] - len(found['dead'])} more[/]")


@app.command(epilog=examples.of("queue replay"))
def replay(
    stream: StreamArgument,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Dead letters, by their ids.")
    ] = None,
    all_dead: Annotated[bool, typer.Option("--dead", help="All dead letters.")] = False,
    sequence: Annotated[
        int | None, typer.Option("--record", min=1, help="One record, by its number.")
    ] = None,
    first: Annotated[
        int | None, typer.Option("--from", min=1, help="All records from this number on.")
    ] = None,
    since: Annotated[str, typer.Option(help="All records of the last, e.g. 10m.")] = "",
    shard: Annotated[int | None, typer.Option(min=0, help="In this shard only.")] = None,
    group: GroupOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a consumer group read records again."""
    from stoker.cli.client import Client
    from stoker.cli.failure import Failure
    from stoker.cli.text import console, print_json

    body: dict[str, Any] = {"group": group} if group else {}
    if ids or all_dead:
        body["dead"] = ids or True
    if sequence is not None:
        body["sequence"] = sequence
    if first is not None:
        body["from"] = first
    if since:
        body["since"] = _ago(since)
    if shard is not None:
        body["shard"] = shard
    if not body.keys() & {"dead", "sequence", "from", "since"}:
        raise Failure("say what to replay: ids, --dead, --record, --from or --since")
    done = Client.control(home).send("POST", _path(stream, "/replay"), body).json()
    if as_json:
        print_json(done)
    elif "replayed" in done:
        what = "record is" if done["replayed"] == 1 else "records are"
        console().print(f"[green]✓[/] {done['replayed']} {what} delivered again to {done['group']}")
    else:
        places = ", ".join(f"{one}: {begin}" for one, begin in done["rewound"].items())
        console().print(f"[green]✓[/] {done['group']} reads again, shard: from {places}")
        console().print(
            "  each record once, without its retries; what fails again is one dead letter more"
        )


@app.command(epilog=examples.of("queue forget"))
def forget(
    stream: StreamArgument,
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The consumer group.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a consumer group that no function reads in any more, with its dead letters."""
    from stoker.cli.client import Client
    from stoker.cli.text import console, print_json

    place = _path(stream, f"/groups/{quote(group, safe='')}")
    done = Client.control(home).send("DELETE", place).json()
    if as_json:
        print_json(done)
    else:
        letters = "dead letter" if done["dead"] == 1 else "dead letters"
        console().print(
            f"[green]✓[/] {_cell(done['group'])} is forgotten, and {done['dead']} {letters} with it"
        )


def _path(stream: str, rest: str = "") -> str:
    """The route of a stream.

    Raises:
        Failure: none is named like that.
    """
    from stoker.cli.failure import EXIT_USAGE, Failure

    container, _, path = stream.strip("/").partition("/")
    try:
        return f"/api/streams/{quote(stream_name(container, path))}{rest}"
    except BadRequest as exc:
        message = (
            exc.message
            if container and path
            else (f"a stream is named <container>/<path>, was {stream!r}")
        )
        raise Failure(message, hint="stoker queue ls", exit_code=EXIT_USAGE) from exc


def _ago(text: str) -> float:
    import time

    from stoker.cli.failure import Failure

    try:
        return time.time() - parse_duration(text)
    except ValueError as exc:
        raise Failure(f"--since {exc}") from exc


def _shards(found: dict[str, Any]) -> Any:
    from stoker.cli.table import Table

    rows = Table(
        *("SHARD", "FIRST", "LAST", "RECORDS", "GROUP", "DELIVERED", "PENDING", "LAG", "READ BY"),
        right=("SHARD", "FIRST", "LAST", "RECORDS", "DELIVERED", "PENDING", "LAG"),
        spare=("FIRST", "RECORDS", "READ BY"),
    )
    for shard in found["shardStates"]:
        for group in shard["groups"] or [{"name": "-"}]:
            rows.add(
                *(str(shard[key]) for key in ("shard", "first", "last", "records")),
                _cell(group["name"]),
                *(str(group.get(key, "-")) for key in ("delivered", "pending", "lag")),
                _cell(group.get("consumer") or "-"),
            )
    return rows


def _records(records: list[dict[str, Any]]) -> Any:
    from stoker.cli.table import Table
    from stoker.cli.text import age, size

    rows = Table(
        *("RECORD", "AGE", "BYTES", "KEY", "DATA"),
        right=("RECORD", "AGE", "BYTES"),
        spare=("KEY", "BYTES"),
    )
    for record in records:
        rows.add(
            str(record["sequence"]),
            age(record["arrivedAt"]),
            size(record["bytes"]),
            _cell(record.get("key", "-")),
            _data(record),
        )
    return rows


def _data(record: dict[str, Any]) -> str:
    text = record.get("text") or f"base64:{record.get('base64', '')}"
    return _cell(text)


def _cell(text: str) -> str:
    """Somebody's text as a cell of one line, none of it markup."""
    from rich.markup import escape

    from stoker.cli.text import printable

    line = printable(text).replace("\n", "⏎").replace("\t", " ")
    return escape(line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…")


def _dead(count: int | None) -> str:
    return "-" if count is None else f"[red]{count}[/]" if count else "0"
