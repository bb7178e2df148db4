"""A function's declaration: what is accepted, what is kept, what is refused and how."""

from __future__ import annotations

import re
from typing import Any

import pytest

from stoker.nouns.errors import InvalidFunction, NoCapacity
from stoker.nouns.function import FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.near import near_names
from stoker.nouns.quantity import format_bytes, parse_bytes, parse_device_memory, parse_duration


def config(**spec: Any) -> FunctionConfig:
    return FunctionConfig.parse({"metadata": {"name": "f"}, "spec": spec})


def test_what_the_user_sent_is_what_the_user_gets_back() -> None:
    document = {
        "apiVersion": "nuclio.io/v1",
        "metadata": {"name": "f", "labels": {"nuclio.io/project-name": "p"}, "future": {"a": [1]}},
        "spec": {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "nodeSelector": {"zone": "a"},
            "triggers": {"http": {"kind": "http", "maxWorkers": 3, "unknown": True}},
            "build": {"functionSourceCode": "cGFzcw==", "onbuildImage": "x"},
        },
    }
    assert FunctionConfig.parse(document).document() == document


@pytest.mark.parametrize(
    ("spec", "attribute", "value"),
    [
        ({}, "workers", 1),
        ({"triggers": {"h": {"kind": "http", "maxWorkers": 3}}}, "workers", 3),
        ({"triggers": {"h": {"kind": "http", "maxWorkers": 3, "numWorkers": 2}}}, "workers", 2),
        ({}, "http_trigger_name", "default-http"),
        ({"triggers": {"h": {"kind": "http"}}}, "http_trigger_name", "h"),
        ({"resources": {"limits": {"nvidia.com/gpu": "2"}}}, "gpus", 2),
        ({"resources": {"limits": {"memory": "256Mi"}}}, "memory_limit_bytes", 256 * 2**20),
        ({}, "min_replicas", 1),
        ({"minReplicas": 0}, "min_replicas", 0),
        ({"minReplicas": 0}, "max_replicas", 1),
        ({"minReplicas": 2}, "max_replicas", 2),
        ({"eventTimeout": "1m30s"}, "event_timeout_s", 90.0),
        ({}, "max_body_bytes", 4 * 2**20),
        ({"scaleToZero": {"scaleResources": [{"windowSize": "2s"}]}}, "idle_window_s", 2.0),
        (
            {"env": [{"name": "A", "value": 1}, {"name": "B", "value": None}]},
            "env",
            {"A": "1", "B": ""},
        ),
        ({"handler": "my-module"}, "handler", None),
    ],
)
def test_nuclio_spelling_is_read(spec: dict[str, Any], attribute: str, value: Any) -> None:
    read = config(**spec)
    if attribute == "handler":
        assert read.spec.handler == "my-module:handler"
    else:
        assert getattr(read, attribute) == value


@pytest.mark.parametrize(
    ("trigger", "permits"),
    [
        ({}, 1),
        ({"batch": {"mode": "enable", "batchSize": 8}}, 16),
        ({"batch": {"mode": "disable", "batchSize": 8}}, 1),
        ({"mode": "async", "async": {"maxConnectionsNumber": 5}}, 5),
        ({"mode": "async"}, 1000),
    ],
)
def test_permits_follow_the_trigger(trigger: dict[str, Any], permits: int) -> None:
    assert config(triggers={"http": {"kind": "http", **trigger}}).permits == permits


@pytest.mark.parametrize(
    ("document", "field", "text"),
    [
        ({"metadata": {"name": "Bad_Name"}}, "metadata.name", "was 'Bad_Name'"),
        ({"metadata": {"name": "v2"}}, "metadata.name", "reserved"),
        ({"metadata": {}}, "metadata.name", "required"),
        ({"metadata": {"name": "f"}, "spec": {"runtime": "golang"}}, "spec.runtime", "'golang'"),
        (
            {"metadata": {"name": "f"}, "spec": {"eventTimeout": "soon"}},
            "spec.eventTimeout",
            "'soon'",
        ),
        (
            {"metadata": {"name": "f"}, "spec": {"handler": "a b"}},
            "spec.handler",
            "module:function",
        ),
        (
            {"metadata": {"name": "f"}, "spec": {"minReplicas": 3, "maxReplicas": 1}},
            "spec",
            "minReplicas must be <= maxReplicas",
        ),
        (
            {"metadata": {"name": "f"}, "spec": {"resources": {"limits": {"nvidia.com/gpu": "x"}}}},
            "spec.resources.limits",
            "whole number",
        ),
        (
            {
                "metadata": {"name": "f"},
                "spec": {"triggers": {"a": {"kind": "http"}, "b": {"kind": "http"}}},
            },
            "spec",
            "at most one",
        ),
        (
            {
                "metadata": {"name": "f"},
                "spec": {"triggers": {"a": {"batch": {"mode": "enable", "batchSize": 0}}}},
            },
            "spec.triggers.a.batch.batchSize",
            "was 0",
        ),
    ],
)
def test_an_error_names_the_field_what_it_was_and_what_it_must_be(
    document: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(InvalidFunction) as caught:
        FunctionConfig.parse(document)
    fields = {found["field"]: found["message"] for found in caught.value.detail["fields"]}
    assert text.lower() in fields[field].lower()
    assert caught.value.status == 400


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_function_must_be_a_mapping(document: Any) -> None:
    with pytest.raises(InvalidFunction, match="must be a mapping"):
        FunctionConfig.parse(document)


def test_retry_after_is_whole_seconds_and_never_zero() -> None:
    assert NoCapacity("x", retry_after_s=0.02).headers() == {"Retry-After": "1"}
    assert NoCapacity("x", retry_after_s=1.2).headers() == {"Retry-After": "2"}
    assert NoCapacity("x").headers() == {}


@pytest.mark.parametrize("text", ["", "5", "1x", "s", "-1s", "1s 2s", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "big", "-1", "1Xi", "1 2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (2, "2 bytes? did you mean 2GiB?"),
        ("16", "16 bytes? did you mean 16GiB?"),
        ("2048", "2048 bytes? did you mean 2048MiB?"),
        ("2KiB", "at least 1MiB"),
        (0, "at least 1MiB"),
        ("big", "must be a size"),
    ],
)
def test_device_memory_whose_unit_was_forgotten_is_refused(text: str | int, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_device_memory(text)


def test_sizes_read_back() -> None:
    assert format_bytes(parse_bytes("16GiB")) == "16.0 GiB"


def test_a_home_too_deep_for_unix_sockets_is_refused_by_name() -> None:
    with pytest.raises(Exception, match="at most") as caught:
        Home.at("/" + "x" * 100)
    assert "xxx" in str(caught.value)


def test_a_typo_finds_its_neighbours() -> None:
    assert near_names("embeder", ["embedder", "classify"]) == ["embedder"]


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("errs-ok1", ["errs-m1", "errs-m6", "errs-ok"], ["errs-ok"]),
        (
            "projects/shop/ordrs",
            ["projects/shop/inbox", "projects/shop/orders"],
            ["projects/shop/orders"],
        ),
        ("nws-embedder", ["news-embedder"], ["news-embedder"]),
        ("text-embedder", ["news-text-embedder"], ["news-text-embedder"]),
        ("text-classify", ["text-classify-2"], ["text-classify-2"]),
    ],
)
def test_names_are_not_near_because_they_share_a_project(
    name: str, known: list[str], near: list[str]
) -> None:
    assert near_names(name, known) == near


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"env": [{"name": "STOKER_GPU_MEMORY", "value": "lots"}]}, "STOKER_GPU_MEMORY must be"),
        ({"env": [{"name": "STOKER_GPU_MEMORY", "value": "2"}]}, "did you mean 2GiB?"),
        ({"env": [{"name": "STOKER_QUEUE_LIMIT", "value": "0"}]}, "STOKER_QUEUE_LIMIT must be"),
        ({"resources": {"limits": {"nvidia.com/gpu": "²"}}}, "must be a whole number"),
        (
            {"triggers": {"h": {"kind": "http", "attributes": {"maxRequestBodySize": "²"}}}},
            "maxRequestBodySize must be a whole number",
        ),
        (
            {"triggers": {"c": {"kind": "cron", "attributes": {"event": {"headers": ["a"]}}}}},
            "headers a mapping",
        ),
    ],
)
def test_what_the_platform_would_stumble_over_later_is_refused_at_once(
    spec: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidFunction, match=text):
        config(**spec)
