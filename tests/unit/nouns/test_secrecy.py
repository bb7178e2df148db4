"""A secret is masked however a log line wrote it."""

from __future__ import annotations

import json

import orjson
import pytest

from stoker.nouns.secrecy import MASK, mask_text, url_for_people

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
