"""From an MLRun graph's file to the Nuclio config that runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stoker.api.mlrun.compile import compile_function
from stoker.api.mlrun.function_object import FunctionObject
from stoker.api.mlrun.refusals import graph_problems
from stoker.cli.failure import Failure
from stoker.cli.mlrun_function import created
from stoker.nouns.function import FunctionConfig

pytest.importorskip("mlrun")
pytestmark = [
    pytest.mark.mlrun,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]
GRAPH = Path(__file__).resolve().parents[3] / "graphs" / "text_classification.py"
CALLED = ("news-text-preprocess", "news-text-embedder", "news-text-classify")


def posted(path: Path) -> FunctionObject:
    """What mlrun's client posts of what the file creates."""
    function = created(path, "news").function
    body = json.loads(json.dumps(function.to_dict(), default=str))
    return FunctionObject.read(body, "news", function.metadata.name)


@pytest.fixture
def compiled() -> FunctionConfig:
    return FunctionConfig.parse(compile_function(posted(GRAPH)).document)


def test_the_function_is_named_and_labelled_as_mlrun_s_server_does(
    compiled: FunctionConfig,
) -> None:
    assert compiled.name == created(GRAPH, "news").name == "news-text-classification"
    assert compiled.project == created(GRAPH, "news").project == "news"


def test_one_worker_holds_many_requests_and_scales_to_zero(compiled: FunctionConfig) -> None:
    assert compiled.workers == 1
    assert compiled.http_trigger.mode == "async"
    assert compiled.permits == 256
    assert compiled.min_replicas == 0
    assert compiled.idle_window_s == 60


def test_the_graph_travels_in_the_environment(compiled: FunctionConfig) -> None:
    graph = json.loads(compiled.env["SERVING_SPEC_ENV"])["graph"]
    assert graph["engine"] == "async"
    steps = graph["steps"]
    assert [step["class_args"]["url"] for step in steps.values()] == [
        "news/text-preprocess",
        "news/text-embedder",
        "news/text-classify",
    ]
    # A function at zero is found by this header alone.
    assert steps["embed"]["class_args"]["headers"] == {"X-Nuclio-Target": "news-text-embedder"}
    assert steps["classify"]["responder"] is True


def test_a_graph_of_remote_steps_needs_no_code_of_its_own(compiled: FunctionConfig) -> None:
    assert compiled.spec.handler == "mlrun.serving.serving_wrapper:handler"


def test_what_the_graph_calls_must_be_there() -> None:
    assert list(graph_problems(posted(GRAPH), CALLED)) == []
    (missing,) = graph_problems(posted(GRAPH), CALLED[:-1])
    assert missing.field == "spec.graph.steps.classify.class_args.url"


def source_of(tmp_path: Path, source: str) -> Path:
    path = tmp_path / "graph.py"
    path.write_text(source)
    return path


def test_a_child_function_that_mlrun_would_skip_silently_is_refused(tmp_path: Path) -> None:
    path = source_of(
        tmp_path,
        "import mlrun\n"
        "def create(project):\n"
        "    f = mlrun.new_function('g', project=project, kind='serving')\n"
        "    flow = f.set_topology('flow', engine='async')\n"
        "    f.add_child_function('gpu', __file__, 'image')\n"
        "    flow.to(name='a', handler='go', function='gpu').respond()\n"
        "    return f\n",
    )
    (problem,) = graph_problems(posted(path), ())
    assert "child function 'gpu', but nothing is before it" in problem.message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "must define create"),
        ("def create(project)\n", "SyntaxError"),
        ("def create(project):\n    raise ValueError('why')\n", "ValueError: why"),
        ("def create(project):\n    return 3\n", "must return a function of mlrun, was int"),
        (
            "import mlrun\ndef create(project):\n"
            "    return mlrun.new_function('g', project=project, kind='job')\n",
            "must return a function of mlrun, was KubejobRuntime",
        ),
    ],
)
def test_a_file_that_makes_no_function_is_refused_with_the_reason(
    tmp_path: Path, source: str, message: str
) -> None:
    with pytest.raises(Failure, match=message):
        created(source_of(tmp_path, source), "news")


class Recorder:
    """A platform of which nothing but the revision is asked."""

    def get(self, _path: str) -> dict[str, Any]:
        return {"status": {"revision": 7}}


def test_the_platform_s_words_are_shown_without_the_client_s(tmp_path: Path) -> None:
    package = created(GRAPH, "news")

    def refuse(**_: Any) -> None:
        sys.stdout.write("a child's log\n")
        raise OSError("error: cannot submit deploy, details: no such thing, caused by: 400 Client")

    package.function.deploy = refuse
    with pytest.raises(Failure) as failure:
        package.send(Recorder())  # type: ignore[arg-type]
    assert failure.value.message == "news-text-classification: no such thing\na child's log"
    package.function.deploy = lambda **_: package.function
    assert package.send(Recorder()) == "7"  # type: ignore[arg-type]
