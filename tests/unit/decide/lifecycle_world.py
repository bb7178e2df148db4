"""A small world in which the shipped decisions run: one gateway, one controller, two replicas.

Everything that travels between processes is a message in a queue here, so that exploring every
order of events explores every race: what the gateway believes (``seen``) may lag behind what the
worker is (``life``). The decisions are the shipped ones (`move`, `admit`, `choose`, …), passed
in, so that a test can pass a broken copy and see whether the exploration notices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from stoker.decide.admit import Verdict, admit
from stoker.decide.lifecycle import Effect, Move, Signal, WorkerLife, move
from stoker.decide.place import place
from stoker.decide.retry import may_retry
from stoker.decide.route import choose, eligible_revision
from stoker.decide.scale import Bounds, Load, ScaleMemory, desired_replicas
from stoker.nouns.record import FunctionState, Phase

SLOTS = 2


class Violation(AssertionError):
    """An invariant does not hold."""


class Replica(NamedTuple):
    life: WorkerLife
    revision: int
    to_worker: tuple[str, ...] = ()
    to_gateway: tuple[str, ...] = ()
    seen: Phase | None = None
    """What the gateway believes; None until Redis told it that the replica exists."""
    ending: bool = False
    """The process was told to end, by itself or from outside, and has not yet."""
    initializing: bool = True
    refused: bool = False
    """It owes its caller an IDLE, because it answered BUSY("full")."""
    told_to_go: bool = False
    """The controller's own knowledge: it sent DRAIN."""
    offloaded: bool = False
    """Its weights are not on the device."""
    waking: bool = False
    """The controller's own knowledge: it sent WAKE, and counts its bytes as taken."""


class Request(NamedTuple):
    """``state``: new, waiting, sent, running, answered (the reply is on its way), or an outcome."""

    state: str = "new"
    at: int = -1
    attempts: int = 0


OUTCOMES = {"done", "lost", "refused"}


class Budget(NamedTuple):
    """How often each accident may still happen, and how many of all kinds together."""

    together: int = 2
    crash: int = 1
    idle: int = 1
    sleep: int = 1
    late: int = 1
    init_failure: int = 1
    redeploy: int = 1
    redis_loss: int = 1
    controller_restart: int = 1


class World(NamedTuple):
    replicas: tuple[Replica | None, ...] = (None,) * SLOTS
    requests: tuple[Request, ...] = ()
    room: tuple[int, ...] = ()
    """Waiting requests in the order of their arrival."""
    serving: int = 1
    gateway_serving: int = 1
    candidate: int | None = None
    redis: bool = True
    failed_once: bool = False
    """A start failed at some time: what a gateway that caches verdicts would remember."""
    budget: Budget = Budget()


@dataclass
class Rules:
    """The decisions under test, the world's size, and a record of what was exercised."""

    move: Callable[[WorkerLife, Signal], Move] = move
    admit: Callable[..., Verdict] = admit
    remembers_verdicts: bool = False
    capacity: int = SLOTS
    eager: bool = False
    """Callers that send before they saw READY, which the wire allows (BUSY says "starting")."""
    permits: int = 1
    believed_permits: int = 1
    """What the gateway sends to a worker with one permit: two stand for a second gateway."""
    visited: set[tuple[Phase, Signal, tuple[Effect, ...]]] = field(default_factory=set)

    def signal(self, life: WorkerLife, signal: Signal) -> Move:
        moved = self.move(life, signal)
        self.visited.add((life.phase, signal, moved.effects))
        return moved


def put(world: World, slot: int, replica: Replica | None) -> World:
    replicas = list(world.replicas)
    replicas[slot] = replica
    return world._replace(replicas=tuple(replicas))


def set_request(world: World, index: int, request: Request) -> World:
    before = world.requests[index]
    if before.state in OUTCOMES:
        raise Violation(f"request {index} got a second outcome: {before} then {request}")
    requests = list(world.requests)
    requests[index] = request
    return world._replace(requests=tuple(requests))


def live(world: World) -> list[Replica]:
    return [replica for replica in world.replicas if replica is not None]


def slots(world: World) -> Iterator[tuple[int, Replica]]:
    for slot, replica in enumerate(world.replicas):
        if replica is not None:
            yield slot, replica


# ---------------------------------------------------------------- the gateway


def arrive(rules: Rules, world: World, index: int) -> World:
    free, warm, starting = 0, 0, 0
    for slot, replica in slots(world):
        if replica.seen is Phase.READY:
            warm += 1
            free += outstanding(world, slot) < rules.believed_permits
        starting += replica.seen is Phase.STARTING
    state = FunctionState.READY
    if rules.remembers_verdicts and world.failed_once:
        state, warm, starting, free = FunctionState.UNHEALTHY, 0, 0, 0
    verdict = rules.admit(
        free_permits=free,
        waiting=len(world.room),
        queue_limit=3,
        warm=warm,
        starting=starting,
        state=state,
    )
    if verdict in (Verdict.FULL, Verdict.UNHEALTHY):
        return set_request(world, index, Request("refused"))
    return enter(rules, world, index, attempts=0, front=False)


def enter(rules: Rules, world: World, index: int, *, attempts: int, front: bool) -> World:
    """The request goes to the room; whatever can be dispatched then is."""
    world = set_request(world, index, Request("waiting", attempts=attempts))
    room = (index, *world.room) if front else (*world.room, index)
    return dispatch_room(rules, world._replace(room=room))


def outstanding(world: World, slot: int) -> int:
    return sum(r.at == slot and r.state in ("sent", "running", "answered") for r in world.requests)


def dispatch_room(rules: Rules, world: World) -> World:
    usable = (Phase.READY, Phase.STARTING) if rules.eager else (Phase.READY,)
    while world.room:
        ready = {r.revision for r in live(world) if r.seen in usable}
        revision = eligible_revision(world.gateway_serving, ready)
        found = [s for s, r in slots(world) if r.seen in usable and r.revision == revision]
        picked = choose(
            [outstanding(world, slot) for slot in found],
            [rules.believed_permits for _ in found],
            start=0,
        )
        if picked is None:
            return world
        world = dispatch(world, found[picked])
    return world


def dispatch(world: World, slot: int) -> World:
    index, *rest = world.room
    replica = world.replicas[slot]
    assert replica is not None
    request = world.requests[index]
    world = set_request(world, index, Request("sent", slot, request.attempts))
    sent = replica._replace(to_worker=(*replica.to_worker, f"dispatch {index}"))
    return put(world, slot, sent)._replace(room=tuple(rest))


def gateway_receives(rules: Rules, world: World, slot: int) -> World:
    replica = world.replicas[slot]
    assert replica is not None
    message, *rest = replica.to_gateway
    kind, _, number = message.partition(" ")
    replica = replica._replace(to_gateway=tuple(rest))
    world = put(world, slot, replica)
    match kind:
        case "ready":
            world = put(world, slot, replica._replace(seen=Phase.READY))
        case "draining" | "asleep" | "starting":
            world = put(world, slot, replica._replace(seen=Phase(kind)))
        case "busy" | "snooze":
            if replica.seen is Phase.READY:
                # Refused by a worker that it took for ready: not until it says so again.
                refused = Phase.ASLEEP if kind == "snooze" else Phase.STARTING
                world = put(world, slot, replica._replace(seen=refused))
            attempts = world.requests[int(number)].attempts
            return enter(rules, world, int(number), attempts=attempts, front=True)
        case "done":
            world = set_request(world, int(number), Request("done"))
        case "stopped":
            # An orderly end: whatever has no answer was never admitted.
            return take_back(rules, world, slot, started=False)
        case "eof":
            world = take_back(rules, world, slot, started=replica.seen is not Phase.STARTING)
            return dispatch_room(rules, put(world, slot, None))
    return dispatch_room(rules, world)


def take_back(rules: Rules, world: World, slot: int, *, started: bool) -> World:
    replica = world.replicas[slot]
    assert replica is not None
    world = put(world, slot, replica._replace(seen=Phase.STOPPED))
    for index, request in enumerate(world.requests):
        if request.at != slot or request.state in OUTCOMES:
            continue
        if request.state == "answered":
            raise Violation(f"request {index}: the worker's end overtook its answer")
        attempts = request.attempts + started
        again = may_retry(
            method="GET" if index % 2 == 0 else "POST",
            idempotency_key=False,
            started=started,
            attempts=attempts,
        )
        if again:
            world = enter(rules, world, index, attempts=attempts, front=True)
        else:
            world = set_request(world, index, Request("lost"))
    return world


# ---------------------------------------------------------------- the worker


def apply(rules: Rules, world: World, slot: int, signal: Signal, index: int = -1) -> World:
    """Runs the lifecycle for the worker in ``slot`` and carries its effects out."""
    replica = world.replicas[slot]
    assert replica is not None
    moved = rules.signal(replica.life, signal)
    replica = replica._replace(life=moved.life)
    for effect in moved.effects:
        match effect:
            case Effect.ANNOUNCE_READY:
                replica = replica._replace(to_gateway=(*replica.to_gateway, "ready"))
            case Effect.ANNOUNCE_DRAINING:
                replica = replica._replace(to_gateway=(*replica.to_gateway, "draining"))
            case Effect.ANNOUNCE_ASLEEP:
                replica = replica._replace(to_gateway=(*replica.to_gateway, "asleep"))
            case Effect.ANNOUNCE_STARTING:
                replica = replica._replace(to_gateway=(*replica.to_gateway, "starting"))
            case Effect.LOAD:
                replica = replica._replace(initializing=True, offloaded=False)
            case Effect.OFFLOAD:
                replica = replica._replace(offloaded=True)
            case Effect.REFUSE:
                word = "snooze" if replica.life.phase is Phase.ASLEEP else "busy"
                said = (*replica.to_gateway, f"{word} {index}")
                replica = replica._replace(to_gateway=said, refused=True)
            case Effect.ADMIT:
                attempts = world.requests[index].attempts
                world = set_request(world, index, Request("running", slot, attempts))
            case Effect.EXIT | Effect.KILL:
                replica = replica._replace(ending=True)
            case Effect.REPLACE | Effect.FORGET:
                pass
    if replica.refused and replica.life.phase is Phase.READY and not replica.life.in_flight:
        idle = (*replica.to_gateway, "ready")
        replica = replica._replace(to_gateway=idle, refused=False)
    return put(world, slot, replica)


def worker_receives(rules: Rules, world: World, slot: int) -> World:
    replica = world.replicas[slot]
    assert replica is not None
    message, *rest = replica.to_worker
    world = put(world, slot, replica._replace(to_worker=tuple(rest)))
    kind, _, number = message.partition(" ")
    if kind in ("drain", "sleep"):
        return apply(rules, world, slot, Signal(kind))
    if kind == "wake":
        woken = apply(rules, world, slot, Signal.WAKE)
        replica = woken.replicas[slot]
        assert replica is not None
        return put(woken, slot, replica._replace(waking=False))
    return apply(rules, world, slot, Signal.DISPATCH, int(number))


def worker_finishes(rules: Rules, world: World, slot: int, index: int) -> World:
    attempts = world.requests[index].attempts
    world = set_request(world, index, Request("answered", slot, attempts))
    replica = world.replicas[slot]
    assert replica is not None
    answered = replica._replace(to_gateway=(*replica.to_gateway, f"done {index}"))
    return apply(rules, put(world, slot, answered), slot, Signal.FINISH)


def process_ends(rules: Rules, world: World, slot: int, *, orderly: bool = False) -> World:
    world = apply(rules, world, slot, Signal.EXITED)
    replica = world.replicas[slot]
    assert replica is not None
    if not replica.life.phase.is_terminal:
        raise Violation(f"the process ended and its life goes on: {replica}")
    for index, request in enumerate(world.requests):
        if request.state == "running" and request.at == slot:
            world = set_request(world, index, request._replace(state="sent"))
    if replica.seen is None:
        return put(world, slot, None)
    last = ("stopped", "eof") if orderly else ("eof",)
    return put(world, slot, replica._replace(to_worker=(), to_gateway=replica.to_gateway + last))


# ---------------------------------------------------------------- the controller


def holds_device(replica: Replica) -> bool:
    """Until the process has ended, its bytes are taken, unless it sleeps."""
    if replica.offloaded and not replica.waking:
        return False
    return not replica.life.phase.is_terminal or replica.ending


def free_devices(rules: Rules, world: World) -> dict[str, int]:
    used = sum(holds_device(replica) for replica in live(world))
    if used > rules.capacity:
        raise Violation(f"the ledger exceeds the device: {used} > {rules.capacity}")
    return {"card": rules.capacity - used}


def start(rules: Rules, world: World, revision: int) -> World | None:
    if place(free_devices(rules, world), gpus=1, bytes_per_gpu=1) is None:
        return None
    for slot, replica in enumerate(world.replicas):
        if replica is None:
            return put(
                world, slot, Replica(WorkerLife(Phase.STARTING, permits=rules.permits), revision)
            )
    return None


def wanted(world: World) -> int:
    """The shipped scaling decision, over what the gateway reports through Redis."""
    serving = [r for r in live(world) if r.revision == world.serving and usable(r)]
    running = sum(r.state in ("sent", "running", "answered") for r in world.requests)
    target, _ = desired_replicas(
        Load(in_flight=running, waiting=len(world.room), last_active=0.0),
        Bounds(minimum=0, maximum=1, permits=1, idle_window_s=1e9),
        len(serving),
        ScaleMemory(),
        desired_zero=False,
        now=0.0,
    )
    return target - len(serving)


def usable(replica: Replica) -> bool:
    counted = replica.life.phase in (Phase.STARTING, Phase.READY) or replica.waking
    return counted and not replica.told_to_go


def tell(world: World, slot: int, word: str) -> World:
    """The controller sends a frame."""
    replica = world.replicas[slot]
    assert replica is not None
    told = replica._replace(to_worker=(*replica.to_worker, word))
    return put(world, slot, told._replace(waking=word == "wake" or replica.waking))


def wake(rules: Rules, world: World) -> World | None:
    """Wakes one that sleeps, where its device has room; None when there is none to wake."""
    free = place(free_devices(rules, world), gpus=1, bytes_per_gpu=1) is not None
    for slot, replica in slots(world):
        sleeps = replica.life.phase is Phase.ASLEEP and not replica.told_to_go
        if sleeps and not replica.waking and replica.revision == world.serving and free:
            return tell(world, slot, "wake")
    return None


def drain(world: World, slot: int) -> World:
    replica = world.replicas[slot]
    assert replica is not None
    told = replica._replace(to_worker=(*replica.to_worker, "drain"), told_to_go=True)
    return put(world, slot, told)


def promote(world: World) -> World:
    """The candidate is ready: it serves, then the old ones are drained."""
    world = world._replace(serving=world.candidate or world.serving, candidate=None)
    for slot, replica in slots(world):
        if replica.revision < world.serving and not replica.told_to_go:
            world = drain(world, slot)
    return world
