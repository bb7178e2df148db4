"""`stoker.gpu` on the objects of mlrun and nuclio-jupyter, and what they make of it."""

from __future__ import annotations

from typing import Any

import pytest

import stoker
from stoker.nouns.errors import InvalidFunction
from stoker.nouns.function import FunctionConfig

mlrun = pytest.importorskip("mlrun")
nuclio = pytest.importorskip("nuclio")
pytestmark = [
    pytest.mark.mlrun,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


@pytest.fixture(params=["nuclio", "serving"])
def function(request: pytest.FixtureRequest) -> Any:
    return mlrun.new_function("embedder", project="news", kind=request.param)


def compiled(function: Any) -> FunctionConfig:
    """What MLRun's server deploys, by nuclio-jupyter's own merge, after a turn through JSON."""
    sent = mlrun.new_function(runtime=function.to_dict())
    spec = nuclio.ConfigSpec(config=sent.spec.config)
    spec.env = {one["name"]: one["value"] for one in function.to_dict()["spec"].get("env") or []}
    spec.set_config("spec.minReplicas", sent.spec.min_replicas)
    spec.set_config("spec.maxReplicas", sent.spec.max_replicas)
    spec.set_config("spec.resources", sent.spec.resources)
    if sent.spec.readiness_timeout:
        spec.set_config("spec.readinessTimeoutSeconds", sent.spec.readiness_timeout)
    config = nuclio.config.new_config()
    nuclio.config.update_in(config, "spec.handler", "main:handler")
    spec.merge(config)
    return FunctionConfig.parse(config)


def test_the_function_deploys_as_it_was_declared(function: Any) -> None:
    same = stoker.gpu(
        function,
        workers=2,
        gpus=2,
        quantization="int8",
        batch={"size": 16, "timeout": "5ms"},
        scale_to_zero="60s",
        max_replicas=1,
        timeout="30s",
        readiness_timeout=90,
    )
    assert same is function
    declared = compiled(function)
    assert (declared.workers, declared.gpus) == (2, 2)
    assert (declared.min_replicas, declared.max_replicas, declared.idle_window_s) == (0, 1, 60)
    assert declared.permits == 32
    assert (declared.event_timeout_s, declared.readiness_s) == (30, 90)
    assert declared.env["STOKER_QUANTIZATION"] == "int8"


def test_the_eight_workers_of_with_http_give_way(function: Any) -> None:
    function.with_http()
    assert compiled(function).workers == 8
    stoker.gpu(function, workers=2)
    trigger = function.spec.config["spec.triggers.http"]
    assert (trigger["numWorkers"], trigger["maxWorkers"], trigger["mode"]) == (2, 2, "sync")
    assert compiled(function).workers == 2


def test_the_user_s_trigger_object_is_not_written_to(function: Any) -> None:
    """Two functions may have been given the same dict."""
    shared = {"kind": "http", "numWorkers": 4, "attributes": {"port": 1}}
    function.set_config("spec.triggers.http", shared)
    stoker.gpu(function, workers=2, batch=4)
    assert shared == {"kind": "http", "numWorkers": 4, "attributes": {"port": 1}}
    assert function.spec.config["spec.triggers.http"]["attributes"] == {"port": 1}


def test_all_triggers_under_one_key(function: Any) -> None:
    triggers = {"http": {"kind": "http", "numWorkers": 4}, "tick": {"kind": "cron"}}
    function.set_config("spec.triggers", triggers)
    stoker.gpu(function, workers=2)
    assert list(function.spec.config) == ["spec.triggers"]
    assert compiled(function).spec.triggers.keys() == {"http", "tick"}
    assert compiled(function).workers == 2


def test_keys_below_the_trigger_do_not_undo_it(function: Any) -> None:
    function.set_config("spec.triggers.http", {"kind": "http"})
    function.set_config("spec.triggers.http.numWorkers", 8)
    stoker.gpu(function, workers=2)
    assert compiled(function).workers == 2


def test_a_trigger_of_the_base_spec_is_the_one_that_is_changed(function: Any) -> None:
    base = {"spec": {"triggers": {"door": {"kind": "http", "maxWorkers": 8}}}}
    function.spec.base_spec = base
    stoker.gpu(function, workers=2)
    assert function.spec.config["spec.triggers.door"]["numWorkers"] == 2
    assert base["spec"]["triggers"]["door"] == {"kind": "http", "maxWorkers": 8}


def test_other_limits_of_the_function_stay(function: Any) -> None:
    function.with_limits(mem="2G", cpu="1")
    stoker.gpu(function, gpus=1)
    assert function.spec.resources["limits"] == {"memory": "2G", "cpu": "1", "nvidia.com/gpu": 1}


def test_a_variable_set_twice_stands_once(function: Any) -> None:
    function.set_env("STOKER_QUANTIZATION", "fp32")
    stoker.gpu(stoker.gpu(function, quantization="bf16"), quantization="int8")
    values = [one.value for one in function.spec.env if one.name == "STOKER_QUANTIZATION"]
    assert values == ["int8"]


def test_a_variable_from_a_secret_is_kept_and_not_read(function: Any) -> None:
    function.set_env_from_secret("STOKER_MODEL", "mine", "model")
    stoker.gpu(function, workers=2)
    assert function.get_env("STOKER_MODEL").secret_key_ref.key == "model"


def test_mlrun_s_own_batching_spec(function: Any) -> None:
    spec = mlrun.common.schemas.function.BatchingSpec(enabled=True, batch_size=4, timeout="9ms")
    stoker.gpu(function, batch=spec)
    assert compiled(function).permits == 8
    off = mlrun.common.schemas.function.BatchingSpec(enabled=False)
    assert compiled(stoker.gpu(function, batch=off)).batch is None


def test_mlrun_s_default_of_four_replicas_is_named(function: Any) -> None:
    with pytest.raises(InvalidFunction, match=r"min_replicas must be max_replicas \(4\) or less"):
        stoker.gpu(function, min_replicas=6)
    assert function.spec.min_replicas == 1


def test_a_refused_value_changes_nothing(function: Any) -> None:
    before = function.to_dict()
    with pytest.raises(InvalidFunction, match="quantization"):
        stoker.gpu(function, workers=2, gpus=1, scale_to_zero="60s", quantization="int3")
    assert function.to_dict() == before


@pytest.mark.parametrize("kind", ["job", "application"])
def test_a_function_without_workers_is_refused(kind: str) -> None:
    function = mlrun.new_function("train", kind=kind, image="python:3.11")
    with pytest.raises(InvalidFunction, match=f"was an mlrun function of kind '{kind}'"):
        stoker.gpu(function, gpus=1)


def test_a_config_spec_of_nuclio_jupyter() -> None:
    spec = nuclio.ConfigSpec(env={"A": "1"}, config={"spec.maxReplicas": 2}).with_http(workers=4)
    assert stoker.gpu(spec, workers=2, gpus=1, quantization="int8", scale_to_zero=60) is spec
    config = nuclio.config.new_config()
    nuclio.config.update_in(config, "spec.handler", "main:handler")
    spec.merge(config)
    declared = FunctionConfig.parse(config)
    assert (declared.workers, declared.gpus) == (2, 1)
    assert (declared.min_replicas, declared.max_replicas) == (0, 2)
    assert declared.env == {"A": "1", "STOKER_QUANTIZATION": "int8"}


def test_workers_of_what_only_reads_a_stream_are_the_stream_s(function: Any) -> None:
    """With an http trigger beside it a graph would acknowledge no record by itself."""
    function.add_v3io_stream_trigger("v3io:///projects/p/q", group="g")
    stoker.gpu(function, workers=2, gpus=1)
    declared = compiled(function)
    assert list(declared.spec.triggers) == ["stream"]
    assert declared.workers == 2
    with pytest.raises(InvalidFunction, match=r"batch has no effect .*; worker_timeout has no"):
        stoker.gpu(function, batch=4, worker_timeout=1)


def test_beside_a_stream_the_http_trigger_that_was_declared_has_the_workers(function: Any) -> None:
    function.add_v3io_stream_trigger("v3io:///projects/p/q", group="g")
    function.with_http(workers=8)
    stoker.gpu(function, workers=2, batch=4)
    declared = compiled(function)
    assert declared.workers == declared.http_trigger.workers == 2
    assert declared.spec.triggers["stream"].workers == 1
