"""A secret is masked however a log line wrote it."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest

from stoker.nouns.errors import InvalidFunction
from stoker.nouns.secrecy import MASK, mask_text, masked, restored, secret_values, url_for_people

PEM = "-----BEGIN KEY-----\nMIIabcdefgh\nshort\n-----END KEY-----\n"


@pytest.mark.parametrize("secret", ['p"ss\\word1', "tab\tulator", "schlüssel", "plain-one", PEM])
def test_a_secret_is_masked_in_every_way_that_a_log_quotes_it(secret: str) -> None:
    lines = [
        f"raw {secret}",
        json.dumps({"message": secret}),
        json.dumps({"message": f"with {secret}"}, ensure_ascii=False),
        orjson.dumps({"message": secret}).decode(),
        json.dumps({"message": f"Failed({secret!r})"}),
        json.dumps({"message": json.dumps({"key": secret})}),
    ]
    for line in lines:
        shown = mask_text(line, {secret})
        assert MASK in shown, line
        for part in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], "MIIabcdefgh"):
            assert part not in shown
        if line.startswith("{"):
            json.loads(shown)


def test_the_lines_of_a_long_secret_are_masked_one_by_one_and_its_short_words_are_not() -> None:
    line = json.dumps({"message": "MIIabcdefgh"})
    assert "MIIabcdefgh" not in mask_text(line, {PEM})
    assert mask_text("a short notice", {PEM}) == "a short notice"


def test_a_short_value_blots_nothing_out() -> None:
    assert mask_text("on and off", {"on"}) == "on and off"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@host:6379/0", "redis://host:6379/0"),
        ("redis://me:hu@nter2@host/0", "redis://host/0"),
        ("unix://:hunter2@/run/redis.sock", "unix:///run/redis.sock"),
        ("unix:///home/a@b/redis.sock", "unix:///home/a@b/redis.sock"),
        ("redis://host?db=1&password=hunter2", f"redis://host?db=1&password={MASK}"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert url_for_people(url) == shown


def function() -> dict[str, Any]:
    return {
        "spec": {
            "env": [{"name": "API_KEY", "value": "hush1"}, {"name": "PLAIN", "value": "seen"}],
            "triggers": {
                "k": {"kind": "kafka-cluster", "attributes": {"sasl": {"password": "hush2"}}},
                "v": {"kind": "v3ioStream", "password": "$generate"},
            },
            "build": {
                "path": "https://h/r.git",
                "codeEntryAttributes": {"branch": "main", "username": "me", "password": "hush3"},
            },
        }
    }


def test_passwords_of_triggers_and_of_the_code_are_masked_as_variables_are() -> None:
    document = function()
    shown = masked(document)
    text = json.dumps(shown)
    assert "hush" not in text
    for kept in ("seen", "$generate", "main", '"me"'):
        assert kept in text
    assert document == function()
    assert set(secret_values(document).values()) == {"hush1", "hush2", "hush3"}


def test_a_masked_document_is_restored_from_the_one_before() -> None:
    assert restored(masked(function()), function()) == function()
    changed = copy.deepcopy(function())
    changed["spec"]["triggers"]["k"]["attributes"]["sasl"]["password"] = "hush4"
    assert restored(changed, function()) == changed


def test_every_mask_that_stands_for_nothing_known_is_named() -> None:
    with pytest.raises(InvalidFunction) as refusal:
        restored(masked(function()))
    assert [field["field"] for field in refusal.value.detail["fields"]] == [
        "spec.env[API_KEY].value",
        "spec.triggers.k.attributes.sasl.password",
        "spec.build.codeEntryAttributes.password",
    ]


@pytest.mark.parametrize(
    ("field", "url", "shown"),
    [
        ("path", "https://me:hush1@h/r.git", f"https://me:{MASK}@h/r.git"),
        ("source", "git://hush1@h/r.git#main", f"git://{MASK}@h/r.git#main"),
    ],
)
def test_a_token_in_the_url_of_the_code_is_masked_and_restored(
    field: str, url: str, shown: str
) -> None:
    document = {"spec": {"build": {field: url}}}
    assert masked(document) == {"spec": {"build": {field: shown}}}
    assert list(secret_values(document).values()) == ["hush1"]
    assert restored(masked(document), document) == document
    with pytest.raises(InvalidFunction, match=f"spec.build.{field}: must be the value"):
        restored(masked(document))
