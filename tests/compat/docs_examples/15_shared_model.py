"""A model shared by two endpoints of a ``ModelRunnerStep``, with logged artifacts.

Page: docs/serving/getting-started (ModelRunnerStep with proxy models for a shared model)
"""

from pathlib import Path

import mlrun
from mlrun.serving import ModelRunnerStep

Path("models.py").write_text("""
import os
from mlrun.serving import Model

class Shared(Model):
    def load(self):
        self.loaded = os.getpid()

    def predict(self, body, **kwargs):
        return {"n": body["n"] * 2, "loaded": self.loaded}
""")
Path("weights.bin").write_bytes(b"1234")

project = mlrun.get_or_create_project("doc-shared-model", "./")
artifact = project.log_model("shared", model_file="weights.bin", model_dir="./")

fn = project.set_function("models.py", name="shared", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.add_shared_model(
    name="shared_model",
    execution_mechanism="dedicated_process",
    model_class="Shared",
    model_artifact=artifact,
)
step = ModelRunnerStep(name="runner")
step.add_shared_model_proxy(
    endpoint_name="finance", model_artifact=artifact, shared_model_name="shared_model"
)
step.add_shared_model_proxy(
    endpoint_name="sport", model_artifact=artifact, shared_model_name="shared_model"
)
graph.to(step).respond()
fn.deploy()
answer = fn.invoke("/", body={"n": 21})
assert answer["finance"]["n"] == answer["sport"]["n"] == 42, answer
assert answer["finance"]["loaded"] == answer["sport"]["loaded"], answer
