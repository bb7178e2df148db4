"""The Open Inference Protocol, version 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stoker.models.oip.decode import LENGTH_HEADER, InferRequest, read_request
from stoker.models.oip.encode import check_outputs, response
from stoker.models.oip.routes import VERSION, Ask, route
from stoker.models.serving.asked import Asked, Reply, Served, json_reply
from stoker.nouns import version
from stoker.nouns.errors import BadRequest, NotFound, StokerError


def read(served: Served, event: Any) -> Asked | Reply:
    """See `Language`."""
    asked = route(event.method, event.path.partition("?")[0])
    if asked.model and asked.model not in served.names:
        raise NotFound(f"there is no model {asked.model!r} here; there is {served.names[0]!r}")
    if asked.ask is Ask.INFER:
        return _infer(served, event, asked.model)
    return json_reply(_ABOUT[asked.ask](served, asked.model))


def refusal(error: StokerError) -> Reply:
    """See `Language`: the protocol knows a message only."""
    return json_reply({"error": error.message}, error.status, **error.headers())


def _infer(served: Served, event: Any, name: str) -> Asked:
    model = served.model
    request: InferRequest = read_request(event.body, _header(event))
    check_outputs(request, model.output_specs)
    options = model.options(request.parameters, tensors=True)
    inputs = model.inputs_from(request.inputs)
    if not inputs:
        raise BadRequest("the input tensors are empty")

    def reply(results: list[Any]) -> Reply:
        encoded = response(request, model.tensors_from(results), model=name, version=VERSION)
        return Reply(200, encoded.body, encoded.content_type, encoded.headers)

    return Asked(inputs, options, reply)


def _header(event: Any) -> str | None:
    """The length of the JSON, whatever case the server gives header names in."""
    for name, value in (event.headers or {}).items():
        if str(name).lower() == LENGTH_HEADER.lower():
            return str(value)
    return None


def _server(_served: Served, _name: str) -> dict[str, Any]:
    return {
        "name": "stoker",
        "version": version.VERSION,
        "extensions": ["binary_tensor_data"],
    }


def _metadata(served: Served, name: str) -> dict[str, Any]:
    model = served.model
    return {
        "name": name,
        "versions": [VERSION],
        "platform": model.manifest.backend,
        "inputs": [spec.document() for spec in model.input_specs],
        "outputs": [spec.document() for spec in model.output_specs],
    }


_ABOUT: dict[Ask, Callable[[Served, str], dict[str, Any]]] = {
    Ask.SERVER: _server,
    Ask.LIVE: lambda _served, _name: {"live": True},
    Ask.READY: lambda _served, _name: {"ready": True},
    Ask.MODEL: _metadata,
    Ask.MODEL_READY: lambda _served, name: {"name": name, "ready": True},
}
"""That this worker can answer is that its model is loaded."""
