"""Pre-process, a voting ensemble of two models, post-process.

Pages: docs/serving/graph-example, docs/serving/use-cases, docs/serving/router-steps
"""

from pathlib import Path

import mlrun

Path("steps.py").write_text("""
import mlrun

class Constant(mlrun.serving.V2ModelServer):
    def load(self):
        self.value = self.get_param("value")

    def predict(self, request):
        return [self.value for _ in request["inputs"]]

class Echo:
    def __init__(self, context, name=None, **kw):
        self.context = context
        self.name = name
        self.kw = kw

    def do(self, x):
        return x

def error_catcher(event):
    event.body = {"error": event.error}
    return event
""")

project = mlrun.get_or_create_project("doc-ensemble", "./")
fn = project.set_function("steps.py", name="advanced", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.to("storey.Extend", name="enrich", _fn='({"tag": "something"})').to(
    class_name="Echo", name="pre-process", some_arg="abc"
).error_handler(name="catcher", handler="error_catcher", full_event=True)
router = graph.add_step(
    "*mlrun.serving.VotingEnsemble", name="ensemble", after="pre-process", vote_type="regression"
)
router.add_route("m1", class_name="Constant", model_path="", value=1)
router.add_route("m2", class_name="Constant", model_path="", value=3)
graph.add_step(class_name="Echo", name="final", after="ensemble").respond()
fn.deploy()
answer = fn.invoke("/v2/models/infer", body={"inputs": [[1], [2]]})
assert answer["outputs"] == [2, 2], answer
assert answer["model_name"] == "ensemble", answer
one = fn.invoke("/v2/models/m2/infer", body={"inputs": [[1]]})
assert one["outputs"] == [3], one
