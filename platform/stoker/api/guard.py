"""The doorkeeper of the control port, which runs code for whoever gets past it.

1. ``Host`` must be ours: a page of another site whose DNS name was rebound to this machine sends
   its own name here.
2. ``Origin`` (and ``Sec-Fetch-Site``) of anything that changes state must be ours: a form on
   another site can post to loopback, without a preflight, from the user's own browser.
3. A key, when keys are configured, compared in constant time.
4. The body is bounded, declared or not.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
import socket
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stoker.api.reply import error_reply
from stoker.api.settings import ApiSettings
from stoker.nouns.errors import BodyTooLarge, Forbidden, StokerError, Unauthorized

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/page/dashboard.js", "/page/dashboard.css"})
"""Answered without a key: what probes ask, and the page's empty shell, which then wants the key."""


class Guard:
    """ASGI middleware with the four checks above."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._settings = settings
        self._names = _own_names(settings)
        self._any_address = not _is_loopback(settings.host)
        self._keys = tuple(key.encode() for key in settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request through, or answers it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            self._check(connection, scope["method"], scope["path"])
        except StokerError as error:
            await error_reply(error, scope["path"])(scope, receive, send)
            return
        await self._app(scope, _Bounded(receive, self._settings.body_limit_bytes), send)

    def _check(self, connection: HTTPConnection, method: str, path: str) -> None:
        headers = connection.headers
        self._check_host(headers.getlist("host"))
        if method not in SAFE_METHODS:
            _check_origin(headers, connection.scope.get("scheme", "http"))
        if self._keys and path not in OPEN_PATHS:
            self._check_key(headers)
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._settings.body_limit_bytes:
            raise _too_large(self._settings.body_limit_bytes)

    def _check_host(self, hosts: list[str]) -> None:
        name = host_name(hosts[0]) if len(hosts) == 1 else ""
        if name in self._names or name.endswith(".localhost") or _is_loopback(name):
            return
        # A name can be rebound to this machine, a literal address cannot.
        if self._any_address and _is_address(name):
            return
        raise Forbidden(
            f"the Host header {', '.join(hosts)!r} is not one of this platform's names; "
            f"use localhost, or the address that it listens on ({self._settings.host})"
        )

    def _check_key(self, headers: Mapping[str, str]) -> None:
        given = presented_key(headers).encode()
        # Every key is compared, so that the time taken says nothing about which one was close.
        matches = [hmac.compare_digest(given, key) for key in self._keys]
        if not any(matches):
            raise Unauthorized("a key is needed: Authorization: Bearer <key>, or X-API-Key: <key>")


class _Bounded:
    """Receives a body and refuses what goes over the limit, whatever was declared."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seen = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise _too_large(self._limit)
        return message


def host_name(host: str) -> str:
    """The name in a ``Host`` header, lower case, without port, brackets and a trailing dot."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
    return name.rstrip(".")


def presented_key(headers: Mapping[str, str]) -> str:
    """The key that a request carries.

    ``X-API-Key``, a bearer token (MLRun's client), a basic password, or what the clients of v3io
    and Nuclio send as their access key: a header and a cookie of their own.
    """
    if key := headers.get("x-api-key") or headers.get("x-v3io-session-key"):
        return key
    if "authorization" not in headers:
        return _session_key(headers.get("cookie", ""))
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return decoded.partition(":")[2]
    return ""


def _session_key(cookies: str) -> str:
    """The access key in Nuclio's session cookie, ``session=j:{"sid": "<key>"}``."""
    for cookie in cookies.split("; "):
        name, _, value = cookie.partition("=")
        if name == "session" and (document := unquote(value)).startswith("j:"):
            try:
                session = json.loads(document.removeprefix("j:"))
            except ValueError:
                return ""
            return str(session.get("sid") or "") if isinstance(session, dict) else ""
    return ""


def _check_origin(headers: Mapping[str, str], scheme: str) -> None:
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Forbidden("this request was caused by a page of another site")
    origin = headers.get("origin")
    if origin is None:
        return
    host = headers.get("host", "")
    # Behind a TLS proxy the browser says https and we see http: the host decides.
    if origin.lower() not in (f"{scheme}://{host}".lower(), f"https://{host}".lower()):
        raise Forbidden(f"the Origin {origin!r} may not change anything here")


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body must be at most {limit} bytes", limit_bytes=limit)


def _own_names(settings: ApiSettings) -> frozenset[str]:
    names = {"localhost", *(host_name(host) for host in settings.allowed_hosts)}
    if not _is_loopback(settings.host):
        names |= {host_name(settings.host), socket.gethostname().lower()}
    return frozenset(names - {""})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
