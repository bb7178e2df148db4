"""``stoker up``: in the foreground, or detached."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from stoker.app.child import READY_FD, StartFailed
from stoker.app.entry import configure_logging
from stoker.app.files import disk_errors, make_home, tail
from stoker.app.lock import holder
from stoker.app.plan import PYTHON
from stoker.app.settings import Endpoints, UpSettings
from stoker.app.supervisor import supervise
from stoker.nouns.errors import (
    BadRequest,
    Conflict,
    InsufficientStorage,
    NotFound,
    StokerError,
    StoreUnavailable,
)
from stoker.nouns.home import Home

log = logging.getLogger(__name__)

DETACHED_S = 700.0
"""Above everything that a start may wait for, the loading of a long append-only file included."""
_ERRORS = {
    error.code: error
    for error in (BadRequest, Conflict, InsufficientStorage, NotFound, StoreUnavailable)
}


def run(settings: UpSettings, on_ready: Callable[[Endpoints], None] | None = None) -> int:
    """Runs the platform until SIGTERM or Ctrl-C; the exit status.

    ``on_ready`` is called once everything answers; by default the two URLs are printed.
    """
    configure_logging(settings.log_level)
    try:
        asyncio.run(supervise(settings, on_ready or _banner, lambda: _tell("stopping …")))
    except StokerError as error:
        sys.stderr.write(f"stoker up: {error.message}\n")
        return 1
    _tell("stopped")
    return 0


def _banner(endpoints: Endpoints) -> None:
    print_endpoints(endpoints)
    _tell("ready; Ctrl-C stops it")


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_endpoints(endpoints: Endpoints) -> None:
    """Tells people where the platform answers."""
    sys.stdout.write(
        f"control  {endpoints.control_url}\n"
        f"gateway  {endpoints.gateway_url}\n"
        f"devices  {endpoints.devices_told}\n"
    )
    sys.stdout.flush()


def detach(settings: UpSettings) -> Endpoints:
    """Starts the platform in the background; returns when it is ready.

    Raises:
        Conflict: one runs on this home already, or a port is taken.
        StokerError: it could not be started; the message has the tail of the failing log.
    """
    home = Home.at(settings.home)
    make_home(home)
    running = holder(home.lock)
    if running is not None:
        raise Conflict(
            f"a platform is running on this home already (pid {running}): {home.root}; "
            "stop it with `stoker down`, or choose another --home"
        )
    heard, say = os.pipe()
    try:
        process = _spawn(settings, home, say)
    finally:
        os.close(say)
    try:
        said = _hear(heard)
    except BaseException:  # Ctrl-C: nobody would know of what goes on starting
        process.terminate()
        process.wait()
        raise
    finally:
        os.close(heard)
    return _verdict(said, process, home)


def _spawn(settings: UpSettings, home: Home, say: int) -> subprocess.Popen[bytes]:
    path = home.logs / "supervisor.log"
    with disk_errors(path):
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            (*PYTHON, "stoker.app.up"),
            env=os.environ | {READY_FD: str(say), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(say,),
            start_new_session=True,
        )
    finally:
        os.close(output)
    if process.stdin is not None:
        # By stdin, because keys must not stand where others can read them.
        process.stdin.write(settings.model_dump_json().encode())
        process.stdin.close()
    return process


def _hear(descriptor: int) -> dict[str, Any] | None:
    """What the detached supervisor says: endpoints or an error; None if it ended silently."""
    deadline, said = time.monotonic() + DETACHED_S, b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        more = os.read(descriptor, 65536)
        if not more:
            break
        said += more
    return json.loads(said) if said else None


def _verdict(
    said: dict[str, Any] | None, process: subprocess.Popen[bytes], home: Home
) -> Endpoints:
    if said is not None and "endpoints" in said:
        # It lives on without us: nobody here will ever wait for it.
        process.returncode = 0
        return Endpoints.model_validate(said["endpoints"])
    if said is not None:
        process.wait()
        kind = _ERRORS.get(said["code"], StartFailed)
        raise kind(said["message"])
    path = home.logs / "supervisor.log"
    raise StartFailed(
        f"the supervisor (pid {process.pid}) ended, or said nothing for {DETACHED_S:g} s; "
        f"the end of {path}:\n{tail(path)}"
    )


def _detached() -> int:
    """The detached supervisor: settings on stdin, its verdict on the descriptor it was given."""
    settings = UpSettings.model_validate_json(sys.stdin.buffer.read())
    descriptor = int(os.environ.pop(READY_FD))
    configure_logging(settings.log_level)

    def say(document: dict[str, Any]) -> None:
        os.write(descriptor, json.dumps(document).encode())
        os.close(descriptor)

    try:
        asyncio.run(supervise(settings, lambda e: say({"endpoints": e.model_dump()})))
    except StokerError as error:
        log.error("%s", error.message)
        say({"code": error.code, "message": error.message})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_detached())
