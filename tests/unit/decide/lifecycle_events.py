"""The events of the small world, and the search through every order of them."""

from __future__ import annotations

from collections.abc import Iterator

from lifecycle_world import (
    OUTCOMES,
    Budget,
    Replica,
    Request,
    Rules,
    Violation,
    World,
    apply,
    arrive,
    dispatch_room,
    drain,
    free_devices,
    gateway_receives,
    live,
    process_ends,
    promote,
    put,
    slots,
    start,
    tell,
    usable,
    wake,
    wanted,
    worker_finishes,
    worker_receives,
)

from stoker.decide.evict import Resident, Room, Want, make_room
from stoker.decide.lifecycle import Signal
from stoker.decide.scale import ReplicaFacts, victims
from stoker.nouns.record import Phase

Step = tuple[str, World]


def chances(rules: Rules, world: World) -> Iterator[Step]:
    """What may happen besides: a new request, or bad luck."""
    yield from accidents(rules, world)
    # Requests arrive in order: which of equal requests comes first makes no difference.
    new = [i for i, request in enumerate(world.requests) if request.state == "new"]
    if new:
        yield f"arrive {new[0]}", arrive(rules, world, new[0])


def progress(rules: Rules, world: World) -> Iterator[Step]:
    """What goes on by itself, without a new request and without bad luck."""
    for slot, replica in slots(world):
        yield from worker_progress(rules, world, slot, replica)
    yield from control_progress(rules, world)


def worker_progress(rules: Rules, world: World, slot: int, replica: Replica) -> Iterator[Step]:
    alive = not (replica.life.phase is Phase.STOPPED or dead(replica))
    if alive and replica.to_worker:
        yield f"receive {slot}", worker_receives(rules, world, slot)
    if replica.initializing and alive and replica.life.phase is not Phase.FAILED:
        done = put(world, slot, replica._replace(initializing=False))
        yield f"initialized {slot}", apply(rules, done, slot, Signal.INITIALIZED)
    if replica.ending and alive:
        orderly = replica.life.phase is Phase.DRAINING
        yield f"end {slot}", process_ends(rules, put_ended(world, slot), slot, orderly=orderly)
    if replica.to_gateway and replica.seen is not None:
        yield f"hear {slot}", gateway_receives(rules, world, slot)
    for index, request in enumerate(world.requests):
        if request.state == "running" and request.at == slot and not dead(replica):
            yield f"finish {index}", worker_finishes(rules, world, slot, index)


def dead(replica: Replica) -> bool:
    return replica.life.phase.is_terminal and not replica.ending


def put_ended(world: World, slot: int) -> World:
    replica = world.replicas[slot]
    assert replica is not None
    return put(world, slot, replica._replace(ending=False, initializing=False))


def control_progress(rules: Rules, world: World) -> Iterator[Step]:
    if not world.redis:
        return
    for slot, replica in slots(world):
        if replica.seen is None and not dead(replica):
            seen = put(world, slot, replica._replace(seen=Phase.STARTING))
            yield f"discover {slot}", dispatch_room(rules, seen)
    if world.gateway_serving != world.serving:
        learned = world._replace(gateway_serving=world.serving)
        yield "learn", dispatch_room(rules, learned)
    if world.room and wanted(world) > 0 and not making_room(world):
        woken = wake(rules, world)
        if woken is not None:
            yield "wake from sleep", woken
            return
        started = start(rules, world, world.serving)
        if started is not None:
            yield "wake", started
    if world.candidate is not None:
        yield from deploy_progress(rules, world, world.candidate)


def deploy_progress(rules: Rules, world: World, candidate: int) -> Iterator[Step]:
    mine = [r for r in live(world) if r.revision == candidate]
    if any(r.life.phase is Phase.READY for r in mine):
        yield "promote", promote(world)
    elif not any(usable(r) for r in mine):
        started = start(rules, world, candidate)
        if started is not None:
            yield "start candidate", started
            return
        for slot, replica in slots(world):
            if usable(replica):
                yield f"make room {slot}", drain(world, slot)


def making_room(world: World) -> bool:
    """The old revision went so that the candidate fits: waking the old one again would undo it."""
    return world.candidate is not None and any(r.told_to_go for r in live(world))


def spend(world: World, accident: str) -> World:
    budget = world.budget
    left = {accident: getattr(budget, accident) - 1, "together": budget.together - 1}
    return world._replace(budget=budget._replace(**left))


def accidents(rules: Rules, world: World) -> Iterator[Step]:
    if not world.redis:
        yield "redis back", world._replace(redis=True)
    if not world.budget.together:
        return
    for slot, replica in slots(world):
        yield from worker_accidents(rules, world, slot, replica)
    if world.budget.redeploy and world.candidate is None and world.serving == 1:
        yield "redeploy", spend(world, "redeploy")._replace(candidate=2)
    if world.budget.redis_loss and world.redis:
        yield "redis lost", spend(world, "redis_loss")._replace(redis=False)
    if world.budget.controller_restart and any(r.told_to_go or r.waking for r in live(world)):
        forgotten = [r and r._replace(told_to_go=False, waking=False) for r in world.replicas]
        restarted = spend(world, "controller_restart")._replace(replicas=tuple(forgotten))
        yield "controller restarts", restarted


def worker_accidents(rules: Rules, world: World, slot: int, replica: Replica) -> Iterator[Step]:
    budget, phase = world.budget, replica.life.phase
    if budget.crash and not phase.is_terminal:
        crashed = put_ended(spend(world, "crash"), slot)
        yield f"crash {slot}", process_ends(rules, crashed, slot)
    if budget.idle and phase is Phase.READY and not replica.told_to_go:
        # The controller decides by the demand that it was told, which may be old.
        for believed in {0, replica.life.in_flight}:
            facts = ReplicaFacts(str(slot), phase, believed, created_at=0.0)
            if victims([facts], surplus=1):
                yield f"idle {slot}", drain(spend(world, "idle"), slot)
            if evicts(slot, busy=believed > 0):
                yield f"evict {slot}", drain(spend(world, "idle"), slot)
    awake = phase in (Phase.READY, Phase.ASLEEP) and replica.revision == world.serving
    if budget.sleep and awake and not replica.told_to_go:
        # Whether it has work the controller knows only from demand that may be old.
        yield f"sleep {slot}", tell(spend(world, "sleep"), slot, "sleep")
    if budget.idle and phase is Phase.ASLEEP and not (replica.told_to_go or replica.waking):
        yield f"to zero {slot}", drain(spend(world, "idle"), slot)
    if budget.late and not dead(replica):
        late = spend(world, "late")._replace(failed_once=True)
        yield f"too late {slot}", apply(rules, late, slot, Signal.READINESS_EXPIRED)
    if budget.init_failure and replica.initializing and phase is not Phase.FAILED:
        failed = put(spend(world, "init_failure"), slot, replica._replace(initializing=False))
        failed = failed._replace(failed_once=True, candidate=None)
        yield f"init failed {slot}", apply(rules, failed, slot, Signal.INIT_FAILED)


def evicts(slot: int, *, busy: bool) -> bool:
    """Whether another function that has waited past its bound takes this replica's bytes."""
    resident = Resident(str(slot), "fn", {"card": 1}, reload_s=1.0, rate=1.0, since=0.0, busy=busy)
    other = Want("other", gpus=1, each=1, waited_s=1e6)
    decided = make_room(other, [resident], {"card": 0}, now=1e6)
    return isinstance(decided, Room) and decided.victims == (str(slot),)


def check(rules: Rules, world: World) -> None:
    """The invariants that hold in every state."""
    free_devices(rules, world)
    for index, request in enumerate(world.requests):
        if request.state == "refused":
            raise Violation(f"request {index} was refused although nothing is wrong")
        if request.state == "lost" and world.budget.crash:
            raise Violation(f"request {index} was lost although nothing crashed")
        if request.state not in ("sent", "running"):
            continue
        replica = world.replicas[request.at]
        if replica is None:
            raise Violation(f"request {index} waits on a replica that is gone: {world}")
        if dead(replica) and "eof" not in replica.to_gateway:
            raise Violation(f"request {index} waits on a stopped replica: {world}")
        if request.state == "running" and replica.ending and world.budget.late:
            raise Violation(f"request {index} runs on a replica that is stopping: {world}")


def explore(rules: Rules, requests: int, accidents: int = 2, sleeps: int = 1) -> int:
    """Visits every reachable state; returns how many there are.

    Raises:
        Violation: with the shortest sequence of events that leads to it.
    """
    budget = Budget(together=accidents, sleep=sleeps)
    first = World(requests=(Request(),) * requests, budget=budget)
    parents: dict[World, tuple[World, str] | None] = {first: None}
    frontier = [first]
    while frontier:
        following: list[World] = []
        for world in frontier:
            try:
                check(rules, world)
                found = list(progress(rules, world))
                stuck(world, goes_on=bool(found))
                found += chances(rules, world)
            except Violation as exc:
                raise Violation(f"{exc}\n  after: {' → '.join(path(parents, world))}") from None
            for name, after in found:
                if after not in parents:
                    parents[after] = (world, name)
                    following.append(after)
        frontier = following
    return len(parents)


def stuck(world: World, *, goes_on: bool) -> None:
    """Where nothing goes on by itself any more, every accepted request must have its outcome."""
    if not world.redis or goes_on:
        return
    left = [r for r in world.requests if r.state not in OUTCOMES and r.state != "new"]
    if left:
        raise Violation(f"nothing will ever happen to {left}: {world}")


def path(parents: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    names: list[str] = []
    at = parents[world]
    while at is not None:
        names.append(at[1])
        at = parents[at[0]]
    return names[::-1]
