"""The first tutorial: a job run locally, its dataset, a model trained and logged, then served.

Page: docs/tutorials/01-mlrun-basics (the hub's trainer is replaced by a local one, sklearn by a class)
"""

from pathlib import Path

import mlrun

Path("data-prep.py").write_text("""
import mlrun
import pandas as pd

@mlrun.handler(outputs=["dataset", "label_column"])
def generator(rows: int = 100):
    frame = pd.DataFrame({"x": range(rows), "label": [n % 2 for n in range(rows)]})
    return frame, "label"
""")
Path("trainer.py").write_text("""
import pickle
import mlrun

def train(context: mlrun.MLClientCtx, dataset: mlrun.DataItem, label_columns: str = "label",
          model_name: str = "model"):
    frame = dataset.as_df()
    mean = float(frame.drop(columns=[label_columns]).mean().iloc[0])
    context.log_result("accuracy", 0.5)
    context.log_model(model_name, body=pickle.dumps({"mean": mean}), model_file="model.pkl",
                      framework="own", training_set=frame, label_column=label_columns,
                      metrics={"accuracy": 0.5})
    context.log_artifact("confusion-matrix", body=b"<b>matrix</b>", format="html")
""")
Path("server.py").write_text("""
import pickle
import mlrun

class Mean(mlrun.serving.V2ModelServer):
    def load(self):
        file, _ = self.get_model(".pkl")
        with open(file, "rb") as opened:
            self.model = pickle.load(opened)

    def predict(self, request):
        return [value > self.model["mean"] for value in request["inputs"]]
""")

project = mlrun.get_or_create_project("doc-tutorial", "./", user_project=True)
assert project.name.startswith("doc-tutorial-"), project.name
project.set_function(
    "data-prep.py", name="data-prep", kind="job", image="mlrun/mlrun", handler="generator"
)
project.save()
gen = project.run_function("data-prep", local=True)
assert gen.state() == "completed", gen.state()
assert gen.outputs["label_column"] == "label", gen.outputs
assert gen.outputs["dataset"].startswith("store://"), gen.outputs
assert len(gen.artifact("dataset").as_df()) == 100

trainer = project.set_function("trainer.py", name="trainer", kind="job", image="mlrun/mlrun")
run = project.run_function(
    trainer,
    inputs={"dataset": gen.outputs["dataset"]},
    params={"label_columns": "label", "model_name": "cancer"},
    handler="train",
)
assert run.outputs["accuracy"] == 0.5, run.outputs
assert run.artifact("confusion-matrix").get() == b"<b>matrix</b>"

serving = project.set_function("server.py", name="serving", image="mlrun/mlrun", kind="serving")
serving.add_model("cancer-classifier", model_path=run.outputs["cancer"], class_name="Mean")
mock = serving.to_mock_server()
assert mock.test("/v2/models/", method="GET") == {"models": ["cancer-classifier"]}
assert mock.test("/v2/models/cancer-classifier/infer", body={"inputs": [1, 99]})["outputs"] == [
    False,
    True,
]
project.deploy_function(serving)
answer = serving.invoke("/v2/models/cancer-classifier/infer", body={"inputs": [1, 99]})
assert answer["outputs"] == [False, True], answer

again = mlrun.get_run_db().read_run(run.uid(), project.name)
assert again["status"]["state"] == "completed", again["status"]
assert again["status"]["results"]["accuracy"] == 0.5, again["status"]
