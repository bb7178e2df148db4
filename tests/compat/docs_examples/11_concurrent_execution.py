"""Steps that run in an event loop, in a pool of processes and in a pool of threads.

Page: docs/serving/concurrent-processing
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlrun

Path("steps.py").write_text("""
import asyncio
import os
import time

async def preprocess(event, context):
    context.logger.info("preprocessing")
    await asyncio.sleep(0.1)
    return {**event, "main": os.getpid()}

def predict(event):
    return {**event, "predicted": sum(event["inputs"]), "process": os.getpid()}

def postprocess(event, context):
    time.sleep(0.1)
    return {**event, "done": True}
""")

project = mlrun.get_or_create_project("doc-concurrent", "./")
fn = project.set_function("steps.py", name="concurrent", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.to(
    "storey.ConcurrentExecution",
    "preprocess",
    _event_processor="preprocess",
    pass_context=True,
    max_in_flight=8,
).to(
    "storey.ConcurrentExecution",
    "prediction",
    _event_processor="predict",
    concurrency_mechanism="multiprocessing",
    max_in_flight=2,
).to(
    "storey.ConcurrentExecution",
    "postprocess",
    _event_processor="postprocess",
    concurrency_mechanism="threading",
    pass_context=True,
    max_in_flight=8,
).respond()
fn.with_http(workers=1)
fn.deploy()
first = fn.invoke("/", body={"inputs": [1, 2, 3]})
assert first["predicted"] == 6, first
assert first["done"] is True, first
assert first["process"] != first["main"], first

started = time.monotonic()
with ThreadPoolExecutor(4) as pool:
    answers = list(pool.map(lambda n: fn.invoke("/", body={"inputs": [n]}), range(4)))
assert sorted(answer["predicted"] for answer in answers) == [0, 1, 2, 3], answers
print(f"4 events in {time.monotonic() - started:.2f} s")
