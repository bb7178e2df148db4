"""GPUs and scale to zero as mlrun declares them; a machine without a card says so at deploy.

Pages: docs/genai/deployment/gpu_utilization, docs/serving/test-deploy-model-server
"""

from pathlib import Path

import mlrun
import requests

Path("func.py").write_text("""
import os

def handler(context, event):
    return {"devices": os.environ.get("CUDA_VISIBLE_DEVICES")}
""")
project = mlrun.get_or_create_project("doc-gpu", "./")

idle = project.set_function("func.py", name="to-zero", kind="nuclio", image="mlrun/mlrun")
idle.spec.min_replicas = 0
idle.spec.max_replicas = 1
idle.with_http(workers=1)
idle.deploy()
assert idle.status.state == "ready", idle.status.state
assert "devices" in idle.invoke("/")

fn = project.set_function("func.py", name="on-a-gpu", kind="nuclio", image="mlrun/mlrun-gpu")
fn.with_limits(gpus=1)
fn.with_http(workers=1)
try:
    fn.deploy()
except Exception as exc:
    state = mlrun.get_run_db().get_function("on-a-gpu", "doc-gpu")
    print("refused:", exc)
else:
    assert requests.post(fn.get_url(), timeout=30).ok
