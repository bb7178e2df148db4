"""What the controller knows, as numbers and names for pages and metrics."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stoker.controller.view import Live
from stoker.controller.world import World


def overview(world: World) -> dict[str, Any]:
    """Functions, replicas by state, devices by bytes, starts and wake durations; JSON-able."""
    used = world.ledger.used()
    return {
        "functions": {name: _function(world, live) for name, live in world.functions.items()},
        "replicas": dict(Counter(str(replica.phase) for replica in world.replicas.values())),
        "devices": {
            device: {"capacity_bytes": size, "used_bytes": used[device]}
            for device, size in world.ledger.capacity.items()
        },
    }


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
                "pids": [slot.pid for slot in replica.slots],
            }
            for replica in world.replicas_of(live.name)
        },
    }
