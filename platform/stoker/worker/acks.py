"""Explicit acknowledgements: from user code to the caller that brought the records."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson

from stoker.nouns.wire import Ack, Kind, Nack
from stoker.worker.connection import Connection
from stoker.worker.ticket import Ticket

_ANY = "/"
"""The topic that older versions of MLRun name for every stream."""
_ACK = "streamMessageAck"
FAILED = "streamMessageFailed"
"""Stoker's own kind of control message, beside Nuclio's."""
_LONGEST_REASON = 2000


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

        What is said of records that nobody brought is dropped, as Nuclio drops it: the function may
        acknowledge implicitly, or the offset may be of a time before this worker's. MLRun's runtime
        acknowledges every event, one that came by HTTP and has no shard as well; were that an
        error, it would acknowledge no record after it.
        """
        attributes = message.get("attributes") or {}
        if message.get("kind") not in (_ACK, FAILED) or attributes.get("partition") is None:
            return
        shard, offset = int(attributes["partition"]), int(attributes["offset"])
        found = self._origin(attributes["topic"], shard)
        if found is None:
            return
        connection, trigger = found
        if message["kind"] == _ACK:
            ack: Ack = {"trigger": trigger, "shard": shard, "offset": offset}
            self._send(connection, Kind.ACK, orjson.dumps(ack))
        else:
            reason = str(attributes["reason"])[:_LONGEST_REASON]
            nack: Nack = {"trigger": trigger, "shard": shard, "offset": offset, "reason": reason}
            self._send(connection, Kind.NACK, orjson.dumps(nack))

    def _send(self, connection: Connection, kind: Kind, payload: bytes) -> None:
        if threading.get_ident() == self._thread:
            connection.send_kind(kind, 0, payload)
        else:
            self._loop.call_soon_threadsafe(connection.send_kind, kind, 0, payload)

    def _origin(self, topic: str | None, shard: int) -> tuple[Connection, str] | None:
        if topic and topic != _ANY:
            return self._came_by.get((topic.strip("/"), shard))
        for (_, known), origin in self._came_by.items():
            if known == shard:
                return origin
        return None
