"""What may be written of a request and its answer, by the declared rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stoker.decide.redact import Redactor, Unredactable
from stoker.nouns.exchange import Exchange, Message
from stoker.nouns.recording import RecordingSpec
from stoker.nouns.secrecy import MASK

KEY = b"k" * 32


def redactor(*rules: dict[str, str], key: bytes = KEY, secrets: tuple[str, ...] = ()) -> Redactor:
    spec = RecordingSpec.model_validate(
        {"share": 1, "headers": ["x-tenant", "accept"], "redact": list(rules)}
    )
    return Redactor(spec, key, secrets)


def written(body: Any, *rules: dict[str, str], kind: str = "application/json") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    got = redactor(*rules).message(Message({"content-type": kind}, raw)).body
    return got if isinstance(body, bytes) else json.loads(got)


def exchange(
    path: str = "/", request: bytes = b"", answer: bytes = b"", **headers: str
) -> Exchange:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Exchange(
        time=1.0,
        function="f",
        revision=1,
        via="gateway",
        step="",
        method="POST",
        path=path,
        request=Message(sent, request),
        status=200,
        answer=Message({}, answer),
    )


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("user.email", {"user": {"email": MASK, "id": 7}, "items": [{"card": "1"}, {"card": 2}]}),
        ("$.items[*].card", {"user": {"email": "a@b", "id": 7}, "items": [{"card": MASK}] * 2}),
        (
            "items[1]",
            {"user": {"email": "a@b", "id": 7}, "items": [{"card": "1"}, MASK]},
        ),
        ("user", {"user": MASK, "items": [{"card": "1"}, {"card": 2}]}),
        ("**.card", {"user": {"email": "a@b", "id": 7}, "items": [{"card": MASK}] * 2}),
        ("*.email", {"user": {"email": MASK, "id": 7}, "items": [{"card": "1"}, {"card": 2}]}),
        (
            "absent.email",
            {"user": {"email": "a@b", "id": 7}, "items": [{"card": "1"}, {"card": 2}]},
        ),
    ],
)
def test_a_path_finds_what_it_names_and_nothing_else(path: str, left: Any) -> None:
    body = {"user": {"email": "a@b", "id": 7}, "items": [{"card": "1"}, {"card": 2}]}
    assert written(body, {"path": path}) == left


def test_what_is_dropped_is_gone_and_a_list_closes_up() -> None:
    body = {"rows": [{"a": 1, "b": 2}, {"b": 3}], "texts": ["x", "y"]}
    left = written(
        body, {"path": "rows[*].b", "with": "drop"}, {"path": "texts[0]", "with": "drop"}
    )
    assert left == {"rows": [{"a": 1}, {}], "texts": ["y"]}


def test_equal_values_have_equal_hashes_and_another_key_gives_others() -> None:
    body = {"a": "ann@home", "b": "ann@home", "c": "bob@home", "n": 7}
    rule = {"path": "*", "with": "hash"}
    left = written(body, rule)
    assert left["a"] == left["b"] != left["c"]
    assert "ann" not in left["a"]
    other = redactor(rule, key=b"o" * 32).message(Message({}, json.dumps(body).encode()))
    assert json.loads(other.body)["a"] != left["a"]


def test_what_is_hashed_already_stays_so_that_a_replayed_request_is_answered_alike() -> None:
    rule = {"path": "mail", "with": "hash"}
    once = written({"mail": "ann@home"}, rule)
    assert written(once, rule) == once


@pytest.mark.parametrize(
    "body",
    [
        {"note": "card 4111111111111111 please"},
        {"note": 4111111111111111},
        {"4111111111111111": "the name"},
        {"deep": [[["4111111111111111"]]]},
    ],
)
def test_a_pattern_is_looked_for_in_texts_numbers_and_names(body: Any) -> None:
    assert "4111111111111111" not in json.dumps(written(body, {"pattern": r"\d{16}"}))


def test_a_pattern_is_not_fooled_by_the_spelling_of_json() -> None:
    spelt = b'{"mail": "me\\u0040home"}'
    left = written(spelt, {"pattern": r"\w+@\w+"})
    assert json.loads(left) == {"mail": MASK}


def test_a_pattern_is_not_fooled_by_the_quoting_of_urls_and_forms() -> None:
    rule = {"pattern": r"\w+@\w+"}
    got = redactor(rule).exchange(exchange("/of/me%40home?mail=you%40home&n=1"))
    assert "home" not in got.path
    assert got.path.endswith("&n=1")
    form = written(b"mail=me%40home&n=1", rule, kind="application/x-www-form-urlencoded")
    assert b"home" not in form
    assert form.endswith(b"&n=1")


def test_a_parameter_of_the_query_is_masked_or_dropped() -> None:
    rules = ({"query": "mail"}, {"query": "token", "with": "drop"})
    got = redactor(*rules).exchange(exchange("/find?mail=a&token=b&n=1"))
    assert got.path == "/find?mail=%2A%2A%2A%2A%2A%2A%2A%2A&n=1"
    assert got.altered == ("drop ?token", "mask ?mail")


def test_a_recorded_header_is_hashed_or_dropped() -> None:
    got = redactor({"header": "X-Tenant", "with": "hash"}, {"header": "accept", "with": "drop"})
    left = got.exchange(exchange(x_tenant="acme", accept="text/plain")).request.headers
    assert left.keys() == {"x-tenant"}
    assert left["x-tenant"].startswith("hash:")


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ({"path": "a"}, b"no JSON"),
        ({"path": "a"}, b"data: {}\n\n"),
        ({"path": "a"}, b'{"a": 1, "a": 2}'),
        ({"path": "**.a"}, b"[" * 100 + b"]" * 100),
        ({"pattern": "x"}, b"\xff\xfe"),
        ({"pattern": "x"}, "x".encode("utf-16-le")),
        ({"pattern": "x"}, b'{"x": "x", "x": "y"}'),
        ({"pattern": "x"}, b"[" * 100_000),
    ],
)
def test_what_a_rule_cannot_be_carried_out_on_is_not_written(
    rule: dict[str, str], body: bytes
) -> None:
    with pytest.raises(Unredactable):
        redactor(rule).message(Message({}, body))


def test_what_no_rule_touches_keeps_its_spelling() -> None:
    body = b'{ "a" : 1.50, "b": "\\u00e9" }'
    assert written(body, {"path": "z"}, {"pattern": "zzz"}) == body


def test_the_functions_own_secrets_are_masked_without_any_rule() -> None:
    got = redactor(secrets=("hunter2-long",)).exchange(
        exchange("/?k=hunter2-long", b"\xff hunter2-long", b'{"k": "hunter2-long"}')
    )
    for text in (got.path.encode(), got.request.body, got.answer.body):
        assert b"hunter2" not in text
        assert MASK.encode() in text


def test_it_is_told_apart_whether_the_request_or_its_answer_was_changed() -> None:
    one = redactor({"path": "mail"})
    asked = one.exchange(exchange("/", b'{"mail": "a"}', b'{"n": 1}'))
    assert (asked.altered, asked.answer_altered) == (("mask mail",), ())
    told = one.exchange(exchange("/", b'{"n": 1}', b'{"mail": "a"}'))
    assert (told.altered, told.answer_altered) == ((), ("mask mail",))


def test_a_second_rule_of_the_same_name_is_carried_out_too() -> None:
    got = redactor({"pattern": "secret"}).exchange(exchange("/secret", b'{"a": "secret"}'))
    assert b"secret" not in got.request.body
