"""A router with two models of one class: every operation of the model-serving API.

Pages: docs/serving/model-serving-get-started, docs/serving/model-api, docs/serving/router,
docs/serving/custom-model-serving-class
"""

import pickle
from pathlib import Path

import mlrun
import requests

Path("models.py").write_text("""
import pickle
import mlrun

class Scale(mlrun.serving.V2ModelServer):
    def load(self):
        model_file, _ = self.get_model(".pkl")
        with open(model_file, "rb") as file:
            self.model = pickle.load(file)

    def preprocess(self, request, operation):
        if operation == "infer":
            request["inputs"] = [value + self.get_param("shift", 0) for value in request["inputs"]]
        return request

    def validate(self, request, operation):
        super().validate(request, operation)
        if any(value < 0 for value in request["inputs"]):
            raise ValueError("negative inputs are not for this model")
        return request

    def predict(self, request):
        return [self.model["factor"] * value for value in request["inputs"]]

    def explain(self, request):
        return {"why": f"times {self.model['factor']}"}

    def op_info(self, event):
        return {"shift": self.get_param("shift", 0)}
""")
for name, factor in (("m1", 2), ("m2", 3)):
    with Path(f"{name}.pkl").open("wb") as file:
        pickle.dump({"factor": factor}, file)

project = mlrun.get_or_create_project("doc-router", "./")
fn = project.set_function("models.py", name="router", kind="serving", image="mlrun/mlrun")
fn.set_topology("router")
fn.add_model("m1", class_name="Scale", model_path=str(Path("m1.pkl").resolve()))
fn.add_model("m2:v1", class_name="Scale", model_path=str(Path("m2.pkl").resolve()), shift=10)
address = fn.deploy()

assert fn.invoke("/v2/models/", method="GET") == {"models": ["m1", "m2:v1"]}, fn.invoke(
    "/v2/models/"
)
answer = fn.invoke("/v2/models/m1/infer", body={"inputs": [1, 2], "id": "mine"})
assert answer["outputs"] == [2, 4], answer
assert answer["model_name"] == "m1", answer
assert answer["id"] == "mine", answer
assert "timestamp" in answer, answer
assert fn.invoke("/v2/models/m1/predict", body={"inputs": [5]})["outputs"] == [10]
assert fn.invoke("/v2/models/m2/versions/v1/infer", body={"inputs": [1]})["outputs"] == [33]
assert fn.invoke("/", body={"model": "m1", "operation": "infer", "inputs": [7]})["outputs"] == [14]
assert fn.invoke("/v2/models/m1/explain", body={"inputs": [1]})["outputs"] == {"why": "times 2"}
assert fn.invoke("/v2/models/m2:v1/info", method="GET") == {"shift": 10}

for path in ("/", "/v2/health"):
    told = fn.invoke(path, method="GET")
    assert told["name"] == "ModelRouter", told
    assert told["version"] == "v2", told
about = fn.invoke("/v2/models/m1", method="GET")
assert about["name"] == "m1", about
ready = requests.get(f"{fn.get_url().rstrip('/')}/v2/models/m1/ready", timeout=10)
assert ready.status_code == 200, ready.text

wrong = requests.post(f"{fn.get_url().rstrip('/')}/v2/models/m1/infer", json={"no": 1}, timeout=10)
assert wrong.status_code == 400, (wrong.status_code, wrong.text)
assert wrong.headers["content-type"].startswith("text/plain"), wrong.headers
assert "inputs" in wrong.text, wrong.text
bad = requests.post(
    f"{fn.get_url().rstrip('/')}/v2/models/m1/infer", json={"inputs": [-1]}, timeout=10
)
assert bad.status_code == 400, (bad.status_code, bad.text)
assert "negative" in bad.text, bad.text
unknown = requests.post(
    f"{fn.get_url().rstrip('/')}/v2/models/m9/infer", json={"inputs": [1]}, timeout=10
)
assert unknown.status_code == 400, (unknown.status_code, unknown.text)
assert "m9" in unknown.text, unknown.text
