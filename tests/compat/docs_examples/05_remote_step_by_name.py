"""``RemoteStep`` in both engines: by URL, by ``project/function``, with sub-path and expressions.

Page: docs/serving/remote-steps
"""

from pathlib import Path

import mlrun
from mlrun.serving.remote import RemoteStep

Path("target.py").write_text("""
def handler(context, event):
    return {"path": event.path, "method": event.method, "body": event.body,
            "x-a": event.headers.get("X-A") or event.headers.get("x-a")}
""")
Path("steps.py").write_text("""
def func1(event):
    return {**event, "before": True}

def func2(event):
    return {**event, "after": True}
""")

project = mlrun.get_or_create_project("doc-remote-name", "./")
target = project.set_function("target.py", name="target", kind="nuclio", image="mlrun/mlrun")
project.deploy_function(target)

for engine in ("sync", "async"):
    fn = project.set_function(
        "steps.py", name=f"caller-{engine}", kind="serving", image="mlrun/mlrun"
    )
    flow = fn.set_topology("flow", engine=engine)
    last = (
        flow.to(name="step1", handler="func1")
        .to(
            RemoteStep(
                name="remote_echo",
                url="doc-remote-name/target",
                subpath="/deep",
                headers={"X-A": "1"},
            )
        )
        .to(name="laststep", handler="func2")
    )
    if engine == "async":
        last.respond()
    fn.deploy()
    answer = fn.invoke("/", body={"n": 1})
    assert answer["after"] is True, answer
    assert answer["path"] == "/deep", answer
    assert answer["method"] == "POST", answer
    assert answer["body"] == {"n": 1, "before": True}, answer
    assert answer["x-a"] == "1", answer

fn = project.set_function("steps.py", name="caller-expr", kind="serving", image="mlrun/mlrun")
flow = fn.set_topology("flow", engine="async")
flow.to(
    RemoteStep(
        name="expr",
        url="target",
        url_expression="endpoint + '/' + event['where']",
        body_expression="{'only': event['n']}",
        result_path="answer",
        method="PUT",
    )
).respond()
fn.deploy()
answer = fn.invoke("/", body={"n": 7, "where": "there"})
assert answer["n"] == 7, answer
assert answer["answer"]["path"] == "/there", answer
assert answer["answer"]["method"] == "PUT", answer
assert answer["answer"]["body"] == {"only": 7}, answer
