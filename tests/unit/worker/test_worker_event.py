"""Frames to Nuclio events."""

from __future__ import annotations

import copy
import json

import nuclio_sdk
import pytest
from nuclio_sdk.event import TriggerInfo

from stoker.nouns.wire import RequestMeta
from stoker.worker.event import Headers, _canonical, make_event


def event(body: bytes, content_type: str = "", path: str = "/") -> nuclio_sdk.Event:
    meta: RequestMeta = {
        "id": "1",
        "method": "POST",
        "path": path,
        "headers": {"content-type": content_type} if content_type else {},
        "deadline": None,
    }
    return make_event(meta, body, TriggerInfo("http", "default-http"))


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
        (b'{"a": 1}', "text/plain", b'{"a": 1}'),
        (b'{"a": 1}', "", b'{"a": 1}'),
        (b"{broken", "application/json", b"{broken"),
        (b"", "application/json", b""),
        (b"\xff\x00", "application/octet-stream", b"\xff\x00"),
    ],
)
def test_a_body_is_parsed_only_when_it_says_and_is_json(
    body: bytes, content_type: str, expected: object
) -> None:
    assert event(body, content_type).body == expected


def test_an_event_has_every_attribute_of_nuclios() -> None:
    made = event(b"x")
    assert vars(made).keys() == vars(nuclio_sdk.Event()).keys()
    assert json.loads(made.to_json())["trigger"] == {"kind": "http", "name": "default-http"}


def test_the_query_is_in_fields_and_not_in_the_path() -> None:
    made = event(b"", path="/a/b?x=1&y=%20z&x=2")
    assert (made.path, made.fields, made.url) == (
        "/a/b",
        {"x": "2", "y": " z"},
        "/a/b?x=1&y=%20z&x=2",
    )
    assert event(b"", path="?x=1").path == "/"


@pytest.mark.parametrize(("called", "told"), [("/", True), ("/v2/models/m1/infer", False)])
def test_the_path_of_a_callers_event_gives_way_to_the_path_that_it_called(
    called: str, told: bool
) -> None:
    """mlrun's own example calls ``…/models/model1/infer`` for ``…/models/my_model/infer``."""
    made = event(b"", path=called)
    made._lower["mlrun-event-path"] = "/v2/models/my_model/infer"
    assert ("MLRUN-EVENT-PATH" in made.headers) is told


def test_headers_are_canonical_and_found_in_any_case() -> None:
    headers = Headers.of({"content-type": "a", "x-request-id": "b"})
    assert list(headers) == ["Content-Type", "X-Request-Id"]
    assert headers["content-type"] == headers["CONTENT-TYPE"] == headers.get("Content-type") == "a"
    assert "x-request-ID" in headers
    assert headers.get("missing", 3) == 3
    assert "missing" not in headers
    with pytest.raises(KeyError):
        headers["missing"]


def test_header_names_are_not_kept_without_bound() -> None:
    names = canonical_names()
    long = "x-" + "a" * 5000
    assert Headers.of({long: "1"})[long] == "1"
    assert all(len(name) <= 64 for name in names)
    Headers.of({f"x-{number}": "1" for number in range(5000)})
    assert len(names) <= 1024
    assert Headers.of({"x-request-id": "7"})["X-Request-Id"] == "7"


def canonical_names() -> dict[str, str]:
    names = _canonical.__self__
    assert isinstance(names, dict)
    return names


def test_what_is_made_when_read_can_be_set_and_is_copied_with_the_event() -> None:
    made = event(b"", "text/plain", path="/a?x=1")
    copied = copy.copy(made)
    assert vars(copied) == vars(made)
    assert copied.headers["content-type"] == "text/plain"
    made.headers = {"a": "b"}
    made.fields = {}
    assert (made.headers, vars(made)["fields"]) == ({"a": "b"}, {})
    assert copied.fields == {"x": "1"}
    assert not hasattr(made, "nothing_of_the_kind")
