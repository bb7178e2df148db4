"""Cron triggers: when each is due, and its firing. The gateway is called: it wakes the function."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from croniter import croniter

from stoker.controller.settings import ControllerSettings
from stoker.nouns.function import FunctionConfig
from stoker.nouns.parts import Trigger
from stoker.nouns.quantity import parse_duration

log = logging.getLogger(__name__)

FIRING_TIMEOUT_S = 600.0
SET_BACK_S = 1.0
"""A clock that goes back by less is being disciplined, and nothing fires twice for that."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One event to send."""

    function: str
    trigger: str
    body: bytes
    headers: dict[str, str]


class Crontab:
    """Remembers when each cron trigger fires next.

    In memory: a firing missed while the controller was down is not made up for, and a restart
    fires nothing twice.
    """

    def __init__(self) -> None:
        self._next: dict[tuple[str, str, str], float] = {}
        self._looked_at = 0.0

    def due(self, configs: Iterable[FunctionConfig], now: float) -> list[Firing]:
        """The firings that are due at ``now`` (epoch seconds), each once."""
        if now < self._looked_at - SET_BACK_S:
            # The clock was set back: what was next may be hours off.
            self._next = {}
        self._looked_at = now
        firings: list[Firing] = []
        upcoming: dict[tuple[str, str, str], float] = {}
        for config in configs:
            if config.spec.disable:
                continue
            for name, trigger in config.cron_triggers.items():
                key = (config.name, name, _timing(trigger))
                at = self._next.get(key)
                if at is not None and at <= now:
                    firings.append(_firing(config.name, name, trigger))
                    at = None
                upcoming[key] = next_time(trigger, now) if at is None else at
        self._next = upcoming
        return firings


class Firings:
    """The firings under way. Single writer: its controller."""

    def __init__(
        self, settings: ControllerSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    def start(self, firing: Firing) -> bool:
        """Sends it; not while the trigger's last one runs, which would pile them up.

        Returns:
            Whether it was sent.
        """
        key = (firing.function, firing.trigger)
        if key in self._running:
            log.warning("cron %s of %s: skipped, the last still runs", *reversed(key))
            return False
        task = asyncio.get_running_loop().create_task(self._fire(firing))
        self._running[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))
        return True

    async def close(self) -> None:
        """Gives up what is under way; another `start` may follow."""
        tasks, self._running = list(self._running.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("cron %s of %s broke: %r", *reversed(key), error, exc_info=error)

    def _connected(self) -> httpx.AsyncClient:
        """One client for all: making one loads certificates and stops the loop meanwhile."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=FIRING_TIMEOUT_S,
                trust_env=False,
                transport=self._transport,
                limits=httpx.Limits(max_connections=None),
            )
        return self._client

    async def _fire(self, firing: Firing) -> None:
        key = self._settings.gateway_key
        headers = dict(firing.headers)
        if key is not None:
            headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        try:
            answer = await self._connected().post(
                self._settings.gateway_url, content=firing.body, headers=headers
            )
        except httpx.HTTPError as exc:
            log.warning("cron %s of %s: %r", firing.trigger, firing.function, exc)
            return
        level = logging.INFO if answer.is_success else logging.WARNING
        log.log(level, "cron %s of %s: %d", firing.trigger, firing.function, answer.status_code)


def _timing(trigger: Trigger) -> str:
    attributes = trigger.attributes
    return str(attributes.get("schedule") or attributes.get("interval") or "")


def next_time(trigger: Trigger, now: float) -> float:
    """Epoch seconds of the next firing after ``now``; infinity when there never is one.

    ``schedule`` is a crontab line in UTC (five fields, or six with seconds first, as Nuclio's),
    ``interval`` a duration of at least a second.
    """
    schedule = trigger.attributes.get("schedule")
    try:
        if schedule:
            start = datetime.fromtimestamp(now, tz=UTC)
            six = len(str(schedule).split()) == 6
            return float(croniter(str(schedule), start, second_at_beginning=six).get_next(float))
        interval = parse_duration(trigger.attributes.get("interval") or 0)
    except (ValueError, KeyError):
        return float("inf")
    return now + max(1.0, interval) if interval else float("inf")


def unusable(config: FunctionConfig) -> list[str]:
    """What is wrong with the function's cron triggers, for its deploy log."""
    return [
        f"cron trigger {name!r}: needs attributes.schedule (a crontab line) or "
        f'attributes.interval (like "10s"), has {trigger.attributes!r}: it never fires'
        for name, trigger in config.cron_triggers.items()
        if next_time(trigger, 0.0) == float("inf")
    ]


def _firing(function: str, name: str, trigger: Trigger) -> Firing:
    event = trigger.attributes.get("event") or {}
    body = event.get("body", "") if isinstance(event, dict) else ""
    declared = event.get("headers", {}) if isinstance(event, dict) else {}
    headers = {str(key): str(value) for key, value in (declared or {}).items()}
    if not isinstance(body, str):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    headers |= {"X-Nuclio-Target": function, "X-Nuclio-Invoke-Trigger": "cron"}
    return Firing(function, name, body.encode(errors="replace"), headers)
