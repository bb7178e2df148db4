from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stoker
from stoker.sdk.picture.layout import Layout, Size, place
from stoker.sdk.picture.sketch import REPLY, REQUEST, Arrow, Flow, Place, Sketch, sketch
from stoker.sdk.picture.svg import render

SIZE = Size(80.0, 40.0)


def remote(url: str, **more: Any) -> dict[str, Any]:
    name = "mlrun.serving.remote.RemoteStep"
    return {"kind": "task", "class_name": name, "class_args": {"url": url}, **more}


def flow(engine: str = "async", **steps: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "root", "engine": engine, "steps": steps}


THREE = flow(
    clean=remote("news/clean"),
    embed=remote("news/embed", after=["clean"]),
    label=remote("news/label", after=["embed"], responder=True),
)


def box_of(picture: Sketch, name: str) -> Any:
    return next(box for box in picture.boxes if box.name == name)


def test_remote_steps_name_the_functions_that_they_call() -> None:
    picture = sketch(THREE)
    assert [box.name for box in picture.boxes] == [REQUEST, "clean", "embed", "label", REPLY]
    assert box_of(picture, "embed").note == "news/embed"
    assert box_of(picture, "embed").place is Place.REMOTE


def test_a_flow_leads_from_the_request_to_the_responders_reply() -> None:
    assert set(sketch(THREE).arrows) == {
        Arrow(REQUEST, "clean"),
        Arrow("clean", "embed"),
        Arrow("embed", "label"),
        Arrow("label", REPLY),
    }


@pytest.mark.parametrize(
    ("step", "note"),
    [
        ({"class_name": "$remote", "class_args": {"url": "http://far/away"}}, "http://far/away"),
        ({"class_name": "a.RemoteFunctionStep", "class_args": {"fn": "shop/price"}}, "shop/price"),
        (
            {
                "class_name": "a.RemoteFunctionStep",
                "class_args": {"fn": {"metadata": {"name": "price"}}, "project_name": "shop"},
            },
            "shop/price",
        ),
        ({"class_name": "stoker.sdk.graph.BatchHttpRequests", "class_args": {"url": "u"}}, "u"),
    ],
)
def test_every_way_to_call_out_is_seen_as_one(step: dict[str, Any], note: str) -> None:
    box = box_of(sketch(flow(one=step)), "one")
    assert (box.place, box.note) == (Place.REMOTE, note)


def test_a_sync_flow_without_a_responder_is_answered_by_its_last_step() -> None:
    steps = {"a": {"handler": "f"}, "b": {"handler": "g", "after": ["a"]}}
    assert Arrow("b", REPLY) in sketch(flow("sync", **steps)).arrows
    assert REPLY not in [box.name for box in sketch(flow("async", **steps)).boxes]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("v3io:///projects/inbox", "projects/inbox"),
        ("v3io://127.0.0.1:8070/projects/news/queues/inbox", "queues/inbox"),
        ("kafka://broker:9092?topic=news-inbox", "news-inbox"),
        ("dummy://", "dummy://"),
        ("", ""),
    ],
)
def test_a_queue_shows_where_it_lies_and_what_reads_it_shows_its_function(
    path: str, shown: str
) -> None:
    picture = sketch(
        flow(
            a={"handler": "f"},
            q={"kind": "queue", "path": path, "after": ["a"]},
            b={"handler": "g", "function": "reader", "after": ["q"]},
        )
    )
    assert box_of(picture, "q").place is Place.QUEUE
    assert box_of(picture, "q").note == shown
    assert (box_of(picture, "b").place, box_of(picture, "b").note) == (Place.CHILD, "reader")


def test_an_error_handler_hangs_on_the_step_that_it_is_for() -> None:
    picture = sketch(
        flow(a={"handler": "f", "on_error": "oops"}, oops={"kind": "error_step", "handler": "h"})
    )
    assert Arrow("a", "oops", Flow.ERROR) in picture.arrows
    assert Arrow(REQUEST, "oops") not in picture.arrows
    assert box_of(picture, "oops").place is Place.HANDLER


def test_what_a_handler_makes_of_a_failure_is_the_reply_unless_it_leads_on() -> None:
    handled = {"handler": "f", "on_error": "oops"}
    last = {"handler": "g", "after": ["a"], "responder": True}
    oops = {"kind": "error_step", "handler": "h"}
    excused = Arrow("oops", REPLY, Flow.ERROR)
    assert excused in sketch(flow(a=handled, b=last, oops=oops)).arrows
    assert excused not in sketch(flow(a=handled, b=last, oops={**oops, "before": ["b"]})).arrows


def test_a_failure_after_the_reply_reaches_nobody() -> None:
    steps = {
        "a": {"handler": "f", "responder": True},
        "b": {"handler": "g", "after": ["a"], "on_error": "oops"},
        "oops": {"kind": "error_step", "handler": "h"},
    }
    assert Arrow("oops", REPLY, Flow.ERROR) not in sketch(flow(**steps)).arrows


def test_a_handler_of_the_whole_graph_says_so_and_needs_no_arrows() -> None:
    picture = sketch(
        {
            **flow(a={"handler": "f"}, oops={"kind": "error_step", "handler": "h"}),
            "on_error": "oops",
        }
    )
    assert box_of(picture, "oops").note == "h() for any step"
    assert all("oops" not in (arrow.start, arrow.end) for arrow in picture.arrows)


def test_an_error_handler_can_lead_back_into_the_flow() -> None:
    steps = {
        "a": {"handler": "f", "on_error": "oops"},
        "oops": {"kind": "error_step", "handler": "h", "before": ["end"]},
        "end": {"handler": "g", "after": ["a"]},
    }
    assert Arrow("oops", "end") in sketch(flow(**steps)).arrows


def test_a_router_holds_its_routes() -> None:
    routes = {"one": {"class_name": "pkg.Model"}, "two": remote("shop/two")}
    picture = sketch({"kind": "router", "class_name": "mlrun.serving.Vote", "routes": routes})
    (router,) = [box for box in picture.boxes if box.place is Place.HERE]
    assert router.note == "Vote"
    assert [(one.name, one.note, one.place) for one in router.inner] == [
        ("one", "Model", Place.MODEL),
        ("two", "shop/two", Place.REMOTE),
    ]
    assert picture.arrows == (Arrow(REQUEST, "router"), Arrow("router", REPLY))


def test_a_model_runner_holds_its_models() -> None:
    models = {"one": ["pkg.Model", {"name": "one"}]}
    runner = {"kind": "model_runner", "class_args": {"models": models}}
    (model,) = box_of(sketch(flow(run=runner)), "run").inner
    assert (model.name, model.note) == ("one", "Model")


def test_a_cycle_is_an_arrow_back_and_no_way_forward() -> None:
    steps = {
        "a": {"handler": "f", "after": ["b"], "cycle_from": ["b"]},
        "b": {"handler": "g", "after": ["a"], "responder": True},
    }
    picture = sketch(flow(**steps))
    assert Arrow("b", "a", Flow.BACK) in picture.arrows
    assert Arrow(REQUEST, "a") in picture.arrows
    spots = placed(picture).spots
    assert spots["a"].right < spots["b"].left


def test_a_step_after_one_that_is_not_there_is_drawn_without_an_arrow() -> None:
    picture = sketch(flow(a={"handler": "f", "after": ["nobody"]}))
    assert picture.arrows == ()


def test_an_undeclared_cycle_is_drawn_too() -> None:
    steps = {"a": {"handler": "f", "after": ["b"]}, "b": {"handler": "g", "after": ["a"]}}
    ElementTree.fromstring(render(sketch(flow(**steps))))


def placed(picture: Sketch) -> Layout:
    return place(picture, {box.name: SIZE for box in picture.boxes})


def test_the_flow_stays_on_a_line_and_handlers_hang_below_it() -> None:
    steps = {
        "a": {"handler": "f", "on_error": "oops"},
        "b": {"handler": "g", "after": ["a"], "responder": True},
        "oops": {"kind": "error_step", "handler": "h"},
    }
    spots = placed(sketch(flow(**steps))).spots
    assert spots[REQUEST].y == spots["a"].y == spots["b"].y == spots[REPLY].y
    assert spots["oops"].top > spots["b"].bottom


def test_a_handler_hangs_below_also_where_nothing_stands_beside_it() -> None:
    steps = {"a": {"handler": "f", "on_error": "oops"}, "oops": {"kind": "error_step"}}
    spots = placed(sketch(flow(**steps))).spots
    assert spots["oops"].top > spots["a"].bottom


def test_the_flow_stays_on_its_line_when_every_step_has_the_same_handler() -> None:
    steps: dict[str, dict[str, Any]] = {
        f"s{number}": {"handler": "f", "after": [f"s{number - 1}"] * (number > 0), "on_error": "no"}
        for number in range(4)
    }
    layout = placed(sketch(flow(**steps, no={"kind": "error_step", "handler": "h"})))
    assert len({layout.spots[name].y for name in ("s0", "s1", "s2", "s3")}) == 1
    first, second = (layout.ways[Arrow(f"s{n}", "no", Flow.ERROR)] for n in (0, 1))
    shared = {x for x, _ in second}
    for x in shared:
        below = next(y for passed, y in first if passed == x)
        above = next(y for passed, y in second if passed == x)
        assert layout.spots["s3"].bottom < above < below, "they would cross"


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 9))
    steps: dict[str, dict[str, Any]] = {}
    for number in range(count):
        after = draw(st.sets(st.integers(0, max(number - 1, 0)), max_size=3)) if number else set()
        steps[f"s{number}"] = {"handler": "f", "after": [f"s{one}" for one in sorted(after)]}
        if draw(st.booleans()):
            handler = draw(st.sampled_from(["no", "never"]))
            steps[f"s{number}"] |= {"on_error": handler, "responder": draw(st.booleans())}
            steps.setdefault(handler, {"kind": "error_step", "handler": "h"})
    return flow(**steps)


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_no_boxes_overlap_and_no_arrow_crosses_a_box(graph: dict[str, Any]) -> None:
    picture = sketch(graph)
    layout = placed(picture)
    spots = list(layout.spots.items())
    for index, (_, one) in enumerate(spots):
        for _, other in spots[index + 1 :]:
            apart_sideways = one.right <= other.left or other.right <= one.left
            assert apart_sideways or one.bottom <= other.top or other.bottom <= one.top
    for arrow in picture.arrows:
        assert layout.spots[arrow.start].right < layout.spots[arrow.end].left
        for x, y in layout.ways.get(arrow, ()):
            for _, spot in spots:
                assert not (spot.left < x < spot.right and spot.top < y < spot.bottom)


@given(graphs())
@settings(max_examples=50, deadline=None)
def test_the_picture_is_wellformed_and_everything_lies_inside_it(graph: dict[str, Any]) -> None:
    root = ElementTree.fromstring(render(sketch(graph)))
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    for box in root.findall("{http://www.w3.org/2000/svg}rect"):
        x, y = float(box.attrib["x"]), float(box.attrib["y"])
        assert left <= x
        assert top <= y
        assert x + float(box.attrib["width"]) <= left + width + 0.1
        assert y + float(box.attrib["height"]) <= top + height + 0.1


def test_an_arrow_back_lies_inside_the_picture() -> None:
    steps = {
        "a": {"handler": "f", "after": ["b"], "cycle_from": ["b"]},
        "b": {"handler": "g", "after": ["a"]},
    }
    root = ElementTree.fromstring(render(sketch(flow(**steps))))
    top = float(root.attrib["viewBox"].split()[1])
    spot = placed(sketch(flow(**steps))).spots["a"]
    assert top < spot.top - 24


def test_names_are_text_never_markup() -> None:
    svg = render(sketch(flow(**{"<b>&": {"class_name": "x.<script>"}})))
    root = ElementTree.fromstring(svg)
    assert "<script>" not in svg
    assert "<b>&" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_long_name_is_shortened_and_can_still_be_read() -> None:
    url = "http://127.0.0.1:8080/a-project-with-a-very-long-name-and-its-function"
    root = ElementTree.fromstring(render(sketch(flow(one=remote(url)))))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    shown = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert titles == [url]
    assert any("…" in text and text.startswith("http://") for text in shown)


def test_the_legend_names_only_what_occurs() -> None:
    assert "a queue" not in render(sketch(THREE))
    assert Place.REMOTE.value in render(sketch(THREE))
    assert Place.HERE.value not in render(sketch(flow(a={"handler": "f"}, b={"after": ["a"]})))


def test_whoever_cannot_see_it_can_hear_it() -> None:
    label = ElementTree.fromstring(stoker.draw(THREE).svg).attrib["aria-label"]
    assert label == (
        "A graph: request to clean, clean to embed, embed to label, label to reply"
    )  # fmt: skip


def test_jupyter_shows_it_and_it_can_be_kept(tmp_path: Any) -> None:
    drawing = stoker.draw(THREE)
    drawing.save(tmp_path / "graph.svg")
    assert drawing._repr_svg_() == drawing.svg == (tmp_path / "graph.svg").read_text()


def test_a_function_without_a_graph_is_told_what_is_missing() -> None:
    function = SimpleNamespace(spec=SimpleNamespace(graph=None))
    with pytest.raises(ValueError, match="set_topology"):
        stoker.draw(function)
    with pytest.raises(ValueError, match="no step"):
        stoker.draw(flow())
    with pytest.raises(TypeError, match="was int"):
        stoker.draw(7)


@pytest.mark.mlrun
@pytest.mark.filterwarnings("ignore")
def test_mlruns_own_objects_are_drawn() -> None:
    import mlrun

    function = mlrun.new_function("drawn", project="p", kind="serving")
    graph = function.set_topology("flow", engine="async")
    first = graph.to(name="first", handler="f")
    first.error_handler(name="oops", handler="h")
    graph.add_step("*mlrun.serving.ModelRouter", name="router", after="first").respond()
    graph["router"].add_route("champion", class_name="Model", model_path="m")
    for drawn in (function, graph, graph.to_dict()):
        svg = stoker.draw(drawn).svg
        assert all(f">{name}<" in svg for name in ("first", "oops", "router", "champion"))
