"""Runs: results, logs, artifacts, failures, hyper-parameters, filters, tags, deletion.

Pages: docs/concepts/submitting-tasks-jobs-to-functions, docs/hyper-params, docs/runtimes/create-and-use-functions
"""

from pathlib import Path

import mlrun

Path("job.py").write_text("""
import mlrun

def train(context, lr: float = 0.1, fail: bool = False):
    print("training with", lr)
    context.logger.info("a line of the log")
    if fail:
        raise RuntimeError("it went wrong")
    context.log_result("loss", 1 / lr)
    context.set_label("stage", "test")
    context.log_artifact("notes", body=b"fine", format="txt")
    return {"unused": 1}
""")

project = mlrun.get_or_create_project("doc-runs", "./")
fn = project.set_function("job.py", name="train", kind="job", image="mlrun/mlrun", handler="train")
db = mlrun.get_run_db()
db.del_runs(project="doc-runs")  # of an earlier execution of this script

run = project.run_function("train", params={"lr": 0.5}, local=True, labels={"mine": "yes"})
assert run.state() == "completed"
assert run.status.results["loss"] == 2.0
assert run.output("notes").startswith("store://"), run.outputs
state, log = db.get_log(run.uid(), "doc-runs")
assert b"training with 0.5" in log, log
assert state == "completed", state
assert db.read_run(run.uid(), "doc-runs")["metadata"]["labels"]["stage"] == "test"

try:
    project.run_function("train", params={"fail": True}, local=True)
except mlrun.runtimes.utils.RunError as exc:
    assert "it went wrong" in str(exc), exc
else:
    raise AssertionError("a failed run passed")
failed = project.list_runs(states=["error"])
assert len(failed) == 1, failed
assert "it went wrong" in failed[0]["status"]["error"], failed[0]["status"]

grid = project.run_function(
    "train", hyperparams={"lr": [0.1, 0.2, 1.0]}, selector="min.loss", local=True
)
assert grid.status.results["best_iteration"] == 3, grid.status.results
assert grid.status.results["loss"] == 1.0, grid.status.results
assert len(db.list_runs(project="doc-runs", uid=grid.uid(), iter=True)) == 4

assert {one["metadata"]["uid"] for one in project.list_runs(labels=["mine=yes"])} == {run.uid()}
assert run.uid() in {one["metadata"]["uid"] for one in project.list_runs(name="train-train")} | {
    one["metadata"]["uid"] for one in project.list_runs(name="~train")
}
assert len(project.list_runs().to_objects()) == 1  # the client asks for the latest of each name
assert len(project.list_runs(states=["completed", "error"]).to_objects()) == 3
db.del_run(run.uid(), "doc-runs")
try:
    db.read_run(run.uid(), "doc-runs")
except mlrun.errors.MLRunNotFoundError:
    pass
else:
    raise AssertionError("a deleted run was found")


# A local function object and a bare handler run the same way.
def double(context, p1: int):
    context.log_result("twice", p1 * 2)


assert (
    mlrun.new_function(project="doc-runs").run(handler=double, params={"p1": 4}).output("twice")
    == 8
)
