"""JSON of the catalog: what Python's json writes comes in, what every reader takes goes out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from stoker.store.catalog import Catalog, json_text


def large(value: Any) -> bytes:
    filler = "x" * json_text.LARGE_BYTES
    return json.dumps({"filler": filler, "value": value}).encode()


VALUES = [
    *(2**70, -(2**70), 2**63, -(2**63) - 1, 0.1, "", [], {}, None, True, "\ud800", "é\n"),
    {"a": [{"b": {"c": {"d": [1, {"e": "f"}]}}}, [[[[[[2**65]]]]]]]},
    {"": {"same": 1}, "same": 2},
]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_what_python_writes_is_read_whole_in_texts_of_any_size(value: Any) -> None:
    assert json_text.parsed(json.dumps(value).encode()) == value
    assert json_text.parsed(large(value))["value"] == value
    assert json_text.parsed(json.dumps(value, indent=3).encode()) == value


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert json_text.parsed(json_text.written(value)) == value
    assert json.loads(json_text.written(value, ordered=True)) == value


def test_what_is_no_number_is_read_as_it_is_and_written_as_null() -> None:
    for text in (
        b"[NaN, Infinity, -Infinity]",
        b"[NaN, Infinity, -Infinity" + b" " * 300_000 + b"]",
    ):
        found = json_text.parsed(text)
        assert math.isnan(found[0])
        assert found[1:] == [math.inf, -math.inf]
    assert json_text.written({"a": math.nan, "b": [math.inf]}) == b'{"a":null,"b":[null]}'
    assert json_text.written({"a": math.nan, "b": 2**70}) == b'{"a":null,"b":%d}' % 2**70


@pytest.mark.parametrize("text", [b"", b"{", b'{"a" 1}', b"[1,]", b"1 2", b"\xff", b"[" * 5000])
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is json's own
        json_text.parsed(text)
    with pytest.raises(ValueError):  # noqa: PT011 - the message is json's own
        json_text.parsed(text + b" " * json_text.LARGE_BYTES)


def test_a_value_that_json_cannot_say_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        json_text.written({"a": object()})


async def test_storing_a_function_leaves_the_callers_object_alone(tmp_path: Path) -> None:
    catalog = await Catalog.open(tmp_path / "catalog.sqlite")
    function = {"kind": "job", "metadata": {"labels": {"a": "b"}}, "spec": {"n": 2**70}}
    before = json.dumps(function)
    key = await catalog.functions.store("p", "f", function, versioned=(True, False))
    assert json.dumps(function) == before
    stored = await catalog.functions.get("p", "f")
    assert stored is not None
    assert stored["metadata"]["hash"] == key
    assert stored["spec"] == {"n": 2**70}
    await catalog.close()


async def test_a_large_function_is_copied_hashed_and_written_in_the_catalogs_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from stoker.store.catalog import functions

    catalog = await Catalog.open(tmp_path / "catalog.sqlite")
    threads = []
    real = functions.function_hash

    def watched(function: dict[str, Any]) -> str:
        threads.append(threading.current_thread())
        return real(function)

    monkeypatch.setattr(functions, "function_hash", watched)
    await catalog.functions.store("p", "f", {"kind": "job"})
    await catalog.close()
    assert threads
    assert threading.main_thread() not in threads
