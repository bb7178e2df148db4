"""What a function's stream triggers will do here that their author may not expect."""

from __future__ import annotations

from collections.abc import Iterator

from stoker.nouns.function import FunctionConfig
from stoker.nouns.parts import Trigger
from stoker.nouns.stream_trigger import STREAM_KINDS, AckMode

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
KAFKA_KINDS = frozenset({"kafka", "kafka-cluster"})


def stream_notes(config: FunctionConfig) -> list[str]:
    """Lines for the deploy log."""
    found: list[str] = []
    for name, trigger in config.spec.triggers.items():
        if trigger.kind in STREAM_KINDS:
            found += [f"trigger {name!r}: {text}" for text in _notes(config, trigger)]
        elif trigger.kind in KAFKA_KINDS:
            found.append(
                f"trigger {name!r}: no Kafka is read here, so nothing calls this function for its "
                "topics; a queue with a v3io:// path is read (docs/queues.md)"
            )
    return found


def _notes(config: FunctionConfig, declared: Trigger) -> Iterator[str]:
    trigger = declared.stream("")
    host = trigger.foreign_host
    if host and host not in _HERE:
        yield f"names v3io at {host}, but reads this platform's own stream {trigger.stream!r}"
    if trigger.ack is AckMode.DISABLE:
        return
    if config.acks_graph_at_return:
        yield (
            "explicitAckMode has no effect on a graph that has an http trigger too; records are "
            "acknowledged when its handler returns"
        )
    elif declared.attributes.get("workerAllocationMode", "pool") != "static":
        yield (
            f"Nuclio on a cluster refuses explicitAckMode {trigger.ack} unless "
            "attributes.workerAllocationMode is static; here it is taken as static"
        )
