"""Steps as functions, classes, library functions, with context, paths, parameters and full events.

Page: docs/serving/writing-custom-steps, docs/serving/realtime-pipelines (event and context)
"""

from pathlib import Path

import mlrun
import requests

Path("steps.py").write_text("""
import mlrun
import mlrun.utils

class Echo:
    def __init__(self, context, name=None, **kw):
        self.context = context
        self.name = name
        self.kw = kw

    def do(self, x):
        self.context.logger.info_with("echo", body=x)
        return {**x, "step": self.name, "kw": self.kw["some_arg"], "param": self.context.get_param("Test"),
                "verbose": self.context.verbose}

class Shout:
    def upper(self, text):
        return text.upper()

def headers(event):
    event.body["seen"] = {"path": event.path, "method": event.method, "id": bool(event.id)}
    return event

def by_spec(event):
    spec = mlrun.utils.get_serving_spec()
    server = mlrun.serving.GraphServer().from_dict(spec)
    event["own"] = mlrun.serving.GraphContext(server=server).get_param("Test")
    return event

class Reply:
    def __init__(self, context):
        self.context = context

    def do(self, body):
        if body.get("teapot"):
            return self.context.Response(body="short and stout", status_code=418,
                                         headers={"X-Kind": "pot"}, content_type="text/plain")
        return body
""")

project = mlrun.get_or_create_project("doc-custom-steps", "./")
fn = project.set_function("steps.py", name="custom", kind="serving", image="mlrun/mlrun")
fn.spec.parameters = {"Test": "test"}
graph = fn.set_topology("flow", engine="async")
graph.to(class_name="Echo", name="pre-process", some_arg="abc").to(
    class_name="Shout", name="shout", handler="upper", input_path="word", result_path="loud"
).to(name="whole", handler="headers", full_event=True).to(name="spec", handler="by_spec").to(
    class_name="Reply", name="reply"
).respond()
fn.deploy()
answer = fn.invoke("/somewhere", body={"word": "hello"})
assert answer["step"] == "pre-process", answer
assert answer["kw"] == "abc", answer
assert answer["param"] == answer["own"] == "test", answer
assert answer["loud"] == "HELLO", answer
assert answer["seen"] == {"path": "/somewhere", "method": "POST", "id": True}, answer
pot = requests.post(fn.get_url(), json={"word": "x", "teapot": 1}, timeout=10)
assert (pot.status_code, pot.text, pot.headers["x-kind"]) == (418, "short and stout", "pot"), (
    pot.text
)

fn = project.set_function(name="library", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="sync")
graph.to(name="dump", handler="json.dumps")
fn.deploy()
dumped = requests.post(fn.get_url(), json={"a": 1}, timeout=10)
assert dumped.json() == {"a": 1}, dumped.text
