"""``stoker rollout``: how a canary stands, and its end by hand."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from stoker.cli import examples

app = typer.Typer(
    name="rollout",
    help="Canaries: new revisions on a share of the traffic.",
    epilog=examples.of("rollout"),
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="DIR", help="The platform's home (STOKER_HOME, ~/.stoker)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The function's name.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the history.")]
WaitOption = Annotated[bool, typer.Option(help="Wait until it is done.")]
POLL_S = 0.5
DONE_WITHIN_S = 300.0
"""A promotion first starts the replicas that the old revision has."""
_GOOD = ("promoted",)


@app.command(epilog=examples.of("rollout status"))
def status(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A function; all canaries without it.")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Until the canary is over; exit status 1 unless it was promoted."
        ),
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a function's canary with its evidence, and what became of earlier ones."""
    from stoker.cli.client import Client
    from stoker.cli.failure import EXIT_USAGE, Failure
    from stoker.cli.text import console, print_json

    client = Client.control(home)
    if name is None:
        if wait:
            raise Failure("--wait needs the function's name", exit_code=EXIT_USAGE)
        found = client.get("/api/rollouts")
        lines = [_canary(function, row) for function, row in found.items()] or ["no canaries"]
    else:
        found = _until_over(client, name, None) if wait else client.get(_path(name))
        lines = _lines(found)
    if as_json:
        print_json(found)
    else:
        for line in lines:
            console().print(line, markup=False)
    if wait and not (found["history"] and found["history"][-1]["step"] in _GOOD):
        raise typer.Exit(1)


@app.command(epilog=examples.of("rollout promote"))
def promote(
    name: NameArgument,
    why: WhyOption = "",
    wait: WaitOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the canary serve now, whatever was counted so far."""
    _ask(name, "promote", why, home, wait=wait, as_json=as_json)


@app.command(epilog=examples.of("rollout abort"))
def abort(
    name: NameArgument,
    why: WhyOption = "",
    wait: WaitOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End the canary; what serves goes on serving."""
    _ask(name, "abort", why, home, wait=wait, as_json=as_json)


def _ask(name: str, verb: str, why: str, home: str | None, *, wait: bool, as_json: bool) -> None:
    from stoker.cli.client import Client
    from stoker.cli.text import console, print_json

    client = Client.control(home)
    found = client.send("POST", f"{_path(name)}/{verb}", {"why": why}).json()
    if wait:
        found = _until_over(client, name, DONE_WITHIN_S)
    if as_json:
        print_json(found)
    elif wait:
        console().print(_event(found["history"][-1]), markup=False)
    else:
        console().print(f"{name}: asked to {verb}", markup=False)


def _until_over(client: Any, name: str, limit_s: float | None) -> dict[str, Any]:
    """The rollout once there is no canary any more.

    Raises:
        Failure: not within ``limit_s`` seconds.
    """
    from stoker.cli.failure import Failure

    began = time.monotonic()
    while True:
        found: dict[str, Any] = client.get(_path(name))
        if found["canary"] is None:
            return found
        if limit_s is not None and time.monotonic() - began > limit_s:
            raise Failure(
                f"the canary of {name} was not over within {limit_s:g} s; it may still be"
            )
        time.sleep(POLL_S)


def _path(name: str) -> str:
    return f"/api/rollouts/{quote(name)}"


def _lines(found: dict[str, Any]) -> list[str]:
    row = found["canary"]
    serving = found["servingRevision"]
    lines = [f"{found['function']}: revision {serving} serves, no canary"]
    if row is not None:
        lines = [_canary(found["function"], row)]
        lines += [_side("canary", row["evidence"]["canary"])]
        lines += [_side("serving", row["evidence"]["stable"])]
        lines += _mirror(row)
        lines.append(f"  {row['verdict']}")
    return lines + [_event(event) for event in found["history"]]


def _canary(function: str, row: dict[str, Any]) -> str:
    from stoker.cli.text import printable, seconds

    asked = f", asked to {row['asked']['verb']}" if row["asked"] else ""
    return printable(
        f"{function}: revision {row['revision']} gets {100 * row['share']:g} % beside revision "
        f"{row['servingRevision']}, for {seconds(row['ranS'])} of "
        f"{seconds(row['spec']['length_s'])}{asked}"
    )


def _mirror(row: dict[str, Any]) -> list[str]:
    if not row["spec"]["mirror"]:
        return []
    seen = row["evidence"]
    return [
        f"  mirrored {seen['mirrored']}, differing {seen['differing']}, unanswered "
        f"{seen['mirror_failed']}, not copied {seen['mirror_dropped']}"
    ]


def _side(title: str, side: dict[str, Any]) -> str:
    return (
        f"  {title:<8} {side['requests']} requests, {side['errors']} failed, "
        f"p50 {_milliseconds(side['p50_ms'])}, p95 {_milliseconds(side['p95_ms'])}"
    )


def _milliseconds(value: float | None) -> str:
    from stoker.cli.text import seconds

    return seconds(None if value is None else value / 1e3)


def _event(event: dict[str, Any]) -> str:
    from datetime import datetime

    from stoker.cli.text import printable

    clock = datetime.fromtimestamp(event["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    step = event["step"].replace("_", " ")
    return printable(
        f"{clock}  revision {event['revision']} {step} by {event['who']}: {event['why']}"
    )
