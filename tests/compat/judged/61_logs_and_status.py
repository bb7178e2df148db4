"""Deploy logs come in parts, status headers are all there, a deleted function is gone everywhere."""

from pathlib import Path

import mlrun
import requests

base = mlrun.mlconf.dbpath.rstrip("/")
Path("func.py").write_text("def handler(context, event):\n    return 'x'\n")
project = mlrun.get_or_create_project("judge-status", "./")
fn = project.set_function("func.py", name="watched", kind="nuclio", image="x")
fn.deploy()
url = f"{base}/api/v1/projects/judge-status/nuclio/watched/deploy"
reply = requests.get(
    url,
    params={"name": "watched", "project": "judge-status", "tag": "latest", "last_log_timestamp": 0},
    timeout=10,
)
assert reply.status_code == 200, reply.text
for header in (
    "x-mlrun-function-status",
    "x-mlrun-last-timestamp",
    "x-mlrun-address",
    "x-mlrun-internal-invocation-urls",
    "x-mlrun-external-invocation-urls",
    "x-mlrun-container-image",
    "x-mlrun-name",
):
    assert header in reply.headers, (header, reply.headers)
assert reply.headers["x-mlrun-function-status"] == "ready", reply.headers
assert reply.headers["x-mlrun-name"] == "judge-status-watched", reply.headers
assert "serves" in reply.text, reply.text
later = requests.get(
    url, params={"last_log_timestamp": reply.headers["x-mlrun-last-timestamp"]}, timeout=10
)
assert later.text == "", later.text
assert requests.get(fn.get_url(), timeout=10).ok

address = fn.get_url()
db = mlrun.get_run_db()
db.delete_function("watched", "judge-status")
assert requests.get(address, timeout=10).status_code == 404
assert requests.get(url, timeout=10).status_code == 404
assert "watched" not in {f["metadata"]["name"] for f in db.list_functions(project="judge-status")}
assert requests.get(f"{base}/api/functions/judge-status-watched", timeout=10).status_code == 404
