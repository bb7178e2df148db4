"""Requests read ahead of the one being answered."""

from __future__ import annotations

from collections import deque

from stoker.gateway.exchange import Exchange

BACKLOG_LIMIT = 16
"""Requests of one connection, before we stop reading."""
BACKLOG_BYTES = 1024 * 1024
"""Bytes of their bodies, before we stop reading."""


class Backlog(deque[Exchange]):
    """Complete requests of one connection that wait for their turn.

    Attributes:
        held: bytes of their bodies; written by the methods below only.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        super().__init__()
        self.held = 0

    @property
    def full(self) -> bool:
        """No more should be read: the client is ahead of its answers."""
        return len(self) >= BACKLOG_LIMIT or self.held > BACKLOG_BYTES

    def append(self, exchange: Exchange, /) -> None:
        """Lets a request wait behind the others."""
        super().append(exchange)
        self.held += len(exchange.body)

    def popleft(self) -> Exchange:
        """Takes the one whose turn it is."""
        exchange = super().popleft()
        self.held -= len(exchange.body)
        return exchange

    def clear(self) -> None:
        """None of them will be answered."""
        super().clear()
        self.held = 0
