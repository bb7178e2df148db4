"""The deployment of a candidate: build, start, prove that it gets ready, switch, drain the old."""

from __future__ import annotations

from stoker.controller.canary import CONFIRM_S, Canaries
from stoker.controller.crashes import Crashes
from stoker.controller.cron import unusable
from stoker.controller.effects import Change
from stoker.controller.evictions import Evictions
from stoker.controller.happenings import BuildFailed, Built
from stoker.controller.headline import headline
from stoker.controller.namesakes import notices
from stoker.controller.obstacles import gave_up, waiting
from stoker.controller.replicas import Replicas
from stoker.controller.under_way import Rollout, Stage
from stoker.controller.view import Live, Replica
from stoker.controller.world import World, if_candidate
from stoker.nouns.function import FunctionConfig
from stoker.nouns.parts import ACTING_TRIGGERS
from stoker.nouns.record import FunctionRecord, FunctionState, Revision


class Rollouts:
    """Brings candidates to serve. The previous revision serves until the new one is ready."""

    def __init__(
        self,
        world: World,
        replicas: Replicas,
        crashes: Crashes,
        evictions: Evictions,
        canaries: Canaries,
    ) -> None:
        self._world = world
        self._evictions = evictions
        self._replicas = replicas
        self._crashes = crashes
        self._canaries = canaries

    def advance(self, live: Live) -> None:
        """Takes the next step that facts allow; the newest candidate wins."""
        candidate = live.record.candidate
        if live.rollout and live.rollout.stage is Stage.PROMOTING:
            self._finish(live, live.rollout)
        if live.rollout and (candidate is None or candidate.number != live.rollout.number):
            # Its replicas are strangers from now on: the scaler ends them.
            live.rollout, live.prune_due = None, True
            self._world.ledger.forget_promise(live.name)
            self._world.effects.stop_build(live.name)
        if candidate is None or not live.in_progress:
            return
        if live.rollout:
            self._ask_again(live, live.rollout, candidate)
        if live.rollout is None and candidate.number > live.settled:
            self._open(live, candidate)
        elif live.rollout and live.rollout.stage is Stage.WAITING:
            self._await_driver(live, live.rollout, candidate)
        elif live.rollout and live.rollout.stage is Stage.PLACING:
            self._place(live, live.rollout, candidate)
        elif live.rollout and live.rollout.stage is Stage.STARTING:
            self._prove(live, live.rollout, candidate)

    def _ask_again(self, live: Live, rollout: Rollout, candidate: Revision) -> None:
        """A write that the store has not shown after `CONFIRM_S` was dropped, or forgotten."""
        if self._world.blind or self._world.now() - rollout.since <= CONFIRM_S:
            return
        if rollout.stage is Stage.PROMOTING:
            rollout.stage = Stage.STARTING
        elif rollout.stage is Stage.PLACING and candidate.code_dir is None:
            self._begin(live, candidate)

    def _open(self, live: Live, candidate: Revision) -> None:
        if self._world.ledger.known or not candidate.config.gpus:
            self._begin(live, candidate)
            return
        live.rollout = Rollout(candidate.number, Stage.WAITING, self._world.now())
        waiting = "waiting for the GPU driver, which does not answer (controller.log says why)"
        self._tell(live, candidate.number, waiting, "warning")

    def _await_driver(self, live: Live, rollout: Rollout, candidate: Revision) -> None:
        limit_s = candidate.config.readiness_s
        if self._world.ledger.known:
            self._begin(live, candidate)
        elif self._world.now() - rollout.since > limit_s:
            self.fail(
                live, FunctionState.ERROR, f"the GPU driver did not answer within {limit_s:g} s"
            )

    def _begin(self, live: Live, candidate: Revision) -> None:
        live.rollout = Rollout(candidate.number, Stage.BUILDING, self._world.now())
        split = self._world.ledger.several_instances(candidate)
        if split:
            self.fail(live, FunctionState.ERROR, f"can never fit: {split}")
            return
        building = self._world.logged(
            f"building revision {candidate.number}",
            state=FunctionState.BUILDING,
            message="",
        )
        self._change(live, candidate.number, building)
        for line in advice(candidate.config, bool(self._world.ledger.capacity)):
            self._tell(live, candidate.number, line, "warning")
        for line in notices(self._world, live, candidate.config):
            self._tell(live, candidate.number, line, "warning")
        if why := self._canaries.why_not(live, candidate):
            line = f"{why}: it serves once it is ready, and is no canary"
            self._tell(live, candidate.number, line, "info")
        self._world.effects.build(live.record, self._world.computes_on(candidate.config))

    def built(self, live: Live, event: Built) -> None:
        """Its code and environment are in place."""
        rollout = live.rollout
        if rollout is None or rollout.number != event.number or rollout.stage is not Stage.BUILDING:
            return
        rollout.stage, rollout.since = Stage.PLACING, self._world.now()
        configuring = self._world.logged(
            f"built revision {event.number}", state=FunctionState.CONFIGURING
        )

        def change(record: FunctionRecord) -> FunctionRecord:
            if record.candidate is None:
                return record
            made = {"code_dir": event.code_dir, "site_dir": event.site_dir, "model": event.model}
            candidate = record.candidate.model_copy(update=made)
            return configuring(record.model_copy(update={"candidate": candidate}))

        self._change(live, event.number, change)

    def build_failed(self, live: Live, event: BuildFailed) -> None:
        """It cannot be built."""
        if live.rollout is not None and live.rollout.number == event.number:
            self.fail(live, FunctionState.ERROR, event.message)

    def _place(self, live: Live, rollout: Rollout, candidate: Revision) -> None:
        config = candidate.config
        if candidate.code_dir is None:
            return  # The store has not confirmed the build yet.
        if config.spec.disable:
            self._promote(live, rollout, FunctionState.SCALED_TO_ZERO)
        elif self._candidates_replicas(live, candidate.number):
            # The controller before this one had started it: another beside it would only cost.
            rollout.stage, rollout.recreate = Stage.STARTING, False
        elif obstacle := self._canaries.obstacle(live, candidate):
            self.fail(live, FunctionState.ERROR, obstacle)
        elif self._replicas.start(live, candidate) is not None:
            # A canary has as many as its share needs.
            more = 0 if self._canaries.spec_for(live, candidate) else config.min_replicas - 1
            for _ in range(more):
                self._replicas.start(live, candidate)
            rollout.stage, rollout.recreate = Stage.STARTING, False
        else:
            self._make_room(live, rollout, candidate)

    def _make_room(self, live: Live, rollout: Rollout, candidate: Revision) -> None:
        """It does not fit beside what runs: the old revision goes first, only where that helps."""
        ledger, number, config = self._world.ledger, rollout.number, candidate.config
        own = frozenset(r.id for r in self._world.replicas_of(live.name))
        tried = self._canaries.spec_for(live, candidate) is not None
        alone = ledger.fit(candidate, without=own)
        missing = ledger.missing(candidate)
        if missing:
            self.fail(live, FunctionState.ERROR, missing)
        elif not ledger.could_fit(candidate):
            self.fail(live, FunctionState.ERROR, f"can never fit: {ledger.arithmetic(candidate)}")
        elif self._world.now() - rollout.since > config.readiness_s:
            why = gave_up(self._world, live, candidate, config.readiness_s)
            self.fail(live, FunctionState.ERROR, why)
        elif not rollout.recreate and self._evictions.make_room(
            live, candidate, waiting=1, waited_s=self._world.now() - rollout.since
        ):
            # The old revision serves on while somebody else, who is idle, makes room.
            return
        elif tried and self._canaries.is_shut_out(live, candidate):
            # To stop what serves for what is only tried out would cost the requests.
            self.fail(live, FunctionState.ERROR, self._canaries.refusal(live, candidate))
        elif alone is not None and not rollout.recreate and not tried:
            rollout.recreate = True
            # Nobody else may take what the old revision gives up, or neither of the two would run.
            ledger.promise(live.name, alone[0], ledger.each(candidate))
            self._tell(
                live,
                number,
                "the new revision does not fit beside the old one: stopping the old one first "
                "(Recreate); requests wait until the new one is ready",
                "warning",
            )
        elif not rollout.waiting_told and not rollout.recreate:
            rollout.waiting_told = True
            self._tell(live, number, waiting(self._world, live), "warning")

    def _prove(self, live: Live, rollout: Rollout, candidate: Revision) -> None:
        replicas = self._candidates_replicas(live, candidate.number)
        if not replicas:
            # Its zygote died under it; nothing is known against the candidate.
            rollout.stage = Stage.PLACING
        elif all(replica.all_ready for replica in replicas):
            if candidate.config.sleep_after_s is not None and not replicas[0].can_sleep:
                self._tell(live, candidate.number, _NEVER_SLEEPS, "warning")
            spec = self._canaries.spec_for(live, candidate)
            if spec is None:
                self._promote(live, rollout, FunctionState.READY)
            else:
                rollout.stage, rollout.since = Stage.PROMOTING, self._world.now()
                self._canaries.begin(live, candidate, spec)

    def _promote(self, live: Live, rollout: Rollout, state: FunctionState) -> None:
        rollout.stage, rollout.since = Stage.PROMOTING, self._world.now()

        def switch(record: FunctionRecord) -> FunctionRecord:
            logged = self._world.logged(
                f"revision {rollout.number} serves",
                serving=record.candidate,
                candidate=None,
                state=state,
                message="",
                last_scale_event="resourceUpdated",
                last_scale_time=self._world.clock.epoch(),
            )
            return logged(record)

        self._change(live, rollout.number, switch)

    def _finish(self, live: Live, rollout: Rollout) -> None:
        """The store has confirmed the switch: only now may the old revision go."""
        serving, canary = live.record.serving, live.record.canary
        if canary is not None and canary.revision.number == rollout.number:
            live.rollout, live.settled = None, rollout.number
            self._canaries.begun(live, rollout.number)
            return
        if serving is None or serving.number != rollout.number:
            return
        live.rollout, live.settled = None, rollout.number
        live.active_at = self._world.now()
        self._crashes.forgive(live)
        live.prune_due = True

    def crashed(self, live: Live, replica: Replica, index: int, why: str) -> None:
        """A worker of the candidate failed before the switch: so does the deployment."""
        self.fail(live, FunctionState.UNHEALTHY, f"worker {replica.id}.{index}: {why}")

    def fail(self, live: Live, state: FunctionState, why: str) -> None:
        """The deployment ends here; whatever served before goes on serving."""
        rollout = live.rollout
        if rollout is None:
            return
        live.rollout, live.settled = None, rollout.number
        # Of those that failed before it nothing may stay, or a pipeline that fails every night
        # fills the disk.
        live.prune_due = True
        self._world.ledger.forget_promise(live.name)
        summary = headline(why)
        failed = self._world.logged(why, "error", state=state, message=summary)
        self._change(live, rollout.number, failed)

    def _candidates_replicas(self, live: Live, number: int) -> list[Replica]:
        return [r for r in self._world.replicas_of(live.name, number) if not r.draining]

    def _change(self, live: Live, number: int, change: Change) -> None:
        self._world.change(live.name, if_candidate(number, change))

    def _tell(self, live: Live, number: int, message: str, level: str) -> None:
        self._change(live, number, self._world.logged(message, level))


_NEVER_SLEEPS = (
    "STOKER_SLEEP_AFTER does nothing: its workers have nothing to take off a device (what "
    "load_model loads onto one leaves it; of anything else stoker.sdk.on_sleep says how)"
)


def advice(config: FunctionConfig, has_devices: bool) -> list[str]:
    """What the function declares and this home will not act on."""
    lines = [
        f"trigger {name!r} of kind {trigger.kind!r} is kept but does nothing here: "
        "only http, cron and v3ioStream act"
        for name, trigger in config.spec.triggers.items()
        if trigger.kind not in ACTING_TRIGGERS
    ]
    lines += unusable(config)
    if config.gpus and not has_devices:
        lines.append(f"asks for {config.gpus} GPU(s); this home has none: runs on the CPU")
    return lines
