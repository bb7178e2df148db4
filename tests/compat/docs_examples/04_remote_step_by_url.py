"""A model server, and a second graph that calls it by the address that ``deploy()`` gave.

Page: docs/serving/remote-execution (HTTP)
"""

from pathlib import Path

import mlrun

Path("models.py").write_text("""
import mlrun

class Sum(mlrun.serving.V2ModelServer):
    def load(self):
        pass

    def predict(self, request):
        return [sum(row) for row in request["inputs"]]
""")

project = mlrun.get_or_create_project("doc-remote-url", "./")
fn_remote = project.set_function(
    "models.py", name="remote-model", kind="serving", image="mlrun/mlrun"
)
fn_remote.add_model("model1", class_name="Sum", model_path="")
remote_addr = fn_remote.deploy()

fn = project.set_function(name="preprocess", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow")
# The page joins without a slash: the address of a function on Nuclio's ingress ends in one.
graph.to("storey.Extend", name="enrich", _fn='({"tag": "something"})').to(
    "$remote", "remote_func", url=f"{remote_addr}v2/models/model1/infer", method="put"
).respond()

my_data = '{"inputs":[[5.1, 3.5, 1.4, 0.2],[7.7, 3.8, 6.7, 2.2]]}'
server = fn.to_mock_server()
result = server.test("/v2/models/my_model/infer", body=my_data)
server.wait_for_completion()
assert result["outputs"] == [10.2, 20.4], result

fn.deploy()
result = fn.invoke("/v2/models/my_model/infer", body={"inputs": [[1, 2], [3, 4]]})
assert result["model_name"] == "model1", result
assert result["outputs"] == [3, 7], result
