"""Two functions and a stream between them: paragraphs are split in one, read in the other.

Pages: docs/serving/distributed-graph, docs/serving/use-cases, docs/serving/remote-execution (V3IO stream)
"""

import json
import os
import time
from pathlib import Path

import mlrun
import requests

os.environ.setdefault("V3IO_API", os.environ["MLRUN_DBPATH"])
os.environ.setdefault("V3IO_ACCESS_KEY", "any")
mlrun.mlconf.v3io_api = os.environ["V3IO_API"]

Path("data_prep.py").write_text("""
import json

def load_url(event):
    with open(event["url"]) as file:
        return {"url": event["url"], "doc": json.load(file)}

def to_paragraphs(event):
    return [{"url": event["url"], "paragraph_id": n, "paragraph": text}
            for n, text in enumerate(event["doc"])]
""")
Path("nlp.py").write_text("""
import os

class ApplyNLP:
    def __init__(self, context=None, word="Queens"):
        self.word = word

    def do(self, paragraph):
        return {**paragraph, "found": paragraph["paragraph"].count(self.word)}

def enrich_entities(event):
    return {**event, "function": os.environ["SERVING_CURRENT_FUNCTION"]}

def keep(event):
    with open(os.environ["OUT"], "a") as file:
        print(event["paragraph_id"], event["found"], event["function"], file=file)
    return event
""")
Path("in.json").write_text(json.dumps(["Born in Queens, raised in Queens.", "Not there."]))
out = Path("found").resolve()

prefix = "v3io:///projects/doc-distributed"
project = mlrun.get_or_create_project("doc-distributed", "./")
fn = project.set_function("data_prep.py", name="multi-func", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.to(name="load_url", handler="load_url").to(name="to_paragraphs", handler="to_paragraphs").to(
    "storey.FlatMap", "flatten_paragraphs", _fn="(event)"
).to(">>", "q1", path=f"{prefix}/internal").to(
    name="nlp", class_name="ApplyNLP", function="enrich"
).to(name="enrich_entities", handler="enrich_entities", function="enrich").to(
    name="keep", handler="keep", function="enrich"
).to(">>", "output_stream", path=f"{prefix}/out")
child = fn.add_child_function("enrich", "./nlp.py", "mlrun/mlrun")
child.set_env("OUT", str(out))
fn.deploy()

for _ in range(3):
    reply = requests.post(fn.get_url(), json={"url": str(Path("in.json").resolve())}, timeout=20)
    assert reply.ok, reply.text
deadline = time.monotonic() + 30
while time.monotonic() < deadline and not (out.exists() and len(out.read_text().splitlines()) >= 6):
    time.sleep(0.05)
lines = sorted(out.read_text().splitlines())
assert lines == ["0 2 enrich"] * 3 + ["1 0 enrich"] * 3, lines

names = {
    f["metadata"]["name"]: f for f in mlrun.get_run_db().list_functions(project="doc-distributed")
}
assert set(names) == {"multi-func", "multi-func-enrich"}, set(names)
assert names["multi-func-enrich"]["metadata"]["labels"]["mlrun/parent-function"] == "multi-func"
