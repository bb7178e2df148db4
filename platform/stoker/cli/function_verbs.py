"""``logs``, ``rm``, ``wake``, ``sleep``: one function, through the control port."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import Any
from urllib.parse import quote

from stoker.cli.client import LONG_S, Client
from stoker.cli.failure import Failure
from stoker.cli.text import console, printable, seconds

_LEVELS = {"error": "red", "warn": "yellow", "warning": "yellow", "debug": "dim"}
_WAIT = {"X-Nuclio-Wait-Function-Action": "true"}


def logs(
    name: str, home: str | None, *, follow: bool, tail: int, since: str, as_json: bool
) -> None:
    """The function's log lines, of all its workers, in the order of time."""
    path = f"/api/stoker/functions/{quote(name)}/logs?tailLines={tail}"
    path += f"&follow={str(follow).lower()}" + (f"&since={quote(since)}" if since else "")
    out = console()
    for line in Client.control(home).lines(path, may_pause=follow):
        if as_json:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        else:
            out.print(log_line(line.decode(errors="replace").rstrip("\n")))


def log_line(text: str) -> Any:
    """One line for people; what is not of the platform's shape is shown as it is."""
    from rich.text import Text

    try:
        entry = json.loads(text)
    except ValueError:
        return Text(printable(text))
    if not isinstance(entry, dict) or "message" not in entry:
        return Text(printable(text))
    level = printable(str(entry.get("level", "info")))
    shown = Text.assemble(
        (f"{_clock(entry.get('time'))} ", "dim"),
        (f"{level[:5]:<5} ", _LEVELS.get(level, "green")),
        (printable(f"{entry.get('replica', '')}.{entry.get('worker', '')} "), "cyan"),
    )
    shown.append(printable(str(entry["message"])))
    if entry.get("request_id"):
        shown.append(printable(f"  request={entry['request_id']}"), "dim")
    more = entry.get("with")
    if isinstance(more, dict):
        for key, value in more.items():
            shown.append(printable(f"  {key}={value}"), "dim")
    elif more:  # a worker writes it as one text where JSON has no form for it
        shown.append(printable(f"  {more}"), "dim")
    return shown


def _clock(stamp: Any) -> str:
    """The time of day of a line; what a function's own JSON has there may be anything."""
    try:
        return datetime.fromtimestamp(stamp).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (TypeError, ValueError, OverflowError, OSError):
        return printable(str(stamp or ""))


def remove(names: list[str], home: str | None) -> None:
    """Deletes functions; running requests finish."""
    client = Client.control(home)
    for name in names:
        client.send("DELETE", f"/api/functions/{quote(name)}")
        console().print(f"[green]✓[/] {name} is deleted")


def scale(name: str, home: str | None, desired: str) -> None:
    """Wakes the function or puts it to zero, and waits until it is so.

    Raises:
        Failure: it cannot be put there.
    """
    client = Client.control(home)
    path = f"/api/functions/{quote(name)}"
    started = time.monotonic()
    client.send("PATCH", path, {"desiredState": desired}, _WAIT, timeout_s=LONG_S)
    status = client.get(path)["status"]
    took = seconds(time.monotonic() - started)
    if status["state"] in ("error", "unhealthy"):
        raise Failure(
            f"{name} is {status['state']}: {status['message']}", hint=f"stoker logs {name}"
        )
    console().print(f"[green]✓[/] {name} is {status['state']} (in {took})")
