"""``mlrun.set_environment`` as the quick starts use it; an artifact path of the user's; the default project."""

import os
from pathlib import Path

import mlrun

_, path = mlrun.set_environment(
    api_path=os.environ["MLRUN_DBPATH"], artifact_path=str(Path("arts").resolve())
)
assert path == str(Path("arts").resolve()), path
assert mlrun.get_version() in ("1.12.1", mlrun.__version__), mlrun.get_version()
project = mlrun.get_or_create_project("judge-env", "./")
artifact = project.log_artifact("note", body=b"mine")
assert artifact.target_path.startswith(path), artifact.target_path
assert mlrun.get_dataitem(artifact.target_path).get() == b"mine"

context = mlrun.get_or_create_ctx("script", project="judge-env")
context.log_result("z", 1)
context.commit(completed=True)
assert mlrun.get_run_db().read_run(context.uid, "judge-env")["status"]["results"] == {"z": 1}


def handler(context, x: int = 2):
    context.log_result("y", x + 1)
    context.log_artifact("plot", body=b"<p/>", format="html")


run = mlrun.new_function("inline", kind="job", project="judge-env")
done = run.run(handler=handler, params={"x": 5}, local=True, artifact_path=path + "/{{run.uid}}")
assert done.outputs["y"] == 6, done.outputs
assert done.uid() in done.artifact("plot").artifact_url or done.artifact("plot").get() == b"<p/>"
