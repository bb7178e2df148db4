"""Nuclio's Event, made from a REQUEST frame."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import nuclio_sdk
import orjson
from nuclio_sdk.event import TriggerInfo

from stoker.nouns.wire import RequestMeta

if TYPE_CHECKING:
    from stoker.worker.ticket import Ticket

_new_event = object.__new__
_MISSING = object()


class _CanonicalNames(dict[str, str]):
    """The canonical form of every header name seen. Names are the clients': both are bounded."""

    def __missing__(self, name: str) -> str:
        canonical = "-".join(part.capitalize() for part in name.split("-"))
        if len(name) <= _LONGEST_KEPT_NAME:
            if len(self) >= _KEPT_NAMES:
                self.clear()
            self[name] = canonical
        return canonical


_LONGEST_KEPT_NAME = 64
_KEPT_NAMES = 1024
_canonical = _CanonicalNames().__getitem__


class Headers(dict[str, Any]):
    """Request headers under their canonical names (``Content-Type``), found in any case.

    >>> headers = Headers.of({"x-request-id": "7"})
    >>> headers["X-Request-Id"], headers.get("x-request-ID"), "X-REQUEST-ID" in headers
    ('7', '7', True)
    """

    @classmethod
    def of(cls, lower: dict[str, str]) -> Headers:
        """From lower-case names."""
        return cls((_canonical(name), value) for name, value in lower.items())

    def __missing__(self, name: str) -> Any:
        canonical = _canonical(name.lower())
        if canonical != name and dict.__contains__(self, canonical):
            return dict.__getitem__(self, canonical)
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        if dict.__contains__(self, name):
            return True
        return isinstance(name, str) and dict.__contains__(self, _canonical(name.lower()))

    def get(self, name: str, default: Any = None) -> Any:
        """The value under ``name`` in any case, else ``default``."""
        value = dict.get(self, name, _MISSING)
        if value is _MISSING:
            return dict.get(self, _canonical(name.lower()), default)
        return value


class Event(nuclio_sdk.Event):  # type: ignore[misc]  # nuclio_sdk is untyped
    """Nuclio's event; what few handlers look at is made when it is first looked at.

    Every attribute of `nuclio_sdk.Event` can be read and set, and ``vars`` shows them all.

    ``_request`` is the request that it is the event of, for those who work at it in other tasks
    than its handler's (the steps of a graph): its deadline, and whether anybody still waits. Copies
    have it too.
    """

    __slots__ = ("_lower", "_query", "_request", "_time")

    _lower: dict[str, str]
    _query: str
    _request: Ticket | None
    _time: float
    streaming_step = None
    """storey asks every event for it at every step; what is not there costs ten times more."""

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet."""
        make = _MADE_WHEN_READ.get(name)
        if make is None:
            # The interpreter's own error: graphs ask each event for many attributes in vain.
            return object.__getattribute__(self, name)
        value = _own(self)[name] = make(self)
        return value

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        for name in _MADE_WHEN_READ:
            getattr(self, name)
        return _own(self)

    def __getstate__(self) -> dict[str, Any]:
        """For pickles: everything, made by now."""
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a pickle."""
        self._request = None
        _fill(self, dict(state))

    def __copy__(self) -> Event:
        """A graph copies its event at every step: what nobody looked at is not made for that."""
        return self._twin(dict(_own(self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Event:
        """As `copy.deepcopy` does; the request stays the same one."""
        twin = memo[id(self)] = self._twin({})
        _fill(twin, copy.deepcopy(_own(self), memo))
        return twin

    def _twin(self, own: dict[str, Any]) -> Event:
        twin: Event = _new_event(type(self))
        twin._lower, twin._query, twin._time = self._lower, self._query, self._time
        twin._request = self._request
        _fill(twin, own)
        return twin


_own: Callable[[Event], dict[str, Any]] = nuclio_sdk.Event.__dict__["__dict__"].__get__
_fill = nuclio_sdk.Event.__dict__["__dict__"].__set__


_CALLERS_PATH = "mlrun-event-path"
"""The path of the event whose graph called this function. mlrun's server puts it in the place of
the path that was called. Nuclio's dict of canonical names hides it from mlrun; here it is found,
so it may only speak where the caller named no path: ``…/v2/models/m1/infer`` in a URL means m1."""


def _headers(event: Event) -> Headers:
    lower = event._lower
    if _CALLERS_PATH in lower and event.path != "/":
        lower = {name: value for name, value in lower.items() if name != _CALLERS_PATH}
    return Headers.of(lower)


def _fields(event: Event) -> dict[str, str]:
    return dict(parse_qsl(event._query, keep_blank_values=True)) if event._query else {}


def _timestamp(event: Event) -> datetime:
    return datetime.fromtimestamp(event._time, UTC).replace(tzinfo=None)


def _nothing(_event: Event) -> None:
    return None


_MADE_WHEN_READ: dict[str, Callable[[Event], Any]] = {
    "fields": _fields,
    "headers": _headers,
    "timestamp": _timestamp,
    "shard_id": _nothing,
    "num_shards": _nothing,
    "type": _nothing,
    "type_version": _nothing,
    "version": _nothing,
    "last_in_batch": lambda _event: False,
    "offset": lambda _event: 0,
    "topic": _nothing,
}


def make_event(
    meta: RequestMeta, body: bytes, trigger: TriggerInfo, request: Ticket | None = None
) -> nuclio_sdk.Event:
    """The event that the handler gets.

    ``path`` is without the query string, which is in ``fields`` (the last of equal names wins) and
    in ``url``. A body of type application/json arrives parsed, or as raw bytes if that fails.
    A stream's record has no type, no method and no path; its time is that of its arrival there.
    """
    lower = meta["headers"]
    content_type = lower.get("content-type", "")
    url = meta["path"]
    path, _, query = url.partition("?")
    event = _new_event(Event)
    event._lower, event._query, event._time = lower, query, time.time()
    event._request = request
    # Filling the dict at once costs a quarter of the constructor's time, on every request.
    made = {
        "body": _parse(body, content_type),
        "content_type": content_type,
        "trigger": trigger,
        "id": meta["id"],
        "method": meta["method"],
        "path": path or "/",
        "size": len(body),
        "url": url,
    }
    record = meta.get("record")
    if record is not None:
        made |= {
            "url": "",
            "topic": record["topic"],
            "shard_id": record["shard"],
            "num_shards": record["shards"],
            "offset": record["offset"],
        }
        event._time = record["time"]
    _fill(event, made)
    return event


def _parse(body: bytes, content_type: str) -> Any:
    if not content_type.startswith("application/json") or not body:
        return body
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
