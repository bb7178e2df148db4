"""Explicit acknowledgements: from user code to the caller that brought the records."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson

from stoker.nouns.wire import Ack, Kind
from stoker.worker.connection import Connection
from stoker.worker.ticket import Ticket

_ANY = "/"
"""The topic that older versions of MLRun name for every stream."""


class Acks:
    """Sends each acknowledgement to the connection by which its shard's records came.

    Records of a shard come by one connection at a time; when another one brings them, the earlier
    one is gone, or about to be, and has no use for acknowledgements.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._came_by: dict[tuple[str, int], tuple[Connection, str]] = {}

    def note(self, ticket: Ticket) -> None:
        """A record came; it may be acknowledged from now on."""
        record = ticket.meta["record"]
        if record["explicit"]:
            place = record["topic"], record["shard"]
            self._came_by[place] = ticket.connection, ticket.meta["trigger"]

    async def control(self, message: dict[str, Any]) -> None:
        """What ``context.platform.explicit_ack`` calls, on whichever thread's loop it is awaited.

        Acknowledgements of what nobody brought are dropped, as Nuclio drops them: the function may
        acknowledge implicitly, or the offset may be of a time before this worker's.
        """
        if message.get("kind") != "streamMessageAck":
            return
        attributes = message["attributes"]
        found = self._origin(attributes["topic"], int(attributes["partition"]))
        if found is None:
            return
        connection, ack = (
            found[0],
            Ack(
                trigger=found[1],
                shard=int(attributes["partition"]),
                offset=int(attributes["offset"]),
            ),
        )
        if threading.get_ident() == self._thread:
            connection.send_kind(Kind.ACK, 0, orjson.dumps(ack))
        else:
            self._loop.call_soon_threadsafe(connection.send_kind, Kind.ACK, 0, orjson.dumps(ack))

    def _origin(self, topic: str | None, shard: int) -> tuple[Connection, str] | None:
        if topic and topic != _ANY:
            return self._came_by.get((topic.strip("/"), shard))
        for (_, known), origin in self._came_by.items():
            if known == shard:
                return origin
        return None
