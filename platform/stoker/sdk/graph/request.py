"""A step's HTTP request, as the function would see it after aiohttp and the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from aiohttp.http import SERVER_SOFTWARE
from yarl import URL

from stoker.nouns.parts import RESERVED_NAMES

TARGET = "x-nuclio-target"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
"""The types that HTTP clients give to bodies that have none."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOP_BY_HOP = ("connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade")
_NO_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods for which HTTP clients send no length when there is no body."""


class Place(NamedTuple):
    """Where a URL leads: host and port, and the path with its query string."""

    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"


class Request(NamedTuple):
    """One call of a function of this home. Header names are lower case."""

    function: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Template:
    """The request of a step that always goes to one place, less what each event adds."""

    __slots__ = ("_function", "_headers", "_path", "_typed")

    def __init__(self, request: Request, *, typed: bool) -> None:
        self._function = request.function
        self._path = request.path
        self._headers = dict(request.headers)
        self._typed = typed

    @classmethod
    def of(
        cls, url: str, headers: Mapping[str, str], *, gateway: Place, key: str
    ) -> Template | None:
        """From what a step sends every time; None when `local_request` is."""
        request = local_request("GET", url, headers, None, gateway=gateway, key=key)
        return None if request is None else cls(request, typed="content-type" in request.headers)

    def request(
        self, method: str, body: str | bytes | None, added: dict[str, str], kind: str | None
    ) -> Request:
        """One event's.

        Args:
            method: HTTP's.
            body: None is no body at all.
            added: headers of the event; lower-case names.
            kind: the content type that the step says, else None.
        """
        if not method.isupper():
            method = method.upper()
        headers = {**self._headers, **added}
        if kind is not None:
            headers["content-type"] = kind
        elif body is not None and not self._typed:
            headers["content-type"] = TEXT if isinstance(body, str) else BYTES
        data = body.encode() if isinstance(body, str) else body or b""
        if body is not None or method not in _NO_BODY:
            headers["content-length"] = str(len(data))
        return Request(self._function, method, self._path, headers, data)


@lru_cache(maxsize=1024)
def place(url: str) -> Place | None:
    """Where an http URL leads, quoted as aiohttp would; None for any other."""
    try:
        parsed = URL(url)
    except ValueError:
        return None
    if parsed.scheme != "http" or not parsed.raw_host:
        return None
    return Place(parsed.raw_host, parsed.port or 80, parsed.raw_path_qs)


def local_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: str | bytes | None,
    *,
    gateway: Place,
    key: str = "",
) -> Request | None:
    """The request as a call of a function here; None when it must go by HTTP.

    By HTTP go other hosts, the gateway's routes that are no function's, and what only the gateway
    does: durable invocations and server-sent events.

    Args:
        method: as the step would hand it to its HTTP client, like the next three.
        url: absolute.
        headers: names in any case.
        body: None is no body at all.
        gateway: where the home's gateway answers.
        key: the gateway's key: as there, the function does not see it.
    """
    there = place(url)
    if there is None or not _same(there, gateway):
        return None
    lower = {name.lower(): str(value) for name, value in headers.items()}
    if "respond-async" in lower.get("prefer", "").lower() or "event-stream" in lower.get(
        "accept", ""
    ):
        return None
    found = _function(there.path, lower)
    if found is None:
        return None
    function, path = found
    _drop_what_the_gateway_keeps(lower, key)
    method = method.upper()
    data = body.encode() if isinstance(body, str) else body or b""
    lower.setdefault("host", there.authority)
    lower.setdefault("accept", "*/*")
    lower.setdefault("accept-encoding", "gzip, deflate")
    lower.setdefault("user-agent", SERVER_SOFTWARE)
    if body is not None:
        lower.setdefault("content-type", TEXT if isinstance(body, str) else BYTES)
    if body is not None or method not in _NO_BODY:
        lower["content-length"] = str(len(data))
    return Request(function, method, path, lower, data)


def _same(there: Place, gateway: Place) -> bool:
    if there.port != gateway.port:
        return False
    return there.host == gateway.host or (there.host in _LOOPBACK and gateway.host in _LOOPBACK)


def _function(path: str, headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The function and the path that it shall see, by the gateway's rules."""
    name, rest = _first_segment(path)
    target = headers.get(TARGET, "").strip()
    if target:
        return target, rest if name == target else path
    return (name, rest) if name and name not in RESERVED_NAMES else None


def _first_segment(path: str) -> tuple[str, str]:
    before, mark, query = path.partition("?")
    name, _, rest = before[1:].partition("/")
    # A step whose URL ends in "/" and whose path begins with one means a single one.
    return name, f"/{rest.lstrip('/')}{mark}{query}"


def _drop_what_the_gateway_keeps(headers: dict[str, str], key: str) -> None:
    for name in _HOP_BY_HOP:
        headers.pop(name, None)
    if key and headers.get("x-api-key") == key:
        del headers["x-api-key"]
    if key and headers.get("authorization") == f"Bearer {key}":
        del headers["authorization"]
