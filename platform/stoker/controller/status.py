"""The state that a function's record shows, derived from its replicas."""

from __future__ import annotations

import math

from stoker.controller.canary import said
from stoker.controller.crashes import Crashes
from stoker.controller.obstacles import waiting
from stoker.controller.view import Live, Replica
from stoker.controller.world import World
from stoker.nouns.quantity import format_bytes
from stoker.nouns.record import FunctionState

NOTABLE = 0.2
"""A p90 that moved by less than this share is not worth a write that every gateway reads."""
_EVENTS = {
    FunctionState.SCALING_FROM_ZERO: "scaleFromZeroStarted",
    FunctionState.READY: "scaleFromZeroCompleted",
    FunctionState.SCALING_TO_ZERO: "scaleToZeroStarted",
    FunctionState.SCALED_TO_ZERO: "scaleToZeroCompleted",
}


class Status:
    """Writes a function's state, and only when it changes."""

    def __init__(self, world: World, crashes: Crashes) -> None:
        self._world = world
        self._crashes = crashes

    def publish(self, live: Live) -> None:
        """Asks for the write that makes the record true."""
        record = live.record
        if record.serving is None or live.rollout is not None or live.in_progress:
            return  # The deployment says what state it is in.
        derived = self._derive(live)
        before, live.scaled = live.scaled, derived[0]
        if record.candidate is not None:
            self._publish_beside_a_failure(live, record.serving.number, before)
            return
        p90 = self._news_of_p90(live)
        if derived == (record.state, record.message) and p90 is None:
            live.requested = None
            return
        if derived == live.requested and p90 is None:
            return
        live.requested = derived
        state, message = derived
        updates: dict[str, object] = {"state": state, "message": message}
        if p90 is not None:
            updates["wake_p90_s"] = p90
        if state is not record.state and state in _EVENTS:
            updates["last_scale_event"] = _EVENTS[state]
            updates["last_scale_time"] = self._world.clock.epoch()
        number = record.serving.number
        self._world.change(
            live.name,
            lambda seen: (
                seen
                if seen.candidate is not None
                or seen.serving is None
                or seen.serving.number != number
                else seen.model_copy(update=updates)
            ),
        )

    def _publish_beside_a_failure(
        self, live: Live, number: int, before: FunctionState | None
    ) -> None:
        """A failed candidate's state and message stay; the serving revision scales all the same."""
        updates: dict[str, object] = {}
        p90 = self._news_of_p90(live)
        if p90 is not None:
            updates["wake_p90_s"] = p90
        if before is not None and live.scaled is not before and live.scaled in _EVENTS:
            updates["last_scale_event"] = _EVENTS[live.scaled]
            updates["last_scale_time"] = self._world.clock.epoch()
        if not updates:
            return
        self._world.change(
            live.name,
            lambda seen: (
                seen
                if seen.serving is None or seen.serving.number != number
                else seen.model_copy(update=updates)
            ),
            stamped=False,
        )

    @staticmethod
    def _news_of_p90(live: Live) -> float | None:
        """The percentile, when the store neither shows it nor was asked for it already."""
        p90 = notable_p90(live, live.record.wake_p90_s)
        if p90 is not None and p90 == live.requested_p90:
            return None
        live.requested_p90 = p90
        return p90

    def _derive(self, live: Live) -> tuple[FunctionState, str]:
        replicas = self._world.beside_canary(live)
        staying = [replica for replica in replicas if not replica.draining]
        if any(replica.has_ready for replica in staying):
            canary = live.record.canary
            facts = (said(canary) if canary else "", self._lesson(live, staying))
            return FunctionState.READY, "; ".join(filter(None, facts))
        if self._crashes.is_blocked(live):
            return FunctionState.UNHEALTHY, live.blocked_why
        if any(not replica.asleep for replica in staying):
            return self._coming(live, staying), ""
        if staying and live.asked_at is None:
            return FunctionState.SCALED_TO_ZERO, self._asleep(staying)
        if replicas and not staying:
            return FunctionState.SCALING_TO_ZERO, ""
        serving = live.record.serving
        missing = self._world.ledger.missing(serving) if serving else ""
        if missing:
            return FunctionState.UNHEALTHY, missing
        if live.no_room and live.asked_at is not None:
            return FunctionState.SCALING_FROM_ZERO, waiting(self._world, live)
        return FunctionState.SCALED_TO_ZERO, self._lesson(live, [])

    def _asleep(self, staying: list[Replica]) -> str:
        kept = sum(sum(self._world.ledger.held(replica.id).values()) for replica in staying)
        free = f"of its devices they keep {format_bytes(kept)}" if kept else "its devices are free"
        return f"asleep: its processes live, {free}"

    def _lesson(self, live: Live, staying: list[Replica]) -> str:
        """What its largest requests lack."""
        promised = min((one.device_bytes for one in staying if one.has_ready), default=0)
        serving = live.record.serving
        return self._world.ledger.lesson(serving, promised) if serving else ""

    @staticmethod
    def _coming(live: Live, staying: list[Replica]) -> FunctionState:
        # A replica that was ready and replaces its dead worker did not come from zero, nor did
        # one that ran before this controller and whose workers have not told their phase yet.
        replaced = any(
            replica.was_ready or any(slot.adopted for slot in replica.slots) for replica in staying
        )
        if replaced and live.record.state is FunctionState.READY:
            return FunctionState.READY
        return FunctionState.SCALING_FROM_ZERO


def notable_p90(live: Live, shown: float | None) -> float | None:
    """The 90th percentile of the measured wakes, when the record shows another; seconds."""
    if not live.wakes:
        return None
    ordered = sorted(live.wakes)
    p90 = round(ordered[math.ceil(0.9 * len(ordered)) - 1], 4)
    if shown is not None and abs(p90 - shown) <= NOTABLE * max(shown, 0.01):
        return None
    return p90
