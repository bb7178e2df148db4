"""The legend of every key that Stoker keeps in Redis. All JSON and raw bytes, no pickle.

=======================================  ======  ========  ======================================
Key                                      Type    TTL       Written by: what
=======================================  ======  ========  ======================================
``stoker:home``                          string  none      the first to connect: the home's id
``stoker:sequence``                      string  none      every announcement: +1; gaps are losses,
                                                           less than before: Redis forgot
``stoker:events``                        pubsub  --        announcements: ``<seq> <topic> <name>``
``stoker:functions``                     hash    none      API, controller: name → FunctionRecord
``stoker:projects``                      hash    none      API: name → project document
``stoker:replicas``                      set     none      controller: ids; pruned when read
``stoker:replica:<id>``                  string  120 s     controller: ReplicaRecord
``stoker:demand``                        set     none      reporters: who; pruned when read
``stoker:demand:<reporter>``             string  5 s       a gateway, or a graph's worker that calls
                                                           functions: function → Demand
``stoker:metrics``                       set     none      gateways: who reports; pruned when read
``stoker:metrics:<gateway>``             string  10 s      one gateway: snapshot of its metrics
``stoker:lease:<name>``                  string  given     the holder: its owner id
``stoker:invocations``                   stream  none      gateways: ids of the unfinished ones
``stoker:invocation:<id>``               hash    none;     gateways: request, state, reply
                                                 24 h once
                                                 finished
``stoker:idempotency:<function>:<key>``  string  24 h      gateways: the invocation's id
``stoker:streams``                       hash    none      API: name → shards, retention
``stoker:stream:<name>:<shard>``         stream  none;     API: records ``<sequence>-0``; gateways:
                                                 trimmed   consumer groups and what they hold
``stoker:stream-shard:<name>:<shard>``   hash    none      API: last sequence, bytes; gateways:
                                                           ``armed`` while one waits for a bell;
                                                           ``again:<group>``: the last rewind, which
                                                           record was before it and which the last;
                                                           in shard 0 ``dead:<group>``: bytes of
                                                           the dead letters of all shards
``stoker:stream-dead:<name>:<group>``    stream  none;     gateways: records that were given up;
                                                 trimmed   API: takes out what is replayed
``stoker:lease:stream:<name>:<shard>:    string  10 s      gateways: who reads the shard for the
<group>``                                                  group
``stoker:bells``                         pubsub  --        put and replay: ``<shard> <name>``, when
                                                           a consumer of that shard is armed
``stoker:rollouts:<function>``           stream  30 d      controller: RolloutEvent, the last 100
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


ROLLOUT_EVENTS = 100
"""Events of one function's canaries that are kept; each canary makes two or three."""
ROLLOUT_TTL_S = 30 * 24 * 3600


def rollouts(function: str) -> str:
    """Where the history of a function's canaries lies."""
    return f"stoker:rollouts:{function}"


STREAMS = "stoker:streams"
BELLS = "stoker:bells"
STREAM_CONSUMER = "stoker"
"""The consumer in every group: who reads is decided by the lease, not by Redis."""
STREAM_LEASE_TTL_S = 10.0
STREAM_RECORDS = 100_000
"""Records of one shard. Beyond it the oldest go that every group has done with; when a group has
not, new ones are refused: dropping what nobody has seen would lose it in silence."""
STREAM_BYTES = 256 * 1024 * 1024
"""Bytes of one shard's records, with the same consequence."""
DEAD_LETTERS = 10_000
"""Dead letters of one group of a stream; beyond it the oldest go."""
DEAD_BYTES = 64 * 1024 * 1024
"""Bytes of their records, with the same consequence."""


def stream(name: str, shard: int) -> str:
    """Where one shard's records lie."""
    return f"stoker:stream:{name}:{shard}"


def stream_shard(name: str, shard: int) -> str:
    """Where one shard's counters lie."""
    return f"stoker:stream-shard:{name}:{shard}"


def stream_dead(name: str, group: str) -> str:
    """Where the records lie that one group gave up."""
    return f"stoker:stream-dead:{name}:{group}"


def stream_lease(name: str, shard: int, group: str) -> str:
    """The name of the lease to read one shard for one group; groups hold no colon."""
    return f"stream:{name}:{shard}:{group}"
