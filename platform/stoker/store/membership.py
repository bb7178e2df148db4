"""What lives and reports: replicas, the gateways' demand, their metrics, leases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from stoker.nouns.errors import RecordUnreadable
from stoker.nouns.record import Demand, ReplicaRecord
from stoker.store import keys
from stoker.store.link import Link

log = logging.getLogger(__name__)

_DEMANDS = TypeAdapter(dict[str, Demand])


class Replicas:
    """Replica records, each with a time to live; writes and removals are announced.

    Single writer: the controller. An expiry is not announced: it only means that no controller has
    been there for a while, and gateways learn a worker's end from its socket.
    """

    _link: Link

    async def put_replica(self, record: ReplicaRecord) -> None:
        """Writes a replica and renews its time to live."""
        await self._link.announcing(
            "replica_put",
            [keys.REPLICAS, keys.replica(record.id)],
            record.id,
            record.model_dump_json(),
            keys.REPLICA_TTL_S,
        )

    async def remove_replica(self, replica_id: str) -> None:
        """Forgets a replica."""
        await self._link.announcing(
            "replica_remove", [keys.REPLICAS, keys.replica(replica_id)], replica_id
        )

    async def get_replica(self, replica_id: str) -> ReplicaRecord | None:
        """The record, or None."""
        raw = await self._link.call("GET", keys.replica(replica_id))
        return None if raw is None else _replica(replica_id, raw)

    async def list_replicas(self) -> dict[str, ReplicaRecord]:
        """All records by id. One that cannot be read is logged and left out."""
        found: dict[str, ReplicaRecord] = {}
        for name, raw in (await _live(self._link, keys.REPLICAS, keys.REPLICA_PREFIX)).items():
            try:
                found[name] = _replica(name, raw)
            except RecordUnreadable as error:
                log.error("%s", error)
        return found

    async def heartbeat_replicas(self, ids: Sequence[str]) -> set[str]:
        """Renews the time to live of those that are still there; those that are not."""
        if not ids:
            return set()
        named = [keys.replica(replica_id) for replica_id in ids]
        gone = await self._link.script("live_renew", named, keys.REPLICA_TTL_S)
        return {ids[position - 1] for position in gone}


def _replica(replica_id: str, raw: bytes) -> ReplicaRecord:
    try:
        return ReplicaRecord.model_validate_json(raw)
    except ValidationError as error:
        raise RecordUnreadable(
            f"the record of replica {replica_id!r} in Redis cannot be read: {error}"
        ) from error


class Reports:
    """What each gateway reports; a gateway that falls silent drops out by itself."""

    _link: Link

    async def report_demand(self, gateway: str, demand: Mapping[str, Demand]) -> None:
        """Replaces this gateway's demand; it counts for 5 s."""
        await self._link.script(
            "live_put",
            [keys.DEMAND_INDEX, keys.DEMAND_PREFIX + gateway],
            gateway,
            _DEMANDS.dump_json(dict(demand)),
            keys.DEMAND_TTL_S,
        )

    async def read_demand(self) -> dict[str, dict[str, Demand]]:
        """Demand by gateway, then function."""
        found = await _live(self._link, keys.DEMAND_INDEX, keys.DEMAND_PREFIX)
        return {gateway: _DEMANDS.validate_json(raw) for gateway, raw in found.items()}

    async def report_metrics(self, gateway: str, snapshot: dict[str, Any]) -> None:
        """Replaces this gateway's metrics; they count for 10 s."""
        await self._link.script(
            "live_put",
            [keys.METRICS_INDEX, keys.METRICS_PREFIX + gateway],
            gateway,
            orjson.dumps(snapshot),
            keys.METRICS_TTL_S,
        )

    async def read_metrics(self) -> dict[str, dict[str, Any]]:
        """Snapshots by gateway."""
        found = await _live(self._link, keys.METRICS_INDEX, keys.METRICS_PREFIX)
        return {gateway: orjson.loads(raw) for gateway, raw in found.items()}

    async def list_gateways(self) -> set[str]:
        """The gateways that report metrics, and perhaps some that did."""
        return {name.decode() for name in await self._link.call("SMEMBERS", keys.METRICS_INDEX)}

    async def ask_wake(self, function: str) -> None:
        """Announces that a request waits and no worker of ``function`` is warm."""
        await self._link.announcing("wake", [], function)


async def _live(link: Link, index: str, prefix: str) -> dict[str, bytes]:
    flat = await link.script("live_list", [index], prefix)
    return {name.decode(): raw for name, raw in zip(flat[::2], flat[1::2], strict=True)}


class Leases:
    """Who is the one: held for a time, renewed by its owner."""

    _link: Link

    async def hold_lease(self, name: str, owner: str, ttl_s: float) -> bool:
        """Takes or renews a lease for ``ttl_s`` seconds; False while another holds it."""
        milliseconds = max(1, int(ttl_s * 1000))
        held = await self._link.script("lease_hold", [keys.lease(name)], owner, milliseconds)
        return bool(held)

    async def release_lease(self, name: str, owner: str) -> None:
        """Gives a lease back; another owner's is left alone."""
        await self._link.script("lease_release", [keys.lease(name)], owner)
