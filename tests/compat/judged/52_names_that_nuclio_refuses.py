"""Project and function names that are no DNS label are refused before anything is kept."""

import mlrun
import requests

base = mlrun.mlconf.dbpath.rstrip("/")
BAD = ("Upper", "under_score", "-dash", "dash-", "x" * 64, "with.dot", "ümlaut", "a b", "")
for name in BAD:
    body = {"metadata": {"name": name}, "spec": {}}
    reply = requests.post(f"{base}/api/v1/projects", json=body, timeout=10)
    assert 400 <= reply.status_code < 500, (name, reply.status_code, reply.text)
    assert reply.json()["detail"], reply.text
    nuclio = requests.post(f"{base}/api/projects", json=body, timeout=10)
    assert 400 <= nuclio.status_code < 500, (name, nuclio.status_code, nuclio.text)
names = requests.get(f"{base}/api/v1/projects?format=name_only", timeout=10).json()["projects"]
assert not set(BAD) & set(names), names

try:
    mlrun.get_or_create_project("Not_Allowed", "./")
except (mlrun.errors.MLRunInvalidArgumentError, ValueError) as exc:
    assert "ot_allowed" in str(exc).lower(), exc
else:
    raise AssertionError("the client took it")

project = mlrun.get_or_create_project("judge-names", "./")
fn = mlrun.new_function("x" * 60, project="judge-names", kind="nuclio", image="x")
fn.with_code(body="def handler(context, event):\n    return 1\n")
try:
    fn.deploy()
except Exception as exc:
    print("refused:", exc)
else:
    assert requests.get(fn.get_url(), timeout=10).ok
