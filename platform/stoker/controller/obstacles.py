"""What keeps a replica off the devices, for people: who holds them, and which of those ever go."""

from __future__ import annotations

from collections.abc import Iterator

from stoker.controller.evictions import needed
from stoker.controller.view import Live, Replica
from stoker.controller.world import World
from stoker.nouns.quantity import format_bytes
from stoker.nouns.record import Revision


def waiting(world: World, live: Live) -> str:
    """What a function waits for that has no room; and from the start, if waiting alone is vain."""
    own = frozenset(replica.id for replica in world.replicas_of(live.name))
    held = world.ledger.obstacles(own)
    line = f"waiting for GPU memory held by {held}" if held else "waiting for GPU memory"
    others = [replica for replica in _holders(world) if replica.id not in own]
    if not world.ledger.known or not others or not all(_stays(world, one) for one in others):
        return line
    names = ", ".join(sorted({replica.function for replica in others}))
    return f"{line}; none of these replicas gives way: minReplicas keeps them ({names})"


def gave_up(world: World, live: Live, revision: Revision, within_s: float) -> str:
    """That no room came for a revision in so many seconds, because of whom, and the ways out."""
    why = f"no GPU became free within {within_s:g} s"
    holders = list(_holders(world))
    if holders:
        why += f": {', '.join(_holding(world, replica) for replica in holders)}"
    ways = list(_ways_out(world, live, revision, holders))
    return f"{why}. Ways out: {'; or '.join(ways)}" if ways else why


def _holders(world: World) -> Iterator[Replica]:
    for identity in world.ledger.holders():
        if identity in world.replicas:
            yield world.replicas[identity]


def _holding(world: World, replica: Replica) -> str:
    ledger = world.ledger
    held = " and ".join(
        f"all of {device}"
        if count == ledger.capacity[device]
        else f"{format_bytes(count)} of {device}"
        for device, count in ledger.held(replica.id).items()
    )
    revision = world.revision(replica)
    said = ""
    if replica.draining:
        said = " (it ends, and has requests yet)"
    elif _stays(world, replica) and revision is not None:
        said = f" (minReplicas {revision.config.min_replicas})"
    return f"{replica.id} holds {held}{said}"


def _ways_out(
    world: World, live: Live, revision: Revision, holders: list[Replica]
) -> Iterator[str]:
    others = [one for one in holders if one.function != live.name and not one.draining]
    # One of those on the cards is enough for who needs one card.
    any_of = " or " if revision.config.gpus == 1 else " and "
    whole = any_of.join(sorted({one.function for one in others if _undeclared(world, one)}))
    own = live.name if world.ledger.each(revision) is None else ""
    names = f"{own}, and on {whole}" if own and whole else own or whole
    if names:
        yield f"declare STOKER_GPU_MEMORY on {names} (without it a function takes whole cards)"
    kept = sorted({one.function for one in others if _stays(world, one)})
    if kept:
        yield f"set minReplicas: 0 on {any_of.join(kept)} (an idle one then gives way)"


def _undeclared(world: World, replica: Replica) -> bool:
    """It got its devices whole because nothing was known of what it needs."""
    revision = world.revision(replica)
    if revision is None or revision.config.env.get("STOKER_GPU_MEMORY"):
        return False
    # What was measured since is for its next replica.
    held = world.ledger.held(replica.id)
    wholly = any(count == world.ledger.capacity[device] for device, count in held.items())
    return wholly or world.ledger.each(revision) is None


def _stays(world: World, replica: Replica) -> bool:
    """It never gives way, idle or not, as long as its function is declared as it is."""
    live = world.functions.get(replica.function)
    if live is None or live.deleted or replica.draining:
        return False
    staying = [one for one in world.beside_canary(live) if not one.draining]
    return replica in staying and needed(live, len(staying))
