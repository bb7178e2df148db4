"""Child functions: deployed first, named after their parent, fed by a queue, seen by their own log."""

import os
import time
from pathlib import Path

import mlrun
import requests

os.environ.setdefault("V3IO_ACCESS_KEY", "any")
base = mlrun.mlconf.dbpath.rstrip("/")
host = base.removeprefix("http://")
Path("parent.py").write_text("def prepare(event):\n    return {**event, 'prepared': True}\n")
Path("child.py").write_text("""
import os

class Keep:
    def __init__(self, context=None, name=None):
        self.tries = {}

    def do(self, event):
        number = event["n"]
        self.tries[number] = self.tries.get(number, 0) + 1
        if event.get("flaky") and self.tries[number] == 1:
            raise ValueError("first try")
        with open(os.environ["OUT"], "a") as file:
            print(number, event["prepared"], file=file)
        return event
""")
project = mlrun.get_or_create_project("judge-children", "./")
out = Path("kept").resolve()
fn = project.set_function("parent.py", name="parent", kind="serving", image="x")
graph = fn.set_topology("flow", engine="async")
graph.to(name="prepare", handler="prepare").to(
    "$queue", name="q", path=f"v3io://{host}/judge/children-q"
).to(name="keep", class_name="Keep", function="worker")
child = fn.add_child_function("worker", "./child.py", "x")
child.set_env("OUT", str(out))
fn.deploy()
for n in range(20):
    reply = requests.post(fn.get_url(), json={"n": n}, timeout=20)
    assert reply.ok, reply.text


def kept():
    return (
        sorted(int(line.split()[0]) for line in out.read_text().splitlines())
        if out.exists()
        else []
    )


deadline = time.monotonic() + 30
while time.monotonic() < deadline and len(set(kept())) < 20:
    time.sleep(0.05)
assert set(kept()) == set(range(20)), kept()

functions = requests.get(f"{base}/api/functions", timeout=10).json()
assert "judge-children-parent-worker" in functions, list(functions)
assert (
    functions["judge-children-parent-worker"]["metadata"]["labels"]["mlrun/parent-function"]
    == "parent"
)
