"""/api/rollouts, against a real store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from stoker.decide.latency import bucket_of
from stoker.nouns.evidence import Side, Tally
from stoker.nouns.record import Canary, Demand, FunctionRecord, FunctionState, Revision
from stoker.nouns.rollout import CANARY_ANNOTATION, CanarySpec, RolloutEvent, Step
from stoker.store import Store

Document = Callable[..., dict[str, Any]]
SECRET = {"name": "API_TOKEN", "value": "s3cr3t-value"}


def tally(id: str, canary: int, errors: int = 0) -> Tally:  # noqa: A002 - the field's name
    return Tally(
        id=id,
        revision=2,
        canary=Side(requests=canary, errors=errors, latency={bucket_of(0.05): canary}),
        stable=Side(requests=9 * canary, latency={bucket_of(0.02): 9 * canary}),
    )


@pytest.fixture
async def tried(store: Store, function: Document) -> FunctionRecord:
    document = function()
    canary = Canary(
        revision=Revision(number=2, document=function(env=[SECRET]), who="ann"),
        spec=CanarySpec(share=0.1),
        share=0.1,
        started_at=100.0,
        ran_s=12.0,
        tallies={"a": tally("a", 10), "b": tally("b", 5)},
    )
    record = FunctionRecord(
        name="hello",
        project="shop",
        state=FunctionState.READY,
        serving=Revision(number=1, document=document),
        canary=canary,
        last_revision=2,
        created_at=50.0,
    )
    await store.create_function(record)
    return record


@pytest.mark.usefixtures("tried")
async def test_a_canary_is_shown_with_what_was_kept_and_what_is_told_now(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.report_demand("g0", {"hello": Demand(tally=tally("a", 12, errors=1))})
    await store.report_demand("g1", {"hello": Demand(tally=tally("c", 3))})
    shown = (await client.get("/api/rollouts/hello")).json()
    assert (shown["function"], shown["servingRevision"]) == ("hello", 1)
    canary = shown["canary"]
    assert (canary["revision"], canary["share"], canary["who"]) == (2, 0.1, "ann")
    assert canary["evidence"]["canary"]["requests"] == 12 + 5 + 3
    assert canary["evidence"]["canary"]["errors"] == 1
    assert canary["evidence"]["stable"]["requests"] == 9 * 20
    assert canary["evidence"]["canary"]["p95_ms"] == pytest.approx(50, rel=0.1)
    assert canary["verdict"] == "20 of 50 requests"
    assert (await client.get("/api/rollouts")).json() == {"hello": canary}


async def test_the_history_is_the_functions_own_and_masks_secrets(
    client: httpx.AsyncClient, store: Store, tried: FunctionRecord
) -> None:
    for at, why in ((10.0, "a namesake's"), (60.0, "died of s3cr3t-value")):
        event = RolloutEvent(
            step=Step.ROLLED_BACK, revision=2, stable=1, at=at, who="stoker", why=why
        )
        await store.add_rollout_event(tried.name, event)
    text = (await client.get("/api/rollouts/hello")).text
    assert "s3cr3t-value" not in text
    (event_shown,) = (await client.get("/api/rollouts/hello")).json()["history"]
    assert event_shown["at"] == 60.0
    assert event_shown["why"].startswith("died of ")


@pytest.mark.parametrize("verb", ["promote", "abort"])
@pytest.mark.usefixtures("tried")
async def test_a_client_asks_for_the_end_of_a_canary_once(
    client: httpx.AsyncClient, store: Store, verb: str
) -> None:
    reply = await client.post(f"/api/rollouts/hello/{verb}", json={"who": "ben", "why": "enough"})
    assert reply.status_code == 202
    assert reply.json()["canary"]["asked"]["verb"] == verb
    record = await store.get_function("hello")
    assert record is not None
    assert record.canary is not None
    assert record.canary.asked is not None
    assert (record.canary.asked.who, record.canary.asked.why) == ("ben", "enough")
    again = await client.post("/api/rollouts/hello/promote")
    assert again.status_code == 409
    assert f"ben has asked to {verb} it already" in again.json()["error"]["message"]


@pytest.mark.usefixtures("tried")
async def test_a_promotion_that_was_asked_for_may_still_be_aborted(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/api/rollouts/hello/promote")
    overruled = await client.post("/api/rollouts/hello/abort")
    assert overruled.json()["canary"]["asked"]["verb"] == "abort"


async def test_what_cannot_be_asked_is_refused_in_words(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    missing = await client.post("/api/rollouts/hello/promote")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "function_not_found")
    assert (await client.get("/api/rollouts/hello")).status_code == 404
    await client.post("/api/functions", json=function())
    none = await client.post("/api/rollouts/hello/promote")
    assert none.status_code == 409
    message = none.json()["error"]["message"]
    assert message == "function hello has no canary to promote; revision 1 is waitingForBuild"
    shown = (await client.get("/api/rollouts/hello")).json()
    assert (shown["canary"], shown["history"]) == (None, [])
    bad = await client.post("/api/rollouts/hello/abort", json={"who": 7})
    assert bad.status_code == 400
    assert (await client.post("/api/rollouts/hello/abort", content=b"[]")).status_code == 400


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ({"X-Stoker-User": "ann"}, "ann"),
        ({"X-Stoker-User": "ann", "X-API-Key": "k1"}, "ann (key 6ab9f1eb)"),
        ({"Authorization": "Bearer k1"}, "key 6ab9f1eb"),
        ({"User-Agent": "python-requests/2.31 more"}, "a client (python-requests/2.31)"),
    ],
)
async def test_who_deploys_is_kept_with_the_revision(
    client: httpx.AsyncClient,
    store: Store,
    function: Document,
    headers: dict[str, str],
    who: str,
) -> None:
    await client.put("/api/functions/hello", json=function(), headers=headers)
    record = await store.get_function("hello")
    assert record is not None
    assert record.candidate is not None
    assert record.candidate.who == who


async def test_a_canary_that_cannot_be_read_is_refused_by_its_field(
    client: httpx.AsyncClient, function: Document
) -> None:
    document = function()
    document["metadata"]["annotations"] = {CANARY_ANNOTATION: '{"share": 7}'}
    reply = await client.put("/api/functions/hello", json=document)
    assert reply.status_code == 400
    assert "share: Input should be less than or equal to 1" in reply.json()["error"]


@pytest.mark.usefixtures("tried")
async def test_a_redeploy_finds_a_masked_value_in_the_canary_and_listings_show_its_share(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    (row,) = (await client.get("/api/stoker/top")).json()["functions"]
    assert row["canary"] == {"revision": 2, "share": 0.1}
    status = (await client.get("/api/functions/hello")).json()["status"]
    assert status["canary"] == {"revision": 2, "share": 0.1}
    masked = function(env=[SECRET | {"value": "********"}])
    reply = await client.put("/api/functions/hello", json=masked)
    assert reply.status_code == 202, reply.text
    record = await store.get_function("hello")
    assert record is not None
    assert record.candidate is not None
    assert record.candidate.config.env["API_TOKEN"] == "s3cr3t-value"


@pytest.mark.usefixtures("tried")
async def test_metrics_show_both_sides_while_a_canary_lasts(
    client: httpx.AsyncClient, store: Store
) -> None:
    await store.report_demand("g0", {"hello": Demand(tally=tally("c", 5, errors=2))})
    text = (await client.get("/metrics")).text
    assert 'stoker_canary_share{function="hello",revision="2"} 0.1' in text
    labels = 'function="hello",revision="2",side="canary"'
    assert f"stoker_canary_requests{{{labels}}} 20.0" in text
    assert f"stoker_canary_errors{{{labels}}} 2.0" in text
    assert 'stoker_canary_requests{function="hello",revision="1",side="serving"} 180.0' in text
