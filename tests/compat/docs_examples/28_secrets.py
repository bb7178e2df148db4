"""Project secrets: set, listed by key only, read by a local job and by a deployed function.

Page: docs/secrets
"""

from pathlib import Path

import mlrun

Path("job.py").write_text("""
def reads(context):
    context.log_result("got", context.get_secret("PASSWORD"))
""")
Path("func.py").write_text("""
import os
import mlrun

def handler(context, event):
    return {"by_mlrun": mlrun.get_secret_or_env("PASSWORD"), "plain": os.environ.get("GIVEN")}
""")
Path("secrets.env").write_text("PASSWORD=open sesame\nOTHER=2\n")

project = mlrun.get_or_create_project("doc-secrets", "./")
project.set_secrets(file_path="secrets.env")
project.set_secrets({"THIRD": "3"})
db = mlrun.get_run_db()
keys = db.list_project_secret_keys("doc-secrets", provider="kubernetes").secret_keys
assert set(keys) == {"PASSWORD", "OTHER", "THIRD"}, keys
try:
    db.list_project_secrets("doc-secrets", provider="kubernetes")
except mlrun.errors.MLRunHTTPError:
    pass
else:
    raise AssertionError("the values were told")

fn = project.set_function("func.py", name="reader", kind="nuclio", image="mlrun/mlrun")
fn.set_env("GIVEN", "x")
answer = project.deploy_function(fn).function.invoke("/")
assert answer == {"by_mlrun": "open sesame", "plain": "x"}, answer

job = project.set_function("job.py", name="job", kind="job", image="mlrun/mlrun", handler="reads")
task = mlrun.new_task().with_secrets("inline", {"PASSWORD": "inline"})
assert project.run_function("job", local=True, base_task=task).outputs["got"] == "inline"

db.delete_project_secrets("doc-secrets", provider="kubernetes", secrets=["OTHER"])
keys = db.list_project_secret_keys("doc-secrets", provider="kubernetes").secret_keys
assert set(keys) == {"PASSWORD", "THIRD"}, keys
