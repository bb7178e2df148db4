"""From an MLRun graph's file to the Nuclio config that runs it."""

import base64
import json
from pathlib import Path

import pytest

from stoker.nouns.errors import InvalidFunction
from stoker.nouns.function import FunctionConfig

pytest.importorskip("mlrun")
pytestmark = [
    pytest.mark.mlrun,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]
GRAPH = Path(__file__).resolve().parents[3] / "graphs" / "text_classification.py"


@pytest.fixture
def compiled():
    from stoker.api.mlrun_graph import compile_graph

    return FunctionConfig.parse(compile_graph(GRAPH, "news"))


@pytest.fixture
def compile_source(tmp_path):
    from stoker.api.mlrun_graph import compile_graph

    def compile_text(source):
        path = tmp_path / "graph.py"
        path.write_text(source)
        return compile_graph(path, "news")

    return compile_text


def test_the_function_is_named_and_labelled_as_mlrun_s_server_does(compiled):
    assert compiled.name == "news-text-classification"
    assert compiled.project == "news"


def test_one_worker_holds_many_requests_and_scales_to_zero(compiled):
    assert compiled.workers == 1
    assert compiled.http_trigger.mode == "async"
    assert compiled.permits == 256
    assert compiled.min_replicas == 0
    assert compiled.idle_window_s == 60


def test_the_graph_travels_in_the_environment_and_no_api_is_asked(compiled):
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
    assert compiled.env["MLRUN_DBPATH"] == ""


def test_the_code_is_the_graph_s_file_with_mlrun_s_hooks_below(compiled):
    source = base64.b64decode(compiled.spec.build.function_source_code).decode()
    assert source.startswith(GRAPH.read_text())
    compile(source, "graph", "exec")
    assert "async def handler(context, event):" in source


def test_a_child_function_that_mlrun_would_skip_silently_is_refused(compile_source):
    with pytest.raises(InvalidFunction, match="child function 'gpu', which MLRun skips"):
        compile_source(
            "import mlrun\n"
            "def create(project):\n"
            "    f = mlrun.new_function('g', project=project, kind='serving')\n"
            "    flow = f.set_topology('flow', engine='async')\n"
            "    f.add_child_function('gpu', __file__, 'image')\n"
            "    flow.to(name='a', handler='go', function='gpu').respond()\n"
            "    return f\n"
        )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "must define create"),
        ("def create(project)\n", "SyntaxError"),
        ("def create(project):\n    raise ValueError('why')\n", "ValueError: why"),
        (
            "def create(project):\n    return 3\n",
            "must return a serving function of mlrun, was int",
        ),
        (
            "import mlrun\ndef create(project):\n"
            "    return mlrun.new_function('g', project=project, kind='serving')\n",
            "has no graph",
        ),
    ],
)
def test_a_file_that_makes_no_graph_is_refused_with_the_reason(compile_source, source, message):
    with pytest.raises(InvalidFunction, match=message):
        compile_source(source)
