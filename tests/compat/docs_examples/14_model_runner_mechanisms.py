"""``ModelRunnerStep``: one event runs several models, each in its own execution mechanism.

Page: docs/serving/model-serving-steps
"""

from pathlib import Path

import mlrun
from mlrun.serving import ModelRunnerStep

Path("models.py").write_text("""
import os
from mlrun.serving import Model
from mlrun.serving.states import ModelRunnerSelector

class Inc(Model):
    def __init__(self, name, inc=1, **kwargs):
        super().__init__(name=name, **kwargs)
        self.inc = inc

    def predict(self, body, **kwargs):
        return {"n": body["n"] + self.inc, "pid": os.getpid()}

    async def predict_async(self, body, **kwargs):
        return self.predict(body)

class Selector(ModelRunnerSelector):
    def select_models(self, event, available_models):
        return event.body.get("models")

def where(event):
    return {"models": event, "main": os.getpid()}
""")

MECHANISMS = ("naive", "asyncio", "thread_pool", "process_pool", "dedicated_process")

project = mlrun.get_or_create_project("doc-model-runner", "./")
fn = project.set_function("models.py", name="runner", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
step = ModelRunnerStep(name="my_model_runner", model_runner_selector="Selector")
for number, mechanism in enumerate(MECHANISMS):
    step.add_model(
        model_class="Inc", endpoint_name=mechanism, execution_mechanism=mechanism, inc=number
    )
graph.to(step).to(name="where", handler="where").respond()
fn.deploy()

answer = fn.invoke("/", body={"n": 100})
models = answer["models"]
assert {name: models[name]["n"] for name in MECHANISMS} == {
    name: 100 + number for number, name in enumerate(MECHANISMS)
}, answer
for name in ("naive", "asyncio", "thread_pool"):
    assert models[name]["pid"] == answer["main"], answer
for name in ("process_pool", "dedicated_process"):
    assert models[name]["pid"] != answer["main"], answer

chosen = fn.invoke("/", body={"n": 1, "models": ["asyncio", "thread_pool"]})
assert set(chosen["models"]) >= {"asyncio", "thread_pool"}, chosen
assert "naive" not in chosen["models"], chosen
