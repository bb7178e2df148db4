"""What a serving spec becomes here, and which functions it calls."""

from __future__ import annotations

import base64
import copy
import gzip
import json

import pytest

from stoker.gateway.routes import first_segment
from stoker.sdk.graph.request import local_request, place
from stoker.sdk.graph.rewrite import localized
from stoker.sdk.graph.targets import read_spec, step_target, targets

OURS = "stoker.sdk.graph"


def step(class_name: str, **arguments: object) -> dict[str, object]:
    return {"kind": "task", "class_name": class_name, "class_args": arguments}


def flow(**steps: object) -> dict[str, object]:
    return {"function_uri": "shop/graph", "graph": {"kind": "root", "steps": steps}}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("$remote", f"{OURS}.RemoteStep"),
        ("mlrun.serving.remote.RemoteStep", f"{OURS}.RemoteStep"),
        ("mlrun.serving.remote.RemoteFunctionStep", f"{OURS}.RemoteFunctionStep"),
        ("mlrun.serving.remote.BatchHttpRequests", f"{OURS}.BatchHttpRequests"),
    ],
)
def test_a_remote_step_of_mlrun_becomes_ours(theirs: str, ours: str) -> None:
    spec = localized(flow(one=step(theirs, url="a")))
    assert spec["graph"]["steps"]["one"] == step(ours, url="a")


@pytest.mark.parametrize(
    "class_name",
    [
        "mlrun.serving.remote.MLRunAPIRemoteStep",
        "mlrun.serving.ModelRunner",
        "my_steps.RemoteStep",
        "RemoteStep",
        "",
    ],
)
def test_every_other_step_stays_what_it_is(class_name: str) -> None:
    spec = flow(one=step(class_name))
    assert localized(spec)["graph"] == spec["graph"]


def test_a_users_own_initializer_stays() -> None:
    assert localized(flow())["graph_initializer"] == f"{OURS}.direct.begin"
    assert localized({**flow(), "graph_initializer": "mine"})["graph_initializer"] == "mine"


def test_steps_inside_routers_and_flows_are_found() -> None:
    inner = {"kind": "flow", "steps": {"deep": step("$remote", url="b")}}
    router = {"kind": "router", "routes": {"m1": step("$remote", url="c"), "m2": inner}}
    spec = localized({"graph": router})
    routes = spec["graph"]["routes"]
    assert routes["m1"]["class_name"] == f"{OURS}.RemoteStep"
    assert routes["m2"]["steps"]["deep"]["class_name"] == f"{OURS}.RemoteStep"


def test_the_spec_that_was_given_stays_as_it_was() -> None:
    spec = flow(one=step("$remote"), two={"kind": "queue", "path": ""})
    before = copy.deepcopy(spec)
    localized(spec)
    assert spec == before


def test_arguments_that_look_like_steps_are_left_alone() -> None:
    models = {"steps": {"class_name": "$remote"}}
    spec = flow(one=step("mlrun.serving.ModelRunner", models=models))
    assert localized(spec)["graph"] == spec["graph"]


def test_a_graph_names_the_functions_that_it_calls() -> None:
    spec = localized(
        flow(
            a=step("$remote", url="embed"),
            b=step("$remote", url="other/rank:v2"),
            c=step("mlrun.serving.remote.BatchHttpRequests", url=".child"),
            d=step("mlrun.serving.remote.RemoteFunctionStep", fn="score"),
            e=step("$remote", url="https://example.org/x"),
            f=step("$remote", url_expression="event['url']"),
            g=step("my_steps.Plain", url="mine"),
            h=step("mlrun.serving.remote.RemoteFunctionStep", fn="score@0123abcd"),
        )
    )
    assert targets(spec) == {"shop-embed", "other-rank-v2", "shop-graph-child", "shop-score"}


def test_a_child_has_the_tag_of_its_graph() -> None:
    assert step_target(".child", "shop/graph:v2") == "shop-graph-child-v2"
    assert step_target(".child", "shop/graph:latest") == "shop-graph-child"


def test_a_spec_is_read_as_text_and_compressed() -> None:
    spec = flow(one=step("$remote", url="a"))
    text = json.dumps(spec)
    packed = base64.b64encode(gzip.compress(text.encode())).decode()
    assert read_spec(text) == read_spec(packed) == spec


@pytest.mark.parametrize("text", ["", "no spec", "{", base64.b64encode(b"\x1f\x8bxx").decode()])
def test_what_is_no_spec_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_spec(text)


@pytest.mark.parametrize("rest", ["", "/", "/a", "//a", "///a//b", "?q=/", "/a?q=//"])
def test_a_step_s_call_has_the_path_that_the_gateway_would_give_it(rest: str) -> None:
    """A step with a URL that ends in "/" and a path that begins with one saw "//a" in a graph."""
    gateway = place("http://127.0.0.1:8080/")
    assert gateway is not None
    called = local_request("GET", f"http://127.0.0.1:8080/embed{rest}", {}, None, gateway=gateway)
    assert called is not None
    assert (called.function, called.path) == first_segment(f"/embed{rest}")
