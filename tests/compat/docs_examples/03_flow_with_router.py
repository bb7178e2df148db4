"""A flow whose middle is a router with a model; the event is enriched before it.

Pages: docs/serving/realtime-pipelines, docs/serving/deploying-graphs
"""

from pathlib import Path

import mlrun

Path("models.py").write_text("""
import mlrun

class Sum(mlrun.serving.V2ModelServer):
    def load(self):
        self.model = sum

    def predict(self, request):
        return [self.model(row) for row in request["inputs"]]
""")

project = mlrun.get_or_create_project("doc-flow-router", "./")
fn = project.set_function(
    "models.py", name="serving_example_flow", kind="serving", image="mlrun/mlrun"
)
graph = fn.set_topology("flow")
graph.to("storey.Extend", name="enrich", _fn='({"tag": "something"})')
router = graph.add_step(mlrun.serving.ModelRouter(), name="router", after="enrich")
router.add_route("m1", class_name="Sum", model_path="")
router.respond()

x = [[1, 2, 3], [4, 5, 6]]
server = fn.to_mock_server()
assert server.test("/v2/models/m1/infer", {"inputs": x})["outputs"] == [6, 15]
server.wait_for_completion()

fn.deploy()
answer = fn.invoke("/v2/models/m1/infer", body={"inputs": x})
assert answer["outputs"] == [6, 15], answer
assert fn.metadata.name == "serving-example-flow", fn.metadata.name
