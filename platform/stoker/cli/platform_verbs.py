"""``up``, ``down``, ``status``: the platform itself, without asking its ports."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.cli.failure import Failure
from stoker.cli.keys import read_keys
from stoker.cli.table import Table
from stoker.cli.text import age, console, print_json, seconds, size, state
from stoker.nouns.home import Home

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from stoker.app.status import PlatformStatus

DOWN_S = 60.0
"""Draining takes up to ten seconds by default, a large append-only file some more."""


def up(*, home: str | None, key_file: Path | None, detach: bool, told: dict[str, Any]) -> int:
    """Starts the platform; in the foreground this returns when it has stopped.

    Raises:
        Failure: a setting is wrong.
        StokerError: it cannot be started.
    """
    from pydantic import ValidationError

    from stoker.app import up as platform
    from stoker.app.settings import UpSettings

    keys = read_keys(key_file)
    try:
        settings = UpSettings(
            home=str(Home.at(home).root), control_keys=keys.control, data_keys=keys.data, **told
        )
    except ValidationError as exc:
        raise Failure("; ".join(map(_wrong, exc.errors())), exit_code=2) from exc
    if not detach:
        return platform.run(settings)
    started = time.monotonic()
    endpoints = platform.detach(settings)
    out = console()
    out.print(f"[green]✓[/] the platform runs (in {seconds(time.monotonic() - started)})")
    platform.print_endpoints(endpoints)
    return 0


def _wrong(error: ErrorDetails) -> str:
    """One wrong setting, by the name of its option."""
    says = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:  # of several options, which the message names
        return says
    option = f"--{str(error['loc'][0]).replace('_', '-')}"
    bounds = error.get("ctx", {})
    for word, bound in (("most", bounds.get("le")), ("least", bounds.get("ge"))):
        if bound is not None:
            return f"{option} must be at {word} {bound}, was {error['input']!r}"
    return f"{option}: {says}"


def down(home: str | None, timeout_s: float) -> None:
    """Stops the platform and every process of its home.

    Raises:
        Failure: something is still there after the time.
    """
    from stoker.app.down import down as stop

    place = Home.at(home)
    if not stop(place, timeout_s):
        console().print(f"no platform runs in the home {place.root}")
        return
    console().print(f"[green]✓[/] the platform of {place.root} has stopped")


def status(home: str | None, *, as_json: bool) -> int:
    """Shows what runs; the exit status is 1 when the platform does not."""
    from stoker.app.status import status as look

    found = look(Home.at(home))
    if as_json:
        print_json(found.model_dump())
    else:
        _show(found)
    return 0 if found.running else 1


def _show(found: PlatformStatus) -> None:
    out = console()
    out.print(f"home     {found.home}", markup=False)
    out.print(f"state    {_state(found)}")
    if found.endpoints:
        out.print(f"control  {found.endpoints.control_url}")
        out.print(f"gateway  {found.endpoints.gateway_url}")
        out.print(f"devices  {found.endpoints.devices_told}")
    if found.processes:
        rows = Table("PROCESS", "PID", "STATE", "UP", "MEMORY", right=("PID", "MEMORY"))
        for process in found.processes:
            word = "[green]running[/]" if process.alive else "[red]gone[/]"
            up_for = age(time.time() - process.uptime_s) if process.alive else "-"
            memory = size(process.resident_bytes) if process.alive else "-"
            rows.add(process.name, str(process.pid), word, up_for, memory)
        out.print(rows.text())


def _state(found: PlatformStatus) -> str:
    if found.running:
        return state("ready") if found.endpoints else "[yellow]starting[/]"
    left = sum(process.alive for process in found.processes)
    if not left:
        return "[red]not running[/]"
    serve = "process still serves" if left == 1 else "processes still serve"
    return f"[red]supervisor gone[/]; {left} {serve}; `stoker up` takes over"
