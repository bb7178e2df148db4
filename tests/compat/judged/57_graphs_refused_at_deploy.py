"""Graphs that cannot work are refused when they are deployed, with the step and the reason."""

import copy
from pathlib import Path

import mlrun
import requests
from mlrun.serving.remote import RemoteFunctionStep, RemoteStep

Path("steps.py").write_text("""
def step(event):
    return event

class Named:
    def do(self, event):
        return event
""")
project = mlrun.get_or_create_project("judge-refused", "./")
base = mlrun.mlconf.dbpath.rstrip("/")


def graph_of(name):
    fn = project.set_function("steps.py", name=name, kind="serving", image="x")
    return fn, fn.set_topology("flow", engine="async")


def refused(fn, *words):
    try:
        fn.deploy()
    except Exception as exc:
        text = str(exc)
        if not all(word.lower() in text.lower() for word in words):
            text += mlrun.get_run_db().get_nuclio_deploy_status(fn, 0, verbose=True)[0]
        assert all(word.lower() in text.lower() for word in words), (words, text)
    else:
        raise AssertionError(f"{fn.metadata.name} was deployed")
    reply = requests.get(f"{base}/api/functions/judge-refused-{fn.metadata.name}", timeout=10)
    assert reply.status_code == 404 or reply.json()["status"]["state"] in ("error", "unhealthy"), (
        reply.text
    )


fn, graph = graph_of("skipped")
graph.to(name="one", handler="step").to(name="two", handler="step", function="gpu").respond()
fn.add_child_function("gpu", "./steps.py", "x")
refused(fn, "two", "queue")

fn, graph = graph_of("to-nobody")
graph.to(RemoteStep(name="call", url="judge-refused/nobody")).respond()
refused(fn, "call", "nobody")

fn, graph = graph_of("to-nobody-fn")
graph.to(RemoteFunctionStep(name="call", fn="nobody-either")).respond()
refused(fn, "call", "nobody-either")

fn, graph = graph_of("to-itself")
graph.to(RemoteStep(name="again", url="judge-refused/to-itself")).respond()
refused(fn, "again", "to-itself")

fn, graph = graph_of("not-importable")
graph.to(name="bad", class_name="no.such.Module").respond()
refused(fn, "no.such.Module")

fn, graph = graph_of("no-such-class")
graph.to(name="bad", class_name="NotThere").respond()
refused(fn, "NotThere")

fn, graph = graph_of("no-such-handler")
graph.to(name="bad", handler="not_there").respond()
refused(fn, "not_there")

# A circle that mlrun's client would not send, sent by hand.
fn, graph = graph_of("circle")
graph.to(name="a", handler="step").to(name="b", handler="step").respond()
body = copy.deepcopy(fn.to_dict())
body["spec"]["graph"]["steps"]["a"]["after"] = ["b"]
reply = requests.post(
    f"{base}/api/v1/projects/judge-refused/nuclio/circle/deploy",
    json={"function": body},
    timeout=20,
)
assert reply.status_code in (400, 422), (reply.status_code, reply.text)
assert "a" in reply.json()["detail"], reply.text
assert "circle" in reply.text or "cycle" in reply.text, reply.text
try:
    graph.add_step(name="x", handler="step", after="y")
    graph.add_step(name="y", handler="step", after="x")
    fn.deploy()
except Exception as exc:
    print("mlrun's client:", exc)
else:
    raise AssertionError("a circle was deployed")
