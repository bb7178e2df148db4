"""Bodies of the v3io stream web API: read, checked, written."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from stoker.nouns.errors import BadRequest
from stoker.nouns.stream import MAX_RECORD_BYTES, MOST_RECORDS, NewRecord, Record

MOST_INFO_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Put:
    """One record of a put: ``shard`` when its producer names one."""

    record: NewRecord
    shard: int | None


def document(body: bytes) -> dict[str, Any]:
    """A request's JSON object; none is an empty one.

    Raises:
        BadRequest: it is something else.
    """
    if not body:
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the body must be JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise BadRequest(f"the body must be a JSON object, was {type(found).__name__}")
    return found


def number(given: Mapping[str, Any], name: str, default: int | None, least: int, most: int) -> int:
    """A whole number of a request.

    Raises:
        BadRequest: it is none, or out of bounds, or missing without a default.
    """
    value = given.get(name, default)
    if value is None and default is not None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"{name} must be a whole number from {least} to {most}, was {value!r}")
    return value


def puts(given: Mapping[str, Any]) -> list[Put]:
    """The records of a PutRecords.

    Raises:
        BadRequest: naming the record and what is wrong with it.
    """
    records = given.get("Records")
    if not isinstance(records, list) or not 1 <= len(records) <= MOST_RECORDS:
        count = len(records) if isinstance(records, list) else type(records).__name__
        raise BadRequest(f"Records must be a list of 1 to {MOST_RECORDS} records, was {count}")
    return [_put(index, record) for index, record in enumerate(records)]


def _put(index: int, record: Any) -> Put:
    where = f"Records[{index}]"
    if not isinstance(record, dict):
        raise BadRequest(f"{where} must be an object, was {type(record).__name__}")
    key = record.get("PartitionKey") or ""
    if not isinstance(key, str):
        raise BadRequest(f"{where}.PartitionKey must be text, was {key!r}")
    shard = record.get("ShardId")
    if shard is not None and (isinstance(shard, bool) or not isinstance(shard, int)):
        raise BadRequest(f"{where}.ShardId must be a whole number, was {shard!r}")
    data = _blob(where, record, "Data", MAX_RECORD_BYTES)
    info = _blob(where, record, "ClientInfo", MOST_INFO_BYTES) if record.get("ClientInfo") else b""
    return Put(NewRecord(data, key, info), shard)


def _blob(where: str, record: Mapping[str, Any], name: str, most: int) -> bytes:
    text = record.get(name)
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        data = None
    if data is None:
        raise BadRequest(f"{where}.{name} must be base64, was {str(text)[:40]!r}")
    if len(data) > most:
        raise BadRequest(f"{where}.{name} must be at most {most} bytes, was {len(data)}")
    return data


def location(sequence: int) -> str:
    """Where reading goes on, as clients carry it about."""
    return base64.b64encode(b"%d" % sequence).decode()


def sequence_at(given: Mapping[str, Any]) -> int:
    """The sequence number in a request's ``Location``.

    Raises:
        BadRequest: it is none that was given out here.
    """
    text = given.get("Location")
    try:
        return int(base64.b64decode(text, validate=True)) if isinstance(text, str) else -1
    except (binascii.Error, ValueError):
        raise BadRequest(f"Location must be as it was given out, was {str(text)[:40]!r}") from None


def got(records: list[Record], first: int, last: int) -> dict[str, Any]:
    """The answer to a GetRecords that began at ``first`` in a shard that ends at ``last``."""
    reached = records[-1].sequence if records else max(first - 1, 0)
    behind = max(0, last - reached)
    late_ms = int((time.time() - records[-1].arrived_at) * 1000) if records and behind else 0
    return {
        "NextLocation": location(reached + 1),
        "MSecBehindLatest": max(0, late_ms),
        "RecordsBehindLatest": behind,
        "Records": [_shown(record) for record in records],
    }


def _shown(record: Record) -> dict[str, Any]:
    seconds = int(record.arrived_at)
    shown = {
        "SequenceNumber": record.sequence,
        "ArrivalTimeSec": seconds,
        "ArrivalTimeNSec": int((record.arrived_at - seconds) * 1e9),
        "Data": base64.b64encode(record.data).decode(),
    }
    if record.key:
        shown["PartitionKey"] = record.key
    if record.info:
        shown["ClientInfo"] = base64.b64encode(record.info).decode()
    return shown
