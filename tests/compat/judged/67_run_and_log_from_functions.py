"""A deployed function uses mlrun against this API: it reads a model and an artifact, and logs a run."""

from pathlib import Path

import mlrun

Path("func.py").write_text("""
import mlrun

def handler(context, event):
    project = mlrun.get_or_create_project(event.body["project"], "./", save=False)
    text = mlrun.get_dataitem(event.body["uri"]).get().decode()
    found = project.get_artifact("note").uri
    run = mlrun.new_function(project=project.name).run(
        handler=lambda context: context.log_result("length", len(text)), local=True, name="inside")
    return {"text": text, "found": found, "uid": run.uid()}
""")
project = mlrun.get_or_create_project("judge-inside", "./")
note = project.log_artifact("note", body=b"written outside")
fn = project.set_function("func.py", name="reader", kind="nuclio", image="x")
fn.with_http(workers=1)
fn.deploy()
answer = fn.invoke("/", body={"project": "judge-inside", "uri": note.uri})
assert answer["text"] == "written outside", answer
assert answer["found"].startswith("store://"), answer
run = mlrun.get_run_db().read_run(answer["uid"], "judge-inside")
assert run["status"]["results"] == {"length": 15}, run["status"]
