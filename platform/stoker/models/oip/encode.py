"""An inference response: JSON, with the binary tensors behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from stoker.models.oip.decode import LENGTH_HEADER, InferRequest
from stoker.models.oip.tensor import Tensor, TensorSpec, to_raw
from stoker.nouns.errors import BadRequest

_RAW_TYPE = "application/octet-stream"
_JSON_TYPE = "application/json"


class Encoded(NamedTuple):
    """A body and what its headers say of it."""

    body: bytes
    content_type: str
    headers: dict[str, str]


def check_outputs(request: InferRequest, specs: Sequence[TensorSpec]) -> None:
    """Whether the model has the outputs that a request wants.

    Raises:
        BadRequest: it has not.
    """
    known = [spec.name for spec in specs]
    for name in request.outputs:
        if name not in known:
            raise BadRequest(f"there is no output {name!r}; there are {', '.join(known)}")


def _wanted(request: InferRequest, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The outputs that a request wants, in its order."""
    if not request.outputs:
        return list(tensors)
    known = {tensor.name: tensor for tensor in tensors}
    return [known[name] for name in request.outputs]


def response(
    request: InferRequest, tensors: Sequence[Tensor], *, model: str, version: str
) -> Encoded:
    """The answer to a request."""
    described, tail = [], []
    for tensor in _wanted(request, tensors):
        one: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        if request.outputs.get(tensor.name, request.binary):
            tail.append(to_raw(tensor))
            one["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            one["data"] = _plain(tensor)
        described.append(one)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id:
        document["id"] = request.id
    head = orjson.dumps(document | {"outputs": described})
    if not tail:
        return Encoded(head, _JSON_TYPE, {})
    return Encoded(b"".join([head, *tail]), _RAW_TYPE, {LENGTH_HEADER: str(len(head))})


def _plain(tensor: Tensor) -> list[Any]:
    """Row-major values. NaN and infinities, which JSON has not, become null."""
    flat = tensor.values.ravel()
    if tensor.datatype == "BYTES":
        return [item.decode("utf-8", "replace") for item in flat]
    values: list[Any] = flat.tolist()
    return values
