"""Triggers: HTTP settings, a cron trigger that fires, an asynchronous HTTP trigger, batching.

Pages: docs/serving/graph-ha-cfg, docs/runtimes (triggers), docs/concepts/nuclio-real-time-functions
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlrun
import nuclio
from mlrun.common.schemas import BatchingSpec
from mlrun.runtimes.nuclio.function import AsyncSpec

Path("func.py").write_text("""
import os

def handler(context, event):
    if event.trigger.kind == "cron" or event.path == "/tick":
        with open(os.environ["OUT"], "a") as file:
            print("tick", file=file)
    return {"workers": context.worker_id}
""")
Path("slow.py").write_text("""
import asyncio

inside = most = 0

async def handler(context, event):
    global inside, most
    inside += 1
    most = max(most, inside)
    await asyncio.sleep(0.3)
    inside -= 1
    return str(most)
""")
Path("batched.py").write_text("""
def handler(context, event):
    return [context.Response(body={"of": len(event)}, content_type="application/json", status_code=200)
            for one in event]
""")

project = mlrun.get_or_create_project("doc-triggers", "./")
out = Path("ticks").resolve()
fn = project.set_function("func.py", name="ticker", kind="nuclio", image="mlrun/mlrun")
fn.with_http(workers=2, gateway_timeout=125, worker_timeout=60)
fn.add_trigger("cron", nuclio.CronTrigger(interval="1s"))
fn.set_env("OUT", str(out))
fn.deploy()
deadline = time.monotonic() + 15
while time.monotonic() < deadline and not out.exists():
    time.sleep(0.1)
assert out.read_text().startswith("tick"), out

slow = project.set_function("slow.py", name="slow", kind="nuclio", image="mlrun/mlrun")
slow.with_http(async_spec=AsyncSpec(enabled=True, max_connections=20))
slow.deploy()
with ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(lambda _: slow.invoke("/"), range(8)))
assert max(map(int, answers)) > 1, f"they ran one after another: {answers}"

batched = project.set_function("batched.py", name="batched", kind="nuclio", image="mlrun/mlrun")
batched.with_http(workers=1, batching_spec=BatchingSpec(enabled=True, batch_size=4, timeout="2s"))
batched.deploy()
with ThreadPoolExecutor(4) as pool:
    sizes = [answer["of"] for answer in pool.map(lambda _: batched.invoke("/"), range(4))]
assert max(sizes) > 1, sizes
