"""From an MLRun function object to the Nuclio config that runs it."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from stoker.api.mlrun.build_section import FOOTER, HOOK
from stoker.api.mlrun.compile import Compiled, compile_function
from stoker.api.mlrun.function_object import FunctionObject
from stoker.api.mlrun.serving import LARGEST_PLAIN
from stoker.nouns.errors import InvalidFunction, NotSupported
from stoker.nouns.function import FunctionConfig

CODE = "def handler(context, event):\n    return event.body\n"


def encoded(code: str = CODE) -> str:
    return base64.b64encode(code.encode()).decode()


def posted(kind: str = "remote", name: str = "echo", **spec: Any) -> FunctionObject:
    """What mlrun's client posts, with its defaults."""
    tag = spec.pop("tag", "")
    labels = spec.pop("labels", {})
    body = {
        "kind": kind,
        "metadata": {"name": name, "project": "shop", "tag": tag, "labels": labels},
        "spec": {
            "min_replicas": 1,
            "max_replicas": 4,
            "build": {"functionSourceCode": encoded()},
            "function_handler": "my-file-nuclio:handler",
            "description": "",
            "node_selector": {},
            "affinity": None,
            "preemption_mode": "prevent",
            "env": [{"name": "MLRUN_HTTPDB__NUCLIO__EXPLICIT_ACK", "value": "enabled"}],
            **spec,
        },
    }
    return FunctionObject.read(json.loads(json.dumps(body)), "shop", name)


def flow(*, engine: str = "async", **steps: Any) -> dict[str, Any]:
    return {"engine": engine, "steps": steps or {"a": {"kind": "task", "class_name": "Double"}}}


def compiled(function: FunctionObject, **given: Any) -> FunctionConfig:
    """The config, which the platform must accept."""
    return FunctionConfig.parse(compile_function(function, **given).document)


def notes(result: Compiled) -> str:
    return "\n".join(text for _, text in result.notes)


def graph_of(config: FunctionConfig) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(config.env["SERVING_SPEC_ENV"])
    return spec


# Names


@pytest.mark.parametrize(
    ("name", "tag", "expected"),
    [
        ("My_Echo", "", "shop-my-echo"),
        ("echo", "latest", "shop-echo"),
        ("echo", "v2", "shop-echo-v2"),
    ],
)
def test_a_function_is_deployed_under_its_project_its_name_and_its_tag(
    name: str, tag: str, expected: str
) -> None:
    config = compiled(posted(name=name, tag=tag))
    assert config.name == expected
    assert config.project == "shop"
    assert config.metadata.labels.get("nuclio.io/tag") == ("v2" if tag == "v2" else None)


def test_labels_and_annotations_are_kept_and_the_class_is_added() -> None:
    base = {"metadata": {"annotations": {"why": "because"}}}
    config = compiled(posted(labels={"team": "blue", "parts": 3, "none": None}, base_spec=base))
    assert config.metadata.labels == {
        "team": "blue",
        "parts": "3",
        "nuclio.io/project-name": "shop",
        "mlrun/class": "remote",
    }
    assert config.metadata.annotations == {"why": "because"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "must be a function object, was list"),
        ({"metadata": {"name": "other"}}, "metadata.name: must be 'echo' as in the URL"),
        ({"metadata": {"project": "bank"}}, "metadata.project: must be 'shop', was 'bank'"),
        ({"spec": 3}, "spec: must be a mapping, was int"),
    ],
)
def test_a_body_that_means_something_else_is_refused(body: Any, words: str) -> None:
    with pytest.raises(InvalidFunction, match=words):
        FunctionObject.read(body, "shop", "echo")


def test_only_what_serves_is_deployed() -> None:
    for kind in ("remote", "nuclio", "nuclio:mlrun", "serving"):
        posted(kind).must_be_deployable()
    with pytest.raises(NotSupported, match="there are no containers here"):
        compile_function(posted("application"))
    with pytest.raises(InvalidFunction, match=r"kind: must be one of .*, was 'job'"):
        compile_function(posted("job"))


# What is declared


def test_dotted_keys_are_applied_and_may_hold_dots() -> None:
    config = compiled(
        posted(
            config={
                "spec.triggers.http": {"kind": "http", "maxWorkers": 2, "async": {"max": None}},
                "spec.eventTimeout": "30s",
                "metadata.annotations.\\a.b/c\\": "x",
                r"spec.resources.limits.nvidia\.com/gpu": 1,
                "spec.scaleToZero.scaleResources": [{"windowSize": "5s"}],
            }
        )
    )
    assert config.workers == 2
    assert config.event_timeout_s == 30
    assert config.metadata.annotations == {"a.b/c": "x"}
    assert config.gpus == 1
    assert config.idle_window_s == 5


def test_a_dotted_list_is_added_to_the_list_that_is_there() -> None:
    base = {"spec": {"build": {"commands": ["pip install a"]}}}
    config = compiled(posted(base_spec=base, config={"spec.build.commands": ["pip install b"]}))
    assert config.spec.build.commands == ["pip install a", "pip install b"]


def test_the_own_names_win_over_dotted_ones() -> None:
    config = compiled(posted(config={"metadata.name": "x", "metadata.labels": {"a": "b"}}))
    assert config.name == "shop-echo"
    assert config.project == "shop"


def test_zero_replicas_survive_and_win_over_a_dotted_number() -> None:
    result = compile_function(posted(min_replicas=0, config={"spec.minReplicas": 3}))
    config = FunctionConfig.parse(result.document)
    assert config.min_replicas == 0
    assert config.max_replicas == 4
    assert "spec.minReplicas 3 is not what counts" in notes(result)
    assert compiled(posted(replicas=2)).max_replicas == 2


def test_what_has_no_effect_here_is_kept_all_the_same() -> None:
    declared = {
        "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}},
        "node_selector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu"}],
        "readiness_timeout": 7,
        "service_type": "ClusterIP",
        "priority_class_name": "high",
        "volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
        "volume_mounts": [{"name": "v", "mountPath": "/y"}],
    }
    config = compiled(posted(**declared))
    spec = config.document()["spec"]
    assert config.gpus == 1
    assert config.readiness_s == 7
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["serviceType"] == "ClusterIP"
    assert spec["volumes"] == [
        {"volume": declared["volumes"][0], "volumeMount": declared["volume_mounts"][0]}
    ]
    with pytest.raises(InvalidFunction, match="names no volume of the function: w"):
        compile_function(posted(volume_mounts=[{"name": "w"}]))


@pytest.mark.parametrize(
    ("field", "value"),
    [("config", []), ("env", {}), ("base_spec", 1), ("volumes", "x"), ("graph", "x")],
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidFunction, match=f"{field}: must be a"):
        compile_function(posted("serving", **{field: value or 1}))


# The environment


def test_the_project_and_its_secrets_are_in_the_environment_and_what_is_declared_wins() -> None:
    secrets = {"TOKEN": "hush", "MLRUN_K8S_SECRET__TOKEN": "hush", "OTHER": "quiet"}
    declared = [{"name": "OTHER", "value": "mine"}, {"name": "STOKER_SECRET_ENV", "value": "A"}]
    config = compiled(posted(env=declared), secrets=secrets)
    assert config.env["MLRUN_ACTIVE_PROJECT"] == config.env["MLRUN_DEFAULT_PROJECT"] == "shop"
    assert config.env["TOKEN"] == config.env["MLRUN_K8S_SECRET__TOKEN"] == "hush"
    assert config.env["OTHER"] == "mine"
    assert config.env["MLRUN_PROJECT_SECRETS_LIST"] == "OTHER,TOKEN"
    hidden = config.env["STOKER_SECRET_ENV"].split(",")
    assert hidden == ["A", "MLRUN_K8S_SECRET__TOKEN", "OTHER", "TOKEN"]


def test_without_secrets_nothing_is_said_of_them() -> None:
    assert not {"STOKER_SECRET_ENV", "MLRUN_PROJECT_SECRETS_LIST"} & set(compiled(posted()).env)


# The code


def test_the_code_and_its_handler_are_kept() -> None:
    config = compiled(posted())
    assert config.spec.handler == "my-file-nuclio:handler"
    assert config.spec.build.function_source_code == encoded()
    assert compiled(posted(function_handler=None)).spec.handler == "main:handler"


def test_a_base_spec_brings_its_own_code_and_handler() -> None:
    base = {"spec": {"handler": "theirs:go", "build": {"functionSourceCode": encoded()}}}
    config = compiled(posted(base_spec=base, build={}))
    assert config.spec.handler == "theirs:go"


def test_code_that_is_no_python_is_refused_with_its_line() -> None:
    build = {"functionSourceCode": encoded("import os\ndef handler(context, event)\n    pass\n")}
    with pytest.raises(InvalidFunction, match=r"in line 2: .*: def handler\(context, event\)"):
        compile_function(posted(build=build))
    with pytest.raises(InvalidFunction, match="must be UTF-8 text in base64"):
        compile_function(posted(build={"functionSourceCode": "%%"}))


def test_a_graph_that_is_started_from_an_image_runs_here_and_a_function_in_one_does_not() -> None:
    """What ``from_image()`` makes, and ``set_function(kind=…, image=…)`` without a file."""
    base = {"spec": {"handler": "main:handler", "image": "i", "build": {"codeEntryType": "image"}}}
    config = compiled(posted("serving", graph=flow(), base_spec=base, build={}))
    assert config.spec.handler == "mlrun.serving.serving_wrapper:handler"
    assert config.spec.build.code_entry_type is None
    with pytest.raises(InvalidFunction, match=r"spec\.image: is a whole function in an image"):
        compile_function(posted(base_spec=base, build={}))


def test_code_that_is_mounted_is_taken_from_its_folder() -> None:
    config = compiled(posted(build={}, workdir="/srv/project", function_handler="sub#main:go"))
    assert config.spec.build.path == "/srv/project/sub"
    assert config.spec.handler == "main:go"


def test_a_function_without_code_is_refused() -> None:
    with pytest.raises(InvalidFunction, match="the function has no code"):
        compile_function(posted(build={}))


def test_requirements_become_one_pip_command() -> None:
    build = {
        "functionSourceCode": encoded(),
        "commands": ["pip install a"],
        "requirements": ["pandas>=2,<3", "-r more.txt", "b[x]; python_version>'3'"],
    }
    assert compiled(posted(build=build)).spec.build.commands == [
        "pip install a",
        "pip install 'pandas>=2,<3' -r more.txt 'b[x]; python_version>'\"'\"'3'\"'\"''",
    ]


def test_an_image_is_kept_and_said_to_have_no_effect() -> None:
    result = compile_function(posted(image="mlrun/mlrun"))
    assert result.document["spec"]["build"]["baseImage"] == "mlrun/mlrun"
    assert "image mlrun/mlrun is kept and has no effect here" in notes(result)
    assert not compile_function(posted()).notes


# Graphs


def test_a_graph_travels_as_mlrun_s_own_client_would_send_it() -> None:
    step = {"kind": "task", "class_name": "Double", "endpoint_type": 1}
    function = posted(
        "serving",
        graph=flow(a=step | {"model_endpoint_creation_strategy": "skip"}),
        parameters={"p": 1},
        function_refs=[{"name": "gpu"}],
        default_content_type="application/json",
        tag="v1",
    )
    spec = graph_of(compiled(function))
    assert spec["graph"] == {
        "engine": "async",
        "steps": {"a": {"kind": "task", "class_name": "Double"}},
    }
    assert spec["function_uri"] == "shop/echo:v1"
    assert spec["functions"] == {"gpu": "shop/echo-gpu:v1"}
    assert spec["parameters"] == {"p": 1}
    assert spec["version"] == "v2"
    assert spec["default_content_type"] == "application/json"


def test_remote_steps_are_those_that_know_the_functions_of_this_home() -> None:
    function = posted("serving", graph=flow(r={"class_name": "$remote"}))
    step = graph_of(compiled(function))["graph"]["steps"]["r"]
    assert step["class_name"].startswith("stoker.sdk.graph.")
    assert function.graph["steps"]["r"]["class_name"] == "$remote"


def test_a_large_graph_is_compressed_as_mlrun_reads_it() -> None:
    steps = {"a": {"kind": "task", "class_name": "X", "class_args": {"text": "x" * LARGEST_PLAIN}}}
    packed = compiled(posted("serving", graph=flow(**steps))).env["SERVING_SPEC_ENV"]
    assert len(packed) < LARGEST_PLAIN
    spec = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert spec["graph"]["steps"] == steps


def test_code_of_a_graph_has_mlrun_s_hooks_below_it_once() -> None:
    config = compiled(posted("serving", graph=flow()))
    source = base64.b64decode(config.spec.build.function_source_code or "").decode()
    assert source == CODE + FOOTER
    again = compiled(posted("serving", graph=flow(), build={"functionSourceCode": encoded(source)}))
    assert again.spec.build.function_source_code == config.spec.build.function_source_code
    plain = compiled(posted())
    assert plain.spec.build.function_source_code == encoded()


def test_a_graph_without_code_runs_in_mlrun_s_own_handler() -> None:
    config = compiled(posted("serving", graph=flow(), build={}))
    assert config.spec.handler == "mlrun.serving.serving_wrapper:handler"
    assert config.spec.build.function_source_code is None


@pytest.mark.parametrize(
    ("graph", "extra", "mode", "workers"),
    [
        (flow(), {}, "async", 1),
        (flow(engine="sync"), {}, None, 1),
        ({"kind": "router", "routes": {}}, {}, None, 1),
        (flow(), {"config": {"spec.triggers.http": {"kind": "http", "maxWorkers": 8}}}, None, 8),
        (flow(), {"disable_default_http_trigger": True}, None, 1),
    ],
)
def test_an_asynchronous_flow_holds_many_requests_unless_a_trigger_is_declared(
    graph: dict[str, Any], extra: dict[str, Any], mode: str | None, workers: int
) -> None:
    config = compiled(posted("serving", graph=graph, **extra))
    assert config.http_trigger.mode == mode
    assert config.workers == workers
    assert config.permits == (256 if mode else 1)


def test_the_plain_handler_of_an_older_client_gets_one_request_at_a_time() -> None:
    """mlrun 1.5 ends the code with ``def handler``; its flows were refused as not asynchronous."""
    code = encoded(f"from mlrun.runtimes import {HOOK}\n{CODE}")
    config = compiled(posted("serving", graph=flow(), build={"functionSourceCode": code}))
    assert (config.http_trigger.mode, config.permits) == (None, 1)


def test_a_graph_behind_a_stream_says_soon_what_is_done() -> None:
    trigger = {"spec.triggers.stream": {"kind": "kafka-cluster"}}
    spec = graph_of(compiled(posted("serving", graph=flow(), config=trigger)))
    assert spec["parameters"] == {"source_args": {"max_wait_before_commit": 1}}
    own = {"source_args": {"max_wait_before_commit": 9, "other": 1}}
    spec = graph_of(compiled(posted("serving", graph=flow(), config=trigger, parameters=own)))
    assert spec["parameters"] == own
    assert graph_of(compiled(posted("serving", graph=flow())))["parameters"] == {}


def test_tracking_is_turned_off_and_said_so() -> None:
    result = compile_function(posted("serving", graph=flow(), track_models=True))
    assert not graph_of(FunctionConfig.parse(result.document))["track_models"]
    assert "there is no model monitoring here" in notes(result)


def test_secrets_given_to_a_graph_travel_apart_from_it() -> None:
    sources = [
        {"kind": "inline", "source": {"PASSWORD": "hush", "PIN": 1234}},
        {"kind": "azure_vault", "source": {"name": "v"}},
    ]
    result = compile_function(posted("serving", graph=flow(), secret_sources=sources))
    config = FunctionConfig.parse(result.document)
    spec = config.env["SERVING_SPEC_ENV"]
    assert "hush" not in spec
    assert json.loads(spec)["secret_sources"] == [
        {"kind": "kubernetes", "source": ["PASSWORD", "PIN"]}
    ]
    assert config.env["MLRUN_K8S_SECRET__PASSWORD"] == "hush"
    assert config.env["MLRUN_K8S_SECRET__PIN"] == "1234"
    hidden = config.env["STOKER_SECRET_ENV"].split(",")
    assert hidden == ["MLRUN_K8S_SECRET__PASSWORD", "MLRUN_K8S_SECRET__PIN"]
    assert "with_secrets('azure_vault'): there is no such store here" in notes(result)


def test_a_canary_that_is_declared_on_the_object_reaches_the_platform() -> None:
    function = posted()
    function.metadata["annotations"] = {"stoker.io/canary": '{"share": 0.1, "sticky": "X-User"}'}
    canary = compiled(function).canary
    assert canary is not None
    assert (canary.share, canary.sticky) == (0.1, "X-User")
    function.metadata["annotations"] = {"stoker.io/canary": '{"share": 10}'}
    with pytest.raises(InvalidFunction, match=r"metadata\.annotations"):
        compiled(function)
