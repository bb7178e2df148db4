"""``context.platform``: calling another function through the gateway."""

from __future__ import annotations

import copy
import json
import os
import time
from typing import Any
from urllib.parse import urlsplit

import nuclio_sdk

from stoker.nouns.errors import DeadlineExceeded
from stoker.worker.acks import FAILED
from stoker.worker.deadline import DEADLINE
from stoker.worker.neighbours import Neighbours


class GatewayPlatform(nuclio_sdk.Platform):  # type: ignore[misc]  # nuclio_sdk is untyped
    """Nuclio's platform: ``call_function`` goes to Stoker's gateway and carries the deadline.

    Attributes:
        neighbours: reaches other functions without HTTP, for the steps of graphs.
    """

    def __init__(self, neighbours: Neighbours, namespace: str) -> None:
        super().__init__("local", namespace=namespace)
        self.neighbours = neighbours
        self._address = urlsplit(neighbours.gateway_url).netloc or neighbours.gateway_url

    def call_function(
        self,
        function_name: str,
        event: nuclio_sdk.Event,
        node: Any = None,
        timeout: float | None = None,
        service_name_override: str | None = None,
    ) -> nuclio_sdk.Response:
        """Call a function and wait for its answer, at most as long as this request may take.

        Raises:
            DeadlineExceeded: this request's deadline has passed already.
            TimeoutError: no answer in time.
        """
        outgoing = copy.copy(event)
        outgoing.headers = dict(event.headers or {})
        if isinstance(event.body, list):
            outgoing.body = json.dumps(event.body)
            outgoing.content_type = "application/json"
        outgoing.method = event.method or ("POST" if event.body else "GET")
        timeout = _carry_deadline(outgoing.headers, timeout)
        key = os.environ.get("STOKER_API_KEY") or self.neighbours.gateway_key
        if key and service_name_override in (None, "", self._address):
            # The gateway's alone: elsewhere it would let a stranger in.
            outgoing.headers.setdefault("X-API-Key", key)
        return super().call_function(function_name, outgoing, node, timeout, service_name_override)

    async def record_failed(self, event: Any, reason: str) -> None:
        """Says that a stream's record was not done, whatever is acknowledged after it.

        Nothing happens when the event is none of a stream, or is acknowledged when its handler
        returns. For the graphs' own error step; Nuclio's platform has no such thing.
        """
        shard, offset = getattr(event, "shard_id", None), getattr(event, "offset", None)
        topic = getattr(event, "stream_path", None) or getattr(event, "topic", None)
        if self._control_callback is None or shard is None or offset is None:
            return
        attributes = {"topic": topic, "partition": shard, "offset": offset, "reason": reason}
        await self._control_callback({"kind": FAILED, "attributes": attributes})

    def _get_function_url(
        self,
        function_name: str,  # noqa: ARG002  # the gateway finds it by X-Nuclio-Target
        service_name_override: str | None = None,
    ) -> str:
        return service_name_override or self._address


def _carry_deadline(headers: dict[str, Any], timeout: float | None) -> float | None:
    deadline = DEADLINE.get()
    if deadline is None:
        return timeout
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise DeadlineExceeded("the deadline passed before the call to another function")
    for name in [name for name in headers if name.lower() == "x-request-timeout"]:
        del headers[name]
    headers["X-Request-Timeout"] = f"{remaining:.3f}"
    return remaining if timeout is None else min(timeout, remaining)
