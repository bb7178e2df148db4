"""Classifies texts in the background: a queue lies between who asks and who works.

    POST {"text": "…"}
         │
         ▼
    ┌────────┐   ╔═══════╗   ┌───────────────────────────┐   ╔═════════╗
    │ accept │──▶║ inbox ║──▶│ classify ──▶ result       │──▶║ results ║──▶ {"id": "…",
    └────┬───┘   ╚═══════╝   │ child function `worker`   │   ╚═════════╝     "label": "…", …}
         ▼        stream     │ calls text-classification │     stream
    ┌─────────┐              └───────────────────────────┘
    │ receipt │──▶ {"id": "…"} at once
    └─────────┘

Nobody waits for the model: the worker reads the queue at its own pace, says of each text when it
is done with it, and gets it again if it did not say so. The streams are v3io's, which Stoker and
Iguazio have; with ``QUEUES=kafka://broker:9092`` in the environment they are topics of Kafka. Plain
MLRun: it deploys to a real MLRun and Nuclio unchanged.
"""

import os
from urllib.parse import urlsplit

import mlrun
from mlrun.serving.remote import RemoteStep

GRAPH = "text-classification"
MOST_CHARACTERS = 100_000
STEP_TIMEOUT_S = 60
IN_FLIGHT = 8
CONNECTIONS = 256


def accept(body):
    """Refuses with 400 what nobody could classify: later, there is nobody left to tell."""
    text = body.get("text") if isinstance(body, dict) else None
    if not isinstance(text, str) or not 0 < len(text.strip()) <= MOST_CHARACTERS:
        raise ValueError('the body must be JSON: {"text": "..."}')
    return {"text": text}


def receipt(event):
    """The id under which the result will be found."""
    event.body = {"id": event.id}
    return event


def result(event):
    """What is told of one text, under the id that its sender was answered with."""
    (prediction,) = event.body["predictions"]
    score = prediction["scores"][prediction["label"]]
    event.body = {"id": event.id, "label": prediction["label"], "score": score}
    return event


def stream(project, name):
    """Where a queue lies, as the arguments of its step."""
    queues = os.environ.get("QUEUES", "")
    if queues.startswith("kafka://"):
        return {"path": f"{queues}?topic={project}-{name}"}
    if os.environ.get("V3IO_API"):  # as in Iguazio's notebooks
        return {"path": f"v3io:///projects/{project}/queues/{name}", "shards": 1}
    # Stoker's own port: it asks for no key, but v3io's client does not start without one.
    path = f"v3io://{urlsplit(mlrun.mlconf.dbpath or '').netloc}/projects/{project}/queues/{name}"
    return {"path": path, "shards": 1, "access_key": os.environ.get("V3IO_ACCESS_KEY", "none")}


def create(project):
    """The serving function of the graph, for this project; it brings its worker along."""
    function = mlrun.code_to_function(
        "queue-classification", project=project, kind="serving", filename=__file__
    )
    graph = function.set_topology("flow", engine="async")
    classify = RemoteStep(
        name="classify",
        url=f"{project}/{GRAPH}",
        method="POST",
        headers={"X-Nuclio-Target": f"{project}-{GRAPH}"},
        timeout=STEP_TIMEOUT_S,
        max_in_flight=IN_FLIGHT,
        # What fails is given to the worker again by its queue, and in the end put aside.
        retries=0,
    )
    accept = graph.to(name="accept", handler="accept")
    inbox = accept.to("$queue", "inbox", **stream(project, "inbox"))
    done = inbox.to(classify, function="worker").to(
        name="result", handler="result", full_event=True, function="worker"
    )
    done.to("$queue", "results", **stream(project, "results"))
    accept.to(name="receipt", handler="receipt", full_event=True).respond()
    function.add_child_function("worker", __file__, image="mlrun/mlrun")
    # One worker holds many requests at once: it only hands them on.
    connections = {"maxConnectionsNumber": CONNECTIONS}
    trigger = {"kind": "http", "numWorkers": 1, "mode": "async", "async": connections}
    function.set_config("spec.triggers.http", trigger)
    function.spec.description = "Classifies texts in the background, by way of a queue."
    function.spec.min_replicas = 0
    function.spec.max_replicas = 1
    return function
