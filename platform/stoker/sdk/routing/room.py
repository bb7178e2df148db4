"""The waiting room of one function: first come, first served, whatever happens in between."""

from __future__ import annotations

from collections import deque

from stoker.sdk.routing.call import Call


class Room(deque[Call]):
    """Calls by order of arrival. Whoever appends checks the bound first (`decide.admit`)."""

    __slots__ = ()

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

    def discard(self, call: Call) -> bool:
        """Takes a call out; False when it does not wait here."""
        try:
            self.remove(call)
        except ValueError:
            return False
        return True
