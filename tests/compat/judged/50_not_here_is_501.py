"""What the SDK can call and Stoker has not answers 501 with a body that names it."""

import mlrun
import requests

base = mlrun.mlconf.dbpath.rstrip("/")
project = mlrun.get_or_create_project("judge-absent", "./")
db = mlrun.get_run_db()


def refused(what, call, status=501):
    try:
        got = call()
    except mlrun.errors.MLRunHTTPError as exc:
        assert exc.response.status_code == status, f"{what}: {exc.response.status_code} {exc}"
        body = exc.response.json()
        assert "Stoker" in body["detail"] or "not" in body["detail"], body
        assert body["error"]["code"] == "not_supported", body
    except OSError as exc:  # the SDK's own wrapping of a refused build
        assert "501" in str(exc), exc
        assert "Stoker" in str(exc), exc
    else:
        raise AssertionError(f"{what} was answered: {got!r}")


refused("list_feature_sets", lambda: db.list_feature_sets("judge-absent"))
refused("list_feature_vectors", lambda: db.list_feature_vectors("judge-absent"))
refused("list_hub_sources", lambda: db.list_hub_sources())
refused("list_api_gateways", lambda: db.list_api_gateways("judge-absent"))
refused("list_alerts_configs", lambda: db.list_alerts_configs("judge-absent"))
refused("list_runtime_resources", lambda: db.list_runtime_resources("judge-absent"))
refused(
    "submit_pipeline", lambda: db.api_call("POST", "projects/judge-absent/pipelines", body=b"x")
)
refused("submit_job", lambda: db.submit_job(mlrun.new_task(), None), 400)
refused("trigger_migrations", lambda: db.trigger_migrations())
refused("enable_model_monitoring", lambda: db.enable_model_monitoring("judge-absent"))
refused("build", lambda: db.remote_builder(mlrun.new_function("x", kind="job", image="y"), False))

for method, path in (
    ("GET", "/api/v1/nobody-wrote-this"),
    ("POST", "/api/v2/nor/this"),
    ("GET", "/api/v1/hub/sources"),
):
    reply = requests.request(method, base + path, timeout=10)
    assert reply.status_code == 501, (path, reply.status_code, reply.text)
    assert path in reply.text, (path, reply.text)

reply = requests.get(base + "/api/v1/healthz", timeout=10)
assert (reply.status_code, reply.json()["status"]) == (200, "ok"), reply.text
