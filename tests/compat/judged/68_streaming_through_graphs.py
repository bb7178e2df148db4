"""A stream passes from a model through a remote step to the client, chunk by chunk; leaving ends it."""

import time
from pathlib import Path

import mlrun
import requests
from mlrun.serving.remote import RemoteStep

Path("source.py").write_text("""
import time

class Words:
    def __init__(self, context=None, name=None):
        pass

    def do(self, event):
        for n in range(event["count"]):
            time.sleep(0.05)
            yield f"word{n} "
""")
project = mlrun.get_or_create_project("judge-stream", "./")
out = Path("ended").resolve()
source = project.set_function("source.py", name="source", kind="serving", image="x")
source.set_topology("flow", engine="async").to(name="words", class_name="Words").respond()
source.set_streaming()
source.deploy()
front = project.set_function(name="front", kind="serving", image="x")
front.set_topology("flow", engine="async").to(
    RemoteStep(name="call", url="judge-stream/source")
).respond()
front.set_streaming()
front.deploy()

for fn in (source, front):
    started = time.monotonic()
    reply = requests.post(fn.get_url(), json={"count": 10}, stream=True, timeout=30)
    assert reply.ok, reply.text
    arrived = [(time.monotonic() - started, chunk) for chunk in reply.iter_content(None) if chunk]
    text = b"".join(chunk for _, chunk in arrived).decode()
    assert text == "".join(f"word{n} " for n in range(10)), (fn.metadata.name, text)
    print(fn.metadata.name, [round(when, 2) for when, _ in arrived])
    if fn is source:
        assert len(arrived) > 3, arrived

# A plain generator is ended when its client leaves. (A step of a graph runs on: mlrun asks it to.)
Path("plain.py").write_text("""
import os
import time

def handler(context, event):
    try:
        for n in range(600):
            time.sleep(0.05)
            yield f"word{n} "
    finally:
        with open(os.environ["OUT"], "a") as file:
            print("ended", file=file)
""")
plain = project.set_function("plain.py", name="plain", kind="nuclio", image="x")
plain.set_env("OUT", str(out))
plain.deploy()
with requests.post(plain.get_url(), stream=True, timeout=30) as reply:
    next(reply.iter_content(None))
deadline = time.monotonic() + 15
while time.monotonic() < deadline and not out.exists():
    time.sleep(0.05)
assert out.exists(), "the client left and the generator went on"
