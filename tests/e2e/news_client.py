"""A user of the example project: mlrun and nothing else. Run by `test_example_graphs.py`.

``python news_client.py deploy`` and ``… evaluate``, in a copy of the project, ``MLRUN_DBPATH`` set.
What was seen is the last line, as JSON.
"""

import json
import sys

import mlrun


def deploy():
    """Every function and graph, in the order of the project."""
    project = mlrun.load_project("./")
    names = project.get_function_names()
    graphs = [name for name in names if project.get_function(name).kind != "job"]
    return {name: project.deploy_function(name).outputs["endpoint"] for name in graphs}


def evaluate():
    """A function of the project run as a job, then its workflow."""
    project = mlrun.load_project("./")
    run = project.run_function("text-evaluate", params={"per_label": 4})
    workflow = project.run("main", arguments={"per_label": 4})
    stored = project.list_runs(labels=[f"workflow={workflow.run_id}"]).to_objects()
    return {
        "state": run.state(),
        "results": run.status.results,
        "confusion": run.artifact("confusion").get().decode(),
        "workflow": str(workflow.state),
        "of_workflow": [one.status.results for one in stored],
        "artifacts": [one.metadata.key for one in project.list_artifacts().to_objects()],
    }


if __name__ == "__main__":
    seen = {"deploy": deploy, "evaluate": evaluate}[sys.argv[1]]()
    assert "stoker" not in sys.modules
    print(json.dumps(seen))  # noqa: T201
