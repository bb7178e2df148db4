"""Routes of the gateway itself, model protocols, keys, the store's absence, durable invocations."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from fake_store import function
from stoker.gateway.routes import first_segment, origin_form
from stoker.nouns.errors import BadRequest
from stoker.nouns.event import Topic
from stoker.nouns.model_name import TRIAL_LABEL
from stoker.nouns.record import FunctionRecord, FunctionState
from stoker.sdk.routing import follow

Place = Any


async def test_health_and_readiness(place: Place) -> None:
    client = await place.client()
    assert (await client.get("/healthz")).status == 200
    assert (await client.get("/readyz")).status == 200
    assert (await client.get("/v2/health/live")).json == {"live": True}
    assert (await client.get("/v2/health/ready")).status == 200


async def test_it_is_alive_but_not_ready_before_it_has_read_the_store(bare: Place) -> None:
    bare.put()
    gateway = await bare.gateway()
    gateway._view._read.clear()
    client = await bare.client()
    assert (await client.get("/healthz")).status == 200
    assert (await client.get("/readyz")).status == 503


async def test_pages_can_only_be_read(place: Place) -> None:
    client = await place.client()
    reply = await client.post("/metrics?all", b"x")
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, HEAD"
    assert "/metrics does" in reply.json["error"]["message"]
    client.request("/v1/embeddings", method="DELETE")
    assert (await client.reply()).headers["allow"] == "GET, HEAD, POST"


async def test_metrics_count_by_function_code_and_stage(place: Place) -> None:
    await place.worker()
    client = await place.client()
    await client.get("/echo/")
    await client.get("/echo/fail")
    await client.get("/nope/")
    text = (await client.get("/metrics")).body.decode()
    assert 'stoker_requests_total{code="200",error="",function="echo",gateway="g0"} 1.0' in text
    assert (
        'stoker_requests_total{code="500",error="handler_failed",function="echo",gateway="g0"} 1.0'
        in text
    )
    assert 'error="function_not_found"' in text
    assert 'stoker_request_seconds_count{function="echo",gateway="g0",stage="total"} 2.0' in text
    assert "stoker_requests_in_flight" in text


async def test_open_inference_routes_by_model_name_and_keeps_the_path(bare: Place) -> None:
    bare.put(function(env={"STOKER_MODEL_NAME": "mini/lm"}))
    await bare.gateway()
    worker = await bare.worker()
    client = await bare.client()
    assert (await client.post("/v2/models/echo/infer", b"{}")).status == 200
    assert (await client.post("/v2/models/mini%2Flm/infer", b"{}")).status == 200
    assert worker.requests[0]["path"] == "/v2/models/echo/infer"
    assert (await client.get("/v2/models/other")).code == "function_not_found"
    near = (await client.post("/v1/embeddings", b'{"model": "mini/lmm"}')).json["error"]
    assert near["message"] == "no function serves the model 'mini/lmm'; did you mean mini/lm?"
    assert near["near"] == ["mini/lm"]
    far = (await client.post("/v1/embeddings", b'{"model": "nobody"}')).json["error"]
    assert far["message"] == "no function serves the model 'nobody'"


async def test_openai_routes_by_the_model_in_the_body(bare: Place) -> None:
    bare.put(function(env={"STOKER_MODEL_NAME": "mini"}))
    await bare.gateway()
    worker = await bare.worker()
    client = await bare.client()
    assert (await client.post("/v1/embeddings", b'{"model": "mini", "input": "x"}')).status == 200
    assert worker.requests[0]["path"] == "/v1/embeddings"
    models = (await client.get("/v1/models")).json["data"]
    assert [model["id"] for model in models] == ["mini"]
    assert (await client.get("/v1/models/mini")).json["id"] == "mini"
    for body in (b"{}", b"[]", b"no json", b'{"model": 3}'):
        assert (await client.post("/v1/embeddings", body)).status == 400
    assert (await client.post("/v1/embeddings", b'{"model": "x"}')).status == 404


MINI = {"STOKER_MODEL": "m", "STOKER_MODEL_NAME": "mini"}


def declaring(name: str, created_at: float, **facts: Any) -> FunctionRecord:
    """A function with the model name ``mini``."""
    return function(name, env=MINI, **facts).model_copy(update={"created_at": created_at})


async def listed(client: Any) -> list[tuple[str, int]]:
    models = (await client.get("/v1/models")).json["data"]
    return [(model["id"], model["created"]) for model in models]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
async def test_of_two_with_one_model_name_the_first_answers_and_is_listed(
    bare: Place, names: tuple[str, str]
) -> None:
    """It was listed twice, and which of them answered hung on the order in the store."""
    first, second = names
    for name in "ab":
        bare.put(declaring(name, 1.0 if name == first else 2.0))
    await bare.gateway()
    workers = {name: await bare.worker(f"r{name}", of=name) for name in names}
    client = await bare.client()
    assert (await client.post("/v1/embeddings", b'{"model": "mini"}')).status == 200
    assert (await client.post("/v2/models/mini/infer", b"{}")).status == 200
    assert (len(workers[first].requests), len(workers[second].requests)) == (2, 0)
    assert await listed(client) == [("mini", 1)]


async def test_one_that_has_nothing_to_answer_with_takes_no_models_name(bare: Place) -> None:
    bare.put(declaring("a", 1.0, serving=False, candidate=True, state=FunctionState.ERROR))
    bare.put(declaring("b", 2.0))
    await bare.gateway()
    assert await listed(await bare.client()) == [("mini", 2)]


async def test_a_model_whose_name_is_another_functions_is_not_listed_for_it(bare: Place) -> None:
    bare.put(declaring("a", 1.0))
    bare.put(function("mini"))
    await bare.gateway()
    worker = await bare.worker("r", of="mini")
    client = await bare.client()
    assert (await client.post("/v1/embeddings", b'{"model": "mini"}')).status == 200
    assert len(worker.requests) == 1
    assert await listed(client) == []


async def test_a_trial_is_not_listed_and_answers_by_its_own_name_only(bare: Place) -> None:
    """While recipes were measured each was listed, and the function's requests came to one."""
    for name, created_at in (("echo-trial-int8", 1.0), ("echo", 2.0)):
        bare.put(declaring(name, created_at))
    trial = declaring("echo-trial-int8", 1.0)
    document = trial.current.document
    document["metadata"]["labels"] = {TRIAL_LABEL: "echo"}
    bare.put(trial)
    await bare.gateway()
    tried, real = await bare.worker("t", of=trial.name), await bare.worker("r")
    client = await bare.client()
    assert (await client.post("/v1/embeddings", b'{"model": "mini"}')).status == 200
    assert (len(tried.requests), len(real.requests)) == (0, 1)
    assert await listed(client) == [("mini", 2)]
    assert (await client.post("/echo-trial-int8/v1/embeddings", b'{"model": "mini"}')).status == 200
    assert len(tried.requests) == 1


@pytest.mark.parametrize("target", ["*", "nothing", "http://", "http://[x/"])
def test_a_target_without_a_path_is_refused(target: str) -> None:
    with pytest.raises(BadRequest):
        origin_form(target)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/f", ("f", "/")),
        ("/f/", ("f", "/")),
        ("/f/a/b?c=/d", ("f", "/a/b?c=/d")),
        ("/f?a=/b", ("f", "/?a=/b")),
        ("/", ("", "/")),
        ("//x", ("", "/x")),
    ],
)
def test_the_first_segment_names_the_function(path: str, parts: tuple[str, str]) -> None:
    assert first_segment(path) == parts


async def test_a_key_is_asked_for_everywhere_but_at_healthz(bare: Place) -> None:
    bare.put()
    await bare.gateway(api_keys=frozenset({"right", "also"}))
    worker = await bare.worker()
    client = await bare.client()
    assert (await client.get("/healthz")).status == 200
    for path in ("/echo/", "/metrics", "/readyz", "/nope/"):
        reply = await client.get(path)
        assert (reply.status, reply.code) == (401, "unauthorized")
    # The page that is open to all must not be a way to a function.
    for target in ("echo", "nope"):
        reply = await client.get("/healthz", X_Nuclio_Target=target)
        assert (reply.status, reply.code) == (401, "unauthorized")
    assert (await client.get("/echo/", X_Api_Key="wrong")).status == 401
    assert (await client.get("/echo/", Authorization="Basic right")).status == 401
    assert (await client.get("/echo/", X_Api_Key="also")).status == 200
    assert (await client.get("/echo/", Authorization="Bearer right")).status == 200
    assert not any({"x-api-key", "authorization"} & r["headers"].keys() for r in worker.requests)
    assert len(worker.requests) == 2


async def test_a_functions_own_authorization_is_passed_on_when_no_key_is_set(place: Place) -> None:
    worker = await place.worker()
    client = await place.client()
    await client.get("/echo/", Authorization="Bearer theirs")
    assert worker.requests[0]["headers"]["authorization"] == "Bearer theirs"


async def test_without_the_store_warm_traffic_goes_on_and_all_heals(place: Place) -> None:
    await place.worker()
    client = await place.client()
    place.store.available = False
    place.store.announce(Topic.LOST)
    assert (await client.get("/echo/")).status == 200
    gateway = place.gateways[0]
    gateway._view.wake("echo")
    await place.until(lambda: gateway.snapshot()["store_failures"] > 0)
    place.store.available = True
    place.put(function("fresh"))
    gateway.router.remove_function("fresh")
    place.store.announce(Topic.RESYNC)
    await place.until(lambda: "fresh" in gateway.router.lanes)
    assert (await client.get("/echo/")).status == 200


async def test_announced_changes_are_followed(place: Place) -> None:
    gateway = place.gateways[0]
    place.store.functions["new"] = function("new")
    place.store.announce(Topic.FUNCTION, "new")
    await place.until(lambda: "new" in gateway.router.lanes)
    del place.store.functions["new"]
    place.store.announce(Topic.FUNCTION, "new")
    await place.until(lambda: "new" not in gateway.router.lanes)


async def test_demand_is_reported(place: Place) -> None:
    client = await place.client()
    client.request("/echo/", b"x")
    await place.until(lambda: place.store.demand.get("echo") and place.store.demand["echo"].waiting)
    assert place.store.demand["echo"].arrivals == 1


async def test_respond_async_is_accepted_run_and_its_answer_kept(place: Place) -> None:
    await place.worker()
    client = await place.client()
    reply = await client.post("/echo/x", b"later", Prefer="respond-async")
    assert reply.status == 202
    where = reply.headers["location"]
    invocation = place.store.invocations[where.rpartition("/")[2]]
    await place.until(lambda: place.store.invocations[invocation.id].state.value == "finished")
    answer = await client.get(where)
    assert (answer.status, answer.body) == (200, b"later")
    assert answer.headers["x-stoker-invocation"] == "finished"


async def test_an_unfinished_invocation_says_so(place: Place) -> None:
    client = await place.client()
    reply = await client.post("/echo/", b"later", Prefer="respond-async")
    answer = await client.get(reply.headers["location"])
    assert (answer.status, answer.json["state"]) == (202, "queued")
    assert (await client.get("/invocations/unknown")).status == 404


async def test_the_same_idempotency_key_is_the_same_invocation(place: Place) -> None:
    client = await place.client()
    replies = [
        await client.post("/echo/", b"x", Prefer="respond-async", Idempotency_Key="k")
        for _ in range(2)
    ]
    assert replies[0].headers["location"] == replies[1].headers["location"]
    assert len(place.store.invocations) == 1


async def test_what_cannot_be_kept_is_not_accepted(place: Place) -> None:
    place.store.available = False
    client = await place.client()
    reply = await client.post("/echo/", b"x", Prefer="respond-async")
    assert (reply.status, reply.code) == (503, "store_unavailable")


async def test_model_requests_are_bounded_by_the_functions_own_body_limit(bare: Place) -> None:
    bare.put(function("small", trigger={"attributes": {"maxRequestBodySize": 100}}))
    bare.put(function("large", trigger={"attributes": {"maxRequestBodySize": 6_000_000}}))
    await bare.gateway()
    worker = await bare.worker(of="large")
    client = await bare.client()
    body = orjson.dumps({"model": "small", "input": "x" * 100})
    reply = await client.post("/v1/embeddings", body)
    assert (reply.status, reply.code, reply.json["error"]["limit"]) == (413, "body_too_large", 100)
    body = orjson.dumps({"model": "large", "input": "x" * 5_000_000})
    assert (await client.post("/v1/embeddings", body)).status == 200
    assert len(worker.requests) == 1


async def test_model_requests_can_be_answered_later_too(place: Place) -> None:
    await place.worker()
    client = await place.client()
    reply = await client.post("/v1/embeddings", b'{"model": "echo"}', Prefer="respond-async")
    assert reply.status == 202
    key = reply.headers["location"].rpartition("/")[2]
    await place.until(lambda: place.store.invocations[key].state.value == "finished")
    assert place.store.invocations[key].request["path"] == "/v1/embeddings"
    assert (await client.get(reply.headers["location"])).body == b'{"model": "echo"}'


@pytest.mark.parametrize("prefer", ["", "respond-async"])
async def test_a_cron_firing_is_an_event_of_a_cron_trigger(place: Place, prefer: str) -> None:
    worker = await place.worker()
    client = await place.client()
    fired = {"X_Nuclio_Target": "echo", "Prefer": prefer}
    await client.post("/", b"tick", X_Nuclio_Invoke_Trigger="cron", **fired)
    await place.until(lambda: len(worker.requests) == 1)
    await client.post("/", b"tick", X_Nuclio_Invoke_Trigger="other", **fired)
    await place.until(lambda: len(worker.requests) == 2)
    assert [request.get("trigger") for request in worker.requests] == ["cron", None]


async def test_a_disabled_function_says_so_at_once(place: Place) -> None:
    place.put(function("off", spec={"disable": True}))
    client = await place.client()
    reply = await client.get("/off/")
    assert (reply.status, reply.code) == (503, "function_unhealthy")
    assert "is disabled" in reply.json["error"]["message"]
    assert place.store.wakes == []


async def test_a_deleted_function_is_no_longer_counted(place: Place) -> None:
    await place.worker()
    client = await place.client()
    await client.get("/echo/")
    gateway = place.gateways[0]
    assert gateway.snapshot()["functions"]["echo"]["requests"] == {"200 ": 1}
    gateway.router.remove_function("echo")
    assert gateway.snapshot()["functions"] == {}
    assert gateway._meters.functions == {}


async def test_one_mistake_does_not_end_the_following_of_the_store(
    bare: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follow, "RESTART_S", 0.0)
    gateway = await bare.gateway()
    put = gateway.router.put_function

    def once(record: Any) -> None:
        monkeypatch.setattr(gateway.router, "put_function", put)
        raise RuntimeError("a mistake")

    monkeypatch.setattr(gateway.router, "put_function", once)
    bare.store.functions["echo"] = function()
    bare.store.announce(Topic.FUNCTION, "echo")
    await bare.until(lambda: "echo" in gateway.router.lanes)
    assert "a mistake" in caplog.text


async def test_one_mistake_does_not_end_the_running_of_invocations(
    bare: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RESTART_S", 0.0)
    bare.put()
    await bare.gateway(invocation_runners=1)
    worker = await bare.worker()
    client = await bare.client()
    gateway = bare.gateways[0]
    call = gateway._invocations._call

    async def once(invocation: Any) -> Any:
        monkeypatch.setattr(gateway._invocations, "_call", call)
        raise RuntimeError("a mistake")

    monkeypatch.setattr(gateway._invocations, "_call", once)
    for body in (b"first", b"second"):
        await client.post("/echo/", body, Prefer="respond-async")
    await bare.until(lambda: len(worker.requests) == 1)


async def test_before_the_functions_are_read_an_unknown_name_is_503_and_not_404(
    place: Place,
) -> None:
    """A client gives up on a 404; the function was there before the platform restarted."""
    place.gateways[0]._view._read.clear()
    reply = await (await place.client()).get("/not-read-yet/")
    assert (reply.status, reply.code) == (503, "store_unavailable")
    assert reply.headers["retry-after"] == "1"
    place.gateways[0]._view._read.set()
    assert (await (await place.client()).get("/not-read-yet/")).status == 404
