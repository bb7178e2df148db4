"""What rank 0 tells its peers and hears from them: JSON, and tensors as their bytes. No pickle."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    import torch

_SIZES = struct.Struct("!II")
"""Bytes of the JSON, and of the tensors behind it."""
_PLAIN = (bool, int, float, str, type(None))


class Message:
    """One call or answer: a document, and the tensors that it refers to by number."""

    def __init__(self, document: dict[str, Any], tensors: bytearray | None = None) -> None:
        self.document = document
        self.tensors = bytearray() if tensors is None else tensors

    def send(self, sock: socket.socket) -> None:
        """Raises `OSError`: the other end is gone, or has not read for the socket's timeout."""
        text = json.dumps(self.document).encode()
        sock.sendall(_SIZES.pack(len(text), len(self.tensors)) + text)
        if self.tensors:
            sock.sendall(self.tensors)

    @classmethod
    def receive(cls, sock: socket.socket) -> Message | None:
        """The next one; None when the other end is gone.

        Raises:
            TimeoutError: nothing came for the socket's timeout.
        """
        head = _exactly(sock, _SIZES.size)
        if head is None:
            return None
        text_size, tensor_size = _SIZES.unpack(head)
        text, tensors = _exactly(sock, text_size), _exactly(sock, tensor_size)
        if text is None or tensors is None:
            return None
        return cls(json.loads(text), tensors)


def _exactly(sock: socket.socket, size: int) -> bytearray | None:
    buffer = bytearray(size)
    view, got = memoryview(buffer), 0
    while got < size:
        try:
            count = sock.recv_into(view[got:])
        except ConnectionError:
            return None
        if not count:
            return None
        got += count
    return buffer


def encoded(value: Any, tensors: bytearray, number: Callable[[Any], int | None]) -> Any:
    """A call's argument as JSON; tensors are added to ``tensors``.

    Args:
        value: what the model is called with.
        tensors: the bytes so far.
        number: the number of a key-value cache; None for whatever is none.

    Raises:
        UnusableModel: it is nothing that can be sent.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return {"tensor": _written(value, tensors)}
    if isinstance(value, _PLAIN):
        return {"value": value}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [encoded(one, tensors, number) for one in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encoded(one, tensors, number) for key, one in value.items()}}
    cache = number(value)
    if cache is not None:
        return {"cache": cache}
    raise UnusableModel(
        f"this model is called with a {type(value).__name__}, which cannot be sent to the other "
        "processes of STOKER_TENSOR_PARALLEL; the nearest that works is STOKER_DEVICE_MAP=auto"
    )


def decoded(value: Any, tensors: bytearray, device: str, cache: Callable[[int], Any]) -> Any:
    """What `encoded` was given, its tensors on ``device``."""
    ((kind, held),) = value.items()
    if kind == "tensor":
        return _read(held, tensors).to(device)
    if kind == "list":
        return [decoded(one, tensors, device, cache) for one in held]
    if kind == "tuple":
        return tuple(decoded(one, tensors, device, cache) for one in held)
    if kind == "dict":
        return {key: decoded(one, tensors, device, cache) for key, one in held.items()}
    return cache(held) if kind == "cache" else held


def _written(tensor: torch.Tensor, tensors: bytearray) -> dict[str, Any]:
    import torch

    start = len(tensors)
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    tensors += flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "start": start,
    }


def _read(held: dict[str, Any], tensors: bytearray) -> torch.Tensor:
    import torch

    dtype, shape = getattr(torch, held["dtype"]), held["shape"]
    count = 1
    for size in shape:
        count *= size
    if not count:
        return torch.empty(shape, dtype=dtype)
    # A copy: the bytes may stand where no value of this type may.
    size = count * dtype.itemsize
    own = bytearray(tensors[held["start"] : held["start"] + size])
    return torch.frombuffer(own, dtype=dtype).reshape(shape)
