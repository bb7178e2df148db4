"""What handlers return, and what becomes of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import nuclio_sdk
import numpy
import pytest
from pydantic import BaseModel

from stoker.nouns.errors import HandlerFailed
from stoker.worker.answer import chunk_of, encode, from_exception, head_of, match_batch, stream_of


class Point(BaseModel):
    x: int


@dataclasses.dataclass
class Pair:
    a: int


Response = nuclio_sdk.Response


@pytest.mark.parametrize(
    ("output", "status", "kind", "body"),
    [
        ("text", 200, "text/plain", b"text"),
        (b"\x00\xff", 200, "text/plain", b"\x00\xff"),
        (bytearray(b"ab"), 200, "text/plain", b"ab"),
        (None, 200, "text/plain", b""),
        (True, 200, "text/plain", b"True"),
        (2.5, 200, "text/plain", b"2.5"),
        ({"a": 1}, 200, "application/json", b'{"a":1}'),
        ({1: "one"}, 200, "application/json", b'{"1":"one"}'),
        ([{"x": None}], 200, "application/json", b'[{"x":null}]'),
        ((1, 2, 3), 200, "application/json", b"[1,2,3]"),
        ((404, "no"), 404, "text/plain", b"no"),
        ((202, [1]), 202, "application/json", b"[1]"),
        ({"v": numpy.arange(3)}, 200, "application/json", b'{"v":[0,1,2]}'),
        ({"v": numpy.arange(6).reshape(2, 3).T[0]}, 200, "application/json", b'{"v":[0,3]}'),
        ({"v": numpy.float32(0.5)}, 200, "application/json", b'{"v":0.5}'),
        (numpy.ones(2), 200, "application/json", b"[1.0,1.0]"),
        (Point(x=1), 200, "application/json", b'{"x":1}'),
        ([Pair(2)], 200, "application/json", b'[{"a":2}]'),
        (Response(body="x", status_code=201), 201, "text/plain", b"x"),
        (Response(body={"a": 1}, content_type="text/x"), 200, "application/json", b'{"a":1}'),
        (Response(body=[1]), 200, "application/json", b"[1]"),
        (Response(body=[1], content_type="text/x"), 200, "text/x", b"[1]"),
        (Response(body=b"\xff", content_type="image/x"), 200, "image/x", b"\xff"),
        (Response(status_code=numpy.int64(204)), 204, "text/plain", b""),
    ],
)
def test_an_output_is_encoded(output: Any, status: int, kind: str, body: bytes) -> None:
    answer = encode(output)
    assert (answer.status, answer.headers["content-type"], answer.body) == (status, kind, body)
    assert answer.code == ""


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({1, 2}, "returned set"),
        (object(), "returned object"),
        ({"a": {"b": object()}}, "contains object"),
        ([lambda: 0], "contains function"),
        ({"b": b"raw"}, "contains bytes"),
        (("200", "x"), "status of type str"),
        ((True, "x"), "status of type bool"),
        ((99, "x"), "status 99"),
        (Response(status_code=700), "status 700"),
        (Response(headers={"X-A": "1\r\nSet-Cookie: b"}), "line break"),
        (Response(body=object()), "returned object"),
    ],
)
def test_what_cannot_be_sent_is_named(output: Any, says: str) -> None:
    with pytest.raises(HandlerFailed, match=says):
        encode(output)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(HandlerFailed, match="no JSON form"):
        encode(loop)


def test_header_names_become_lower_case_and_values_text() -> None:
    answer = encode(Response(headers={"X-Count": 3, "Content-Type": "text/csv"}))
    assert answer.headers == {"content-type": "text/csv", "x-count": "3"}


def test_an_exception_with_a_response_is_that_response() -> None:
    exc = nuclio_sdk.exceptions.ExceptionWithResponse(409, "taken", "text/x")
    answer = from_exception(exc)
    assert (answer.status, answer.body, answer.code) == (409, b"taken", "")


def test_an_exception_becomes_a_500_that_names_it() -> None:
    answer = from_exception(ValueError("no"))
    assert (answer.status, answer.code) == (500, "handler_failed")
    assert answer.body == b"the handler raised ValueError: no"


def test_a_stream_takes_its_head_from_the_response_or_its_first_item() -> None:
    around = Response(status_code=206, content_type="text/event-stream", headers={"X-A": "b"})
    assert head_of(around, "x") == (206, {"content-type": "text/event-stream", "x-a": "b"})
    assert head_of(None, Response(status_code=201, body="x"))[0] == 201
    assert head_of(None, {"a": 1}) == (200, {"content-type": "application/json"})
    assert chunk_of(Response(body="x")) == b"x"
    assert chunk_of({"a": 1}) == b'{"a":1}'


def test_only_generators_are_streams() -> None:
    generator = (x for x in "ab")
    assert stream_of(generator) == (None, generator)
    response = Response(body=generator)
    assert stream_of(response) == (response, generator)
    assert stream_of(Response(body="x")) is None
    assert stream_of([1]) is None


def test_batch_answers_go_by_id_then_by_position() -> None:
    second = Response(body="2", event_id="b")
    assert match_batch([second, "1", "3"], ["a", "b", "c"]) == ["1", second, "3"]


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        (["1"], "2 events, 1 answers"),
        (Response(body="all"), "must return a list of 2 answers, was nuclio_sdk"),
        ("ab", "was str"),
        ([Response(event_id="x"), "1"], "'x', which is not waiting"),
        ([Response(event_id="a"), Response(event_id="a")], "'a', which is not waiting"),
    ],
)
def test_batch_answers_that_do_not_fit_are_refused(outputs: Any, says: str) -> None:
    with pytest.raises(HandlerFailed, match=says):
        match_batch(outputs, ["a", "b"])


@pytest.mark.parametrize("declared", ["text/plain\r\nx-evil: 1", b"text/plain", 7])
def test_a_content_type_that_would_break_out_of_its_line_is_refused(declared: object) -> None:
    response = nuclio_sdk.Response(body="x", content_type=declared)
    with pytest.raises(HandlerFailed, match="content type"):
        encode(response)
    with pytest.raises(HandlerFailed, match="content type"):
        head_of(response, "x")
