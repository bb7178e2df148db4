"""The v3io stream web API, as ``v3io.dataplane`` and mlrun's queue steps speak it.

Every request names its function in ``X-v3io-function`` and its stream in the path; that header, not
the path, is what tells it from the platform's other routes.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from stoker.api.guard import OPEN_PATHS
from stoker.api.reply import Json
from stoker.api.v3io_records import document, got, location, number, puts, sequence_at
from stoker.nouns.errors import BadRequest, Conflict, NotFound, NotSupported, StokerError
from stoker.nouns.stream import MOST_SHARDS, NewRecord, StreamSpec, stream_name
from stoker.store import Store
from stoker.store.streams import unknown_stream

FUNCTION = b"x-v3io-function"
SESSION = b"x-v3io-session-key"
DEFAULT_RETENTION_H = 24
MOST_RETENTION_H = 24 * 365
MOST_SEQUENCE = 2**53

Endpoint = Callable[[Request], Awaitable[Response]]
Work = Callable[[Request, dict[str, Any]], Awaitable[Response]]


class HeaderRoute(BaseRoute):
    """Takes every request that carries a header, whatever its path but for one prefix."""

    def __init__(self, header: bytes, endpoint: Endpoint, *, but: str | None = None) -> None:
        self._header = header
        self._endpoint = endpoint
        self._but = but

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `BaseRoute`. What is answered without a key is never a stream."""
        path = scope.get("path", "")
        if scope["type"] != "http" or path in OPEN_PATHS:
            return Match.NONE, {}
        if self._but is not None and path.startswith(self._but):
            return Match.NONE, {}
        carried = any(name == self._header for name, _ in scope["headers"])
        return (Match.FULL if carried else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `BaseRoute`."""
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request)
        except StokerError as error:
            response = refused(error)
        await response(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """See `BaseRoute`."""
        raise NoMatchFound(name, path_params)


@dataclass(frozen=True, slots=True)
class V3io:
    """Streams for producers, and for readers without a consumer group."""

    store: Store
    turns: dict[str, itertools.count[int]] = field(default_factory=dict)

    def routes(self) -> list[BaseRoute]:
        """Its route, which goes before all others."""
        return [HeaderRoute(FUNCTION, self.call)]

    async def call(self, request: Request) -> Response:
        """One function of the API.

        Raises:
            NotSupported: Stoker does not have it.
            StokerError: it cannot be done.
        """
        asked = request.headers.get(FUNCTION.decode(), "")
        work = self._functions().get(asked)
        if work is None:
            raise NotSupported(f"the v3io function {asked!r} is not supported: streams are")
        return await work(request, document(await request.body()))

    def _functions(self) -> dict[str, Work]:
        return {
            "CreateStream": self._create,
            "UpdateStream": self._update,
            "DescribeStream": self._describe,
            "DeleteStream": self._delete,
            "PutRecords": self._put,
            "SeekShard": self._seek,
            "Seek": self._seek,
            "GetRecords": self._get,
        }

    async def _create(self, request: Request, given: dict[str, Any]) -> Response:
        shards = number(given, "ShardCount", 1, 1, MOST_SHARDS)
        hours = number(given, "RetentionPeriodHours", DEFAULT_RETENTION_H, 1, MOST_RETENTION_H)
        await self.store.create_stream(_stream(request, given), shards, hours)
        return Response(status_code=204)

    async def _update(self, request: Request, given: dict[str, Any]) -> Response:
        spec = await _spec(self.store, _stream(request, given))
        shards = number(given, "ShardCount", None, 1, MOST_SHARDS)
        if shards < spec.shards:
            raise BadRequest(f"ShardCount must be {spec.shards} or more, was {shards}")
        await self.store.grow_stream(spec.name, shards)
        return Response(status_code=204)

    async def _describe(self, request: Request, given: dict[str, Any]) -> Response:
        spec = await _spec(self.store, _stream(request, given))
        return Json({"ShardCount": spec.shards, "RetentionPeriodHours": spec.retention_hours})

    async def _delete(self, request: Request, given: dict[str, Any]) -> Response:
        await self.store.delete_stream(_stream(request, given))
        return Response(status_code=204)

    async def _put(self, request: Request, given: dict[str, Any]) -> Response:
        wanted = puts(given)
        spec = await _spec(self.store, _stream(request, given))
        by_shard: dict[int, list[int]] = {}
        results: list[dict[str, Any]] = [{} for _ in wanted]
        for index, put in enumerate(wanted):
            shard = self._shard(spec, put.shard, put.record)
            if 0 <= shard < spec.shards:
                by_shard.setdefault(shard, []).append(index)
            else:
                message = f"the stream has shards 0 to {spec.shards - 1}, was {shard}"
                results[index] = {"ErrorCode": -22, "ErrorMessage": message}
        for shard, indexes in by_shard.items():
            # A full shard fails the whole request: mlrun's client looks at nothing but the status.
            records = [wanted[index].record for index in indexes]
            first = await self.store.put_records(spec.name, shard, records)
            for offset, index in enumerate(indexes):
                results[index] = {"SequenceNumber": first + offset, "ShardId": shard}
        failed = sum("ErrorCode" in result for result in results)
        return Json({"FailedRecordCount": failed, "Records": results})

    def _shard(self, spec: StreamSpec, asked: int | None, record: NewRecord) -> int:
        """By number, else by key, else in turn."""
        if asked is not None:
            return asked
        if record.key:
            return zlib.crc32(record.key.encode()) % spec.shards
        return next(self.turns.setdefault(spec.name, itertools.count())) % spec.shards

    async def _seek(self, request: Request, given: dict[str, Any]) -> Response:
        spec, shard = await self._one_shard(request, given)
        state = await self.store.read_shard(spec.name, shard)
        match given.get("Type"):
            case "EARLIEST":
                found = state.first or state.last + 1
            case "LATEST":
                found = state.last + 1
            case "SEQUENCE":
                found = number(given, "StartingSequenceNumber", None, 0, MOST_SEQUENCE)
                if not state.first <= found <= state.last or not state.first:
                    raise BadRequest(f"no record has the sequence number {found}")
            case "TIME":
                seconds = number(given, "TimestampSec", None, 0, MOST_SEQUENCE)
                nanos = number(given, "TimestampNSec", 0, 0, 999_999_999)
                found = await self.store.seek_time(spec.name, shard, seconds + nanos / 1e9)
            case other:
                raise BadRequest(f"Type must be EARLIEST, LATEST, SEQUENCE or TIME, was {other!r}")
        return Json({"Location": location(found)})

    async def _get(self, request: Request, given: dict[str, Any]) -> Response:
        spec, shard = await self._one_shard(request, given)
        first = sequence_at(given)
        if first < 0:
            raise BadRequest("Location must be as it was given out")
        limit = number(given, "Limit", 1000, 1, 10_000)
        records = await self.store.read_records(spec.name, shard, first=first, limit=limit)
        state = await self.store.read_shard(spec.name, shard)
        return Json(got(records, first, state.last))

    async def _one_shard(self, request: Request, given: dict[str, Any]) -> tuple[StreamSpec, int]:
        """The stream and shard of a request; the shard is the last part of the path."""
        if "ShardId" in given:
            name, shard = _stream(request, given), number(given, "ShardId", None, 0, MOST_SHARDS)
        else:
            parent, _, last = request.url.path.strip("/").rpartition("/")
            if not last.isdecimal():
                raise BadRequest(f"the path must end with a shard, was {last!r}")
            name, shard = _named(parent), int(last)
        spec = await _spec(self.store, name)
        if shard >= spec.shards:
            raise NotFound(f"the stream has shards 0 to {spec.shards - 1}, was {shard}")
        return spec, shard


@dataclass(frozen=True, slots=True)
class V3ioObjects:
    """What the same clients ask by plain paths, where no other route has them."""

    store: Store

    def routes(self) -> list[BaseRoute]:
        """Its route, which goes after all others."""
        return [HeaderRoute(SESSION, self.call, but="/api/")]

    async def call(self, request: Request) -> Response:
        """How the client deletes a stream: it lists the shards, deletes each, then the whole.

        Raises:
            NotSupported: it asks for an object, of which there are none here.
            StokerError: it cannot be done.
        """
        path = request.url.path.strip("/")
        prefix = request.query_params.get("prefix", "")
        if request.method == "GET" and "/" not in path and prefix:
            return _listing(path, await _spec(self.store, stream_name(path, prefix)))
        if request.method != "DELETE" or "/" not in path:
            raise NotSupported(f"{request.method} of v3io objects is not supported: streams are")
        parent, _, last = path.rpartition("/")
        if last.isdecimal() and "/" in parent and await self.store.get_stream(parent) is not None:
            return Response(status_code=204)  # a shard: it goes with its stream
        await self.store.delete_stream(path)
        return Response(status_code=204)


async def _spec(store: Store, name: str) -> StreamSpec:
    spec = await store.get_stream(name)
    if spec is None:
        raise unknown_stream(name)
    return spec


def _stream(request: Request, given: dict[str, Any]) -> str:
    path = request.url.path.strip("/")
    name = given.get("StreamName")
    return _named(f"{path}/{name}" if isinstance(name, str) and name else path)


def _named(path: str) -> str:
    container, _, rest = path.partition("/")
    return stream_name(container, rest)


def _listing(container: str, spec: StreamSpec) -> Response:
    shards = "".join(
        f"<Contents><Key>{escape(f'{spec.path}/{shard}')}</Key><Size>0</Size></Contents>"
        for shard in range(spec.shards)
    )
    xml = (
        f"<ListBucketResult><Name>{escape(container)}</Name><NextMarker></NextMarker>"
        f"<MaxKeys>{MOST_SHARDS}</MaxKeys><IsTruncated>false</IsTruncated>{shards}"
        "</ListBucketResult>"
    )
    return Response(xml, media_type="application/xml")


def refused(error: StokerError) -> Response:
    """An error as v3io's clients read it: the exception's name first, then what is wrong."""
    name, number_ = "InternalError", -5
    for kind, title, code in (
        (NotFound, "ResourceNotFoundException", -2),
        (Conflict, "ResourceInUseException", -17),
        (BadRequest, "InvalidArgumentException", -22),
        (NotSupported, "NotImplemented", -38),
    ):
        if isinstance(error, kind):
            name, number_ = title, code
    if name == "InternalError" and error.status in (413, 429, 503):
        name, number_ = "ServiceUnavailable", -11
    body = {"ErrorCode": number_, "ErrorMessage": f"{name}: {error.message}"}
    headers = error.headers() | {"X-Stoker-Error": error.code}
    return Json(body, status_code=error.status, headers=headers)
