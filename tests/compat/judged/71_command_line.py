"""The ``mlrun`` command: get, project with a workflow, run, logs."""

import subprocess
import sys
from pathlib import Path

Path("proj").mkdir(exist_ok=True)
Path("proj/job.py").write_text("""
def handler(context, p1: int = 1):
    print("p1 is", p1)
    context.log_result("twice", p1 * 2)
""")
Path("proj/workflow.py").write_text("""
import mlrun

def pipeline(p1=3):
    project = mlrun.get_current_project()
    project.run_function("job", params={"p1": p1})
""")
Path("proj/project.yaml").write_text("""
kind: project
metadata:
  name: judge-cli
spec:
  functions:
  - url: job.py
    name: job
    kind: job
    image: x
    handler: handler
  workflows:
  - name: main
    path: workflow.py
    handler: pipeline
    engine: local
""")


def mlrun(*arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mlrun", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout + done.stderr


mlrun("project", "./proj", "--run", "main", "--engine", "local", "--watch")
listed = mlrun("get", "runs", "-p", "judge-cli")
assert "job" in listed, listed
assert "completed" in listed, listed
