"""A client of another version gets answers, or one clear line."""

import mlrun
import requests

base = mlrun.mlconf.dbpath.rstrip("/")
for version, python in (
    ("1.3.0", "3.7"),
    ("1.5.2", "3.9.18"),
    ("1.7.2", "3.9"),
    ("1.99.0", "3.12"),
    ("nonsense", "x"),
    ("", ""),
):
    headers = {"x-mlrun-client-version": version, "x-mlrun-client-python-version": python}
    spec = requests.get(f"{base}/api/v1/client-spec", headers=headers, timeout=10)
    assert spec.status_code == 200, (version, spec.status_code, spec.text)
    assert spec.json()["version"], spec.text
    listed = requests.get(f"{base}/api/v1/projects", headers=headers, timeout=10)
    assert listed.status_code == 200, (version, listed.status_code, listed.text)
    old = requests.get(f"{base}/api/projects", headers=headers, timeout=10)
    assert old.status_code == 200, (version, old.status_code)

# The routes that clients of 1.3 to 1.6 use instead of today's: answered, or 501 that names them.
for method, path in (
    ("POST", "/api/v1/build/function"),
    ("GET", "/api/v1/build/status?name=x&project=default&tag=latest"),
    ("GET", "/api/v1/projects/default/artifacts"),
    ("POST", "/api/v1/artifact/default/uid/key"),
):
    reply = requests.request(method, base + path, json={} if method == "POST" else None, timeout=10)
    assert reply.status_code != 200 or reply.json() is not None
    assert reply.status_code < 500 or reply.status_code == 501, (
        path,
        reply.status_code,
        reply.text,
    )
    if reply.status_code >= 400:
        assert reply.json()["detail"], reply.text
