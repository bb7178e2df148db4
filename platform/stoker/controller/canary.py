"""A canary's life: it begins, is watched and staffed, and serves or is rolled back.

What it may do is in the function's record, and each end of it is one write of that record: whoever
comes back to it finds a canary, or none, never half of one.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker.controller.crashes import Crashes
from stoker.controller.evictions import Evictions
from stoker.controller.headline import headline
from stoker.controller.ledger import Ledger
from stoker.controller.replicas import Replicas
from stoker.controller.under_way import Watch
from stoker.controller.view import Live, Replica, Slot
from stoker.controller.world import World, if_candidate
from stoker.decide.canary import Action, judge, replicas, shown
from stoker.decide.learn import modest
from stoker.decide.restart import WINDOW_S, restart
from stoker.nouns.record import Canary, FunctionRecord, FunctionState, Revision
from stoker.nouns.rollout import CanarySpec, RolloutEvent, Step, Verb

CRASHES = 3
"""Deaths of a canary's workers, within `WINDOW_S`, after which it is rolled back."""
KEEP_S = 5.0
"""Between two writes of what was counted: so much is lost with a controller and all gateways."""
CONFIRM_S = 10.0
"""The write of a step that the store has not shown after this was dropped; it is made again."""
ITSELF = "stoker"
"""Who does what the declared bounds ask for."""


@dataclass(frozen=True, slots=True)
class End:
    """How a canary ends: the step, who wanted it, and why."""

    step: Step
    who: str
    why: str


class Canaries:
    """Begins canaries, watches them, ends them."""

    def __init__(self, world: World, replicas: Replicas, evictions: Evictions) -> None:
        self._world = world
        self._replicas = replicas
        self._evictions = evictions

    def spec_for(self, live: Live, candidate: Revision) -> CanarySpec | None:
        """How the candidate is to be tried out; None: it serves as soon as it is ready."""
        return None if self.why_not(live, candidate) else candidate.config.canary

    def why_not(self, live: Live, candidate: Revision) -> str:
        """Why it is not tried out although it says so; empty where it is, or says nothing."""
        serving, config = live.record.serving, candidate.config
        if config.canary is None:
            return ""
        if serving is None:
            return "nothing serves yet"
        if serving.config.spec.disable or config.spec.disable:
            return "a disabled revision has no traffic to share"
        if config.stream_triggers and not config.declares_http:
            return "records of queues are not shared"
        return ""

    def obstacle(self, live: Live, candidate: Revision) -> str:
        """Why both revisions can never run at once; empty when they can."""
        serving, ledger = live.record.serving, self._world.ledger
        if serving is None or self.spec_for(live, candidate) is None:
            return ""
        if _fit_together(ledger, serving, candidate) or not ledger.could_fit(candidate):
            return ""
        return self.refusal(live, candidate)

    def is_shut_out(self, live: Live, candidate: Revision) -> bool:
        """Whether the replicas of what serves leave no room for it, whoever else would go."""
        ledger, own = self._world.ledger, {replica.id for replica in self._stable(live)}
        everybody = frozenset(self._world.replicas)
        return (
            ledger.fit(candidate, without=everybody) is not None
            and ledger.fit(candidate, without=everybody - own) is None
        )

    def refusal(self, live: Live, candidate: Revision) -> str:
        """What a canary needs beside what there is."""
        ledger, serving = self._world.ledger, live.record.serving
        beside = f"; revision {serving.number} {ledger.arithmetic(serving)}" if serving else ""
        return (
            f"a canary needs both revisions at once, and they do not fit: revision "
            f"{candidate.number} {ledger.arithmetic(candidate)}{beside}; deploy it without one"
        )

    # -- begin

    def begin(self, live: Live, candidate: Revision, spec: CanarySpec) -> None:
        """Asks for the write with which the candidate gets its share."""
        now = self._world.clock.epoch()
        canary = Canary(revision=candidate, spec=spec, share=spec.share, started_at=now)
        who = candidate.who or ITSELF
        length = f"for {spec.length_s:g} s and {spec.min_requests} requests"
        why = f"{100 * spec.share:g} % of the requests, {length}"
        self._note(live, canary, End(Step.STARTED, who, why), Watch(candidate.number))

        def switch(record: FunctionRecord) -> FunctionRecord:
            logged = self._world.logged(
                f"{said(canary)}, {length}",
                canary=canary.model_copy(update={"revision": record.candidate}),
                candidate=None,
                state=FunctionState.READY,
                message=said(canary),
            )
            return logged(record)

        self._world.change(live.name, if_candidate(candidate.number, switch))

    def begun(self, live: Live, number: int) -> None:
        """The store has confirmed it."""
        live.watch = Watch(number, looked_at=self._world.now(), kept_at=self._world.now())

    # -- while it lasts

    def advance(self, live: Live) -> None:
        """Takes the next step that facts allow."""
        canary = live.record.canary
        if canary is None or live.record.serving is None:
            self._over(live)
            return
        number = canary.revision.number
        if number <= live.tried:
            return  # A reader of the store that was overtaken; the newer record follows.
        if live.rollout is not None and live.rollout.number == number:
            return  # Its deployment has not heard of it yet.
        if live.watch is None or live.watch.number != number:
            self._take_up(live, canary)
        watch, now = live.watch, self._world.now()
        if watch is None or watch.is_ending(now, CONFIRM_S):
            return
        watch.pass_time(now, counted=not self._world.blind)
        end = self._wanted(live, canary, watch)
        if end is not None and end.step is not Step.PROMOTED:
            self._end(live, canary, watch, end)
            return
        if end is not None and watch.promoting_at is None:
            watch.promoting_at = now
        fits = self._staff(live, canary, watch)
        if end is not None and self._can_serve(live, canary, watch, fits=fits):
            self._end(live, canary, watch, end)
        elif now - watch.kept_at >= KEEP_S:
            self._keep(live, watch)

    def _take_up(self, live: Live, canary: Canary) -> None:
        """Another controller began it: it goes on where that one wrote last."""
        now = self._world.now()
        watch = live.watch = Watch(
            canary.revision.number,
            ran_s=canary.ran_s,
            tallies=dict(canary.tallies),
            looked_at=now,
            kept_at=now,
        )
        why = f"the controller was away; {canary.ran_s:.0f} s have passed so far"
        self._note(live, canary, End(Step.RESUMED, ITSELF, why), watch)
        self._world.tell(live.name, f"the canary of revision {watch.number} goes on: {why}")

    def _wanted(self, live: Live, canary: Canary, watch: Watch) -> End | None:
        """How it should end now, if it should."""
        if live.in_progress and live.record.candidate is not None:
            newer = live.record.candidate
            why = f"revision {newer.number} was deployed"
            return End(Step.SUPERSEDED, newer.who or ITSELF, why)
        if canary.asked is not None and canary.asked.verb is Verb.ABORT:
            return End(Step.ABORTED, canary.asked.who, canary.asked.why or "asked for")
        if watch.failure:
            return End(Step.ROLLED_BACK, ITSELF, watch.failure)
        if canary.asked is not None:
            return End(Step.PROMOTED, canary.asked.who, canary.asked.why or "asked for")
        if self._world.blind:
            return None
        verdict = judge(canary.spec, watch.evidence, elapsed_s=watch.ran_s)
        if verdict.action is Action.ROLL_BACK:
            return End(Step.ROLLED_BACK, ITSELF, verdict.why)
        if verdict.action is Action.PROMOTE:
            return End(Step.PROMOTED, ITSELF, verdict.why)
        watch.promoting_at = None
        return None

    # -- its replicas

    def _staff(self, live: Live, canary: Canary, watch: Watch) -> bool:
        """Starts the replicas that it lacks; False when one of them does not fit now."""
        mine = self._of(live, canary)
        if live.record.desired_zero:
            for replica in mine:
                self._replicas.drain(replica, patience_s=canary.revision.config.patience_s)
            return True
        wanted = self._target(live, canary, watch)
        for _ in range(wanted - len(mine)):
            if not self._start(live, canary.revision):
                self._wait_for_room(live, canary, watch, alone=not self._of(live, canary))
                return False
        watch.no_room_at = None
        return True

    def _start(self, live: Live, revision: Revision) -> bool:
        """One replica more, if it fits, and what serves does not need the room first."""
        if not self._of_serving_runs(live) and self._is_called(live):
            return False
        had = modest(revision)
        # What it was seen to need may not be to be had; it serves most requests with what it had.
        return self._replicas.start(live, revision) is not None or (
            had is not None and self._replicas.start(live, had) is not None
        )

    def _of_serving_runs(self, live: Live) -> bool:
        return any(not replica.asleep for replica in self._stable(live))

    def _is_called(self, live: Live) -> bool:
        """What serves is to run, and is not kept from it by its crashes."""
        serving = live.record.serving
        least = serving.config.min_replicas if serving else 0
        called = live.no_room or live.waiting > 0 or live.asked_at is not None
        missing = least > 0 and not self._stable(live)
        return (called or missing) and live.blocked_until is None

    def _target(self, live: Live, canary: Canary, watch: Watch) -> int:
        """By its share; before it serves alone, as many as what it follows has awake."""
        config = canary.revision.config
        seen = live.demand.values()
        outstanding = sum(demand.in_flight + demand.waiting for demand in seen)
        permits = config.permits * config.workers
        wanted = replicas(canary.share, outstanding, permits, config.max_replicas)
        if watch.promoting_at is not None:
            awake = [r for r in self._stable(live) if not r.asleep]
            wanted = max(wanted, min(len(awake), config.max_replicas))
        return max(wanted, config.min_replicas if watch.promoting_at is not None else 1)

    def _wait_for_room(self, live: Live, canary: Canary, watch: Watch, *, alone: bool) -> None:
        if not alone:
            watch.no_room_at = None  # It has replicas already; those make do.
            return
        now = self._world.now()
        watch.no_room_at = now if watch.no_room_at is None else watch.no_room_at
        waited = now - watch.no_room_at
        if self._of_serving_runs(live) or not self._is_called(live):
            self._evictions.make_room(live, canary.revision, waiting=1, waited_s=waited)
        if waited > canary.revision.config.readiness_s:
            watch.failure = f"there was no room for a replica of it within {waited:.0f} s"

    def _can_serve(self, live: Live, canary: Canary, watch: Watch, *, fits: bool) -> bool:
        """Whether what it follows may go: its own replicas are there, or as many as there will be.

        Switched sooner, all requests would queue for the one replica that a small share needs.
        """
        mine = self._of(live, canary)
        if not mine:
            return live.record.desired_zero
        starting = [replica for replica in mine if not replica.all_ready]
        if not starting and (not fits or len(mine) >= self._target(live, canary, watch)):
            return True
        waited = self._world.now() - (watch.promoting_at or 0.0)
        late = waited > canary.revision.config.readiness_s
        return late and any(replica.has_ready for replica in mine)

    def crashed(self, live: Live, replica: Replica, slot: Slot, why: str) -> None:
        """A worker of it died unasked: replaced, unless it is one too many."""
        watch, now = live.watch, self._world.now()
        if watch is None:
            self._replicas.drain(replica)
            return
        watch.crashes = [time for time in watch.crashes if now - time <= WINDOW_S] + [now]
        summary = headline(f"worker {replica.id}.{slot.index}: {why}")
        if len(watch.crashes) >= CRASHES:
            watch.failure = f"its workers died {len(watch.crashes)} times; last: {summary}"
        verdict = restart(watch.crashes, now=now, served_since_last=False)
        slot.restart_at = now + verdict.delay_s
        self._world.tell(live.name, f"the canary's {summary}", "warning")
        self._world.effects.put_replica(replica.record())

    def _of(self, live: Live, canary: Canary) -> list[Replica]:
        found = self._world.replicas_of(live.name, canary.revision.number)
        return [replica for replica in found if not replica.draining]

    def _stable(self, live: Live) -> list[Replica]:
        serving = live.record.serving
        found = self._world.replicas_of(live.name, serving.number if serving else 0)
        return [replica for replica in found if not replica.draining]

    # -- the end

    def _end(self, live: Live, canary: Canary, watch: Watch, end: End) -> None:
        watch.ending_at = self._world.now()
        self._note(live, canary, end, watch)
        number = canary.revision.number
        line = f"revision {number} {_PAST[end.step]} by {end.who}: {end.why}"
        if end.step is Step.PROMOTED:
            now = self._world.clock.epoch()
            updates = {"last_scale_event": "resourceUpdated", "last_scale_time": now}
            level = "info"
        else:
            updates, level = {}, "warning"
        logged = self._world.logged(line, level, canary=None, **updates)

        def ended(record: FunctionRecord) -> FunctionRecord:
            if record.canary is None or record.canary.revision.number != number:
                return record
            if end.step is Step.PROMOTED:
                serving = {"serving": record.canary.revision}
                record = record.model_copy(update=serving)
            if record.candidate is None:
                record = record.model_copy(update={"message": ""})
            return logged(record)

        self._world.change(live.name, ended)

    def _over(self, live: Live) -> None:
        """The store shows none any more: its replicas serve, or are strangers."""
        watch, live.watch = live.watch, None
        serving = live.record.serving
        if watch is not None and serving is not None and serving.number == watch.number:
            Crashes.forgive(live)
        if watch is not None:
            live.tried = max(live.tried, watch.number)
            live.active_at = self._world.now()
            live.prune_due = True

    def _keep(self, live: Live, watch: Watch) -> None:
        """Writes what was counted, for the controller that may come after this one."""
        watch.kept_at = self._world.now()
        kept = {"ran_s": watch.ran_s, "tallies": dict(watch.tallies)}
        number = watch.number

        def change(record: FunctionRecord) -> FunctionRecord:
            if record.canary is None or record.canary.revision.number != number:
                return record
            return record.model_copy(update={"canary": record.canary.model_copy(update=kept)})

        self._world.change(live.name, change, stamped=False)

    def _note(self, live: Live, canary: Canary, end: End, watch: Watch) -> None:
        serving = live.record.serving
        event = RolloutEvent(
            step=end.step,
            revision=canary.revision.number,
            stable=serving.number if serving else 0,
            at=self._world.clock.epoch(),
            who=end.who,
            why=end.why,
            evidence=shown(watch.evidence) | {"ran_s": round(watch.ran_s, 1)},
        )
        self._world.effects.note_rollout(live.name, event)


_PAST = {
    Step.PROMOTED: "serves: promoted",
    Step.ROLLED_BACK: "was rolled back",
    Step.ABORTED: "was aborted",
    Step.SUPERSEDED: "gets no more requests: superseded",
}


def said(canary: Canary) -> str:
    """A canary in a few words.

    >>> revision = Revision(number=4, document={})
    >>> said(Canary(revision=revision, spec=CanarySpec(), share=0.05, started_at=0.0))
    'revision 4 gets 5 % as a canary'
    """
    return f"revision {canary.revision.number} gets {100 * canary.share:g} % as a canary"


def _fit_together(ledger: Ledger, *revisions: Revision) -> bool:
    """Whether one replica of each fits these devices when nothing else is on them."""
    empty = ledger.emptied(ledger.capacity)
    for revision in revisions:
        # What was learned since is given where there is room for it, and is no condition.
        fit = empty.fit(modest(revision) or revision)
        if fit is None:
            return False
        empty.take(str(revision.number), *fit)
    return True
