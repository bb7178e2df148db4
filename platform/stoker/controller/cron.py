"""Cron triggers: when each is due. Firing goes through the gateway, which wakes the function."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from croniter import croniter

from stoker.nouns.function import FunctionConfig
from stoker.nouns.parts import Trigger
from stoker.nouns.quantity import parse_duration


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

    def due(self, configs: Iterable[FunctionConfig], now: float) -> list[Firing]:
        """The firings that are due at ``now`` (epoch seconds), each once."""
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
    return Firing(function, name, body.encode(), headers)
