"""An unknown project, function, tag, hash, artifact or run is a 404 that names it."""

from pathlib import Path

import mlrun
import requests

db = mlrun.get_run_db()
project = mlrun.get_or_create_project("judge-unknown", "./")
fn = mlrun.new_function("known", project="judge-unknown", kind="nuclio", image="x")
key = db.store_function(fn.to_dict(), "known", "judge-unknown", tag="v1", versioned=True)


def missing(named, call):
    try:
        got = call()
    except mlrun.errors.MLRunNotFoundError as exc:
        assert named in str(exc), (named, str(exc))
    else:
        raise AssertionError(f"{named} was found: {got!r}")


missing("nobody", lambda: db.get_project("nobody"))
missing("nothing", lambda: db.get_function("nothing", "judge-unknown"))
missing("v9", lambda: db.get_function("known", "judge-unknown", tag="v9"))
missing("f" * 40, lambda: db.get_function("known", "judge-unknown", hash_key="f" * 40))
missing("no-such-key", lambda: project.get_artifact("no-such-key"))
missing("c" * 32, lambda: db.read_run("c" * 32, "judge-unknown"))
missing("no-such-task", lambda: db.get_project_background_task("judge-unknown", "no-such-task"))
assert db.get_function("known", "judge-unknown", hash_key=key)["metadata"]["name"] == "known"
assert db.get_function("known", "judge-unknown", tag="v1")["metadata"]["name"] == "known"

base = mlrun.mlconf.dbpath.rstrip("/")
for path in (
    "projects/nobody/functions",
    "projects/nobody/runs",
    "projects/nobody/nuclio/x/deploy",
):
    reply = requests.get(f"{base}/api/v1/{path}", timeout=10)
    assert reply.status_code in (200, 404), (path, reply.status_code, reply.text)
    if reply.status_code == 200:
        assert reply.json() in ({"funcs": []}, {"runs": []}) or not any(
            value for name, value in reply.json().items() if name != "pagination"
        ), reply.text

# A function of no project: the client has none to put into the path.
Path("f.py").write_text("def handler(context, event):\n    return 1\n")
mlrun.mlconf.active_project = ""
for place, words in (("", "get_or_create_project"), ("never-made", "never-made")):
    lonely = mlrun.code_to_function("lonely", kind="nuclio", filename="f.py", project=place)
    try:
        lonely.deploy()
    except OSError as exc:
        assert words in str(exc), exc
    else:
        raise AssertionError(f"it was deployed into {place!r}")
