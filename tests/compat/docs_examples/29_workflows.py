"""Workflows in the local engine: conditions, parallel steps, a failing step, notifications.

Pages: docs/projects/build-run-workflows-pipelines, docs/runtimes/conditional-workflow,
docs/concepts/notifications
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlrun

told = []


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


hook = HTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=hook.serve_forever, daemon=True).start()
webhook = mlrun.model.Notification(
    kind="webhook",
    name="hook",
    message="it ended",
    when=["completed", "error"],
    severity="info",
    params={"url": f"http://127.0.0.1:{hook.server_port}/", "method": "POST"},
    secret_params={},
)

Path("job.py").write_text("""
def step(context, value: int = 0, fail: bool = False):
    if fail:
        raise RuntimeError("this step fails")
    context.log_result("value", value + 1)
""")
Path("workflow.py").write_text("""
import mlrun

def pipeline(start=0, fail=False):
    project = mlrun.get_current_project()
    first = project.run_function("job", name="first", params={"value": start}, outputs=["value"])
    two = [project.run_function("job", name=f"parallel-{n}", params={"value": first.outputs["value"]})
           for n in range(2)]
    if int(first.outputs["value"]) > 1:
        project.run_function("job", name="only-if-large", params={"value": 1})
    project.run_function("job", name="last", params={"fail": fail})
""")

project = mlrun.get_or_create_project("doc-workflows", "./")
project.set_function("job.py", name="job", kind="job", image="mlrun/mlrun", handler="step")
project.set_workflow("main", "workflow.py", handler="pipeline")
project.save()


def names(run):
    return {one["metadata"]["name"] for one in project.list_runs(labels=f"workflow={run.run_id}")}


small = project.run("main", arguments={"start": 0}, engine="local")
assert small.state == "Succeeded", small.state
assert "only-if-large" not in names(small), names(small)
assert {"first", "parallel-0", "parallel-1", "last"} <= names(small), names(small)
large = project.run("main", arguments={"start": 5}, engine="local")
assert "only-if-large" in names(large), names(large)

failing = project.run("main", arguments={"fail": True}, engine="local")
assert failing.state == "Failed", failing.state
bad = [
    one
    for one in project.list_runs(labels=f"workflow={failing.run_id}")
    if one["status"]["state"] == "error"
]
assert len(bad) == 1, bad

# A run's notifications are sent by the client that runs it, a workflow's by the server.
run = project.run_function("job", params={"value": 1}, local=True, notifications=[webhook])
assert run.state() == "completed"
assert len(told) == 1, told
project.spec.notifications = [webhook]
watched = project.run("main", engine="local", watch=True)
assert watched.state == "Succeeded", watched.state
deadline = time.monotonic() + 10
while len(told) < 2 and time.monotonic() < deadline:
    time.sleep(0.05)
assert len(told) == 2, told
