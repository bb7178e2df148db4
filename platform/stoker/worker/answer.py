"""What a handler may return, and what it becomes on the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import Any, NamedTuple

import nuclio_sdk
import orjson

from stoker.nouns.errors import HandlerFailed
from stoker.nouns.wire import MAX_PAYLOAD

JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain"
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_TEXT = {"content-type": TEXT_TYPE}
_JSON = {"content-type": JSON_TYPE}
_FORBIDDEN = frozenset("\r\n\0")

Chunks = Generator[Any, Any, Any] | AsyncGenerator[Any, Any]


class Answer(NamedTuple):
    """One whole answer. ``code`` is set when it is the worker's own failure."""

    status: int
    headers: dict[str, str]
    body: bytes
    code: str = ""


def failure(status: int, code: str, message: str) -> Answer:
    """An answer that the worker gives in the handler's place."""
    body = message.encode("utf-8", "backslashreplace")
    return Answer(status, _TEXT, body, code)


def from_exception(exc: BaseException) -> Answer:
    """The answer to a request whose handler raised; never raises itself.

    The exception is user code: its text and its response may fail in turn, and a failure here would
    leave the request without an answer and its permit held for ever.
    """
    try:
        return _of_exception(exc)
    except Exception as again:
        raised = f"the handler raised {type(exc).__name__}"
        text = f"{raised}, and showing that raised {type(again).__name__}"
        return failure(500, HandlerFailed.code, text)


def _of_exception(exc: BaseException) -> Answer:
    if isinstance(exc, nuclio_sdk.exceptions.ExceptionWithResponse):
        return encode(
            nuclio_sdk.Response(
                body=exc.body, content_type=exc.content_type, status_code=exc.status_code
            )
        )
    if isinstance(exc, HandlerFailed):
        return failure(500, HandlerFailed.code, exc.message)
    text = str(exc)
    named = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    return failure(500, HandlerFailed.code, f"the handler raised {named}")


def encode(output: Any) -> Answer:
    """What the handler returned (anything but a stream), ready to be sent.

    Text and bytes go out as they are; dicts and lists as JSON (numpy arrays inside become lists);
    ``(status, body)`` sets the status; None is an empty body; numbers become text; a Response
    carries its own status, headers and content type.

    Raises:
        HandlerFailed: it cannot be serialised; the message names the type.
    """
    kind = type(output)
    if kind is str:
        return Answer(200, _TEXT, output.encode("utf-8", "surrogatepass"))
    if kind is dict or kind is list:
        return Answer(200, _JSON, to_json(output))
    if kind is bytes:
        return Answer(200, _TEXT, output)
    if isinstance(output, nuclio_sdk.Response):
        return _from_response(output)
    if kind is tuple and len(output) == 2:
        return _from_pair(output)
    headers, body = _body(output)
    return Answer(200, headers, body)


def _from_pair(pair: tuple[Any, Any]) -> Answer:
    status, output = pair
    headers, body = _body(output)
    return Answer(_status(status), headers, body)


def _from_response(response: nuclio_sdk.Response) -> Answer:
    headers, body = _body(response.body)
    if headers is not _JSON or isinstance(response.body, (list, tuple)):
        # Nuclio forces JSON on dicts; a list that was given a type of its own keeps it.
        declared = response.content_type
        headers = _JSON if headers is _JSON and declared == TEXT_TYPE else _content_type(declared)
    return Answer(_status(response.status_code), with_headers(headers, response.headers), body)


def _content_type(declared: Any) -> dict[str, str]:
    if not isinstance(declared, str) or not _FORBIDDEN.isdisjoint(declared):
        raise HandlerFailed(f"the handler's content type {declared!r} cannot be sent in headers")
    return {"content-type": declared}


def with_headers(base: dict[str, str], more: dict[str, Any] | None) -> dict[str, str]:
    """``base`` and the handler's own headers, names in lower case.

    Raises:
        HandlerFailed: a name or value would break out of its line.
    """
    if not more:
        return base
    merged = dict(base)
    for name, value in more.items():
        text = str(value)
        if not _FORBIDDEN.isdisjoint(text) or not _FORBIDDEN.isdisjoint(str(name)):
            raise HandlerFailed(f"the handler's header {str(name)!r} contains a line break or NUL")
        merged[str(name).lower()] = text
    return merged


def _status(status: Any) -> int:
    if isinstance(status, bool) or not hasattr(status, "__index__"):
        raise HandlerFailed(
            f"the handler returned a status of type {type(status).__name__}; "
            "(status, body) and Response need a whole number"
        )
    number = int(status)
    if not 200 <= number <= 599:
        raise HandlerFailed(f"the handler returned status {number}; it must be from 200 to 599")
    return number


def _body(output: Any) -> tuple[dict[str, str], bytes]:
    if isinstance(output, str):
        return _TEXT, output.encode("utf-8", "surrogatepass")
    if isinstance(output, (bytes, bytearray, memoryview)):
        return _TEXT, bytes(output)
    if isinstance(output, (dict, list, tuple)):
        return _JSON, to_json(output)
    if output is None:
        return _TEXT, b""
    if isinstance(output, (bool, int, float)):
        return _TEXT, str(output).encode()
    if hasattr(output, "model_dump") or hasattr(output, "tolist") or _is_dataclass(output):
        return _JSON, to_json(output)
    raise HandlerFailed(
        f"the handler returned {_named(output)}, which cannot be sent; return str, bytes, dict, "
        "list, (status, body), a Response or a generator"
    )


def _is_dataclass(output: Any) -> bool:
    return hasattr(type(output), "__dataclass_fields__")


def _named(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


class _Unserialisable(TypeError):
    pass


def _plainer(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):
        return value.tolist()
    raise _Unserialisable(_named(value))


def to_json(value: Any) -> bytes:
    """JSON; numpy arrays and tensors inside become lists, pydantic models become objects.

    Raises:
        HandlerFailed: something inside has no JSON form; the message names its type.
    """
    try:
        return orjson.dumps(value, default=_plainer, option=_OPTIONS)
    except orjson.JSONEncodeError as exc:
        if isinstance(exc.__cause__, _Unserialisable):
            raise HandlerFailed(
                f"the handler returned a {type(value).__name__} that contains "
                f"{exc.__cause__}, which has no JSON form"
            ) from exc
        return _slow_json(value)


def _slow_json(value: Any) -> bytes:
    # Integers over 64 bits and lone surrogates: the standard library can, orjson cannot.
    try:
        return json.dumps(value, default=_plainer).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise HandlerFailed(
            f"the handler returned a {type(value).__name__} that has no JSON form: {exc}"
        ) from exc


def stream_of(output: Any) -> tuple[nuclio_sdk.Response | None, Chunks] | None:
    """The Response (if any) and the generator of a streamed answer; None for a whole one."""
    if isinstance(output, (GeneratorType, AsyncGeneratorType)):
        return None, output
    if isinstance(output, nuclio_sdk.Response) and isinstance(
        output.body, (GeneratorType, AsyncGeneratorType)
    ):
        return output, output.body
    return None


def head_of(response: nuclio_sdk.Response | None, first: Any) -> tuple[int, dict[str, str]]:
    """Status and headers of a stream: the Response around it, else its first item's.

    Raises:
        HandlerFailed: the first item cannot be sent.
    """
    if response is not None:
        base = _content_type(response.content_type)
        return _status(response.status_code), with_headers(base, response.headers)
    answer = encode(first)
    return answer.status, answer.headers


def chunk_of(item: Any) -> bytes:
    """The bytes of one item of a stream.

    Raises:
        HandlerFailed: it cannot be sent.
    """
    if isinstance(item, nuclio_sdk.Response):
        item = item.body
    data = _body(item)[1]
    if len(data) > MAX_PAYLOAD:
        raise HandlerFailed(f"the handler yielded {len(data)} bytes at once, which is too large")
    return data


def distinct(ids: list[str]) -> list[str]:
    """``ids`` with repeats told apart: they are the clients' own, so two may be equal.

    >>> distinct(["a", "b", "a", "a#2"])
    ['a', 'b', 'a#3', 'a#2']
    """
    taken = set(ids)
    if len(taken) == len(ids):
        return ids
    seen: set[str] = set()
    told = []
    for id_ in ids:
        own, count = id_, 2
        while own in seen or (own != id_ and own in taken):
            own, count = f"{id_}#{count}", count + 1
        seen.add(own)
        told.append(own)
    return told


def match_batch(outputs: Any, ids: list[str]) -> list[Any]:
    """The output of each event of a batch, in the order of ``ids``.

    A Response that carries an event's id belongs to that event; the rest go by position among the
    events that no id claimed.

    Raises:
        HandlerFailed: not a list, or of another length, or an id that is not in the batch.
    """
    if not isinstance(outputs, (list, tuple)):
        raise HandlerFailed(
            f"a batch handler must return a list of {len(ids)} answers, was {_named(outputs)}"
        )
    if len(outputs) != len(ids):
        raise HandlerFailed(
            f"a batch handler must return one answer per event: {len(ids)} events, "
            f"{len(outputs)} answers"
        )
    claimed, rest = _claims(outputs, ids)
    remaining = iter(rest)
    return [claimed[id_] if id_ in claimed else next(remaining) for id_ in ids]


def _claims(
    outputs: list[Any] | tuple[Any, ...], ids: list[str]
) -> tuple[dict[str, Any], list[Any]]:
    known, claimed, rest = set(ids), {}, []
    for output in outputs:
        id_ = getattr(output, "event_id", None) if isinstance(output, nuclio_sdk.Response) else None
        if not id_:
            rest.append(output)
        elif id_ not in known or id_ in claimed:
            raise HandlerFailed(f"a batch handler answered event id {id_!r}, which is not waiting")
        else:
            claimed[id_] = output
    return claimed, rest
