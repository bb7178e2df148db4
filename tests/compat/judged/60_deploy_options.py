"""Tags, ``wait=False``, environment, dotted config, replicas, labels, requirements: as MLRun's server compiles them."""

import base64
import hashlib
import zipfile
from pathlib import Path

import mlrun
import requests

base = mlrun.mlconf.dbpath.rstrip("/")
Path("func.py").write_text("""
import os

def handler(context, event):
    try:
        import tiny_judged_package
        version = tiny_judged_package.VERSION
    except ImportError:
        version = None
    return {"env": os.environ.get("MODE"), "project": os.environ.get("MLRUN_ACTIVE_PROJECT"),
            "db": os.environ.get("MLRUN_DBPATH"), "tiny": version}
""")
project = mlrun.get_or_create_project("judge-options", "./")

fn = project.set_function("func.py", name="opts", kind="nuclio", image="x", tag="v1")
fn.set_env("MODE", "fast")
fn.set_config("spec.eventTimeout", "33s")
fn.set_config("metadata.annotations.note", "kept")
fn.with_http(workers=3)
fn.spec.min_replicas, fn.spec.max_replicas = 1, 4
fn.with_limits(mem="1Gi", cpu=1)
fn.metadata.labels["team"] = "a"
submitted = fn.deploy(tag="v1", wait=False)
assert submitted is fn, submitted
command = fn.wait_for_deployment(timeout=60)
assert command.startswith("http://"), command
assert "judge-options-opts-v1" in command, command
answer = fn.invoke("/")
assert answer["env"] == "fast", answer
assert answer["project"] == "judge-options", answer
assert answer["db"] == base, answer

nuclio = requests.get(f"{base}/api/functions/judge-options-opts-v1", timeout=10).json()
spec = nuclio["spec"]
assert spec["eventTimeout"] == "33s", spec
assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4), spec
trigger = next(trigger for trigger in spec["triggers"].values() if trigger["kind"] == "http")
assert trigger.get("numWorkers", trigger.get("maxWorkers")) == 3, trigger
assert spec["resources"]["limits"]["memory"] == "1Gi", spec["resources"]
labels = nuclio["metadata"]["labels"]
assert labels["team"] == "a", labels
assert labels["nuclio.io/project-name"] == "judge-options", labels
assert labels["mlrun/class"] in ("remote", "nuclio"), labels

latest = project.set_function("func.py", name="opts", kind="nuclio", image="x")
project.deploy_function(latest, env={"MODE": "slow"}, verbose=True)
assert latest.invoke("/")["env"] == "slow"
assert fn.invoke("/")["env"] == "fast"  # the tag v1 is a function of its own

wheel = Path("tiny_judged_package-1.0-py3-none-any.whl")
files = {
    "tiny_judged_package.py": "VERSION = '1.0'\n",
    "tiny_judged_package-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-judged-package\nVersion: 1.0\n",
    "tiny_judged_package-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
record = "tiny_judged_package-1.0.dist-info/RECORD"
lines = [
    f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
    for name, text in files.items()
]
with zipfile.ZipFile(wheel, "w") as archive:
    for name, text in {**files, record: "\n".join([*lines, f"{record},,"]) + "\n"}.items():
        archive.writestr(name, text)
needy = project.set_function(
    "func.py", name="needy", kind="nuclio", image="x", requirements=[str(wheel.resolve())]
)
needy.deploy()
assert needy.invoke("/")["tiny"] == "1.0", needy.invoke("/")
