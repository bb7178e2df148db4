"""Finds everything that ``before.py`` left, by a client that has just started."""

from pathlib import Path

import mlrun

project = mlrun.get_or_create_project("kept", "./")
db = mlrun.get_run_db()
assert db.get_project("kept").spec.description == "still there", db.get_project("kept").to_dict()
assert "kept" in db.list_projects(format_="name_only")
assert set(db.list_project_secret_keys("kept").secret_keys) == {"TOKEN"}
assert project.get_artifact("note", tag="first").to_dataitem().get() == b"written before"
assert project.get_artifact("model").metrics == {"loss": 0.5}
run = db.read_run(Path("uid").read_text(), "kept")
assert run["status"]["results"] == {"n": 1}, run["status"]
assert {f["metadata"]["name"] for f in db.list_functions(project="kept")} == {"plain", "graph"}

plain = project.get_function("plain", sync=True)
assert plain.invoke("/") == {"secret": "sesame", "project": "kept"}, plain.invoke("/")
graph = project.get_function("graph", sync=True)
assert graph.invoke("/", body={"a": 1, "b": 2}) == {"sum": 3}
plain.deploy()
assert plain.invoke("/")["secret"] == "sesame"
