"""Fills a project with one of everything that is to be there after a restart."""

from pathlib import Path

import mlrun

Path("func.py").write_text("""
import os

def handler(context, event):
    return {"secret": os.environ.get("TOKEN"), "project": os.environ.get("MLRUN_ACTIVE_PROJECT")}
""")
Path("graph.py").write_text("""
class Add:
    def do(self, event):
        return {"sum": event["a"] + event["b"]}
""")
project = mlrun.get_or_create_project("kept", "./")
project.spec.description = "still there"
project.save()
project.set_secrets({"TOKEN": "sesame"})
fn = project.set_function("func.py", name="plain", kind="nuclio", image="x")
fn.deploy()
graph = project.set_function("graph.py", name="graph", kind="serving", image="x")
graph.set_topology("flow", engine="async").to(class_name="Add", name="add").respond()
graph.deploy()
project.log_artifact("note", body=b"written before", tag="first")
project.log_model("model", body=b"weights", model_file="m.bin", metrics={"loss": 0.5})
run = mlrun.new_function(project="kept").run(
    handler=lambda context: context.log_result("n", 1), name="job", local=True
)
Path("uid").write_text(run.uid())
print(fn.get_url(), graph.get_url())
