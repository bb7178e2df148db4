"""An artifact document of 50 MB is kept whole; one whose body is cut off leaves nothing behind."""

import json
import socket
import time
from urllib.parse import urlsplit

import mlrun
import requests

base = mlrun.mlconf.dbpath.rstrip("/")
project = mlrun.get_or_create_project("judge-large", "./")
url = f"{base}/api/v2/projects/judge-large/artifacts"
inline = "x" * 50_000_000
document = {
    "kind": "artifact",
    "metadata": {"key": "large", "project": "judge-large", "tree": "t1"},
    "spec": {"db_key": "large", "inline": inline},
    "status": {},
}
posted = requests.post(url, json=document, timeout=120)
assert posted.status_code == 201, (posted.status_code, posted.text[:500])
found = requests.get(f"{url}/large", params={"format": "full"}, timeout=120)
assert found.status_code == 200, found.text[:500]
assert found.json()["spec"]["inline"] == inline

parts = urlsplit(base)
body = json.dumps(
    {**document, "metadata": {**document["metadata"], "key": "cut"}, "spec": {"db_key": "cut"}}
)
head = (
    f"POST /api/v2/projects/judge-large/artifacts HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(body) + 1000}\r\n\r\n"
)
for sent in (body, body[: len(body) // 2], ""):
    with socket.create_connection((parts.hostname, parts.port)) as raw:
        raw.sendall((head + sent).encode())
        time.sleep(0.1)
assert requests.get(f"{url}/cut", timeout=10).status_code == 404
assert requests.get(f"{base}/api/v1/healthz", timeout=10).status_code == 200
not_json = requests.post(
    url, data=b'{"kind": ', headers={"content-type": "application/json"}, timeout=10
)
assert 400 <= not_json.status_code < 500, (not_json.status_code, not_json.text)

# The same by the SDK: the file goes to the artifact path, its description to the API.
artifact = project.log_artifact("file", body=b"y" * 50_000_000, local_path="file.bin")
assert len(project.get_artifact("file").to_dataitem().get()) == 50_000_000
project.delete_artifact(artifact)
requests.delete(f"{url}/large", timeout=60)
