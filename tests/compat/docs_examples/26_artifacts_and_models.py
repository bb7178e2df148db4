"""Artifacts: files, datasets, models, plots; by key, tag, tree and URI; listed, read back, deleted.

Pages: docs/store/artifacts, docs/store/log-artifacts, docs/store/models, docs/store/data-items
"""

from pathlib import Path

import mlrun
import pandas as pd

project = mlrun.get_or_create_project("doc-artifacts", "./")
db = mlrun.get_run_db()

one = project.log_artifact(
    "report",
    body=b"<h1>one</h1>",
    format="html",
    artifact_path=str(Path("one").resolve()),
    labels={"kind": "report"},
    tag="v1",
)
two = project.log_artifact(
    "report",
    body=b"<h1>two</h1>",
    format="html",
    artifact_path=str(Path("two").resolve()),
    tag="v2",
)
assert project.get_artifact("report", tag="v1").to_dataitem().get() == b"<h1>one</h1>"
assert project.get_artifact("report", tag="v2").to_dataitem().get() == b"<h1>two</h1>"
assert project.get_artifact("report").to_dataitem().get() == b"<h1>two</h1>"
assert one.uri.startswith("store://artifacts/doc-artifacts/report"), one.uri
assert mlrun.get_dataitem(one.uri).get() == b"<h1>one</h1>"
assert project.get_artifact_uri("report", tag="v1").startswith("store://"), (
    project.get_artifact_uri("report")
)

frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
dataset = project.log_dataset("table", df=frame, format="csv", stats=True)
assert mlrun.get_dataitem(dataset.uri).as_df().equals(frame)
assert project.get_artifact("table").kind == "dataset"
assert project.get_artifact("table").spec.header, "no header"

model = project.log_model(
    "m",
    body=b"weights",
    model_file="m.bin",
    metrics={"loss": 0.25},
    parameters={"depth": 3},
    labels={"framework": "own"},
    extra_data={"note": b"hi"},
)
file, spec, extra = mlrun.artifacts.get_model(model.uri, ".bin")
assert Path(file).read_bytes() == b"weights"
assert spec.metrics == {"loss": 0.25}, spec.to_dict()
assert spec.parameters == {"depth": 3}, spec.to_dict()
assert extra["note"].get() == b"hi"
mlrun.artifacts.update_model(model, metrics={"loss": 0.125}, write_spec_copy=False)
assert project.get_artifact("m").metrics == {"loss": 0.125}, project.get_artifact("m").to_dict()

assert {artifact.key for artifact in project.list_artifacts().to_objects()} >= {
    "report",
    "table",
    "m",
}
assert {found.key for found in project.list_models()} == {"m"}
assert {found["metadata"]["key"] for found in project.list_artifacts(kind="dataset")} == {"table"}
assert {found["metadata"]["key"] for found in project.list_artifacts(labels=["kind=report"])} == {
    "report"
}
assert {found["metadata"]["key"] for found in project.list_artifacts(name="~rep")} == {"report"}
tags = {
    found["metadata"].get("tag")
    for found in db.list_artifacts("report", project="doc-artifacts", tag="*")
}
assert {"v1", "v2", "latest"} <= tags, tags

project.delete_artifact(project.get_artifact("report", tag="v1"))
try:
    project.get_artifact("report", tag="v1")
except mlrun.errors.MLRunNotFoundError:
    pass
else:
    raise AssertionError("a deleted artifact was found")
assert project.get_artifact("report", tag="v2").to_dataitem().get() == b"<h1>two</h1>"
