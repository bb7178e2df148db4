"""A graph that reads a stream says which records it could not do: with mlrun's own engine."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import nuclio_sdk
import pytest

from stoker.sdk.graph.failures import CLASS, STEP, telling_failures

pytestmark = [pytest.mark.mlrun, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """mlrun connects, when it is first imported, to where this says."""
    monkeypatch.delenv("MLRUN_DBPATH", raising=False)


def fails(body: Any) -> Any:
    if "bad" in body:
        raise ValueError("a bad record")
    return body


class Platform(nuclio_sdk.Platform):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("local")
        self.failed: list[tuple[int, int, str]] = []

    async def explicit_ack(self, qualified_offset: Any) -> None: ...

    async def record_failed(self, event: Any, reason: str) -> None:
        self.failed.append((event.shard_id, event.offset, reason))


def graph() -> dict[str, Any]:
    import mlrun

    function = mlrun.new_function("f", project="p", kind="serving", image="x")
    flow = function.set_topology("flow", engine="async")
    flow.to(name="first", handler="json.dumps").to(name="second", handler="fails")
    made: dict[str, Any] = json.loads(function.serving_spec)
    return made


def test_the_step_is_what_mlruns_own_error_handler_writes() -> None:
    import mlrun

    spec = graph()
    function = mlrun.new_function("f", project="p", kind="serving", image="x")
    flow = function.set_topology("flow", engine="async")
    flow.to(name="first", handler="json.dumps").to(name="second", handler="fails")
    flow.error_handler(STEP, class_name=CLASS, full_event=True, function="*")
    theirs = json.loads(function.serving_spec)["graph"]
    ours = telling_failures(spec["graph"])
    assert ours["on_error"] == theirs["on_error"]
    step = theirs["steps"][STEP]
    kept = {key: step[key] for key in ours["steps"][STEP] if key in step}
    assert kept == {key: ours["steps"][STEP][key] for key in kept}
    assert {"kind", "class_name", "function", "full_event"} <= kept.keys()


def test_graphs_that_handle_their_errors_stay_as_they_are() -> None:
    spec = graph()["graph"]
    assert telling_failures({**spec, "on_error": "mine"})["on_error"] == "mine"
    for other in ({**spec, "engine": "sync"}, {"kind": "router", "routes": {}}):
        assert telling_failures(other) == other


async def test_a_failed_record_is_told_with_its_reason_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlrun.runtimes import nuclio_init_hook

    spec = graph()
    spec["graph"] = telling_failures(spec["graph"])
    monkeypatch.setenv("SERVING_SPEC_ENV", json.dumps(spec))
    platform = Platform()
    context: Any = nuclio_sdk.Context(
        logger=nuclio_sdk.Logger(level=50),
        platform=platform,
        trigger=SimpleNamespace(kind="v3ioStream", name="s"),
    )
    nuclio_init_hook(context, {"fails": fails}, "serving_v2")
    for offset, text in enumerate(("good", "bad", "fine"), start=1):
        event = nuclio_sdk.Event(
            body=json.dumps(text).encode(),
            trigger=nuclio_sdk.event.TriggerInfo("v3io-stream", "s"),
            shard_id=0,
            offset=offset,
            topic="orders",
            _id=str(offset),
        )
        await context.mlrun_handler(context, event)
    async with asyncio.timeout(10):
        while not platform.failed:
            await asyncio.sleep(0)
    await platform._on_signal("termination")
    assert platform.failed == [(0, 2, "step second: ValueError: a bad record")]
