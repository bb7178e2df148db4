"""The waiting room of one function: first come, first served, whatever happens in between."""

from __future__ import annotations

from collections import deque

from stoker.sdk.routing.call import Call

ROOM_BYTES = 256 * 1024 * 1024
"""Bytes of bodies that may wait at once: a thousand waiting requests must not fill the memory."""


class Room(deque[Call]):
    """Calls by order of arrival. Whoever appends checks the bounds first.

    Attributes:
        held: bytes of the bodies that wait; written by the methods below only.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        super().__init__()
        self.held = 0

    def fits(self, call: Call) -> bool:
        """Whether its body may wait too. A body of any size may, when it is the only one."""
        return not self or self.held + len(call.body) <= ROOM_BYTES

    def append(self, call: Call, /) -> None:
        """Lets a call wait behind all others."""
        super().append(call)
        self.held += len(call.body)

    def popleft(self) -> Call:
        """Takes the call that has waited longest."""
        call = super().popleft()
        self.held -= len(call.body)
        return call

    def clear(self) -> None:
        """Nobody waits any more."""
        super().clear()
        self.held = 0

    def restore(self, call: Call) -> None:
        """Puts a call that was dispatched in vain back to its place among those who still wait.

        At the end it would be overtaken by everyone who came after it, for each refusal once more.
        """
        ahead = 0
        for other in self:
            if other.seq > call.seq:
                break
            ahead += 1
        self.insert(ahead, call)
        self.held += len(call.body)

    def discard(self, call: Call) -> bool:
        """Takes a call out; False when it does not wait here."""
        try:
            self.remove(call)
        except ValueError:
            return False
        self.held -= len(call.body)
        return True
