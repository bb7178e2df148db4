"""Whom a connection waits for, and for how long."""

from __future__ import annotations

import math
from enum import Enum, auto

from stoker.gateway.settings import GatewaySettings


class Phase(Enum):
    """Where a client's connection stands."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    BUSY = auto()
    LINGER = auto()


def patience(phase: Phase, settings: GatewaySettings, buffered: int) -> float:
    """How long a phase may last, seconds; ``buffered`` is bytes of body that have come."""
    match phase:
        case Phase.HEAD:
            return settings.header_timeout_s
        case Phase.BODY:
            return settings.body_timeout_s + buffered / settings.min_body_rate
        case Phase.IDLE:
            return settings.idle_timeout_s
        case Phase.LINGER:
            return settings.linger_s
        case Phase.BUSY:
            return math.inf


class Outflow:
    """Whether a client takes what it is sent.

    Looked at now and then, rather than told of every write: with little unsent, the transport says
    nothing, and closing it waits for a client that reads nothing for ever.
    """

    __slots__ = ("_moved", "_unsent")

    def __init__(self, now: float) -> None:
        self._unsent = 0
        self._moved = now

    def stalled_s(self, unsent: int, now: float) -> float:
        """Seconds since the client last took something; 0 when ``unsent``, in bytes, is 0."""
        if not unsent or unsent < self._unsent:
            self._moved = now
        self._unsent = unsent
        return now - self._moved
