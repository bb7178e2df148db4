"""What mlrun's steps take for an aiohttp session: functions of this home are called directly."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Generator
from typing import Any, Protocol

import aiohttp
import orjson
from yarl import URL

from stoker.nouns.errors import DeadlineExceeded, StokerError
from stoker.sdk.graph.request import Place, Request, local_request, place
from stoker.sdk.graph.running import BOUNDS
from stoker.sdk.routing.reply import Reply

REDIRECTS = 10
"""Hops after which a redirected call is given up, as aiohttp does."""
MOVED = frozenset({301, 302, 303, 307, 308})
"""Statuses that may send their caller elsewhere."""


class Neighbours(Protocol):
    """How a worker reaches other functions; `stoker.worker.neighbours.Neighbours` is one."""

    gateway_url: str
    gateway_key: str

    def call(
        self,
        function: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        watched: bool = False,
        request_id: str = "",
    ) -> Awaitable[Reply]:
        """Calls one."""

    def call_blocking(
        self,
        function: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        request_id: str = "",
    ) -> tuple[int, dict[str, str], bytes]:
        """The same for code that may not await."""

    def find(self, function: str) -> Any:
        """The record of a function that is followed already."""


class Session:
    """Takes requests as an aiohttp session does, and gives those for elsewhere to a real one."""

    def __init__(self, neighbours: Neighbours, gateway: Place) -> None:
        self.gateway = gateway
        self.neighbours = neighbours
        self._http: aiohttp.ClientSession | None = None

    def request(self, method: str, url: str, **options: Any) -> _Pending:
        """A request, to be awaited or entered: ``headers``, ``data``, ``timeout``, ``ssl``."""
        return _Pending(self, method, url, options)

    async def send(
        self, method: str, url: str, options: dict[str, Any], hops: int = REDIRECTS
    ) -> Any:
        """A `Reply`, or aiohttp's response.

        Raises:
            TimeoutError: no answer within the request's own timeout.
            aiohttp.ClientError: from elsewhere.
        """
        headers, body = options.get("headers") or {}, options.get("data")
        limit: aiohttp.ClientTimeout | None = options.get("timeout")
        key = self.neighbours.gateway_key
        request = local_request(method, url, headers, body, gateway=self.gateway, key=key)
        if request is None:
            options = {**options, "headers": self._with_key(url, headers)}
            return await self._elsewhere(method, url, options)
        reply = await self.call(request, limit.total if limit is not None else None)
        if reply.status not in MOVED:
            return reply
        return await self.onward(reply, method, url, options, hops)

    async def onward(
        self, reply: Reply, method: str, url: str, options: dict[str, Any], hops: int = REDIRECTS
    ) -> Any:
        """What the answer ``reply`` to a request leads to, as HTTP clients follow it.

        Raises:
            TimeoutError: as `send`.
            aiohttp.ClientError: as `send`, and for more than `REDIRECTS` of them.
        """
        moved = redirected(reply.status, reply.own, method, url)
        if moved is None:
            return reply
        reply.abandon()
        if hops == 0:
            raise aiohttp.ClientError(f"{url} was reached by more than {REDIRECTS} redirects")
        if moved[0] != method:
            options = {**options, "data": None}
        return await self.send(*moved, options, hops - 1)

    async def call(self, request: Request, timeout: float | None) -> Reply:  # noqa: ASYNC109
        """Calls a function; what fails is an answer too, as by HTTP.

        Args:
            request: the call.
            timeout: seconds that the step waits; its request's deadline counts besides.

        Raises:
            TimeoutError: they passed.
        """
        request_id, deadline, *_ = BOUNDS.get()
        began = time.monotonic()
        try:
            return await self.neighbours.call(
                *request,
                timeout=timeout,
                deadline=deadline,
                # The step that runs is cancelled at it: see `stoker.sdk.graph.carry`.
                watched=deadline is not None,
                request_id=request_id,
            )
        except StokerError as error:
            return self.refused(error, began, timeout, request_id)

    @staticmethod
    def refused(error: StokerError, began: float, timeout: float | None, request_id: str) -> Reply:
        """What the gateway would have answered.

        Args:
            error: why there is no answer.
            began: CLOCK_MONOTONIC seconds at which the call was made.
            timeout: seconds that the step waits.
            request_id: of the graph's request.

        Raises:
            TimeoutError: they passed.
        """
        if timed_out(error, began, timeout):
            raise TimeoutError from error
        return Reply(*refusal(error, request_id))

    async def close(self) -> None:
        """Ends the connections to elsewhere."""
        if self._http is not None:
            await self._http.close()

    def _with_key(self, url: str, headers: dict[str, str]) -> dict[str, str]:
        """What goes to our own gateway by HTTP all the same brings the key that it asks for."""
        there, key = place(url), self.neighbours.gateway_key
        if not key or there is None or there[:2] != self.gateway[:2]:
            return headers
        return with_key(headers, key)

    async def _elsewhere(self, method: str, url: str, options: dict[str, Any]) -> Any:
        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector())
        return await self._http.request(method, url, **options)


class _Pending:
    """What aiohttp gives for a request: awaited for the response, or entered and left."""

    __slots__ = ("_arguments", "_response", "_session")

    def __init__(self, session: Session, method: str, url: str, options: dict[str, Any]) -> None:
        self._session = session
        self._arguments = (method, url, options)
        self._response: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._session.send(*self._arguments).__await__()

    async def __aenter__(self) -> Any:
        self._response = await self._session.send(*self._arguments)
        return self._response

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._response, aiohttp.ClientResponse):
            self._response.release()
            await self._response.wait_for_close()
        elif isinstance(self._response, Reply):
            self._response.abandon()


def with_key(headers: dict[str, str], key: str) -> dict[str, str]:
    """The headers with our gateway's key.

    As a bearer, because clients leave that behind when a redirect leads to another host.
    """
    if any(name.lower() == "authorization" for name in headers):
        return {"X-API-Key": key, **headers}
    return {"Authorization": f"Bearer {key}", **headers}


def timed_out(error: StokerError, began: float, timeout: float | None) -> bool:
    """Whether it was the step's own ``timeout`` (seconds) that passed, not its request's deadline.

    HTTP clients raise then, and so a step that says it waits so long is tried again.
    """
    if timeout is None or not isinstance(error, DeadlineExceeded):
        return False
    return time.monotonic() >= began + timeout


def refusal(error: StokerError, request_id: str) -> tuple[int, dict[str, str], bytes]:
    """What the gateway would have answered: to a step, a call that failed is an HTTP status."""
    headers = {"content-type": "application/json"}
    headers |= {name.lower(): value for name, value in error.headers().items()}
    body = orjson.dumps(error.envelope(request_id), default=str)
    return error.status, headers, body


def redirected(
    status: int, headers: dict[str, str], method: str, url: str
) -> tuple[str, str] | None:
    """Method and URL that an answer sends its caller to; None for an answer that is one."""
    if status not in MOVED or "location" not in headers:
        return None
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method = "GET"
    return method, str(URL(url).join(URL(headers["location"])))
