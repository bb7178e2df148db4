"""Streams for people: what there is, who reads it, what was given up, what is read again."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.reply import Json, json_body
from stoker.nouns.errors import BadRequest, Conflict, NotFound, StokerError
from stoker.nouns.record import FunctionRecord
from stoker.nouns.stream import DeadLetter, Record, ShardState, StreamSpec, stream_name
from stoker.nouns.stream_trigger import StreamTrigger
from stoker.store import Store
from stoker.store.streams import unknown_stream

MOST_SHOWN = 1000
DEFAULT_SHOWN = 20


@dataclass(frozen=True, slots=True)
class StreamViews:
    """The resource ``/api/streams``."""

    store: Store

    def routes(self) -> list[Route]:
        """Its routes."""
        one = "/api/streams/{container}/{path:path}"
        return [
            Route("/api/streams", self.listing, methods=["GET"]),
            Route(one + "/records", self.records, methods=["GET"]),
            Route(one + "/dead", self.dead, methods=["GET"]),
            Route(one + "/replay", self.replay, methods=["POST"]),
            Route(one + "/groups/{group}", self.forget, methods=["DELETE"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def listing(self, _request: Request) -> Response:
        """Every stream, and how far each of its groups is."""
        functions = await self.store.list_functions()
        specs = sorted((await self.store.list_streams()).values(), key=lambda spec: spec.name)
        rows = [await self._row(spec, await self._states(spec), functions) for spec in specs]
        return Json({"streams": rows})

    async def get(self, request: Request) -> Response:
        """One stream with its shards."""
        spec = await self._spec(request)
        states = await self._states(spec)
        row = await self._row(spec, states, await self.store.list_functions())
        return Json(row | {"shardStates": [_state(state) for state in states]})

    async def delete(self, request: Request) -> Response:
        """Forgets a stream and all that its groups gave up."""
        await self.store.delete_stream((await self._spec(request)).name)
        return Response(status_code=204)

    async def records(self, request: Request) -> Response:
        """Records of one shard, from a sequence number on."""
        spec = await self._spec(request)
        query = request.query_params
        shard = _number(query, "shard", 0, 0, spec.shards - 1)
        first = 1 if query.get("from", "earliest") == "earliest" else _number(query, "from", 1, 0)
        limit = _number(query, "limit", DEFAULT_SHOWN, 1, MOST_SHOWN)
        found = await self.store.read_records(spec.name, shard, first=first, limit=limit)
        return Json(
            {
                "records": [_record(record) for record in found],
                "next": found[-1].sequence + 1 if found else first,
            }
        )

    async def dead(self, request: Request) -> Response:
        """The records that a group gave up, oldest first."""
        spec = await self._spec(request)
        query = request.query_params
        group = await self._group(spec, query.get("group", ""))
        limit = _number(query, "limit", DEFAULT_SHOWN, 1, MOST_SHOWN)
        after = query.get("after", "")
        found = await self.store.list_dead(spec.name, group, after=_dead_id(after), limit=limit)
        total = await self.store.count_dead(spec.name, group)
        return Json({"group": group, "total": total, "dead": [_letter(one) for one in found]})

    async def replay(self, request: Request) -> Response:
        """Has a group read something again: dead letters, one record, or all from a place on."""
        spec = await self._spec(request)
        asked = await json_body(request)
        group = await self._group(spec, asked.get("group") or "")
        ways = [way for way in ("dead", "sequence", "from", "since") if asked.get(way) is not None]
        if len(ways) != 1:
            raise BadRequest(
                'one of "dead" (true, or a list of ids), "sequence", "from" and "since" says what '
                f"to replay, was {', '.join(ways) or 'none'}"
            )
        if ways == ["dead"]:
            return Json(
                {"group": group, "replayed": await self._revive(spec, group, asked["dead"])}
            )
        if ways == ["sequence"]:
            shard = _number(asked, "shard", 0, 0, spec.shards - 1)
            sequence = _number(asked, "sequence", None, 1)
            if not await self.store.repeat(spec.name, shard, group, sequence):
                raise NotFound(f"shard {shard} of {spec.name!r} has no record {sequence}")
            return Json({"group": group, "replayed": 1})
        return Json({"group": group, "rewound": await self._rewind(spec, group, asked)})

    async def forget(self, request: Request) -> Response:
        """Forgets a group that nobody reads in any more, so that it holds no producer up."""
        spec = await self._spec(request)
        group = await self._group(spec, request.path_params["group"])
        readers = _readers(spec, await self.store.list_functions()).get(group)
        if readers:
            raise Conflict(
                f"the group {group!r} of {spec.name!r} is read by {', '.join(sorted(readers))}: "
                "delete that function first, or deploy it with another consumerGroup"
            )
        dead = await self.store.forget_group(spec.name, spec.shards, group)
        return Json({"group": group, "dead": dead})

    # -- inside

    async def _revive(self, spec: StreamSpec, group: str, which: Any) -> int:
        """All dead letters as of now, or those of the given ids; how many."""
        if which is True:
            letters = await self._all_dead(spec, group)
        elif isinstance(which, list) and which and all(isinstance(one, str) for one in which):
            letters = [await self._one_dead(spec, group, one) for one in which]
        else:
            raise BadRequest(f'"dead" must be true or a list of ids, was {which!r}')
        return sum([bool(await self.store.revive(spec.name, group, one)) for one in letters])

    async def _all_dead(self, spec: StreamSpec, group: str) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        while True:
            after = found[-1].id if found else ""
            step = await self.store.list_dead(spec.name, group, after=after, limit=MOST_SHOWN)
            found += step
            if len(step) < MOST_SHOWN:
                return found

    async def _one_dead(self, spec: StreamSpec, group: str, identity: str) -> DeadLetter:
        letter = await self.store.get_dead(spec.name, group, _dead_id(identity))
        if letter is None:
            raise NotFound(f"the group {group!r} of {spec.name!r} has no dead letter {identity!r}")
        return letter

    async def _rewind(
        self, spec: StreamSpec, group: str, asked: Mapping[str, Any]
    ) -> dict[str, int]:
        """From a sequence number or a time on, in one shard or in all; where each begins."""
        one = asked.get("shard")
        shards = (
            range(spec.shards) if one is None else [_number(asked, "shard", 0, 0, spec.shards - 1)]
        )
        begins: dict[str, int] = {}
        for shard in shards:
            first = await self._first(spec, shard, asked)
            await self.store.rewind(spec.name, shard, group, first)
            begins[str(shard)] = first
        return begins

    async def _first(self, spec: StreamSpec, shard: int, asked: Mapping[str, Any]) -> int:
        if "since" in asked:
            return await self.store.seek_time(spec.name, shard, _moment(asked["since"]))
        if asked["from"] == "earliest":
            return 1
        return _number(asked, "from", None, 1)

    async def _spec(self, request: Request) -> StreamSpec:
        params = request.path_params
        name = stream_name(params["container"], params["path"])
        spec = await self.store.get_stream(name)
        if spec is None:
            raise unknown_stream(name, await self.store.list_streams())
        return spec

    async def _group(self, spec: StreamSpec, asked: str) -> str:
        """The group that is meant: the only one need not be named."""
        groups = sorted((await self.store.read_shard(spec.name, 0)).groups)
        if asked in groups:
            return asked
        if not asked and len(groups) == 1:
            return groups[0]
        if not groups:
            raise NotFound(f"nobody reads {spec.name!r}: it has no consumer group yet")
        known = ", ".join(groups)
        if asked:
            raise NotFound(f"{spec.name!r} has no consumer group {asked!r}; its groups: {known}")
        raise BadRequest(f"group must name one of the consumer groups of {spec.name!r}: {known}")

    async def _states(self, spec: StreamSpec) -> list[ShardState]:
        return [await self.store.read_shard(spec.name, shard) for shard in range(spec.shards)]

    async def _row(
        self,
        spec: StreamSpec,
        states: list[ShardState],
        functions: Mapping[str, FunctionRecord],
    ) -> dict[str, Any]:
        readers = _readers(spec, functions)
        names = sorted({name for state in states for name in state.groups} | set(readers))
        groups = []
        for name in names:
            mine = [state.groups[name] for state in states if name in state.groups]
            groups.append(
                {
                    "name": name,
                    "lag": sum(_lag(state, name, readers.get(name, {})) for state in states),
                    "pending": sum(group.pending for group in mine),
                    "dead": await self.store.count_dead(spec.name, name),
                    "functions": sorted(readers.get(name, {})),
                }
            )
        return {
            "name": spec.name,
            "container": spec.container,
            "path": spec.path,
            "shards": spec.shards,
            "retentionHours": spec.retention_hours,
            "createdAt": spec.created_at,
            "records": sum(state.records for state in states),
            "bytes": sum(state.bytes for state in states),
            "groups": groups,
        }


def _readers(
    spec: StreamSpec, functions: Mapping[str, FunctionRecord]
) -> dict[str, dict[str, StreamTrigger]]:
    """The functions that read a stream, by group, each with its trigger."""
    found: dict[str, dict[str, StreamTrigger]] = {}
    for name, record in functions.items():
        try:
            triggers = (record.serving or record.current).config.stream_triggers
        except (StokerError, LookupError):
            continue  # a record that cannot be read is told of elsewhere
        for trigger in triggers.values():
            if trigger.stream == spec.name:
                found.setdefault(trigger.group, {})[name] = trigger
    return found


def _lag(state: ShardState, group: str, readers: Mapping[str, StreamTrigger]) -> int:
    """Records of a shard that a group has yet to be given, though it may not be made yet."""
    if group in state.groups:
        return state.groups[group].lag
    return state.records if any(trigger.from_start for trigger in readers.values()) else 0


def _state(state: ShardState) -> dict[str, Any]:
    return {
        "shard": state.shard,
        "first": state.first,
        "last": state.last,
        "records": state.records,
        "bytes": state.bytes,
        "groups": [
            {
                "name": group.name,
                "delivered": group.delivered,
                "pending": group.pending,
                "lag": group.lag,
                "consumer": group.consumer,
            }
            for group in state.groups.values()
        ],
    }


def _record(record: Record) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "shard": record.shard,
        "sequence": record.sequence,
        "arrivedAt": record.arrived_at,
        "bytes": len(record.data),
    }
    if record.key:
        shown["key"] = record.key
    try:
        return shown | {"text": record.data.decode()}
    except UnicodeDecodeError:
        return shown | {"base64": base64.b64encode(record.data).decode()}


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return _record(letter.record) | {
        "id": letter.id,
        "diedAt": letter.died_at,
        "tries": letter.record.tries,
        "reason": letter.reason,
        "function": letter.function,
    }


def _number(
    given: Mapping[str, Any], name: str, default: int | None, least: int, most: int = 2**53
) -> int:
    value = given.get(name, default)
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not least <= int(text) <= most:
        raise BadRequest(f"{name} must be a whole number from {least} to {most}, was {value!r}")
    return int(text)


def _dead_id(text: str) -> str:
    """The id of a dead letter, or nothing.

    Raises:
        BadRequest: none looks like that.
    """
    milliseconds, _, count = text.partition("-")
    if text and not (milliseconds.isdecimal() and count.isdecimal()):
        raise BadRequest(f'the id of a dead letter is like "1730000000000-0", was {text[:40]!r}')
    return text


def _moment(given: Any) -> float:
    """Epoch seconds, or a date and time with its offset.

    Raises:
        BadRequest: it is neither.
    """
    if isinstance(given, (int, float)) and not isinstance(given, bool) and given >= 0:
        return float(given)
    try:
        moment = datetime.fromisoformat(str(given))
        if moment.tzinfo is not None:
            return moment.timestamp()
    except ValueError:
        pass
    raise BadRequest(
        f'since must be epoch seconds, or like "2026-01-31T12:00:00+00:00", was {given!r}'
    )
