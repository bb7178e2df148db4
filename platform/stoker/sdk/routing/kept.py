"""Calls that one worker shall run and no other: records of a shard that must stay together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stoker.sdk.routing.call import Call
from stoker.sdk.routing.link import Link
from stoker.sdk.routing.room import Room


class Giver(Protocol):
    """Who deals out the workers' permits: a lane."""

    room: Room

    def free(self, link: Link) -> bool:
        """Whether a worker takes one more."""

    def give(self, call: Call, link: Link) -> None:
        """Dispatches a call to a worker that is free."""


def wait(giver: Giver, call: Call, link: Link, *, first: bool = False) -> None:
    """Lets a call wait for its worker, behind those that do, or before them if it was there."""
    if first:
        link.kept.appendleft(call)
    else:
        link.kept.append(call)
    serve(giver, link)


def serve(giver: Giver, link: Link) -> None:
    """Gives a worker its own calls, as many as it takes, up to one that came later than others.

    A shard that is answered queues here again at once: served first, it would leave no permit to
    those who wait for any worker.
    """
    room = giver.room
    while link.kept and giver.free(link) and not (room and room[0].seq < link.kept[0].seq):
        giver.give(link.kept.popleft(), link)


def stranded(links: Iterable[Link]) -> list[Call]:
    """Takes off the calls whose worker gets no more traffic: anyone may run them now."""
    found: list[Call] = []
    for link in links:
        if link.kept and link.slot < 0:
            found += link.kept
            link.kept.clear()
    return found


def drop(call: Call) -> None:
    """Nobody wants its outcome any more."""
    if call.pin is not None and call in call.pin.kept:
        call.pin.kept.remove(call)
