"""Nuclio's ``/api/function_invocations``: a call of a function through the control port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stoker.api.settings import ApiSettings
from stoker.api.submit import find
from stoker.api.view import invocation_address
from stoker.nouns.errors import BadRequest, DeadlineExceeded, NoCapacity
from stoker.nouns.quantity import parse_duration
from stoker.store import Store

DEFAULT_TIMEOUT_S = 60.0
"""Nuclio's own default."""
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = frozenset({"authorization", "x-api-key", "cookie", "origin", "referer"})
"""Meant for the control port: a function must not get hold of its key."""


class Invocations:
    """The resource. Owns the one HTTP client towards the data port, opened at the first call."""

    def __init__(
        self,
        store: Store,
        settings: ApiSettings,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    def routes(self) -> list[Route]:
        """Its routes."""
        root = "/api/function_invocations"
        return [
            Route(root, self.invoke, methods=METHODS),
            Route(root + "/{rest:path}", self.invoke, methods=METHODS),
        ]

    async def close(self) -> None:
        """Ends the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def invoke(self, request: Request) -> Response:
        """Calls the function named by ``X-Nuclio-Function-Name`` and passes its answer on."""
        name = request.headers.get("x-nuclio-function-name", "")
        if not name:
            raise BadRequest("the header X-Nuclio-Function-Name must name the function")
        await find(self._store, name)
        self._check_url(name, request.headers.get("x-nuclio-invoke-url", ""))
        path = request.headers.get("x-nuclio-path", "").lstrip("/")
        url = f"{self._settings.gateway_url}/{name}/{quote(path, safe='/?&=%:@,;+!*~$()')}"
        timeout_s = _timeout(request.headers.get("x-nuclio-invoke-timeout", ""))
        with _data_port_errors(name):
            answer = await self._send(request, url, timeout_s)
        headers = {key: value for key, value in answer.headers.items() if _passes(key)}
        return StreamingResponse(_body(answer), status_code=answer.status_code, headers=headers)

    async def _send(self, request: Request, url: str, timeout_s: float) -> httpx.Response:
        if self._client is None:
            self._client = httpx.AsyncClient(transport=self._transport, trust_env=False)
        outgoing = self._client.build_request(
            request.method,
            url,
            headers=self._headers(request.headers),
            content=await request.body(),
            timeout=timeout_s,
        )
        return await _unless_gone(request, self._client.send(outgoing, stream=True))

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        passed = {key: value for key, value in headers.items() if _passes(key)}
        passed = {key: value for key, value in passed.items() if key not in _OURS}
        if self._settings.gateway_key:
            passed["x-api-key"] = self._settings.gateway_key
        return passed

    def _check_url(self, name: str, url: str) -> None:
        """Nuclio lets a client choose any of the function's URLs; any other would be a way in."""
        own = invocation_address(name, self._settings)
        if url and url.removeprefix("http://").rstrip("/") != own:
            raise BadRequest(f"X-Nuclio-Invoke-Url must be {own!r}, was {url!r}")


def _passes(header: str) -> bool:
    header = header.lower()
    return header not in _HOP_BY_HOP and not header.startswith("x-nuclio-")


def _timeout(text: str) -> float:
    if not text:
        return DEFAULT_TIMEOUT_S
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise BadRequest(f"X-Nuclio-Invoke-Timeout {exc}") from exc


async def _unless_gone(
    request: Request, answering: Coroutine[Any, Any, httpx.Response]
) -> httpx.Response:
    """The answer; of a client that hangs up meanwhile, the call is given up, as on the data port.

    Raises:
        ClientDisconnect: it has.
        httpx.HTTPError: the call failed.
    """
    answer = asyncio.ensure_future(answering)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        leaving.cancel()
        # Until they have ended: whoever streams the answer listens for the client himself.
        await asyncio.wait({answer, leaving})


async def _gone(request: Request) -> None:
    # The body has been read: nothing else is received any more.
    while (await request.receive())["type"] != "http.disconnect":
        continue


@contextmanager
def _data_port_errors(name: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as exc:
        raise DeadlineExceeded(f"function {name} did not answer in time") from exc
    except httpx.HTTPError as exc:
        raise NoCapacity(f"the data port cannot be reached: {exc}", retry_after_s=1) from exc


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()
