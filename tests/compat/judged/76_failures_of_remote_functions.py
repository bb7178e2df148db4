"""A remote function's error, timeout and retry reach the graph as mlrun's own step tells them."""

import time
from pathlib import Path

import mlrun
import requests
from mlrun.serving.remote import RemoteStep

Path("target.py").write_text("""
import os
import time
from pathlib import Path

def handler(context, event):
    what = event.body.get("what")
    if what == "raise":
        raise RuntimeError("the target broke")
    if what == "client-error":
        return context.Response(body="bad input", status_code=422, content_type="text/plain")
    if what == "slow":
        time.sleep(3)
    if what == "twice":
        marks = Path(os.environ["MARKS"])
        marks.write_text(marks.read_text() + "x" if marks.exists() else "x")
        if len(marks.read_text()) < 2:
            return context.Response(body="busy", status_code=503, content_type="text/plain")
    return {"fine": True}
""")
Path("steps.py").write_text("""
def caught(event):
    event.body = {"caught": str(event.error)}
    return event
""")
project = mlrun.get_or_create_project("judge-failures", "./")
target = project.set_function("target.py", name="target", kind="nuclio", image="x")
marks = Path("marks").resolve()
target.set_env("MARKS", str(marks))
target.with_http(workers=2)
target.deploy()


def graph(name, handled=False, **kwargs):
    fn = project.set_function("steps.py", name=name, kind="serving", image="x")
    flow = fn.set_topology("flow", engine="async")
    flow.to(RemoteStep(name="call", url="judge-failures/target", **kwargs)).respond()
    if handled:
        flow.error_handler(name="catch", handler="caught", full_event=True)
    fn.deploy()
    return fn.get_url()


url = graph("plain", retries=0, timeout=1)
assert requests.post(url, json={"what": "ok"}, timeout=20).json() == {"fine": True}
for what, words in (("raise", "500"), ("client-error", "422"), ("slow", "")):
    started = time.monotonic()
    reply = requests.post(url, json={"what": what}, timeout=30)
    assert reply.status_code >= 400, (what, reply.status_code, reply.text)
    assert words in reply.text, (what, reply.text)
    assert time.monotonic() - started < 10, what
handled = graph("handled", handled=True, retries=0)
reply = requests.post(handled, json={"what": "client-error"}, timeout=20)
assert "422" in reply.json()["caught"], reply.text
retried = graph("retried", retries=3, backoff_factor=0.1)
reply = requests.post(retried, json={"what": "twice"}, timeout=30)
assert reply.json() == {"fine": True}, reply.text
assert marks.read_text() == "xx", marks.read_text()
