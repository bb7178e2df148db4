"""A step's error handler that goes on, a graph's that ends, and an error without one.

Page: docs/serving/pipelines-error-handling
"""

from pathlib import Path

import mlrun
import requests

Path("steps.py").write_text("""
def raising_step(event):
    if event.get("fail"):
        raise ValueError("this step failed")
    return event

def handle_error(event):
    event.body = {"caught": str(event.error), "in": str(event.origin_state), "had": event.body}
    return event

def echo(event):
    return {**event, "echoed": True}
""")

project = mlrun.get_or_create_project("doc-errors", "./")

fn = project.set_function("steps.py", name="on-a-step", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.to(name="pre-process", handler="raising_step").error_handler(
    name="catcher", handler="handle_error", full_event=True, before="echo"
)
graph.add_step(name="echo", handler="echo", after="pre-process").respond()
fn.deploy()
assert fn.invoke("/", body={"x": 1}) == {"x": 1, "echoed": True}
answer = fn.invoke("/", body={"fail": 1})
assert answer["echoed"] is True, answer
assert "this step failed" in answer["caught"], answer
assert answer["in"] == "pre-process", answer
assert answer["had"] == {"fail": 1}, answer

fn = project.set_function("steps.py", name="on-the-graph", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.error_handler(name="error_catcher", handler="handle_error", full_event=True)
graph.to(name="raise", handler="raising_step").to(
    name="echo", handler="echo", after="raise"
).respond()
fn.deploy()
answer = fn.invoke("/", body={"fail": 1})
assert answer["in"] == "raise", answer
assert answer["caught"] == "this step failed", answer
assert "echoed" not in answer, answer  # a graph's handler ends it

fn = project.set_function("steps.py", name="without", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.to(name="raise", handler="raising_step").to(name="echo", handler="echo").respond()
fn.deploy()
assert fn.invoke("/", body={"x": 1})["echoed"] is True
failed = requests.post(fn.get_url(), json={"fail": 1}, timeout=20)
assert failed.status_code >= 400, (failed.status_code, failed.text)
assert "this step failed" in failed.text, failed.text
assert fn.invoke("/", body={"x": 2})["x"] == 2  # one event's failure harms no later one
