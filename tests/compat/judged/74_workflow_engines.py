"""A workflow's other engines are refused with a reason; its schedule as well; failures are told."""

from pathlib import Path

import mlrun

Path("job.py").write_text("def handler(context):\n    context.log_result('x', 1)\n")
Path("workflow.py").write_text("""
import mlrun

def pipeline():
    mlrun.get_current_project().run_function("job", name="one")
""")
project = mlrun.get_or_create_project("judge-engines", "./")
project.set_function("job.py", name="job", kind="job", image="x", handler="handler")
project.set_workflow("main", "workflow.py", handler="pipeline")
project.save()
assert project.run("main", local=True).state == "Succeeded"
assert project.run("main", engine="local").state == "Succeeded"
for kwargs in (
    {"engine": "remote"},
    {"engine": "remote:local"},
    {"schedule": "0 * * * *"},
    {"engine": "kfp"},
):
    try:
        status = project.run("main", **kwargs)
    except Exception as exc:
        text = str(exc)
        print(kwargs, type(exc).__name__, text[:200])
        assert text, kwargs
    else:
        assert status.state not in ("Succeeded", "completed") or kwargs.get("engine") != "remote", (
            kwargs
        )
        print(kwargs, status.state)
assert mlrun.get_run_db().list_pipelines(project="judge-engines").runs == [], "pipelines"
