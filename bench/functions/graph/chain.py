"""before ──▶ model ──▶ after: three functions, called by mlrun's remote steps."""

import mlrun
from mlrun.serving.remote import RemoteStep

STEPS = ("before", "model", "after")
IN_FLIGHT = 64


def create(project):
    """The serving function of the graph."""
    function = mlrun.new_function("chain", project=project, kind="serving")
    flow = function.set_topology("flow", engine="async")
    for name in STEPS:
        url = f"{project}/{name}"
        flow = flow.to(RemoteStep(name=name, url=url, method="POST", max_in_flight=IN_FLIGHT))
    flow.respond()
    function.spec.min_replicas = function.spec.max_replicas = 1
    return function
