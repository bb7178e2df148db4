"""A router of mlrun with one model, which answers what it was given."""

import mlrun
from mlrun.serving import V2ModelServer


class EchoModel(V2ModelServer):
    """The least that a model can be."""

    def load(self):
        """There is nothing to load."""
        self.model = "echo"

    def predict(self, request):
        """The inputs are the outputs."""
        return request["inputs"]


def create(project):
    """The serving function of the router."""
    function = mlrun.code_to_function("router", project=project, kind="serving", filename=__file__)
    function.set_topology("router")
    function.add_model("echo", class_name="EchoModel")
    function.spec.min_replicas = function.spec.max_replicas = 1
    return function
