"""``stoker.local``: a platform from a notebook cell, and the clients pointed to it."""

from __future__ import annotations

import asyncio
import html
import http.client
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import ValidationError

from stoker.app.clients import Before, point, point_back
from stoker.app.down import down
from stoker.app.files import read_json
from stoker.app.lock import holder
from stoker.app.ports import free_port
from stoker.app.processes import ProcessRecord, started_at
from stoker.app.settings import Endpoints, UpSettings
from stoker.app.status import status
from stoker.app.up import detach
from stoker.nouns.errors import BadRequest, Conflict, StokerError
from stoker.nouns.home import Home

HOST = "127.0.0.1"
PORTS = {"port": 8070, "gateway_port": 8080}
"""Taken unless others are named; where one is in use, a free one."""
SETTLED_S = 120.0
"""Seconds for which a platform may neither answer nor have ended: it may be doing either."""
POLL_S = 0.05
STOP_S = 60.0


def local(
    home: str | os.PathLike[str] | None = None,
    *,
    port: int | None = None,
    gateway_port: int | None = None,
    gateways: int | None = None,
    devices: str | None = None,
    redis: str | None = None,
    zygotes: Iterable[str] | None = None,
    keep: bool = False,
) -> LocalPlatform:
    """Starts a platform on this machine and points mlrun and nuclio-jupyter to it.

    Waits until it is ready, some seconds. If one runs on this home already, it is used: a cell may
    be run again. The platform stops when this process ends, however it ends, unless it is kept.

    Args:
        home: where it keeps everything; default ``STOKER_HOME``, else ``~/.stoker``.
        port: of the control API; default 8070, or a free one where that is taken. 0: a free one.
        gateway_port: of the functions; default 8080, as ``port``.
        gateways: processes that take requests; default 1.
        devices: ``auto``, ``cpu`` or ``sim:2x16GiB``; default ``auto``.
        redis: URL of a Redis; default one inside the home.
        zygotes: what to have imported beforehand, of ``plain``, ``torch`` and ``mlrun``; default
            all that are installed.
        keep: goes on running after this process; ``stoker down`` or `LocalPlatform.stop` ends it.

    Returns:
        The running platform.

    Raises:
        BadRequest: a setting is wrong.
        Conflict: a named port is taken, or the platform on this home runs with other settings.
        NotFound: there is no redis-server.
        StokerError: it could not be started; the message has the tail of the log.
    """
    told = {name: value for name, value in {
        "port": port, "gateway_port": gateway_port, "gateways": gateways, "devices": devices,
        "redis": redis, "zygotes": None if zygotes is None else tuple(sorted(zygotes)),
    }.items() if value is not None}  # fmt: skip
    place = Home.at(home)
    running = _settled(place)
    if running is None:
        endpoints = _start(place, told, keep=keep)
    else:
        endpoints = _refuse_others(place, running, told, keep=keep)
    before = point(endpoints.control_url, place.root)
    return LocalPlatform(place, endpoints, before, started=running is None)


class LocalPlatform:
    """A platform on this machine, as `local` gives it.

    Attributes:
        url: of the control API and the dashboard; what ``MLRUN_DBPATH`` is set to.
        gateway_url: functions answer at ``<gateway_url>/<project>-<function>``.
        home: where it keeps everything.
        devices: what its functions run on.
        started: this object started it; a ``with`` block stops only what it started.
    """

    def __init__(self, home: Home, endpoints: Endpoints, before: Before, *, started: bool) -> None:
        self.url = endpoints.control_url
        self.gateway_url = endpoints.gateway_url
        self.home = home.root
        self.devices = endpoints.devices
        self.started = started
        self._place = home
        self._owner = endpoints.owner
        self._devices = endpoints.devices_told
        self._before = before

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return holder(self._place.lock) is not None

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops it, whoever started it, and points the clients back to where they looked before.

        Accepted work may finish; after ``timeout_s`` seconds what is left is ended by force.
        """
        _outside_of_loops(lambda: down(self._place, timeout_s))
        point_back(self.url, self._before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.started:
            self.stop()
        else:
            point_back(self.url, self._before)

    @property
    def _until(self) -> str:
        if not self.running:
            return "stopped"
        if self._owner is None:
            return "runs until `stoker down`"
        if self._owner.pid == os.getpid():
            return "stops with this process"
        return f"stops with process {self._owner.pid}"

    def __repr__(self) -> str:
        return (
            f"<Stoker: control and dashboard {self.url}, functions {self.gateway_url}, "
            f"devices {self._devices}, home {self.home}; {self._until}>"
        )

    def _repr_html_(self) -> str:
        rows = {
            "dashboard": f'<a href="{self.url}" target="_blank">{self.url}</a>',
            "functions": f"<code>{self.gateway_url}/&lt;project&gt;-&lt;function&gt;</code>",
            "devices": html.escape(self._devices),
            "home": f"<code>{html.escape(str(self.home))}</code>",
        }
        cells = "".join(
            f'<tr><td style="text-align:left">{name}</td>'
            f'<td style="text-align:left">{value}</td></tr>'
            for name, value in rows.items()
        )
        return f"<b>Stoker</b> {html.escape(self._until)}<table>{cells}</table>"


def _settled(home: Home) -> Endpoints | None:
    """The platform that runs on this home, or None; waits for one that is starting or ending.

    Raises:
        Conflict: one does neither.
    """
    deadline = time.monotonic() + SETTLED_S
    while (pid := holder(home.lock)) is not None:
        found = read_json(home.endpoints)
        endpoints = Endpoints.model_validate(found) if found else None
        if endpoints is not None and endpoints.pid == pid and _serves(endpoints):
            return endpoints
        if time.monotonic() > deadline:
            raise Conflict(
                f"a platform (pid {pid}) holds the home {home.root}, but has neither become ready "
                f"nor ended within {SETTLED_S:g} s; see {home.logs}, or end it: "
                f"stoker down --home {home.root}"
            )
        time.sleep(POLL_S)
    return None


def _serves(endpoints: Endpoints) -> bool:
    """Whether it takes requests, and is not about to end because its owner has."""
    if endpoints.owner is not None and not endpoints.owner.alive:
        return False
    return all(map(_answers, (endpoints.control_url, endpoints.gateway_url)))


def _answers(url: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        # One that asks for a key answers 401, and is there.
        return connection.getresponse().status in (http.HTTPStatus.OK, http.HTTPStatus.UNAUTHORIZED)
    except OSError:
        return False
    finally:
        connection.close()


def _refuse_others(
    home: Home, running: Endpoints, told: dict[str, Any], *, keep: bool
) -> Endpoints:
    """The running platform, if it is what was asked for."""
    actual = _as_it_runs(home, running)
    differing = [
        f"{name}={actual[name]!r} and not {value!r}"
        for name, value in told.items()
        if value != actual[name] and value != 0
    ]
    if keep and running.owner is not None:
        differing.append(f"until process {running.owner.pid} ends and not keep=True")
    if differing:
        raise Conflict(
            f"a platform runs on the home {home.root} already, with {', '.join(differing)}; use it "
            f"as it is, choose another home=, or stop it: stoker down --home {home.root}"
        )
    return running


def _as_it_runs(home: Home, running: Endpoints) -> dict[str, Any]:
    names = [process.name for process in status(home).processes]
    return {
        "port": urlsplit(running.control_url).port,
        "gateway_port": urlsplit(running.gateway_url).port,
        "gateways": sum(name.startswith("gateway-") for name in names),
        "devices": running.devices,
        "redis": running.redis_url,
        "zygotes": tuple(
            sorted(name.removeprefix("zygote-") for name in names if name.startswith("zygote-"))
        ),
    }


def _start(home: Home, told: dict[str, Any], *, keep: bool) -> Endpoints:
    ports = {name: _port(wanted) for name, wanted in PORTS.items() if name not in told}
    try:
        return _start_on(home, told | ports, keep=keep)
    except Conflict:
        if not any(ports.values()):
            raise
        # Perhaps of a port that was free a moment ago: of platforms that start at once one has it.
        return _start_on(home, told | dict.fromkeys(ports, 0), keep=keep)


def _start_on(home: Home, told: dict[str, Any], *, keep: bool) -> Endpoints:
    try:
        settings = UpSettings(home=str(home.root), owner=None if keep else _this_process(), **told)
    except ValidationError as error:
        raise BadRequest("; ".join(map(_wrong, error.errors()))) from error
    try:
        return detach(settings)
    except StokerError as error:
        error.message = _in_python(error.message)
        error.args = (error.message,)
        raise


def _port(wanted: int) -> int:
    try:
        return free_port(HOST, wanted, "")
    except StokerError:
        return 0


def _this_process() -> ProcessRecord:
    pid = os.getpid()
    name = Path("/proc/self/comm").read_text("utf-8", "replace").strip()
    return ProcessRecord(name=name, pid=pid, started=started_at(pid) or 0)


def _wrong(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    if not error["loc"]:
        return _in_python(message)
    return _in_python(f"{error['loc'][0]}: {message}, was {error['input']!r}")


def _in_python(message: str) -> str:
    """The options that a message names, by their arguments: ``--gateway-port`` to gateway_port=."""
    return re.sub(
        r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)", lambda m: f"{m[1].replace('-', '_')}=", message
    )


def _outside_of_loops(action: Callable[[], object]) -> None:
    """Runs what runs an event loop of its own; a notebook's cells run inside one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        action()
        return
    failed: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # raised again below, by whoever asked
            failed.append(error)

    thread = threading.Thread(target=run, name="stoker-local-stop")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
