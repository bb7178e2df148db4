"""What an event asks of the model, and what it is replied."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from stoker.models.tasks.task import TaskModel
from stoker.nouns.errors import BadRequest, StokerError

JSON = "application/json"
EVENTS = "text/event-stream"


class Reply(NamedTuple):
    """One answer. ``body`` is an async generator when it is streamed."""

    status: int
    body: bytes | AsyncIterator[bytes]
    content_type: str = JSON
    headers: dict[str, str] = {}  # noqa: RUF012  # a NamedTuple's default, and never changed


@dataclass(frozen=True, slots=True)
class Asked:
    """Work for the model.

    Attributes:
        inputs: as the client sent them.
        options: of the task, checked.
        reply: from a result for each input to the answer.
        stream: from the pieces of a text to the bytes of a streamed answer; None when the answer
            shall be whole.
    """

    inputs: list[Any]
    options: Any
    reply: Callable[[list[Any]], Reply]
    stream: Callable[[Any, AsyncIterator[Any]], AsyncGenerator[bytes, None]] | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """The model of this function.

    Attributes:
        names: by which it may be called, its own first.
        started: UNIX time.
    """

    model: TaskModel
    names: tuple[str, ...]
    started: int


class Language(Protocol):
    """A protocol that clients speak."""

    def read(self, served: Served, event: Any) -> Asked | Reply:
        """What an event asks, or the answer when that needs no run of the model.

        Raises:
            StokerError: the event is wrong.
        """
        ...

    def refusal(self, error: StokerError) -> Reply:
        """An error in this protocol's own form."""
        ...


def json_reply(document: Any, status: int = 200, **headers: str) -> Reply:
    """An answer of JSON; numpy arrays inside become lists."""
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Reply(status, body, JSON, headers)


def json_body(event: Any, example: str) -> dict[str, Any]:
    """The JSON object that is an event's body, whatever its content type says.

    Raises:
        BadRequest: there is none; ``example`` shows one.
    """
    body = event.body
    if isinstance(body, (bytes, bytearray, str)):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            what = f"is not JSON ({exc})" if body else "is empty"
            raise BadRequest(f"the body {what}; it must be {example}") from exc
    if not isinstance(body, dict):
        raise BadRequest(f"the body must be a JSON object: {example}")
    return body


def can_stream(model: TaskModel) -> bool:
    """Whether the task writes piece by piece."""
    return hasattr(model, "piece")


def event_line(document: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(document) + b"\n\n"
