"""MLRun's client-spec, secrets, profiles, tasks, notifications, and what is not served."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from stoker.api import ApiSettings
from stoker.api.mlrun import mlrun_resources, notifications
from stoker.nouns.home import Home
from stoker.store import Store
from stoker.store.catalog import Catalog

MakeClient = Callable[..., httpx.AsyncClient]
V1 = "/api/v1/projects"


@pytest.fixture
async def shop(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a platform with the project shop."""
    await client.post(V1, json={"metadata": {"name": "shop"}})
    return client


async def test_the_client_spec_makes_runs_local_and_files_lie_in_the_home(
    client: httpx.AsyncClient, home: Home
) -> None:
    spec = (await client.get("/api/v1/client-spec")).json()
    assert (spec["namespace"], spec["kfp_url"]) == ("", "")
    assert spec["artifact_path"] == f"{home.artifacts}/{{{{project}}}}/{{{{run.uid}}}}"
    assert spec["ui_url"] == "http://127.0.0.1:8070"
    assert tuple(map(int, spec["nuclio_version"].split("."))) >= (1, 15, 3)
    assert spec["logs"]["nuclio"]["pull_deploy_status_default_interval"] == 0
    assert None not in spec.values()
    assert spec["docker_registry"] == ""  # mlrun 1.7 looks into it without asking


@pytest.mark.mlrun
@pytest.mark.filterwarnings("ignore")
def test_the_logs_of_the_client_spec_have_every_key_that_mlrun_reads() -> None:
    """The client takes the whole dictionary in place of its own."""
    from mlrun.config import default_config

    from stoker.api.mlrun.client_spec import _LOGS, MLRUN_VERSION

    def shape(value: Any) -> Any:
        return {key: shape(one) for key, one in value.items()} if isinstance(value, dict) else None

    assert shape(_LOGS) == shape(default_config["httpdb"]["logs"])
    assert (
        "mlrun==" + MLRUN_VERSION in (Path(__file__).parents[3] / "pyproject.toml").read_text()
    ), "the version that is spoken is the one that is tested"


async def test_health_says_whether_requests_can_be_served(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/api/v1/healthz", "/api/healthz"):
        assert (await client.get(path)).json()["status"] == "ok"
    from stoker.nouns.errors import StoreUnavailable

    async def away(_store: Store) -> None:
        raise StoreUnavailable("Redis is away")

    monkeypatch.setattr(Store, "ping", away)
    reply = await client.get("/api/v1/healthz")
    assert (reply.status_code, reply.json()["detail"]) == (503, "Redis is away")


async def test_the_links_that_mlruns_client_prints_lead_to_the_dashboard(
    client: httpx.AsyncClient,
) -> None:
    reply = await client.get("/projects/shop/jobs/monitor-jobs/train/u1/overview")
    assert (reply.status_code, reply.headers["location"]) == (307, "/")


async def test_secrets_are_written_and_never_read_over_http(
    shop: httpx.AsyncClient, catalog: Catalog
) -> None:
    body = {"provider": "kubernetes", "secrets": {"API_TOKEN": "s3cret", "N": 7}}
    assert (await shop.post(f"{V1}/shop/secrets", json=body)).status_code == 201
    assert (await catalog.secrets.environment("shop"))["API_TOKEN"] == "s3cret"
    keys = (await shop.get(f"{V1}/shop/secret-keys", params={"provider": "kubernetes"})).json()
    assert keys == {"provider": "kubernetes", "secret_keys": ["API_TOKEN", "N"]}
    refused = await shop.get(f"{V1}/shop/secrets", params={"provider": "kubernetes"})
    assert refused.status_code == 403
    assert "s3cret" not in refused.text + str(keys)
    query = {"provider": "kubernetes", "secret": ["N"]}
    assert (await shop.delete(f"{V1}/shop/secrets", params=query)).status_code == 204
    assert (await shop.get(f"{V1}/shop/secret-keys")).json()["secret_keys"] == ["API_TOKEN"]
    full = await shop.delete("/api/v2/projects/shop")
    assert (full.status_code, "secrets (1)" in full.json()["detail"]) == (412, True)
    assert (await shop.delete(f"{V1}/shop/secrets")).status_code == 204
    assert (await shop.get(f"{V1}/shop/secret-keys")).json()["secret_keys"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"provider": "vault", "secrets": {"A": "b"}}, 400),
        ({"secrets": {"a b": "c"}}, 400),
        ({"secrets": ["A"]}, 400),
        ({"secrets": {"mlrun.internal": "x"}}, 403),
        ({"secrets": {"datastore-profiles.shop.bucket": "x"}}, 403),
    ],
)
async def test_secrets_that_are_refused(
    shop: httpx.AsyncClient, body: dict[str, Any], status: int
) -> None:
    reply = await shop.post(f"{V1}/shop/secrets", json=body)
    assert reply.status_code == status
    assert reply.json()["detail"]
    assert (await shop.get(f"{V1}/shop/secret-keys")).json()["secret_keys"] == []


async def test_a_datastore_profile_keeps_its_private_part_for_functions(
    shop: httpx.AsyncClient, catalog: Catalog
) -> None:
    root = f"{V1}/shop/datastore-profiles"
    public = {"name": "bucket", "type": "s3", "object": "cHVibGlj", "project": "shop"}
    stored = await shop.put(root, json=public | {"private": "c2VjcmV0"})
    assert stored.json() == public | {"private": None}
    assert (await shop.get(root)).json() == [public | {"private": None}]
    assert (await shop.get(f"{root}/bucket")).json() == public | {"private": None}
    environment = await catalog.secrets.environment("shop")
    assert environment["datastore-profiles.shop.bucket"] == "c2VjcmV0"
    assert (await shop.delete("/api/v2/projects/shop")).status_code == 204
    assert await catalog.secrets.environment("shop") == {}


async def test_datastore_profiles_that_are_refused(shop: httpx.AsyncClient) -> None:
    root = f"{V1}/shop/datastore-profiles"
    whole = {"name": "bucket", "type": "s3", "object": "x", "project": "shop"}
    for wrong in (whole | {"project": "bank"}, whole | {"name": ""}, {"name": "bucket"}):
        assert (await shop.put(root, json=wrong)).status_code == 400
    assert (await shop.get(f"{root}/bucket")).status_code == 404
    assert (await shop.delete(f"{root}/bucket")).status_code == 404


async def test_background_tasks(shop: httpx.AsyncClient, catalog: Catalog) -> None:
    task = await catalog.tasks.done("shop", "push", "nobody there")
    name = task["metadata"]["name"]
    root = f"{V1}/shop/background-tasks"
    assert (await shop.get(f"{root}/{name}")).json() == task
    assert (await shop.get(f"/api/v1/background-tasks/{name}")).json() == task
    assert (await shop.get(root)).json() == {"background_tasks": [task]}
    assert (await shop.get(root, params={"state": "running"})).json() == {"background_tasks": []}
    assert (await shop.get(f"{root}/nothing")).status_code == 404
    assert (await shop.get(f"{V1}/default/background-tasks/{name}")).status_code == 404


async def test_a_model_router_without_tracking_has_nothing_to_wait_for(
    shop: httpx.AsyncClient,
) -> None:
    task = (await shop.get(f"{V1}/shop/background-tasks/None")).json()
    assert task["status"]["state"] == "succeeded"
    assert (await shop.get(f"{V1}/shop/model-endpoints")).json() == {"endpoints": []}


async def test_a_router_that_another_server_compiled_asks_without_a_project(
    shop: httpx.AsyncClient,
) -> None:
    """A real MLRun 1.7 deployed it by Nuclio's API: the spec that it wrote names no project."""
    task = (await shop.get("/api/v1/projects//background-tasks/None")).json()
    assert task["status"]["state"] == "succeeded"
    assert (await shop.get("/api/v1/projects//background-tasks/other")).status_code == 404


async def test_there_are_no_pipelines_and_the_reply_says_where_workflows_are(
    shop: httpx.AsyncClient,
) -> None:
    for project in ("shop", "*"):
        listed = (await shop.get(f"{V1}/{project}/pipelines")).json()
        assert listed == {"runs": [], "total_size": 0, "next_page_token": None}
    reply = await shop.get(f"{V1}/shop/pipelines/w1")
    assert (reply.status_code, "workflow=w1" in reply.json()["detail"]) == (404, True)


class Receivers:
    """What was sent to whom."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[httpx.Request] = []
        transport = httpx.MockTransport(self._answer)
        real = httpx.AsyncClient
        monkeypatch.setattr(
            notifications.httpx, "AsyncClient", lambda **_: real(transport=transport)
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        if request.url.host == "away":
            raise httpx.ConnectError("connection refused", request=request)
        return httpx.Response(500 if request.url.host == "broken" else 200, request=request)


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch, shop: httpx.AsyncClient) -> Receivers:
    return Receivers(monkeypatch)


def notification(kind: str = "webhook", **params: Any) -> dict[str, Any]:
    return {
        "name": "n",
        "kind": kind,
        "message": "Workflow w1 finished",
        "severity": "info",
        "when": ["completed"],
        "params": params,
        "secret_params": {},
    }


async def test_notifications_of_a_workflow_are_sent_with_its_runs(
    shop: httpx.AsyncClient, catalog: Catalog, receivers: Receivers
) -> None:
    run = {"metadata": {"name": "train", "labels": {"workflow": "w1"}}, "status": {}}
    await catalog.runs.store("shop", "u1", 0, run)
    await catalog.secrets.write("shop", {"SLACK_WEBHOOK": "https://slack/hook"})
    body = [
        notification(url="http://here/hook", headers={"X-Key": "k"}, method="put"),
        notification("slack"),
        notification(url="http://here/own", override_body={"text": "done"}),
    ]
    reply = await shop.post(f"{V1}/shop/pipelines/w1/push-notifications", json=body)
    assert (reply.status_code, reply.json()["status"]["state"]) == (202, "succeeded")
    webhook, slack, own = receivers.sent
    assert (webhook.method, str(webhook.url), webhook.headers["x-key"]) == (
        "PUT",
        "http://here/hook",
        "k",
    )
    assert b'"name":"train"' in webhook.content
    assert (str(slack.url), b"Workflow w1 finished" in slack.content) == (
        "https://slack/hook",
        True,
    )
    assert own.content == b'{"text":"done"}'


async def test_notifications_that_cannot_be_sent_fail_their_task_and_say_why(
    shop: httpx.AsyncClient, receivers: Receivers
) -> None:
    body = [
        notification(url="http://away/"),
        notification(url="http://broken/t0ken"),
        notification(),
        notification("mail", email_addresses="a@b"),
        notification(url="http://fine/"),
    ]
    reply = await shop.post(f"{V1}/shop/pipelines/w1/push-notifications", json=body)
    task = reply.json()
    assert (reply.status_code, task["status"]["state"]) == (202, "failed")
    for part in ("connection refused", "broken answered 500", "no http URL", "not 'mail'"):
        assert part in task["status"]["error"]
    assert "t0ken" not in task["status"]["error"]
    assert [request.url.host for request in receivers.sent] == ["away", "broken", "fine"]
    assert (await shop.get(f"{V1}/shop/background-tasks/{task['metadata']['name']}")).json() == task


async def test_only_the_notifications_that_are_due_are_sent_for_a_run(
    shop: httpx.AsyncClient, catalog: Catalog, receivers: Receivers
) -> None:
    due = notification(url="http://due/")
    later = notification(url="http://later/") | {"when": ["error"]}
    run = {"metadata": {"name": "train"}, "spec": {"notifications": [due, later]}}
    await catalog.runs.store("shop", "u1", 0, run | {"status": {"state": "completed"}})
    reply = await shop.post(f"{V1}/shop/runs/u1/push-notifications")
    assert reply.json()["status"]["state"] == "succeeded"
    assert [request.url.host for request in receivers.sent] == ["due"]
    nothing = await shop.post(f"{V1}/shop/pipelines/w1/push-notifications", json=[])
    assert (nothing.status_code, nothing.json()["status"]["state"]) == (202, "succeeded")
    assert (
        await shop.post(f"{V1}/shop/pipelines/w/push-notifications", json={})
    ).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "what"),
    [
        ("POST", "/api/v1/projects/shop/workflows/main/submit", "local engine"),
        ("POST", "/api/v1/projects/shop/pipelines", "local engine"),
        ("PUT", "/api/v1/projects/shop/schedules/nightly", "cron trigger"),
        ("GET", "/api/v1/projects/shop/feature-sets", "feature store"),
        ("POST", "/api/v1/projects/shop/model-endpoints", "without tracking"),
        ("PUT", "/api/v1/projects/shop/model-monitoring/", "model monitoring"),
        ("GET", "/api/v1/projects/shop/alerts", "alerts"),
        ("GET", "/api/v1/hub/sources", "function hub"),
        ("POST", "/api/v1/projects/shop/load", "mlrun.load_project"),
        ("PUT", "/api/v1/user-secrets/tokens", "those of a project"),
        ("PUT", "/api/v1/projects/shop/artifacts/u/key", "newer client"),
        ("DELETE", "/api/v2/projects/shop/anything", "anything of MLRun's API"),
    ],
)
async def test_what_is_not_served_is_refused_by_name(
    shop: httpx.AsyncClient, method: str, path: str, what: str
) -> None:
    reply = await shop.request(method, path)
    assert reply.status_code == 501
    detail = reply.json()["detail"]
    assert f"{method} {path.rstrip('/')}" in detail
    assert detail.endswith(what) or what in detail
    assert reply.json()["error"]["code"] == "not_supported"


def client_paths() -> list[str]:
    """Every path that mlrun's own client can ask for, as its source spells them."""
    found = find_spec("mlrun")
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).with_name("db") / "httpdb.py"
    texts = []
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            texts.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    known = r"(projects|project-summaries|hub|user-secrets|alert-templates|background-tasks)/\S+"
    return sorted({text.rstrip("/") for text in texts if re.fullmatch(known, text)})


async def test_a_client_that_knows_no_project_is_told_to_make_one(shop: httpx.AsyncClient) -> None:
    """``mlrun.code_to_function(…).deploy()`` in a new notebook; it was answered with 501."""
    reply = await shop.post("/api/v1/projects//nuclio/f/deploy", json={})
    assert reply.status_code == 400
    assert "get_or_create_project" in reply.json()["detail"]


@pytest.mark.mlrun
async def test_every_path_of_mlruns_client_is_served_or_said_to_be_absent(
    shop: httpx.AsyncClient, store: Store, catalog: Catalog, home: Home, settings: ApiSettings
) -> None:
    """One that is neither would be refused without a word on what it is."""
    routes = [
        route.path_regex
        for resource in mlrun_resources(store, catalog, home, settings)
        for route in resource.routes()
        if not route.path.endswith("/{path:path}")
    ]
    paths = client_paths()
    assert len(paths) > 50
    unknown = []
    for path in paths:
        urls = [f"/api/{version}/{path}" for version in ("v1", "v2")]
        if not any(regex.match(url) for regex in routes for url in urls):
            reply = await shop.get(urls[0])
            if reply.status_code != 501 or ": " not in reply.json()["detail"]:
                unknown.append(path)
    assert unknown == ["projects/x/x"], "which is how its source builds the others"


@pytest.mark.parametrize(
    ("body", "what", "other"),
    [
        ({"task": {}}, "run it with local=True", "schedule"),
        ({"task": {}, "schedule": "0 * * * *"}, "a cron trigger", "as a Kubernetes job"),
    ],
)
async def test_a_submitted_job_is_refused_by_the_status_whose_reason_the_client_tells(
    shop: httpx.AsyncClient, body: dict[str, Any], what: str, other: str
) -> None:
    """At 501 mlrun's run() raised that the run was not found, and a schedule returned None."""
    reply = await shop.post("/api/v1/submit_job", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "not_supported")
    assert "POST /api/v1/submit_job" in reply.json()["detail"]
    assert what in reply.json()["detail"]
    assert other not in reply.json()["detail"]
