"""What is said between the processes of a split model."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stoker.models.parallel.message import Message, decoded, encoded
from stoker.nouns.errors import UnusableModel

pytestmark = pytest.mark.models


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def carried(value: Any, ends: tuple[socket.socket, socket.socket]) -> Any:
    """What comes out at the other end."""
    tensors = bytearray()
    document = encoded(value, tensors, lambda _: None)
    Message({"sent": document}, tensors).send(ends[0])
    found = Message.receive(ends[1])
    assert found is not None
    return decoded(found.document["sent"], found.tensors, "cpu", lambda number: number)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12).reshape(3, 4),
        torch.tensor([[True, False], [False, True]]),
        torch.tensor(7),
        torch.zeros(0, 3),
        torch.randn(2, 3, dtype=torch.bfloat16),
        torch.arange(12, dtype=torch.int32).reshape(3, 4).T,
    ],
)
def test_a_tensor_arrives_with_its_type_shape_and_values(tensor: torch.Tensor, ends: Any) -> None:
    found = carried([torch.tensor([True]), tensor], ends)[1]
    assert found.dtype is tensor.dtype
    assert found.shape == tensor.shape
    assert torch.equal(found, tensor)


def test_what_stands_beside_tensors_arrives_as_it_was(ends: Any) -> None:
    value = {"use_cache": True, "logits_to_keep": 1, "x": None, "y": [1.5, ("a", "b")], "z": {}}
    assert carried(value, ends) == value


def test_what_cannot_be_told_is_refused_and_never_pickled() -> None:
    with pytest.raises(UnusableModel, match=r"called with a object, which cannot be sent"):
        encoded({"strange": object()}, bytearray(), lambda _: None)


def test_a_cache_is_told_by_its_number(ends: Any) -> None:
    cache = object()
    document = encoded([cache], bytearray(), lambda one: 5 if one is cache else None)
    assert decoded(document, bytearray(), "cpu", lambda number: f"cache {number}") == ["cache 5"]


def test_the_end_of_the_other_process_is_no_message(ends: Any) -> None:
    ends[0].sendall(b"\0\0")
    ends[0].close()
    assert Message.receive(ends[1]) is None
