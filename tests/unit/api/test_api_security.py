"""Each test tries the attack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from stoker.nouns.record import FunctionState, LogEntry
from stoker.store import Store

MakeClient = Callable[..., httpx.AsyncClient]
Document = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8070",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "[::1",
        "10.0.0.7:8070",
    ],
)
async def test_a_rebound_name_in_the_host_header_is_refused(
    client: httpx.AsyncClient, host: str
) -> None:
    for path in ("/api/functions", "/", "/healthz", "/api/stoker/top"):
        reply = await client.get(path, headers={"Host": host})
        assert reply.status_code == 403, path
        assert reply.json()["error"]["code"] == "forbidden"


@pytest.mark.parametrize("host", ["127.0.0.1:8070", "localhost", "LOCALHOST:8070", "[::1]:8070"])
async def test_loopback_names_are_ours(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


async def test_a_configured_name_is_ours_and_no_other(make_client: MakeClient) -> None:
    client = make_client(allowed_hosts=("stoker.lan",))
    assert (await client.get("/healthz", headers={"Host": "stoker.lan:443"})).status_code == 200
    assert (await client.get("/healthz", headers={"Host": "other.lan"})).status_code == 403


async def test_on_a_wildcard_address_any_literal_address_is_ours_but_no_name(
    make_client: MakeClient,
) -> None:
    client = make_client(host="0.0.0.0")
    assert (await client.get("/healthz", headers={"Host": "10.0.0.7:8070"})).status_code == 200
    assert (await client.get("/healthz", headers={"Host": "evil.example"})).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8080"},  # a function's own page, on the data port
        {"Origin": "http://localhost:8070"},  # another origin than the Host that was asked
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_post_that_another_sites_page_caused_deploys_nothing(
    client: httpx.AsyncClient, store: Store, function: Document, headers: dict[str, str]
) -> None:
    for method, path in (("POST", "/api/functions"), ("PUT", "/api/functions/hello")):
        reply = await client.request(method, path, json=function(), headers=headers)
        assert reply.status_code == 403
        assert reply.json()["error"]["code"] == "forbidden"
    assert await store.list_functions() == {}


async def test_a_form_post_without_preflight_is_refused_too(
    client: httpx.AsyncClient, store: Store
) -> None:
    headers = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    body = b'{"metadata":{"name":"evil"},"spec":{}}'
    reply = await client.post("/api/functions", content=body, headers=headers)
    assert reply.status_code == 403
    assert await store.list_functions() == {}


async def test_a_refused_host_is_told_what_helps(client: httpx.AsyncClient) -> None:
    reply = await client.get("/api/functions", headers={"Host": "evil.example"})
    message = reply.json()["error"]["message"]
    assert "use localhost, or the address that it listens on (127.0.0.1)" in message
    assert "allowed" not in message


async def test_the_own_page_may_post(client: httpx.AsyncClient, function: Document) -> None:
    headers = {"Origin": "http://127.0.0.1:8070", "Sec-Fetch-Site": "same-origin"}
    assert (
        await client.post("/api/functions", json=function(), headers=headers)
    ).status_code == 202


async def test_no_reply_lets_another_site_read_it(client: httpx.AsyncClient) -> None:
    reply = await client.options("/api/functions", headers={"Origin": "http://evil.example"})
    assert not [key for key in reply.headers if key.startswith("access-control-")]
    reply = await client.get("/api/functions", headers={"Origin": "http://evil.example"})
    assert not [key for key in reply.headers if key.startswith("access-control-")]


async def test_without_the_right_key_nothing_is_told(make_client: MakeClient) -> None:
    client = make_client(api_keys=("right-key", "second-key"))
    attempts: list[dict[str, str]] = [
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": "right-ke"},
        {"X-API-Key": "right-key "[:-1] + "x"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic !!!"},
        {"X-v3io-session-key": "none"},
        {"Cookie": "session=right-key"},
        {"Cookie": "session=j:right-key"},
        {"Cookie": 'session=j:["right-key"]'},
        {"Cookie": 'session=j:{"sid": "wrong"}'},
        {"Authorization": "right-key"},
    ]
    for headers in attempts:
        for path in ("/api/functions", "/api/stoker/ps", "/metrics", "/nothing"):
            reply = await client.get(path, headers=headers)
            assert reply.status_code == 401, (path, headers)
            assert reply.json()["error"]["code"] == "unauthorized"
            assert "www-authenticate" in reply.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "right-key"},
        {"Authorization": "Bearer right-key"},
        {"Authorization": "bearer second-key"},
        {"Authorization": "Basic dXNlcjpyaWdodC1rZXk="},  # user:right-key
        {"X-v3io-session-key": "right-key"},
        {"Cookie": 'a=b; session=j:{"sid": "right-key"}'},  # Nuclio's client
        {"Cookie": "session=j%3A%7B%22sid%22%3A%22right-key%22%7D"},
    ],
)
async def test_the_right_key_opens(make_client: MakeClient, headers: dict[str, str]) -> None:
    client = make_client(api_keys=("right-key", "second-key"))
    assert (await client.get("/api/functions", headers=headers)).status_code == 200


async def test_keyless_paths_tell_nothing_but_that_it_lives(make_client: MakeClient) -> None:
    client = make_client(api_keys=("right-key",))
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    page = await client.get("/")
    assert page.status_code == 200
    assert "right-key" not in page.text


async def test_a_declared_body_over_the_limit_is_refused_unread(make_client: MakeClient) -> None:
    client = make_client(body_limit_bytes=1000)
    reply = await client.post("/api/functions", content=b"x" * 1001)
    assert reply.status_code == 413


async def test_an_undeclared_body_over_the_limit_is_refused_while_it_comes(
    make_client: MakeClient,
) -> None:
    client = make_client(body_limit_bytes=1000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 100
            yield b"x" * 100

    reply = await client.post("/api/functions", content=endless())
    assert reply.status_code == 413
    assert "error" in reply.json()


@pytest.mark.parametrize(
    "replica", ["..%2f..%2f..%2fetc%2fpasswd", "../../secret", "%2e%2e", "other-a", "*"]
)
async def test_a_log_path_cannot_leave_its_function(
    client: httpx.AsyncClient, function: Document, replica: str
) -> None:
    await client.post("/api/functions", json=function())
    reply = await client.get(f"/api/functions/hello/logs/{replica}?follow=false")
    assert reply.status_code in (400, 404)
    reply = await client.get("/api/functions/..%2f..%2fx/logs/y?follow=false")
    assert reply.status_code == 404


async def test_the_invocation_proxy_goes_nowhere_but_to_the_function(
    client: httpx.AsyncClient, function: Document
) -> None:
    await client.post("/api/functions", json=function())
    for url in ("http://169.254.169.254/latest", "evil.example", "127.0.0.1:8080/other"):
        headers = {"X-Nuclio-Function-Name": "hello", "X-Nuclio-Invoke-Url": url}
        reply = await client.get("/api/function_invocations/x", headers=headers)
        assert reply.status_code == 400, url


async def test_the_page_runs_nothing_but_its_own_script(client: httpx.AsyncClient) -> None:
    for path in ("/", "/page/dashboard.js", "/page/dashboard.css"):
        reply = await client.get(path)
        assert reply.status_code == 200
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    html = (await client.get("/")).text
    assert "<style" not in html
    assert "onclick" not in html
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    assert (await client.get("/page/..%2fserve.py")).status_code == 404
    assert (await client.get("/page/serve.py")).status_code == 404


SECRETS = [
    {"name": "OPENAI_API_KEY", "value": "sk-very-secret"},
    {"name": "DB_PASSWORD", "value": "hunter22"},
    {"name": "hf_token", "value": "hf_abcdef"},
    {"name": "COLOUR", "value": "vermilion"},
    {"name": "STOKER_SECRET_ENV", "value": "COLOUR, OTHER"},
    {"name": "MAX_NEW_TOKENS", "value": "128"},
    {"name": "TOKENIZERS_PARALLELISM", "value": "false"},
]
HIDDEN = ("sk-very-secret", "hunter22", "hf_abcdef", "vermilion")


async def test_secrets_are_masked_in_every_listing(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    await client.post("/api/functions", json=function(env=SECRETS))
    leak = {
        "state": FunctionState.ERROR,
        "message": "failed with sk-very-secret",
        "logs": (LogEntry(time=1, message="using hunter22 and vermilion"),),
    }
    await store.update_function("hello", lambda r: r.model_copy(update=leak))
    for path in (
        "/api/functions",
        "/api/functions/hello",
        "/api/functions/hello?export=true",
        "/api/functions?export=true",
        "/api/projects/shop?export=true",
        "/api/stoker/top",
        "/api/stoker/functions/hello/deployment",
    ):
        text = (await client.get(path)).text
        assert "hello" in text
        assert not [secret for secret in HIDDEN if secret in text], path
    env = (await client.get("/api/functions/hello")).json()["spec"]["env"]
    assert {v["name"]: v["value"] for v in env if v["value"] != "********"} == {
        "STOKER_SECRET_ENV": "COLOUR, OTHER",
        "MAX_NEW_TOKENS": "128",
        "TOKENIZERS_PARALLELISM": "false",
    }


async def test_secrets_are_masked_in_a_functions_log(
    client: httpx.AsyncClient, home: Any, function: Document
) -> None:
    await client.post("/api/functions", json=function(env=SECRETS))
    folder = home.function_logs("hello")
    folder.mkdir(parents=True)
    line = '{"time": 1.0, "level": "info", "message": "key is sk-very-secret"}\n'
    (folder / "hello-a.0.log").write_text(line + "raw hunter22\n")
    for path in (
        "/api/stoker/functions/hello/logs",
        "/api/functions/hello/logs/hello-a?follow=false",
    ):
        text = (await client.get(path)).text
        assert text.count("********") == 2
        assert not [secret for secret in HIDDEN if secret in text]


async def test_writing_the_mask_back_keeps_the_secret(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    await client.post("/api/functions", json=function(env=SECRETS))
    shown = (await client.get("/api/functions/hello")).json()
    shown["spec"]["env"][1]["value"] = "changed-password"
    shown["spec"]["description"] = "edited in a form"
    assert (await client.put("/api/functions/hello", json=shown)).status_code == 202
    record = await store.get_function("hello")
    assert record is not None
    kept = record.current.config.env
    assert kept["OPENAI_API_KEY"] == "sk-very-secret"
    assert kept["DB_PASSWORD"] == "changed-password"
    assert kept["COLOUR"] == "vermilion"
    assert record.current.config.spec.description == "edited in a form"
    assert "status" not in record.current.document


async def test_the_mask_without_a_stored_secret_is_refused_not_stored(
    client: httpx.AsyncClient, store: Store, function: Document
) -> None:
    env = [{"name": "NEW_TOKEN", "value": "********"}]
    reply = await client.post("/api/functions", json=function(env=env))
    assert reply.status_code == 400
    assert "NEW_TOKEN" in reply.json()["error"]
    await client.post("/api/functions", json=function())
    reply = await client.put("/api/functions/hello", json=function(env=env))
    assert reply.status_code == 400
    record = await store.get_function("hello")
    assert record is not None
    assert record.last_revision == 1
