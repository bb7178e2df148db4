"""A project with content is not deleted without being told so; cascading takes its functions along."""

from pathlib import Path

import mlrun
import requests

base = mlrun.mlconf.dbpath.rstrip("/")
Path("func.py").write_text("def handler(context, event):\n    return 'x'\n")
project = mlrun.get_or_create_project("judge-delete", "./")
project.log_artifact("a", body=b"x")
fn = project.set_function("func.py", name="f", kind="nuclio", image="x")
fn.deploy()
address = fn.get_url()
db = mlrun.get_run_db()
try:
    db.delete_project("judge-delete")
except mlrun.errors.MLRunPreconditionFailedError as exc:
    assert "judge-delete" in str(exc), exc
else:
    raise AssertionError("a full project was deleted")
assert requests.get(address, timeout=10).ok
db.delete_project("judge-delete", deletion_strategy="cascading")
assert requests.get(address, timeout=10).status_code == 404
assert "judge-delete" not in db.list_projects(format_="name_only")
db.delete_project("judge-delete", deletion_strategy="cascading")  # again: nothing to do, no error
fresh = mlrun.get_or_create_project("judge-delete", "./again")
assert not fresh.list_artifacts(), fresh.list_artifacts()
assert not db.list_functions(project="judge-delete")
