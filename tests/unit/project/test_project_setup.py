"""The project as mlrun loads it: the same functions as their files say, by mlrun's own objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from stoker.api.mlrun.compile import compile_function
from stoker.api.mlrun.function_object import FunctionObject
from stoker.nouns.function import FunctionConfig

mlrun = pytest.importorskip("mlrun")
pytestmark = [
    pytest.mark.mlrun,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]
ROOT = Path(__file__).resolve().parents[3]
NUCLIO = ("text-classify", "text-embedder", "text-preprocess")
GRAPHS = {path.stem.replace("_", "-") for path in (ROOT / "graphs").glob("*.py")}
PLATFORM_S_OWN = {"MLRUN_ACTIVE_PROJECT", "MLRUN_DEFAULT_PROJECT"}


def project_of(load: Callable[[str], ModuleType], name: str = "news", **params: Any) -> Any:
    document = yaml.safe_load((ROOT / "project.yaml").read_text())
    document["metadata"]["name"] = name
    project = mlrun.projects.MlrunProject.from_dict(document)
    project.spec.context = str(ROOT)
    project.spec.params = params
    return load("project_setup.py").setup(project)


def compiled(project: Any, name: str) -> FunctionConfig:
    sent = project.get_function(name).to_dict()
    function = FunctionObject.read(sent, project.name, name)
    return FunctionConfig.parse(compile_function(function).document)


def test_every_function_and_graph_is_in_the_project(load: Any) -> None:
    project = project_of(load)
    names = set(project.get_function_names())
    folders = {path.parent.name for path in ROOT.glob("functions/*/function.yaml")}
    assert names == folders | GRAPHS
    assert {one["name"] for one in project.workflows} == {"main", "quantize"}


def test_what_the_project_file_lists_is_what_setup_makes(load: Any) -> None:
    """MLRun cannot read Nuclio's files: an entry that setup did not replace would fail."""
    listed = yaml.safe_load((ROOT / "project.yaml").read_text())["spec"]["functions"]
    project = project_of(load)
    assert {one["name"] for one in listed} <= set(project.get_function_names())
    assert project.sync_functions().keys() == set(project.get_function_names())


@pytest.mark.parametrize("name", NUCLIO)
def test_a_function_deploys_as_its_file_says(name: str, load: Any) -> None:
    document = yaml.safe_load((ROOT / "functions" / name / "function.yaml").read_text())
    declared = FunctionConfig.parse(document)
    deployed = compiled(project_of(load), name)
    assert deployed.name == f"news-{name}"
    for part in ("triggers", "scale_to_zero", "min_replicas", "max_replicas", "event_timeout"):
        assert getattr(deployed.spec, part) == getattr(declared.spec, part), part
    assert deployed.spec.handler == declared.spec.handler
    assert deployed.spec.description == declared.spec.description
    assert deployed.gpus == declared.gpus
    own = {k: v for k, v in deployed.env.items() if k in declared.env}
    assert own == declared.env
    assert deployed.env.keys() - declared.env.keys() <= PLATFORM_S_OWN | {
        "MLRUN_HTTPDB__NUCLIO__EXPLICIT_ACK"
    }


def test_a_project_of_another_name_calls_its_own_functions(load: Any) -> None:
    project = project_of(load, name="copy")
    assert compiled(project, "text-classify").env["EMBEDDER"] == "copy-text-embedder"
    steps = project.get_function("text-classification").spec.graph.to_dict()["steps"]
    assert steps["embed"]["class_args"]["url"] == "copy/text-embedder"


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_every_graph_can_be_deployed(name: str, load: Any) -> None:
    deployed = compiled(project_of(load), name)
    assert deployed.name == f"news-{name}"
    assert deployed.spec.description
    assert deployed.min_replicas == 0
    assert "SERVING_SPEC_ENV" in deployed.env


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_every_graph_is_drawn(name: str, load: Any) -> None:
    docstring = load(f"graphs/{name.replace('-', '_')}.py").__doc__
    assert docstring
    assert "┌" in docstring
    assert "▶" in docstring


def test_loading_it_again_changes_nothing(load: Any) -> None:
    """MLRun writes what it loaded back to project.yaml, and loads that the next time."""
    once = project_of(load)
    saved = mlrun.projects.MlrunProject.from_dict(yaml.safe_load(once.to_yaml()))
    saved.spec.context = str(ROOT)
    again = load("project_setup.py").setup(saved)
    assert set(again.get_function_names()) == set(once.get_function_names())
    for name in (*NUCLIO, *GRAPHS):
        assert compiled(again, name) == compiled(once, name)


def test_a_cluster_s_image_is_a_parameter(load: Any) -> None:
    assert project_of(load, image="registry/stoker:1").default_image == "registry/stoker:1"
    assert not project_of(load).default_image
