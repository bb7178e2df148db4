"""Binary bodies, images to a model server, three megabytes through a graph and a remote step."""

import hashlib
from pathlib import Path

import mlrun
import requests
from mlrun.serving.remote import RemoteStep

Path("models.py").write_text("""
import mlrun

class Size(mlrun.serving.V2ModelServer):
    def load(self):
        pass

    def predict(self, request):
        return [len(one.read()) for one in request["inputs"]]
""")
Path("raw.py").write_text("""
import hashlib

def handler(context, event):
    body = event.body if isinstance(event.body, bytes) else event.body.encode()
    return {"size": len(body), "sha": hashlib.sha256(body).hexdigest(), "type": event.content_type}
""")
project = mlrun.get_or_create_project("judge-binary", "./")
router = project.set_function("models.py", name="images", kind="serving", image="x")
router.add_model("size", class_name="Size", model_path="")
router.deploy()
image = bytes(range(256)) * 40
reply = requests.post(
    router.get_url().rstrip("/") + "/v2/models/size/infer",
    data=image, headers={"Content-Type": "image/jpeg"}, timeout=20,
)  # fmt: skip
assert reply.json()["outputs"] == [len(image)], reply.text

raw = project.set_function("raw.py", name="raw", kind="nuclio", image="x")
raw.deploy()
front = project.set_function(name="front", kind="serving", image="x")
front.set_topology("flow", engine="async").to(
    RemoteStep(name="call", url="judge-binary/raw", method="POST")
).respond()
front.deploy()
data = bytes(range(256)) * 12_000
for fn in (raw, front):
    reply = requests.post(
        fn.get_url(), data=data, headers={"Content-Type": "application/octet-stream"}, timeout=30
    )
    assert reply.status_code == 200, (fn.metadata.name, reply.status_code, reply.text[:300])
    assert reply.json()["sha"] == hashlib.sha256(data).hexdigest(), (fn.metadata.name, reply.text)
