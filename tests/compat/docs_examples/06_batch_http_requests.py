"""One step that calls another function once per item of a list, in parallel.

Page: docs/serving/basic-steps (BatchHttpRequests)
"""

from pathlib import Path

import mlrun
from mlrun.serving.remote import BatchHttpRequests

Path("target.py").write_text("""
def handler(context, event):
    return {"value": event.body["value"] * 10, "path": event.path}
""")

project = mlrun.get_or_create_project("doc-batch-http", "./")
target = project.set_function("target.py", name="target", kind="nuclio", image="mlrun/mlrun")
address = project.deploy_function(target).function.get_url().rstrip("/")

fn = project.set_function(name="fan-out", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.to(
    BatchHttpRequests(
        url_expression="event['url']",
        body_expression="event['data']",
        method="POST",
        input_path="req",
        result_path="resp",
    )
).respond()
fn.deploy()
items = [{"url": f"{address}/{n}", "data": {"value": n}} for n in range(5)]
answer = fn.invoke("/", body={"req": items})
assert [one["value"] for one in answer["resp"]] == [0, 10, 20, 30, 40], answer
assert [one["path"] for one in answer["resp"]] == [f"/{n}" for n in range(5)], answer
