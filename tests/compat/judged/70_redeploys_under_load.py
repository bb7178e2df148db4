"""Clients go on calling a function and a graph while both are redeployed: nobody is turned away."""

import threading
from pathlib import Path

import mlrun
import requests

project = mlrun.get_or_create_project("judge-load", "./")
STEP = """
class Say:
    def do(self, event):
        return {{"version": {number}}}
"""


def deploy(number):
    Path("func.py").write_text(
        f"def handler(context, event):\n    return {{'version': {number}}}\n"
    )
    Path("graph.py").write_text(STEP.format(number=number))
    fn = project.set_function("func.py", name="plain", kind="nuclio", image="x")
    fn.with_http(workers=2)
    fn.deploy()
    graph = project.set_function("graph.py", name="graph", kind="serving", image="x")
    graph.set_topology("flow", engine="async").to(class_name="Say", name="say").respond()
    graph.deploy()
    return fn.get_url(), graph.get_url()


urls = deploy(0)
stop = threading.Event()
seen, wrong = set(), []


def call(url):
    session = requests.Session()
    while not stop.is_set():
        reply = session.post(url, json={}, timeout=30)
        if reply.status_code != 200:
            wrong.append((reply.status_code, reply.text))
        else:
            seen.add((url, reply.json()["version"]))


threads = [threading.Thread(target=call, args=(url,)) for url in urls]
for thread in threads:
    thread.start()
try:
    for number in (1, 2):
        assert deploy(number) == urls
finally:
    stop.set()
    for thread in threads:
        thread.join()
assert not wrong, wrong[:5]
assert {version for _, version in seen} >= {0, 2} or {version for _, version in seen} >= {0, 1}, (
    seen
)
for url in urls:
    assert requests.post(url, json={}, timeout=10).json() == {"version": 2}
