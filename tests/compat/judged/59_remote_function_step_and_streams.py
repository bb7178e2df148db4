"""``RemoteFunctionStep`` by its names; its target is redeployed and goes to zero without its caller.

The step's other arguments (``subpath``, ``method``, …) do not survive mlrun's own serialization.
"""

from pathlib import Path

import mlrun
import requests
from mlrun.serving.remote import RemoteFunctionStep

Path("target.py").write_text("""
def handler(context, event):
    if event.path == "/fail":
        return context.Response(body="no", status_code=503, content_type="text/plain")
    return {"path": event.path, "got": event.body, "id": event.id}
""")
project = mlrun.get_or_create_project("judge-remote-fn", "./")
target = project.set_function("target.py", name="target", kind="nuclio", image="x")
target.deploy()
for name, fn_argument in (("by-name", "judge-remote-fn/target"), ("short", "target")):
    fn = project.set_function(name=name, kind="serving", image="x")
    graph = fn.set_topology("flow", engine="async")
    graph.to(RemoteFunctionStep(name="call", fn=fn_argument)).respond()
    fn.deploy()
    answer = fn.invoke("/", body={"n": 1})
    assert answer["got"] == {"n": 1}, answer

# The target changes its code: the graph calls the new one without a redeploy of its own.
Path("target.py").write_text("def handler(context, event):\n    return {'version': 2}\n")
project.set_function("target.py", name="target", kind="nuclio", image="x").deploy()
assert fn.invoke("/", body={"n": 1}) == {"version": 2}, fn.invoke("/", body={"n": 1})
# It goes to zero and comes back by the graph's call.
base = mlrun.mlconf.dbpath.rstrip("/")
zero = requests.patch(
    f"{base}/api/functions/judge-remote-fn-target",
    json={"desiredState": "scaledToZero"},
    timeout=20,
)
print("to zero:", zero.status_code, zero.text)
assert fn.invoke("/", body={"n": 1}) == {"version": 2}
