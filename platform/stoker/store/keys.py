"""The legend of every key that Stoker keeps in Redis. All JSON and raw bytes, no pickle.

=======================================  ======  ========  ======================================
Key                                      Type    TTL       Written by: what
=======================================  ======  ========  ======================================
``stoker:home``                          string  none      the first to connect: the home's id
``stoker:sequence``                      string  none      every announcement: +1; gaps are losses
``stoker:events``                        pubsub  --        announcements: ``<seq> <topic> <name>``
``stoker:functions``                     hash    none      API, controller: name → FunctionRecord
``stoker:projects``                      hash    none      API: name → project document
``stoker:replicas``                      set     none      controller: ids; pruned when read
``stoker:replica:<id>``                  string  120 s     controller: ReplicaRecord
``stoker:demand``                        set     none      gateways: who reports; pruned when read
``stoker:demand:<gateway>``              string  5 s       one gateway: function → Demand
``stoker:metrics``                       set     none      gateways: who reports; pruned when read
``stoker:metrics:<gateway>``             string  10 s      one gateway: snapshot of its metrics
``stoker:lease:<name>``                  string  given     the holder: its owner id
``stoker:invocations``                   stream  none      gateways: ids of the unfinished ones
``stoker:invocation:<id>``               hash    none;     gateways: request, state, reply
                                                 24 h once
                                                 finished
``stoker:idempotency:<function>:<key>``  string  24 h      gateways: the invocation's id
=======================================  ======  ========  ======================================
"""

from __future__ import annotations

HOME = "stoker:home"
SEQUENCE = "stoker:sequence"
EVENTS = "stoker:events"
FUNCTIONS = "stoker:functions"
PROJECTS = "stoker:projects"

REPLICAS = "stoker:replicas"
REPLICA_PREFIX = "stoker:replica:"
REPLICA_TTL_S = 120

DEMAND_INDEX = "stoker:demand"
DEMAND_PREFIX = "stoker:demand:"
DEMAND_TTL_S = 5

METRICS_INDEX = "stoker:metrics"
METRICS_PREFIX = "stoker:metrics:"
METRICS_TTL_S = 10

INVOCATIONS = "stoker:invocations"
INVOCATION_GROUP = "gateways"
INVOCATION_TTL_S = 24 * 3600
INVOCATION_LIMIT = 10_000
"""Unfinished invocations at once: beyond it the newest is turned away, so Redis stays bounded."""


def replica(replica_id: str) -> str:
    """Where one replica's record lies."""
    return REPLICA_PREFIX + replica_id


def lease(name: str) -> str:
    """Where a lease lies."""
    return f"stoker:lease:{name}"


def invocation(invocation_id: str) -> str:
    """Where one invocation lies."""
    return f"stoker:invocation:{invocation_id}"


def idempotency(function: str, key: str) -> str:
    """Which invocation a caller's Idempotency-Key made; names hold no colon, so no two meet."""
    return f"stoker:idempotency:{function}:{key}"
