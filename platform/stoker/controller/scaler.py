"""How many replicas of the serving revision run: carries out `stoker.decide.scale`."""

from __future__ import annotations

from stoker.controller.crashes import Crashes
from stoker.controller.evictions import Evictions
from stoker.controller.replicas import Replicas
from stoker.controller.sleep import Sleep
from stoker.controller.view import Live, Replica
from stoker.controller.world import World
from stoker.decide.learn import modest
from stoker.decide.rest import Sleeper, awake_bounds, to_zero
from stoker.decide.scale import Bounds, Load, ReplicaFacts, desired_replicas, victims
from stoker.nouns.function import FunctionConfig
from stoker.nouns.record import Phase, Revision


class Scaler:
    """Starts and drains replicas of what serves; ends those of what no longer does."""

    def __init__(
        self,
        world: World,
        replicas: Replicas,
        crashes: Crashes,
        evictions: Evictions,
        sleep: Sleep,
    ) -> None:
        self._world = world
        self._evictions = evictions
        self._replicas = replicas
        self._crashes = crashes
        self._sleep = sleep

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
                self._end(replica, serving.config)
            return
        load, bounds = self.load(live), _bounds(serving.config)
        rests = _rests(serving.config, current)
        awake = [replica for replica in current if not replica.asleep]
        desired, live.scale = desired_replicas(
            load,
            bounds if rests is None else awake_bounds(bounds, rests),
            len(awake),
            live.scale,
            desired_zero=live.record.desired_zero,
            now=self._world.now(),
        )
        if rests is not None and (load.in_flight or load.waiting):
            self._rouse(awake, serving)
        if desired > len(awake):
            self._grow(live, serving, desired - len(awake), current, load)
            return
        if len(current) < bounds.minimum and not live.record.desired_zero:
            self._grow(live, serving, bounds.minimum - len(current), [], load)
            return
        if self._world.blind:
            return
        live.no_room = False
        if not self._world.awaits_room(live):
            self._world.ledger.forget_promise(live.name)
        if rests is not None:
            self._rest(live, serving.config, awake, desired, load)
            self._retire(live, serving.config, current, bounds, rests)
        elif desired < len(awake):
            self._shrink(live, serving.config, awake, len(awake) - desired, load)

    def _rest(
        self, live: Live, config: FunctionConfig, awake: list[Replica], desired: int, load: Load
    ) -> None:
        """Those that are ready and too many sleep. What still starts has served nobody yet.

        Its start may take longer than the idle time after which it would sleep.
        """
        if live.record.desired_zero:
            self._shrink(live, config, awake, len(awake) - desired, load)
            return
        ready = [replica for replica in awake if replica.phase is Phase.READY]
        self._shrink(live, config, ready, min(len(ready), len(awake) - desired), load)

    def _rouse(self, awake: list[Replica], serving: Revision) -> None:
        """There is work again: workers that fell asleep beside busy ones come back."""
        for replica in awake:
            if replica.drowsy:
                self._sleep.wake(replica, serving)

    def _retire(
        self,
        live: Live,
        config: FunctionConfig,
        current: list[Replica],
        bounds: Bounds,
        sleep_after_s: float,
    ) -> None:
        """Sleepers whose time is up go to zero."""
        sleepers = [
            # One that others had sleep was not idle for so long yet.
            Sleeper(replica.id, replica.slept_at + (sleep_after_s if replica.slept_early else 0.0))
            for replica in current
            if replica.asleep and replica.slept_at is not None
        ]
        going = to_zero(
            sleepers,
            bounds,
            sleep_after_s=sleep_after_s,
            staying=len(current),
            desired_zero=live.record.desired_zero,
            now=self._world.now(),
        )
        for identity in going:
            self._end(self._world.replicas[identity], config)

    def _current(self, live: Live, serving: Revision) -> list[Replica]:
        return [r for r in self._world.replicas_of(live.name, serving.number) if not r.draining]

    def _grow(
        self,
        live: Live,
        serving: Revision,
        missing: int,
        current: list[Replica],
        load: Load,
    ) -> None:
        live.no_room = False
        if self._crashes.is_blocked(live):
            self._world.ledger.forget_promise(live.name)
            return
        missing = self._fill(live, serving, missing, current, load)
        had = modest(serving)
        if missing and had is not None:
            # What it was seen to need is not to be had; what it had before serves most requests.
            self._fill(live, had, missing, current, load)

    def _fill(
        self, live: Live, needs: Revision, missing: int, current: list[Replica], load: Load
    ) -> int:
        """Wakes and starts what fits; how many are missing then for whom nobody makes room."""
        live.no_room = False
        stuck: list[Replica] = []
        for replica in current:
            # Those that sleep are back in the time of a copy, where their devices have the room.
            if not missing or not replica.asleep:
                continue
            if self._sleep.wake(replica, needs):
                missing -= 1
            else:
                stuck.append(replica)
        for left in range(missing, 0, -1):
            if self._replicas.start(live, needs) is None:
                live.no_room = True
                if all(one.asleep for one in self._current(live, needs)):
                    live.barred_at = self._world.now()
                return 0 if self._make_room(live, needs, load, stuck) else left
            if stuck and len(self._current(live, needs)) > needs.config.max_replicas:
                # It came instead of one whose device others hold.
                self._end(stuck.pop(), needs.config)
        return 0

    def _make_room(self, live: Live, serving: Revision, load: Load, stuck: list[Replica]) -> bool:
        """Others go for one more replica: for one that sleeps and comes back, or for a new one."""
        sleeper = stuck[0] if stuck else None
        made = self._evictions.make_room(live, serving, waiting=load.waiting, sleeper=sleeper)
        cleared = set(self._world.ledger.promised(live.name))
        for replica in stuck:
            elsewhere = set(replica.devices) != cleared
            if made and elsewhere and cleared & set(self._world.ledger.held(replica.id)):
                # It cannot wake there, and what it holds is needed for one that can start.
                self._end(replica, serving.config)
        return made

    def _end(self, replica: Replica, config: FunctionConfig) -> None:
        self._replicas.drain(replica, patience_s=self.patience_s(config))

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
            elif _sleeps_first(live, config, replica):
                self._sleep.ask(replica)
            else:
                self._end(replica, config)

    def load(self, live: Live) -> Load:
        """Demand over all gateways; a wake that was asked for counts as one waiting request."""
        seen = live.demand.values()
        busy = live.in_flight_by_replica()
        tried = sum(busy.get(replica.id, 0) for replica in self._world.canary_replicas(live))
        waiting = sum(demand.waiting for demand in seen)
        if live.asked_at is not None and not self._has_ready(live):
            waiting = max(1, waiting)
        return Load(
            # A canary's work is its own replicas'.
            in_flight=sum(demand.in_flight for demand in seen) - tried,
            waiting=waiting,
            last_active=max(live.last_active, live.active_at),
        )

    @staticmethod
    def patience_s(config: FunctionConfig) -> float:
        """Seconds that accepted work may take when its replica goes for the platform's sake."""
        return config.patience_s

    def _has_ready(self, live: Live) -> bool:
        return any(replica.has_ready for replica in self._world.beside_canary(live))

    def _end_strangers(self, live: Live) -> None:
        """Ends replicas of revisions that neither serve nor are being deployed."""
        serving = live.record.serving
        number = serving.number if serving else 0
        rolling = live.rollout.number if live.rollout else None
        tried = live.record.canary.revision.number if live.record.canary else None
        coming = any(not r.draining for r in self._world.replicas_of(live.name, number))
        ready = any(r.has_ready or r.asleep for r in self._world.replicas_of(live.name, number))
        for replica in self._world.replicas_of(live.name):
            if replica.draining or replica.revision in (number, rolling, tried):
                continue
            if replica.revision > number and (serving is None or not replica.has_ready):
                self._replicas.kill(replica)
            elif replica.revision > number and serving is not None:
                # It was a canary, and has requests in its hands.
                self._replicas.drain(replica, patience_s=self.patience_s(serving.config))
            elif serving is not None and (ready or not coming):
                # Until its successor is ready an old replica still takes the requests.
                self._end(replica, serving.config)


def _rests(config: FunctionConfig, current: list[Replica]) -> float | None:
    """Seconds after which its replicas sleep; None when it declares none, or they cannot."""
    able = all(replica.can_sleep for replica in current if replica.all_ready)
    return config.sleep_after_s if able else None


def _sleeps_first(live: Live, config: FunctionConfig, replica: Replica) -> bool:
    return config.sleep_after_s is not None and replica.can_sleep and not live.record.desired_zero


def _bounds(config: FunctionConfig) -> Bounds:
    return Bounds(
        minimum=config.min_replicas,
        maximum=config.max_replicas,
        permits=config.permits * config.workers,
        idle_window_s=config.idle_window_s,
    )
