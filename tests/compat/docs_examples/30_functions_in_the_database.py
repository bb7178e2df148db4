"""Functions stored, exported, imported by ``db://``, tagged, found by hash, listed, deleted.

Pages: docs/runtimes/create-and-use-functions, docs/runtimes/functions
"""

from pathlib import Path

import mlrun

Path("func.py").write_text("def handler(context, event):\n    return 'one'\n")

project = mlrun.get_or_create_project("doc-functions", "./")
fn = project.set_function("func.py", name="greet", kind="nuclio", image="mlrun/mlrun", tag="v1")
fn.metadata.labels["team"] = "a"
key = fn.save(tag="v1")
assert "greet" in key, key
db = mlrun.get_run_db()
stored = db.get_function("greet", "doc-functions", tag="v1")
assert stored["spec"]["build"]["functionSourceCode"] == fn.spec.build.functionSourceCode
hash_key = stored["metadata"]["hash"]
assert db.get_function("greet", "doc-functions", hash_key=hash_key)["metadata"]["hash"] == hash_key

imported = mlrun.import_function("db://doc-functions/greet:v1")
assert imported.kind in ("nuclio", "remote"), imported.kind
imported.export("function.yaml")
again = mlrun.import_function("function.yaml")
assert again.metadata.name == "greet"
project.set_function("db://doc-functions/greet:v1", name="from-db")
project.set_function("function.yaml", name="from-yaml")
deployed = project.deploy_function("from-yaml")
assert deployed.function.invoke("/") in ("one", b"one")

listed = db.list_functions(project="doc-functions", labels=["team=a"])
assert {one["metadata"]["name"] for one in listed} >= {"greet"}, listed
tagged = db.list_functions(name="greet", project="doc-functions", tag="v1")
assert {one["metadata"]["tag"] for one in tagged} == {"v1"}, tagged

fn = project.get_function("from-yaml")
db.delete_function("from-yaml", "doc-functions")
for name, tag in (("from-yaml", ""), ("greet", "v9")):
    try:
        db.get_function(name, "doc-functions", tag=tag)
    except mlrun.errors.MLRunNotFoundError as exc:
        assert name in str(exc), exc
    else:
        raise AssertionError(f"{name}:{tag} was found")
