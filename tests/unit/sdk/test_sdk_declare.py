"""`stoker.gpu` on a Nuclio config, and on everything else that quacks like a client's object."""

from __future__ import annotations

import copy
import doctest
import inspect
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import stoker
from stoker.nouns.errors import InvalidFunction
from stoker.nouns.function import FunctionConfig
from stoker.sdk import declare, dotted
from stoker.sdk.arguments import READERS


def config(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "embedder"}, "spec": spec}


def read(document: dict[str, Any]) -> FunctionConfig:
    return FunctionConfig.parse(document)


def refusal(function: Any, **arguments: Any) -> list[dict[str, str]]:
    """What was wrong, by argument; nothing may have been changed."""
    before = copy.deepcopy(function)
    with pytest.raises(InvalidFunction) as caught:
        stoker.gpu(function, **arguments)
    if isinstance(function, dict):
        assert function == before
    fields: list[dict[str, str]] = caught.value.detail["fields"]
    assert all(f"{one['field']}" in caught.value.message for one in fields)
    return fields


def test_everything_is_declared_where_the_platform_reads_it() -> None:
    function = config(handler="main:handler")
    same = stoker.gpu(
        function,
        workers=4,
        gpus=2,
        model="package://weights/model",
        task="feature-extraction",
        quantization="int8",
        batch=16,
        batch_timeout="5ms",
        scale_to_zero="90s",
        max_replicas=3,
        timeout=30,
        worker_timeout=2.5,
        readiness_timeout="2m",
        gpu_memory="2GiB",
        queue_limit=50,
    )
    assert same is function
    declared = read(function)
    assert (declared.workers, declared.gpus) == (4, 2)
    assert (declared.min_replicas, declared.max_replicas) == (0, 3)
    assert declared.idle_window_s == 90
    assert declared.batch is not None
    assert (declared.batch.batch_size, declared.batch.timeout) == (16, "5ms")
    assert (declared.event_timeout_s, declared.worker_wait_s, declared.readiness_s) == (
        30,
        2.5,
        120,
    )
    assert declared.queue_limit == 50
    assert declared.env == {
        "STOKER_MODEL": "package://weights/model",
        "STOKER_TASK": "feature-extraction",
        "STOKER_QUANTIZATION": "int8",
        "STOKER_GPU_MEMORY": "2GiB",
        "STOKER_QUEUE_LIMIT": "50",
    }
    assert function["spec"]["handler"] == "main:handler"


def test_durations_are_written_as_go_reads_them() -> None:
    """Nuclio parses them with Go's ParseDuration, which takes no bare number."""
    function = stoker.gpu(config(), scale_to_zero=60, timeout=1.5, batch=2, batch_timeout=0.005)
    spec = function["spec"]
    assert spec["scaleToZero"]["scaleResources"][0]["windowSize"] == "60s"
    assert spec["eventTimeout"] == "1.5s"
    assert spec["triggers"]["http"]["batch"]["timeout"] == "5ms"


def test_a_new_trigger_carries_its_name() -> None:
    """Nuclio refuses a trigger whose key and name differ."""
    trigger = stoker.gpu(config(), workers=2)["spec"]["triggers"]["http"]
    assert trigger == {"kind": "http", "name": "http", "numWorkers": 2}


def test_an_existing_trigger_keeps_its_name_and_what_else_it_says() -> None:
    theirs = {
        "cron": {"kind": "cron", "attributes": {"interval": "1m"}},
        "door": {"kind": "http", "maxWorkers": 8, "attributes": {"port": 32000}, "mode": "sync"},
    }
    function = stoker.gpu(config(triggers=copy.deepcopy(theirs)), workers=2)
    assert function["spec"]["triggers"]["cron"] == theirs["cron"]
    assert function["spec"]["triggers"]["door"] == {
        **theirs["door"],
        "maxWorkers": 2,
        "numWorkers": 2,
    }
    assert read(function).workers == 2


def test_a_second_call_changes_only_what_it_names() -> None:
    function = stoker.gpu(
        config(), workers=2, gpus=1, quantization="int8", batch=8, scale_to_zero="60s"
    )
    again = stoker.gpu(copy.deepcopy(function), workers=2, gpus=1, quantization="int8")
    assert again == function
    stoker.gpu(function, quantization="bf16", batch_timeout="1ms")
    declared = read(function)
    assert declared.env == {"STOKER_QUANTIZATION": "bf16"}
    assert (declared.workers, declared.gpus, declared.min_replicas) == (2, 1, 0)
    assert declared.batch is not None
    assert (declared.batch.batch_size, declared.batch.timeout) == (8, "1ms")


def test_variables_and_limits_of_the_user_are_kept() -> None:
    function = config(
        env=[{"name": "A", "value": "1"}, {"name": "STOKER_QUANTIZATION", "value": "fp32"}],
        resources={"limits": {"memory": "2Gi"}, "requests": {"cpu": "1"}},
    )
    stoker.gpu(function, gpus=1, quantization="int8")
    assert read(function).env == {"A": "1", "STOKER_QUANTIZATION": "int8"}
    assert function["spec"]["resources"] == {
        "limits": {"memory": "2Gi", "nvidia.com/gpu": 1},
        "requests": {"cpu": "1"},
    }
    stoker.gpu(function, gpus=0)
    assert function["spec"]["resources"]["limits"] == {"memory": "2Gi"}


@pytest.mark.parametrize(
    ("value", "least", "window"),
    [("45s", 0, 45), (45, 0, 45), (True, 0, 30), (False, 2, 60), (None, 2, 30)],
)
def test_scale_to_zero(value: Any, least: int, window: float) -> None:
    resource = {"metricName": "m", "windowSize": "30s", "threshold": 0}
    function = config(minReplicas=2, maxReplicas=4, scaleToZero={"scaleResources": [resource]})
    declared = read(stoker.gpu(function, scale_to_zero=value))
    assert (declared.min_replicas, declared.idle_window_s) == (least, window)


def test_what_may_not_scale_to_zero_keeps_one_replica() -> None:
    function = stoker.gpu(config(), scale_to_zero="60s")
    assert read(stoker.gpu(function, scale_to_zero=False)).min_replicas == 1
    assert "scaleToZero" not in function["spec"]


def test_named_replicas_take_the_place_of_a_fixed_number() -> None:
    """Nuclio and MLRun let ``replicas`` win over both."""
    function = stoker.gpu(config(replicas=1), min_replicas=0, max_replicas=2)
    declared = read(function)
    assert (declared.min_replicas, declared.max_replicas) == (0, 2)
    assert "replicas" not in function["spec"]


def test_batching_goes_again() -> None:
    function = stoker.gpu(config(), batch={"size": 16, "timeout": "5ms"})
    stoker.gpu(function, batch=False)
    assert read(function).batch is None
    stoker.gpu(function, batch=4)
    assert function["spec"]["triggers"]["http"]["batch"] == {
        "mode": "enable",
        "batchSize": 4,
        "timeout": "5ms",
    }


@pytest.mark.parametrize(
    ("arguments", "argument", "message"),
    [
        ({"workers": True}, "workers", "a whole number of 1 or more, was True"),
        ({"workers": 2.0}, "workers", "a whole number of 1 or more, was 2.0"),
        ({"workers": 0}, "workers", "a whole number of 1 or more, was 0"),
        ({"workers": 513}, "workers", "must be less than or equal to 512, was 513"),
        ({"workers": 3, "gpus": 2}, "workers", "was 3; 2 or 4 would do"),
        ({"gpus": -1}, "gpus", "a whole number of 0 or more, was -1"),
        ({"quantization": "int9"}, "quantization", "did you mean 'int8'"),
        ({"quantization": 8}, "quantization", "must be text, was 8"),
        ({"quantization_skip": []}, "quantization_skip", "or a list of them, was []"),
        ({"dtype": "fp8"}, "dtype", "must be one of auto, fp32, bf16, fp16, was 'fp8'"),
        ({"attention": "flash"}, "attention", "must be one of auto"),
        ({"device_map": "all"}, "device_map", "must be one of auto, balanced"),
        ({"offload": "tape"}, "offload", "must be one of none, cpu, disk, was 'tape'"),
        ({"tensor_parallel": 0}, "tensor_parallel", "a whole number of 1 or more, was 0"),
        (
            {"tensor_parallel": 2, "gpus": 4},
            "tensor_parallel",
            "must leave a card to each process: 2 processes a worker and 1 worker(s) need 2",
        ),
        ({"compile": "yes"}, "compile", "must be True or False, was 'yes'"),
        ({"adapter": {"a b": "/x"}}, "adapter", "must be name=folder"),
        ({"task": "chat"}, "task", "must be one of feature-extraction"),
        ({"batch": "many"}, "batch", "must be a whole number of 1 or more, was 'many'"),
        ({"batch": {"sice": 4}}, "batch", "may have size and timeout, was given sice"),
        ({"batch": {"timeout": "5ms"}}, "batch", "must have a size"),
        ({"batch": 10001}, "batch", "must be less than or equal to 10000"),
        ({"batch_timeout": "5ms"}, "batch_timeout", "name batch as well"),
        ({"scale_to_zero": "60"}, "scale_to_zero", "must be a duration such as"),
        ({"scale_to_zero": 0}, "scale_to_zero", "more than zero"),
        ({"scale_to_zero": "60s", "min_replicas": 1}, "min_replicas", "must be 0"),
        ({"scale_to_zero": False, "min_replicas": 0}, "min_replicas", "must be 1 or more"),
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas", "(2) or less, was 3"),
        ({"max_replicas": 0}, "max_replicas", "a whole number of 1 or more"),
        ({"timeout": "soon"}, "timeout", "must be a duration"),
        ({"timeout": float("nan")}, "timeout", "must be a duration"),
        ({"readiness_timeout": 0.5}, "readiness_timeout", "whole seconds, at least 1"),
        ({"gpu_memory": "much"}, "gpu_memory", "must be a size"),
        ({"gpu_memory": 2}, "gpu_memory", "2 bytes? did you mean 2GiB?"),
        ({"queue_limit": 0}, "queue_limit", "a whole number of 1 or more"),
        ({"model": ""}, "model", "must be text"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_with_what_would_be_right(
    arguments: dict[str, Any], argument: str, message: str
) -> None:
    (only,) = refusal(config(), **arguments)
    assert only["field"] == argument
    assert message in only["message"]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("worker", "did you mean workers?"),
        ("quantisation", "did you mean quantization?"),
        ("zzz", "it takes"),
    ],
)
def test_a_misspelt_argument_is_refused_with_the_one_that_was_meant(
    argument: str, says: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(says)):
        stoker.gpu(config(), **{argument: 2})


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = refusal(config(), workers=0, gpus="two", timeout="x")
    assert [one["field"] for one in found] == ["workers", "gpus", "timeout"]


@pytest.mark.parametrize(("workers", "gpus"), [(2, 1), (2, 2), (4, 2), (1, 4), (2, 4), (8, 0)])
def test_cards_that_can_be_dealt_evenly(workers: int, gpus: int) -> None:
    declared = read(stoker.gpu(config(), workers=workers, gpus=gpus))
    assert (declared.workers, declared.gpus) == (workers, gpus)


def test_cards_are_checked_against_workers_that_were_declared_before() -> None:
    function = config(triggers={"http": {"kind": "http", "numWorkers": 3}})
    (only,) = refusal(function, gpus=2)
    assert only["field"] == "workers"


def test_a_misspelt_variable_of_the_function_is_found() -> None:
    function = config(env=[{"name": "STOKER_QUANTISATION", "value": "int8"}])
    (only,) = refusal(function, workers=1)
    assert "did you mean STOKER_QUANTIZATION?" in only["message"]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (3, "was int"),
        ({}, "was a dict of nothing"),
        ({"metadata": {}}, "was a dict of metadata"),
        ({"spec.minReplicas": 0}, "a map of dotted keys"),
        (SimpleNamespace(kind="job", spec=None, set_env=None), "mlrun function of kind 'job'"),
        (SimpleNamespace(kind="application", spec=None, set_env=None), "kind 'application'"),
    ],
)
def test_what_declares_no_function_with_workers_is_refused(held: Any, message: str) -> None:
    (only,) = refusal(held, workers=1)
    assert only["field"] == "function"
    assert message in only["message"]


def test_every_argument_has_its_reader() -> None:
    parameters = inspect.signature(stoker.gpu).parameters
    assert set(READERS) == set(parameters) - {"function"}
    assert set(declare.VARIABLES) <= set(READERS)


@pytest.mark.parametrize("module", [declare, dotted], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_hold(module: Any) -> None:
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed


@pytest.mark.parametrize(
    ("flat", "value", "after"),
    [
        ({}, 1, {"a.b.c": 1}),
        ({"a.b.c.d": 5, "x": 0}, 1, {"x": 0, "a.b.c": 1}),
        ({"a.b": {"c": 5, "d": 6}}, 1, {"a.b": {"c": 1, "d": 6}}),
        ({"a": {"b": {}}, "a.b": {"d": 6}}, 1, {"a": {"b": {}}, "a.b": {"d": 6, "c": 1}}),
        ({"a.b": {"c": 5}, "a.b.c": 7}, None, {"a.b": {}}),
        ({"a.bc": 5}, None, {"a.bc": 5}),
    ],
)
def test_a_dotted_key_is_folded_into_what_is_there(
    flat: dict[str, Any], value: Any, after: dict[str, Any]
) -> None:
    before = copy.deepcopy(flat)
    folded = dotted.folded(flat, ("a", "b", "c"), value)
    assert folded == after
    assert dotted.get(dotted.expanded(folded), ("a", "b", "c")) == value
    assert flat == before


def test_importing_stoker_costs_nothing_of_what_it_offers() -> None:
    code = (
        "import sys, stoker; assert {'gpu', 'local'} <= set(dir(stoker)); heavy = "
        "{'pydantic', 'redis', 'httpx', 'asyncio', 'mlrun', 'nuclio', 'torch'} & set(sys.modules); "
        "assert not heavy, heavy; stoker.gpu; "
        "assert not {'mlrun', 'nuclio', 'torch', 'redis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_stoker_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tpu'"):
        _ = stoker.tpu
