"""A loop that a graph allows: generate, evaluate, go back until it is good or the cap is reached.

Page: docs/serving/getting-started (cyclic graph, 1.11 and later)
"""

from pathlib import Path

import mlrun
import requests

Path("cyclic.py").write_text("""
import storey

class Processor:
    def do(self, event):
        return {**event, "rounds": 0}

class Generator:
    def do(self, event):
        return {**event, "rounds": event["rounds"] + 1}

class Evaluator:
    def do(self, event):
        return {**event, "good": event["rounds"] >= event["wanted"]}

class Loop(storey.Choice):
    def select_outlets(self, event):
        return ["output"] if event["good"] else ["generator"]

def responder(event):
    return event
""")

project = mlrun.get_or_create_project("doc-cyclic", "./")
fn = project.set_function("cyclic.py", name="cyclic-function", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async", allow_cyclic=True, max_iterations=100)
graph.to(name="preprocess", class_name="Processor").to(
    name="generator", class_name="Generator", max_iterations=30
).to(name="evaluator", class_name="Evaluator").to(
    name="evaluation-loop", class_name="Loop", cycle_to=["generator"]
).to(name="output", handler="responder").respond()
fn.deploy()
answer = fn.invoke("/", body={"wanted": 4})
assert answer == {"wanted": 4, "rounds": 4, "good": True}, answer
endless = requests.post(fn.get_url(), json={"wanted": 1000}, timeout=20)
assert endless.status_code >= 400, (endless.status_code, endless.text)
assert "iterations" in endless.text.lower(), endless.text
assert fn.invoke("/", body={"wanted": 2})["rounds"] == 2
