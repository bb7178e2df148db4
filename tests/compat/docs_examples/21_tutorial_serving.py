"""Serving a logged model with a schema, by name and by dictionaries of its features.

Page: docs/tutorials/03-model-serving, docs/serving/built-in-model-serving
"""

import pickle
from pathlib import Path

import mlrun
import pandas as pd

Path("own_server.py").write_text("""
import pickle
import mlrun

class RowSum(mlrun.serving.V2ModelServer):
    def load(self):
        file, _ = self.get_model(".pkl")
        with open(file, "rb") as opened:
            self.model = pickle.load(opened)

    def predict(self, request):
        return [self.model["times"] * sum(row) for row in request["inputs"]]
""")
Path("model.pkl").write_bytes(pickle.dumps({"times": 10}))

project = mlrun.get_or_create_project("doc-serving-tutorial", context="./")
model_object = project.log_model(
    "own-model",
    model_file="model.pkl",
    model_dir="./",
    training_set=pd.DataFrame([[1.5, 1.5, 1.5]], columns=["a", "b", "c"]),
    labels={"model-format": "pkl"},
)
assert model_object.uri.startswith("store://models/doc-serving-tutorial/own-model"), (
    model_object.uri
)
assert [feature.name for feature in model_object.inputs] == ["a", "b", "c"], model_object.inputs

serving = project.set_function("own_server.py", name="serving", image="mlrun/mlrun", kind="serving")
serving.add_model("own", model_path=model_object.uri, class_name="RowSum", to_list=True)
project.deploy_function(serving)
answer = serving.invoke("/v2/models/own/infer", body={"inputs": [[1, 2, 3], [0, 0, 1]]})
assert answer["outputs"] == [60, 10], answer
answer = serving.invoke("/v2/models/own/infer_dict", body={"inputs": [{"c": 1, "b": 0, "a": 0}]})
assert answer["outputs"] == [10], answer
about = serving.invoke("/v2/models/own", method="GET")
assert [feature["name"] for feature in about["inputs"]] == ["a", "b", "c"], about

# The tutorial's own form: a function without code, a class that mlrun ships.
builtin = project.set_function(name="builtin", image="mlrun/mlrun", kind="serving")
builtin.set_topology("router")
builtin.add_model("echo", model_path="", class_name="mlrun.serving.v2_serving.V2ModelServer")
assert builtin.spec.graph.to_dict()["routes"], "no route"
