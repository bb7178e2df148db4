"""Branching by a Choice class and by a field, Extend, Batch.

Page: docs/serving/basic-steps
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlrun
import requests
from mlrun.serving.steps import ChoiceByField

Path("steps.py").write_text("""
import os
import storey

class MyChoice(storey.Choice):
    def select_outlets(self, event):
        return ["add"] if event.get("operation") == "add" else ["multiply"]

def add(event):
    return {**event, "result": event["x"] + event["y"]}

def multiply(event):
    return {**event, "result": event["x"] * event["y"]}

def same(event):
    return event

def choose(event):
    event["route"] = "as_dict" if isinstance(event["value"], dict) else "as_list"
    return event

def sum_dict(event):
    return {"sum": sum(event["value"].values())}

def sum_list(event):
    return {"sum": sum(event["value"])}

def size(batch):
    with open(os.environ["OUT"], "a") as file:
        print(len(batch), file=file)
    return batch
""")

project = mlrun.get_or_create_project("doc-basic-steps", "./")

fn = project.set_function("steps.py", name="choice", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.add_step(name="router", class_name="MyChoice")
graph.add_step(name="add", handler="add", after="router")
graph.add_step(name="multiply", handler="multiply", after="router")
graph.add_step(name="end", handler="same", after=["add", "multiply"]).respond()
fn.deploy()
assert fn.invoke("/", body={"operation": "add", "x": 5, "y": 3})["result"] == 8
assert fn.invoke("/", body={"operation": "multiply", "x": 5, "y": 3})["result"] == 15
assert fn.invoke("/", body={"x": 2, "y": 4})["result"] == 8

fn = project.set_function("steps.py", name="by-field", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.add_step(name="decide", handler="choose")
graph.add_step(class_name=ChoiceByField("route"), name="routing", after=["decide"])
graph.add_step(name="as_dict", handler="sum_dict", after=["routing"])
graph.add_step(name="as_list", handler="sum_list", after=["routing"])
graph.add_step(name="end", handler="same", after=["as_dict", "as_list"]).respond()
fn.deploy()
assert fn.invoke("/", body={"value": {"a": 1, "b": 2}}) == {"sum": 3}
assert fn.invoke("/", body={"value": [4, 5]}) == {"sum": 9}

fn = project.set_function("steps.py", name="enrich", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.add_step(
    name="enrich",
    class_name="storey.Extend",
    _fn="({'total': event['quantity'] * event['unit'], 'high': event['quantity'] * event['unit'] > 500})",
)
graph.add_step(name="end", handler="same", after="enrich").respond()
fn.deploy()
answer = fn.invoke("/", body={"quantity": 10, "unit": 75})
assert answer == {"quantity": 10, "unit": 75, "total": 750, "high": True}, answer

fn = project.set_function("steps.py", name="batcher", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.to("storey.Batch", name="batch", max_events=3, flush_after_seconds=30).respond().to(
    name="size", handler="size"
)
out = Path("sizes").resolve()
fn.set_env("OUT", str(out))
fn.with_http(workers=1)
fn.deploy()
with ThreadPoolExecutor(3) as pool:
    batches = list(
        pool.map(lambda n: requests.post(fn.get_url(), json={"n": n}, timeout=20), range(3))
    )
assert all(list(reply.json()) == ["id"] for reply in batches), [reply.text for reply in batches]
deadline = time.monotonic() + 10
while not (out.exists() and out.read_text()) and time.monotonic() < deadline:
    time.sleep(0.05)
assert out.read_text() == "3\n", out.read_text()
