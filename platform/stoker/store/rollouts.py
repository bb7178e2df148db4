"""What happened to canaries: one short history a function."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from stoker.nouns.rollout import RolloutEvent
from stoker.store import keys
from stoker.store.link import Link

log = logging.getLogger(__name__)


class RolloutEvents:
    """Events in the order in which they happened. Single writer: the controller."""

    _link: Link

    async def add_rollout_event(self, function: str, event: RolloutEvent) -> None:
        """Appends one; past `keys.ROLLOUT_EVENTS` the oldest goes."""
        key, most = keys.rollouts(function), keys.ROLLOUT_EVENTS
        written = event.model_dump_json()
        await self._link.call("XADD", key, "MAXLEN", most, "*", "event", written)
        await self._link.call("EXPIRE", key, keys.ROLLOUT_TTL_S)

    async def read_rollout_events(self, function: str, *, since: float = 0.0) -> list[RolloutEvent]:
        """All from a time (epoch seconds) on, oldest first. What cannot be read is left out."""
        found: list[RolloutEvent] = []
        for _, fields in await self._link.call("XRANGE", keys.rollouts(function), "-", "+"):
            try:
                event = RolloutEvent.model_validate_json(fields[b"event"])
            except ValidationError as error:
                log.error("an event of %s's rollouts cannot be read: %s", function, error)
                continue
            if event.at >= since:
                found.append(event)
        return found
