"""``ls``, ``ps``, ``top``: tables of what the control port tells."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from stoker.cli.client import Client
from stoker.cli.text import age, console, print_json, rate, seconds, size, state, table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_NUMBERS = ("REV", "REPLICAS", "IN FLIGHT", "WAITING", "RATE", "COLD", "WAKE P90")


def ls(home: str | None, *, as_json: bool) -> None:
    """Every function."""
    functions = Client.control(home).get("/api/stoker/top")["functions"]
    if as_json:
        print_json(functions)
    elif not functions:
        console().print("no functions yet; deploy one with: stoker deploy PATH")
    else:
        rows = table("NAME", "PROJECT", "STATE", *_NUMBERS[:2], "URL", right=_NUMBERS)
        for function in functions:
            rows.add_row(
                function["name"],
                function["project"],
                state(function["state"]),
                _revision(function),
                _replicas(function),
                function["url"],
            )
        console().print(rows)


def ps(home: str | None, *, as_json: bool) -> None:
    """Every worker process."""
    replicas = Client.control(home).get("/api/stoker/ps")["replicas"]
    if as_json:
        print_json(replicas)
        return
    if not replicas:
        console().print("no replicas: every function is at zero")
        return
    columns = (
        "REPLICA",
        "FUNCTION",
        "REV",
        "WORKER",
        "PID",
        "STATE",
        "DEVICES",
        "RSS",
        "PSS",
        "AGE",
    )
    rows = table(*columns, right=("REV", "WORKER", "PID", "RSS", "PSS", "AGE"))
    for replica in replicas:
        for worker in replica["workers"]:
            phase = replica["phase"] if replica["phase"] == "draining" else worker["phase"]
            rows.add_row(
                replica["id"],
                replica["function"],
                str(replica["revision"]),
                str(worker["index"]),
                str(worker["pid"] or "-"),
                state(phase),
                ",".join(worker["devices"]) or "cpu",
                size(worker["rssBytes"]),
                size(worker["pssBytes"]),
                age(worker["startedAt"]),
            )
    console().print(rows)


def top(home: str | None, *, as_json: bool, interval_s: float, rounds: int | None) -> None:
    """The functions' traffic, redrawn until Ctrl-C; once, when the output is no terminal."""
    client = Client.control(home)
    if as_json:
        print_json(client.get("/api/stoker/top"))
        return
    from rich.console import Console

    out = Console(highlight=False) if sys.stdout.isatty() else console()
    if not out.is_terminal and rounds is None:
        out.print(_screen(client.get("/api/stoker/top")))
        return
    from rich.live import Live

    with Live(_screen(client.get("/api/stoker/top")), console=out, screen=rounds is None) as live:
        done = 1
        while rounds is None or done < rounds:
            time.sleep(interval_s)
            live.update(_screen(client.get("/api/stoker/top")), refresh=True)
            done += 1


def _screen(seen: dict[str, Any]) -> Group:
    from rich.console import Group
    from rich.text import Text

    functions = seen["functions"]
    warm = sum(function["replicas"]["ready"] for function in functions)
    total = sum(function["ratePerS"] or 0 for function in functions)
    head = (
        f"[bold]stoker[/] {seen['version']}   functions {len(functions)}   warm replicas {warm}   "
        f"in flight {sum(f['inFlight'] for f in functions)}   "
        f"waiting {sum(f['waiting'] for f in functions)}   {rate(total)}"
    )
    parts: list[Any] = [Text.from_markup(head), Text(""), _traffic(functions)]
    if seen["devices"]:
        parts += [Text(""), _devices(seen["devices"])]
    return Group(*parts)


def _traffic(functions: list[dict[str, Any]]) -> Table:
    rows = table("FUNCTION", "STATE", *_NUMBERS[1:], "LAST REQUEST", right=_NUMBERS)
    for function in functions:
        rows.add_row(
            function["name"],
            state(function["state"]),
            _replicas(function),
            str(function["inFlight"]),
            _waiting(function),
            rate(function["ratePerS"]),
            str(function["coldStarts"]),
            seconds(function["wakeP90S"]),
            age(function["lastActive"]),
        )
    return rows


def _devices(devices: list[dict[str, Any]]) -> Table:
    rows = table("DEVICE", "USED", "OF", "", right=("USED", "OF"))
    for device in devices:
        share = device["used_bytes"] / max(1, device["total_bytes"])
        bar = "█" * round(share * 20)
        rows.add_row(
            str(device["id"]),
            size(device["used_bytes"]),
            size(device["total_bytes"]),
            f"{bar:░<20}",
        )
    return rows


def _revision(function: dict[str, Any]) -> str:
    serving, newest = function["servingRevision"], function["revision"]
    return str(newest) if serving in (newest, None) else f"{serving}→{newest}"


def _replicas(function: dict[str, Any]) -> str:
    counts = function["replicas"]
    moving = counts["starting"] + counts["draining"]
    text = f"{counts['ready']}/{function['maxReplicas']}"
    return f"{text} [yellow]~{moving}[/]" if moving else text


def _waiting(function: dict[str, Any]) -> str:
    if not function["waiting"]:
        return "0"
    return f"[yellow]{function['waiting']}[/] ({seconds(function['oldestWaitS'])})"
