"""What a function may declare about the recording of its traffic."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.nouns.errors import InvalidFunction
from stoker.nouns.exchange import Exchange, Message
from stoker.nouns.function import FunctionConfig
from stoker.nouns.recording import RecordingSpec
from stoker.nouns.rollout import canary_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "traffic.md"


def recording(value: str) -> RecordingSpec | None:
    env = [{"name": "STOKER_RECORD", "value": value}]
    config = FunctionConfig.parse({"metadata": {"name": "f"}, "spec": {"env": env}})
    return RecordingSpec.of(config.env)


def test_nothing_is_recorded_unless_it_is_declared() -> None:
    assert RecordingSpec.of({}) is None
    assert [recording(off) for off in ("", "0", "off", "False")] == [None] * 4


def test_the_short_form_and_json_say_the_same() -> None:
    short = recording("share=0.5,max=64MiB,body=1MiB,keep=2d,header=Accept,mask=a.b,drop=c")
    full = recording(
        '{"share": 0.5, "max": "64MiB", "body": "1MiB", "keep": "48h", "headers": ["accept"],'
        ' "redact": [{"path": "a.b", "with": "mask"}, {"path": "c", "with": "drop"}]}'
    )
    assert short == full
    assert short is not None
    assert (short.max_bytes, short.keep_s) == (64 * 1024**2, 2 * 86400)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("share=0", "share"),
        ("share=1.5", "share"),
        ("max=1MiB", "share"),
        ("share=1,max=lots", "size"),
        ("share=1,keep=soon", "duration"),
        ("share=1,shrae=1", "shrae=1"),
        ("share=1,share=1", "twice"),
        ("share=1,max=64KiB", "at least 4 times body"),
        ("share=1,header=Authorization", "never recorded"),
        ("share=1,header=X-Session-Token", "never recorded"),
        ("share=1,header=Cookie", "never recorded"),
        ('{"share": 1, "redact": [{"pattern": "("}]}', "regular expression"),
        ('{"share": 1, "redact": [{"path": "a", "query": "b"}]}', "exactly one"),
        ('{"share": 1, "redact": [{"path": "a..b"}]}', "items"),
        ('{"share": 1, "redact": [{"path": "a", "with": "burn"}]}', "burn"),
        ('{"share": 1', "JSON"),
        ("yes", "share="),
    ],
)
def test_a_wrong_declaration_is_refused_at_the_deploy(value: str, words: str) -> None:
    with pytest.raises(InvalidFunction, match="STOKER_RECORD") as refused:
        recording(value)
    assert words in refused.value.message


@pytest.mark.parametrize("body", [b"", b'{"a": "\xc3\xa9"}', b"\xff\x00binary"])
def test_a_line_gives_back_what_was_written(body: bytes) -> None:
    one = Exchange(
        time=1700000000.25,
        function="f",
        revision=3,
        via="graph",
        step="flow/embed",
        method="POST",
        path="/a?b=c",
        request=Message({"content-type": "application/json"}, body),
        status=207,
        answer=Message({}, body[::-1]),
        seconds=0.5,
        altered=("mask a",),
    )
    assert Exchange.of_line(one.line()) == one
    assert one.line().count(b"\n") == 1


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"7", b'{"time": 1, "request": {}}', b"{"])
def test_a_line_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own, and ours
        Exchange.of_line(line)


def test_the_declaration_can_be_kept_and_read_back() -> None:
    spec: Any = RecordingSpec.read("share=0.25,mask=a,keep=1h")
    assert RecordingSpec.model_validate(spec.document()) == spec


def blocks(language: str) -> list[str]:
    """The page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_pages_examples_are_what_is_read() -> None:
    recorded, mirrored = map(yaml.safe_load, blocks("yaml"))
    (variable,) = recorded["spec"]["env"]
    spec = RecordingSpec.of({variable["name"]: variable["value"]})
    assert spec is not None
    assert (spec.share, spec.keep_s) == (0.1, 7 * 86400)
    canary = canary_of(mirrored["metadata"]["annotations"])
    assert canary is not None
    assert (canary.mirror, canary.tolerance, canary.ignore) == (0.2, 0.02, ("model",))
    (line,) = blocks("json")
    exchange = Exchange.of_line(line.encode())
    assert (exchange.via, exchange.step) == ("graph", "news-flow/embed")


@pytest.mark.parametrize(
    "entry", re.findall(r"^\|.*?\| `(\"redact\":.*?)` \|", PAGE.read_text(), re.M)
)
def test_the_pages_rules_are_what_is_read(entry: str) -> None:
    spec = RecordingSpec.read(f'{{"share": 1, "headers": ["x-tenant"], {entry}}}')
    assert spec.redact
