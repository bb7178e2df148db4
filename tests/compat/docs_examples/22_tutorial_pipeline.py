"""A workflow that runs two jobs and deploys a serving function with the model that came out.

Page: docs/tutorials/04-pipeline (local engine: there is no Kubeflow here, and no ``kfp`` package
without the extra of that name)
"""

from pathlib import Path

import mlrun

Path("steps.py").write_text("""
import pickle
import mlrun
import pandas as pd

@mlrun.handler(outputs=["dataset"])
def prepare(rows: int = 10):
    return pd.DataFrame({"x": range(rows)})

def train(context, dataset: mlrun.DataItem, model_name: str = "m"):
    context.log_model(model_name, body=pickle.dumps({"rows": len(dataset.as_df())}), model_file="m.pkl")
""")
Path("server.py").write_text("""
import pickle
import mlrun

class Rows(mlrun.serving.V2ModelServer):
    def load(self):
        file, _ = self.get_model(".pkl")
        with open(file, "rb") as opened:
            self.model = pickle.load(opened)

    def predict(self, request):
        return [self.model["rows"]]
""")
Path("workflow.py").write_text("""
import mlrun

def pipeline(model_name="cancer-classifier", rows=10):
    project = mlrun.get_current_project()
    ingest = project.run_function("data-prep", name="get-data", params={"rows": rows},
                                  handler="prepare", outputs=["dataset"])
    train = project.run_function("trainer", inputs={"dataset": ingest.outputs["dataset"]},
                                 params={"model_name": model_name}, handler="train",
                                 outputs=[model_name])
    project.deploy_function("serving", models=[{"key": model_name,
        "model_path": train.outputs[model_name], "class_name": "Rows"}])
""")

project = mlrun.get_or_create_project("doc-pipeline", context="./")
project.set_function("steps.py", name="data-prep", kind="job", image="mlrun/mlrun")
project.set_function("steps.py", name="trainer", kind="job", image="mlrun/mlrun")
project.set_function("server.py", name="serving", kind="serving", image="mlrun/mlrun")
project.set_workflow("main", "workflow.py")
project.save()

project = mlrun.load_project("./")
run = project.run(
    "main", arguments={"model_name": "classifier", "rows": 25}, engine="local", watch=True
)
assert run.state == "Succeeded", run.state
serving = project.get_function("serving", sync=True)
answer = serving.invoke("/v2/models/classifier/infer", body={"inputs": [1]})
assert answer["outputs"] == [25], answer

runs = project.list_runs(labels=f"workflow={run.run_id}")
states = {one["metadata"]["name"]: one["status"]["state"] for one in runs}
assert states.get("get-data") == "completed", states
assert len([name for name in states if name.startswith("trainer")]) == 1, states

by_path = project.run(
    workflow_path="./workflow.py", arguments={"rows": 3}, engine="local", watch=True
)
assert by_path.state == "Succeeded", by_path.state
