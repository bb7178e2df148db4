"""What the controller knows, as numbers and names for pages and metrics."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stoker.controller.view import Live
from stoker.controller.world import World
from stoker.nouns.device import Device, DeviceKind


def overview(world: World) -> dict[str, Any]:
    """Functions, replicas by state, devices by bytes, starts and wake durations; JSON-able."""
    return {
        "functions": {name: _function(world, live) for name, live in world.functions.items()},
        "replicas": dict(Counter(str(replica.phase) for replica in world.replicas.values())),
        "devices": _devices(world),
    }


def _devices(world: World) -> dict[str, Any]:
    promised, foreign = world.ledger.used(), world.ledger.foreign()
    rows = {}
    for name, size in world.ledger.capacity.items():
        seen, lost = world.devices[name], name in world.ledger.lost
        # Nothing really lies on a simulated one: what is promised is taken for used.
        simulated = seen.device.kind is DeviceKind.SIMULATED
        used = promised[name] + foreign[name] if simulated else seen.use.used_bytes
        rows[name] = {
            "name": seen.device.name,
            "kind": str(seen.device.kind),
            "capability": _capability(seen.device),
            "parent": seen.device.parent,
            "lost": lost,
            "capacity_bytes": size,
            "promised_bytes": promised[name],
            "foreign_bytes": foreign[name],
            "used_bytes": 0 if lost else used,
            "utilisation": None if lost else seen.use.utilisation,
            "replicas": sorted(r.id for r in world.replicas.values() if name in r.devices),
        }
    return rows


def _capability(device: Device) -> str | None:
    return ".".join(map(str, device.capability)) if device.capability else None


def _function(world: World, live: Live) -> dict[str, Any]:
    return {
        "state": str(live.record.state),
        "message": live.record.message,
        "serving": live.record.serving.number if live.record.serving else None,
        "candidate": live.record.candidate.number if live.record.candidate else None,
        "stage": str(live.rollout.stage) if live.rollout else None,
        "starts": live.starts,
        "crashes": len(live.crashes),
        "wakes_s": [round(seconds, 4) for seconds in live.wakes],
        "replicas": {
            replica.id: {
                "phase": str(replica.phase),
                "revision": replica.revision,
                "devices": list(replica.devices),
                "held_bytes": sum(world.ledger.held(replica.id).values()),
                "pids": [slot.pid for slot in replica.slots],
            }
            for replica in world.replicas_of(live.name)
        },
    }
