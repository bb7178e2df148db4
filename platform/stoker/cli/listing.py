"""``ls``, ``ps``, ``top``: tables of what the control port tells."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from stoker.cli.client import Client
from stoker.cli.table import Table, screen_width
from stoker.cli.text import age, console, errors, print_json, printable, rate, seconds, size, state

if TYPE_CHECKING:
    from rich.text import Text

_NUMBERS = ("REV", "READY", "MAX", "IN FLIGHT", "WAITING", "RATE", "5XX", "COLD", "WAKE P90")
_LEAST_ROWS = 3
"""Of functions, however low the terminal: below that ``top`` would show nothing."""


def ls(home: str | None, *, as_json: bool) -> None:
    """Every function."""
    functions = Client.control(home).get("/api/stoker/top")["functions"]
    if as_json:
        print_json(functions)
    elif not functions:
        console().print("no functions yet; deploy one with: stoker deploy PATH")
    else:
        rows = Table(
            "NAME",
            "PROJECT",
            "STATE",
            *_NUMBERS[:3],
            "5XX",
            "URL",
            right=_NUMBERS,
            spare=["URL"],
        )
        for function in functions:
            rows.add(
                function["name"],
                function["project"],
                state(function["shownState"]),
                _revision(function),
                _ready(function),
                str(function["maxReplicas"]),
                errors(function["errorShare"]),
                function["url"],
            )
        out, width = console(), screen_width()
        out.print(rows.text(width))
        for line, style in _reasons(functions):
            out.print(_cut(line, width), style=style, markup=False)
        for line in _recorded(functions):
            out.print(_cut(line, width), style="yellow", markup=False)


def _reasons(functions: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Why functions are not well, or what else is to be said of them: each line and its style."""
    reasons = []
    for function in functions:
        said = printable(function["message"] or "").strip()
        ill = function["state"] in ("error", "unhealthy")
        # While a deployment is under way the message may be that of the last one.
        well = function["state"] == "ready" or function["shownState"] == "asleep"
        waits = function["state"] == "waitingForScaleResourceFromZero"
        if ill or ((well or waits) and said):
            why = said.splitlines()[0] if said else f"stoker logs {function['name']}"
            style = "red" if ill else "yellow" if waits else "dim"
            reasons.append((f"{function['name']}: {why}", style))
    return reasons


def _recorded(functions: list[dict[str, Any]]) -> list[str]:
    """Whose requests and answers are written to disk, a line each: whoever looks is to know."""
    return [
        f"{function['name']}: {100 * function['recordedShare']:g} % of its requests are recorded "
        f"(stoker ci traffic {function['name']})"
        for function in functions
        if function["recordedShare"]
    ]


def _cut(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


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
    numbers = ("REV", "WORKER", "PID", "RSS", "PSS", "AGE")
    rows = Table(*columns, right=numbers, spare=("RSS", "DEVICES", "AGE", "REV", "WORKER"))
    for replica in replicas:
        for worker in replica["workers"]:
            phase = replica["phase"] if replica["phase"] == "draining" else worker["phase"]
            rows.add(
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
    console().print(rows.text(screen_width()))


def top(home: str | None, *, as_json: bool, interval_s: float, rounds: int | None) -> None:
    """The functions' traffic, redrawn until Ctrl-C; once, when the output is no terminal."""
    client = Client.control(home)
    if as_json:
        print_json(client.get("/api/stoker/top"))
        return
    if sys.stdout.isatty():
        _live(client, interval_s, rounds)
        return
    out, width = console(), screen_width()
    for done in range(rounds or 1):
        if done:
            time.sleep(interval_s)
            out.print()
        out.print(screen(client.get("/api/stoker/top"), width))


def _live(client: Client, interval_s: float, rounds: int | None) -> None:
    from rich.console import Console
    from rich.live import Live

    out = Console(highlight=False)

    def look() -> Text:
        # A screen as high as the terminal would scroll: the cursor stands below it.
        return screen(client.get("/api/stoker/top"), out.width, out.height - 1)

    with Live(look(), console=out, screen=rounds is None) as live:
        done = 1
        while rounds is None or done < rounds:
            time.sleep(interval_s)
            live.update(look(), refresh=True)
            done += 1


def screen(seen: dict[str, Any], width: int | None = None, height: int | None = None) -> Text:
    """What ``top`` draws: as many functions as fit, and how many more there are."""
    from rich.text import Text

    functions = seen["functions"]
    warm = sum(function["replicas"]["ready"] for function in functions)
    total = sum(function["ratePerS"] or 0 for function in functions)
    facts = (
        f"[bold]stoker[/] {seen['version']}",
        f"functions {len(functions)}",
        f"warm replicas {warm}",
        f"in flight {sum(f['inFlight'] for f in functions)}",
        f"waiting {sum(f['waiting'] for f in functions)}",
        rate(total),
    )
    head = Text.from_markup("   ".join(facts))
    if width is not None and head.cell_len > width:
        head = Text.from_markup("  ".join(facts))
    devices = [Text(""), *_devices(seen["devices"]).lines(width)] if seen["devices"] else []
    header, *rows = _traffic(functions).lines(width)
    room = len(rows) if height is None else max(_LEAST_ROWS, height - 3 - len(devices))
    if len(rows) > room:
        rows[room - 1 :] = [Text(f"+{len(rows) - room + 1} more", style="dim")]
    shown = Text("\n").join([head, Text(""), header, *rows, *devices])
    # Wrapped lines would push the last ones off the screen.
    shown.no_wrap, shown.overflow = height is not None, "ellipsis" if height else None
    return shown


def _traffic(functions: list[dict[str, Any]]) -> Table:
    columns = ("FUNCTION", "STATE", *_NUMBERS[1:], "LAST REQUEST")
    rows = Table(*columns, right=_NUMBERS, spare=("WAKE P90", "LAST REQUEST", "COLD", "MAX"))
    for function in functions:
        rows.add(
            function["name"],
            state(function["shownState"]) + _tried(function),
            _ready(function),
            str(function["maxReplicas"]),
            str(function["inFlight"]),
            _waiting(function),
            rate(function["ratePerS"]),
            errors(function["errorShare"]),
            str(function["coldStarts"]),
            seconds(function["wakeP90S"]),
            age(function["lastActive"]),
        )
    return rows


def _devices(devices: list[dict[str, Any]]) -> Table:
    numbers = ("OF", "PROMISED", "FOREIGN", "USED", "BUSY", "REPLICAS")
    spare = ("CAP", "NAME", "KIND", "REPLICAS", "")
    rows = Table("DEVICE", "NAME", "KIND", "CAP", *numbers, "", right=numbers, spare=spare)
    for device in devices:
        lost = device["lost"]
        rows.add(
            _short(device["id"]),
            device["name"] or "-",
            device["kind"],
            device["capability"] or "-",
            size(device["total_bytes"]),
            size(device["promised_bytes"]),
            size(device["foreign_bytes"]),
            "-" if lost else size(device["used_bytes"]),
            "-" if device["utilisation"] is None else f"{device['utilisation']:.0%}",
            str(len(device["replicas"])),
            "[red]lost[/]" if lost else _bar(device),
        )
    return rows


def _bar(device: dict[str, Any], width: int = 16) -> str:
    """Promised, then foreign, then free."""
    total = max(1, device["total_bytes"])
    ours = min(width, round(device["promised_bytes"] / total * width))
    theirs = min(width - ours, round(device["foreign_bytes"] / total * width))
    return f"{'█' * ours}[yellow]{'▒' * theirs}[/]{'░' * (width - ours - theirs)}"


def _short(identity: str) -> str:
    """A UUID's beginning, by which ``CUDA_VISIBLE_DEVICES`` knows it too.

    >>> _short("GPU-6a1b2c3d-0000-1111-2222-333344445555"), _short("SIM-0")
    ('GPU-6a1b2c3d', 'SIM-0')
    """
    return "-".join(identity.split("-")[:2])


def _revision(function: dict[str, Any]) -> str:
    serving, newest = function["servingRevision"], function["revision"]
    if canary := function.get("canary"):
        return f"{serving} [yellow]+{canary['revision']} {100 * canary['share']:g}%[/]"
    return str(newest) if serving in (newest, None) else f"{serving}→{newest}"


def _tried(function: dict[str, Any]) -> str:
    canary = function.get("canary")
    return f" [yellow]canary {100 * canary['share']:g}%[/]" if canary else ""


def _ready(function: dict[str, Any]) -> str:
    counts = function["replicas"]
    moving = counts["starting"] + counts["draining"]
    return f"{counts['ready']} [yellow]~{moving}[/]" if moving else str(counts["ready"])


def _waiting(function: dict[str, Any]) -> str:
    if not function["waiting"]:
        return "0"
    return f"[yellow]{function['waiting']}[/] ({seconds(function['oldestWaitS'])})"
