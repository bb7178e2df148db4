"""mlrun's own SDK against a running platform: projects, artifacts, models, runs, workflows.

mlrun keeps its settings for a whole process, so each story is a script in a process of its own;
what it prints last, as JSON, is what the test looks at.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun, pytest.mark.timeout(240)]

PREFACE = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import mlrun
CONTEXT = os.getcwd()

def refusal(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""

def tell(**facts):
    print(json.dumps(facts), flush=True)
"""
TRAIN = """
def train(context, x: int = 1):
    context.logger.info(f"training with {x}")
    context.log_result("y", x * 2)
    context.log_artifact("note", body=f"x was {x}")
"""


def start(platform: Platform, folder: Path, script: str) -> subprocess.Popen[str]:
    """A client of the platform that runs the script in the folder."""
    assert platform.endpoints is not None
    # mlrun leaves a temporary file of every run of a handler.
    (folder / "tmp").mkdir(exist_ok=True)
    told = {"MLRUN_DBPATH": platform.endpoints.control_url, "PYTHONWARNINGS": "ignore"}
    told["TMPDIR"] = str(folder / "tmp")
    own = {name: value for name, value in os.environ.items() if not name.startswith("MLRUN_")}
    return subprocess.Popen(
        [sys.executable, "-c", PREFACE + script],
        cwd=folder,
        env=own | told,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def told_by(platform: Platform, folder: Path, script: str) -> dict[str, Any]:
    """What the script tells at its end."""
    client = start(platform, folder, script)
    output, _ = client.communicate(timeout=120)
    assert client.returncode == 0, output[-4000:]
    facts: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return facts


MODELS = """
import pandas as pd

project = mlrun.get_or_create_project("shop", context=CONTEXT)
db = mlrun.get_run_db()

note = project.log_artifact("note", body=b"hello", labels={"team": "blue"})
table = project.log_dataset("table", df=pd.DataFrame({"x": [1, 2, 3]}), format="csv")
for version in ("v1", "v2"):
    open("model.bin", "w").write("weights of " + version)
    model = project.log_model("clf", model_file="model.bin", tag=version, framework="none",
                              metrics={"accuracy": 0.9}, artifact_path=f"{CONTEXT}/files/{version}")
old = project.get_artifact("clf", tag="v1")
db.tag_artifacts(old, "shop", "champion")
mlrun.artifacts.update_model(old, metrics={"f1": 0.5})
file, spec, _ = mlrun.artifacts.get_model("store://models/shop/clf:champion")
champion = open(file).read()
old.export("old.zip")
imported = project.import_artifact("old.zip", "copy")
first, token = project.paginated_list_artifacts(page_size=4)
rest, end = project.paginated_list_artifacts(page_token=token)
facts = dict(
    note=mlrun.get_dataitem(note.uri).get().decode(),
    path=note.target_path,
    rows=len(mlrun.get_dataitem(table.uri).as_df()),
    champion=champion,
    metrics=spec.metrics,
    tags=sorted({(one.key, one.tag) for one in project.list_models()}),
    labelled=[one["metadata"]["key"] for one in project.list_artifacts(labels="team=blue")],
    fuzzy=[one.key for one in project.list_models("~CL", tag="latest")],
    copied=[imported.kind, project.get_artifact("copy").metrics],
    pages=[len(first), len(rest), end],
    missing=refusal(project.get_artifact, "clv"),
    untagged=refusal(project.get_artifact, "clf", tag="v9"),
    elsewhere=refusal(db.list_artifacts, project="shup"),
)
project.delete_artifact(note, deletion_strategy="data-force")
facts["gone"] = [os.path.exists(note.target_path), refusal(project.get_artifact, "note") != ""]
tell(**facts)
"""


def test_artifacts_models_and_datasets(running: Platform, tmp_path: Path) -> None:
    facts = told_by(running, tmp_path, MODELS)
    assert facts["note"] == "hello"
    assert facts["path"].startswith(f"{running.home.artifacts}/shop/")
    assert facts["rows"] == 3
    assert facts["champion"] == "weights of v1"
    assert facts["metrics"] == {"accuracy": 0.9, "f1": 0.5}
    tags = [[key, tag] for key, tag in facts["tags"] if key == "clf"]
    assert tags == [["clf", "champion"], ["clf", "latest"], ["clf", "v1"], ["clf", "v2"]]
    assert facts["labelled"] == ["note"]
    assert facts["fuzzy"] == ["clf"]
    assert facts["copied"] == ["model", {"accuracy": 0.9, "f1": 0.5}]
    assert facts["pages"] == [4, 4, None]
    assert "MLRunNotFoundError" in facts["missing"]
    assert facts["missing"].endswith("Artifact shop/clv:latest not found; there is clf")
    assert facts["untagged"].endswith("clf has the tags champion, latest, v1, v2")
    assert facts["elsewhere"].endswith("Project shup does not exist; there is shop")
    assert facts["gone"] == [False, True]


RUNS = """
import datetime

open("train.py", "w").write(TRAIN)
open("flow.py", "w").write('''
import mlrun
def pipeline(x: int = 3):
    project = mlrun.get_current_project()
    first = project.run_function("train", params={"x": x}, outputs=["y"])
    project.run_function("train", name="again", params={"x": first.output("y")})
''')
project = mlrun.get_or_create_project("shop", context=CONTEXT)
db = mlrun.get_run_db()
project.set_function("train.py", name="train", kind="job", image="mlrun/mlrun", handler="train")
project.set_workflow("main", "flow.py", handler="pipeline")
project.save()

run = project.run_function("train", params={"x": 5})
search = project.run_function(
    "train", name="search", hyperparams={"x": [1, 2, 3]}, selector="max.y")
flow = project.run("main", arguments={"x": 4}, watch=True)
soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
db.store_run({"metadata": {"name": "stuck"}, "status": {"state": "running"}}, "u1", "shop")
facts = dict(
    state=run.state(),
    outputs=[run.output("y"), run.artifact("note").get().decode()],
    log=db.get_log(run.metadata.uid, "shop")[1].decode(),
    log_size=db.get_log_size(run.metadata.uid, "shop"),
    made=[one["metadata"]["key"] for one in
          db.read_run(run.metadata.uid, "shop")["status"]["artifacts"]],
    best=[search.status.results, search.artifact("note").get().decode()],
    iterations=[len(db.list_runs(name="search", project="shop", iter=each))
                for each in (True, False)],
    flow=[flow.state, flow.run_id],
    of_flow=sorted(one["status"]["results"]["y"] for one in
                   db.list_runs(project="shop", labels=f"workflow={flow.run_id}")),
    newest=len(project.list_runs()),
    everywhere=len(db.list_runs(project="*", name="again")),
    failed=len(db.list_runs(project="shop", states=["error"])),
    later=len(db.list_runs(project="shop", start_time_from=soon)),
    abort=refusal(db.abort_run, "u1", "shop"),
    undeletable=refusal(db.del_run, "u1", "shop"),
    pipelines=db.list_pipelines("shop").runs,
    submit=refusal(db.submit_job, mlrun.new_task(name="task", project="shop")),
    remote=refusal(db.submit_workflow, "shop", "main", {"name": "main", "image": ""}),
)
db.update_run({"status.state": "aborted"}, "u1", "shop")
db.del_run("u1", "shop")
db.del_runs(project="shop", name="search")
facts["left"] = sorted({one["metadata"]["name"] for one in db.list_runs(project="shop", iter=True)})
tell(**facts)
""".replace("TRAIN", repr(TRAIN))


def test_runs_searches_logs_and_workflows(running: Platform, tmp_path: Path) -> None:
    facts = told_by(running, tmp_path, RUNS)
    assert (facts["state"], facts["outputs"]) == ("completed", [10, "x was 5"])
    assert "training with 5" in facts["log"]
    assert facts["log_size"] == len(facts["log"])
    assert facts["made"] == ["note"]
    assert facts["best"] == [{"best_iteration": 3, "y": 6}, "x was 3"]
    assert facts["iterations"] == [4, 1]
    state, workflow = facts["flow"]
    assert (state, facts["of_flow"]) == ("Succeeded", [8, 16])
    assert workflow
    assert facts["newest"] == 4
    assert (facts["everywhere"], facts["failed"], facts["later"]) == (1, 0, 0)
    assert "can not be aborted" in facts["abort"]
    assert "Can not delete run in running state" in facts["undeletable"]
    assert facts["pipelines"] == []
    assert "MLRunBadRequestError" in facts["submit"]
    assert "POST /api/v1/submit_job" in facts["submit"]
    assert "workflows on a server" in facts["remote"]
    assert facts["left"] == ["again", "train-train"]


PROJECTS = """
from mlrun.datastore.datastore_profile import DatastoreProfileS3

os.mkdir("made")
project = mlrun.new_project("shop", context="made", description="a shop")
project.metadata.labels = {"team": "blue"}
open("made/train.py", "w").write("def train(context):\\n    context.log_result('y', 1)\\n")
project.set_function("train.py", name="train", kind="job", image="mlrun/mlrun", handler="train")
project.set_secrets({"API_TOKEN": "s3cret"})
project.register_datastore_profile(
    DatastoreProfileS3(name="bucket", bucket="b", access_key_id="id", secret_key="private"))
project.sync_functions(save=True)
project.save()
loaded = mlrun.load_project("made")
db = mlrun.get_run_db()
facts = dict(
    again=mlrun.get_or_create_project("shop", context="made").spec.description,
    loaded=[loaded.name, loaded.run_function("train").output("y")],
    from_db=mlrun.load_project("there", url="db://shop").metadata.labels,
    listed=[db.list_projects(),
            [one.name for one in db.list_projects(format_="full", labels="team=blue")]],
    keys=db.list_project_secret_keys("shop").secret_keys,
    values=refusal(db.list_project_secrets, "shop"),
    profile=project.get_datastore_profile("bucket").bucket,
    private=project.get_datastore_profile("bucket").secret_key,
    names=[refusal(db.create_project, {"metadata": {"name": name}})
           for name in ("Bad_Name", "a" * 64)],
    restrict=refusal(db.delete_project, "shop"),
)
fresh = mlrun.new_project("shop", context="fresh", overwrite=True)
facts["overwritten"] = [len(db.list_runs(project="shop", iter=True)),
                        db.list_project_secret_keys("shop").secret_keys]
db.delete_project("shop", deletion_strategy="cascade")
facts["deleted"] = refusal(db.get_project, "shop")
tell(**facts)
"""


def test_projects_with_their_secrets_and_profiles(running: Platform, tmp_path: Path) -> None:
    facts = told_by(running, tmp_path, PROJECTS)
    assert facts["again"] == "a shop"
    assert facts["loaded"] == ["shop", 1]
    assert facts["from_db"] == {"team": "blue"}
    assert facts["listed"] == [["default", "shop"], ["shop"]]
    assert facts["keys"] == ["API_TOKEN"]
    assert "MLRunAccessDeniedError" in facts["values"]
    assert (facts["profile"], facts["private"]) == ("b", None)
    for refused in facts["names"]:
        assert "MLRunBadRequestError" in refused
        assert "Field 'project.metadata.name' is malformed" in refused
    assert "MLRunPreconditionFailedError" in facts["restrict"]
    assert "related resources found" in facts["restrict"]
    assert facts["overwritten"] == [0, []]
    assert "MLRunNotFoundError" in facts["deleted"]
    assert stat.S_IMODE(running.home.catalog.stat().st_mode) == 0o600


BODIES = """
mlrun.get_or_create_project("shop", context=CONTEXT)
db = mlrun.get_run_db()

def body(size):
    return {"kind": "artifact", "metadata": {"key": "big", "project": "shop"},
            "spec": {"inline": "x" * size}, "status": {}}

db.store_artifact("big", body(50 * 1024 * 1024), project="shop", tree="t")
found = db.read_artifact("big", project="shop")["spec"]["inline"]
tell(
    whole=[len(found), set(found) == {"x"}],
    over=refusal(db.store_artifact, "over", body(70 * 1024 * 1024), project="shop", tree="t"),
    keys=[one["metadata"]["key"] for one in db.list_artifacts(project="shop")],
)
"""


def test_a_body_of_50_mb_comes_back_whole_and_a_larger_one_is_refused(
    running: Platform, tmp_path: Path
) -> None:
    facts = told_by(running, tmp_path, BODIES)
    assert facts["whole"] == [50 * 1024 * 1024, True]
    assert "the body must be at most 67108864 bytes" in facts["over"]
    assert facts["keys"] == ["big"]


STORING = """
project = mlrun.get_or_create_project("shop", context=CONTEXT)
model = project.log_model("clf", body=b"weights", model_file="clf.bin")
run = mlrun.get_or_create_ctx("trainer", project="shop")
run.log_result("y", 1)
run.commit(completed=True)
db = mlrun.get_run_db()
tell(ready=[model.uri, run.uid])
for number in range(10**6):
    document = {"kind": "artifact", "metadata": {"key": f"key{number}"}, "spec": {}, "status": {}}
    db.store_artifact(f"key{number}", document, project="shop", tree="t")
    print(number, flush=True)
"""
READING = """
project = mlrun.get_or_create_project("shop", context=CONTEXT)
db = mlrun.get_run_db()
uri, uid = sys.stdin.readline().split()
_, model, _ = mlrun.artifacts.get_model(uri)
tell(
    keys=[one["metadata"]["key"] for one in project.list_artifacts(tag="latest")],
    model=[model.key, mlrun.get_dataitem(uri).meta.uid],
    run=db.read_run(uid, "shop")["status"]["results"],
)
"""


def test_what_a_client_was_told_is_stored_is_there_after_kills_and_restarts(
    running: Platform, tmp_path: Path
) -> None:
    client = start(running, tmp_path, STORING)
    assert client.stdout is not None
    uri, uid = next(json.loads(line)["ready"] for line in client.stdout if '"ready"' in line)
    stored = []
    for line in client.stdout:
        if line.strip().isdigit():
            stored.append(int(line))
        if len(stored) == 30:
            killed = running.kill("controller")
            break
    client.kill()
    stored += [
        int(line) for line in client.stdout if line.endswith("\n") and line.strip().isdigit()
    ]
    client.stdout.close()
    client.wait()
    eventually(lambda: running.pid("controller") != killed)
    running.down()
    running.up()
    script = READING.replace("sys.stdin.readline()", repr(f"{uri} {uid}"))
    facts = told_by(running, tmp_path, script)
    assert set(facts["keys"]) >= {"clf", *(f"key{number}" for number in stored)}
    assert len(facts["keys"]) <= len(stored) + 2
    assert facts["model"][0] == "clf"
    assert facts["run"] == {"y": 1}
