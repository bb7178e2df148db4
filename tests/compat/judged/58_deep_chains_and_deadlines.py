"""Graphs that call graphs: the depth costs little, the deadline ends the whole chain, a cycle by URL too."""

import time
from pathlib import Path

import mlrun
import requests
from mlrun.serving.remote import RemoteStep

DEPTH = 6
Path("steps.py").write_text("""
import asyncio

def count(event):
    return {**event, "depth": event.get("depth", 0) + 1}

async def slow(event):
    await asyncio.sleep(event.get("sleep", 0))
    return event
""")
project = mlrun.get_or_create_project("judge-chain", "./")
fn = project.set_function("steps.py", name="hop-0", kind="serving", image="x")
fn.set_topology("flow", engine="async").to(name="slow", class_name="storey.Map", _fn="slow").to(
    name="count", handler="count"
).respond()
fn.deploy()
for hop in range(1, DEPTH):
    fn = project.set_function("steps.py", name=f"hop-{hop}", kind="serving", image="x")
    graph = fn.set_topology("flow", engine="async")
    graph.to(name="count", handler="count").to(
        RemoteStep(name="next", url=f"judge-chain/hop-{hop - 1}", retries=0, timeout=60)
    ).respond()
    fn.deploy()

url = fn.get_url()
answer = requests.post(url, json={}, timeout=30)
assert answer.json()["depth"] == DEPTH, answer.text
times = []
for _ in range(20):
    started = time.monotonic()
    assert requests.post(url, json={}, timeout=30).ok
    times.append(time.monotonic() - started)
print(f"{DEPTH} graphs deep: {sorted(times)[10] * 1000:.1f} ms")

started = time.monotonic()
late = requests.post(url, json={"sleep": 20}, headers={"X-Request-Timeout": "1"}, timeout=30)
took = time.monotonic() - started
assert late.status_code == 408, (late.status_code, late.text)
assert took < 5, took
after = requests.post(url, json={}, timeout=30)
assert after.json()["depth"] == DEPTH, after.text

# Two functions that call each other by full URL, which no check at deploy can see.
for name in ("ping", "pong"):
    fn = project.set_function("steps.py", name=name, kind="serving", image="x")
    graph = fn.set_topology("flow", engine="async")
    other = url.replace(f"hop-{DEPTH - 1}", "pong" if name == "ping" else "ping")
    graph.to(name="count", handler="count").to(
        RemoteStep(name="next", url=other, retries=0, timeout=60)
    ).respond()
    fn.deploy()
started = time.monotonic()
endless = requests.post(fn.get_url(), json={}, headers={"X-Request-Timeout": "2"}, timeout=60)
assert endless.status_code >= 400, (endless.status_code, endless.text)
assert time.monotonic() - started < 20, "nothing ended it"
assert requests.post(url, json={}, timeout=30).json()["depth"] == DEPTH
