"""Classifies texts: three functions, one graph.

    POST {"text": "…"}
         │
         ▼
    ┌────────────┐   ┌─────────────────┐   ┌──────────┐
    │ preprocess │──▶│ embed           │──▶│ classify │──▶ {"predictions": […]}
    │ CPU        │   │ GPU · 2 workers │   │ CPU      │
    │            │   │ int8 · batched  │   │          │
    └────────────┘   └─────────────────┘   └──────────┘

Each step is a function of its own, which scales to zero and back by itself; the graph only passes
requests along. Plain MLRun: it deploys to a real MLRun and Nuclio unchanged.
"""

import mlrun
from mlrun.serving.remote import RemoteStep

STEPS = {"preprocess": "text-preprocess", "embed": "text-embedder", "classify": "text-classify"}
STEP_TIMEOUT_S = 60
CONNECTIONS = 256
IN_FLIGHT = 128
"""Calls that a step has under way at once; MLRun's 8 would keep the embedder's batches small."""


def step(project, name, function):
    """A step that calls a function of the project.

    The header is what finds the function when it is at zero: Nuclio's URL alone does not.
    """
    return RemoteStep(
        name=name,
        url=f"{project}/{function}",
        method="POST",
        headers={"X-Nuclio-Target": f"{project}-{function}"},
        timeout=STEP_TIMEOUT_S,
        max_in_flight=IN_FLIGHT,
        # The platform holds a request while its function wakes: trying again could only repeat it.
        retries=0,
    )


def create(project):
    """The serving function of the graph, for this project."""
    function = mlrun.new_function("text-classification", project=project, kind="serving")
    flow = function.set_topology("flow", engine="async")
    for name, target in STEPS.items():
        flow = flow.to(step(project, name, target))
    flow.respond()
    # One worker holds many requests at once: while the steps work, the graph only waits.
    connections = {"maxConnectionsNumber": CONNECTIONS}
    trigger = {"kind": "http", "numWorkers": 1, "mode": "async", "async": connections}
    function.set_config("spec.triggers.http", trigger)
    window = {"metricName": "processed_events", "windowSize": "60s", "threshold": 0}
    function.set_config("spec.scaleToZero.scaleResources", [window])
    function.spec.description = "Classifies texts: preprocess, embed, classify."
    function.spec.min_replicas = 0
    function.spec.max_replicas = 1
    return function
