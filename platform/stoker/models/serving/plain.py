"""Plain JSON: ``{"inputs": …, "parameters": {…}}``, and raw pictures and sounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson

from stoker.models.serving.asked import (
    Asked,
    Reply,
    Served,
    can_stream,
    event_line,
    json_body,
    json_reply,
)
from stoker.nouns.errors import BadRequest, MethodNotAllowed, StokerError
from stoker.nouns.settings import Task

_MEDIA = {
    "image/": Task.IMAGE_CLASSIFICATION,
    "audio/": Task.AUTOMATIC_SPEECH_RECOGNITION,
}
_KNOWN = ("inputs", "parameters", "stream")
_EXAMPLE = '{"inputs": "…" or ["…", "…"], "parameters": {…}}'


def read(served: Served, event: Any) -> Asked | Reply:
    """See `Language`."""
    if event.method in ("GET", "HEAD"):
        return json_reply(_about(served))
    if event.method not in ("POST", "PUT", "", None):
        raise MethodNotAllowed(f"the model takes POST, was {event.method}")
    content_type = str(event.content_type or "")
    for prefix, task in _MEDIA.items():
        if content_type.startswith(prefix):
            return _raw(served, event, task, content_type)
    document = json_body(event, _EXAMPLE)
    unknown = [name for name in document if name not in _KNOWN]
    if unknown or "inputs" not in document:
        what = f"has {', '.join(map(repr, unknown))}" if unknown else "has no inputs"
        raise BadRequest(f"the body {what}; it must be {_EXAMPLE}")
    return _asked(served, document)


def refusal(error: StokerError) -> Reply:
    """See `Language`: the platform's envelope."""
    return json_reply(error.envelope(), error.status, **error.headers())


def _asked(served: Served, document: dict[str, Any]) -> Asked:
    model, parameters = served.model, document.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise BadRequest(f"parameters must be an object, was a {type(parameters).__name__}")
    inputs = model.inputs_of(document["inputs"])
    several = inputs is not None
    inputs = [document["inputs"]] if inputs is None else inputs

    def reply(results: list[Any]) -> Reply:
        return json_reply(
            {"outputs": results if several else results[0], "model": model.manifest.key}
        )

    stream = document.get("stream", False)
    if not isinstance(stream, bool):
        raise BadRequest(f"stream must be true or false, was {stream!r}")
    if stream and (several or not can_stream(model)):
        raise BadRequest("stream: true needs a model that generates text, and one input")
    if stream and parameters.get("score"):
        raise BadRequest("score is answered whole: leave stream out")
    return Asked(inputs, model.options(parameters), reply, _stream if stream else None)


def _raw(served: Served, event: Any, task: Task, content_type: str) -> Asked:
    model = served.model
    if model.task is not task:
        raise BadRequest(f"a body of {content_type} is for {task}; this model does {model.task}")
    if not isinstance(event.body, bytes) or not event.body:
        raise BadRequest(f"the body is empty; it must be the {content_type} itself")

    def reply(results: list[Any]) -> Reply:
        return json_reply({"outputs": results[0], "model": model.manifest.key})

    options = model.options(dict(getattr(event, "fields", None) or {}))
    return Asked([event.body], options, reply)


async def _stream(_item: Any, pieces: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
    whole = ""
    async for piece in pieces:
        whole += piece.text
        document = {"text": piece.text}
        if piece.finish_reason:
            document |= {
                "finish_reason": piece.finish_reason,
                "generated_text": whole,
                "generated_tokens": piece.tokens,
            }
        yield event_line(document)


def _about(served: Served) -> dict[str, Any]:
    model = served.model
    return {
        "name": served.names[0],
        "task": str(model.task),
        "model": model.manifest.key,
        "quantization": str(model.manifest.quantization),
        "takes": orjson.loads(_example(model.task)),
    }


def _example(task: Task) -> str:
    what = {Task.IMAGE_CLASSIFICATION: "<base64>", Task.AUTOMATIC_SPEECH_RECOGNITION: "<base64>"}
    return f'{{"inputs": "{what.get(task, "<text>")}", "parameters": {{}}}}'
