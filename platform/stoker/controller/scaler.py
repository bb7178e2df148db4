"""How many replicas of the serving revision run: carries out `stoker.decide.scale`."""

from __future__ import annotations

from stoker.controller.crashes import Crashes
from stoker.controller.evictions import Evictions
from stoker.controller.replicas import Replicas
from stoker.controller.view import Live, Replica
from stoker.controller.world import World
from stoker.decide.scale import Bounds, Load, ReplicaFacts, desired_replicas, victims
from stoker.nouns.function import FunctionConfig
from stoker.nouns.record import Phase, Revision


class Scaler:
    """Starts and drains replicas of what serves; ends those of what no longer does."""

    def __init__(
        self, world: World, replicas: Replicas, crashes: Crashes, evictions: Evictions
    ) -> None:
        self._world = world
        self._evictions = evictions
        self._replicas = replicas
        self._crashes = crashes

    def advance(self, live: Live) -> None:
        """Brings the function's replicas to the desired count."""
        self._end_strangers(live)
        serving = live.record.serving
        if serving is None:
            return
        current = self._current(live, serving)
        if serving.config.spec.disable or (live.rollout and live.rollout.recreate):
            live.no_room = False
            if live.rollout is None:
                self._world.ledger.forget_promise(live.name)
            for replica in current:
                self._replicas.drain(replica, patience_s=self.patience_s(serving.config))
            return
        load = self.load(live)
        desired, live.scale = desired_replicas(
            load,
            _bounds(serving.config),
            len(current),
            live.scale,
            desired_zero=live.record.desired_zero,
            now=self._world.now(),
        )
        if desired < len(current) and self._world.blind:
            return
        if desired > len(current):
            self._grow(live, serving, desired - len(current), load)
            return
        live.no_room = False
        if live.rollout is None:
            self._world.ledger.forget_promise(live.name)
        if desired < len(current):
            self._shrink(live, serving.config, current, len(current) - desired, load)

    def _current(self, live: Live, serving: Revision) -> list[Replica]:
        return [r for r in self._world.replicas_of(live.name, serving.number) if not r.draining]

    def _grow(self, live: Live, serving: Revision, missing: int, load: Load) -> None:
        live.no_room = False
        if self._crashes.is_blocked(live):
            self._world.ledger.forget_promise(live.name)
            return
        for _ in range(missing):
            if self._replicas.start(live, serving) is None:
                live.no_room = True
                self._evictions.make_room(live, serving, waiting=load.waiting)
                return

    def _shrink(
        self,
        live: Live,
        config: FunctionConfig,
        current: list[Replica],
        surplus: int,
        load: Load,
    ) -> None:
        busy = live.in_flight_by_replica()
        known = sum(busy.values()) >= load.in_flight
        facts = [
            ReplicaFacts(
                id=replica.id,
                phase=replica.phase,
                # Work that nobody attributes to a replica may be anyone's.
                in_flight=busy.get(replica.id, 0) if known else 1,
                created_at=replica.created_at,
            )
            for replica in current
        ]
        for identity in victims(facts, surplus):
            replica = self._world.replicas[identity]
            if replica.phase is Phase.STARTING:
                self._replicas.kill(replica)
            else:
                self._replicas.drain(replica, patience_s=self.patience_s(config))

    def load(self, live: Live) -> Load:
        """Demand over all gateways; a wake that was asked for counts as one waiting request."""
        epoch, now = self._world.clock.epoch(), self._world.now()
        seen = live.demand.values()
        last = live.last_active
        active = now - max(0.0, epoch - last) if last else 0.0
        waiting = sum(demand.waiting for demand in seen)
        if live.asked_at is not None and not self._has_ready(live):
            waiting = max(1, waiting)
        return Load(
            in_flight=sum(demand.in_flight for demand in seen),
            waiting=waiting,
            last_active=max(active, live.active_at),
        )

    @staticmethod
    def patience_s(config: FunctionConfig) -> float:
        """Seconds that accepted work may take when its replica goes for the platform's sake."""
        return max(config.termination_s, config.event_timeout_s or 0.0)

    def _has_ready(self, live: Live) -> bool:
        return any(replica.has_ready for replica in self._world.replicas_of(live.name))

    def _end_strangers(self, live: Live) -> None:
        """Ends replicas of revisions that neither serve nor are being deployed."""
        serving = live.record.serving
        number = serving.number if serving else 0
        rolling = live.rollout.number if live.rollout else None
        coming = any(not r.draining for r in self._world.replicas_of(live.name, number))
        ready = any(r.has_ready for r in self._world.replicas_of(live.name, number))
        for replica in self._world.replicas_of(live.name):
            if replica.draining or replica.revision in (number, rolling):
                continue
            if replica.revision > number:
                self._replicas.kill(replica)
            elif serving is not None and (ready or not coming):
                # Until its successor is ready an old replica still takes the requests.
                self._replicas.drain(replica, patience_s=self.patience_s(serving.config))


def _bounds(config: FunctionConfig) -> Bounds:
    return Bounds(
        minimum=config.min_replicas,
        maximum=config.max_replicas,
        permits=config.permits * config.workers,
        idle_window_s=config.idle_window_s,
    )
