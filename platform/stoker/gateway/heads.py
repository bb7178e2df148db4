"""What the head of a request says: the function, the limits, the deadline, who may pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.gateway import routes
from stoker.nouns.errors import (
    BadRequest,
    BodyTooLarge,
    FunctionNotFound,
    HeadersTooLarge,
    ShuttingDown,
    StokerError,
    StoreUnavailable,
)
from stoker.nouns.function import DEFAULT_MAX_BODY_BYTES
from stoker.sdk.routing.timeout import seconds_of

if TYPE_CHECKING:
    from stoker.gateway.exchange import Exchange
    from stoker.gateway.front import Front
    from stoker.gateway.settings import GatewaySettings

_NAMES_LIMIT = 4096
_NAME_LIMIT = 64
"""Bytes of a header name worth remembering; ours and everybody's are shorter."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that speak about one connection, not about the request (RFC 9110, 7.6.1)."""

known_names: dict[bytes, str] = {}
"""Header names seen, to their lower case: clients send the same few all the time."""


def read(exchange: Exchange, front: Front, target: bytes) -> None:
    """Checks a head and finds the way.

    Raises:
        StokerError: the answer to a request that goes no further.
    """
    headers = exchange.headers
    if not exchange.http10 and "host" not in headers:
        raise BadRequest("an HTTP/1.1 request must have a Host header")
    exchange.limit = DEFAULT_MAX_BODY_BYTES
    # A client of HTTP/1.0 would take the interim answer for the answer (RFC 9110, 10.1.1).
    if "expect" in headers and not exchange.http10:
        exchange.expects_continue = headers["expect"].lower() == "100-continue"
    exchange.path = path = routes.origin_form(target.decode("latin-1"))
    if front.keys.required and not _is_health(path, headers):
        front.keys.check(headers)
    try:
        found = routes.find(front.router, path, headers)
    except FunctionNotFound as error:
        exchange.newcomer, found = _newcomer(error, exchange, front), None
    if found is not None:
        lane, exchange.path = found
        exchange.lane, exchange.function = lane, lane.name
        exchange.limit = lane.limits.max_body_bytes
    elif path.startswith("/v1/"):
        exchange.limit = routes.largest_body(front.router)
    if "x-request-timeout" in headers:
        exchange.timeout_s = seconds_of(headers["x-request-timeout"])
    if not _HOP_BY_HOP.isdisjoint(headers):
        _drop_hop_by_hop(headers)
    if front.stopping:
        raise ShuttingDown("the gateway is stopping")


def _newcomer(error: FunctionNotFound, exchange: Exchange, front: Front) -> str:
    """The name that is not in the view, to be asked for before it is refused.

    Raises:
        StoreUnavailable: nothing has been read yet.
        FunctionNotFound: the view is to be believed.
    """
    if not front.ready():
        # Clients give up on a 404, and this function may well exist.
        raise StoreUnavailable(
            "the gateway has just started and has not read the functions yet", retry_after_s=1.0
        ) from None
    # Whoever asks before he sends a body wants to hear now, not after it.
    if exchange.expects_continue or not front.newcomers.may_be(error.name):
        raise error
    return error.name


def _is_health(path: str, headers: dict[str, str]) -> bool:
    """Whether a request can reach nothing but the one page that is open to all.

    No function can be called ``healthz``, but the target header sends any path to any function.
    """
    return path.partition("?")[0] == "/healthz" and routes.TARGET_HEADER not in headers


def too_large(what: str, settings: GatewaySettings) -> HeadersTooLarge:
    """The refusal of a head over the limits."""
    return HeadersTooLarge(
        f"{what} must be at most {settings.max_request_line} bytes of target, "
        f"{settings.max_headers} headers and {settings.max_header_bytes} bytes of headers"
    )


class TooSlow(StokerError):
    """The client did not send its request in time."""

    code = "request_timeout"
    status = 408


def lower(name: bytes) -> str:
    """A header name in lower case, remembered for next time."""
    key = name.decode("latin-1").lower()
    if len(name) <= _NAME_LIMIT and len(known_names) < _NAMES_LIMIT:
        known_names[name] = key
    return key


def declared_length(headers: dict[str, str]) -> int:
    """Bytes of body that the head announces; 0 when it does not say."""
    text = headers.get("content-length", "")
    return int(text) if text.isdigit() else 0


def body_too_large(limit: int) -> BodyTooLarge:
    """The refusal of a body over ``limit`` bytes."""
    return BodyTooLarge(f"the body must be at most {limit} bytes", limit=limit)


def _drop_hop_by_hop(headers: dict[str, str]) -> None:
    named = headers.get("connection", "").lower().split(",")
    for name in (*_HOP_BY_HOP, *(part.strip() for part in named)):
        headers.pop(name, None)
