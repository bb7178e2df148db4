"""What a client stored is what it gets back, fields that nobody here knows included."""

import mlrun

db = mlrun.get_run_db()
project = mlrun.get_or_create_project("judge-whole", "./")

odd = {
    "kind": "nuclio",
    "metadata": {
        "name": "odd",
        "project": "judge-whole",
        "labels": {"a.b/c": "d"},
        "extra": [1, {"x": None}],
    },
    "spec": {
        "unknown": {"deep": [True, 1.5, "ü", ""]},
        "config": {"spec.triggers.x\\.y": {"kind": "http"}},
        "build": {},
    },
    "status": {"state": "", "own": 1},
    "verbose": False,
}
key = db.store_function(odd, "odd", "judge-whole", tag="t", versioned=True)
stored = db.get_function("odd", "judge-whole", tag="t")
assert stored["spec"] == odd["spec"], stored["spec"]
assert stored["metadata"]["extra"] == odd["metadata"]["extra"], stored["metadata"]
assert stored["metadata"]["labels"] == odd["metadata"]["labels"], stored["metadata"]

run = {
    "metadata": {
        "name": "r",
        "uid": "a" * 32,
        "project": "judge-whole",
        "labels": {"k": "v"},
        "odd": [None],
    },
    "spec": {"parameters": {"p": {"q": [1, 2.5, "ß"]}}, "mine": {"x": ""}},
    "status": {"state": "running", "results": {"r": 1}, "own": {"deep": {}}},
}
db.store_run(run, "a" * 32, "judge-whole")
found = db.read_run("a" * 32, "judge-whole")
assert found["spec"] == run["spec"], found["spec"]
assert found["metadata"]["odd"] == [None], found["metadata"]
assert found["status"]["own"] == {"deep": {}}, found["status"]
db.update_run({"status.state": "completed", "status.results.s": 2}, "a" * 32, "judge-whole")
found = db.read_run("a" * 32, "judge-whole")
assert found["status"]["state"] == "completed", found["status"]
assert found["status"]["results"] == {"r": 1, "s": 2}, found["status"]

document = {
    "kind": "artifact",
    "metadata": {
        "key": "k",
        "project": "judge-whole",
        "tree": "t1",
        "labels": {"x": "y"},
        "odd": {"z": [1]},
    },
    "spec": {"target_path": "/nowhere/k", "size": 3, "mystery": {"a": [None, True]}},
    "status": {"state": "created", "own": "yes"},
}
db.store_artifact("k", document, project="judge-whole", tree="t1", tag="first")
back = db.read_artifact("k", project="judge-whole", tag="first")
assert back["spec"]["mystery"] == {"a": [None, True]}, back["spec"]
assert back["metadata"]["odd"] == {"z": [1]}, back["metadata"]
assert db.read_artifact("k", project="judge-whole", tree="t1")["metadata"]["key"] == "k"
uid = back["metadata"]["uid"]
assert db.read_artifact("k", project="judge-whole", uid=uid)["metadata"]["uid"] == uid

description = mlrun.projects.MlrunProject.from_dict(
    {
        "metadata": {"name": "judge-whole", "annotations": {"note": "ü"}},
        "spec": {"description": "d", "params": {"x": [1]}, "goals": "g", "desired_state": "online"},
    }
)
db.store_project("judge-whole", description)
assert db.get_project("judge-whole").spec.params == {"x": [1]}
assert db.get_project("judge-whole").metadata.annotations == {"note": "ü"}
