"""A trigger that reads a stream, as clients declare it."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.nouns.errors import InvalidFunction
from stoker.nouns.function import FunctionConfig
from stoker.nouns.stream_trigger import AckMode

ATTRIBUTES = {"containerName": "projects", "streamPath": "shop/orders", "consumerGroup": "g"}


def config(*triggers: dict[str, Any], env: dict[str, str] | None = None) -> FunctionConfig:
    spec = {
        "triggers": {f"t{index}": trigger for index, trigger in enumerate(triggers)},
        "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
    }
    return FunctionConfig.parse({"metadata": {"name": "f"}, "spec": spec})


def stream(*, attributes: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"kind": "v3ioStream", "attributes": {**ATTRIBUTES, **(attributes or {})}, **fields}


def test_what_mlrun_writes_for_a_queue_is_read() -> None:
    """As `add_v3io_stream_trigger` of mlrun 1.12.1 makes it, snake case attribute included."""
    found = config(
        stream(
            attributes={
                "sequenceNumberCommitInterval": "1s",
                "workerAllocationMode": "static",
                "worker_allocation_mode": "static",
                "seekTo": "earliest",
                "readBatchSize": 256,
                "pollingIntervalMs": 500,
                "ackWindowSize": 32,
            },
            url="http://127.0.0.1:8070",
            name="stream",
            maxWorkers=2,
            explicitAckMode="explicitOnly",
            password="$generate",
            workerTerminationTimeout="25s",
        )
    )
    (trigger,) = found.stream_triggers.values()
    assert (trigger.stream, trigger.stream_path) == ("projects/shop/orders", "shop/orders")
    assert (trigger.group, trigger.from_start, trigger.sticky) == ("g", True, True)
    assert (trigger.read_batch, trigger.poll_s, trigger.window) == (256, 0.5, 32)
    assert trigger.ack is AckMode.EXPLICIT_ONLY
    assert trigger.tries == 5
    assert found.workers == 2
    assert found.termination_s == 25.0
    assert found.worker_trigger == ("v3ioStream", "t0")


def test_what_is_not_said_has_nuclios_defaults() -> None:
    (trigger,) = config(stream()).stream_triggers.values()
    assert (trigger.from_start, trigger.read_batch, trigger.poll_s) == (False, 64, 0.5)
    assert (trigger.ack, trigger.sticky) == (AckMode.DISABLE, False)


def test_the_older_form_has_everything_in_its_url() -> None:
    url = "https://webapi:8081/users/mike/orders@readers"
    (trigger,) = config({"kind": "v3ioStream", "url": url}).stream_triggers.values()
    assert (trigger.stream, trigger.group) == ("users/mike/orders", "readers")
    assert trigger.webapi == "https://webapi:8081"
    assert trigger.foreign_host == "webapi"


def test_both_spellings_of_the_kind_act_and_a_disabled_one_does_not() -> None:
    assert config({**stream(), "kind": "v3io-stream"}).stream_triggers
    assert not config(stream(disabled=True)).stream_triggers


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"containerName": ""}, "containerName"),
        ({"streamPath": None}, "streamPath"),
        ({"streamPath": "a//b"}, "streamPath"),
        ({"consumerGroup": "a:b"}, "consumerGroup"),
        ({"seekTo": "time"}, "seekTo"),
        ({"readBatchSize": 0}, "readBatchSize"),
        ({"readBatchSize": "many"}, "readBatchSize"),
        ({"pollingIntervalMs": True}, "pollingIntervalMs"),
        ({"ackWindowSize": -1}, "ackWindowSize"),
        ({"workerAllocationMode": "any"}, "workerAllocationMode"),
        ({"maxTries": 0}, "maxTries"),
        ({"retryIntervalMs": 1.5}, "retryIntervalMs"),
    ],
)
def test_an_attribute_that_cannot_be_read_is_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidFunction, match=rf"triggers\.t0: attributes\.{told}.* was "):
        config(stream(attributes=wrong))


def test_an_unknown_way_to_acknowledge_is_refused() -> None:
    with pytest.raises(InvalidFunction, match="explicitAckMode must be"):
        config(stream(explicitAckMode="sometimes"))


def test_one_stream_is_read_once_in_a_group() -> None:
    with pytest.raises(InvalidFunction, match="only one may read the stream"):
        config(stream(), stream(attributes={"streamPath": "/shop/orders/"}))
    assert len(config(stream(), stream(attributes={"consumerGroup": "h"})).stream_triggers) == 2


@pytest.mark.parametrize("other", [{"consumerGroup": "h"}, {"containerName": "users"}])
def test_acknowledgements_that_nothing_tells_apart_are_refused(other: dict[str, str]) -> None:
    first = stream(explicitAckMode="explicitOnly")
    with pytest.raises(InvalidFunction, match=r"streamPath 'shop/orders'.* was 't0' and 't1'"):
        config(first, stream(explicitAckMode="enable", attributes=other))
    # Nothing is acknowledged explicitly by what is done when its handler returns, or is not read.
    for harmless in (stream(attributes=other), stream(attributes={"streamPath": "shop/bills"})):
        assert len(config(first, harmless).stream_triggers) == 2
    unread = stream(explicitAckMode="explicitOnly", attributes=other, disabled=True)
    assert list(config(first, unread).stream_triggers) == ["t0"]


def test_a_function_that_declares_http_as_well_is_an_http_function() -> None:
    both = config(stream(maxWorkers=4), {"kind": "http", "numWorkers": 2})
    assert both.worker_trigger == ("http", "t1")
    assert both.workers == 2
    assert config(stream(), {"kind": "cron"}).worker_trigger == ("v3ioStream", "t0")
    assert config({"kind": "cron"}).worker_trigger == ("http", "default-http")


def test_a_graph_behind_http_never_acknowledges_so_its_return_does() -> None:
    explicit = stream(explicitAckMode="explicitOnly")
    graph = {"SERVING_SPEC_ENV": "{}"}

    def mode(*triggers: dict[str, Any], env: dict[str, str] | None = None) -> AckMode:
        return config(*triggers, env=env).stream_triggers["t0"].ack

    assert mode(explicit, {"kind": "http"}, env=graph) is AckMode.DISABLE
    assert mode(explicit, env=graph) is AckMode.EXPLICIT_ONLY
    assert mode(explicit, {"kind": "http"}) is AckMode.EXPLICIT_ONLY
