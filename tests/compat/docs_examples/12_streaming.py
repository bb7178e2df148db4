"""A step that yields, behind ``set_streaming()``: the chunks arrive one by one over HTTP.

Page: docs/serving/getting-started (streaming serving function, 1.11 and later)
"""

import time
from pathlib import Path

import mlrun
import requests

Path("streaming_step.py").write_text("""
import asyncio

class StreamingStep:
    def __init__(self, context=None, name=None, num_chunks=5):
        self.context = context
        self.name = name
        self.num_chunks = num_chunks

    async def do(self, event):
        if isinstance(event, bytes):
            event = event.decode("utf-8")
        for i in range(self.num_chunks):
            await asyncio.sleep(0.1)
            yield f"chunk {i}: processed '{event}'\\n"
""")

project = mlrun.get_or_create_project("doc-streaming", context="./")
fn = mlrun.code_to_function(
    name="streaming-fn",
    kind="serving",
    filename="streaming_step.py",
    project=project.name,
    image="mlrun/mlrun",
)
graph = fn.set_topology("flow", engine="async")
graph.to(name="streamer", class_name="StreamingStep").respond()
fn.set_streaming(enabled=True)
fn.deploy()

started = time.monotonic()
reply = requests.post(fn.get_url(), data="hello", stream=True, timeout=20)
reply.raise_for_status()
assert reply.headers.get("Transfer-Encoding") == "chunked", reply.headers
arrived = [(time.monotonic() - started, chunk) for chunk in reply.iter_content(None) if chunk]
text = b"".join(chunk for _, chunk in arrived).decode()
assert text == "".join(f"chunk {i}: processed 'hello'\n" for i in range(5)), text
assert len(arrived) > 1, arrived
assert arrived[0][0] < arrived[-1][0], arrived
