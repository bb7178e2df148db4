"""The supervisor: starts what is planned, keeps it running, ends it in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from stoker.app.child import Child
from stoker.app.ending import MARGIN_S, end_all, kill_all
from stoker.app.files import make_home, read_json, write_json
from stoker.app.found_devices import found_devices
from stoker.app.lock import HomeLock
from stoker.app.log_bounds import cut_logs
from stoker.app.plan import (
    Plan,
    Role,
    controller_plan,
    gateway_plan,
    installed_zygotes,
    redis_plan,
    zygote_plan,
)
from stoker.app.ports import free_port
from stoker.app.processes import ProcessRecord, end, ended
from stoker.app.readiness import (
    PORT_S,
    REDIS_S,
    ZYGOTE_S,
    port_answers,
    redis_answers,
    unless_it_ends,
    zygote_answers,
)
from stoker.app.reaping import is_first, reap
from stoker.app.redis_server import redis_url
from stoker.app.settings import Endpoints, UpSettings, url_of
from stoker.nouns.home import Home
from stoker.store import Store

log = logging.getLogger(__name__)

PLAIN = "zygote-plain"
REAP_S = 10.0
LOGS_S = 60.0
"""Between two looks at the size of the logs."""


class Supervisor:
    """One run of the platform on one home, whose lock the caller holds.

    Single writer of ``home.processes`` and ``home.endpoints``.
    """

    def __init__(self, home: Home, home_id: str, settings: UpSettings) -> None:
        self._home = home
        self._home_id = home_id
        self._settings = settings
        self._children: list[Child] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()

    def ask_to_stop(self) -> None:
        """The first call ends the platform in order, the second at once."""
        (self._hurried if self._asked.is_set() else self._asked).set()

    async def run(
        self,
        on_ready: Callable[[Endpoints], None],
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts everything, calls ``on_ready``, and returns when all has ended.

        ``on_stop`` is called when it is asked to stop, before the ending begins.

        Raises:
            StokerError: it could not be started; whatever had been started is ended.
        """
        starting = asyncio.create_task(self._start())
        asked = asyncio.create_task(self._asked.wait())
        following = asyncio.create_task(self._follow_owner())
        chores = [asyncio.create_task(self._cut_logs())]
        if is_first():
            chores.append(asyncio.create_task(self._reap()))
        try:
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                on_ready(starting.result())
                await asked
            on_stop()
        finally:
            await _cancel(starting, asked, following, *chores, *self._keepers)
            await self._stop()

    async def _follow_owner(self) -> None:
        if (owner := self._settings.owner) is not None:
            await ended(owner)
            log.info("%s (pid %d), which this platform is for, has ended", owner.name, owner.pid)
            # Not by `ask_to_stop`: after a SIGTERM that would be the second call, which hurries.
            self._asked.set()

    async def _cut_logs(self) -> None:
        while True:
            await asyncio.sleep(LOGS_S)
            await asyncio.to_thread(cut_logs, self._home.logs)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_S)
            # On the loop: meanwhile no child of ours can be started and not be known yet.
            reap({child.record.pid for child in self._children if child.record})

    async def _start(self) -> Endpoints:
        """Starts everything in order.

        1. Look at what an earlier supervisor left, and end what differs. 2. Check the ports.
        3. Redis. 4. Zygote, controller and gateways. 5. When the ports answer: heavy zygotes.
        """
        left = _left_behind(self._home)
        endpoints = self._choose_endpoints(left)
        light, heavy = self._plans(endpoints)
        adopted = await self._end_what_differs(left, [*light, *heavy])
        self._check_ports(endpoints, adopted)
        await self._start_redis(endpoints, adopted)
        await asyncio.gather(*(self._bring_up(plan, adopted) for plan in light))
        await port_answers(endpoints.control_url, self._settings.control_keys)
        await port_answers(endpoints.gateway_url, self._settings.data_keys)
        for plan in heavy:
            # After the ports: importing torch takes seconds of every core.
            self._keep(self._begin(plan, adopted))
        found = await found_devices(endpoints.devices)
        endpoints = endpoints.model_copy(update={"devices_found": found})
        write_json(self._home.endpoints, endpoints.model_dump())
        return endpoints

    def _choose_endpoints(self, left: dict[str, ProcessRecord]) -> Endpoints:
        told, before = self._settings, read_json(self._home.endpoints) if left else None
        ports = [told.port, told.gateway_port]
        if before and "controller" in left:
            known = Endpoints.model_validate(before)
            ports[0] = ports[0] or urlsplit(known.control_url).port or 0
            ports[1] = ports[1] or urlsplit(known.gateway_url).port or 0
        control = ports[0] or free_port(told.host, 0, "--port")
        data = ports[1] or free_port(told.host, 0, "--gateway-port")
        return Endpoints(
            home_id=self._home_id,
            control_url=url_of(told.host, control),
            gateway_url=url_of(told.host, data),
            redis_url=told.redis or redis_url(self._home),
            devices=told.devices,
            pid=os.getpid(),
            owner=told.owner,
        )

    def _plans(self, endpoints: Endpoints) -> tuple[list[Plan], list[Plan]]:
        told, home = self._settings, self._home
        kinds = installed_zygotes() if told.zygotes is None else told.zygotes
        zygotes = [zygote_plan(home, kind) for kind in kinds]
        light = [plan for plan in zygotes if plan.name == PLAIN]
        light.append(controller_plan(home, told, endpoints, kinds))
        light += [gateway_plan(home, told, endpoints, index) for index in range(told.gateways)]
        return light, [plan for plan in zygotes if plan.name != PLAIN]

    async def _end_what_differs(
        self, left: dict[str, ProcessRecord], plans: list[Plan]
    ) -> dict[str, ProcessRecord]:
        """Those that run what is wanted; the others are ended first, workers stay."""
        wanted = {plan.name: plan.fingerprint for plan in plans}
        if self._settings.redis is None:
            wanted["redis"] = redis_plan(self._home).fingerprint
        adopted = {n: r for n, r in left.items() if wanted.get(n) == r.fingerprint}
        for name, record in left.items():
            if name not in adopted:
                log.info("%s (pid %d) runs with other settings: ended", name, record.pid)
                await end(record, patience_s=self._settings.drain_s + MARGIN_S)
        return adopted

    def _check_ports(self, endpoints: Endpoints, adopted: dict[str, ProcessRecord]) -> None:
        """Raises `Conflict` for a port that somebody else has, before anything is started."""
        host = self._settings.host
        if "controller" not in adopted:
            free_port(host, urlsplit(endpoints.control_url).port or 0, "--port")
        if not any(name.startswith("gateway-") for name in adopted):
            free_port(host, urlsplit(endpoints.gateway_url).port or 0, "--gateway-port")

    async def _start_redis(self, endpoints: Endpoints, adopted: dict[str, ProcessRecord]) -> None:
        if self._settings.redis is None:
            child = self._begin(redis_plan(self._home), adopted)
            await unless_it_ends(child, redis_answers(endpoints.redis_url), REDIS_S)
            self._keep(child)
        store = await Store.connect(endpoints.redis_url, home_id=self._home_id)
        await store.close()

    async def _bring_up(self, plan: Plan, adopted: dict[str, ProcessRecord]) -> None:
        child = self._begin(plan, adopted)
        if plan.role is Role.ZYGOTE:
            socket = self._home.zygote_socket(plan.name.partition("-")[2])
            await unless_it_ends(child, zygote_answers(socket), ZYGOTE_S)
        elif plan.name not in adopted:
            await child.said_ready(PORT_S)
        self._keep(child)

    def _begin(self, plan: Plan, adopted: dict[str, ProcessRecord]) -> Child:
        child = Child(plan, self._home, self._home_id, self._record)
        self._children.append(child)
        if plan.name in adopted:
            child.adopt(adopted[plan.name])
            self._record()
        else:
            child.start()
        return child

    def _keep(self, child: Child) -> None:
        keeper = asyncio.create_task(child.keep(), name=child.plan.name)
        keeper.add_done_callback(_tell_of_its_end)
        self._keepers.append(keeper)

    def _record(self) -> None:
        write_json(
            self._home.processes,
            [child.record.model_dump() for child in self._children if child.record],
        )

    async def _stop(self) -> None:
        records = [child.record for child in self._children if child.record]
        drain_s = self._settings.drain_s if self._asked.is_set() else 0.0
        ending = asyncio.create_task(end_all(self._home, self._home_id, records, drain_s=drain_s))
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            log.warning("asked twice: ending everything at once")
            await _cancel(ending)
            await kill_all(self._home, self._home_id, records)
        await _cancel(hurried)
        for child in self._children:
            child.forget()
        if ending.done() and not ending.cancelled():
            ending.result()


def _tell_of_its_end(keeper: asyncio.Task[None]) -> None:
    """A keeper ends by being cancelled; any other end would leave its process unkept, unsaid."""
    if not keeper.cancelled() and (error := keeper.exception()) is not None:
        log.critical("%s is kept running no longer", keeper.get_name(), exc_info=error)


def _left_behind(home: Home) -> dict[str, ProcessRecord]:
    """What an earlier supervisor recorded and still runs."""
    records = [ProcessRecord.model_validate(entry) for entry in read_json(home.processes) or ()]
    return {record.name: record for record in records if record.alive}


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def supervise(
    settings: UpSettings,
    on_ready: Callable[[Endpoints], None],
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """One whole run: takes the home, starts, keeps, and ends at SIGTERM or SIGINT.

    Raises:
        Conflict: another platform runs on this home, or a port is taken.
        StokerError: the home cannot be used, or a process did not become ready.
    """
    home = Home.at(settings.home)
    home_id = make_home(home)
    with HomeLock(home.lock):
        supervisor = Supervisor(home, home_id, settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.ask_to_stop)
        await supervisor.run(on_ready, on_stop)
