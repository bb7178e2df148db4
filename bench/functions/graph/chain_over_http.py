"""The same chain by mlrun's stock step, which calls the functions over HTTP."""

import mlrun
from mlrun.serving.remote import RemoteStep

STEPS = ("before", "model", "after")
IN_FLIGHT = 64


class StockStep(RemoteStep):
    """mlrun's own: a class of the user's stays what it is when it is deployed."""


def create(project):
    """The serving function of the graph."""
    function = mlrun.code_to_function(
        "chain-over-http", project=project, kind="serving", filename=__file__
    )
    flow = function.set_topology("flow", engine="async")
    for name in STEPS:
        step = {"url": f"{project}/{name}", "method": "POST", "max_in_flight": IN_FLIGHT}
        flow = flow.to("StockStep", name=name, **step)
    flow.respond()
    function.spec.min_replicas = function.spec.max_replicas = 1
    return function
