"""An API handler: path templates, query strings and body fields become the step's arguments.

Page: docs/serving/api-handler
"""

from http import HTTPMethod
from pathlib import Path

import mlrun
import requests
from mlrun.common.schemas.serving import APIHandlerAction
from mlrun.serving.endpoint_mapping import APIHandlerConfig, BodyMappings

Path("steps.py").write_text("""
class Predict:
    def do(self, body, model_name=None, inputs=None, limit=None, **kwargs):
        return {"label": f"{model_name}:{inputs}:{limit}", "confidence": 0.5, "noise": 1}
""")

project = mlrun.get_or_create_project("doc-api-handler", "./")
fn = project.set_function("steps.py", name="handled", kind="serving", image="mlrun/mlrun")
config = APIHandlerConfig()
taken, told = BodyMappings(), BodyMappings()
taken.add_mapping("$.data.inputs", destination_path="inputs", mandatory=True)
told.add_mapping("$.label", destination_path="prediction", mandatory=True)
told.add_mapping("$.confidence", destination_path="score")
config.add_endpoint_handler(
    "/v1/models/{model_name}/predict",
    HTTPMethod.POST,
    APIHandlerAction.ALLOW,
    input_body_mappings=taken,
    output_body_mappings=told,
)
fn.set_api_handler_config(config)
graph = fn.set_topology("flow", engine="async")
graph.to(class_name="Predict", name="predict").respond()
fn.deploy()
url = fn.get_url().rstrip("/")
reply = requests.post(
    f"{url}/v1/models/bert/predict?limit=3", json={"data": {"inputs": [1]}}, timeout=20
)
assert reply.json() == {"prediction": "bert:[1]:3", "score": 0.5}, reply.text
reply = requests.post(f"{url}/v1/models/bert/predict", json={"data": {}}, timeout=20)
assert reply.status_code == 422, (reply.status_code, reply.text)
